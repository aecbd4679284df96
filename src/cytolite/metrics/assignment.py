"""Pairings of least cost, by shortest augmenting paths (Jonker and Volgenant 1987, as Crouse 2016 states it).

Written here because scipy, which has the same algorithm, is no part of the base install.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cytolite.kernels import kernel


def assign(cost: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pair rows with columns, as many as the shorter side has, so that the sum of costs is least.

    Parameters
    ----------
    cost : numpy.ndarray
        float64 (n, m), finite.

    Returns
    -------
    rows, columns : numpy.ndarray
        int64 (min(n, m),), rows ascending.
    """
    if not cost.size:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    if cost.shape[0] <= cost.shape[1]:
        return np.arange(cost.shape[0]), _assign(np.ascontiguousarray(cost, np.float64))
    rows = _assign(np.ascontiguousarray(cost.T, np.float64))
    order = np.argsort(rows)
    return rows[order], order


def assign_in_parts(
    rows: NDArray[np.int64], columns: NDArray[np.int64], gain: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Choose pairs, each row and column in one at most, whose gains have the largest sum.

    Rows and columns that no chain of pairs connects do not influence each other, and are solved apart.

    Parameters
    ----------
    rows, columns : numpy.ndarray
        int64 (k,), the pairs that exist.
    gain : numpy.ndarray
        float64 (k,), above 0.

    Returns
    -------
    numpy.ndarray
        int64, positions of the chosen pairs.
    """
    if not len(rows):
        return np.empty(0, np.int64)
    part = _connect(rows, columns)
    order = np.argsort(part, kind="stable")
    bounds = [0, *(np.flatnonzero(np.diff(part[order])) + 1), len(order)]
    chosen = []
    for start, stop in pairwise(bounds):
        pairs = order[start:stop]
        if len(pairs) == 1:
            chosen.append(pairs)
            continue
        row_ids, r = np.unique(rows[pairs], return_inverse=True)
        column_ids, c = np.unique(columns[pairs], return_inverse=True)
        table = np.zeros((len(row_ids), len(column_ids)))
        table[r, c] = gain[pairs]
        where = np.full(table.shape, -1)
        where[r, c] = pairs
        found = where[assign(-table)]
        chosen.append(found[found >= 0])
    return np.concatenate(chosen)


@kernel
def _assign(cost):  # type: ignore[no-untyped-def]  # noqa: PLR0912 - one algorithm
    """Return the column of each row; there are at least as many columns as rows."""
    n, m = cost.shape
    row_price, column_price = np.zeros(n), np.zeros(m)
    row_of, column_of = np.full(m, -1), np.full(n, -1)
    reached_from = np.empty(m, np.int64)
    for start in range(n):
        length = np.full(m, np.inf)
        seen_row, seen_column = np.zeros(n, np.bool_), np.zeros(m, np.bool_)
        least, row, end = 0.0, start, -1
        while end < 0:
            seen_row[row] = True
            nearest, lowest = -1, np.inf
            for column in range(m):
                if seen_column[column]:
                    continue
                through = least + cost[row, column] - row_price[row] - column_price[column]
                if through < length[column]:
                    length[column] = through
                    reached_from[column] = row
                # Of equal ones a free column ends the search.
                if length[column] < lowest or (length[column] == lowest and row_of[column] < 0):
                    lowest, nearest = length[column], column
            least = lowest
            seen_column[nearest] = True
            if row_of[nearest] < 0:
                end = nearest
            else:
                row = row_of[nearest]
        row_price[start] += least
        for i in range(n):
            if seen_row[i] and i != start:
                row_price[i] += least - length[column_of[i]]
        for j in range(m):
            if seen_column[j]:
                column_price[j] -= least - length[j]
        column = end
        while True:
            row = reached_from[column]
            row_of[column] = row
            column, column_of[row] = column_of[row], column
            if row == start:
                break
    return column_of


@kernel
def _connect(rows, columns):  # type: ignore[no-untyped-def]
    """Number the connected parts of a graph between rows and columns: int64 (k,), the part of each pair."""
    n = rows.max() + 1
    parent = np.arange(n + columns.max() + 1)
    for k in range(len(rows)):
        a, b = rows[k], n + columns[k]
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        parent[max(a, b)] = min(a, b)
    part = np.empty(len(rows), np.int64)
    for k in range(len(rows)):
        a = rows[k]
        while parent[a] != a:
            a = parent[a]
        part[k] = a
    return part
