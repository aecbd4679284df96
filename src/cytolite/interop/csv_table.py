"""Cells as comma-separated values, for spreadsheets and R; with outlines as well-known text, if wanted."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import shapely
from numpy.typing import NDArray

from cytolite.cells import CellTable, with_known_types
from cytolite.errors import InputError, UsageError
from cytolite.files import cell_text, encoding_of, plain_refusal
from cytolite.interop.cells_file import CellsFile
from cytolite.interop.geojson.rings import Outlines, clean_outlines, rings_of
from cytolite.interop.parquet import fixed_columns, types_of_names

OUTLINE = "geometry"
_DECIMALS = 2  # of coordinates, as in the GeoJSON


class CSVWriter(CellsFile):
    """Write cells to a ``.csv``, table by table, with the columns of ``cells.parquet``; a context manager.

    For spreadsheets it begins with a byte order mark, and names of regions that look like formulas have a quote before.

    The file gets its name when the block ends; if an exception ends it, there is no file.

    Parameters
    ----------
    path : pathlib.Path
        Final name.
    region_names : sequence of str
        Names that `CellTable.regions` points to.
    outlines : bool
        Whether to write the outlines too, as polygons of well-known text; they take most of the file.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """

    def __init__(self, path: Path, region_names: list[str], outlines: bool = False) -> None:
        super().__init__(path)
        self._region_names, self._outlines = region_names, outlines
        self._writer: Any = None

    def _begin(self) -> None:
        """The first table says what the columns are."""

    def _finish(self) -> None:
        self._close()

    def _close(self) -> None:
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()

    def append(self, table: CellTable) -> None:
        """Add the rows of `table` to the file; ids count on."""
        regions = np.array([*map(cell_text, self._region_names), ""], object)[table.regions]  # -1 is the last
        columns: dict[str, Any] = {
            "cell_id": np.arange(self.n_cells + 1, self.n_cells + 1 + len(table)),
            "cell_type": np.array(table.type_names, object)[table.types.astype(np.intp) - 1],
            **{name: table.type_probs[:, i] for i, name in enumerate(table.type_set.probs)},
            "x_px": table.centroids[:, 0].round(_DECIMALS),
            "y_px": table.centroids[:, 1].round(_DECIMALS),
            "area_um2": table.area_um2,
            "region": regions,
            **table.features,
        }
        if self._outlines:
            columns[OUTLINE] = _to_text(table)
        self.n_cells += len(table)
        rows = pa.table({name: pa.array(np.ascontiguousarray(column)) for name, column in columns.items()})
        with plain_refusal(self.path):
            if self._writer is None:
                self._file.write(codecs.BOM_UTF8)
                self._writer = pa_csv.CSVWriter(self._file, rows.schema)
            self._writer.write_table(rows)


def _to_text(table: CellTable) -> NDArray[Any]:
    index = np.repeat(np.arange(len(table)), np.diff(table.offsets))
    texts: NDArray[Any] = shapely.to_wkt(
        shapely.polygons(shapely.linearrings(table.vertices, indices=index)), rounding_precision=_DECIMALS
    )
    return texts


def read_csv(path: Path) -> Iterator[CellTable]:
    """Yield the cells of a CSV that has the columns of `CSVWriter`, outlines included.

    In UTF-8, UTF-16 or Windows-1252; with semicolons and decimal commas where the first line has no comma.

    Raises
    ------
    InputError
        If it lacks a column, or a value is not what it should be.
    """
    try:
        encoding = encoding_of(path)
        with path.open(encoding=encoding) as file:
            by_semicolon = "," not in (head := file.readline()) and ";" in head
        how = {
            "read_options": pa_csv.ReadOptions(block_size=16 * 2**20, encoding=encoding.removesuffix("-sig")),
            "parse_options": pa_csv.ParseOptions(delimiter=";" if by_semicolon else ",", newlines_in_values=True),
            "convert_options": pa_csv.ConvertOptions(decimal_point="," if by_semicolon else "."),
        }
        with pa_csv.open_csv(path, **how) as reader:
            names = reader.schema.names
            missing = [name for name in ("cell_type", OUTLINE) if name not in names]
            if missing:
                raise InputError(
                    f"{path} has no column {' and no column '.join(map(repr, missing))}; a table of cells has the "
                    "columns that `cytolite convert ... --outlines` writes."
                )
            for number, rows in enumerate(reader, start=1):
                yield _from_rows(rows, f"{path}, block {number}")
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}.") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path} is not a readable table of comma-separated values ({error}).") from None


def _from_rows(rows: pa.RecordBatch, where: str) -> CellTable:
    def numbers(name: str) -> NDArray[np.float64]:
        if name not in rows.schema.names:
            return np.full(len(rows), np.nan)
        try:
            found: NDArray[np.float64] = rows.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False)
        except pa.ArrowInvalid as error:
            raise InputError(f"{where}: the column {name!r} is not all numbers ({error}).") from None
        return found

    outlines = _from_text(rows.column(OUTLINE).to_pylist(), where)
    type_set = types_of_names([name.removeprefix("p_") for name in rows.schema.names if name.startswith("p_")])
    named = [str(name) for name in rows.column("cell_type").to_pylist()]
    ids = {name: type_set.by_name(name).id for name in set(named)}
    types = np.array([ids[name] for name in named], np.uint8)
    probs = np.column_stack([numbers(name) for name in type_set.probs]).astype(np.float32)
    features = [name for name in rows.schema.names if name not in fixed_columns(type_set)]
    return CellTable(
        vertices=outlines.vertices,
        offsets=outlines.offsets,
        centroids=outlines.centroids,
        types=types,
        type_probs=with_known_types(probs, types),
        area_um2=numbers("area_um2").astype(np.float32),
        regions=np.full(len(types), -1, np.int32),
        features={name: numbers(name).astype(np.float32) for name in features},
        type_set=type_set,
    )


def _from_text(texts: list[str], where: str) -> Outlines:
    polygons = shapely.from_wkt(texts, on_invalid="ignore")
    bad = np.flatnonzero(shapely.is_missing(polygons) | (shapely.get_type_id(polygons) != shapely.GeometryType.POLYGON))
    if len(bad):
        raise InputError(f"{where}: the outline {str(texts[bad[0]])[:40]!r} is no POLYGON of well-known text.")
    return from_polygons(polygons)


def from_polygons(polygons: NDArray[Any]) -> Outlines:
    """Return the outer rings of shapely polygons."""
    outer = shapely.polygons(shapely.get_exterior_ring(polygons))
    return clean_outlines(*rings_of(outer, "The table"))
