"""Slides read through OpenSlide: NDPI, MRXS, SCN, BIF, CZI, Philips and the others that only it knows."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import openslide
from numpy.typing import NDArray

from cytolite.errors import SlideError
from cytolite.files import to_number
from cytolite.kernels import kernel
from cytolite.slides.levels import CACHE_BYTES, Level, Pyramid, Scan, TileCache, TiledLevel

_BLOCK_PX = 512
# Properties in which makers name the model of a scanner.
_MODELS = (
    "hamamatsu.Product",
    "leica.device-model",
    "philips.DICOM_MANUFACTURERS_MODEL_NAME",
    "tiff.Model",
    "ventana.ScannerModel",
)


def detect(path: Path) -> str | None:
    """Return OpenSlide's name for the format of a file, or None where it knows none."""
    try:
        return openslide.OpenSlide.detect_format(str(path))
    except openslide.OpenSlideError:
        return None


def open_openslide(path: Path, *, in_blocks: bool = False) -> Pyramid:
    """Open a slide through OpenSlide.

    Where OpenSlide gives bounds (the scanned part of an MRXS or SCN canvas) the slide is that part: level-0
    coordinates count from its corner, as in QuPath.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    in_blocks : bool
        Read all levels in fixed blocks, so that what is damaged can be told from what is not.

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
    levels = [
        _level(_OpenSlideLevel(path, slide, number, bounds), number, cache, in_blocks)
        for number in range(slide.level_count)
    ]
    vendor = slide.properties.get(openslide.PROPERTY_NAME_VENDOR, "openslide")
    return Pyramid(vendor, levels, _mpp(slide), slide.close, scan=_scan(slide, vendor))


def _scan(slide: openslide.OpenSlide, vendor: str) -> Scan:
    power = None
    with suppress(KeyError, ValueError):
        power = to_number(slide.properties[openslide.PROPERTY_NAME_OBJECTIVE_POWER])
    model = next((slide.properties[name] for name in _MODELS if name in slide.properties), "")
    return Scan(" ".join(filter(None, (vendor.capitalize(), model.strip()))), power)


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
    properties = slide.properties
    for x, y in ((openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y), ("aperio.MPP", "aperio.MPP")):
        with suppress(KeyError, ValueError):
            return to_number(properties[x]), to_number(properties[y])
    return None


def _level(level: _OpenSlideLevel, number: int, cache: TileCache, in_blocks: bool) -> Level:
    """Return a level, in blocks where OpenSlide's downsample is not whole.

    There a region's corner falls between level pixels, and OpenSlide interpolates by the fraction: each read would
    see another image. Fixed blocks make it one image again.
    """
    if level.downsample.is_integer() and not in_blocks:
        return level

    def decode(row: int, col: int) -> NDArray[np.uint8]:
        x, y = col * _BLOCK_PX, row * _BLOCK_PX
        return level.read(x, y, min(_BLOCK_PX, level.width - x), min(_BLOCK_PX, level.height - y))

    return TiledLevel((level.width, level.height), (_BLOCK_PX, _BLOCK_PX), decode, cache, number)


class _OpenSlideLevel:
    """A level as OpenSlide gives it."""

    def __init__(self, path: Path, slide: openslide.OpenSlide, number: int, bounds: tuple[int, int, int, int]) -> None:
        self._path, self._slide, self._number = path, slide, number
        self.downsample = slide.level_downsamples[number]
        self._x, self._y = bounds[:2]
        full_width, full_height = slide.level_dimensions[number]
        # The bounds, cut like a level; never past the level itself.
        self.width = min(full_width, max(1, round(bounds[2] / self.downsample)))
        self.height = min(full_height, max(1, round(bounds[3] / self.downsample)))

    def read(self, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Return a region that lies within the level, uint8 (height, width, 3); unscanned parts are white."""
        corner = (self._x + round(x * self.downsample), self._y + round(y * self.downsample))
        try:
            region = self._slide.read_region(corner, self._number, (width, height))
        except openslide.OpenSlideError:
            # After its first error OpenSlide refuses all reads, also those of other parts: ask a fresh one.
            try:
                with openslide.OpenSlide(str(self._path)) as fresh:
                    region = fresh.read_region(corner, self._number, (width, height))
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
