"""`cytolite teach` and `cytolite apply`: from labels to a bundle, and its names on results that are there already."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolite.bundle import FORMAT, Bundle, described, load_bundle, model_identity, write_taught
from cytolite.celltypes import TypeSet
from cytolite.classifier import Classifier, Unlike, as_before, before_columns, inputs_of, slide_hash
from cytolite.config import TeachSettings
from cytolite.decoding.features import FEATURE_NAMES
from cytolite.drawing.overview import draw_overview
from cytolite.errors import CytoliteError, InputError, OutputError, UsageError
from cytolite.files import write_text
from cytolite.interop.geojson.writer import GeoJSONWriter
from cytolite.interop.parquet import CellsWriter, iter_cells, read_metadata
from cytolite.interop.result import Result
from cytolite.interop.result_folder import CELLS_FILE, GEOJSON_FILE, OVERVIEW_FILE, RUN_FILE, SUMMARY_FILE, TISSUE_FILE
from cytolite.interop.summary import Area, SummaryCounter, write_summary_csv, write_summary_json
from cytolite.names import as_text
from cytolite.segmentation.checkpoint import WorkFolder
from cytolite.teach import fit as fitting
from cytolite.teach.labels import Labels, Matched, match, read_labels
from cytolite.teach.report import card, report_of

FEWEST_LABELS = 5  # of a type
_THUMBNAIL_PX = 2000


@dataclass(frozen=True)
class Taught:
    """A new bundle, what it is worth (for ``report.json``), and what the user should know."""

    bundle: Bundle
    report: dict[str, Any]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Sample:
    """Labelled nuclei of one result."""

    result: Result
    inputs: NDArray[np.float64]
    names: NDArray[np.str_]
    parent_names: NDArray[np.str_]
    places: NDArray[np.float64]
    regions: NDArray[np.int64]
    mean: NDArray[np.float64]
    square: NDArray[np.float64]
    n: int


def teach(results: Sequence[Path], labels: Sequence[Path], out: Path, settings: TeachSettings) -> Taught:
    """Fit a classifier to labelled nuclei and write a bundle of it.

    Parameters
    ----------
    results : sequence of pathlib.Path
        Folders of results of one network.
    labels : sequence of pathlib.Path
        A file of labels for each, in the same order.
    out : pathlib.Path
        Folder of the bundle; its name is the model's.
    settings : TeachSettings
        Everything else.

    Raises
    ------
    InputError
        If labels and results do not go together, or there are too few.
    OutputError
        If `out` is there already, or cannot be written.
    """
    if len(results) != len(labels):
        raise UsageError(
            f"{len(results)} results and {len(labels)} files of labels were given; each result needs one, in the same "
            "order."
        )
    if out.exists() and not settings.overwrite:
        raise OutputError(f"{out} is there already; --overwrite replaces it.")
    opened = [Result(path) for path in results]
    parent = _parent(opened, settings.model)
    inputs = (*parent.spec.network_types.probs, "area_um2", *FEATURE_NAMES)
    read, samples, notes = [], [], list[str]()
    for result, path in zip(opened, labels, strict=True):
        given = read_labels(path, parent.spec.network_types)
        matched = match(given, result.cells, result.mpp, result.size_px, str(path))
        notes += matched.notes
        read.append(given)
        samples.append(_sample(result, matched, parent.spec.network_types, inputs))
    names = np.concatenate([sample.names for sample in samples])
    type_set, kept = _types(names, read, parent.spec.network_types, settings.unlabelled == "keep")
    _check_counts(names, type_set, kept)
    mean, scale = _moments(samples)
    z = np.where(np.isfinite(x := (np.concatenate([s.inputs for s in samples]) - mean) / scale), x, 0.0)
    taught_names = [t.name for t in type_set if t.id not in kept]
    y = np.array([taught_names.index(name) for name in names.tolist()])
    groups, by = _groups(samples)
    fitted, worth = fitting.fit(z, y, groups, len(taught_names), settings.seed)
    rows = np.array([type_set.by_name(name).id - 1 for name in taught_names])
    coefficients = np.zeros((len(type_set), len(inputs)))
    intercepts = np.full(len(type_set), -1e3)
    coefficients[rows], intercepts[rows] = fitted.coefficients, fitted.intercepts
    classifier = Classifier(
        parent=f"{parent.spec.name} {parent.spec.version}",
        parent_types=tuple(parent.spec.network_types.describe()),
        inputs=inputs,
        mean=tuple(mean.tolist()),
        scale=tuple(scale.tolist()),
        coefficients=tuple(map(tuple, coefficients.round(9).tolist())),
        intercepts=tuple(intercepts.round(9).tolist()),
        temperature=fitted.temperature,
        kept=kept,
        labels={name: int((names == name).sum()) for name in taught_names},
        slides=tuple(sorted({slide_hash(result.slide) for result in opened})),
    )
    spec = parent.spec.model_copy(
        update={
            "format": FORMAT,
            "name": out.name,
            "version": settings.version,
            "validation": {},
            "held_back": None,
            "classifier": classifier,
            **described(type_set),
        }
    )
    # A copy of a frozen model keeps what was worked out for the parent.
    spec = type(spec)(**spec.model_dump())
    parent_called = np.concatenate([sample.parent_names for sample in samples])
    report = report_of(taught_names, worth, fitted, names=names, parent_names=parent_called, groups=groups, by=by)
    bundle = write_taught(out, parent, spec, card(spec, report, notes), replace=settings.overwrite)
    return Taught(bundle, report, tuple(notes))


def _parent(results: Sequence[Result], model: str | None) -> Bundle:
    """Return the bundle whose network found the nuclei of all results."""
    hashes = {result.model["onnx_sha256"]: result.model for result in results}
    if len(hashes) > 1:
        told = " and ".join(f"{m['name']} {m['version']}" for m in hashes.values())
        raise InputError(f"The results are of different networks ({told}); teach on results of one.")
    [said] = hashes.values()
    parent = load_bundle(model or said.get("parent", "").rpartition(" ")[0] or said["name"])
    if parent.sha256 != said["onnx_sha256"]:
        raise InputError(
            f"The results were made with the network of {said['name']} {said['version']} (SHA-256 "
            f"{said['onnx_sha256'][:12]}...), and {parent.path.name} here has another; name the folder of that bundle "
            "with --model."
        )
    if parent.spec.classifier is None:
        return parent
    network = load_bundle(parent.network or parent.path)
    return network if network.spec.classifier is None else _untaught(network)


def _untaught(bundle: Bundle) -> Bundle:
    """Return a taught bundle as the network alone would be: with the types that the network tells apart."""
    spec = bundle.spec.model_dump() | {"classifier": None, **described(bundle.spec.network_types)}
    return Bundle(bundle.path, type(bundle.spec)(**spec), bundle.sha256)


def _sample(result: Result, matched: Matched, network_types: TypeSet, inputs: Sequence[str]) -> _Sample:
    before = as_before(result.cells, network_types)
    every = inputs_of(before, inputs)
    finite = np.where(np.isfinite(every), every, np.nan)
    return _Sample(
        result,
        every[matched.rows],
        matched.names,
        before.type[matched.rows],
        before.centroids[matched.rows] * result.mpp,
        before.regions[matched.rows].astype(np.int64),
        np.nansum(finite, axis=0),
        np.nansum(finite**2, axis=0),
        len(every),
    )


def _moments(samples: Sequence[_Sample]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each input over all nuclei of all results."""
    n = sum(s.n for s in samples)
    mean = sum(s.mean for s in samples) / n
    square = sum(s.square for s in samples) / n
    scale = np.sqrt(np.maximum(square - mean**2, 0))
    return np.asarray(mean), np.where(scale > 1e-9, scale, 1.0)


def _types(
    names: NDArray[np.str_], labels: Sequence[Labels], parent: TypeSet, keep: bool
) -> tuple[TypeSet, dict[int, int]]:
    """Return the types of the new bundle, in the parent's order, then new ones; and those that keep its probability."""
    there = set(names.tolist())
    content = [t.describe() for t in parent if keep or t.name in there]
    for name in sorted(there - set(parent.names)):
        given = next((read.classes[name] for read in labels if name in read.classes), None)
        colour = next((list(read.colours[name]) for read in labels if name in read.colours), None)
        # What QuPath shows for a class that it was given no colour, or one that another type has, tells nothing apart.
        colour = None if colour in [t["colour"] for t in content] else colour
        odd = given if given and given != name.capitalize() else None
        content.append({"name": name, "colour": colour, "qupath": odd})
    if len(there) < 2:
        raise InputError(
            f"All labels are {next(iter(there))!r}; a classifier needs two types at least: label nuclei that are not."
        )
    type_set = TypeSet.from_description(content)
    return type_set, {t.id: parent.by_name(t.name).id for t in type_set if t.name not in there}


def _check_counts(names: NDArray[np.str_], type_set: TypeSet, kept: dict[int, int]) -> None:
    counts = {t.name: int((names == t.name).sum()) for t in type_set if t.id not in kept}
    if few := {name: n for name, n in counts.items() if n < FEWEST_LABELS}:
        told = ", ".join(f"{n} of {name}" for name, n in few.items())
        raise InputError(f"There are too few labels ({told}); at least {FEWEST_LABELS} nuclei of each type are needed.")


def _groups(samples: Sequence[_Sample]) -> tuple[NDArray[np.int64], str]:
    """Return what is kept on one side in cross-validation, and what it is: slides, regions, or parts of the area."""
    slide = np.concatenate([np.full(len(s.names), i) for i, s in enumerate(samples)])
    region = np.concatenate([s.regions for s in samples])
    by_region = np.unique(np.stack([slide, region], axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    for groups, what in ((slide, "slides"), (by_region, "regions")):
        if len(np.unique(groups)) >= fitting.FEWEST_GROUPS:
            return groups.astype(np.int64), what
    parts, start = [], 0
    for sample in samples:
        found = fitting.blocks(sample.places) + start
        start = int(found.max()) + 1
        parts.append(found)
    return np.concatenate(parts), "parts of the labelled area"


# ---- names for results that are there -------------------------------------------------------------------------------


def name_results(
    model: str | Path,
    results: Sequence[Path],
    out: Path,
    *,
    overwrite: bool = False,
    done: Callable[[Path, int, tuple[str, ...]], None] = lambda folder, n, warnings: None,
) -> list[Path]:
    """Write results again with the names of a taught model, each into a folder of its own in `out`.

    Parameters
    ----------
    model : str or pathlib.Path
        Taught bundle, or one whose network found the nuclei: then the network's names come back.
    results : sequence of pathlib.Path
        Folders.
    out : pathlib.Path
        Gets a folder for each.
    overwrite : bool
        Replace results that are there.
    done : callable
        Called with each new folder, the number of nuclei and warnings.

    Raises
    ------
    InputError
        If a result was found by another network, or lacks what the classifier needs.
    OutputError
        If something is there already, or cannot be written.
    """
    bundle = load_bundle(model)
    opened = [Result(path) for path in results]
    for result in opened:  # before anything is written
        if result.model["onnx_sha256"] != bundle.sha256:
            wanted = bundle.spec.classifier.parent if bundle.spec.classifier else bundle.spec.name
            raise InputError(
                f"{result.folder} was made with the network of {result.model['name']} {result.model['version']}, and "
                f"{bundle.spec.name} needs that of {wanted}; segment the slide with it."
            )
    folders = [out / result.folder.name for result in opened]
    if len({str(folder).casefold() for folder in folders}) < len(folders):
        raise UsageError("Two of the results have the same name; name them one after the other, into other folders.")
    for result, folder in zip(opened, folders, strict=True):
        if folder.exists() and folder.resolve() == result.folder.resolve():
            raise UsageError(f"{folder} is the result itself; name another output, so that the first names are kept.")
        if folder.exists() and not overwrite:
            raise OutputError(f"{folder} is there already; --overwrite replaces it.")
    for result, folder in zip(opened, folders, strict=True):
        n, warnings = _name(result, folder, bundle)
        done(folder, n, warnings)
    return folders


def _name(result: Result, folder: Path, bundle: Bundle) -> tuple[int, tuple[str, ...]]:
    spec, types, source = bundle.spec, bundle.spec.type_set, result.folder / CELLS_FILE
    about = {k: v for k, v in read_metadata(source).items() if k not in {"regions", "types"}}
    about["model"] = model_identity(bundle)
    regions = list(result.regions)
    before = before_columns(spec.network_types)
    first = next(iter(iter_cells(source, 1)))
    features = [name for name in first.features if name not in before] + (list(before) if spec.classifier else [])
    unlike = Unlike(spec.classifier) if spec.classifier else None
    counter, n = SummaryCounter(regions, types), 0
    work = WorkFolder(folder)
    with work.alone(), ExitStack() as stack:
        work.open({"apply": spec.name})
        part = stack.enter_context(work.result_folder())
        with ExitStack() as files:
            parquet = files.enter_context(CellsWriter(part / CELLS_FILE, features, regions, about, types))
            slide = as_text(Path(result.slide).stem)
            path = part / GEOJSON_FILE
            geojson = files.enter_context(GeoJSONWriter(path, slide, spec.name, region_names=regions, type_set=types))
            for cells in iter_cells(source):
                named = spec.named(cells) if spec.classifier else as_before(cells, spec.network_types)
                for take in (parquet.append, geojson.append, counter.add, *([unlike.add] if unlike else [])):
                    take(named)
                n += len(named)
        told = [warning["message"] for warning in result.run.get("warnings", []) if "message" in warning]
        odd = unlike.sentence() if unlike else None
        warnings = [*result.run.get("warnings", []), *([{"code": "unlike_taught", "message": odd}] if odd else [])]
        total, areas = _areas(result)
        rows = counter.rows(total, areas if regions else ())
        write_summary_csv(part / "summary.csv", rows)
        kept = {k: v for k, v in result.summary.items() if k not in {"total", "regions", "notice", "model"}}
        write_summary_json(part / SUMMARY_FILE, rows, {**kept, **about, "warnings": warnings}, types)
        if (result.folder / TISSUE_FILE).is_file():
            shutil.copyfile(result.folder / TISSUE_FILE, part / TISSUE_FILE)
        _draw(part, result, bundle, total, [*told, *([odd] if odd else [])])
        record = {
            **result.run,
            "model": {**model_identity(bundle), "spec_sha256": bundle.spec_sha256},
            "named_before_by": result.run.get("model"),
            "named": datetime.now(UTC).isoformat(timespec="seconds"),
            "named_with": version("cytolite"),
            "warnings": warnings,
        }
        write_text(part / RUN_FILE, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    return n, tuple([odd] if odd else [])


def _areas(result: Result) -> tuple[Area, list[Area]]:
    def area(row: dict[str, Any]) -> Area:
        return Area(float(row["searched_mm2"]), float(row["tissue_mm2"]))

    return area(result.summary["total"]), [area(row) for row in result.summary["regions"]]


def _draw(folder: Path, result: Result, bundle: Bundle, area: Area, warnings: Sequence[str]) -> None:
    """Draw the overview anew: over the slide if it is where it was, else on white."""
    width, height = result.size_px
    scale = max(1.0, max(width, height) / _THUMBNAIL_PX)
    thumbnail = np.full((int(np.ceil(height / scale)), int(np.ceil(width / scale)), 3), 255, np.uint8)
    title = result.slide
    try:
        with result.open_slide() as slide:
            thumbnail, scale = slide.thumbnail(_THUMBNAIL_PX), slide.thumbnail_scale(_THUMBNAIL_PX)
    except (CytoliteError, KeyError, OSError):
        title += " (the slide is not where it was)"
    draw_overview(
        folder / OVERVIEW_FILE,
        thumbnail,
        scale,
        iter_cells(folder / CELLS_FILE),
        mpp=result.mpp,
        tissue_mm2=area.tissue_mm2,
        title=title,
        footer=f"{bundle.spec.name} {bundle.spec.version}",
        warnings=warnings,
        type_set=bundle.spec.type_set,
    )
