"""What a dataset declares, and the reading that all datasets share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cytolite.errors import InputError
from cytolite.patches import Patch


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
        Takes the dataset's folder, yields its patches.
    """

    name: str
    licence: str
    citation: str
    read: Callable[[Path], Iterator[Patch]]


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read an image file as uint8 (H, W, 3) RGB.

    Raises
    ------
    InputError
        If the file is missing or is not an image.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError:
        raise InputError(f"There is no image {path}.") from None
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"{path} cannot be read as an image: {error}.") from None


def read_labels(path: Path, shape: tuple[int, int]) -> NDArray[np.int32]:
    """Read a label PNG (uint8 or uint16, one channel) of the given (H, W) as int32.

    Raises
    ------
    InputError
        If the file is missing, is not an image, or differs in size from its image.
    """
    try:
        with Image.open(path) as image:
            labels = np.asarray(image)
    except FileNotFoundError:
        raise InputError(f"There is no label image {path}; every file of image/ needs one of the same stem.") from None
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"{path} cannot be read as a label image: {error}.") from None
    if labels.shape != shape or labels.dtype.kind not in "ui":
        raise InputError(f"{path} is {labels.dtype} {labels.shape}; whole numbers of {shape} are needed, as its image.")
    return labels.astype(np.int32)


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
) -> Iterator[Patch]:
    """Read a folder of ``image/``, ``inst/`` and ``type/`` files of the same stems.

    Parameters
    ----------
    folder : Path
        Holds the three folders; images may be PNG, JPEG or TIFF, label maps are PNG.
    mapping : mapping of int to int
        The dataset's type ids to the labels of `cytolite.celltypes`.
    source : str
        Name of the dataset.
    mpp : float or callable
        Resolution in um/px, or a function of the stem that returns it.
    group : callable
        Stem to patient, or to whatever must stay on one side of a split.

    Raises
    ------
    InputError
        If a folder is missing or empty, or a file does not fit its neighbours.
    """
    images = sorted(p for p in (folder / "image").glob("*") if p.suffix.lower() in {".png", ".jpg", ".jpeg", ".tif"})
    if not images:
        raise InputError(
            f"{folder} is not a label folder: image/, inst/ and type/ with files of the same stems are needed."
        )
    for path in images:
        image = read_rgb(path)
        instances = read_labels(folder / "inst" / f"{path.stem}.png", image.shape[:2])
        types = read_labels(folder / "type" / f"{path.stem}.png", image.shape[:2])
        yield Patch(
            name=path.stem,
            image=image,
            instance_map=instances,
            type_map=map_labels(types, mapping, str(folder / "type" / path.name)),
            mpp=mpp(path.stem) if callable(mpp) else mpp,
            source=source,
            group=group(path.stem),
        )
