"""Match predicted nuclei to true ones by overlap, all pairs counted in one pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytolite.errors import InputError


@dataclass(frozen=True)
class Match:
    """Pairs of nuclei with IoU strictly above 0.5 (each nucleus is in one pair at most), and the totals.

    Attributes
    ----------
    true_ids, predicted_ids : numpy.ndarray
        int (n,), the ids of each pair.
    iou : numpy.ndarray
        float64 (n,).
    n_true, n_predicted : int
        Nuclei in each map.
    """

    true_ids: NDArray[np.int64]
    predicted_ids: NDArray[np.int64]
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

    Raises
    ------
    InputError
        If the shapes differ.
    """
    if truth.shape != predicted.shape:
        raise InputError(f"Instance maps of {truth.shape} and {predicted.shape} cannot be compared; sizes must agree.")
    true_ids, t = np.unique(truth, return_inverse=True)
    predicted_ids, p = np.unique(predicted, return_inverse=True)
    true_area, predicted_area = np.bincount(t.ravel()), np.bincount(p.ravel())
    pairs, overlap = np.unique(t.ravel() * len(predicted_ids) + p.ravel(), return_counts=True)
    i, j = np.divmod(pairs, len(predicted_ids))
    iou = overlap / (true_area[i] + predicted_area[j] - overlap)
    # Above 0.5 a nucleus overlaps one other at most, so no assignment problem is left to solve.
    hit = (true_ids[i] > 0) & (predicted_ids[j] > 0) & (iou > 0.5)
    return Match(
        true_ids=true_ids[i[hit]].astype(np.int64),
        predicted_ids=predicted_ids[j[hit]].astype(np.int64),
        iou=iou[hit],
        n_true=int((true_ids > 0).sum()),
        n_predicted=int((predicted_ids > 0).sum()),
    )
