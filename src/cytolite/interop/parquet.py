"""Cells as GeoParquet 1.1: one row per nucleus, outlines as WKB polygons in level-0 pixels.

Format: https://geoparquet.org/releases/v1.1.0. `CellsWriter` writes in row groups of bounded size, `read_cells`
gives back exactly what was written.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from cytolite.cells import CellTable, require_types, with_known_types
from cytolite.celltypes import DEFAULT, FEWEST_TYPES, TypeSet
from cytolite.errors import InputError, UsageError
from cytolite.files import plain_refusal, require_regular
from cytolite.interop.arrow_arrays import codes_of, of_numbers, of_texts, to_numbers
from cytolite.interop.cells_file import CellsFile
from cytolite.interop.geojson.rings import clean_outlines, rings_of
from cytolite.kernels import kernel
from cytolite.names import as_text

log = logging.getLogger("cytolite")

ROW_GROUP = 50_000
_METADATA_KEY = b"cytolite"
_NAME_TYPE = pa.dictionary(pa.int32(), pa.string())


def _fixed_fields(type_set: TypeSet) -> list[pa.Field]:
    return [
        pa.field("cell_id", pa.int64(), nullable=False),
        pa.field("geometry", pa.binary(), nullable=False),
        pa.field("cell_type", _NAME_TYPE, nullable=False),
        *(pa.field(name, pa.float32(), nullable=False) for name in type_set.probs),
        pa.field("x_px", pa.float64(), nullable=False),
        pa.field("y_px", pa.float64(), nullable=False),
        pa.field("area_um2", pa.float32(), nullable=False),
        pa.field("region", _NAME_TYPE),
    ]


def fixed_columns(type_set: TypeSet) -> tuple[str, ...]:
    """Return the names of the columns that every table of cells of these types has, in order; features follow."""
    return tuple(field.name for field in _fixed_fields(type_set))


# Without these there are no cells; all else follows from them or may be unknown.
_NEEDED = ("geometry", "cell_type")
_INDEX = "__index_level_0__"  # pandas's row numbers
_VECTORS = "embedding"
# Of each outline, so that programs find the cells of a place without reading the others: a "covering" of GeoParquet.
_BOX = "bbox"
_EDGES = ("xmin", "ymin", "xmax", "ymax")
_BOX_FIELD = pa.field(
    _BOX, pa.struct([pa.field(edge, pa.float64(), nullable=False) for edge in _EDGES]), nullable=False
)
# A WKB polygon of one ring: byte order, type, number of rings, number of points, then the points.
_WKB_HEADER, _WKB_POINT = 1 + 4 + 4 + 4, 16
_WKB_PREFIX = b"\x01" + (3).to_bytes(4, "little") + (1).to_bytes(4, "little")


class CellsWriter(CellsFile):
    """Write cells to a GeoParquet file, table by table; a context manager.

    The file gets its name when the block ends; if an exception ends it, there is no file.

    Columns: ``cell_id`` (1, 2, ... in order of rows), ``geometry``, ``cell_type``, ``p_<type>`` of each type (sum 1),
    ``x_px``, ``y_px`` (centroid), ``area_um2``, ``region`` (null outside of any), then the features, ``bbox`` (of the
    outline: xmin, ymin, xmax, ymax), and ``embedding``, a list of `channels` float16, if there are some.

    Parameters
    ----------
    path : str or pathlib.Path
        Final name.
    feature_names : sequence of str
        Columns of the tables' features, in the file's order.
    region_names : sequence of str
        Names that `CellTable.regions` points to.
    metadata : mapping
        JSON values that are stored under the key ``cytolite``: versions, model, um/px, slide size, notice.
    type_set : TypeSet
        Types of the cells; those that are not the default are described in the metadata, as ``types``.
    channels : int
        Numbers in the cells' embeddings; 0 if they have none.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        feature_names: Sequence[str] = (),
        region_names: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        type_set: TypeSet = DEFAULT,
        *,
        channels: int = 0,
    ) -> None:
        super().__init__(path)
        self._type_set = type_set
        self._feature_names = tuple(feature_names)
        self._region_names = tuple(region_names)
        features = (pa.field(name, pa.float32()) for name in self._feature_names)
        types = {} if type_set == DEFAULT else {"types": type_set.describe()}
        own = json.dumps({**(metadata or {}), **types, "regions": self._region_names}).encode()
        self._channels = channels
        vectors = [pa.field(_VECTORS, pa.list_(pa.float16(), channels), nullable=False)] if channels else []
        columns = [*_fixed_fields(type_set), *features, _BOX_FIELD, *vectors]
        self._schema = pa.schema(columns, {b"geo": _geo_metadata(), _METADATA_KEY: own})
        self._waiting: list[CellTable] = []
        self._n_waiting = 0
        self._box: tuple[float, ...] = (math.inf, math.inf, -math.inf, -math.inf)
        self._writer: Any = None

    def _begin(self) -> None:
        # Numbers and outlines hardly repeat: a dictionary of them, or the least of them, costs time for nothing.
        self._writer = pq.ParquetWriter(
            self._file,
            self._schema,
            compression="zstd",
            use_dictionary=["cell_type", "region"],
            write_statistics=[
                *(name for name in self._schema.names if name not in {"geometry", _BOX}),
                *(f"{_BOX}.{edge}" for edge in _EDGES),
            ],
        )

    def _finish(self) -> None:
        self._flush(1)
        if self.n_cells:  # known only now; overrides what the schema says
            self._writer.add_key_value_metadata({b"geo": _geo_metadata(self._box)})
        self._writer.close()

    def _close(self) -> None:
        if self._writer is None:
            return
        try:
            self._writer.close()
        finally:
            self._writer.is_open = False  # else it tries again when it is collected

    def append(self, table: CellTable) -> None:
        """Add the rows of `table` to the file; ids count on."""
        require_types(table, self._type_set, self.path)
        if missing := [name for name in self._feature_names if len(table) and name not in table.features]:
            raise InputError(f"The cells lack the features {missing}, which {self.path.name} was opened with.")
        if self._channels and len(table) and (table.embeddings is None or table.embeddings.shape[1] != self._channels):
            raise InputError(f"The cells lack the embeddings of {self._channels} numbers that {self.path.name} is for.")
        self._waiting.append(table)
        self._n_waiting += len(table)
        if self._n_waiting >= ROW_GROUP:
            with plain_refusal(self.path):
                self._flush(ROW_GROUP)

    def _flush(self, least: int) -> None:
        """Write what waits in full row groups, until fewer than `least` rows are left."""
        if self._n_waiting < least:
            return
        filled = [t for t in self._waiting if len(t)]
        table = filled[0] if len(filled) == 1 else CellTable.concatenate(filled)
        start = 0
        while len(table) - start >= least:
            stop = min(start + ROW_GROUP, len(table))
            self._writer.write_table(self._to_arrow(table, start, stop))
            start = stop
        rest = table.select(np.arange(start, len(table)))
        self._waiting, self._n_waiting = [rest], len(rest)

    def _to_arrow(self, table: CellTable, start: int, stop: int) -> pa.Table:
        """Return the rows from `start` to `stop` as the file's columns."""
        rows = slice(start, stop)
        vertices = table.vertices[table.offsets[start] : table.offsets[stop]]
        offsets = table.offsets[start : stop + 1] - table.offsets[start]
        boxes = _boxes(vertices, offsets)
        if len(boxes[0]):
            self._box = (
                *(min(old, float(new.min())) for old, new in zip(self._box[:2], boxes[:2], strict=True)),
                *(max(old, float(new.max())) for old, new in zip(self._box[2:], boxes[2:], strict=True)),
            )
        probs = _summing_to_one(table.type_probs[rows])
        regions = table.regions[rows]
        columns = [
            of_numbers(np.arange(self.n_cells + 1, self.n_cells + 1 + stop - start)),
            _to_binary(*_encode_wkb(vertices, offsets)),
            pa.DictionaryArray.from_arrays(
                of_numbers(table.types[rows].astype(np.int32) - 1), of_texts(self._type_set.names)
            ),
            *map(of_numbers, probs.T),
            *map(of_numbers, table.centroids[rows].T),
            of_numbers(table.area_um2[rows]),
            pa.DictionaryArray.from_arrays(of_numbers(regions, regions >= 0), of_texts(self._region_names)),
            *(of_numbers(table.features[name][rows]) for name in self._feature_names),
            pa.StructArray.from_arrays([of_numbers(edge) for edge in boxes], fields=list(_BOX_FIELD.type)),
        ]
        if self._channels and table.embeddings is not None:
            numbers = of_numbers(np.ascontiguousarray(table.embeddings[rows]).reshape(-1))
            columns.append(pa.FixedSizeListArray.from_arrays(numbers, self._channels))
        self.n_cells += stop - start
        return pa.Table.from_arrays(columns, schema=self._schema)


def _boxes(vertices: NDArray[np.float64], offsets: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    """Return the least and largest x and y of each outline, in the order of `_EDGES`; each float64 (N,)."""
    if not len(vertices):
        return [np.empty(0)] * len(_EDGES)
    x, y = np.ascontiguousarray(vertices.T)
    return [find.reduceat(axis, offsets[:-1]) for find in (np.minimum, np.maximum) for axis in (x, y)]


def _geo_metadata(box: Sequence[float] | None = None) -> bytes:
    geometry: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": ["Polygon"],
        "crs": None,
        "covering": {"bbox": {edge: [_BOX, edge] for edge in _EDGES}},
    }
    if box is not None:
        geometry["bbox"] = box
    return json.dumps({"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": geometry}}).encode()


def read_cells(path: str | Path) -> CellTable:
    """Read all cells of a file that `CellsWriter` wrote, as it is or saved again by another program.

    Parameters
    ----------
    path : str or pathlib.Path
        A ``cells.parquet``.

    Returns
    -------
    CellTable
        What was written, bit for bit.

    Raises
    ------
    InputError
        If the file is missing, is no Parquet file, or lacks outlines or types of cells.
    """
    tables = list(iter_cells(path))
    return CellTable.concatenate(tables) if len(tables) > 1 else tables[0]


def iter_cells(path: str | Path, batch: int = ROW_GROUP) -> Iterator[CellTable]:
    """Read cells in tables of at most `batch` rows, so that memory stays bounded; an empty file gives one empty table.

    What geopandas, pandas, polars or DuckDB made of the columns is undone: texts of any Arrow type, dictionaries of any
    index, columns of nothing, large and viewed bytes, outlines as well-known binary or GeoArrow polygons. Centroids
    that are missing are computed, probabilities are then those of the type; a word in the log says so.

    Parameters
    ----------
    path : str or pathlib.Path
        A ``cells.parquet``.
    batch : int
        Rows per table.

    Yields
    ------
    CellTable
        In the file's order.

    Raises
    ------
    InputError
        As `read_cells`.
    """
    with open_cells(path) as file:
        schema = file.schema_arrow
        about = _metadata_of(file)
        region_names, mpp = about["regions"], about.get("mpp")
        type_set = _types_of(file, about)
        own = {*fixed_columns(type_set), _INDEX, _BOX}
        feature_names = [f.name for f in schema if f.name not in own and _is_number(f.type)]
        _tell_missing(Path(path), schema, feature_names, fixed_columns(type_set))
        empty = True
        for rows in file.iter_batches(batch):
            empty = False
            yield replace(_from_arrow(rows, feature_names, region_names, type_set, Path(path)), mpp=mpp)
        if empty:
            channels = _channels_of(schema.field(_VECTORS).type) if _VECTORS in schema.names else None
            nothing = CellTable.empty(feature_names, type_set, channels)
            yield replace(nothing, region_names=tuple(region_names), mpp=mpp)


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Return what the writer was given as metadata, and the names of the ``regions``.

    Programs that save the file again lose it: then only the regions are told, in the order of their first cells.

    Raises
    ------
    InputError
        As `read_cells`.
    """
    with open_cells(path) as file:
        return _metadata_of(file)


def read_types(path: str | Path) -> TypeSet:
    """Return the types that the cells of a file are of.

    Raises
    ------
    InputError
        As `read_cells`.
    """
    with open_cells(path) as file:
        return _types_of(file, _metadata_of(file))


def open_cells(path: str | Path) -> pq.ParquetFile:
    """Open a file of cells to read parts of it; raises what `read_cells` raises."""
    require_regular(Path(path))
    try:
        # Arrow takes names that are UTF-8 only.
        file = pq.ParquetFile(path if as_text(path) == str(path) else Path(path).open("rb"))  # noqa: SIM115
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}.") from None
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} is not a readable Parquet file ({error}).") from None
    if missing := [name for name in _NEEDED if name not in file.schema_arrow.names]:
        file.close()
        raise InputError(f"{path} is no table of cells: it lacks the columns {', '.join(missing)}.")
    return file


def _metadata_of(file: pq.ParquetFile) -> dict[str, Any]:
    own = (file.metadata.metadata or {}).get(_METADATA_KEY)
    about = dict(json.loads(own or b"{}"))
    names = list(about.get("regions", []))
    schema = file.schema_arrow
    if "region" in schema.names and not (own and schema.field("region").type == _NAME_TYPE):
        for rows in file.iter_batches(columns=["region"]):
            names += [name for name in _texts(rows.column(0)).unique().to_pylist() if name and name not in names]
    return about | {"regions": names}


def _types_of(file: pq.ParquetFile, about: Mapping[str, Any]) -> TypeSet:
    """Return the types of a file's cells: as it describes them, else as its columns of probabilities.

    Files of the default types do not describe them, and another program that saves a file again loses the description.
    """
    if "types" in about:
        return TypeSet.from_description(about["types"])
    named = [name.removeprefix("p_") for name in file.schema_arrow.names if name.startswith("p_")]
    return types_of_names(named)


def types_of_names(named: Sequence[str]) -> TypeSet:
    """Return the set whose types have columns of probabilities ``p_<name>``: the default one if those are all its own.

    Raises
    ------
    InputError
        If the names cannot be those of types.
    """
    return DEFAULT if len(named) < FEWEST_TYPES or set(named) <= set(DEFAULT.names) else TypeSet.named(named)


def _tell_missing(path: Path, schema: pa.Schema, feature_names: Sequence[str], columns: Sequence[str]) -> None:
    """Say what a file that was saved again has lost, or has beyond a table of cells."""
    missing = [name for name in columns if name not in schema.names and name not in {"cell_id", "region"}]
    if missing:
        log.warning("%s lacks the columns %s: what follows from the outlines and types is used.", path, missing)
    if _METADATA_KEY not in (schema.metadata or {}):
        log.warning("%s says neither slide nor model: it was saved again by a program that drops metadata.", path)
    if others := set(schema.names) - {*columns, *feature_names, _INDEX, _BOX, _VECTORS}:
        log.warning("%s has columns that are no numbers, which are passed over: %s.", path, sorted(others))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind))


def _from_arrow(
    rows: pa.RecordBatch, feature_names: Sequence[str], region_names: Sequence[str], type_set: TypeSet, path: Path
) -> CellTable:
    def numbers(name: str, kind: pa.DataType) -> NDArray[Any]:
        if name not in rows.schema.names:
            return np.full(len(rows), np.nan, kind.to_pandas_dtype())
        column = rows.column(name)
        try:
            return to_numbers(column if column.type == kind else column.cast(kind))
        except pa.ArrowException as error:
            raise InputError(f"{path}: the column {name!r} is not all numbers ({error}).") from None

    outlines = read_outlines(rows.column("geometry"), path)
    centroids = np.column_stack([numbers("x_px", pa.float64()), numbers("y_px", pa.float64())])
    unknown = np.isnan(centroids).any(axis=1)
    if unknown.any():
        centroids[unknown] = clean_outlines(*outlines).centroids[unknown]
    types = (_positions(rows.column("cell_type"), type_set.names) + 1).astype(np.uint8)
    if not types.all():
        known = ", ".join(type_set.names)
        raise InputError(f"{path}: {(types == 0).sum():,} cells have no cell_type; known are {known}.")
    probs = np.column_stack([numbers(name, pa.float32()) for name in type_set.probs])
    in_regions = "region" in rows.schema.names
    return CellTable(
        vertices=outlines[0],
        offsets=outlines[1],
        centroids=centroids,
        types=types,
        type_probs=with_known_types(probs, types) if np.isnan(probs).any() else probs,
        area_um2=numbers("area_um2", pa.float32()),
        regions=_positions(rows.column("region"), region_names) if in_regions else np.full(len(types), -1, np.int32),
        features={name: numbers(name, pa.float32()) for name in feature_names},
        region_names=tuple(region_names),
        type_set=type_set,
        embeddings=_vectors(rows.column(_VECTORS), path) if _VECTORS in rows.schema.names else None,
    )


def _channels_of(kind: pa.DataType) -> int | None:
    return int(kind.list_size) if pa.types.is_fixed_size_list(kind) else None


def _vectors(column: pa.Array, path: Path) -> NDArray[np.float16]:
    """Return a column of lists, of fixed or equal length, as float16 (N, channels)."""
    try:
        numbers = column.flatten().to_numpy(zero_copy_only=False).astype(np.float16)
        rows: NDArray[np.float16] = numbers.reshape(len(column), -1 if len(column) else _channels_of(column.type) or 0)
        equal = _channels_of(column.type) or set(column.value_lengths().to_pylist()) <= {rows.shape[1]}
    except (pa.ArrowException, AttributeError, ValueError, TypeError):
        equal = False
    if not equal:
        raise InputError(f"{path}: the column {_VECTORS!r} is {column.type}; lists of as many numbers each are needed.")
    return rows


def _texts(column: pa.Array) -> pa.Array:
    """Return a column of texts, however they are stored, or of nothing, as plain texts."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pa.string())


def _positions(column: pa.Array, names: Sequence[str]) -> NDArray[np.int32]:
    """Return the position of each entry in `names`, -1 for null and for no text: int32 (N,)."""
    if not (pa.types.is_dictionary(column.type) and column.dictionary.type == pa.string()):
        column = _texts(column).dictionary_encode()
    order = {name: i for i, name in enumerate(names)} | {"": -1, None: -1}
    known = column.dictionary.to_pylist()
    if unknown := [name for name in known if name not in order]:
        raise InputError(f"The cells name {', '.join(map(repr, unknown))}; known are {', '.join(names) or 'none'}.")
    of_code = np.array([*(order[name] for name in known), -1], np.int32)
    positions: NDArray[np.int32] = of_code[codes_of(column)]
    return positions


def _summing_to_one(probs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rows that sum to 1 within 1e-6: as they are where they do, else divided by their sum."""
    sums = probs.sum(axis=1, dtype=np.float64)
    off = np.abs(sums - 1) > 5e-7
    if not off.any():
        return probs
    probs = probs.copy()
    probs[off] = probs[off] / sums[off, None]
    return probs


# ---- well-known binary ----------------------------------------------------------------------------------------------


def _to_binary(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> pa.Array:
    """Return an arrow column of bytes without copying."""
    buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)


def read_outlines(column: pa.Array, path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return (vertices, offsets) of the open rings of a column of polygons, as well-known binary or text, or GeoArrow.

    Parameters
    ----------
    column : pa.Array
        Of polygons.
    path : pathlib.Path
        The file, for errors.

    Raises
    ------
    InputError
        If an outline is no polygon of one ring.
    """
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.null_count:
        raise InputError(f"{path}: {column.null_count:,} cells have no outline.")
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return rings_of(_polygons_of_lists(column, path), str(path))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view():
        return rings_of(shapely.from_wkt(column.to_pylist(), on_invalid="ignore"), str(path))
    try:
        data, starts = _from_binary(column if kind == pa.binary() else column.cast(pa.large_binary()))
    except pa.ArrowException:
        raise InputError(
            f"{path}: the column 'geometry' is {kind}; outlines as well-known binary are needed."
        ) from None
    if _is_plain_wkb(data, starts):
        return _decode_wkb(data, starts)
    return rings_of(shapely.from_wkb(column.cast(pa.binary()).to_pylist(), on_invalid="ignore"), str(path))


def _polygons_of_lists(column: pa.Array, path: Path) -> NDArray[Any]:
    """Return the polygons of a GeoArrow column: lists of rings of points, which are structures or pairs."""
    try:
        rings, points = column.flatten(), column.flatten().flatten()
        if pa.types.is_struct(points.type):
            xy = np.column_stack([points.field(axis).to_numpy(zero_copy_only=False) for axis in "xy"])
        else:
            xy = points.flatten().to_numpy(zero_copy_only=False).reshape(len(points), -1)[:, :2]
    except (AttributeError, KeyError, pa.ArrowException):
        raise InputError(f"{path}: the column 'geometry' is {column.type}; polygons are needed.") from None
    of_ring = np.repeat(np.arange(len(rings)), rings.value_lengths().to_numpy(zero_copy_only=False))
    of_polygon = np.repeat(np.arange(len(column)), column.value_lengths().to_numpy(zero_copy_only=False))
    polygons: NDArray[Any] = shapely.polygons(
        shapely.linearrings(xy.astype(np.float64), indices=of_ring), indices=of_polygon
    )
    return polygons


def _from_binary(column: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    _, offsets, data = column.buffers()
    width = np.int32 if column.type == pa.binary() else np.int64
    starts = np.frombuffer(offsets, width)[column.offset : column.offset + len(column) + 1].astype(np.int64)
    return np.frombuffer(data or b"", np.uint8), starts


def _is_plain_wkb(data: NDArray[np.uint8], starts: NDArray[np.int64]) -> bool:
    """Whether all are little-endian polygons of one ring in two dimensions, as `CellsWriter` writes them."""
    if (np.diff(starts) < _WKB_HEADER).any():
        return False
    headers = data[starts[:-1, None] + np.arange(_WKB_HEADER)]
    points = np.ascontiguousarray(headers[:, 9:13]).view("<u4").reshape(-1).astype(np.int64)
    simple = (headers[:, :9] == np.frombuffer(_WKB_PREFIX, np.uint8)).all()
    return bool(simple and (np.diff(starts) == _WKB_HEADER + _WKB_POINT * points).all())


def _encode_wkb(
    vertices: NDArray[np.float64], offsets: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the polygons of open rings one after the other, uint8, and where each begins and ends, int64 (N + 1,)."""
    lengths = np.diff(offsets)
    if (lengths < 3).any():
        raise InputError(f"An outline has at least 3 vertices; one of {lengths.min()} was given.")
    starts = np.concatenate([[0], np.cumsum(_WKB_HEADER + _WKB_POINT * (lengths + 1))])
    data = np.empty(starts[-1], np.uint8)
    _fill_wkb(np.ascontiguousarray(vertices, "<f8").view(np.uint8).reshape(-1), offsets, data, starts)
    return data, starts


def _decode_wkb(data: NDArray[np.uint8], starts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return (vertices, offsets) of the open rings, the inverse of `_encode_wkb`."""
    headers = data[starts[:-1, None] + np.arange(9, _WKB_HEADER)]
    points = np.ascontiguousarray(headers).view("<u4").reshape(-1).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(points - 1)])
    vertices = np.empty((offsets[-1], 2))
    _take_vertices(data, starts, vertices.view(np.uint8).reshape(-1), offsets)
    return vertices, offsets


@kernel
def _fill_wkb(vertices, offsets, data, starts):  # type: ignore[no-untyped-def]
    for i in range(len(offsets) - 1):
        at = starts[i]
        data[at : at + 9] = 0
        data[at] = 1  # little-endian
        data[at + 1] = 3  # polygon
        data[at + 5] = 1  # ring
        points = offsets[i + 1] - offsets[i] + 1
        for byte in range(4):
            data[at + 9 + byte] = (points >> (8 * byte)) & 255
        at += 13
        begin = 16 * offsets[i]
        size = 16 * (points - 1)
        data[at : at + size] = vertices[begin : begin + size]
        data[at + size : at + size + 16] = vertices[begin : begin + 16]


@kernel
def _take_vertices(data, starts, vertices, offsets):  # type: ignore[no-untyped-def]
    for i in range(len(offsets) - 1):
        size = 16 * (offsets[i + 1] - offsets[i])
        begin = starts[i] + 13
        vertices[16 * offsets[i] : 16 * offsets[i] + size] = data[begin : begin + size]
