"""PanNuke patches with types: 256x256, many organs (Gamper et al. 2020).

Published as three folds, each ``Fold 1/images/fold1/images.npy`` and ``types.npy`` beside it, and
``Fold 1/masks/fold1/masks.npy``: one channel of instance ids per type, and one of background. Four traps. The ids of
different channels collide; a pixel may be in two channels; both arrays are float64 (37 GB in all), which is why they
are mapped, not loaded; and some patches hold no nucleus.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolite import celltypes
from cytolite.celltypes import by_name
from cytolite.datasets.base import Dataset, Reading, below, read_label_folder, whole_numbers
from cytolite.errors import InputError
from cytolite.patches import Patch

MPP = 0.25
# PanNuke's five classes, in the order of the channels; 255 marks a nucleus whose type is not known (label folders).
TYPES = {
    1: by_name("neoplastic").id,
    2: celltypes.INFLAMMATORY,
    3: by_name("connective").id,
    4: by_name("dead").id,
    5: by_name("epithelial").id,
    255: celltypes.UNKNOWN_NUCLEUS,
}
CHANNEL_LABELS = np.array([TYPES[channel] for channel in range(1, 6)], np.uint8)
PATCHES_PER_FOLD = {1: 2656, 2: 2523, 3: 2722}
# Of all three folds, in the order of the channels: table S4 of Shvetsov et al. (2025); 189,744 together.
NUCLEI = (77_403, 32_276, 50_585, 2_908, 26_572)
PUBLISHED = "Fold 1/images/fold1/images.npy and types.npy, Fold 1/masks/fold1/masks.npy, and so for folds 2 and 3"
# Pages of a mapped file stay in memory until it is closed: it is opened anew for each block.
BLOCK = 64


@dataclass(frozen=True)
class Fold:
    """The three arrays of one fold, which lies somewhere below `root`."""

    root: Path
    number: int
    images: Path
    masks: Path
    types: Path


def read(folder: Path) -> Reading:
    """Read PanNuke from its folds, or from a label folder (0.25 um/px); each patch is a group of its own.

    Raises
    ------
    InputError
        If the folder is neither, a fold or a file is missing, or an array is damaged or not of the declared shape.
    """
    folds = find_folds(folder)
    if not folds:
        return read_label_folder(folder, TYPES, source="pannuke", mpp=MPP, published=PUBLISHED)
    sizes = [check_fold(fold) for fold in folds]
    reading = Reading(sum(sizes), ())
    for fold, n in zip(folds, sizes, strict=True):
        if n != PATCHES_PER_FOLD[fold.number]:
            reading.notes.append(
                f"fold {fold.number} holds {n:,} patches; as it is published it has {PATCHES_PER_FOLD[fold.number]:,}"
            )
    if len(folds) == 1:
        reading.notes.append(f"this is fold {folds[0].number} alone of three")
    reading.patches = _read_folds(folds, sizes, reading.notes)
    return reading


def find_folds(folder: Path) -> list[Fold]:
    """Find the folds below a folder, or the one that it is; an empty list where there are none.

    Raises
    ------
    InputError
        If a fold is there twice or two are there without the third, or one lacks its masks or types.
    """
    folds: dict[int, Fold] = {}
    for images in below(folder, "images.npy", depth=4):
        number = _fold_number(images)
        if number in folds:
            raise InputError(f"Fold {number} is there twice: {folds[number].images} and {images}; remove one.")
        nested = [images.parents[2] / "masks" / images.parent.name] if len(images.parents) > 2 else []
        masks = next((d / "masks.npy" for d in (images.parent, *nested) if (d / "masks.npy").exists()), None)
        if masks is None:
            raise InputError(f"{images} has no masks.npy; as published it lies in masks/{images.parent.name}/.")
        types = images.with_name("types.npy")
        if not types.exists():
            raise InputError(f"{images} has no types.npy (the tissues) beside it.")
        folds[number] = Fold(folder, number, images, masks, types)
    missing = sorted(set(PATCHES_PER_FOLD) - set(folds))
    if len(folds) == 2:
        raise InputError(f"Fold {missing[0]} of PanNuke is missing in {folder}; give all three, or one fold's folder.")
    return [folds[number] for number in sorted(folds)]


def _fold_number(images: Path) -> int:
    for name in (folder.name for folder in images.resolve().parents):
        found = re.fullmatch(r"fold[ _-]?([123])", name, re.IGNORECASE)
        if found:
            return int(found[1])
    raise InputError(f"Which fold is {images}? Its folder, or one above it, must be called fold1, fold2 or fold3.")


def check_fold(fold: Fold) -> int:
    """Check the shapes of a fold's arrays and return how many patches it holds.

    Raises
    ------
    InputError
        If a file is damaged, or a shape is not what PanNuke declares.
    """
    images, masks, types = (_open(path) for path in (fold.images, fold.masks, fold.types))
    n = len(types)
    for path, array, shape in (
        (fold.types, types, (n,)),
        (fold.images, images, (n, 256, 256, 3)),
        (fold.masks, masks, (n, 256, 256, 6)),
    ):
        if array.shape != shape:
            raise InputError(
                f"{path} has the shape {array.shape}; {shape} is needed, for the {n} entries of types.npy."
            )
    return n


def _open(path: Path) -> NDArray[Any]:
    try:
        return np.asanyarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (ValueError, OSError, EOFError) as error:
        if "Python objects" in str(error) or "allow_pickle" in str(error):
            raise InputError(
                f"{path} holds Python objects, which may run code: save it as text, np.save(path, array.astype(str))."
            ) from None
        raise InputError(f"{path} is damaged or cut short: {error}.") from None


def _read_folds(folds: Sequence[Fold], sizes: Sequence[int], notes: list[str]) -> Iterator[Patch]:
    found: Counter[int] = Counter()
    for fold, n in zip(folds, sizes, strict=True):
        tissues = [t.decode("utf-8", "replace") if isinstance(t, bytes) else str(t) for t in _open(fold.types).tolist()]
        for start in range(0, n, BLOCK):
            images, masks = _open(fold.images), _open(fold.masks)
            for i in range(start, min(n, start + BLOCK)):
                patch, per_channel = _read_patch(fold, i, images[i], masks[i], tissues[i])
                found.update(per_channel)
                yield patch
    if {fold.number: n for fold, n in zip(folds, sizes, strict=True)} == PATCHES_PER_FOLD:
        _compare_counts(found, notes)


def _read_patch(
    fold: Fold, i: int, image: NDArray[Any], masks: NDArray[Any], tissue: str
) -> tuple[Patch, Counter[int]]:
    where = f"patch {i} of {fold.images}"
    numbers = whole_numbers(masks, f"patch {i} of {fold.masks}", 2**31 - 1)
    if _background_is_first(numbers):
        raise InputError(
            f"patch {i} of {fold.masks} has the background in its first channel; PanNuke's is the last: put the "
            "channels in the order neoplastic, inflammatory, connective, dead, epithelial, background."
        )
    instance_map, type_map, found = merge_channels(numbers)
    if image.dtype.kind == "f" and 0 < image.max() <= 1:
        raise InputError(f"{where} has values of 0 to 1; PanNuke's are 0 to 255.")
    patch = Patch(
        name=f"fold{fold.number}_{i:04d}",
        image=whole_numbers(image, where, 255).astype(np.uint8),
        instance_map=instance_map,
        type_map=type_map,
        mpp=MPP,
        source="pannuke",
        group=f"fold{fold.number}_{i:04d}",
        tissue=tissue,
        fold=str(fold.number),
        file=f"{fold.images.relative_to(fold.root)} {i}",
        file_sha256=hashlib.sha256(image.tobytes() + masks.tobytes()).hexdigest(),
    )
    return patch, found


def _background_is_first(masks: NDArray[np.int32]) -> bool:
    """Whether the first channel is what all others leave over, and the last is not."""
    filled = masks > 0
    rest, first, last = filled[..., 1:].any(-1), filled[..., 0], filled[..., -1]
    if not first.any() or not rest.any() or (first == rest).any():
        return False
    is_background = last.any() and (last != filled[..., :-1].any(-1)).all()
    return not is_background


def merge_channels(masks: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.uint8], Counter[int]]:
    """Merge a patch's channels into one map of instances and one of types.

    The same id in two channels is two nuclei. Where nuclei of two channels overlap, the smaller stays on top, as with
    outlines; the last channel, background, says nothing that the others do not.

    Parameters
    ----------
    masks : numpy.ndarray
        int32 (H, W, 6).

    Returns
    -------
    instance_map : numpy.ndarray
        int32 (H, W), 0 = background, else 1, 2, ...
    type_map : numpy.ndarray
        uint8 (H, W), labels of `cytolite.celltypes`.
    found : Counter
        Nuclei per channel, also those that others cover.
    """
    shape, channels = masks.shape[:2], len(CHANNEL_LABELS)
    pixel, channel = np.nonzero(masks[..., :channels].reshape(-1, channels))
    keys = channel.astype(np.int64) << 32 | masks.reshape(-1, masks.shape[2])[pixel, channel]
    unique, number, area = np.unique(keys, return_inverse=True, return_counts=True)
    # Written from the largest to the smallest: of several values for one place NumPy keeps the last.
    order = np.argsort(-area[number], kind="stable")
    instance_map, type_map = np.zeros(shape[0] * shape[1], np.int32), np.zeros(shape[0] * shape[1], np.uint8)
    instance_map[pixel[order]] = number[order] + 1
    type_map[pixel[order]] = CHANNEL_LABELS[channel[order]]
    return instance_map.reshape(shape), type_map.reshape(shape), Counter((unique >> 32).tolist())


def _compare_counts(found: Counter[int], notes: list[str]) -> None:
    for channel, wanted in enumerate(NUCLEI):
        if found[channel] != wanted:
            name = celltypes.LABEL_NAMES[int(CHANNEL_LABELS[channel])]
            notes.append(f"{found[channel]:,} {name} nuclei in three folds; {wanted:,} were counted by others")


PANNUKE = Dataset(
    name="pannuke",
    licence="CC-BY-NC-SA-4.0",
    citation="Gamper et al., PanNuke dataset extension, arXiv:2003.10778 (2020)",
    read=read,
)
