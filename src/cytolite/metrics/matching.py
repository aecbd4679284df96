"""Overlaps of two instance maps, counted in one pass, and what follows from them: matches, AJI, AJI+, Dice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytolite.errors import InputError
from cytolite.metrics.assignment import assign_in_parts

# A table of all pairs is counted directly up to this many cells (8 bytes each); larger ones by sorting what occurs.
_DENSE_CELLS = 20_000_000


@dataclass(frozen=True)
class Overlaps:
    """Every pair of a true and a predicted nucleus that share pixels.

    Attributes
    ----------
    true_ids, predicted_ids : numpy.ndarray
        int64 (n,) and (m,), the ids that occur, ascending, without 0.
    true_area, predicted_area : numpy.ndarray
        int64 (n,) and (m,), in pixels.
    true_index, predicted_index : numpy.ndarray
        int64 (k,), positions of each pair in the arrays above, ascending.
    pixels : numpy.ndarray
        int64 (k,), shared pixels of each pair.
    """

    true_ids: NDArray[np.int64]
    predicted_ids: NDArray[np.int64]
    true_area: NDArray[np.int64]
    predicted_area: NDArray[np.int64]
    true_index: NDArray[np.int64]
    predicted_index: NDArray[np.int64]
    pixels: NDArray[np.int64]

    @property
    def union(self) -> NDArray[np.int64]:
        """Pixels of either nucleus of each pair, int64 (k,)."""
        return self.true_area[self.true_index] + self.predicted_area[self.predicted_index] - self.pixels

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each pair, float64 (k,)."""
        return self.pixels / self.union

    def keep(self, predicted: NDArray[np.bool_]) -> Overlaps:
        """Return the overlaps without the predicted nuclei where `predicted`, bool (m,), is false."""
        pairs = predicted[self.predicted_index]
        position = np.cumsum(predicted) - 1
        return Overlaps(
            self.true_ids,
            self.predicted_ids[predicted],
            self.true_area,
            self.predicted_area[predicted],
            self.true_index[pairs],
            position[self.predicted_index[pairs]],
            self.pixels[pairs],
        )


@dataclass(frozen=True)
class Match:
    """Pairs of nuclei with IoU strictly above 0.5 (each nucleus is in one pair at most), and the totals.

    Attributes
    ----------
    true_ids, predicted_ids : numpy.ndarray
        int64 (n,), the ids of each pair.
    true_index, predicted_index : numpy.ndarray
        int64 (n,), their positions among the ids that occur, ascending.
    iou : numpy.ndarray
        float64 (n,).
    n_true, n_predicted : int
        Nuclei in each map.
    """

    true_ids: NDArray[np.int64]
    predicted_ids: NDArray[np.int64]
    true_index: NDArray[np.int64]
    predicted_index: NDArray[np.int64]
    iou: NDArray[np.float64]
    n_true: int
    n_predicted: int

    @property
    def pq(self) -> float:
        """Panoptic quality (Kirillov et al. 2019): IoU sum over TP + FP / 2 + FN / 2; NaN where both maps are empty."""
        total = self.n_true + self.n_predicted
        return 2 * float(self.iou.sum()) / total if total else float("nan")

    @property
    def dq(self) -> float:
        """Detection quality: F1 of the pairs; NaN where both maps are empty."""
        total = self.n_true + self.n_predicted
        return 2 * len(self.iou) / total if total else float("nan")


def match(truth: NDArray[np.integer], predicted: NDArray[np.integer]) -> Match:
    """Pair the nuclei of two instance maps, int (H, W), 0 = background.

    Parameters
    ----------
    truth, predicted : numpy.ndarray
        int (H, W), 0 = background.

    Raises
    ------
    InputError
        If the shapes differ, or an id is negative or no whole number.
    """
    return matches(overlaps(truth, predicted))


def overlaps(truth: NDArray[np.integer], predicted: NDArray[np.integer]) -> Overlaps:
    """Count the pixels that every pair of nuclei shares, int (H, W) each, 0 = background.

    Parameters
    ----------
    truth, predicted : numpy.ndarray
        int (H, W), 0 = background.

    Raises
    ------
    InputError
        As `match`.
    """
    if truth.shape != predicted.shape:
        raise InputError(f"Instance maps of {truth.shape} and {predicted.shape} cannot be compared; sizes must agree.")
    true_ids, true_area, t = compact(truth)
    predicted_ids, predicted_area, p = compact(predicted)
    both = (t > 0) & (p > 0)
    width = len(predicted_ids)
    # 64 bits: a slide's pairs do not fit into 32.
    codes = (t[both].astype(np.int64) - 1) * width + (p[both] - 1)
    if len(true_ids) * width <= _DENSE_CELLS:
        table = np.bincount(codes, minlength=len(true_ids) * width)
        pairs = np.flatnonzero(table)
        pixels = table[pairs]
    else:
        pairs, pixels = np.unique(codes, return_counts=True)
    i, j = np.divmod(pairs, max(width, 1))
    return Overlaps(true_ids, predicted_ids, true_area, predicted_area, i, j, pixels)


def compact(labels: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """Return the ids that occur (without 0), their areas, and the flat map renumbered 1..n in that order."""
    if labels.dtype.kind not in "ui":
        raise InputError(f"An instance map holds {labels.dtype}; ids must be whole numbers.")
    flat = labels.ravel()
    if flat.min(initial=0) < 0:
        raise InputError(f"An instance map holds the id {flat.min()}; ids must not be negative.")
    if flat.max(initial=0) > 4 * flat.size + 65_535:  # ids as large as a hash: a table by id would not fit
        ids, inverse, counts = np.unique(flat, return_inverse=True, return_counts=True)
        if len(ids) and ids[0] == 0:
            return ids[1:].astype(np.int64), counts[1:], inverse.astype(np.int32)
        return ids.astype(np.int64), counts, (inverse + 1).astype(np.int32)
    counts = np.bincount(flat, minlength=1)
    counts[0] = 0
    ids = np.flatnonzero(counts)
    renumber = np.zeros(len(counts), np.int32)
    renumber[ids] = np.arange(1, len(ids) + 1)
    return ids, counts[ids], renumber[flat]


def matches(found: Overlaps) -> Match:
    """Pair the nuclei that overlap by more than half of their union."""
    iou = found.iou
    # Above 0.5 a nucleus overlaps one other at most, so no assignment problem is left to solve.
    hit = iou > 0.5
    i, j = found.true_index[hit], found.predicted_index[hit]
    return Match(
        true_ids=found.true_ids[i],
        predicted_ids=found.predicted_ids[j],
        true_index=i,
        predicted_index=j,
        iou=iou[hit],
        n_true=len(found.true_ids),
        n_predicted=len(found.predicted_ids),
    )


def aggregated_jaccard(found: Overlaps) -> tuple[int, int]:
    """Return intersection and union of the aggregated Jaccard index (Kumar et al. 2017).

    Each true nucleus takes the prediction of largest IoU, which several may share; what nobody took is added to the
    union.
    """
    # Of equal IoU the larger pair is taken, then the first, as in HoVer-Net's code.
    order = np.lexsort((np.arange(len(found.pixels)), -found.union, -found.iou, found.true_index))
    _, first = np.unique(found.true_index[order], return_index=True)
    return _jaccard(found, order[first])


def aggregated_jaccard_plus(found: Overlaps) -> tuple[int, int]:
    """Return intersection and union of AJI+ (Graham et al. 2019): each prediction is taken once, for the largest sum of
    IoU.
    """
    return _jaccard(found, assign_in_parts(found.true_index, found.predicted_index, found.iou))


def _jaccard(found: Overlaps, pairs: NDArray[np.integer]) -> tuple[int, int]:
    alone_t = np.ones(len(found.true_ids), bool)
    alone_p = np.ones(len(found.predicted_ids), bool)
    alone_t[found.true_index[pairs]] = False
    alone_p[found.predicted_index[pairs]] = False
    rest = found.true_area[alone_t].sum() + found.predicted_area[alone_p].sum()
    return int(found.pixels[pairs].sum()), int(found.union[pairs].sum() + rest)


def centroids(labels: NDArray[np.integer], ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the centres of mass, float64 (n, 2) in (row, column), of the nuclei `ids`, all of which occur.

    Parameters
    ----------
    labels : numpy.ndarray
        int (H, W), 0 = background.
    ids : numpy.ndarray
        int64 (n,), all of which occur.
    """
    found, area, flat = compact(labels)
    inside = np.flatnonzero(flat)
    rows, columns = np.divmod(inside, labels.shape[1])
    sums = [np.bincount(flat[inside], axis, minlength=len(found) + 1)[1:] for axis in (rows, columns)]
    return (np.stack(sums, 1) / area[:, None])[np.searchsorted(found, ids)]
