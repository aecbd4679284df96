"""From one file of cells to another, in whatever formats, a piece at a time where the formats allow it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq

from cytolite.cells import CellTable
from cytolite.celltypes import DEFAULT, TypeSet
from cytolite.errors import OutputError, UsageError, did_you_mean
from cytolite.files import NOTICE, is_debris, whole_folder
from cytolite.interop.geojson.writer import MEASUREMENTS, GeoJSONWriter
from cytolite.interop.parquet import CellsWriter, iter_cells, read_metadata
from cytolite.interop.result_folder import CELLS_FILE

Format = Literal["parquet", "geojson", "chunks", "csv", "h5ad", "zarr"]
# By the end of the name; the longest first.
ENDINGS: dict[str, Format] = {
    ".geojson.gz": "geojson", ".geojson": "geojson", ".json.gz": "geojson", ".json": "geojson",
    ".parquet": "parquet", ".csv": "csv", ".h5ad": "h5ad", ".zarr": "zarr",
}  # fmt: skip
# QuPath reads a file of so many in some seconds, and stays within the memory it starts with.
CHUNK = 50_000


@dataclass
class Source:
    """Cells to be converted.

    Attributes
    ----------
    tables : iterator of CellTable
        All with the same features.
    feature_names, region_names : list of str
        Of the cells.
    about : dict
        What the file says of where it comes from.
    total : float
        Size of the file, MB.
    done : callable
        Returns how much of it is read, MB.
    left_out : mapping of str to int
        What is not taken over as it was, once all tables were read.
    type_set : TypeSet
        Types of the cells.
    channels : int
        Numbers in the cells' embeddings; 0 if they have none.
    """

    tables: Iterator[CellTable]
    feature_names: list[str]
    region_names: list[str] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    total: float = 0.0
    done: Callable[[], float] = lambda: 0.0
    left_out: Mapping[str, int] = field(default_factory=dict)
    type_set: TypeSet = DEFAULT
    channels: int = 0


def convert(
    source: Path,
    target: Path,
    *,
    classes: Mapping[str, str] | None = None,
    mpp: float | None = None,
    outlines: bool = False,
    metadata: bool = False,
    overwrite: bool = False,
    simplify_um: float | None = None,
    mapping: Mapping[str, str] | None = None,
    update: Callable[[float, float], None] = lambda done_mb, total_mb: None,
) -> tuple[int, list[str]]:
    """Convert a file of cells; the formats follow from the names.

    Parameters
    ----------
    source : pathlib.Path
        ``.parquet``, ``.geojson``, ``.geojson.gz``, ``.csv``, ``.h5ad`` or ``.zarr``; or a folder: a slide's results,
        or one of GeoJSON files.
    target : pathlib.Path
        The same; a folder gets GeoJSON files of at most `CHUNK` cells.
    classes : mapping of str to str, optional
        Type for each class of a GeoJSON file that is not called like one; ``unclassified`` stands for none.
    mpp : float, optional
        Level-0 resolution of a file that does not say it, um per pixel.
    outlines : bool
        Whether a CSV gets the outlines.
    metadata : bool
        Whether GeoJSON gets model and region of each cell; QuPath 0.5.1 logs a stack trace for each that has them.
    overwrite : bool
        Whether to replace a file that is there; folders never are.
    simplify_um : float, optional
        Draw outlines with fewer vertices, each at most so far from where it was; areas and measures stay.
    mapping : mapping of str to str, optional
        Other names of types; those that get the same become one.
    update : callable
        Called with the MB read and the MB there are.

    Returns
    -------
    n : int
        Number of cells.
    warnings : list of str
        What was not taken over as it was.

    Raises
    ------
    InputError
        If the source cannot be used, or a name's format is not known.
    OutputError
        If the target is there already, or cannot be written.
    """
    wanted = _target_format(target)
    if os.path.lexists(target) and os.path.lexists(source) and os.path.samefile(source, target):
        raise UsageError(f"{target} is what is to be converted; name another target.")
    if os.path.lexists(target) and wanted not in {"chunks", "zarr"} and not overwrite:
        raise OutputError(f"{target} is there already; --overwrite replaces it.")
    with open_cells(source, classes, mpp) as opened:
        cells = _mapped(opened, mapping) if mapping else opened
        notes: list[str] = []
        if simplify_um is not None:
            _simplify(cells, simplify_um, mpp, notes)
        n = _write(target, wanted, cells, _watched(cells, update), outlines=outlines, metadata=metadata)
        if cells.channels and wanted in {"geojson", "chunks", "csv"}:
            notes.append("the embeddings, which this format does not hold")
        return n, [*(f"{count:,} {what}" for what, count in cells.left_out.items() if count), *notes]


def _simplify(cells: Source, tolerance_um: float, mpp: float | None, notes: list[str]) -> None:
    """Simplify the outlines of a source as it is read; then `notes` say what that did."""
    from cytolite.interop.simplify import Simplified

    known = cells.about.get("mpp", mpp)
    if not isinstance(known, int | float):
        raise UsageError("--simplify is in um, and the source does not say its resolution: give it with --mpp.")
    simplified = Simplified(tolerance_um / known)
    tables = cells.tables

    def simpler() -> Iterator[CellTable]:
        for table in tables:
            yield simplified.simplify(table)
        notes.append(simplified.note)

    cells.tables = simpler()


def _mapped(source: Source, mapping: Mapping[str, str]) -> Source:
    """Return the same cells under other names of their types."""
    tables = (table.with_types(mapping) for table in source.tables)
    return replace(source, tables=tables, type_set=source.type_set.merged(mapping)[0])


def _watched(source: Source, update: Callable[[float, float], None]) -> Iterator[CellTable]:
    for table in source.tables:
        yield table
        update(source.done(), source.total)


def _format(path: Path) -> Format | None:
    return next((kind for ending, kind in ENDINGS.items() if path.name.lower().endswith(ending)), None)


def _target_format(path: Path) -> Format:
    kind = _format(path)
    if kind is None and path.suffix and not path.is_dir():
        raise UsageError(
            f"The format of {path} is not known; names end in {', '.join(ENDINGS)}, and a folder gets GeoJSON files "
            f"for QuPath.{did_you_mean(path.suffix.lower(), ENDINGS)}"
        )
    return kind or "chunks"


@contextmanager
def open_cells(path: Path, classes: Mapping[str, str] | None = None, mpp: float | None = None) -> Iterator[Source]:
    """Open a file of cells, of any format, for reading once.

    Parameters
    ----------
    path : pathlib.Path
        File of cells.
    classes : mapping, optional
        Of a foreign GeoJSON: classification to type.
    mpp : float, optional
        Resolution of a file that does not say it, um per pixel.

    Raises
    ------
    InputError
        If it is missing, or of no known format; more while it is read.
    """
    if not path.exists():
        raise UsageError(f"There is no file {path}.")
    kind = _format(path)
    if kind is None and path.is_dir() and (path / CELLS_FILE).is_file():
        path, kind = path / CELLS_FILE, "parquet"
    if kind is None and path.is_dir():
        kind = "chunks"
    if kind == "parquet":
        yield _open_parquet(path)
    elif kind in {"geojson", "chunks"}:
        with _open_geojson(path, classes, mpp) as source:
            yield source
    elif kind == "csv":
        from cytolite.interop.csv_table import read_csv

        yield _peeked(read_csv(path), {}, total=path.stat().st_size / 1e6)
    elif kind is not None:
        yield _open_whole(path, kind)
    else:
        raise UsageError(
            f"The format of {path} is not known; names end in {', '.join(ENDINGS)}.{did_you_mean(path.suffix, ENDINGS)}"
        )


def _peeked(tables: Iterator[CellTable], about: dict[str, Any], **more: Any) -> Source:
    """Make a source of tables whose first one says what features there are."""
    first = next(tables, None) or CellTable.empty()
    return Source(
        chain([first], tables), list(first.features), about=about, type_set=first.type_set, channels=_channels(first),
        **more,
    )  # fmt: skip


def _channels(table: CellTable) -> int:
    return 0 if table.embeddings is None else table.embeddings.shape[1]


def _open_parquet(path: Path) -> Source:
    about = read_metadata(path)
    regions = list(about.pop("regions", []))
    about.pop("types", None)  # the writer describes them anew
    total, read = path.stat().st_size / 1e6, 0.0
    n_rows = max(1, pq.read_metadata(path).num_rows)

    def tables() -> Iterator[CellTable]:
        nonlocal read
        for table in iter_cells(path):
            read += total * len(table) / n_rows
            yield table

    return _peeked(tables(), about, region_names=regions, total=total, done=lambda: read)


@contextmanager
def _open_geojson(path: Path, classes: Mapping[str, str] | None, mpp: float | None) -> Iterator[Source]:
    """Open a file, or a folder of files, in the order of their names."""
    from cytolite.interop.geojson.reader import GeoJSONReader

    files = [path]
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if _format(p) == "geojson" and not is_debris(Path(p.name)))
    if not files:
        raise UsageError(f"The folder {path} holds neither cells.parquet nor GeoJSON files.")
    left_out: Counter[str] = Counter()
    sizes = [file.stat().st_size / 1e6 for file in files]
    position = 0.0

    def tables() -> Iterator[CellTable]:
        nonlocal position
        names: list[str] | None = None
        types: TypeSet | None = None
        for i, file in enumerate(files):
            with GeoJSONReader(file, classes, mpp, names, types) as reader:
                for table in reader.tables():
                    names, types = list(table.features), table.type_set
                    position = sum(sizes[:i]) + reader.n_read / 1e6
                    yield table
                left_out.update(reader.left_out)

    about = {"notice": NOTICE, "converted_from": path.name}
    yield _peeked(tables(), about, total=sum(sizes), done=lambda: position, left_out=left_out)


def _open_whole(path: Path, kind: Format) -> Source:
    """Open what cannot be read in pieces."""
    if kind == "h5ad":
        from cytolite.interop.anndata_file import read_h5ad as read
    else:
        from cytolite.interop.spatialdata_store import read_zarr as read
    cells, regions = read(path)
    about = {"notice": NOTICE, "converted_from": path.name}
    types, channels = cells.type_set, _channels(cells)
    return Source(iter([cells]), list(cells.features), regions, about, type_set=types, channels=channels)


def _write(
    target: Path, kind: Format, source: Source, tables: Iterator[CellTable], *, outlines: bool, metadata: bool
) -> int:
    if kind == "parquet":
        with CellsWriter(
            target, source.feature_names, source.region_names, source.about, source.type_set, channels=source.channels
        ) as writer:
            return _append_all(writer, tables)
    slide, model = _identity(source)
    measured = [name for name in source.feature_names if name in MEASUREMENTS] or source.feature_names
    if kind == "geojson":
        with GeoJSONWriter(
            target, slide, model, measured, source.region_names, metadata=metadata, type_set=source.type_set
        ) as geojson:
            return _append_all(geojson, tables)
    if kind == "chunks":
        return _write_chunks(target, tables, source, measured, metadata)
    if kind == "csv":
        from cytolite.interop.csv_table import CSVWriter

        with CSVWriter(target, source.region_names, outlines) as csv:
            return _append_all(csv, tables)
    cells = CellTable.concatenate(list(tables))
    if kind == "h5ad":
        from cytolite.interop.anndata_file import write_h5ad as write
    else:
        from cytolite.interop.spatialdata_store import write_zarr as write
    write(target, cells, source.region_names, source.about)
    return len(cells)


def _append_all(writer: Any, tables: Iterator[CellTable]) -> int:
    n = 0
    for table in tables:
        writer.append(table)
        n += len(table)
    return n


def _identity(source: Source) -> tuple[str, str]:
    """Return slide and model as they were when the cells were found, from which ids in QuPath follow."""
    model = source.about.get("model")
    name = model.get("name", "") if isinstance(model, dict) else ""
    return Path(str(source.about.get("slide") or source.about.get("converted_from", ""))).stem, str(name)


def _write_chunks(
    folder: Path, tables: Iterator[CellTable], source: Source, measured: list[str], metadata: bool
) -> int:
    """Write files of at most `CHUNK` cells each, numbered from 1."""
    slide, model = _identity(source)
    n, waiting = 0, CellTable.empty(type_set=source.type_set)
    with whole_folder(folder) as part:

        def write(cells: CellTable) -> None:
            nonlocal n
            name = f"cells-{n // CHUNK + 1:04d}.geojson.gz"
            with GeoJSONWriter(
                part / name,
                slide,
                model,
                measured,
                source.region_names,
                first_id=n + 1,
                metadata=metadata,
                type_set=source.type_set,
            ) as writer:
                writer.append(cells)
            n += len(cells)

        for table in tables:
            waiting = table if not len(waiting) else CellTable.concatenate([waiting, table])
            while len(waiting) >= CHUNK:
                write(waiting.select(np.arange(CHUNK)))
                waiting = waiting.select(np.arange(CHUNK, len(waiting)))
        if len(waiting) or n == 0:
            write(waiting)
    return n
