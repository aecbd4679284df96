"""Crops of typed cells on disk, split by patient or image, and drawn so that classes are equal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from cytolite.celltypes import LABEL_NAMES
from cytolite.config import RelabelSettings
from cytolite.datasets.store import Store
from cytolite.errors import InputError
from cytolite.files import whole_file
from cytolite.patches import Patch
from cytolite.relabel import stain
from cytolite.relabel.crops import Cells, cut, find_cells, scaled

# Shares of training, validation and test cells (the paper's section 2).
SHARES = (0.7, 0.2, 0.1)
TRAINING, VALIDATION, TEST = range(3)
# What decides how a crop looks and whether it is one.
CROP_SETTINGS = ("margin_px", "crop_px", "border_px", "min_area_px", "stain")
# Raised when cells or crops come to be made otherwise, so that those on disk are not used again.
CROP_VERSION = 2


@dataclass(frozen=True)
class Samples:
    """Crops of cells whose type is known.

    Attributes
    ----------
    images : numpy.ndarray
        uint8 (n, side, side, 3), read from disk as needed.
    labels : numpy.ndarray
        uint8 (n,), ids of types.
    groups : numpy.ndarray
        int32 (n,): number of the patient or image that must not be split, over all sources.
    owners : numpy.ndarray
        Text (groups, 2): dataset, and patient or image, of each number.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    groups: NDArray[np.int32]
    owners: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Wanted:
    """Cells to collect: of which datasets, and which types' ids."""

    sources: tuple[str, ...]
    type_ids: tuple[int, ...]


def wanted_patches(stores: Sequence[Store], sources: Sequence[str]) -> list[tuple[Store, int]]:
    """List the patches of some datasets, without reading their arrays.

    Parameters
    ----------
    stores : sequence of Store
        Open stores.
    sources : sequence of str
        Datasets.
    """
    return [(store, i) for store in stores for i, source in enumerate(store.texts("source")) if source in sources]


def cells_of(patch: Patch, settings: RelabelSettings) -> tuple[Cells, NDArray[np.bool_]]:
    """Return a patch's cells, and which of them are large enough to train or test a classifier.

    Parameters
    ----------
    patch : Patch
        Image with its label maps.
    settings : RelabelSettings
        Its `border_px` and `min_area_px` matter, both meant at 0.25 um/px.
    """
    cells = find_cells(patch, scaled(settings.border_px, patch.mpp))
    return cells, cells.inner_areas * (patch.mpp / 0.25) ** 2 >= settings.min_area_px


def crops_of(patch: Patch, boxes: NDArray[np.int32], settings: RelabelSettings) -> NDArray[np.uint8]:
    """Cut cells out of a patch as the settings say; uint8 (n, side, side, 3).

    Parameters
    ----------
    patch : Patch
        Image to cut from.
    boxes : numpy.ndarray
        int32 (n, 4): first row, last row + 1, first column, last column + 1, in pixels of the patch.
    settings : RelabelSettings
        `CROP_SETTINGS` of it matter; lengths are meant at 0.25 um/px.
    """
    image = stain.normalise(patch.image) if settings.stain == "macenko" else patch.image
    margin_px, border_px = (scaled(length, patch.mpp) for length in (settings.margin_px, settings.border_px))
    return cut(image, boxes, margin_px, settings.crop_px, border_px)


def collect(
    stores: Sequence[Store],
    wanted: Wanted,
    settings: RelabelSettings,
    folder: Path,
    tick: Callable[[], None] = lambda: None,
) -> Samples:
    """Cut all cells of some types out of some datasets, or read those that were cut before.

    Crops go to a file as they are cut, so that memory does not grow with their number.

    Parameters
    ----------
    stores : sequence of Store
        Open stores; other datasets in them are passed over.
    wanted : Wanted
        Datasets and types.
    settings : RelabelSettings
        `CROP_SETTINGS` of it matter.
    folder : Path
        Where the crops are kept, under the hash of what they were made from.
    tick : callable
        Called once a patch.
    """
    name = _digest(stores, wanted, settings)
    table, raw = folder / f"{name}.npz", folder / f"{name}.uint8"
    if not table.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(raw) as file:
            labels, groups, owners = _append(file, stores, wanted, settings, tick)
        with whole_file(table) as file:
            np.savez(file, labels=labels, groups=groups, owners=owners)
    with np.load(table) as saved:
        labels, groups, owners = saved["labels"], saved["groups"], saved["owners"]
    shape = (len(labels), settings.crop_px, settings.crop_px, 3)
    # An empty file cannot be mapped.
    images = np.memmap(raw, np.uint8, "r").reshape(shape) if len(labels) else np.empty(shape, np.uint8)
    return Samples(images, labels, groups, owners)


def _append(
    file: BinaryIO, stores: Sequence[Store], wanted: Wanted, settings: RelabelSettings, tick: Callable[[], None]
) -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.str_]]:
    """Write the crops one after the other; return their labels and groups, and what the groups are."""
    labels, groups = [np.empty(0, np.uint8)], [np.empty(0, np.int32)]
    numbers: dict[tuple[str, str], int] = {}
    for store, i in wanted_patches(stores, wanted.sources):
        patch = store[i]
        cells, large = cells_of(patch, settings)
        chosen = large & np.isin(cells.labels, wanted.type_ids)
        if chosen.any():
            file.write(crops_of(patch, cells.boxes[chosen], settings).tobytes())
            number = numbers.setdefault((patch.source, patch.group), len(numbers))
            labels.append(cells.labels[chosen])
            groups.append(np.full(int(chosen.sum()), number, np.int32))
        tick()
    owners = np.array(list(numbers), np.str_).reshape(-1, 2)
    return np.concatenate(labels), np.concatenate(groups), owners


def _digest(stores: Sequence[Store], wanted: Wanted, settings: RelabelSettings) -> str:
    made_from = {
        "version": CROP_VERSION,
        "stores": [store.sha256 for store in stores if set(store.texts("source")) & set(wanted.sources)],
        "sources": sorted(wanted.sources),
        "types": sorted(wanted.type_ids),
        **settings.model_dump(include=set(CROP_SETTINGS)),
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]


def split_groups(
    labels: NDArray[np.uint8], groups: NDArray[np.int32], seed: int, shares: Sequence[float] = SHARES
) -> NDArray[np.int8]:
    """Put whole groups on the sides of a split so that every class is shared out about as wanted.

    Groups are taken in random order, those that hold the most of any class first, and each goes to the side that lacks
    most of what it holds (iterative stratification: Sechidis et al., ECML PKDD 2011, for groups).

    Parameters
    ----------
    labels, groups : numpy.ndarray
        (n,), of the cells.
    seed : int
    shares : sequence of float
        Of the sides, their sum is 1.

    Returns
    -------
    numpy.ndarray
        int8 (n,): the side of each cell.
    """
    classes, label = np.unique(labels, return_inverse=True)
    names, group = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), len(classes)))
    np.add.at(counts, (group, label), 1)
    held = counts / counts.sum(0)
    lacking = np.outer(shares, np.ones(len(classes)))
    order = np.random.default_rng(seed).permutation(len(names))
    # Large ones first: what is left over then is small, and can still go anywhere.
    order = order[np.argsort(-held[order].max(1), kind="stable")]
    side_of = np.zeros(len(names), np.int8)
    for g in order:
        side = int((lacking @ held[g]).argmax())
        side_of[g] = side
        lacking[side] -= held[g]
    return side_of[group]


def check_classes(labels: NDArray[np.uint8], type_ids: Sequence[int], where: str) -> None:
    """Check that there are cells of every class.

    Parameters
    ----------
    labels : numpy.ndarray
        uint8 (n,), ids of the cells' types.
    type_ids : sequence of int
        Types that must occur.
    where : str
        Names the datasets in the error.

    Raises
    ------
    InputError
        Naming the class that is missing.
    """
    for type_id in type_ids:
        if not (labels == type_id).any():
            name = LABEL_NAMES[type_id]
            raise InputError(
                f"The stores hold no {name} of {where} that is large enough to learn from; "
                f"give a store that does, or take {name} out of the recipe."
            )


def check_sides(labels: NDArray[np.uint8], sides: NDArray[np.int8], type_ids: Sequence[int], where: str) -> None:
    """Check that every class can be learnt and validated.

    Parameters
    ----------
    labels : numpy.ndarray
        uint8 (n,), ids of the cells' types.
    sides : numpy.ndarray
        int8 (n,), from `split_groups`.
    type_ids : sequence of int
        Types that must occur in training and validation.
    where : str
        Names the datasets in the error.

    Raises
    ------
    InputError
        Naming a class that comes from too few patients or images to be on both sides.
    """
    for type_id in type_ids:
        if not all((labels[sides == side] == type_id).any() for side in (TRAINING, VALIDATION)):
            raise InputError(
                f"The {LABEL_NAMES[type_id]} cells of {where} come from too few patients or images to train and to "
                "validate; at least two are needed."
            )


def equalised(labels: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw as many cells of every class as the rarest has, without repeats; indices in random order.

    Parameters
    ----------
    labels : numpy.ndarray
        int (n,), the class of each cell.
    rng : numpy.random.Generator
        Draws.
    """
    classes, counts = np.unique(labels, return_counts=True)
    drawn = [rng.choice(np.flatnonzero(labels == c), counts.min(), replace=False) for c in classes]
    return rng.permutation(np.concatenate(drawn))


def resampled(labels: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw about as many cells as there are, every class equally often; those of rare classes repeat.

    Parameters
    ----------
    labels : numpy.ndarray
        int (n,), the class of each cell.
    rng : numpy.random.Generator
        Draws.
    """
    classes = np.unique(labels)
    each = len(labels) // len(classes)
    drawn = [rng.choice(np.flatnonzero(labels == c), each, replace=(labels == c).sum() < each) for c in classes]
    return rng.permutation(np.concatenate(drawn))
