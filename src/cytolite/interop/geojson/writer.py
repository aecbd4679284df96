"""Cells as GeoJSON that QuPath 0.5 to 0.7 opens as detections.

One bad feature makes QuPath refuse the whole file, so each outline is closed, valid after rounding, and has a
classification with a colour. Every object is named `TAG` and has an id that follows from slide, model and cell id:
a script can find what cytolite added, remove just that, and tell a cell again after a second import. The name is the
mark to rely on, since QuPath 0.5.1 drops ``metadata``.
"""

from __future__ import annotations

import hashlib
import uuid
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orjson
import shapely
from numpy.typing import NDArray
from shapely.geometry.polygon import orient

from cytolite.cells import CellTable, require_types
from cytolite.celltypes import DEFAULT, TypeSet
from cytolite.errors import InputError
from cytolite.files import plain_refusal
from cytolite.interop.cells_file import CellsFile
from cytolite.kernels import kernel

TAG = "cytolite"
MEASUREMENTS = (
    "perimeter_um",
    "circularity",
    "major_axis_um",
    "minor_axis_um",
    "haematoxylin_od_mean",
    "eosin_od_mean",
)
_CHUNK = 20_000  # rows that are formatted at a time
_GRID_PER_PX = 100  # coordinates are whole hundredths of a pixel
_DECIMALS = 4  # of measurements; the area gets 2
_LARGEST = 1e14  # what an int64 holds with so many decimals


class GeoJSONWriter(CellsFile):
    """Write cells to a ``.geojson`` or, compressed, ``.geojson.gz`` for QuPath, table by table; a context manager.

    The file gets its name when the block ends; if an exception ends it, there is no file.

    Parameters
    ----------
    path : str or pathlib.Path
        Final name.
    slide, model : str
        What the objects' ids are made from, besides the cell's id; `model` is also written into each object's metadata.
    measurements : sequence of str
        Features to write as measurements, where the cells have them, besides ``p_<type>`` and ``area_um2``.
    region_names : sequence of str
        Names that `CellTable.regions` points to; a cell's goes into its metadata.
    first_id : int
        Id of the first cell, where a file is the continuation of another.
    metadata : bool
        Whether objects carry model and region; QuPath 0.5.1 drops them and logs a stack trace for each object.
    type_set : TypeSet
        Types of the cells; those that are not the default are described at the head of the file, as ``cytolite.types``.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        slide: str = "",
        model: str = "",
        measurements: Sequence[str] = MEASUREMENTS,
        region_names: Sequence[str] = (),
        *,
        first_id: int = 1,
        metadata: bool = True,
        type_set: TypeSet = DEFAULT,
    ) -> None:
        super().__init__(path)
        self._type_set = type_set
        self._classes = _classes(type_set)
        self._first_id = first_id
        self._key = _id_key(slide, model)
        self._measurements = tuple(measurements)
        # What ends an object: one for cells outside of any region (-1), then one for each region.
        self._tails = _ragged([_tail(model, name) if metadata else _tail("", None) for name in (None, *region_names)])
        # 31: a gzip header, without a time: same cells, same file
        self._gzip = zlib.compressobj(3, zlib.DEFLATED, 31) if self.path.suffix == ".gz" else None

    def _begin(self) -> None:
        described = {"types": self._type_set.describe()}
        own = b"" if self._type_set == DEFAULT else b',"cytolite":' + orjson.dumps(described)
        self._write(b'{"type":"FeatureCollection"' + own + b',"features":[')

    def _finish(self) -> None:
        self._write(b"\n]}\n")
        if self._gzip is not None:
            self._file.write(self._gzip.flush())

    def _write(self, data: bytes | memoryview) -> None:
        if self._gzip is not None:
            data = self._gzip.compress(data)
        with plain_refusal(self.path):
            self._file.write(data)

    def append(self, table: CellTable) -> None:
        """Add the rows of `table` to the file; ids count on.

        Raises
        ------
        InputError
            If an outline has fewer than three vertices or coordinates that are no numbers, or a type is none of the
            writer's, or a region has no name.
        OutputError
            If the file cannot be written.
        """
        require_types(table, self._type_set, self.path)
        n_types = len(self._type_set)
        if len(table) and not 1 <= table.types.min() <= table.types.max() <= n_types:
            raise InputError(f"Types are 1 to {n_types}; the cells hold {table.types.min()} to {table.types.max()}.")
        n_regions = len(self._tails[1]) - 2
        if not -1 <= table.regions.min(initial=-1) <= table.regions.max(initial=-1) < n_regions:
            raise InputError(f"The cells hold regions up to {table.regions.max()}; {n_regions} have a name.")
        for start in range(0, len(table), _CHUNK):
            self._write(self._format(table, start, min(start + _CHUNK, len(table))).data)

    def _format(self, table: CellTable, start: int, stop: int) -> NDArray[np.uint8]:
        """Return the features of the rows from `start` to `stop`, each after a line break, as uint8."""
        rings = round_rings(
            table.vertices[table.offsets[start] : table.offsets[stop]],
            table.offsets[start : stop + 1] - table.offsets[start],
        )
        extra = [name for name in self._measurements if name in table.features]
        names = _ragged([orjson.dumps(name) + b":" for name in (*self._type_set.probs, "area_um2", *extra)])
        values = np.column_stack(
            [
                table.type_probs[start:stop],
                np.round(table.area_um2[start:stop].astype(np.float64), 2),
                *(table.features[name][start:stop] for name in extra),
            ]
        ).astype(np.float64)
        values[~(np.abs(values) < _LARGEST)] = np.nan
        first_id, is_first = self._first_id + self.n_cells, self.n_cells == 0
        self.n_cells += stop - start
        size = _largest_size(rings, names, values, self._classes, self._tails)
        types, regions = table.types[start:stop], table.regions[start:stop]
        ids = (self._key, first_id, is_first)
        text: NDArray[np.uint8] = _format_features(
            rings, names, values, types, self._classes, ids, regions, self._tails, size
        )
        return text


def _tail(model: str, region: str | None) -> bytes:
    metadata = ({"model": model} if model else {}) | ({"region": region} if region is not None else {})
    return b"}" + (b',"metadata":' + orjson.dumps(metadata) if metadata else b"") + b"}}"


def object_id(slide: str, model: str, cell_id: int) -> uuid.UUID:
    """Return the id under which cell `cell_id` of ``cells.parquet`` is known in QuPath.

    A UUID of version 8 (RFC 9562: made by rules of one's own): the cell's id, scrambled with a key that is hashed
    from slide and model. The same run gives the same ids, another slide or model gives others.

    Parameters
    ----------
    slide : str
        Name of the slide's file without its ending.
    model : str
        Name of the model.
    cell_id : int
        Row of ``cells.parquet``.
    """
    out = np.empty(36, np.uint8)
    _put_id(out, 0, _id_key(slide, model), cell_id)
    return uuid.UUID(out.tobytes().decode("ascii"))


def round_rings(
    vertices: NDArray[np.float64], offsets: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Round outlines to hundredths of a pixel so that they stay valid.

    Where all coordinates of a ring lie on a square grid wider than the rounding and its sides follow the grid, as with
    all traced outlines, rounding moves grid lines only and cannot make two of them meet. Any other ring is checked by
    shapely, and repaired if it is not valid after rounding; its largest part is kept.

    Parameters
    ----------
    vertices, offsets : numpy.ndarray
        Open rings, as in `CellTable`.

    Returns
    -------
    vertices : numpy.ndarray
        int64 (V, 2), in hundredths of a pixel.
    offsets : numpy.ndarray
        int64 (N + 1,).

    Raises
    ------
    InputError
        If a ring has fewer than three vertices, or a coordinate is not a number.
    """
    if (np.diff(offsets) < 3).any() or not (np.abs(vertices) < _LARGEST).all():
        raise InputError("An outline has at least 3 vertices, and its coordinates are numbers of pixels.")
    rounded = np.rint(vertices * _GRID_PER_PX).astype(np.int64)
    doubtful = np.flatnonzero(~_on_wide_grid(np.ascontiguousarray(vertices), offsets))
    repaired = {int(i): _repair(rounded[offsets[i] : offsets[i + 1]]) for i in _wrong(rounded, offsets, doubtful)}
    if not repaired:
        return rounded, offsets
    rings = [repaired.get(i, rounded[offsets[i] : offsets[i + 1]]) for i in range(len(offsets) - 1)]
    return np.concatenate(rings), np.concatenate([[0], np.cumsum([len(ring) for ring in rings])])


def _wrong(vertices: NDArray[np.int64], offsets: NDArray[np.int64], rings: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return those of the `rings` that cross or touch themselves, or have a vertex twice; checked all at once."""
    if not len(rings):
        return rings
    lengths = np.diff(offsets)[rings]
    ends = np.cumsum(lengths)
    owner = np.repeat(np.arange(len(rings)), lengths)
    corners = vertices[np.repeat(offsets[rings] - (ends - lengths), lengths) + np.arange(len(owner))]
    following = np.arange(1, len(owner) + 1)
    following[ends - 1] = ends - lengths
    doubled = (corners == corners[following]).all(axis=1)
    # A vertex that comes twice, but not twice in a row, is where a ring touches itself, which is not valid.
    wrong = ~shapely.is_valid(shapely.polygons(shapely.linearrings(corners, indices=owner)))
    wrong[owner[doubled]] = True
    found: NDArray[np.int64] = rings[wrong]
    return found


def _repair(ring: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a valid ring in place of one that is not. All in whole hundredths."""
    polygon = shapely.Polygon(ring)
    parts = shapely.get_parts(shapely.set_precision(shapely.make_valid(polygon), 1.0))
    largest = max((part for part in parts if part.geom_type == "Polygon"), key=shapely.area, default=None)
    if largest is None or largest.is_empty:  # thinner than the rounding: a speck at its place
        x, y = ring.min(axis=0)
        return np.array([[x, y], [x + 1, y], [x + 1, y + 1], [x, y + 1]])
    repaired: NDArray[np.int64] = np.rint(shapely.get_coordinates(orient(largest).exterior)[:-1]).astype(np.int64)
    return repaired


# ---- bytes ----------------------------------------------------------------------------------------------------------


def _as_bytes(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8)


def _ragged(pieces: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    return _as_bytes(b"".join(pieces)), np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])])


def _id_key(slide: str, model: str) -> NDArray[np.uint64]:
    return np.frombuffer(hashlib.sha256(f"{TAG}\n{slide}\n{model}".encode()).digest()[:16], "<u8").astype(np.uint64)


def _classes(type_set: TypeSet) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return what stands between an object's coordinates and its measurements: one for each type."""
    return _ragged(
        [
            b']]},"properties":{"objectType":"detection","name":' + orjson.dumps(TAG) + b',"classification":'
            + orjson.dumps({"name": cell_type.qupath_class, "color": cell_type.colour}) + b',"measurements":{'
            for cell_type in type_set
        ]
    )  # fmt: skip


_BEFORE_ID = _as_bytes(b'{"type":"Feature","id":"')
_BEFORE_RING = _as_bytes(b'","geometry":{"type":"Polygon","coordinates":[[')
_NAN = _as_bytes(b'"NaN"')
_HEX = _as_bytes(b"0123456789abcdef")


def _largest_size(
    rings: tuple[NDArray[np.int64], NDArray[np.int64]],
    names: tuple[NDArray[np.uint8], NDArray[np.int64]],
    values: NDArray[np.float64],
    classes: tuple[NDArray[np.uint8], NDArray[np.int64]],
    tails: tuple[NDArray[np.uint8], NDArray[np.int64]],
) -> int:
    """Return how many bytes the features take at most."""
    vertices, offsets = rings
    rows = len(offsets) - 1
    widest = len(str(int(np.abs(vertices).max(initial=0)))) + 3  # a sign, a point, a leading zero
    finite = np.where(np.isfinite(values), np.abs(values), 0)
    digits = len(str(int(finite.max(initial=0)))) + 2 + _DECIMALS
    tail, head = (int(np.diff(pieces[1]).max()) for pieces in (tails, classes))
    per_row = 200 + head + 20 + len(names[0]) + (max(digits, 5) + 1) * values.shape[1] + tail
    most: int = (len(vertices) + rows) * (2 * widest + 4) + rows * per_row
    return most


@kernel
def _on_wide_grid(vertices, offsets):  # type: ignore[no-untyped-def]
    """Say of each ring whether its sides are axis-parallel and its corners on a square grid of 0.02 px or more.

    The grid is taken to be as wide as the shortest side; a ring for which that is too wide is only doubtful.
    """
    out = np.empty(len(offsets) - 1, np.bool_)
    for i in range(len(out)):
        shortest = np.inf
        good = True
        before = offsets[i + 1] - 1
        for j in range(offsets[i], offsets[i + 1]):
            dx = abs(vertices[j, 0] - vertices[before, 0])
            dy = abs(vertices[j, 1] - vertices[before, 1])
            if (dx == 0) == (dy == 0):
                good = False
                break
            shortest = min(shortest, dx + dy)
            before = j
        if good and shortest >= 0.02:
            for j in range(offsets[i], offsets[i + 1]):
                for axis in range(2):
                    steps = (vertices[j, axis] - vertices[offsets[i], axis]) / shortest
                    if abs(steps - np.rint(steps)) > 1e-3:
                        good = False
        else:
            good = False
        out[i] = good
    return out


@kernel
def _put(out, at, piece):  # type: ignore[no-untyped-def]
    for i in range(len(piece)):
        out[at + i] = piece[i]
    return at + len(piece)


@kernel
def _put_fixed(out, at, number, decimals):  # type: ignore[no-untyped-def]
    """Write a whole number of 10**-decimals, without needless zeros; return where it ends."""
    if number < 0:
        out[at] = 45  # -
        at += 1
        number = -number
    while decimals > 0 and number % 10 == 0:
        number //= 10
        decimals -= 1
    digits = 1
    rest = number // 10
    while rest > 0:
        digits += 1
        rest //= 10
    digits = max(digits, decimals + 1)
    end = at + digits + (1 if decimals > 0 else 0)
    place = end - 1
    for i in range(digits):
        if i == decimals and decimals > 0:
            out[place] = 46  # .
            place -= 1
        out[place] = 48 + number % 10
        number //= 10
        place -= 1
    return end


@kernel
def _scramble(x):  # type: ignore[no-untyped-def]
    """Return the finaliser of SplitMix64 (Steele et al. 2014): no two numbers give the same."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@kernel
def _put_id(out, at, key, cell_id):  # type: ignore[no-untyped-def]
    """Write the UUID of a cell; return where it ends."""
    number = np.uint64(cell_id)
    high = _scramble(key[0] + number * np.uint64(0x9E3779B97F4A7C15))
    low = _scramble(key[1] ^ high ^ number)
    high = (high & np.uint64(0xFFFFFFFFFFFF0FFF)) | np.uint64(0x8000)  # version 8
    low = (low & np.uint64(0x3FFFFFFFFFFFFFFF)) | np.uint64(0x8000000000000000)  # variant of RFC 9562
    for i in range(32):
        half = high if i < 16 else low
        if i in (8, 12, 16, 20):
            out[at] = 45
            at += 1
        out[at] = _HEX[np.int64((half >> np.uint64(60 - 4 * (i % 16))) & np.uint64(15))]
        at += 1
    return at


@kernel
def _format_features(rings, names, values, types, classes, ids, regions, tails, size):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    key, first_id, is_first = ids
    vertices, offsets = rings
    name_bytes, name_starts = names
    class_bytes, class_starts = classes
    tail_bytes, tail_starts = tails
    out = np.empty(size, np.uint8)
    at = 0
    for i in range(len(types)):
        if i > 0 or not is_first:
            out[at] = 44  # ,
            at += 1
        out[at] = 10
        at = _put(out, at + 1, _BEFORE_ID)
        at = _put_id(out, at, key, first_id + i)
        at = _put(out, at, _BEFORE_RING)
        length = offsets[i + 1] - offsets[i]
        for j in range(length + 1):
            vertex = vertices[offsets[i] + j % length]
            if j > 0:
                out[at] = 44
                at += 1
            out[at] = 91  # [
            at = _put_fixed(out, at + 1, vertex[0], 2)
            out[at] = 44
            at = _put_fixed(out, at + 1, vertex[1], 2)
            out[at] = 93  # ]
            at += 1
        kind = types[i] - 1
        at = _put(out, at, class_bytes[class_starts[kind] : class_starts[kind + 1]])
        for j in range(values.shape[1]):
            if j > 0:
                out[at] = 44
                at += 1
            at = _put(out, at, name_bytes[name_starts[j] : name_starts[j + 1]])
            if values[i, j] == values[i, j]:
                at = _put_fixed(out, at, np.int64(np.rint(values[i, j] * 10000)), 4)
            else:
                at = _put(out, at, _NAN)
        end = regions[i] + 1
        at = _put(out, at, tail_bytes[tail_starts[end] : tail_starts[end + 1]])
    return out[:at]
