"""Slide: any region of a whole-slide image or plain image, at any um/px."""

from __future__ import annotations

import logging
import math
import threading
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from cytolite.errors import InputError, SlideError
from cytolite.files import require_regular
from cytolite.slides.levels import DECODE_ERRORS, ArrayLevel, DamagedTileError, Level, Pyramid, TiledLevel
from cytolite.slides.resample import Axis, resample
from cytolite.slides.resolution import resolve_mpp, stated_mpp

WHITE = 255
# A read is made in bands of at most this many source pixels, so that memory stays bounded.
_BAND_PX = 32_000_000
# A level this little coarser than what is asked for still counts as fine enough.
_LEVEL_TOLERANCE = 1e-3
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

log = logging.getLogger("cytolite")


class Slide:
    """A slide open for reading; safe to read from several threads at once.

    The level-0 origin is the top left corner that QuPath shows: where OpenSlide knows the bounds of the scanned
    area (MRXS and others), that is their corner.

    Attributes
    ----------
    path : pathlib.Path
        As given.
    width_px, height_px : int
        Size at level 0.
    mpp : float
        Level-0 resolution, um per pixel.
    file_mpp : float, or None
        What the file says of it, if that is credible; `mpp` is another where the user gave one.
    format : str
        Such as ``"aperio"``, ``"mirax"``, ``"ome-tiff"``, ``"tiff"``, ``"dicom"``, ``"png"``, ``"jpeg"``.
    downsamples : list of (float, float)
        Level-0 px per pixel of each level, in x and y.
    scene : str
        Which of several images of the file this is; empty where there is one.
    scan : Scan
        What it was scanned with, as far as the file says.
    notes : tuple of str
        What the user should know of the file.
    """

    def __init__(self, path: Path, pyramid: Pyramid, mpp: float, *, skip_damaged: bool = False) -> None:
        self.path = path
        self.scene = pyramid.scene
        self.notes = _notes(pyramid)
        self._damaged: set[tuple[int, int, int, int]] = set()
        self._damaged_lock = threading.Lock()
        if skip_damaged and isinstance(pyramid.levels[0], TiledLevel):
            pyramid.levels[0].on_damage = self._add_damaged
        self.format = pyramid.format
        self.scan = pyramid.scan
        self.mpp = mpp
        self.file_mpp = stated_mpp(pyramid.mpp)
        self._levels = pyramid.levels
        self._close = pyramid.close
        self.width_px, self.height_px = self._levels[0].width, self._levels[0].height
        self.downsamples = [
            (_downsample(self.width_px, level.width), _downsample(self.height_px, level.height))
            for level in self._levels
        ]

    def read(self, x_px: float, y_px: float, width_px: int, height_px: int, mpp: float) -> NDArray[np.uint8]:
        """Return a region at a resolution.

        Reads whose origins lie on one output grid (multiples of ``mpp / self.mpp``, plus one shift for all) give
        the same pixels wherever they overlap.

        Parameters
        ----------
        x_px, y_px : float
            Top left corner, level-0 px; may lie outside of the slide.
        width_px, height_px : int
            Size of the result, in pixels of `mpp`.
        mpp : float
            um per pixel of the result.

        Returns
        -------
        numpy.ndarray
            uint8 (height_px, width_px, 3), RGB: the mean over each pixel's area from the coarsest level that is
            fine enough, a cubic where no level is; white outside of the slide.

        Raises
        ------
        SlideError
            If the file is damaged there, in the finest level too; names the file and the place.
        """
        scale = mpp / self.mpp
        number = self._level_for(scale)
        while True:
            downsample = self.downsamples[number]
            x, y = Axis.at(x_px, width_px, scale, downsample[0]), Axis.at(y_px, height_px, scale, downsample[1])
            try:
                return self._resampled(number, x, y)
            except SlideError as error:
                if number == 0:
                    raise
                log.warning("%s A finer level is read in its place.", error)
                number -= 1

    def _resampled(self, number: int, x: Axis, y: Axis) -> NDArray[np.uint8]:
        """Return output pixels from a level, in bands."""
        width_px, height_px = x.count, y.count
        rows = max(1, int(_BAND_PX / (width_px * x.ratio * y.ratio)))
        if rows >= height_px:
            return resample(self._padded(number, x, y), x, y)
        out = np.empty((height_px, width_px, 3), np.uint8)
        for first in range(0, height_px, rows):
            band = y.part(first, min(rows, height_px - first))
            out[first : first + band.count] = resample(self._padded(number, x, band), x, band)
        return out

    def thumbnail(self, max_px: int) -> NDArray[np.uint8]:
        """Return the whole slide, uint8 (h, w, 3), its longer side at most `max_px`; never enlarged.

        A pixel covers ``thumbnail_scale(max_px)`` level-0 px; one that reaches beyond the slide is part white.
        """
        mpp = self.mpp * self.thumbnail_scale(max_px)
        return self.read(0, 0, *self.size_at(mpp), mpp)

    def thumbnail_scale(self, max_px: int) -> float:
        """Level-0 px per pixel of ``thumbnail(max_px)``."""
        return max(1.0, max(self.width_px, self.height_px) / max_px)

    def size_at(self, mpp: float) -> tuple[int, int]:
        """Width and height of the slide in pixels of `mpp`, rounded up."""
        # 1e-6: a whole number stays one, whatever the division's last digit.
        width, height = (math.ceil(size * self.mpp / mpp - 1e-6) for size in (self.width_px, self.height_px))
        return max(1, width), max(1, height)

    def working_mpp(self, model_mpp: float, tolerance: float = 0.1) -> float:
        """Return the resolution to read at for a model made for `model_mpp`.

        A whole multiple of the slide's own resolution where one lies within `tolerance` of the model's: reading it
        is a copy or a plain mean of blocks, faster and sharper than resampling by 1.98. Else `model_mpp`.

        Parameters
        ----------
        model_mpp : float
            Resolution of the images that the model was trained on, um per pixel.
        tolerance : float
            How far, as a share, the resolution may be from it.
        """
        nearest = self.mpp * max(1, round(model_mpp / self.mpp))
        return nearest if abs(nearest / model_mpp - 1) <= tolerance else model_mpp

    def close(self) -> None:
        """Give the file back; reading is over."""
        self._close()

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Slide({str(self.path)!r}, {self.width_px} x {self.height_px} px, {self.mpp:.4g} µm/px, {self.format})"

    def _level_for(self, scale: float) -> int:
        """Number of the coarsest level that is fine enough for `scale` level-0 px per output pixel."""
        enough = [n for n, d in enumerate(self.downsamples) if max(d) <= scale * (1 + _LEVEL_TOLERANCE)]
        return max(enough, key=lambda n: max(self.downsamples[n]), default=0)

    def _padded(self, number: int, x: Axis, y: Axis) -> NDArray[np.uint8]:
        """Return the source pixels that `x` and `y` span, white where they lie outside of the level."""
        level = self._levels[number]
        (left, right), (top, bottom) = x.span, y.span
        x0, x1 = max(left, 0), min(right, level.width)
        y0, y1 = max(top, 0), min(bottom, level.height)
        if (x0, x1, y0, y1) == (left, right, top, bottom):
            return self._read_level(number, x0, y0, x1 - x0, y1 - y0)
        out = np.full((bottom - top, right - left, 3), WHITE, np.uint8)
        if x0 < x1 and y0 < y1:
            out[y0 - top : y1 - top, x0 - left : x1 - left] = self._read_level(number, x0, y0, x1 - x0, y1 - y0)
        return out

    def _read_level(self, number: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        level: Level = self._levels[number]
        try:
            return level.read(x, y, width, height)
        except DECODE_ERRORS as error:
            if isinstance(error, DamagedTileError):
                x, y, width, height = error.place
            raise SlideError(
                f"{self.path} cannot be read at x {x}, y {y}, {width} x {height} px of level {number} ({error}): "
                "the file seems damaged; copy or export it again, or leave out what is damaged with --damaged skip."
            ) from error

    def _add_damaged(self, place: tuple[int, int, int, int]) -> None:
        with self._damaged_lock:
            self._damaged.add(place)

    @property
    def damaged(self) -> list[tuple[int, int, int, int]]:
        """The tiles that were left out so far: x, y, width and height of each, level-0 px, sorted."""
        with self._damaged_lock:
            return sorted(self._damaged)


def _notes(pyramid: Pyramid) -> tuple[str, ...]:
    if not pyramid.other_scenes:
        return ()
    others = ", ".join(pyramid.other_scenes)
    return (f"image {pyramid.scene} was read; the file also holds {others}, which --scene takes",)


def _downsample(full: int, reduced: int) -> float:
    """Level-0 px per level px: whole where the level's size is the full size divided and cut or rounded up.

    Scanners halve and drop what is left over, so that 4443 / 2221 px means 2 and not 2.0005: the difference would
    shift the far edge of a slide by many pixels.
    """
    ratio = full / reduced
    for whole in (2 ** round(math.log2(ratio)), round(ratio)):
        if whole >= 1 and abs(full / whole - reduced) <= 1:
            return float(whole)
    return ratio


def open_slide(
    path: str | Path,
    mpp: float | None = None,
    *,
    scene: str | None = None,
    rgb: bool = False,
    skip_damaged: bool = False,
) -> Slide:
    """Open a slide or image.

    Reads OpenSlide's formats, TIFF and OME-TIFF (plain, tiled, pyramidal), DICOM whole-slide images, PNG and JPEG;
    8-bit RGB only. Transparent pixels are white.

    Parameters
    ----------
    path : str or pathlib.Path
        The file; of a DICOM series any one of its files.
    mpp : float, optional
        um per pixel at level 0; overrides what the file says.
    scene : str, optional
        Name, or number from 1, of one of several images in a TIFF; default: the largest.
    rgb : bool
        Take three grey channels for red, green and blue.
    skip_damaged : bool
        Read tiles that cannot be decoded as white; `Slide.damaged` lists them.

    Raises
    ------
    SlideError
        If the file is missing, is no slide, is damaged, is not 8-bit RGB, has no such scene, or gives no credible
        resolution.
    """
    path = Path(path)
    if not path.exists():
        raise SlideError(f"{path} does not exist: check the path of the slide.")
    if path.is_dir():
        raise SlideError(
            f"{path} is a directory: name the slides in it, '{path}/*' (of a DICOM series, any one of its files)."
        )
    try:
        require_regular(path)
    except InputError as error:
        raise SlideError(str(error)) from None
    pyramid = _open_pyramid(path, scene, rgb, skip_damaged)
    try:
        return Slide(path, pyramid, resolve_mpp(path, pyramid.mpp, mpp), skip_damaged=skip_damaged)
    except SlideError:
        pyramid.close()
        raise


def slide_of(image: NDArray[np.uint8], mpp: float | None) -> Slide:
    """Return an image in memory as a slide.

    Parameters
    ----------
    image : numpy.ndarray
        uint8 (H, W, 3), RGB; not copied.
    mpp : float
        um per pixel; None is refused with a sentence, as for files.

    Raises
    ------
    InputError
        If the array is no RGB image of at least one pixel.
    SlideError
        If the resolution is missing or no microscope's.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InputError(f"The image is {image.dtype} {image.shape}; uint8 (H, W, 3), RGB, is needed.")
    path = Path("image")
    pyramid = Pyramid("array", [ArrayLevel(image)], None, close=lambda: None)
    return Slide(path, pyramid, resolve_mpp(path, None, mpp))


def _open_pyramid(path: Path, scene: str | None, rgb: bool, skip_damaged: bool) -> Pyramid:
    """Choose the reader by what is in the file, never by its name."""
    from cytolite.slides import openslide_reader, plain_reader

    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError as error:
        raise SlideError(f"{path} cannot be read ({error.strerror}): check its permissions.") from error
    # OpenSlide goes first: the main file of an MRXS slide is itself a JPEG.
    vendor = openslide_reader.detect(path)
    if head[:4] in _TIFF_MAGIC and vendor in (None, "generic-tiff", "aperio"):
        from cytolite.slides import tiff_reader

        # Decoding tiles here is about twice as fast as through OpenSlide, with the same pixels.
        pyramid = tiff_reader.open_tiff(path, vendor, scene, rgb)
        return pyramid if pyramid is not None else openslide_reader.open_openslide(path, in_blocks=skip_damaged)
    if scene is not None:
        raise SlideError(f"{path} has no scenes to choose from: leave --scene {scene} out.")
    if head[128:] == b"DICM":
        from cytolite.slides import dicom_reader  # a sixth of the start of a run on another format

        return dicom_reader.open_dicom(path)
    if vendor is not None:
        return openslide_reader.open_openslide(path, in_blocks=skip_damaged)
    if plain_reader.is_plain(head):
        return plain_reader.open_plain(path)
    raise SlideError(
        f"{path} is not a slide that can be read: allowed are OpenSlide's formats (SVS, NDPI, MRXS, SCN, BIF and "
        "others), TIFF, OME-TIFF, DICOM, PNG and JPEG; export it as one of these."
    )
