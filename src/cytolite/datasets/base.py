"""What a dataset declares, and the reading that all datasets share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cytolite.errors import InputError, UsageError
from cytolite.files import is_debris, require_regular, sha256_of
from cytolite.patches import Patch

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
    """

    n: int
    patches: Iterable[Patch]
    notes: list[str] = field(default_factory=list)

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
        If the file is missing or is not an image.
    """
    require_regular(path)
    try:
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
    except (UnidentifiedImageError, OSError, tifffile.TiffFileError) as error:
        raise InputError(f"{path} cannot be read as an image: {error}.") from None


def below(folder: Path, pattern: str, depth: int) -> list[Path]:
    """Return what matches `pattern` in a folder and up to `depth` folders further down, sorted; no hidden files.

    Archives unpack with one or two folders more or less around the same content.

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
        return (numbers.reshape(labels.shape) + (ids[0] > 0)).astype(np.int32)
    return labels.astype(np.int32)


def label_file(folder: Path, stem: str) -> Path:
    """Return the label image of a stem: a PNG, or else a TIFF where there is one."""
    names = [folder / f"{stem}{suffix}" for suffix in (".png", ".tif", ".tiff")]
    return next((path for path in names if path.exists()), names[0])


def whole_numbers(array: NDArray[Any], where: str, high: int) -> NDArray[np.int32]:
    """Return an array of whole numbers, whatever type they are stored in, as int32.

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


def read_label_folder(
    folder: Path,
    mapping: Mapping[int, int],
    *,
    source: str,
    mpp: float | Callable[[str], float],
    group: Callable[[str], str] = lambda stem: stem,
    published: str = "",
) -> Reading:
    """Read a folder of ``image/``, ``inst/`` and ``type/`` files of the same stems.

    Parameters
    ----------
    folder : Path
        Holds the three folders; images may be PNG, JPEG or TIFF, label maps PNG or TIFF.
    mapping : mapping of int to int
        The dataset's type ids to the labels of `cytolite.celltypes`.
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
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}.")
    files = below(folder / "image", "*", depth=0) if (folder / "image").is_dir() else []
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        raise InputError(
            f"{folder} is not a label folder (image/, inst/ and type/ with files of the same stems)"
            + (f", nor {source} as it is published ({published})." if published else ".")
        )

    def read(path: Path) -> Patch:
        image, labels = read_rgb(path), [label_file(folder / name, path.stem) for name in ("inst", "type")]
        instances, types = (read_labels(label, image.shape[:2]) for label in labels)
        return Patch(
            name=path.stem,
            image=image,
            instance_map=instances,
            type_map=map_labels(types, mapping, str(labels[1])),
            mpp=mpp(path.stem) if callable(mpp) else mpp,
            source=source,
            group=group(path.stem),
            file=str(path.relative_to(folder)),
            file_sha256=sha256_of(path, *labels),
        )

    return Reading(len(images), (read(path) for path in images))
