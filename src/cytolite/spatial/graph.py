"""Cells that touch, as far as centres tell: the Delaunay graph with a length limit, and what is counted on it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cytolite.kernels import kernel
from cytolite.spatial.composition import ratio
from cytolite.spatial.definition import measure
from cytolite.spatial.pairs import THREADS

_EDGE = "edges longer than the limit are cut, which also removes those along the hull and across gaps"


def delaunay_edges(xy: NDArray[np.float64], limit_um: float) -> NDArray[np.int32]:
    """Edges of the Delaunay triangulation that are at most `limit_um` long: int32 (E, 2), i < j, each once.

    Points on one line, or fewer than three, are joined along it. Of several cells in one place one alone has edges.

    Parameters
    ----------
    xy : numpy.ndarray
        float64 (N, 2), um.
    limit_um : float
        Length of the longest edge that is kept.
    """
    from scipy.spatial import Delaunay, QhullError

    if len(xy) < 2:
        return np.empty((0, 2), np.int32)
    try:
        starts, ends = Delaunay(xy).vertex_neighbor_vertices
    except (QhullError, ValueError):  # too few, or all on one line
        order = np.lexsort((xy[:, 1], xy[:, 0]))
        edges = np.column_stack([order[:-1], order[1:]])
    else:
        edges = np.column_stack([np.repeat(np.arange(len(xy)), np.diff(starts)), ends])
        edges = edges[edges[:, 0] < edges[:, 1]]
    codes = np.sort(edges.min(axis=1).astype(np.int64) * len(xy) + edges.max(axis=1))
    edges = np.column_stack([codes // len(xy), codes % len(xy)]).astype(np.int32)
    length = np.hypot(*(xy[edges[:, 0]] - xy[edges[:, 1]]).T)
    return np.ascontiguousarray(edges[length <= limit_um])


def edge_counts(
    edges: NDArray[np.int32], types: NDArray[np.integer], n_types: int, blocks: NDArray[np.integer], n_blocks: int
) -> NDArray[np.float64]:
    """Count edges in both directions by the first end's block and both ends' types: float64 (B, T, T).

    Parameters
    ----------
    edges : numpy.ndarray
        int32 (E, 2), each once.
    types : numpy.ndarray
        Integers (N,), 0 to `n_types` - 1.
    n_types : int
        T.
    blocks : numpy.ndarray
        Integers (N,), block of each cell.
    n_blocks : int
        B.
    """
    types = types.astype(np.int64)
    both = np.concatenate([edges, edges[:, ::-1]])
    flat = (blocks[both[:, 0]] * n_types + types[both[:, 0]]) * n_types + types[both[:, 1]]
    return np.bincount(flat, minlength=n_blocks * n_types**2).reshape(n_blocks, n_types, n_types).astype(np.float64)


@dataclass(frozen=True)
class Enrichment:
    """Edges between types against what chance gives: all (T, T).

    Attributes
    ----------
    counts, expected, spread : numpy.ndarray
        Edges found (a type's own count twice), and mean and standard deviation over permutations of the types.
    """

    counts: NDArray[np.float64]
    expected: NDArray[np.float64]
    spread: NDArray[np.float64]


def permuted_edges(
    edges: NDArray[np.int32], types: NDArray[np.integer], n_types: int, permutations: int, seed: int
) -> NDArray[np.float64]:
    """Count edges by types for shuffled types: float64 (P, T, T), a type's own edges twice.

    Parameters
    ----------
    edges : numpy.ndarray
        int32 (E, 2), each once.
    types : numpy.ndarray
        Integers (N,), 0 to `n_types` - 1.
    n_types : int
        T.
    permutations : int
        P.
    seed : int
        Of the shuffles.
    """
    types = types.astype(np.uint8)
    seeds = np.random.default_rng(seed).spawn(permutations)

    def work(rng: np.random.Generator) -> NDArray[np.int64]:
        counts = np.zeros((n_types, n_types), np.int64)
        _count_edges(edges, rng.permutation(types), counts)
        return counts + counts.T

    with ThreadPoolExecutor(THREADS) as pool:
        return np.array(list(pool.map(work, seeds)), np.float64).reshape(permutations, n_types, n_types)


def enrich(counts: NDArray[np.float64], permuted: NDArray[np.float64]) -> Enrichment:
    """Compare counts (T, T) with those of permutations (P, T, T).

    Parameters
    ----------
    counts : numpy.ndarray
        float64 (T, T), a type's own edges twice.
    permuted : numpy.ndarray
        float64 (P, T, T), from `permuted_edges`.
    """
    return Enrichment(counts, permuted.mean(axis=0), permuted.std(axis=0))


@measure(
    "neighbourhood_z", "Neighbourhood enrichment, z", "standard deviations",
    "(edges between two types - mean over permutations) / standard deviation over permutations",
    source="Schapiro et al., Nature Methods 14 (2017); Palla et al., Nature Methods 19 (2022)", edge=_EDGE,
    caution="It grows with the number of cells: compare slides by the ratio.",
)  # fmt: skip
def neighbourhood_z(e: Enrichment) -> NDArray[np.float64]:
    """Z of the edges between types, (T, T)."""
    return ratio(e.counts - e.expected, e.spread)


@measure(
    "neighbourhood_ratio", "Neighbourhood enrichment, observed / expected", "ratio",
    "share of the first type's edges that lead to the second / share of all cells' edges that do",
    source="as neighbourhood_z; the expectation is that of shuffled types", edge=_EDGE,
    caution="1 says chance, given how many cells there are of each; types in compartments are never by chance.",
)  # fmt: skip
def neighbourhood_ratio(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Observed over expected, (..., T, T), from counts of directed edges of that shape."""
    total = counts.sum(axis=(-2, -1))[..., None, None]
    return ratio(counts * total, counts.sum(axis=-1)[..., :, None] * counts.sum(axis=-2)[..., None, :])


@measure(
    "mixing_score", "Mixing score of tumour and lymphocytes", "ratio",
    "edges between lymphocytes and tumour cells / edges between lymphocytes",
    source="Keren et al., Cell 174 (2018)", edge=_EDGE,
    caution="Few lymphocytes that lie apart make it large: read it with their number.",
)  # fmt: skip
def mixing_score(between: ArrayLike, among: ArrayLike) -> NDArray[np.float64]:
    """Mixing score, from edges counted once.

    Parameters
    ----------
    between : array
        Numbers of edges between lymphocytes and tumour cells.
    among : array
        Numbers of edges between two lymphocytes.
    """
    return ratio(between, among)


@measure(
    "cluster_median", "Median size of clusters of a type", "cells", "median over cells of the size of their cluster",
    source="connected components of the graph within a type", edge=_EDGE,
    caution="It depends on the length limit; one missed cell can cut a cluster in two.",
)  # fmt: skip
def cluster_median(sizes: NDArray[np.integer]) -> float:
    """Median, over cells, of the size of their cluster."""
    return float(np.median(sizes)) if len(sizes) else float("nan")


def clusters(edges: NDArray[np.int32], types: NDArray[np.integer]) -> NDArray[np.int32]:
    """Number the connected parts of the graph within each type: int32 (N,), from 0.

    Parameters
    ----------
    edges : numpy.ndarray
        int32 (E, 2).
    types : numpy.ndarray
        Integers (N,).
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    same = edges[types[edges[:, 0]] == types[edges[:, 1]]]
    n = len(types)
    links = coo_array((np.ones(len(same), np.bool_), (same[:, 0], same[:, 1])), shape=(n, n))
    numbers: NDArray[np.int32] = connected_components(links, directed=False)[1].astype(np.int32)
    return numbers


@kernel
def _count_edges(edges, types, counts):  # type: ignore[no-untyped-def]
    for e in range(len(edges)):
        counts[types[edges[e, 0]], types[edges[e, 1]]] += 1
