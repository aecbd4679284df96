"""Second-order measures: how many cells of one type lie around those of another, by distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cytolite.spatial.composition import ratio
from cytolite.spatial.definition import measure

_TRANSLATION = "translation correction (Ohser 1983): a pair counts 1 / the window's area that holds both its ends"


@measure(
    "ripley_k", "Ripley's K and cross-K", "µm²",
    "A/(n_i n_j) · sum over pairs with d <= r of A / |W ∩ (W + shift)|",
    source="Ripley, Journal of Applied Probability 13 (1976); Ohser, Mathematische Operationsforschung und Statistik "
    "14 (1983)", edge=_TRANSLATION,
    caution="It takes the tissue for even: where density varies, all looks clustered. Compare with random labels.",
)  # fmt: skip
def k_function(
    sums: NDArray[np.float64], n_from: ArrayLike, n_to: ArrayLike, area_um2: ArrayLike, *, same: bool = False
) -> NDArray[np.float64]:
    """K at the ends of distance bins, um2, float64 (..., K).

    Parameters
    ----------
    sums : numpy.ndarray
        float64 (..., K), sums of 1 / set covariance over pairs in each bin, 1/um2.
    n_from, n_to : array
        (...), numbers of cells.
    area_um2 : array
        (...), area of the window.
    same : bool
        Whether both types are one: a cell is no pair with itself.
    """
    area = np.asarray(area_um2, np.float64)
    pairs = np.asarray(n_from, np.float64) * (np.asarray(n_to, np.float64) - same)
    return ratio(np.cumsum(sums, axis=-1) * (area**2)[..., None], pairs[..., None])


@measure(
    "l_minus_r", "Besag's L(r) - r at a distance", "µm", "sqrt(K(r)/π) - r; 0 where cells ignore each other",
    source="Besag, discussion of Ripley, Journal of the Royal Statistical Society B 39 (1977)", edge=_TRANSLATION,
    caution="As K. Below about 10 µm nuclei keep each other at a distance, since they have a size.",
)  # fmt: skip
def l_minus_r(k: ArrayLike, r_um: ArrayLike) -> NDArray[np.float64]:
    """L(r) - r.

    Parameters
    ----------
    k : array
        (..., K), um2, from `k_function`.
    r_um : array
        (K,), distances.
    """
    difference: NDArray[np.float64] = np.sqrt(np.asarray(k) / np.pi) - np.asarray(r_um)
    return difference


@measure(
    "co_occurrence", "Co-occurrence within a distance", "ratio", "P(type j | type i, within r) / P(type j | within r)",
    source="Palla et al., squidpy, Nature Methods 19 (2022); Tosti et al., Gastroenterology 160 (2021)",
    edge="none: both probabilities are of pairs that exist",
    caution="A ratio to all pairs within that distance, so a frequent type is always near 1.",
)  # fmt: skip
def co_occurrence(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Co-occurrence, float64 (..., T, T, K) [..., i, j, k], from counts of ordered pairs in distance bins.

    The same for (i, j) as for (j, i), since each pair is counted from both ends.
    """
    counts = np.cumsum(counts, axis=-1)
    given_first = ratio(counts, counts.sum(axis=-2, keepdims=True))
    second = counts.sum(axis=-3, keepdims=True)
    return ratio(given_first, ratio(second, second.sum(axis=-2, keepdims=True)))
