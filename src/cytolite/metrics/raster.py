"""Outlines to an instance map."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytolite.cells import CellTable
from cytolite.kernels import kernel


def to_labels(cells: CellTable, shape: tuple[int, int], scale: tuple[float, float] = (1.0, 1.0)) -> NDArray[np.int32]:
    """Fill outlines, pixel by pixel centre.

    Parameters
    ----------
    cells : CellTable
        Nuclei; number i gets the id i + 1. Where two overlap, the smaller one stays on top.
    shape : tuple of int
        Rows and columns of the map.
    scale : tuple of float
        Pixels of the map per pixel of the outlines, in (x, y).

    Returns
    -------
    numpy.ndarray
        int32 (H, W), 0 = background.
    """
    labels = np.zeros(shape, np.int32)
    order = np.argsort(-cells.area_um2, kind="stable")
    _fill(labels, np.ascontiguousarray(cells.vertices * np.array(scale)), cells.offsets, order)
    return labels


@kernel
def _fill(labels, vertices, offsets, order):  # type: ignore[no-untyped-def]
    """Even-odd rule, row by row: a pixel is inside if an odd number of edges crosses its row left of its centre."""
    height, width = labels.shape
    for i in order:
        ring = vertices[offsets[i] : offsets[i + 1]]
        n = len(ring)
        crossings = np.empty(n)
        top, bottom = ring[:, 1].min(), ring[:, 1].max()
        for row in range(max(0, int(np.floor(top))), min(height, int(np.ceil(bottom)) + 1)):
            y = row + 0.5
            found = 0
            for k in range(n):
                x0, y0 = ring[k]
                x1, y1 = ring[(k + 1) % n]
                if (y0 <= y) != (y1 <= y):
                    crossings[found] = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
                    found += 1
            hits = np.sort(crossings[:found])
            for k in range(0, found - 1, 2):
                # Centres in [left, right): an edge that two nuclei share gives its pixels to one of them.
                first, last = int(np.ceil(hits[k] - 0.5)), int(np.ceil(hits[k + 1] - 0.5))
                for column in range(max(0, first), min(width, last)):
                    labels[row, column] = i + 1
