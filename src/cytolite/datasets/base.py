"""What a dataset declares, and the reading that all datasets share."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cytolite.celltypes import SEVEN, UNKNOWN_NUCLEUS, LabelSet
from cytolite.errors import InputError, UsageError
from cytolite.files import is_debris, require_regular, sha256_of
from cytolite.patches import Patch
from cytolite.slides.jpeg_check import EndsEarlyError, require_whole_jpeg

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff"})


@dataclass
class Reading:
    """A dataset's folder, looked at but not yet read: iterate to read it, patch by patch.

    Attributes
    ----------
    n : int
        Images that there are, for progress.
    patches : iterable of Patch
        Read one at a time.
    notes : list of str
        What whoever prepares the data should know; whole when all patches are read.
    labels : LabelSet
        What the patches' type maps hold.
    """

    n: int
    patches: Iterable[Patch]
    notes: list[str] = field(default_factory=list)
    labels: LabelSet = SEVEN

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[Patch]:
        return iter(self.patches)


@dataclass(frozen=True)
class Dataset:
    """A public dataset: where it comes from, what may be done with it, and how it is read.

    Attributes
    ----------
    name : str
        Used in stores, settings and tables.
    licence : str
        SPDX identifier, or the wording of whoever lists it.
    citation : str
        The publication to cite.
    read : callable
        Takes the dataset's folder, as its authors publish it or as label images, and returns a `Reading`.
    """

    name: str
    licence: str
    citation: str
    read: Callable[[Path], Reading]


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read an image file as uint8 (H, W, 3) RGB; of a slide (.svs) the first level.

    Raises
    ------
    InputError
        If the file is missing, is not an image, or holds a JPEG that ends early, which would be read as grey.
    """
    require_regular(path)
    try:
        if path.suffix.lower() in {".svs", ".tif", ".tiff"}:
            _require_whole_tiles(path)
        if path.suffix.lower() == ".svs":
            # Often JPEG 2000 inside, which Pillow does not read in a TIFF.
            pixels = tifffile.imread(path, key=0)
            if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
                raise InputError(f"{path} is {pixels.dtype} {pixels.shape}; RGB of 8 bits is needed.")
            return np.asarray(pixels)
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError:
        raise InputError(f"There is no image {path}.") from None
    except EndsEarlyError as error:
        raise InputError(f"{path} is damaged ({error}): copy or export it again.") from None
    except (UnidentifiedImageError, OSError, tifffile.TiffFileError) as error:
        raise InputError(f"{path} cannot be read as an image: {error}.") from None


def _require_whole_tiles(path: Path) -> None:
    """Check that each JPEG tile or strip of a TIFF's first image reaches to its end."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0].aspage()
        if page.compression == tifffile.COMPRESSION.JPEG:
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
                if count:
                    file.filehandle.seek(offset)
                    require_whole_jpeg(file.filehandle.read(count), page.jpegtables)


def below(folder: Path, pattern: str, depth: int) -> list[Path]:
    """Return what matches `pattern` in a folder and up to `depth` folders further down, sorted; no hidden files.

    Archives unpack with one or two folders more or less around the same content.

    Parameters
    ----------
    folder : pathlib.Path
        Where to look.
    pattern : str
        Of names, as `pathlib.Path.glob` takes it.
    depth : int
        How many folders further down.

    Raises
    ------
    InputError
        If there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}.")
    found = (path for levels in range(depth + 1) for path in folder.glob("*/" * levels + pattern))
    return sorted(path for path in found if not is_debris(path.relative_to(folder)))


def read_labels(path: Path, shape: tuple[int, int] | None = None) -> NDArray[np.int32]:
    """Read a label image (PNG or TIFF, whole numbers in one channel) as int32, of the given (H, W) if there is one.

    Ids from 2^31 on, which programs draw at random, are numbered anew, in their order.

    Parameters
    ----------
    path : pathlib.Path
        PNG or TIFF.
    shape : tuple, optional
        (H, W) that it must have.

    Raises
    ------
    InputError
        If the file is missing, is not an image, or differs in size from its image.
    """
    require_regular(path)
    try:
        if path.suffix.lower() in {".tif", ".tiff"}:  # Pillow reads no 64-bit TIFF
            labels = tifffile.imread(path, key=0)
        else:
            with Image.open(path) as image:
                labels = np.asarray(image)
    except FileNotFoundError:
        raise InputError(f"There is no label image {path}; every file of image/ needs one of the same stem.") from None
    except (UnidentifiedImageError, OSError, ValueError, tifffile.TiffFileError) as error:
        raise InputError(f"{path} cannot be read as a label image: {error}.") from None
    if labels.ndim != 2 or labels.dtype.kind not in "ui":
        raise InputError(f"{path} is {labels.dtype} {labels.shape}; whole numbers in one channel are needed.")
    if shape is not None and labels.shape != shape:
        raise InputError(f"{path} is {labels.dtype} {labels.shape}; whole numbers of {shape} are needed, as its image.")
    if labels.min(initial=0) < 0:
        raise InputError(f"{path} holds the id {labels.min()}; ids are whole numbers from 0, the background.")
    if labels.max(initial=0) > np.iinfo(np.int32).max:
        ids, numbers = np.unique(labels, return_inverse=True)
        renumbered: NDArray[np.int32] = (numbers.reshape(labels.shape) + (ids[0] > 0)).astype(np.int32)
        return renumbered
    return labels.astype(np.int32)


def label_file(folder: Path, stem: str) -> Path:
    """Return the label image of a stem: a PNG, or else a TIFF where there is one.

    Parameters
    ----------
    folder : pathlib.Path
        Of label images.
    stem : str
        Of the image.
    """
    names = [folder / f"{stem}{suffix}" for suffix in (".png", ".tif", ".tiff")]
    return next((path for path in names if path.exists()), names[0])


def whole_numbers(array: NDArray[Any], where: str, high: int) -> NDArray[np.int32]:
    """Return an array of whole numbers, whatever type they are stored in, as int32.

    Parameters
    ----------
    array : numpy.ndarray
        Of any numbers.
    where : str
        What it is, for errors.
    high : int
        The largest number that may occur.

    Raises
    ------
    InputError
        If a value is not a whole number, or outside 0 to `high`.
    """
    low, top = array.min(initial=0), array.max(initial=0)
    # A comparison with NaN is false.
    if not (low >= 0 and top <= high):
        raise InputError(f"{where} has values of {low} to {top}; allowed are 0 to {high}.")
    numbers = array.astype(np.int32)
    if array.dtype.kind == "f" and (numbers != array).any():
        raise InputError(f"{where} has values that are not whole numbers.")
    return numbers


def map_labels(types: NDArray[np.int32], mapping: Mapping[int, int], where: str) -> NDArray[np.uint8]:
    """Translate a dataset's own type ids into cytolite's; 0 stays background.

    Parameters
    ----------
    types : numpy.ndarray
        int32 (H, W), the dataset's own ids.
    mapping : mapping
        Its ids to cytolite's.
    where : str
        What it is, for errors.

    Raises
    ------
    InputError
        If an id occurs that the dataset does not declare.
    """
    table = np.zeros(256, np.uint8)
    for given, ours in mapping.items():
        table[given] = ours
    unknown = set(np.unique(types).tolist()) - {0, *mapping}
    if unknown:
        raise InputError(f"{where} holds the type ids {sorted(unknown)}; known are {sorted({0, *mapping})}.")
    return table[types]


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read a CSV file with a header.

    Parameters
    ----------
    path : pathlib.Path
        CSV file.
    columns : sequence of str
        That it must have.

    Raises
    ------
    InputError
        If the file is missing or damaged, or lacks a column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, found = list(reader), reader.fieldnames or ()
    except FileNotFoundError:
        raise InputError(f"There is no table {path}.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table: {error}.") from None
    missing = [name for name in columns if name not in found]
    if missing:
        raise InputError(f"{path} has no column {missing[0]!r}; needed are {', '.join(columns)}.")
    return rows


def read_numbers(path: Path, columns: Sequence[str]) -> NDArray[np.float64]:
    """Read columns of numbers of a CSV file, float64 (n, columns).

    Parameters
    ----------
    path : pathlib.Path
        CSV file.
    columns : sequence of str
        To return, in this order.

    Raises
    ------
    InputError
        As `read_rows`, or if an entry is not a number.
    """
    rows = [[row[name] for name in columns] for row in read_rows(path, columns)]
    try:
        numbers = np.array(rows, np.float64).reshape(-1, len(columns))
    except (TypeError, ValueError):
        numbers = np.full((1, 1), np.nan)
    if not np.isfinite(numbers).all():
        raise InputError(f"{path} has an entry that is not a number in {', '.join(columns)}.")
    return numbers


def stated_mpp(folder: Path, default: float) -> Callable[[str], float]:
    """Return a function of the stem: the resolution that ``meta.json`` states, of all images or of each.

    Parameters
    ----------
    folder : Path
        May hold a ``meta.json`` whose ``um_per_px`` is a number, or a table of numbers by stem.
    default : float
        Of images of which nothing is stated.

    Raises
    ------
    InputError
        If the file is not JSON, or a resolution is not a number.
    """
    path = folder / "meta.json"
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))["um_per_px"] if path.exists() else None
        if isinstance(stated, dict):
            table = {stem: float(mpp) for stem, mpp in stated.items()}
            return lambda stem: table.get(stem, default)
        mpp = default if stated is None else float(stated)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} does not state um_per_px as a number, or as numbers by image: {error}.") from None
    return lambda stem: mpp


def image_files(folder: Path, needed: str) -> list[Path]:
    """Return the files of ``image/``, sorted.

    Parameters
    ----------
    folder : pathlib.Path
        Of the dataset.
    needed : str
        What a label folder is, for errors.

    Raises
    ------
    InputError
        If there is no such folder or no image in it; `needed` says what it should hold.
    """
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}.")
    files = below(folder / "image", "*", depth=0) if (folder / "image").is_dir() else []
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        raise InputError(f"{folder} is not {needed}.")
    return images


def read_label_folder(
    folder: Path,
    mapping: Mapping[int, int] | None,
    *,
    source: str,
    mpp: float | Callable[[str], float],
    group: Callable[[str], str] = lambda stem: stem,
    published: str = "",
) -> Reading:
    """Read a folder of ``image/``, ``inst/`` and, where nuclei have types, ``type/`` files of the same stems.

    Parameters
    ----------
    folder : Path
        Holds the three folders; images may be PNG, JPEG or TIFF, label maps PNG or TIFF.
    mapping : mapping of int to int, optional
        The dataset's type ids to the labels of `cytolite.celltypes`; without one all nuclei are of unknown type.
    source : str
        Name of the dataset.
    mpp : float or callable
        Resolution in um/px, or a function of the stem that returns it.
    group : callable
        Stem to patient, or to whatever must stay on one side of a split.
    published : str
        The other layout that the dataset's reader looked for, to be named if the folder is neither.

    Raises
    ------
    InputError
        If a folder is missing or empty, or a file does not fit its neighbours.
    """
    kinds = ("inst",) if mapping is None else ("inst", "type")
    folders = f"image/{', inst/' if len(kinds) > 1 else ''} and {kinds[-1]}/"
    layout = f"a label folder ({folders} with files of the same stems)"
    images = image_files(folder, layout + (f", nor {source} as it is published ({published})" if published else ""))

    def read(path: Path) -> Patch:
        image, labels = read_rgb(path), [label_file(folder / kind, path.stem) for kind in kinds]
        instances, *types = (read_labels(label, image.shape[:2]) for label in labels)
        if mapping is None:
            type_map = np.where(instances > 0, UNKNOWN_NUCLEUS, 0).astype(np.uint8)
        else:
            type_map = map_labels(types[0], mapping, str(labels[1]))
        return Patch(
            name=path.stem,
            image=image,
            instance_map=instances,
            type_map=type_map,
            mpp=mpp(path.stem) if callable(mpp) else mpp,
            source=source,
            group=group(path.stem),
            file=str(path.relative_to(folder)),
            file_sha256=sha256_of(path, *labels),
        )

    return Reading(len(images), (read(path) for path in images))
