"""How far it is from a cell to the nearest of another type."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cytolite.spatial.definition import measure

if TYPE_CHECKING:
    from scipy.spatial import KDTree

# Medians of resamples are read off a histogram of this width: exact to a tenth of it, and far quicker than sorting.
BIN_UM, FARTHEST_UM = 1.0, 1_000.0
_EDGE = "none: cells beyond the window's border are unknown; at a cut border distances are a little too long"


def tree_of(xy: NDArray[np.float64]) -> KDTree:
    """Return a tree of points, float64 (M, 2), to ask for the nearest of them."""
    from scipy.spatial import KDTree

    return KDTree(xy, balanced_tree=False)


def nearest(from_xy: NDArray[np.float64], to: KDTree, same: bool) -> NDArray[np.float64]:
    """Distance from each point to the nearest of others, float64 (N,), infinite where there is none.

    Parameters
    ----------
    from_xy : numpy.ndarray
        float64 (N, 2).
    to : scipy.spatial.KDTree
        Of the others, from `tree_of`.
    same : bool
        Whether the points are among the others, so that a point does not count as its own neighbour.
    """
    if to.n <= same:
        return np.full(len(from_xy), np.inf)
    found, _ = to.query(from_xy, k=[2] if same else [1], workers=-1)
    return np.asarray(found[:, 0])


def histogram(distances: NDArray[np.float64], blocks: NDArray[np.integer], n_blocks: int) -> NDArray[np.float64]:
    """Count distances by block and bin of `BIN_UM`, float64 (B, K); what is farther lies in the last bin.

    Parameters
    ----------
    distances : numpy.ndarray
        float64 (N,), um, infinite where there is none.
    blocks : numpy.ndarray
        Integers (N,), block of each cell.
    n_blocks : int
        B.
    """
    n_bins = int(FARTHEST_UM / BIN_UM) + 1
    k = np.minimum(distances / BIN_UM, n_bins - 1).astype(np.intp)
    return np.bincount(blocks * n_bins + k, minlength=n_blocks * n_bins).reshape(n_blocks, n_bins).astype(np.float64)


@measure(
    "nearest_median", "Median distance to the nearest cell of another type", "µm",
    "median over cells of the first type",
    source="Clark & Evans, Ecology 35 (1954), for nearest neighbours", edge=_EDGE,
    caution="It falls with the density of the second type alone: compare slides of unlike density by K or enrichment.",
)  # fmt: skip
def median_of(histograms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median of each histogram (R, K), linear within its bin; NaN of an empty one, infinite beyond the last bin."""
    cumulative = np.cumsum(histograms, axis=1)
    half = cumulative[:, -1:] / 2
    k = np.argmax(cumulative >= half, axis=1)
    rows = np.arange(len(k))
    inside = histograms[rows, k]
    below = cumulative[rows, k] - inside
    with np.errstate(invalid="ignore", divide="ignore"):
        median: NDArray[np.float64] = (k + (half[:, 0] - below) / inside) * BIN_UM
    median[k == histograms.shape[1] - 1] = np.inf
    median[cumulative[:, -1] == 0] = np.nan
    return median


@measure(
    "nearest_within", "Share with a cell of another type within a distance", "share",
    "cells of the first type that have one of the second within r / cells of the first type",
    source="cross-type nearest neighbour distribution G(r), uncorrected; Diggle 2013", edge=_EDGE,
    caution="As the median: it rises with density alone.",
)  # fmt: skip
def share_within(near: NDArray[np.float64], n: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of cells that have a neighbour near.

    Parameters
    ----------
    near : numpy.ndarray
        float64, numbers of cells that have a neighbour near.
    n : numpy.ndarray
        float64, numbers of all cells, in the shape of `near`.
    """
    share: NDArray[np.float64] = np.divide(near, n, out=np.full(np.shape(near), np.nan), where=np.asarray(n) > 0)
    return share
