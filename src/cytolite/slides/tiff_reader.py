"""TIFF: plain, tiled, pyramidal, OME-TIFF and Aperio SVS, decoded tile by tile without OpenSlide."""

from __future__ import annotations

import logging
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from cytolite.errors import SlideError
from cytolite.slides.levels import (
    MAX_WHOLE_PX,
    ArrayLevel,
    Level,
    Pyramid,
    TileCache,
    TiledLevel,
    drop_alpha,
    too_large,
    unsupported,
)
from cytolite.slides.tiff_resolution import tiff_mpp

# A strip larger than this is not worth decoding again for each read: the image is then decoded once.
_MAX_STRIP_PX = 16_000_000
_RGB, _YCBCR, _GREY = tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR, (0, 1)
_JPEG = (6, 7, 34892)
_APERIO_JP2000_YCBCR = 33003
_DESCRIPTION = 270
_NOT_SCANS = ("label", "macro", "thumbnail", "overview")
_DAMAGE = (tifffile.TiffFileError, OSError, ValueError, RuntimeError, IndexError, KeyError, TypeError, struct.error)

# What tifffile logs about a damaged file, the errors here say in a sentence.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def open_tiff(path: Path, vendor: str | None) -> Pyramid | None:
    """Open a TIFF.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    vendor : str or None
        What OpenSlide takes it for: ``"aperio"``, ``"generic-tiff"`` or nothing.

    Returns
    -------
    Pyramid or None
        None for the few Aperio files that are better left to OpenSlide (tiles that were never scanned, JPEG 2000
        in YCbCr).

    Raises
    ------
    SlideError
        If the file is damaged, or is not 8-bit RGB.
    """
    try:
        tiff = tifffile.TiffFile(path)
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    try:
        pyramid = _pyramid(path, tiff, vendor)
    except SlideError:
        tiff.close()
        raise
    except _DAMAGE as error:
        tiff.close()
        raise _damaged(path, error) from error
    if pyramid is None:
        tiff.close()
    return pyramid


def _damaged(path: Path, error: Exception) -> SlideError:
    return SlideError(f"{path} is a damaged or truncated TIFF ({error}): copy or export it again.")


def _pyramid(path: Path, tiff: tifffile.TiffFile, vendor: str | None) -> Pyramid | None:
    series = _main_series(tiff)
    _check_axes(path, series)
    pages = [_page(level) for level in series.levels]
    for page in pages:
        _check_page(path, page)
    if vendor == "aperio" and any(_for_openslide(page) for page in pages):
        return None
    _check_complete(path, tiff, pages)
    file = _SharedFile(path)
    cache = TileCache()
    levels = [_level(path, file, page, cache, number) for number, page in enumerate(pages)]

    def close() -> None:
        file.close()
        tiff.close()

    kind = "ome-tiff" if tiff.is_ome else vendor if vendor == "aperio" else "tiff"
    return Pyramid(kind, levels, tiff_mpp(tiff, pages[0]), close)


def _main_series(tiff: tifffile.TiffFile) -> tifffile.TiffPageSeries:
    """Return the largest image that is not the label's or the macro camera's: that may be larger than a small scan."""

    def area(series: tifffile.TiffPageSeries) -> int:
        sizes = dict(zip(series.axes, series.shape, strict=True))
        return int(sizes.get("Y", 0) * sizes.get("X", 0))

    scans = [series for series in tiff.series if not any(word in series.name.lower() for word in _NOT_SCANS)]
    return max(scans or tiff.series, key=area)


def _page(series: tifffile.TiffPageSeries) -> tifffile.TiffPage:
    page = series.pages[0]
    if page is None:
        raise ValueError("its main image is missing")
    return page.aspage()


def _check_axes(path: Path, series: tifffile.TiffPageSeries) -> None:
    """Refuse what is more than one RGB image: channels, stacks, time series."""
    sizes = {axis: size for axis, size in zip(series.axes, series.shape, strict=True) if size > 1}
    rest = {axis: size for axis, size in sizes.items() if axis not in "YXS"}
    if "C" in rest:
        raise unsupported(path, f"{rest['C']} separate channels (fluorescence?)")
    if rest:
        count = int(np.prod(list(rest.values())))
        raise unsupported(path, f"a stack of {count} images (axes {series.axes})")


def _check_page(path: Path, page: tifffile.TiffPage) -> None:
    samples, photometric = page.samplesperpixel, page.photometric
    if page.dtype is not None and page.dtype.kind == "f":
        raise unsupported(path, "floating-point pixels")
    if page.dtype != np.uint8 or page.bitspersample != 8:
        raise unsupported(path, f"{page.bitspersample}-bit pixels")
    if samples == 1 and photometric in _GREY:
        raise unsupported(path, "grey pixels")
    if photometric == tifffile.PHOTOMETRIC.SEPARATED:
        raise unsupported(path, "CMYK colours")
    # Only JPEG's own YCbCr comes out of its codec as RGB.
    is_rgb = photometric == _RGB or (photometric == _YCBCR and page.compression in _JPEG)
    if not is_rgb or samples not in (3, 4):
        raise unsupported(path, f"{samples} samples per pixel of kind {tifffile.PHOTOMETRIC(photometric).name}")


def _for_openslide(page: tifffile.TiffPage) -> bool:
    return page.compression == _APERIO_JP2000_YCBCR or 0 in page.databytecounts


def _check_complete(path: Path, tiff: tifffile.TiffFile, pages: list[tifffile.TiffPage]) -> None:
    """Refuse a file that ends before its pixels do, now and not in the middle of a slide."""
    size = path.stat().st_size
    end = max(
        offset + count for page in pages for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
    )
    # Without a word tifffile drops a page or a description (with the resolution) that lies past the end.
    _, following = _directory(tiff, tiff.pages[-1].offset)
    codes, _ = _directory(tiff, pages[0].offset)
    if end > size or following > size or (_DESCRIPTION in codes and _DESCRIPTION not in pages[0].tags):
        needed = max(end, following, size + 1)
        raise SlideError(f"{path} is truncated: it has {size:,} bytes of at least {needed:,}; copy it again.")


def _directory(tiff: tifffile.TiffFile, offset: int) -> tuple[set[int], int]:
    """Return the codes of a page's tags and the offset of the page after it (0 after the last), as the file says."""
    handle, form = tiff.filehandle, tiff.tiff
    handle.seek(offset)
    (count,) = struct.unpack(form.tagnoformat, handle.read(form.tagnosize))
    tags = handle.read(count * form.tagsize)
    (following,) = struct.unpack(form.offsetformat, handle.read(form.offsetsize))
    codes = {struct.unpack_from(form.byteorder + "H", tags, i * form.tagsize)[0] for i in range(count)}
    return codes, int(following)


class _SharedFile:
    """A file that several threads read from, one short read at a time."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._lock = threading.Lock()

    def read(self, offset: int, count: int) -> bytes:
        with self._lock:
            self._file.seek(offset)
            data = self._file.read(count)
        if len(data) < count:
            raise EOFError("the file ends before these pixels")
        return data

    def close(self) -> None:
        self._file.close()


def _level(path: Path, file: _SharedFile, page: tifffile.TiffPage, cache: TileCache, number: int) -> Level:
    width, height = page.imagewidth, page.imagelength
    if page.is_tiled:
        tile_width, tile_height = page.tilewidth, page.tilelength
    elif page.is_memmappable:
        return ArrayLevel(_mapped(path, page))
    else:
        tile_width, tile_height = width, min(page.rowsperstrip, height)
        if tile_width * tile_height > _MAX_STRIP_PX:
            if width * height > MAX_WHOLE_PX:
                raise too_large(path, width, height)
            pixels = page.asarray()
            return ArrayLevel(np.moveaxis(pixels, 0, -1) if _is_planar(page) else pixels)
    decode = _decoder(file, page, -(-width // tile_width), -(-height // tile_height))
    return TiledLevel((width, height), (tile_width, tile_height), decode, cache, number)


def _is_planar(page: tifffile.TiffPage) -> bool:
    return page.planarconfig == tifffile.PLANARCONFIG.SEPARATE


def _mapped(path: Path, page: tifffile.TiffPage) -> NDArray[np.uint8]:
    """Map uncompressed pixels that lie in one piece, (H, W, samples)."""
    size = (page.imagelength, page.imagewidth)
    shape = (page.samplesperpixel, *size) if _is_planar(page) else (*size, page.samplesperpixel)
    pixels = np.memmap(path, np.uint8, "r", page.dataoffsets[0], shape)
    return np.moveaxis(pixels, 0, -1) if _is_planar(page) else pixels


def _decoder(
    file: _SharedFile, page: tifffile.TiffPage, cols: int, rows: int
) -> Callable[[int, int], NDArray[np.uint8]]:
    """Return the function that decodes the tile or strip at (row, column) of a page."""
    decode_segment, tables = page.decode, page.jpegtables
    offsets, counts = page.dataoffsets, page.databytecounts
    shape = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)

    def segment(index: int) -> NDArray[np.uint8] | None:
        if counts[index] == 0:
            return None
        data = file.read(offsets[index], counts[index])
        pixels = decode_segment(data, index, jpegtables=tables)[0]
        return None if pixels is None else np.asarray(pixels[0], np.uint8)

    def decode(row: int, col: int) -> NDArray[np.uint8]:
        index = row * cols + col
        if _is_planar(page):
            planes = [segment(index + plane * rows * cols) for plane in range(page.samplesperpixel)]
            parts = [plane for plane in planes if plane is not None]
            pixels = np.concatenate(parts, axis=2) if len(parts) == len(planes) else None
        else:
            pixels = segment(index)
        # A tile that was never written: nothing was scanned there.
        return np.full((*shape, 3), 255, np.uint8) if pixels is None else drop_alpha(pixels)

    return decode
