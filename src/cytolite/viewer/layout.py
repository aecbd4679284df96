"""How cells are laid out for the browser: squares of the slide, and bytes of a point."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Points are drawn chunk by chunk where they are in view; outlines are fetched tile by tile when one is near.
CHUNK_PX, OUTLINE_TILE_PX = 4096, 1024
# `shade` is the browser's: the step of the colour of what it colours by.
POINT = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("type", "u1"), ("certainty", "u1"), ("shade", "u1"), ("pad", "u1"), ("row", "<u4")]
)
# Values that are coloured come as steps from their least to their most; this one is of cells that have none.
STEPS, UNKNOWN = 254, 255


def by_tile(xy: NDArray[np.float64], tile_px: int) -> tuple[NDArray[np.int64], dict[tuple[int, int], tuple[int, int]]]:
    """Sort points by the square that they lie in.

    Parameters
    ----------
    xy : numpy.ndarray
        float64 (N, 2), level-0 px; what lies left of or above the slide counts to its first squares.
    tile_px : int
        Side of a square.

    Returns
    -------
    order : numpy.ndarray
        int64 (N,): the points, square by square, within one in the order given.
    tiles : dict
        (column, row) to the start and stop of its points in `order`.
    """
    column, row = np.maximum(0, np.floor(xy / tile_px).astype(np.int64)).T
    wide = int(column.max(initial=0)) + 1
    key = row * wide + column
    order = np.argsort(key, kind="stable")
    keys, starts, counts = np.unique(key[order], return_index=True, return_counts=True)
    tiles = {
        (int(k % wide), int(k // wide)): (int(start), int(start + count))
        for k, start, count in zip(keys, starts, counts, strict=True)
    }
    return order, tiles
