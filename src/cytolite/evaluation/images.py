"""Truth meets prediction: images with a known answer, whatever they come from, predicted or read, and counted."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cytolite.classifier import slide_hash
from cytolite.datasets.base import read_labels, read_rgb
from cytolite.datasets.splits import held_back
from cytolite.errors import InputError, UsageError, did_you_mean
from cytolite.files import is_debris
from cytolite.interop.parquet import read_cells, read_metadata, read_types
from cytolite.interop.result_folder import CELLS_FILE, results_in
from cytolite.metrics.classes import Classes, numbers_of
from cytolite.metrics.counts import Counts, collect, count_image
from cytolite.metrics.raster import to_labels
from cytolite.metrics.truth import Prediction, Truth, predicted_nuclei, true_nuclei
from cytolite.progress import Update
from cytolite.tables import open_csv

if TYPE_CHECKING:
    from cytolite.bundle import Bundle
    from cytolite.datasets.store import Store
    from cytolite.inference.image import ImageNuclei
    from cytolite.patches import Patch

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


@dataclass(frozen=True)
class Labelled:
    """An image with its truth, read into memory.

    Attributes
    ----------
    where : str
        Names the truth in errors.
    instance_map : numpy.ndarray
        int32 (H, W).
    type_map : numpy.ndarray, optional
        int (H, W).
    image : numpy.ndarray, optional
        uint8 (H, W, 3).
    mpp : float, optional
        um per pixel.
    """

    where: str
    instance_map: NDArray[np.int32]
    type_map: NDArray[np.integer] | None
    image: NDArray[np.uint8] | None
    mpp: float | None


@dataclass(frozen=True)
class Case:
    """An image of the truth: its row in the image table, and how to read it."""

    columns: Mapping[str, str]
    read: Callable[[], Labelled]

    @property
    def name(self) -> str:
        """The image's name."""
        return self.columns["image"]


Predict = Callable[[Case, Labelled], Prediction]


def label_of_patch(patch: Patch) -> Labelled:
    """Return a patch of a store as truth."""
    return Labelled(
        f"Patch {patch.name!r} of {patch.source}", patch.instance_map, patch.judged_types(), patch.image, patch.mpp
    )


def cases_of_patches(patches: Iterable[Patch]) -> list[Case]:
    """Return patches in memory as cases."""
    return [Case(_columns(p.name, p.source, p.group, p.tissue, p.fold), partial(label_of_patch, p)) for p in patches]


def find_cases(truths: Sequence[Path], mpp: float | None = None) -> list[Case]:
    """Find the images of stores and label folders, without reading their pixels.

    Parameters
    ----------
    truths : sequence of pathlib.Path
        Stores (files), or folders with ``inst/``, and ``type/`` and ``image/`` where there are any.
    mpp : float, optional
        um per pixel of label folders.

    Raises
    ------
    InputError
        If there is no such thing, or an image is there twice.
    """
    cases: list[Case] = []
    for path in truths:
        if path.is_dir():
            cases += _folder_cases(path, mpp)
        elif path.exists():
            cases += _store_cases(path)
        else:
            raise UsageError(f"There is no truth {path}; give a label folder (inst/, type/) or a store.")
    if not cases:
        raise UsageError("No truth was given; give a label folder (inst/, type/) or a store.")
    seen: set[tuple[str, str]] = set()
    for case in cases:
        key = (case.columns["source"], case.name)
        if key in seen:
            raise InputError(
                f"The image {case.name!r} of {key[0] or 'the truth'} is there twice; names must be unique."
            )
        seen.add(key)
    return cases


def keep_held_back(cases: Sequence[Case], fraction: float, seed: int, duplicates: Path | None = None) -> list[Case]:
    """Return the images that `train` holds back with these settings: never trained on, so fit to be reported.

    Parameters
    ----------
    cases : sequence of Case
        All images.
    fraction : float
        Share of each source's groups.
    seed : int
        Of the draw.
    duplicates : pathlib.Path, optional
        Pairs that are kept on one side.

    Raises
    ------
    InputError
        If the fraction is out of range, or a source cannot be split.
    """
    sources, groups = ([case.columns[name] for case in cases] for name in ("source", "group"))
    pairs = []
    if duplicates is not None:
        from cytolite.datasets.duplicates import read_pairs

        pairs = read_pairs(duplicates, sources, [case.name for case in cases])
    out = held_back(sources, groups, fraction, seed, pairs)
    return [case for case, chosen in zip(cases, out, strict=True) if chosen]


def add_columns(cases: Sequence[Case], path: Path) -> list[Case]:
    """Join a CSV file to the image table by its column ``image``; its columns win over those of the truth.

    Parameters
    ----------
    cases : sequence of Case
        The images.
    path : pathlib.Path
        CSV file with a column ``image``.

    Raises
    ------
    InputError
        If the file cannot be read, has no such column, or lacks an image.
    """
    try:
        reader = open_csv(path)
        rows = {row["image"]: row for row in reader if "image" in row}
        if "image" not in (reader.fieldnames or ()):
            raise UsageError(f"{path} has no column 'image'; it has {', '.join(reader.fieldnames or ()) or 'none'}.")
    except (OSError, csv.Error) as error:
        raise UsageError(f"The table of images {path} cannot be read: {error}.") from None
    if missing := [case.name for case in cases if case.name not in rows]:
        raise InputError(
            f"{path} lacks {len(missing):,} of {len(cases):,} images, the first is {missing[0]!r}."
            f"{did_you_mean(missing[0], rows)}"
        )
    return [
        replace(case, columns={**case.columns, **{k: (v or "") for k, v in rows[case.name].items() if k is not None}})
        for case in cases
    ]


def count_cases(
    cases: Sequence[Case],
    predict: Predict,
    classes: Classes,
    update: Update = lambda done, total: None,
    look: Callable[[Case, Labelled, Prediction], None] = lambda case, labelled, predicted: None,
) -> Counts:
    """Count all images, one after the other; memory holds one at a time. `look` is shown each as it was read.

    Parameters
    ----------
    cases : sequence of Case
        Images of the truth.
    predict : callable
        Returns the `Prediction` of a case and its image.
    classes : Classes
        What is told apart.
    update : callable
        Called with the images done and the images there are.
    look : callable
        Called with the case, its truth as read, and its prediction.

    Raises
    ------
    InputError
        If a truth or a prediction cannot be used.
    """
    counted = []
    for number, case in enumerate(cases, 1):
        labelled = case.read()
        truth = true_nuclei(labelled.instance_map, labelled.type_map, classes, labelled.where)
        predicted = predict(case, labelled)
        look(case, labelled, predicted)
        counted.append(count_image(truth, predicted, classes, labelled.mpp))
        update(number, len(cases))
    return collect([case.columns for case in cases], counted, classes)


def look_at(case: Case, predict: Predict, classes: Classes) -> tuple[Labelled, Truth, Prediction]:
    """Return one image with its truth and its prediction, to draw them.

    Parameters
    ----------
    case : Case
        The image.
    predict : Predict
        Its prediction.
    classes : Classes
        What is told apart.
    """
    labelled = case.read()
    truth = true_nuclei(labelled.instance_map, labelled.type_map, classes, labelled.where)
    return labelled, truth, predict(case, labelled)


def model_predictions(
    bundle: Bundle,
    classes: Classes,
    threads: int = 2,
    mpp: float | None = None,
    tta: int = 1,
    *,
    mapping: Mapping[str, str] | None = None,
) -> Predict:
    """Return a function that predicts a case's image with a bundle, as `segment` does.

    Parameters
    ----------
    bundle : Bundle
        The model.
    classes : Classes
        What is told apart.
    threads : int
        Of the network.
    mpp : float, optional
        Resolution of images that do not say it, um per pixel.
    tta : int
        1, 4 or 8 orientations.
    mapping : mapping, optional
        Names of the model's types to those of the truth.

    Raises
    ------
    InputError
        If the truth has no such types, or an image is one of those that the bundle was taught on.
    """
    from cytolite.inference.image import predict_image
    from cytolite.inference.predictor import Predictor

    numbers = numbers_of(bundle.spec.type_set, classes, f"The model {bundle.spec.name!r}", mapping)
    taught = bundle.spec.classifier
    predictor = Predictor(bundle, threads=threads, tta=tta)

    def predict(case: Case, labelled: Labelled) -> Prediction:
        resolution = labelled.mpp or mpp
        if labelled.image is None:
            raise InputError(f"{labelled.where} has no image to predict on; put one of the same stem into image/.")
        if taught is not None and taught.was_taught_on(case.name):
            raise _taught(bundle.spec.name, case)
        if resolution is None:
            raise InputError(f"The resolution of {labelled.where} is not known; give it with --mpp.")
        nuclei = predict_image(predictor, labelled.image, resolution)
        return _numbered(as_prediction(nuclei), numbers, classes)

    return predict


def as_prediction(nuclei: ImageNuclei) -> Prediction:
    """Return the nuclei found in an image as metrics take them."""
    n = len(nuclei.types)
    return Prediction(nuclei.instance_map, np.arange(1, n + 1), nuclei.types.astype(np.int64), nuclei.type_probs)


def _numbered(found: Prediction, numbers: Sequence[int], classes: Classes) -> Prediction:
    """Return a prediction by the numbers that the classes have for its types; probabilities of one number are added."""
    if found.types is None or list(numbers) == [*range(1, len(classes.types) + 1)]:
        return found
    types = np.array([0, *numbers], np.int64)[found.types]
    if found.probs is None:
        return replace(found, types=types)
    probs = np.zeros((len(types), len(classes.types)), np.float32)
    for column, number in enumerate(numbers):
        probs[:, number - 1] += found.probs[:, column]
    return replace(found, types=types, probs=probs)


def _taught(model: str, case: Case) -> InputError:
    return InputError(f"The model {model!r} was taught with labels of {case.name!r}; score it on other images.")


def read_predictions(
    path: Path,
    cases: Sequence[Case],
    classes: Classes,
    whole: bool = True,
    *,
    mapping: Mapping[str, str] | None = None,
) -> Predict:
    """Return a function that reads a case's prediction.

    Parameters
    ----------
    path : pathlib.Path
        A label folder; a folder of results of `segment` (``NAME/cells.parquet``); or one ``cells.parquet``, for a truth
        of one image.
    cases : sequence of Case
        Which the predictions have to be of.
    classes : Classes
        What labels mean.
    whole : bool
        Whether a prediction without a truth is an error.
    mapping : mapping, optional
        Other names of types, for those of the predictions.

    Raises
    ------
    InputError
        If there are no such predictions, or their names are not those of the truth.
    """
    if path.is_file():
        if len(cases) != 1:
            raise InputError(f"{path} is the prediction of one image, and the truth has {len(cases):,}.")
        numbers_of(read_types(path), classes, str(path), mapping)  # before the truth is read
        return lambda case, labelled: _cells_prediction(path, case, labelled, classes, mapping=mapping)
    if (path / "inst").is_dir():
        files = {p.stem: p for p in _label_files(path / "inst")}
        _check_names(set(files), cases, path / "inst", whole)
        return lambda case, labelled: _folder_prediction(files[case.name], path, labelled, classes)
    results = {folder.name for folder in results_in(path, CELLS_FILE)}
    if not results:
        raise UsageError(
            f"{path} holds no predictions; a folder with inst/ and type/, results of `cytolite segment`, or one "
            f"{CELLS_FILE} is needed."
        )
    _check_names(results, cases, path, whole)
    for name in sorted(results):
        numbers_of(read_types(path / name / CELLS_FILE), classes, str(path / name), mapping)
    return lambda case, labelled: _cells_prediction(
        path / case.name / CELLS_FILE, case, labelled, classes, mapping=mapping
    )


def _columns(image: str, source: str, group: str, tissue: str = "", fold: str = "") -> dict[str, str]:
    return {"image": image, "source": source, "group": group, "tissue": tissue, "fold": fold}


def _folder_cases(folder: Path, mpp: float | None) -> Iterator[Case]:
    files = _label_files(folder / "inst")
    if not files:
        raise UsageError(f"{folder} is no label folder: inst/ with a label image for each image is needed.")
    images = {p.stem: p for p in sorted((folder / "image").glob("*")) if _is_image(p)}
    typed = (folder / "type").is_dir()
    for path in files:
        columns = _columns(path.stem, "", path.stem)
        yield Case(columns, partial(_read_folder, path, folder if typed else None, images.get(path.stem), mpp))


def _label_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*") if _is_image(p))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not is_debris(Path(path.name))


def _read_folder(path: Path, typed: Path | None, image: Path | None, mpp: float | None) -> Labelled:
    instances = read_labels(path)
    types = _same_size(typed / "type" / path.name, instances.shape, path) if typed else None
    rgb = read_rgb(image) if image else None
    if rgb is not None and rgb.shape[:2] != instances.shape:
        raise InputError(f"{image} is {rgb.shape[1]} x {rgb.shape[0]} px and {path} is not; their sizes must agree.")
    return Labelled(str(typed / "type" / path.name) if typed else str(path), instances, types, rgb, mpp)


def _same_size(path: Path, shape: tuple[int, ...], other: Path | str) -> NDArray[np.int32]:
    labels = read_labels(path)
    if labels.shape != shape:
        raise InputError(
            f"{path} is {labels.shape[1]} x {labels.shape[0]} px and {other} is {shape[1]} x {shape[0]}; their sizes "
            "must agree."
        )
    return labels


def _store_cases(path: Path) -> list[Case]:
    from cytolite.datasets.store import Store

    # Stays open as long as there are cases: opening it, and reading its table, for each patch would take most of the
    # time of an evaluation.
    store = Store(path)
    rows = zip(*(store.texts(key) for key in ("name", "source", "group", "tissue", "fold")), strict=True)
    return [Case(_columns(*row), partial(_read_patch, store, i)) for i, row in enumerate(rows)]


def _read_patch(store: Store, index: int) -> Labelled:
    return label_of_patch(store[index])


def _folder_prediction(path: Path, folder: Path, labelled: Labelled, classes: Classes) -> Prediction:
    instances = _same_size(path, labelled.instance_map.shape, "its truth")
    if not (folder / "type").is_dir():
        return predicted_nuclei(instances, None, classes, str(path))
    type_path = folder / "type" / path.name
    types = _same_size(type_path, instances.shape, path)
    return predicted_nuclei(instances, types, classes, str(type_path))


def _cells_prediction(
    path: Path, case: Case, labelled: Labelled, classes: Classes, *, mapping: Mapping[str, str] | None
) -> Prediction:
    cells, shape = read_cells(path), labelled.instance_map.shape
    about = {"width_px": shape[1], "height_px": shape[0]} | read_metadata(path)
    model = about.get("model") or {}
    if slide_hash(case.name) in str(model.get("taught_on", "")).split():
        raise _taught(str(model["name"]), case)
    width, height = int(about["width_px"]), int(about["height_px"])
    if abs(width * shape[0] - height * shape[1]) > max(width, height):
        raise InputError(
            f"{path} is about an image of {width} x {height} px, and its truth has {shape[1]} x {shape[0]} px; their "
            "shapes must agree."
        )
    instances = to_labels(cells, shape, (shape[1] / width, shape[0] / height))
    n = len(cells)
    found = Prediction(instances, np.arange(1, n + 1), cells.types.astype(np.int64), cells.type_probs)
    return _numbered(found, numbers_of(cells.type_set, classes, str(path), mapping), classes)


def _check_names(found: set[str], cases: Sequence[Case], where: Path, whole: bool) -> None:
    wanted = {case.name for case in cases}
    if missing := sorted(wanted - found):
        raise InputError(
            f"{where} lacks {len(missing):,} of {len(wanted):,} images, the first is {missing[0]!r}; names must be "
            f"those of the truth.{did_you_mean(missing[0], found)}"
        )
    if whole and (extra := sorted(found - wanted)):
        raise InputError(
            f"{where} holds {extra[0]!r}, which the truth has not ({len(extra):,} such images); names must be those of "
            f"the truth.{did_you_mean(extra[0], wanted)}"
        )
