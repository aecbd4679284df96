"""Slides read through OpenSlide: NDPI, MRXS, SCN, BIF, CZI, Philips and the others that only it knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
from numpy.typing import NDArray

from cytolite.errors import SlideError
from cytolite.kernels import kernel
from cytolite.slides.levels import CACHE_BYTES, Level, Pyramid, TileCache, TiledLevel

_BLOCK_PX = 512


def detect(path: Path) -> str | None:
    """Return OpenSlide's name for the format of a file, or None where it knows none."""
    try:
        return openslide.OpenSlide.detect_format(str(path))
    except openslide.OpenSlideError:
        return None


def open_openslide(path: Path) -> Pyramid:
    """Open a slide through OpenSlide.

    Where OpenSlide gives bounds (the scanned part of an MRXS or SCN canvas) the slide is that part: level-0
    coordinates count from its corner, as in QuPath.

    Raises
    ------
    SlideError
        If OpenSlide cannot open the file.
    """
    try:
        slide = openslide.OpenSlide(str(path))
    except (openslide.OpenSlideError, OSError) as error:
        raise SlideError(f"{path} cannot be opened ({error}): the file seems damaged or is not supported.") from error
    slide.set_cache(openslide.OpenSlideCache(CACHE_BYTES))
    bounds = _bounds(slide)
    cache = TileCache()
    levels = [_level(slide, number, bounds, cache) for number in range(slide.level_count)]
    vendor = slide.properties.get(openslide.PROPERTY_NAME_VENDOR, "openslide")
    return Pyramid(vendor, levels, _mpp(slide), slide.close)


def _bounds(slide: openslide.OpenSlide) -> tuple[int, int, int, int]:
    """x, y, width and height of the scanned part, in OpenSlide's level-0 px."""
    names = (
        openslide.PROPERTY_NAME_BOUNDS_X,
        openslide.PROPERTY_NAME_BOUNDS_Y,
        openslide.PROPERTY_NAME_BOUNDS_WIDTH,
        openslide.PROPERTY_NAME_BOUNDS_HEIGHT,
    )
    try:
        x, y, width, height = (int(slide.properties[name]) for name in names)
    except (KeyError, ValueError):
        return 0, 0, *slide.dimensions
    return x, y, width, height


def _mpp(slide: openslide.OpenSlide) -> tuple[float, float] | None:
    try:
        return (
            float(slide.properties[openslide.PROPERTY_NAME_MPP_X]),
            float(slide.properties[openslide.PROPERTY_NAME_MPP_Y]),
        )
    except (KeyError, ValueError):
        return None


def _level(slide: openslide.OpenSlide, number: int, bounds: tuple[int, int, int, int], cache: TileCache) -> Level:
    """Return a level, in blocks where OpenSlide's downsample is not whole.

    There a region's corner falls between level pixels, and OpenSlide interpolates by the fraction: each read would
    see another image. Fixed blocks make it one image again.
    """
    level = _OpenSlideLevel(slide, number, bounds)
    if slide.level_downsamples[number].is_integer():
        return level

    def decode(row: int, col: int) -> NDArray[np.uint8]:
        x, y = col * _BLOCK_PX, row * _BLOCK_PX
        return level.read(x, y, min(_BLOCK_PX, level.width - x), min(_BLOCK_PX, level.height - y))

    return TiledLevel((level.width, level.height), (_BLOCK_PX, _BLOCK_PX), decode, cache, number)


class _OpenSlideLevel:
    """A level as OpenSlide gives it."""

    def __init__(self, slide: openslide.OpenSlide, number: int, bounds: tuple[int, int, int, int]) -> None:
        self._slide, self._number = slide, number
        self._downsample = slide.level_downsamples[number]
        self._x, self._y = bounds[:2]
        full_width, full_height = slide.level_dimensions[number]
        # The bounds, cut like a level; never past the level itself.
        self.width = min(full_width, max(1, round(bounds[2] / self._downsample)))
        self.height = min(full_height, max(1, round(bounds[3] / self._downsample)))

    def read(self, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Return a region that lies within the level, uint8 (height, width, 3); unscanned parts are white."""
        corner = (self._x + round(x * self._downsample), self._y + round(y * self._downsample))
        try:
            region = self._slide.read_region(corner, self._number, (width, height))
        except openslide.OpenSlideError as error:
            raise OSError(str(error)) from error
        out = np.empty((height, width, 3), np.uint8)
        _over_white(np.asarray(region), out)
        return out


@kernel
def _over_white(rgba: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            alpha = np.uint32(rgba[r, c, 3])
            for k in range(3):
                if alpha == 255:
                    out[r, c, k] = rgba[r, c, k]
                else:
                    out[r, c, k] = (rgba[r, c, k] * alpha + 255 * (255 - alpha) + 127) // 255
