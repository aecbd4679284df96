"""Whether a probability means what it says: temperature, and the error that is left."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytolite.classifier import softmax

BINS = 15


def equal_weights(labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return weights that sum to 1 and give every class that occurs the same share; float64 (n,)."""
    _, which, counts = np.unique(labels, return_inverse=True, return_counts=True)
    weights: NDArray[np.float64] = 1 / (counts[which] * len(counts))
    return weights


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer], weights: NDArray[np.float64]) -> float:
    """Find the temperature under which the labels are likeliest (Guo et al., ICML 2017).

    The mean cross-entropy is convex in the inverse temperature b; its slope, the mean of ``E_b[logit] - logit of the
    label``, is brought to zero by bisection between b = 1/20 and 20.

    Parameters
    ----------
    logits : numpy.ndarray
        float (n, k).
    labels : numpy.ndarray
        int (n,), 0 to k - 1.
    weights : numpy.ndarray
        float64 (n,), of the cells.
    """
    logits = np.asarray(logits, np.float64)
    given = logits[np.arange(len(labels)), labels]

    def slope(inverse: float) -> float:
        expected = (softmax(logits, 1 / inverse) * logits).sum(1)
        return float(weights @ (expected - given))

    low, high = 1 / 20, 20.0
    if slope(low) >= 0:
        return 1 / low
    if slope(high) <= 0:
        return 1 / high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / ((low + high) / 2)


def expected_calibration_error(
    probs: NDArray[np.float64], labels: NDArray[np.integer], weights: NDArray[np.float64], bins: int = BINS
) -> float:
    """Mean gap between confidence and accuracy over bins of equal width, by the weight in each (Naeini et al. 2015).

    Parameters
    ----------
    probs : numpy.ndarray
        float64 (n, k).
    labels : numpy.ndarray
        int (n,), 0 to k - 1.
    weights : numpy.ndarray
        float64 (n,), sum 1.
    bins : int
        How many.
    """
    confidence, right = probs.max(1), probs.argmax(1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(which, weights * (right - confidence), bins)).sum())
