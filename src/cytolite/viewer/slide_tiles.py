"""A slide as JPEG tiles, made when they are asked for."""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytolite.errors import InputError
from cytolite.slides.levels import TileCache
from cytolite.slides.reader import Slide

TILE_PX = 512
_QUALITY = 85
_CACHE_BYTES = 96 * 2**20


class SlideTiles:
    """Tiles of `TILE_PX` of a pyramid whose level z has ``2 ** z`` level-0 px per pixel, whatever the file's own is.

    Safe to ask from several threads; holds the JPEGs made last.
    """

    def __init__(self, slide: Slide) -> None:
        self.slide = slide
        longest = max(slide.width_px, slide.height_px)
        self.levels = 1 + max(0, math.ceil(math.log2(longest / TILE_PX)))
        self._cache = TileCache(_CACHE_BYTES)

    def jpeg(self, level: int, column: int, row: int) -> bytes:
        """Return a tile; at the slide's right and bottom it is cut.

        Parameters
        ----------
        level : int
            0 is the smallest.
        column, row : int
            Of the tile.

        Raises
        ------
        InputError
            If there is no such tile.
        SlideError
            If the slide cannot be read there.
        """
        slide = self.slide
        scale = 2 ** min(max(level, 0), self.levels)
        left, top = column * TILE_PX * scale, row * TILE_PX * scale
        if not (0 <= level < self.levels and 0 <= left < slide.width_px and 0 <= top < slide.height_px):
            raise InputError(f"The slide has no tile {column}, {row} at level {level}.")

        def make(row: int, column: int) -> NDArray[np.uint8]:
            width = min(TILE_PX, math.ceil((slide.width_px - left) / scale))
            height = min(TILE_PX, math.ceil((slide.height_px - top) / scale))
            file = io.BytesIO()
            pixels = slide.read(left, top, width, height, slide.mpp * scale)
            Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY)
            return np.frombuffer(file.getvalue(), np.uint8)

        return self._cache.get((level, row, column), make).tobytes()
