"""Tiles: rectangles of a slide that are read and segmented one at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cytolite.errors import UsageError

# Networks halve the image up to five times: reads start and end on multiples of this, so that the same pixel meets
# the same sampling phase in whatever tile it lies, and gets the same result.
ALIGN_PX = 32
MIN_TILE_PX = 64

Rectangle = tuple[int, int, int, int]


@dataclass(frozen=True)
class Tile:
    """A part of a slide, in pixels of the network's maps; rectangles are (x0, y0, x1, y1), the end excluded.

    Attributes
    ----------
    index : int
        0, 1, ... in the order of `plan_tiles`.
    core : tuple of int
        What the tile answers for: the cores of all tiles cover the slide without overlap.
    read : tuple of int
        What is read: what is wanted of the core, and a halo around it. Starts and ends on multiples of `ALIGN_PX`;
        may reach beyond the slide, where reads are white.
    """

    index: int
    core: Rectangle
    read: Rectangle

    @property
    def width(self) -> int:
        """Of the read, px."""
        return self.read[2] - self.read[0]

    @property
    def height(self) -> int:
        """Of the read, px."""
        return self.read[3] - self.read[1]


def plan_tiles(
    width: int,
    height: int,
    tile: int,
    halo: int,
    wanted: Callable[[int, int, int, int], Rectangle | None] | None = None,
) -> list[Tile]:
    """Cut a slide into tiles, row by row.

    Parameters
    ----------
    width, height : int
        Of the slide, in pixels of the network's maps.
    tile : int
        Side of a core, px, at least 64; the last column and row may be smaller.
    halo : int
        Least margin of a read around its core, or around what is wanted of it, px.
    wanted : callable, optional
        ``wanted(x0, y0, x1, y1)`` of a core returns the part of it where cells are wanted (where tissue is), or None
        if there is none: it saves the network what is glass.

    Raises
    ------
    InputError
        If `tile` or `halo` is too small.
    """
    if tile < MIN_TILE_PX:
        raise UsageError(f"--tile {tile} is too small: {MIN_TILE_PX} px or more are allowed; 1024 is a good choice.")
    if halo < 0:
        raise UsageError(f"A halo of {halo} px is negative: 0 or more are allowed.")
    tiles: list[Tile] = []
    for y0 in range(0, height, tile):
        for x0 in range(0, width, tile):
            core = (x0, y0, min(x0 + tile, width), min(y0 + tile, height))
            part = core if wanted is None else wanted(*core)
            if part is not None:
                tiles.append(Tile(len(tiles), core, _read_around(part, halo)))
    return tiles


def _read_around(part: Rectangle, halo: int) -> Rectangle:
    """Return a rectangle with its halo, widened to multiples of `ALIGN_PX`."""
    x0, y0 = ((start - halo) // ALIGN_PX * ALIGN_PX for start in part[:2])
    x1, y1 = (-(-(end + halo) // ALIGN_PX) * ALIGN_PX for end in part[2:])
    return x0, y0, x1, y1
