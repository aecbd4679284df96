"""One owner per nucleus: the tiles' nuclei put together, independent of the tiles' size and of who was done first.

A tile owns the nuclei whose centroid lies in its core. The same nucleus may look slightly different to two tiles, so
that its centroid falls into either core for both (it would be doubled), or into the other's for each (it would be
lost). Each tile therefore also offers the nuclei whose centroid lies just outside of its core; where nobody owns one
of these, the first tile that offers it gets it. All comparisons are of whole numbers: halves of pixels.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from cytolite.cells import CellTable
from cytolite.kernels import kernel
from cytolite.slides.tiles import Tile

# How far outside of its core a tile offers nuclei: more than two views of one nucleus ever differ.
BAND_UM = 4.0
# Outlines are compared on this many steps per pixel; their vertices lie on them.
_STEPS_PER_PX = 2


@dataclass(frozen=True)
class TileCells:
    """What one tile gives to the slide.

    Attributes
    ----------
    tile : Tile
        The tile.
    cells : CellTable
        In pixels of the tiles' grid; vertices are whole or half numbers, edges horizontal or vertical.
    owned : numpy.ndarray
        bool (N,); the others are only offered.
    """

    tile: Tile
    cells: CellTable
    owned: NDArray[np.bool_]


def own_or_offer(tile: Tile, cells: CellTable, band_px: float) -> TileCells:
    """Keep the nuclei whose centroid lies in the core of `tile`, or at most `band_px` outside of it.

    Parameters
    ----------
    tile : Tile
        Where the cells are of.
    cells : CellTable
        In px of the maps.
    band_px : float
        Width of the band along a seam in which nuclei are compared.
    """
    x0, y0, x1, y1 = tile.core
    x, y = cells.centroids.T
    owned = (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
    near = (x >= x0 - band_px) & (x < x1 + band_px) & (y >= y0 - band_px) & (y < y1 + band_px)
    return TileCells(tile, cells.select(near), owned[near])


def stitch(parts: Iterable[TileCells]) -> Iterator[CellTable]:
    """Yield the nuclei of the slide, tile after tile, each nucleus once.

    Parameters
    ----------
    parts : iterable of TileCells
        In the order of the tiles, row by row. Only three rows of tiles are held at a time.

    Yields
    ------
    CellTable
        The nuclei of one tile, in pixels of the tiles' grid.
    """
    before: list[_Placed] = []
    current: list[_Placed] = []
    for _, row in groupby(parts, key=lambda part: part.tile.core[1]):
        after: list[_Placed] = []
        for part in row:
            placed = _Placed(part)
            placed.drop_doubles([*placed.beside(current), *placed.beside(after)])
            after.append(placed)
        yield from _settle(before, current, after)
        before, current = current, after
    yield from _settle(before, current, [])


def _settle(before: list[_Placed], current: list[_Placed], after: list[_Placed]) -> Iterator[CellTable]:
    """Adopt what nobody owns in the `current` row, now that all who could own it are known."""
    for placed in current:
        placed.adopt_lost([other for row in (before, current, after) for other in placed.beside(row)])
    for placed in current:
        yield placed.part.cells.select(placed.kept)


@dataclass
class _Placed:
    """A tile's nuclei and which of them are kept so far."""

    part: TileCells
    kept: NDArray[np.bool_] = field(init=False)
    rings: NDArray[np.int64] = field(init=False)
    boxes: NDArray[np.int64] = field(init=False)
    extent: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        cells = self.part.cells
        self.kept = self.part.owned.copy()
        self.rings = np.rint(cells.vertices * _STEPS_PER_PX).astype(np.int64)
        starts = cells.offsets[:-1]
        if len(cells):
            low, high = (limit.reduceat(self.rings, starts) for limit in (np.minimum, np.maximum))
            self.boxes = np.hstack([low, high])
            self.extent = np.concatenate([low.min(axis=0), high.max(axis=0)])
        else:
            self.boxes, self.extent = np.empty((0, 4), np.int64), np.zeros(4, np.int64)

    def beside(self, row: list[_Placed]) -> list[_Placed]:
        """Return the tiles of a row, from left to right, that may show nuclei of this one: a giant slide has many."""
        left, _, right, _ = self.part.tile.read
        first = bisect_right(row, left, key=lambda other: other.part.tile.read[2])
        return row[first : bisect_left(row, right, lo=first, key=lambda other: other.part.tile.read[0])]

    def drop_doubles(self, earlier: list[_Placed]) -> None:
        """Give up owned nuclei that an earlier tile keeps too."""
        for other in earlier:
            rows = np.flatnonzero(self.kept)
            self.kept[rows[self._seen_by(other, rows)]] = False

    def adopt_lost(self, others: list[_Placed]) -> None:
        """Keep offered nuclei that no other tile keeps."""
        rows = np.flatnonzero(~self.part.owned)
        for other in others:
            if other is not self:
                rows = rows[~self._seen_by(other, rows)]
        self.kept[rows] = True

    def _seen_by(self, other: _Placed, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Which of `rows` show a nucleus that `other` keeps."""
        found = np.zeros(len(rows), np.bool_)
        near = _overlap(self.boxes[rows], other.extent)
        candidates = np.flatnonzero(_overlap(other.boxes, self.extent) & other.kept)
        if near.any() and len(candidates):
            found[near] = _same_nucleus(
                (self.rings, self.part.cells.offsets, self.boxes, rows[near]),
                (other.rings, other.part.cells.offsets, other.boxes, candidates),
            )
        return found


def _overlap(boxes: NDArray[np.int64], box: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the boxes (N, 4) share some area with one, all (x0, y0, x1, y1)."""
    shared: NDArray[np.bool_] = (
        (boxes[:, 0] < box[2]) & (boxes[:, 2] > box[0]) & (boxes[:, 1] < box[3]) & (boxes[:, 3] > box[1])
    )
    return shared


@kernel
def _same_nucleus(mine, others):  # type: ignore[no-untyped-def]
    """Return for each row of mine whether one of the others' is the same nucleus; (rings, offsets, boxes, rows) each.

    It is where they share more than 0.3 of their union, or more than half of the smaller one: a nucleus may be in two
    halves for one tile and whole for the other. Masks of one tile never overlap, so that neighbours are never taken
    for the same.
    """
    rings_a, offsets_a, boxes_a, rows_a = mine
    rings_b, offsets_b, boxes_b, rows_b = others
    found = np.zeros(len(rows_a), np.bool_)
    for i in range(len(rows_a)):
        a = boxes_a[rows_a[i]]
        ring_a = rings_a[offsets_a[rows_a[i]] : offsets_a[rows_a[i] + 1]]
        for j in rows_b:
            b = boxes_b[j]
            x0, y0, x1, y1 = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
            if x0 >= x1 or y0 >= y1:
                continue
            ring_b = rings_b[offsets_b[j] : offsets_b[j + 1]]
            shared = _in_both(_fill(ring_a, x0, y0, x1, y1), _fill(ring_b, x0, y0, x1, y1))
            area_a, area_b = _area(ring_a), _area(ring_b)
            if 10 * shared > 3 * (area_a + area_b - shared) or 2 * shared > min(area_a, area_b):
                found[i] = True
                break
    return found


@kernel
def _in_both(a, b):  # type: ignore[no-untyped-def]
    """Count the pixels that are 1 in both."""
    count = np.int64(0)
    for r in range(a.shape[0]):
        for c in range(a.shape[1]):
            count += a[r, c] & b[r, c]
    return count


@kernel
def _area(ring):  # type: ignore[no-untyped-def]
    """Area of a ring of horizontal and vertical edges, px."""
    total = np.int64(0)
    before = len(ring) - 1
    for i in range(len(ring)):
        total += ring[i, 0] * (ring[i, 1] - ring[before, 1])  # vertical edges only: elsewhere y does not change
        before = i
    return abs(total)


@kernel
def _fill(ring, x0, y0, x1, y1):  # type: ignore[no-untyped-def]
    """Return uint8 (y1 - y0, x1 - x0): 1 at the window's pixels inside the ring."""
    pixels = np.zeros((y1 - y0, x1 - x0), np.uint8)
    before = len(ring) - 1
    for i in range(len(ring)):
        x = ring[i, 0]
        if x == ring[before, 0] and x < x1:
            low, high = min(ring[i, 1], ring[before, 1]), max(ring[i, 1], ring[before, 1])
            for y in range(max(low, y0), min(high, y1)):
                pixels[y - y0, max(x, x0) - x0] ^= 1
        before = i
    for row in pixels:
        for column in range(1, len(row)):
            row[column] ^= row[column - 1]
    return pixels
