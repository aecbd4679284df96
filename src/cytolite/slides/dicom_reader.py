"""DICOM whole-slide images (VL Whole Slide Microscopy): tiles in full or sparse order, one file per level."""

from __future__ import annotations

import itertools
import logging
import struct
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import imagecodecs
import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.errors import InvalidDicomError

from cytolite.errors import SlideError
from cytolite.files import is_debris
from cytolite.slides.jpeg_check import require_whole_jpeg
from cytolite.slides.levels import DECODE_ERRORS, Pyramid, Scan, TileCache, TiledLevel, unsupported

log = logging.getLogger("cytolite")

_WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")
_JPEG = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
_CODESTREAM, _CODING_STYLE = b"\xff\x4f\xff\x51", b"\xff\x52"
_JPEG_2000 = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 201, 202, 203))
_COLOURS = ("RGB", "YBR_FULL_422", "YBR_FULL", "YBR_ICT", "YBR_RCT")
# Markers by which a JPEG itself says how its colours are coded: JFIF and Adobe.
_COLOUR_MARKERS = (b"\xff\xe0", b"\xff\xee")
# How many frames tell the order of all, and how much better the unusual one must fit to be believed.
_FRAMES_TO_COMPARE, _CLEARLY = 64, 0.8
_ITEM, _SEQUENCE_END, _UNDEFINED = 0xFFFEE000, 0xFFFEE0DD, 0xFFFFFFFF
_DAMAGE = (
    InvalidDicomError, RuntimeError, OSError, ValueError, EOFError, KeyError, AttributeError, TypeError, IndexError,
    struct.error,
)  # fmt: skip


def open_dicom(path: Path) -> Pyramid:
    """Open a DICOM whole-slide image; other files of its series in the same folder give the other levels.

    Files that are parts of one concatenation are one level. A damaged file of a coarser level is passed over with a
    word in the log.

    Raises
    ------
    SlideError
        If the file, or that of the largest level, is damaged; if it is no whole-slide image, is not 8-bit RGB, or is
        part of a concatenation whose other parts are missing.
    """
    cache = TileCache()
    with warnings.catch_warnings():
        # Values that break DICOM's rules of length are common and do no harm here.
        warnings.simplefilter("ignore")
        instances = _instances(path)
        try:
            mpp = _mpp(instances[0].header)
        except _DAMAGE as error:
            raise _damaged(instances[0].path, error) from error
    levels = [instance.level(cache, number) for number, instance in enumerate(instances)]

    def close() -> None:
        for instance in instances:
            instance.close()

    return Pyramid("dicom", levels, mpp, close, scan=_scan(instances[0].header))


def _scan(header: pydicom.Dataset) -> Scan:
    maker = " ".join(filter(None, (str(header.get(n) or "") for n in ("Manufacturer", "ManufacturerModelName"))))
    try:
        power = float(header.OpticalPathSequence[0].ObjectiveLensPower)
    except (AttributeError, IndexError, TypeError, ValueError):
        power = None
    return Scan(maker, power)


def _damaged(path: Path, error: Exception) -> SlideError:
    if isinstance(error, SlideError):
        return error
    return SlideError(f"{path} is a damaged or incomplete DICOM file ({error}): copy or export it again.")


def _instances(path: Path) -> list[_Instance]:
    """Open the file and the other levels of its series, largest first."""
    groups, broken = _parts_by_level(path)
    by_width: dict[int, _Instance] = {}
    for parts in groups:
        try:
            # Two files of one size are two focal planes or stains: the one that was asked for stays.
            by_width.setdefault(parts[0].width, _Instance(parts))
        except (SlideError, *_DAMAGE) as error:
            if parts[0].path == path:
                raise _damaged(path, error) from error
            broken.append((parts[0].width, _damaged(parts[0].path, error)))
    for width, reason in broken:
        if width > max(by_width):
            raise reason  # the level that holds the detail
        if width not in by_width:
            log.warning("%s The other levels of the series are read.", reason)
    return [by_width[width] for width in sorted(by_width, reverse=True)]


def _parts_by_level(path: Path) -> tuple[list[list[_Part]], list[tuple[int, SlideError]]]:
    """Open the files of a series, those of one level together, the given one first.

    Of those that cannot be used, the width of their level and the reason are returned.
    """
    try:
        first = _Part(path)
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    groups = {first.key: [first]}
    broken = []
    for other, width in _other_files(path, first.header):
        try:
            part = _Part(other)
        except (SlideError, *_DAMAGE) as error:
            broken.append((width, _damaged(other, error)))
        else:
            groups.setdefault(part.key, []).append(part)
    return list(groups.values()), broken


def _read_header(file: BinaryIO, tags: list[str] | None = None) -> pydicom.Dataset:
    return pydicom.dcmread(file, stop_before_pixels=True, specific_tags=tags)


def _other_files(path: Path, header: pydicom.Dataset) -> Iterator[tuple[Path, int]]:
    """Yield the other files of the folder that belong to the series and hold tissue, and the width of their level."""
    series = header.get("SeriesInstanceUID")
    wanted = ["SeriesInstanceUID", "SOPClassUID", "ImageType", "TotalPixelMatrixColumns"]
    for other in sorted(path.parent.iterdir()):
        if series is None or other.name == path.name or not other.is_file() or is_debris(Path(other.name)):
            continue
        with other.open("rb") as file:
            if file.read(132)[128:] != b"DICM":
                continue
            file.seek(0)
            try:
                found = _read_header(file, wanted)
            except _DAMAGE:  # too damaged to tell whose it is
                continue
        if (found.get("SeriesInstanceUID"), found.get("SOPClassUID")) == (series, _WHOLE_SLIDE) and _is_volume(found):
            yield other, int(found.get("TotalPixelMatrixColumns") or 0)


def _is_volume(header: pydicom.Dataset) -> bool:
    kind = list(header.get("ImageType") or [])
    return len(kind) < 3 or kind[2] == "VOLUME"


def _mpp(header: pydicom.Dataset) -> tuple[float, float] | None:
    """Return um per pixel from the pixel measures, else from the size of the imaged volume (both in mm)."""
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in (header.get(groups) or [])[:1]:
            for measures in (group.get("PixelMeasuresSequence") or [])[:1]:
                if measures.get("PixelSpacing"):
                    row_spacing, col_spacing = (float(value) for value in measures.PixelSpacing)
                    return col_spacing * 1000, row_spacing * 1000
    width, height = header.get("ImagedVolumeWidth"), header.get("ImagedVolumeHeight")
    if not width or not height:
        return None
    return 1000 * width / header.TotalPixelMatrixColumns, 1000 * height / header.TotalPixelMatrixRows


class _Part:
    """One DICOM file: a level, or a part of one that was cut into several files (a concatenation)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: BinaryIO = path.open("rb")
        try:
            self._lock = threading.Lock()
            self.header = _read_header(self.file)
            _check(path, self.header)
            self.width, self.height = int(self.header.TotalPixelMatrixColumns), int(self.header.TotalPixelMatrixRows)
            self.tile_height, self.tile_width = int(self.header.Rows), int(self.header.Columns)
            self.syntax = str(self.header.file_meta.TransferSyntaxUID)
            self.frames = self._find_frames()
        except Exception:
            self.file.close()
            raise

    @property
    def number(self) -> int:
        """Of the part in its concatenation, from 1; 0 where it is none."""
        return int(self.header.get("InConcatenationNumber") or 0)

    @property
    def key(self) -> tuple[int, ...]:
        """The same for the parts of one level, and for nothing else."""
        return (self.width, self.height, self.tile_width) if self.number else (id(self),)

    def _find_frames(self) -> list[list[tuple[int, int]]]:
        """Return for each frame the (offset, bytes) of its pieces in the file."""
        count = int(self.header.get("NumberOfFrames") or 1)
        start, length = self._pixel_data()
        if length != _UNDEFINED:
            size = self.tile_height * self.tile_width * 3
            if count * size > length:
                raise ValueError(f"{length:,} bytes of pixels where {count * size:,} are needed")
            return [[(start + i * size, size)] for i in range(count)]
        table, *pieces = _items(self.file, start)
        if len(pieces) == count:
            return [[piece] for piece in pieces]
        frame_starts = self._frame_starts(table, pieces[0][0] - 8 if pieces else 0)
        if len(frame_starts) != count:
            raise ValueError(f"{len(pieces)} pieces for {count} frames, and no table to tell which is whose")
        owners = np.searchsorted(frame_starts, [offset - 8 for offset, _ in pieces], side="right") - 1
        return [[piece for piece, owner in zip(pieces, owners, strict=True) if owner == i] for i in range(count)]

    def _pixel_data(self) -> tuple[int, int]:
        """Return where the value of the pixel data starts, and its length. The file stands before its tag."""
        explicit = self.syntax != _NATIVE[0]
        head = self.file.read(12 if explicit else 8)
        group, element = struct.unpack("<HH", head[:4])
        if (group, element) != (0x7FE0, 0x0010):
            raise ValueError("it holds no pixels")
        return self.file.tell(), struct.unpack("<L", head[-4:])[0]

    def _frame_starts(self, table: tuple[int, int], base: int) -> list[int]:
        """Return where each frame's first item starts: from the extended or else the basic offset table."""
        extended = self.header.get("ExtendedOffsetTable")
        self.file.seek(table[0])
        data, size = (extended, 8) if extended else (self.file.read(table[1]), 4)
        return [base + int(offset) for offset in np.frombuffer(data, f"<u{size}")]

    def read(self, number: int) -> bytes:
        """Return the data of a frame, compressed as they are."""
        pieces = self.frames[number]
        with self._lock:
            data = b""
            for offset, length in pieces:
                self.file.seek(offset)
                data += self.file.read(length)
        if len(data) < sum(length for _, length in pieces):
            raise EOFError("the file ends before these pixels")
        return data


class _Instance:
    """One level: one file, or the parts of a concatenation."""

    def __init__(self, parts: list[_Part]) -> None:
        self._parts = sorted({part.number: part for part in reversed(parts)}.values(), key=lambda part: part.number)
        first = parts[0]
        _require_all_parts(first, self._parts)
        self.path, self.header = first.path, first.header
        self.width, self.height = first.width, first.height
        self._tile_height, self._tile_width = first.tile_height, first.tile_width
        self._is_rgb = self.header.PhotometricInterpretation == "RGB"
        self._is_planar = int(self.header.get("PlanarConfiguration") or 0) == 1
        self._syntax = first.syntax
        self._frames = [(part, i) for part in self._parts for i in range(len(part.frames))]
        self._grid = self._find_grid()

    def level(self, cache: TileCache, number: int) -> TiledLevel:
        """Return the image that the files hold."""
        tile_size = (self._tile_width, self._tile_height)
        return TiledLevel((self.width, self.height), tile_size, self._decode, cache, number)

    def close(self) -> None:
        """Give the files back."""
        for part in self._parts:
            part.file.close()

    def _find_grid(self) -> dict[tuple[int, int], int]:
        """Return the frame of each (row, column) of the grid of tiles."""
        cols, rows = -(-self.width // self._tile_width), -(-self.height // self._tile_height)
        frames = [f for part in self._parts for f in part.header.get("PerFrameFunctionalGroupsSequence") or []]
        if self.header.get("DimensionOrganizationType") == "TILED_FULL" or not frames:
            if len(self._frames) < rows * cols:
                raise ValueError(f"{len(self._frames)} frames where {rows * cols} are needed")
            if "DimensionOrganizationType" not in self.header and self._runs_down(rows * cols):
                return {(i % rows, i // rows): i for i in range(rows * cols)}
            return {(i // cols, i % cols): i for i in range(rows * cols)}
        grid = {}
        for number, frame in enumerate(frames):
            position = frame.PlanePositionSlideSequence[0]
            x = int(position.ColumnPositionInTotalImagePixelMatrix) - 1
            y = int(position.RowPositionInTotalImagePixelMatrix) - 1
            if x % self._tile_width or y % self._tile_height:
                raise ValueError("its tiles do not lie on a grid")
            grid[y // self._tile_height, x // self._tile_width] = number
        return grid

    def _runs_down(self, count: int) -> bool:
        """Whether frames follow each other down the columns: each fits better below its predecessor than beside it.

        DICOM's order is along the rows, but files that do not name their order exist in both.
        """
        frames = [self._frame_or_none(i) for i in range(min(count, _FRAMES_TO_COMPARE))]
        pairs = [(a, b) for a, b in itertools.pairwise(frames) if a is not None and b is not None]
        beside = sum(np.abs(a[:, -1] - b[:, 0]).mean() for a, b in pairs)
        below = sum(np.abs(a[-1] - b[0]).mean() for a, b in pairs)
        return bool(below < _CLEARLY * beside)

    def _frame_or_none(self, number: int) -> NDArray[np.int16] | None:
        try:
            return self._decode_frame(number).astype(np.int16)
        except DECODE_ERRORS:  # told where it is read
            return None

    def _decode(self, row: int, col: int) -> NDArray[np.uint8]:
        number = self._grid.get((row, col))
        if number is None:
            return np.full((self._tile_height, self._tile_width, 3), 255, np.uint8)
        return self._decode_frame(number)

    def _decode_frame(self, number: int) -> NDArray[np.uint8]:
        shape = (self._tile_height, self._tile_width, 3)
        part, index = self._frames[number]
        data = part.read(index)
        if self._syntax in _NATIVE:
            pixels = np.frombuffer(data, np.uint8)
            return np.moveaxis(pixels.reshape(3, *shape[:2]), 0, 2) if self._is_planar else pixels.reshape(shape)
        if self._syntax in _JPEG_2000:
            to_rgb = _is_ycbcr(data, str(self.header.PhotometricInterpretation))
            pixels = np.asarray(imagecodecs.jpeg2k_decode(data), np.uint8)
            return np.asarray(Image.fromarray(pixels, "YCbCr").convert("RGB")) if to_rgb else pixels
        require_whole_jpeg(data)
        # Without a marker libjpeg would guess from the components' numbers; what DICOM says is more.
        coded_as_rgb = self._is_rgb and data[2:4] not in _COLOUR_MARKERS
        colours = "RGB" if coded_as_rgb else None
        return np.asarray(imagecodecs.jpeg8_decode(data, colorspace=colours, outcolorspace=colours), np.uint8)


def _require_all_parts(first: _Part, parts: list[_Part]) -> None:
    """Refuse a concatenation of which a part is not there."""
    if not first.number:
        return
    present = [part.number for part in parts]
    total = int(first.header.get("InConcatenationTotalNumber") or max(present))
    if missing := sorted(set(range(1, total + 1)) - set(present)):
        raise SlideError(
            f"{first.path} is part {first.number} of {total} of one image (a DICOM concatenation), and part "
            f"{', '.join(map(str, missing))} is not beside it, or is damaged: put all parts into one folder."
        )


def _is_ycbcr(data: bytes, colours: str) -> bool:
    """Whether the decoded samples of a JPEG 2000 codestream are YCbCr still.

    Raises
    ------
    ValueError
        If header and codestream contradict each other, so that nobody can know.
    """
    start = data.find(_CODESTREAM)
    at = data.find(_CODING_STYLE, start)
    if start < 0 or at < 0:
        raise ValueError("no JPEG 2000 codestream")
    # After the marker: length (2), style (1), order of progression (1), layers (2), transform of components (1).
    transformed = data[at + 8] != 0
    if colours == "RGB" or (transformed and colours in {"YBR_ICT", "YBR_RCT"}):
        return False
    if not transformed and colours.startswith("YBR_FULL"):
        return True
    raise ValueError(
        f"its header says {colours}, its JPEG 2000 codestream {'transforms' if transformed else 'does not transform'} "
        "colours, and these contradict each other"
    )


def _items(file: BinaryIO, start: int) -> Iterator[tuple[int, int]]:
    """Yield the (offset, bytes) of each item of encapsulated pixel data, the basic offset table first.

    `pydicom.encaps.parse_fragments` does the same walk, but ends in silence where a file is cut off, between items or
    in one, and tells no lengths: it would be walked twice, and a truncated slide taken for a whole one.
    """
    end = file.seek(0, 2)
    position = start
    while True:
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            raise EOFError("it is truncated")
        group, element, length = struct.unpack("<HHL", head)
        tag = group << 16 | element
        if tag == _SEQUENCE_END:
            return
        position += 8 + length
        if tag != _ITEM or position > end:
            raise EOFError("it is truncated")
        yield position - length, length


def _check(path: Path, header: pydicom.Dataset) -> None:
    """Refuse what is no whole-slide image in 8-bit RGB."""
    if header.get("SOPClassUID") != _WHOLE_SLIDE or not _is_volume(header):
        raise SlideError(
            f"{path} is a DICOM file but not the tissue of a whole-slide image: give a file of the series whose "
            "ImageType is VOLUME."
        )
    if header.SamplesPerPixel != 3:
        raise unsupported(path, "grey pixels")
    if header.BitsAllocated != 8:
        raise unsupported(path, f"{header.BitsAllocated}-bit pixels")
    syntax = header.file_meta.TransferSyntaxUID
    colours = header.PhotometricInterpretation
    if colours not in _COLOURS or (syntax in _NATIVE and colours != "RGB"):
        raise unsupported(path, f"colours coded as {colours}")
    if syntax not in (*_NATIVE, *_JPEG, *_JPEG_2000):
        raise unsupported(path, f"pixels compressed as {syntax.name} (JPEG, JPEG 2000 and none can be read)")
    planes, stains = header.get("TotalPixelMatrixFocalPlanes") or 1, header.get("NumberOfOpticalPaths") or 1
    if planes > 1 or stains > 1:
        raise unsupported(path, f"{planes} focal planes and {stains} optical paths in one file")
