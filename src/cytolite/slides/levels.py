"""Levels: what every format is reduced to, a pyramid of images that give any of their regions as RGB."""

from __future__ import annotations

import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
        """Return a region that lies within the level, uint8 (height, width, 3).

        Parameters
        ----------
        x, y : int
            Left and top, px of the level.
        width, height : int
            Size, px of the level.
        """
        ...


@dataclass(frozen=True)
class Scan:
    """What a file says of how it was scanned; nothing of when, where, by whom, or of whom.

    Attributes
    ----------
    scanner : str
        Maker and model; empty if the file does not say.
    magnification : float, or None
        Of the objective.
    """

    scanner: str = ""
    magnification: float | None = None


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
    scene : str
        Which of several images of the file this is; empty where there is one.
    other_scenes : tuple of str
        The others.
    scan : Scan
        What it was scanned with.
    """

    format: str
    levels: Sequence[Level]
    mpp: tuple[float, float] | None
    close: Callable[[], None]
    scene: str = ""
    other_scenes: tuple[str, ...] = ()
    scan: Scan = field(default_factory=Scan)


# What decoding a damaged file raises in the libraries that do it (codecs raise RuntimeError and its children).
DECODE_ERRORS = (OSError, ValueError, RuntimeError, EOFError, IndexError, struct.error)


class DamagedTileError(ValueError):
    """A tile of a file that cannot be decoded; `place` is its x, y, width and height in px of its level."""

    def __init__(self, place: tuple[int, int, int, int], error: Exception) -> None:
        super().__init__(str(error))
        self.place = place


def unsupported(path: Path, what: str) -> SlideError:
    """Return the error for a file that can be read but is not an 8-bit RGB image.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    what : str
        What is not supported of it.
    """
    return SlideError(f"{path} holds {what}; 8-bit RGB is needed: export the image as 8-bit RGB and give that file.")


def too_large(path: Path, width: int, height: int) -> SlideError:
    """Return the error for an image that would have to be decoded whole and does not fit.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    width, height : int
        Of the image, px.
    """
    return SlideError(
        f"{path} has {width} x {height} pixels that can only be decoded all at once, more than the "
        f"{MAX_WHOLE_PX // 1_000_000} million allowed: convert it to a tiled TIFF and give that."
    )


def over_white(pixels: NDArray[np.uint8], *, associated: bool = False) -> NDArray[np.uint8]:
    """Return the RGB of uint8 (H, W, 3 or 4) pixels, transparent ones on white ground as OpenSlide shows them.

    Parameters
    ----------
    pixels : numpy.ndarray
        RGB or RGBA.
    associated : bool
        Whether the colours were multiplied by the opacity already, as TIFF may have it.
    """
    if pixels.shape[2] == 3 or pixels[..., 3].min(initial=255) == 255:
        return pixels[..., :3]
    colour, alpha = pixels[..., :3].astype(np.uint16), pixels[..., 3:].astype(np.uint16)
    ground = 255 - alpha
    shown = colour + ground if associated else (colour * alpha + 255 * ground + 127) // 255
    opaque: NDArray[np.uint8] = np.minimum(shown, 255).astype(np.uint8)
    return opaque


class ArrayLevel:
    """A level that lies in memory or is mapped from a file: uint8 (H, W, 3 or 4); see `over_white`."""

    def __init__(self, pixels: NDArray[np.uint8], *, associated: bool = False) -> None:
        self._pixels, self._associated = pixels, associated
        self.height, self.width = pixels.shape[:2]

    def read(self, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Return a region that lies within the level, uint8 (height, width, 3).

        Parameters
        ----------
        x, y : int
            Left and top, px of the level.
        width, height : int
            Size, px of the level.
        """
        part = self._pixels[y : y + height, x : x + width]
        return np.ascontiguousarray(over_white(part, associated=self._associated))


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
        """Return the tile of `key` (level, row, column), decoding it outside of the lock if it is not held.

        Parameters
        ----------
        key : tuple
            Level, row and column.
        decode : callable
            Returns the tile, uint8 (h, w, 3), of a row and a column.
        """
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

    Attributes
    ----------
    on_damage : callable, optional
        Called with the place (x, y, width, height) of a tile that cannot be decoded, which is then white; without it
        such a tile is a `DamagedTileError`.
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
        self.on_damage: Callable[[tuple[int, int, int, int]], None] | None = None

    def read(self, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Return a region that lies within the level, uint8 (height, width, 3).

        Parameters
        ----------
        x, y : int
            Left and top, px of the level.
        width, height : int
            Size, px of the level.
        """
        out = np.empty((height, width, 3), np.uint8)
        for row in range(y // self._tile_height, -(-(y + height) // self._tile_height)):
            top = row * self._tile_height
            y0, y1 = max(y, top), min(y + height, top + self._tile_height)
            for col in range(x // self._tile_width, -(-(x + width) // self._tile_width)):
                left = col * self._tile_width
                x0, x1 = max(x, left), min(x + width, left + self._tile_width)
                tile = self._cache.get((self._number, row, col), self._decode_or_tell)
                out[y0 - y : y1 - y, x0 - x : x1 - x] = tile[y0 - top : y1 - top, x0 - left : x1 - left]
        return out

    def _decode_or_tell(self, row: int, col: int) -> NDArray[np.uint8]:
        try:
            return self._decode(row, col)
        except DECODE_ERRORS as error:
            x, y = col * self._tile_width, row * self._tile_height
            place = (x, y, min(self._tile_width, self.width - x), min(self._tile_height, self.height - y))
            if self.on_damage is None:
                raise DamagedTileError(place, error) from error
            self.on_damage(place)
            return np.full((self._tile_height, self._tile_width, 3), 255, np.uint8)
