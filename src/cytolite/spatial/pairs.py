"""Pairs of cells that lie near each other, counted by their types and their distance, without listing them.

One pass over all pairs within a reach serves K functions, co-occurrence and their intervals: the sums are kept apart by
the block of the first cell, so that blocks can be drawn again afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolite.kernels import kernel

THREADS = 2


@dataclass(frozen=True)
class Grid:
    """Points sorted into square bins whose side is the reach: neighbours are in nine of them."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    order: NDArray[np.intp]
    starts: NDArray[np.int64]
    rows: int
    cols: int
    reach: float

    @classmethod
    def of(cls, xy: NDArray[np.float64], reach: float) -> Grid:
        """Sort points (N, 2).

        Parameters
        ----------
        xy : numpy.ndarray
            float64 (N, 2), N at least 1.
        reach : float
            Side of a bin, in the unit of `xy`, above 0.
        """
        corner = xy.min(axis=0)
        col, row = np.floor((xy - corner) / reach).astype(np.int64).T
        rows, cols = int(row.max()) + 1, int(col.max()) + 1
        flat = row * cols + col
        order = np.argsort(flat, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(flat, minlength=rows * cols))])
        x, y = np.ascontiguousarray((xy[order] - corner).T)
        return cls(x, y, order, starts, rows, cols, float(reach))

    def split(self, work: Callable[[int, int], Any]) -> list[Any]:
        """Do work(first, last) on stretches of the sorted points, on threads; return what each gives."""
        edges = np.linspace(0, len(self.x), 4 * THREADS + 1).astype(int)
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(work, edges[:-1], edges[1:]))


def pair_sums(  # noqa: PLR0917
    xy: NDArray[np.float64],
    types: NDArray[np.integer],
    n_types: int,
    edges_um: NDArray[np.float64],
    covariance: tuple[NDArray[np.float64], float],
    blocks: NDArray[np.integer],
    n_blocks: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Count ordered pairs of cells by block and type of the first, type of the second, and distance.

    Parameters
    ----------
    xy : numpy.ndarray
        float64 (N, 2), um.
    types : numpy.ndarray
        Integers (N,), 0 to `n_types` - 1.
    n_types : int
        T.
    edges_um : numpy.ndarray
        float64 (K + 1,), rising, the first 0; a pair at distance d belongs to bin k if edges[k] < d <= edges[k + 1]
        (two cells in one place to bin 0).
    covariance : tuple
        Set covariance of the window, um2, and the side of its pixels, um (`Window.set_covariance`).
    blocks : numpy.ndarray
        Integers (N,), block of each cell.
    n_blocks : int
        B.

    Returns
    -------
    weighted : numpy.ndarray
        float64 (B, T, T, K): sums of 1 / set covariance at the pair's shift, 1/um2: translation correction.
    counts : numpy.ndarray
        float64 (B, T, T, K): plain counts.
    """
    grid = Grid.of(xy, edges_um[-1])
    sorted_types = types[grid.order].astype(np.int64)
    sorted_blocks = blocks[grid.order].astype(np.int64)
    inverse, px = _inverse(covariance), covariance[1]
    shape = (n_blocks, n_types, n_types, len(edges_um) - 1)

    def work(first: int, last: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        weighted, counts = np.zeros(shape), np.zeros(shape)
        _pairs(
            grid.x, grid.y, grid.starts, grid.rows, grid.cols, grid.reach, sorted_types, sorted_blocks,
            edges_um, inverse, px, first, last, weighted, counts,
        )  # fmt: skip
        return weighted, counts

    parts = grid.split(work)
    return sum(p[0] for p in parts), sum(p[1] for p in parts)


def _inverse(covariance: tuple[NDArray[np.float64], float]) -> NDArray[np.float64]:
    """1 / set covariance, at least a pixel: a pair at a window's far ends would weigh without bound."""
    area, px = covariance
    return 1 / np.maximum(area, px**2)


def relabelled_sums(  # noqa: PLR0917
    xy: NDArray[np.float64],
    labellings: NDArray[np.uint8],
    n_types: int,
    edges_um: NDArray[np.float64],
    covariance: tuple[NDArray[np.float64], float],
    first_cells: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Sum translation weights of ordered pairs for many labellings of the same cells at once.

    Parameters
    ----------
    xy, n_types, edges_um, covariance
        As of `pair_sums`.
    labellings : numpy.ndarray
        uint8 (N, P): the cells' types in each labelling.
    first_cells : numpy.ndarray
        bool (N,): cells that may be the first of a pair; fewer of them cost less.

    Returns
    -------
    numpy.ndarray
        float64 (P, T, T, K).
    """
    grid = Grid.of(xy, edges_um[-1])
    labels, firsts = np.ascontiguousarray(labellings[grid.order]), first_cells[grid.order]
    inverse, px = _inverse(covariance), covariance[1]
    shape = (labels.shape[1], n_types, n_types, len(edges_um) - 1)

    def work(first: int, last: int) -> NDArray[np.float64]:
        weighted = np.zeros(shape)
        _relabelled(
            grid.x, grid.y, grid.starts, grid.rows, grid.cols, grid.reach, labels, firsts,
            edges_um, inverse, px, first, last, weighted,
        )  # fmt: skip
        return weighted

    sums: NDArray[np.float64] = sum(grid.split(work))
    return sums


def neighbour_counts(
    xy: NDArray[np.float64], types: NDArray[np.integer], n_types: int, radii_um: NDArray[np.float64]
) -> NDArray[np.int32]:
    """Count, for each cell, the other cells of each type within each radius: int32 (N, T, R); radii rise.

    Parameters
    ----------
    xy : numpy.ndarray
        float64 (N, 2), um.
    types : numpy.ndarray
        Integers (N,), 0 to `n_types` - 1.
    n_types : int
        T.
    radii_um : numpy.ndarray
        float64 (R,), rising.
    """
    grid = Grid.of(xy, radii_um[-1])
    sorted_types = types[grid.order].astype(np.int64)
    found = np.zeros((len(xy), n_types, len(radii_um)), np.int32)

    def work(first: int, last: int) -> None:
        _neighbours(
            grid.x, grid.y, grid.starts, grid.rows, grid.cols, grid.reach, sorted_types, radii_um, first, last, found
        )

    grid.split(work)
    out = np.empty_like(found)
    out[grid.order] = found
    return np.cumsum(out, axis=2, dtype=np.int32)


@kernel
def _weight(inverse, cols, rows):  # type: ignore[no-untyped-def]
    """1 / set covariance at a shift in pixels; nearly linear between whole ones, where the covariance is."""
    u, v = rows + inverse.shape[0] // 2, cols + inverse.shape[1] // 2
    a, b = int(u), int(v)
    fu, fv = u - a, v - b
    upper = inverse[a, b] * (1 - fv) + inverse[a, b + 1] * fv
    lower = inverse[a + 1, b] * (1 - fv) + inverse[a + 1, b + 1] * fv
    return upper * (1 - fu) + lower * fu


@kernel
def _rows_near(y, rows, reach):  # type: ignore[no-untyped-def]
    row = int(y / reach)
    return max(0, row - 1), min(rows, row + 2)


@kernel
def _cells_near(x, row, starts, cols, reach):  # type: ignore[no-untyped-def]
    """First and last + 1 of the sorted points in a row of bins that can be within reach of an x."""
    col = int(x / reach)
    return starts[row * cols + max(0, col - 1)], starts[row * cols + min(cols - 1, col + 1) + 1]


@kernel
def _bin(edges, distance):  # type: ignore[no-untyped-def]
    return max(min(np.searchsorted(edges, distance), len(edges) - 1) - 1, 0)


@kernel
def _pairs(  # type: ignore[no-untyped-def]  # noqa: PLR0917
    x, y, starts, rows, cols, reach, types, blocks, edges, inverse, px, first, last, weighted, counts
):
    for i in range(first, last):
        first_row, last_row = _rows_near(y[i], rows, reach)
        for row in range(first_row, last_row):
            for j in range(*_cells_near(x[i], row, starts, cols, reach)):
                dx, dy = x[j] - x[i], y[j] - y[i]
                distance = np.sqrt(dx * dx + dy * dy)
                if j == i or distance > reach:
                    continue
                k = _bin(edges, distance)
                weighted[blocks[i], types[i], types[j], k] += _weight(inverse, dx / px, dy / px)
                counts[blocks[i], types[i], types[j], k] += 1


@kernel
def _relabelled(  # type: ignore[no-untyped-def]  # noqa: PLR0917
    x, y, starts, rows, cols, reach, labels, firsts, edges, inverse, px, first, last, weighted
):
    for i in range(first, last):
        if not firsts[i]:
            continue
        first_row, last_row = _rows_near(y[i], rows, reach)
        for row in range(first_row, last_row):
            for j in range(*_cells_near(x[i], row, starts, cols, reach)):
                dx, dy = x[j] - x[i], y[j] - y[i]
                distance = np.sqrt(dx * dx + dy * dy)
                if j == i or distance > reach:
                    continue
                k = _bin(edges, distance)
                weight = _weight(inverse, dx / px, dy / px)
                for p in range(labels.shape[1]):
                    weighted[p, labels[i, p], labels[j, p], k] += weight


@kernel
def _neighbours(x, y, starts, rows, cols, reach, types, radii, first, last, found):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    for i in range(first, last):
        first_row, last_row = _rows_near(y[i], rows, reach)
        for row in range(first_row, last_row):
            for j in range(*_cells_near(x[i], row, starts, cols, reach)):
                dx, dy = x[j] - x[i], y[j] - y[i]
                distance = np.sqrt(dx * dx + dy * dy)
                if j != i and distance <= reach:
                    found[i, types[j], np.searchsorted(radii, distance)] += 1
