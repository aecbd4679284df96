"""Count once: one image's truth and prediction to a row per class, from which every metric follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cytolite.errors import UsageError
from cytolite.metrics.assignment import assign
from cytolite.metrics.calibration import BINS, bin_counts
from cytolite.metrics.classes import Classes
from cytolite.metrics.matching import (
    Overlaps,
    aggregated_jaccard,
    aggregated_jaccard_plus,
    centroids,
    matches,
    overlaps,
)
from cytolite.metrics.truth import Prediction, Truth

# Columns per image and class; see `Counts`.
FIELDS = (
    "n_true", "n_predicted", "tp", "fp", "fn", "fp_type", "fn_type", "iou_sum",
    "near_tp", "near_fp", "near_fn", "near_fp_type", "near_fn_type", "labelled",
)  # fmt: skip
# Columns per image alone.
PIXELS = (
    "aji_intersection", "aji_union", "aji_plus_intersection", "aji_plus_union", "overlap_px", "nucleus_px",
    "void_px", "ground_px",
)  # fmt: skip
# HoVer-Net's distance for detection, in pixels of its images, and their resolution in um per pixel.
NEAR_PX, NEAR_MPP = 12.0, 0.25
# Pairing by distance looks at all pairs of nuclei; above this it is left out (its columns are NaN).
_MOST_DISTANCES = 16_000_000


@dataclass(frozen=True)
class Counts:
    """The table of counts: everything that metrics need.

    Attributes
    ----------
    classes : Classes
        Their `names` are the second axis of all arrays; the first of them is "all", which asks for no type.
    images : dict of str to numpy.ndarray
        Columns of the image table, text (images,); ``image`` and ``source`` are always there.
    partly : numpy.ndarray
        bool (images,), of sources most of whose ground is void: what is found there cannot be called wrong.
    measured : numpy.ndarray
        bool (images, classes), where each class can be judged. What a source's labels tell apart decides: a coarse
        label is judged where its source uses it, and the types within it are not; the others are. An image most of
        whose nuclei have no known type is judged on "all" alone.
    values : dict of str to numpy.ndarray
        float64 (images, classes) for each of `FIELDS`: matched at IoU > 0.5 (``tp``, ``fp``, ``fn``, ``iou_sum``; of
        ``fp`` and ``fn`` those that were matched to a nucleus of another type are ``fp_type`` and ``fn_type``), paired
        by distance (``near_``; there the wrongly typed are not in ``near_fp`` and ``near_fn``), and ``labelled``: true
        nuclei whose label says exactly this class, unknown ones under "all".
    pixels : dict of str to numpy.ndarray
        float64 (images,) for each of `PIXELS`.
    confusion : numpy.ndarray
        float64 (images, classes, types): matched nuclei of exactly this label that were predicted as this type.
    bins : numpy.ndarray
        float64 (images, classes, 3, bins): matched nuclei predicted to be in the class, by confidence: how many, sum of
        confidence, how many right. Zeros where there were no probabilities.
    """

    classes: Classes
    images: dict[str, NDArray[np.str_]]
    partly: NDArray[np.bool_]
    measured: NDArray[np.bool_]
    values: dict[str, NDArray[np.float64]]
    pixels: dict[str, NDArray[np.float64]]
    confusion: NDArray[np.float64]
    bins: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.partly)

    def select(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Counts:
        """Return the images named by a boolean mask or by indices, in that order."""
        return Counts(
            self.classes,
            {name: column[rows] for name, column in self.images.items()},
            self.partly[rows],
            self.measured[rows],
            {name: array[rows] for name, array in self.values.items()},
            {name: array[rows] for name, array in self.pixels.items()},
            self.confusion[rows],
            self.bins[rows],
        )

    def column(self, name: str) -> NDArray[np.str_]:
        """Return a column of the image table.

        Raises
        ------
        InputError
            If there is none of this name.
        """
        if name not in self.images:
            raise UsageError(f"The table of images has no column {name!r}; it has {', '.join(self.images)}.")
        return self.images[name]


@dataclass(frozen=True)
class ImageCounts:
    """The counts of one image: as `Counts`, without the axis of images."""

    values: dict[str, NDArray[np.float64]]
    pixels: dict[str, float]
    confusion: NDArray[np.float64]
    bins: NDArray[np.float64]


def count_image(truth: Truth, predicted: Prediction, classes: Classes, mpp: float | None = None) -> ImageCounts:
    """Match a prediction to the truth and count.

    A predicted nucleus that matches none and lies by more than half on void ground is left out, as are, for a class,
    those that lie so on nuclei of which it is not known whether they belong to it (the void rule of panoptic quality,
    Kirillov et al. 2019).

    Parameters
    ----------
    truth, predicted : Truth, Prediction
        Of the same size.
    classes : Classes
        Whose types the arrays are about.
    mpp : float, optional
        um per pixel; scales the 12 px of pairing by distance, which are meant at 0.25 um per pixel.

    Raises
    ------
    InputError
        If the sizes differ.
    """
    found = overlaps(truth.instance_map, predicted.instance_map)
    found, void_px = _without_void(found, truth, predicted)
    allowed = truth.allowed[np.searchsorted(truth.ids, found.true_ids)]
    label = truth.label[np.searchsorted(truth.ids, found.true_ids)]
    rows = np.searchsorted(predicted.ids, found.predicted_ids)
    types = predicted.types[rows]
    membership = _membership(allowed, types, classes)
    membership = replace(membership, spared=_spared(found, void_px, membership))

    match = matches(found)
    i, j = match.true_index, match.predicted_index
    values = _tally(membership, i, j)
    values["iou_sum"] = ((membership.inside[i] & membership.given[j]) * match.iou[:, None]).sum(0)
    near = _near_pairs(truth, predicted, found, NEAR_PX * NEAR_MPP / (mpp or NEAR_MPP))
    if near is None:
        values |= {name: np.full(len(classes.names), np.nan) for name in FIELDS if name.startswith("near_")}
    else:
        values |= {f"near_{name}": value for name, value in _tally(membership, *near).items()}
    for name in ("fp", "fn"):  # of the IoU's counts the wrongly typed are a part
        values[name] = values[name] + values[f"{name}_type"]
    values["n_true"] = values["tp"] + values["fn"]
    values["n_predicted"] = values["tp"] + values["fp"]
    values["labelled"] = np.bincount(label, minlength=len(classes.names)).astype(float)

    confusion = np.zeros((len(classes.names), len(classes.types)))
    typed = (label[i] > 0) & (types[j] > 0)
    np.add.at(confusion, (label[i][typed], types[j][typed] - 1), 1)
    bins = np.zeros((len(classes.names), 3, BINS))
    if predicted.probs is not None and len(i):
        confidence = predicted.probs[rows[j]].astype(np.float64) @ classes.members.T
        judged = membership.given[j] & ~membership.undecided[i]
        bins = bin_counts(confidence, membership.inside[i], judged)
        bins[0] = 0
    jaccard, plus = aggregated_jaccard(found), aggregated_jaccard_plus(found)
    areas = int(found.true_area.sum() + found.predicted_area.sum())
    void = 0 if truth.void is None else np.count_nonzero(truth.void)
    ground = truth.instance_map.size - np.count_nonzero(truth.instance_map)
    numbers = (*jaccard, *plus, found.pixels.sum(), areas, void, ground)
    pixels = dict(zip(PIXELS, map(float, numbers), strict=True))
    return ImageCounts({name: values[name] for name in FIELDS}, pixels, confusion, bins)


def collect(images: Sequence[Mapping[str, str]], counted: Sequence[ImageCounts], classes: Classes) -> Counts:
    """Return the table of images that were counted one by one; columns that one lacks are empty there.

    Parameters
    ----------
    images : sequence
        Rows of the image table.
    counted : sequence of ImageCounts
        Of each image.
    classes : Classes
        That were counted.
    """
    names = list(dict.fromkeys(["image", "source", *(name for row in images for name in row)]))
    columns = {name: np.array([row.get(name, "") for row in images], dtype=np.str_) for name in names}
    shape = (len(counted), len(classes.names))
    values = {name: np.array([c.values[name] for c in counted]).reshape(shape) for name in FIELDS}
    pixels = {name: np.array([c.pixels[name] for c in counted]) for name in PIXELS}
    measured = np.zeros(shape, bool)
    partly = np.zeros(len(counted), bool)
    for source in np.unique(columns["source"]):
        rows = columns["source"] == source
        measured[rows] = _told_apart(values["labelled"][rows].sum(0) > 0, classes)
        partly[rows] = 2 * pixels["void_px"][rows].sum() > pixels["ground_px"][rows].sum()
    measured[2 * values["labelled"][:, 0] > values["n_true"][:, 0]] = False
    measured[:, 0] = True
    return Counts(
        classes,
        columns,
        partly,
        measured,
        values,
        pixels,
        np.array([c.confusion for c in counted]).reshape(*shape, len(classes.types)),
        np.array([c.bins for c in counted]).reshape(*shape, 3, BINS),
    )


def join(tables: Sequence[Counts]) -> Counts:
    """Return the images of tables of the same classes and columns, one after the other."""
    first = tables[0]
    return Counts(
        first.classes,
        {name: np.concatenate([t.images[name] for t in tables]) for name in first.images},
        np.concatenate([t.partly for t in tables]),
        np.concatenate([t.measured for t in tables]),
        {name: np.concatenate([t.values[name] for t in tables]) for name in FIELDS},
        {name: np.concatenate([t.pixels[name] for t in tables]) for name in PIXELS},
        np.concatenate([t.confusion for t in tables]),
        np.concatenate([t.bins for t in tables]),
    )


def _told_apart(used: NDArray[np.bool_], classes: Classes) -> NDArray[np.bool_]:
    """Classes that labels can tell from the others, bool (classes,), given which labels are used."""
    n_types, members = len(classes.types), classes.members
    wider = [w for w in range(1 + n_types, len(used)) if used[w]]
    apart = np.arange(len(used)) <= n_types
    apart[wider] = True
    for c in range(1, len(used)):
        apart[c] &= not any(w != c and (members[c] <= members[w]).all() for w in wider)
    return apart


@dataclass(frozen=True)
class _Membership:
    """Which nuclei belong to which class: bool (n, classes) of true, (m, classes) of predicted ones."""

    inside: NDArray[np.bool_]
    undecided: NDArray[np.bool_]
    given: NDArray[np.bool_]
    spared: NDArray[np.bool_]


def _membership(allowed: NDArray[np.bool_], types: NDArray[np.int64], classes: Classes) -> _Membership:
    members = classes.members.T.astype(np.int64)
    touching = allowed.astype(np.int64) @ members > 0
    inside = touching & (allowed.astype(np.int64) @ (1 - members) == 0)
    untyped = np.zeros((1, len(classes.names)), bool)
    untyped[0, 0] = True
    given = np.concatenate([untyped, classes.members.T])[types]
    return _Membership(inside, touching & ~inside, given, np.zeros_like(given))


def _without_void(found: Overlaps, truth: Truth, predicted: Prediction) -> tuple[Overlaps, NDArray[np.int64]]:
    """Leave out what lies on void ground; return also the void pixels under each nucleus that is kept."""
    void_px = np.zeros(len(found.predicted_ids), np.int64)
    if truth.void is None:
        return found, void_px
    ids, counts = np.unique(predicted.instance_map[truth.void], return_counts=True)
    void_px[np.searchsorted(found.predicted_ids, ids[ids > 0])] = counts[ids > 0]
    keep = 2 * void_px <= found.predicted_area
    keep[matches(found).predicted_index] = True
    return found.keep(keep), void_px[keep]


def _spared(found: Overlaps, void_px: NDArray[np.int64], membership: _Membership) -> NDArray[np.bool_]:
    """Predicted nuclei, per class, that lie by more than half on void or on nuclei undecided for it."""
    covered = np.repeat(void_px[:, None], membership.given.shape[1], 1)
    np.add.at(covered, found.predicted_index, found.pixels[:, None] * membership.undecided[found.true_index])
    return 2 * covered > found.predicted_area[:, None]


def _tally(m: _Membership, i: NDArray[np.int64], j: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Count per class, given the pairs: right ones, wrongly typed ones, and those without a partner."""
    inside, given = m.inside[i], m.given[j]
    alone_t, alone_p = np.ones(len(m.inside), bool), np.ones(len(m.given), bool)
    alone_t[i], alone_p[j] = False, False
    counts = {
        "tp": inside & given,
        "fp_type": given & ~inside & ~m.undecided[i],
        "fn_type": inside & ~given,
        "fp": m.given[alone_p] & ~m.spared[alone_p],
        "fn": m.inside[alone_t],
    }
    return {name: flags.sum(0).astype(float) for name, flags in counts.items()}


def _near_pairs(
    truth: Truth, predicted: Prediction, found: Overlaps, radius_px: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Pair nuclei by least sum of distances between centroids, then keep those within the radius (HoVer-Net)."""
    n, m = len(found.true_ids), len(found.predicted_ids)
    if n * m > _MOST_DISTANCES:
        return None
    if not n * m:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    a = centroids(truth.instance_map, found.true_ids)
    b = centroids(predicted.instance_map, found.predicted_ids)
    distance = np.hypot(np.subtract.outer(a[:, 0], b[:, 0]), np.subtract.outer(a[:, 1], b[:, 1]))
    i, j = assign(distance)
    near = distance[i, j] <= radius_px
    return i[near], j[near]
