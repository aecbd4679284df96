"""Whether a probability of 0.8 is right in eight of ten cases: reliability curve and expected calibration error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Bins of equal width between 0 and 1, as in Guo et al. 2017.
BINS = 15


def bin_counts(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], judged: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Count nuclei by confidence, for each class apart.

    Parameters
    ----------
    confidence : numpy.ndarray
        float64 (n, classes), in [0, 1].
    right, judged : numpy.ndarray
        bool (n, classes): whether the truth agrees, and which entries count.

    Returns
    -------
    numpy.ndarray
        float64 (classes, 3, BINS): how many, the sum of their confidence, how many were right.
    """
    n_classes = confidence.shape[1]
    # The last bin holds 1; a sum of float32 probabilities may exceed it by a rounding error.
    position = np.clip((confidence * BINS).astype(np.int64), 0, BINS - 1) + BINS * np.arange(n_classes)
    counts = [
        np.bincount(position[judged], weights, minlength=n_classes * BINS).reshape(n_classes, BINS)
        for weights in (np.ones(judged.sum()), confidence[judged], right[judged].astype(float))
    ]
    return np.stack(counts, 1)


def expected_calibration_error(bins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean distance of confidence from the share that was right, over bins weighted by their nuclei (Guo et al. 2017).

    Parameters
    ----------
    bins : numpy.ndarray
        float64 (..., 3, BINS), as `bin_counts` gives them, summed over whatever.

    Returns
    -------
    numpy.ndarray
        float64 (...), in [0, 1]; NaN where there are no nuclei.
    """
    n, confidence, right = np.moveaxis(bins, -2, 0)
    total = n.sum(-1)
    return np.where(total > 0, np.abs(confidence - right).sum(-1) / np.maximum(total, 1e-300), np.nan)


def reliability_curve(
    bins: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return mean confidence, share right and number of nuclei of each bin, float64 (BINS,); NaN in empty ones."""
    n, confidence, right = bins
    with np.errstate(invalid="ignore", divide="ignore"):
        return confidence / n, right / n, n
