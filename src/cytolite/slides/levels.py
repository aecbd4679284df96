"""Levels: what every format is reduced to, a pyramid of images that give any of their regions as RGB."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cytolite.errors import SlideError

CACHE_BYTES = 64 * 2**20
# An image that cannot be read in parts is decoded whole; 20,000 x 20,000 passes.
MAX_WHOLE_PX = 500_000_000


class Level(Protocol):
    """One image of a pyramid; reads may come from several threads at once."""

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        ...

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        ...

    def read(self, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Return a region that lies within the level, uint8 (height, width, 3)."""
        ...


@dataclass(frozen=True)
class Pyramid:
    """What a format reader makes of a file.

    Attributes
    ----------
    format : str
        Such as ``"aperio"``, ``"ome-tiff"``, ``"png"``.
    levels : sequence of Level
        Largest first.
    mpp : tuple of float, or None
        um per pixel of the largest level in x and y, as the file says, not yet judged.
    close : callable
        Gives the file back.
    """

    format: str
    levels: Sequence[Level]
    mpp: tuple[float, float] | None
    close: Callable[[], None]


TRANSPARENT = "an image (RGBA) with transparent pixels"


def unsupported(path: Path, what: str) -> SlideError:
    """Return the error for a file that can be read but is not an 8-bit RGB image."""
    return SlideError(f"{path} holds {what}; 8-bit RGB is needed: export the image as 8-bit RGB and give that file.")


def too_large(path: Path, width: int, height: int) -> SlideError:
    """Return the error for an image that would have to be decoded whole and does not fit."""
    return SlideError(
        f"{path} has {width} x {height} pixels that can only be decoded all at once, more than the "
        f"{MAX_WHOLE_PX // 1_000_000} million allowed: convert it to a tiled TIFF and give that."
    )


class TransparentPixelsError(ValueError):
    """Some pixels of an RGBA image are transparent: their colour would have to be guessed."""


def drop_alpha(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the RGB of uint8 (H, W, 3 or 4) pixels.

    Raises
    ------
    TransparentPixelsError
        If some of the pixels are transparent.
    """
    if pixels.shape[2] == 4 and pixels[..., 3].min(initial=255) < 255:
        raise TransparentPixelsError
    return pixels[..., :3]


class ArrayLevel:
    """A level that lies in memory or is mapped from a file: uint8 (H, W, 3 or 4)."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self._pixels = pixels
        self.height, self.width = pixels.shape[:2]

    def read(self, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Return a region that lies within the level, uint8 (height, width, 3)."""
        return np.ascontiguousarray(drop_alpha(self._pixels[y : y + height, x : x + width]))


class TileCache:
    """The tiles decoded last, shared by all levels and threads of a slide.

    Neighbouring reads overlap by their halos; without it the tiles there would be decoded twice.
    """

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._tiles: OrderedDict[tuple[int, int, int], NDArray[np.uint8]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[int, int, int], decode: Callable[[int, int], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Return the tile of `key` (level, row, column), decoding it outside of the lock if it is not held."""
        with self._lock:
            tile = self._tiles.get(key)
            if tile is not None:
                self._tiles.move_to_end(key)
                return tile
        tile = decode(key[1], key[2])
        with self._lock:
            if key not in self._tiles:
                self._tiles[key] = tile
                self._bytes += tile.nbytes
                while self._bytes > self._max_bytes and len(self._tiles) > 1:
                    self._bytes -= self._tiles.popitem(last=False)[1].nbytes
        return tile


class TiledLevel:
    """A level stored as a grid of tiles (or strips), decoded as they are needed.

    Parameters
    ----------
    size : (int, int)
        Width and height of the level.
    tile_size : (int, int)
        Width and height of a tile; those at the right and bottom may be smaller or padded.
    decode : callable
        (row, column) of the grid -> uint8 (h, w, 3).
    cache : TileCache
        Shared by the slide's levels.
    number : int
        Of the level in the pyramid; tells its tiles from those of the others in the cache.
    """

    def __init__(
        self,
        size: tuple[int, int],
        tile_size: tuple[int, int],
        decode: Callable[[int, int], NDArray[np.uint8]],
        cache: TileCache,
        number: int,
    ) -> None:
        self.width, self.height = size
        self._tile_width, self._tile_height = tile_size
        self._decode, self._cache, self._number = decode, cache, number

    def read(self, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Return a region that lies within the level, uint8 (height, width, 3)."""
        out = np.empty((height, width, 3), np.uint8)
        for row in range(y // self._tile_height, -(-(y + height) // self._tile_height)):
            top = row * self._tile_height
            y0, y1 = max(y, top), min(y + height, top + self._tile_height)
            for col in range(x // self._tile_width, -(-(x + width) // self._tile_width)):
                left = col * self._tile_width
                x0, x1 = max(x, left), min(x + width, left + self._tile_width)
                tile = self._cache.get((self._number, row, col), self._decode)
                out[y0 - y : y1 - y, x0 - x : x1 - x] = tile[y0 - top : y1 - top, x0 - left : x1 - left]
        return out
