"""TIFF: plain, tiled, pyramidal, OME-TIFF and Aperio SVS, decoded tile by tile without OpenSlide."""

from __future__ import annotations

import logging
import re
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from cytolite.errors import SlideError
from cytolite.slides.jpeg_check import require_whole_jpeg
from cytolite.slides.levels import (
    MAX_WHOLE_PX,
    ArrayLevel,
    Level,
    Pyramid,
    Scan,
    TileCache,
    TiledLevel,
    over_white,
    too_large,
    unsupported,
)
from cytolite.slides.tiff_resolution import channel_names, tiff_mpp

# A strip larger than this is not worth decoding again for each read: the image is then decoded once.
_MAX_STRIP_PX = 16_000_000
_RGB, _YCBCR, _GREY = tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR, (0, 1)
_JPEG = (6, 7, 34892)
_APERIO_JP2000_YCBCR = 33003
_DESCRIPTION = 270
_CHECKED_JPEG = (7, 34892)
# Names of the pictures that scanners take of the glass, as whole names: "unlabelled" is none.
_NOT_SCANS = re.compile(r"(slide[ _-]?)?(label|macro|thumbnail|overview)([ _-]?(image|photo|camera))?([ _-]?\d+)?")
# Of unnamed images of one file, those of one shape (to so much) are levels and previews of one scan.
_SAME_SHAPE = 0.02
_DAMAGE = (tifffile.TiffFileError, OSError, ValueError, RuntimeError, IndexError, KeyError, TypeError, struct.error)

# What tifffile logs about a damaged file, the errors here say in a sentence.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def open_tiff(path: Path, vendor: str | None, scene: str | None = None, rgb: bool = False) -> Pyramid | None:
    """Open a TIFF.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    vendor : str or None
        What OpenSlide takes it for: ``"aperio"``, ``"generic-tiff"`` or nothing.
    scene : str, optional
        Name or number (from 1) of the image to open; default: the largest that is no picture of the glass.
    rgb : bool
        Take three grey channels for red, green and blue, whatever they are called.

    Returns
    -------
    Pyramid or None
        None for the few Aperio files that are better left to OpenSlide (tiles that were never scanned, JPEG 2000
        in YCbCr).

    Raises
    ------
    SlideError
        If the file is damaged, is not 8-bit RGB, or has no such scene.
    """
    try:
        tiff = tifffile.TiffFile(path)
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    try:
        pyramid = _pyramid(path, tiff, vendor, scene, rgb)
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


def _pyramid(path: Path, tiff: tifffile.TiffFile, vendor: str | None, scene: str | None, rgb: bool) -> Pyramid | None:
    scenes = _scenes(tiff)
    names = [_title(series, number) for number, series in enumerate(scenes, start=1)]
    chosen = _choose(path, scenes, names, scene)
    series = scenes[chosen]
    channels = _channels(path, tiff, series, rgb)
    levels_pages = [[_page(level, channel) for channel in channels] for level in series.levels]
    pages = [page for level in levels_pages for page in level]
    for page in pages:
        _check_page(path, page, in_channels=len(channels) == 3)
    if vendor == "aperio" and any(_for_openslide(page) for page in pages):
        return None
    _check_complete(path, tiff, pages)
    file = _SharedFile(path)
    cache = TileCache()
    levels = [_level(path, file, level, cache, number) for number, level in enumerate(levels_pages)]

    def close() -> None:
        file.close()
        tiff.close()

    kind = "ome-tiff" if tiff.is_ome else vendor if vendor == "aperio" else "tiff"
    others = tuple(name for number, name in enumerate(names) if number != chosen)
    scene = names[chosen] if others else ""
    return Pyramid(kind, levels, tiff_mpp(tiff, pages[0]), close, scene, others, _scan(tiff, pages[0]))


def _scan(tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> Scan:
    """Read Aperio's and OME's notes of objective and microscope, and TIFF's own tags."""
    text = (tiff.ome_metadata if tiff.is_ome else page.description) or ""
    power = re.search(r'AppMag\s*=\s*([\d.]+)|NominalMagnification="([\d.]+)"', text)
    maker = [str(page.tags[tag].value).strip(" \0") for tag in ("Make", "Model") if tag in page.tags]
    if not maker and "Aperio" in text[:40]:
        maker = ["Aperio"]
    if not maker and (found := re.search(r"<Microscope[^>]*>", text)):
        maker = [v for n in ("Manufacturer", "Model") for v in re.findall(rf'{n}="([^"]*)"', found[0])]
    return Scan(" ".join(maker), float(next(filter(None, power.groups()))) if power else None)


def _size(series: tifffile.TiffPageSeries) -> tuple[int, int]:
    sizes = dict(zip(series.axes, series.shape, strict=True))
    return int(sizes.get("X", 0)), int(sizes.get("Y", 0))


def _area(series: tifffile.TiffPageSeries) -> int:
    width, height = _size(series)
    return width * height


def _scenes(tiff: tifffile.TiffFile) -> list[tifffile.TiffPageSeries]:
    """Return the images that may be sections of tissue, in the file's order.

    A picture of the glass (label, macro camera) is left out if it is smaller than a scan; an image without a name that
    has the shape of the largest, if it is a preview of it.
    """
    every = list(tiff.series)
    scans = [s for s in every if not _is_of_the_glass(s)] or every
    largest = max(scans, key=_area)
    if tiff.is_ome:
        return [s for s in every if s in scans or _area(s) >= _area(largest)]
    return [s for s in scans if s is largest or (_is_colour(s) and not _same_shape(s, largest))]


def _is_of_the_glass(series: tifffile.TiffPageSeries) -> bool:
    return _NOT_SCANS.fullmatch(series.name.strip().lower()) is not None


def _is_colour(series: tifffile.TiffPageSeries) -> bool:
    return series.dtype == np.uint8 and dict(zip(series.axes, series.shape, strict=True)).get("S", 1) in {3, 4}


def _same_shape(series: tifffile.TiffPageSeries, other: tifffile.TiffPageSeries) -> bool:
    (width, height), (full_width, full_height) = _size(series), _size(other)
    return abs(width * full_height - height * full_width) <= _SAME_SHAPE * width * full_height


def _title(series: tifffile.TiffPageSeries, number: int) -> str:
    name = " ".join(series.name.split())
    width, height = _size(series)
    return f"{number} ({name + ', ' if name else ''}{width} x {height} px)"


def _choose(path: Path, scenes: list[tifffile.TiffPageSeries], names: list[str], scene: str | None) -> int:
    """Return the index of a scene that is named or numbered; by default of the largest scan."""
    if scene is None:
        return max(range(len(scenes)), key=lambda i: (not _is_of_the_glass(scenes[i]), _area(scenes[i])))
    called = [" ".join(series.name.split()).casefold() for series in scenes]
    wanted = " ".join(scene.split()).casefold()
    if called.count(wanted) == 1:
        return called.index(wanted)
    if wanted.isdecimal() and 1 <= int(wanted) <= len(scenes):
        return int(wanted) - 1
    raise SlideError(f"{path} has no scene {scene!r}; it has {', '.join(names)}: give the number or the name of one.")


def _channels(path: Path, tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries, rgb: bool) -> list[int]:
    """Return which pages of a series are its image: the only one, or those of red, green and blue.

    Raises
    ------
    SlideError
        If it is a stack, or its channels are not known to be red, green and blue.
    """
    sizes = {axis: size for axis, size in zip(series.axes, series.shape, strict=True) if size > 1}
    rest = {axis: size for axis, size in sizes.items() if axis not in "YXS"}
    if not rest:
        return [0]
    count = int(np.prod(list(rest.values())))
    in_channels = count == 3 and len(rest) == 1 and "S" not in sizes and series.dtype == np.uint8
    if in_channels:
        names = [name.strip().lower() for name in channel_names(tiff, series)]
        for known in (["red", "green", "blue"], ["r", "g", "b"]):
            if sorted(names) == sorted(known):
                return [names.index(name) for name in known]
        if rgb or all(page is not None and page.aspage().photometric == _RGB for page in series.pages):
            return [0, 1, 2]
    hint = ": if they are red, green and blue, say so with --rgb" if in_channels else ""
    if "C" in rest:
        raise unsupported(path, f"{rest['C']} separate channels (fluorescence?{hint})")
    raise unsupported(path, f"a stack of {count} images (axes {series.axes}{hint})")


def _page(series: tifffile.TiffPageSeries, channel: int) -> tifffile.TiffPage:
    page = series.pages[channel]
    if page is None:
        raise ValueError("its main image is missing")
    return page.aspage()


def _check_page(path: Path, page: tifffile.TiffPage, in_channels: bool = False) -> None:
    samples, photometric = page.samplesperpixel, page.photometric
    if page.dtype is not None and page.dtype.kind == "f":
        raise unsupported(path, "floating-point pixels")
    if page.dtype != np.uint8 or page.bitspersample != 8:
        raise unsupported(path, f"{page.bitspersample}-bit pixels")
    if in_channels and samples == 1:
        return
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


def _level(path: Path, file: _SharedFile, pages: list[tifffile.TiffPage], cache: TileCache, number: int) -> Level:
    """Return a level that lies in one page, or in one for each of red, green and blue."""
    page = pages[0]
    width, height = page.imagewidth, page.imagelength
    if page.is_tiled:
        tile_width, tile_height = page.tilewidth, page.tilelength
    elif page.is_memmappable and len(pages) == 1:
        return ArrayLevel(_mapped(path, page), associated=_is_associated(page))
    else:
        tile_width, tile_height = width, min(page.rowsperstrip, height)
    cols, rows = -(-width // tile_width), -(-height // tile_height)
    decode = _decoder(file, pages, cols, rows)
    if not page.is_tiled and tile_width * tile_height > _MAX_STRIP_PX:
        if width * height > MAX_WHOLE_PX:
            raise too_large(path, width, height)
        return ArrayLevel(np.concatenate([decode(row, 0) for row in range(rows)])[:height])
    return TiledLevel((width, height), (tile_width, tile_height), decode, cache, number)


def _is_associated(page: tifffile.TiffPage) -> bool:
    """Whether colours are multiplied by the opacity already: unless the file denies it, as for libtiff."""
    return tifffile.EXTRASAMPLE.UNASSALPHA not in page.extrasamples


def _is_planar(page: tifffile.TiffPage) -> bool:
    return page.planarconfig == tifffile.PLANARCONFIG.SEPARATE


def _mapped(path: Path, page: tifffile.TiffPage) -> NDArray[np.uint8]:
    """Map uncompressed pixels that lie in one piece, (H, W, samples)."""
    size = (page.imagelength, page.imagewidth)
    shape = (page.samplesperpixel, *size) if _is_planar(page) else (*size, page.samplesperpixel)
    pixels = np.memmap(path, np.uint8, "r", page.dataoffsets[0], shape)
    return np.moveaxis(pixels, 0, -1) if _is_planar(page) else pixels


def _decoder(
    file: _SharedFile, pages: list[tifffile.TiffPage], cols: int, rows: int
) -> Callable[[int, int], NDArray[np.uint8]]:
    """Return the function that decodes the tile or strip at (row, column) of a page, or of three grey ones."""
    page = pages[0]
    shape = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    associated = _is_associated(page)

    def segment(of: tifffile.TiffPage, index: int) -> NDArray[np.uint8] | None:
        if of.databytecounts[index] == 0:
            return None
        data = file.read(of.dataoffsets[index], of.databytecounts[index])
        if of.compression in _CHECKED_JPEG:
            require_whole_jpeg(data, of.jpegtables)
        pixels = of.decode(data, index, jpegtables=of.jpegtables)[0]
        return None if pixels is None else np.asarray(pixels[0], np.uint8)

    def decode(row: int, col: int) -> NDArray[np.uint8]:
        index = row * cols + col
        if len(pages) > 1:
            planes = [segment(channel, index) for channel in pages]
        elif _is_planar(page):
            planes = [segment(page, index + plane * rows * cols) for plane in range(page.samplesperpixel)]
        else:
            planes = [segment(page, index)]
        parts = [plane for plane in planes if plane is not None]
        if len(parts) < len(planes):  # a tile that was never written: nothing was scanned there
            return np.full((*shape, 3), 255, np.uint8)
        return over_white(np.concatenate(parts, axis=2) if len(parts) > 1 else parts[0], associated=associated)

    return decode
