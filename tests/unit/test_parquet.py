"""GeoParquet: bit for bit there and back, readable by geopandas, whole or not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from cytolite.cells import CellTable
from cytolite.celltypes import TYPE_NAMES
from cytolite.decoding.outlines import trace
from cytolite.errors import InputError, OutputError
from cytolite.interop import arrow_arrays, parquet
from cytolite.interop.parquet import CellsWriter, iter_cells, read_cells, read_metadata

FEATURES = ("perimeter_um", "circularity")
REGIONS = ("stroma", "tumour")
COLUMNS = [
    "cell_id", "geometry", "cell_type", *(f"p_{name}" for name in TYPE_NAMES), "x_px", "y_px", "area_um2", "region",
    *FEATURES,
]  # fmt: skip


def make_cells(n: int, seed: int = 0) -> CellTable:
    """Squares and random blobs at odd places."""
    rng = np.random.default_rng(seed)
    rings = []
    for _ in range(n):
        blob = np.zeros((8, 8), np.int32)
        blob[2:5, 2:6] = 1
        blob[1:7, 1:7] |= rng.integers(0, 2, (6, 6), np.int32)
        rings.append(trace(blob)[0] * rng.uniform(0.5, 4) + rng.uniform(-10, 1e5, 2))
    probs = rng.dirichlet(np.full(7, 0.3), n).astype(np.float32)
    return CellTable(
        vertices=np.concatenate([np.empty((0, 2)), *rings]),
        offsets=np.cumsum([0, *map(len, rings)]).astype(np.int64),
        centroids=rng.uniform(0, 1e5, (n, 2)),
        types=rng.integers(1, 8, n).astype(np.uint8),
        type_probs=probs,
        area_um2=rng.uniform(5, 100, n).astype(np.float32),
        regions=rng.integers(-1, len(REGIONS), n).astype(np.int32),
        features={name: rng.normal(size=n).astype(np.float32) for name in FEATURES},
    )


def write(path: Path, *tables: CellTable, **metadata: object) -> Path:
    with CellsWriter(path, FEATURES, REGIONS, metadata) as writer:
        for table in tables:
            writer.append(table)
    return path


def assert_same(got: CellTable, wanted: CellTable) -> None:
    names = ("vertices", "offsets", "centroids", "types", "type_probs", "area_um2", "regions")
    for name in names:
        a, b = getattr(got, name), getattr(wanted, name)
        assert a.dtype == b.dtype, name
        np.testing.assert_array_equal(a, b, err_msg=name)
    assert list(got.features) == list(wanted.features)
    for name, column in wanted.features.items():
        assert got.features[name].dtype == np.float32
        np.testing.assert_array_equal(got.features[name], column)


@pytest.mark.parametrize("sizes", [[0], [1], [40], [7, 0, 30, 13], [5] * 9])
@pytest.mark.parametrize("row_group", [10, 50_000])
def test_what_is_read_is_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int], row_group: int
) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP", row_group)
    tables = [make_cells(n, seed) for seed, n in enumerate(sizes)]
    path = write(tmp_path / "cells.parquet", *tables)
    assert_same(read_cells(path), CellTable.concatenate(tables))
    assert_same(CellTable.concatenate(list(iter_cells(path, 3))), CellTable.concatenate(tables))
    assert max(map(len, iter_cells(path, 3))) <= 3
    file = pq.ParquetFile(path)
    groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert groups == [row_group] * (sum(sizes) // row_group) + [sum(sizes) % row_group] * (sum(sizes) % row_group > 0)
    assert os.listdir(tmp_path) == ["cells.parquet"]


def test_geopandas_reads_it(tmp_path: Path) -> None:
    geopandas = pytest.importorskip("geopandas")
    cells = make_cells(50)
    frame = geopandas.read_parquet(write(tmp_path / "cells.parquet", cells))
    assert list(frame.columns) == COLUMNS
    assert frame.crs is None
    assert frame.cell_id.tolist() == list(range(1, 51))
    assert frame.cell_type.tolist() == [TYPE_NAMES[t - 1] for t in cells.types]
    assert [None if r != r else r for r in frame.region] == [None if r < 0 else REGIONS[r] for r in cells.regions]
    assert frame.geometry.is_valid.all()
    for i, polygon in enumerate(frame.geometry):
        np.testing.assert_array_equal(shapely.get_coordinates(polygon)[:-1], cells.outline(i))
        assert polygon.exterior.is_closed
    np.testing.assert_allclose(frame[[f"p_{name}" for name in TYPE_NAMES]].sum(axis=1), 1, atol=1e-6)
    assert {str(frame[name].dtype) for name in ("p_dead", "area_um2", *FEATURES)} == {"float32"}
    assert {str(frame[name].dtype) for name in ("x_px", "y_px")} == {"float64"}
    part = geopandas.read_parquet(tmp_path / "cells.parquet", columns=["cell_id", "geometry"])
    assert len(part) == 50


def test_metadata(tmp_path: Path) -> None:
    cells = make_cells(20)
    path = write(tmp_path / "cells.parquet", cells, model={"name": "m"}, notice="research use only")
    geo = json.loads(pq.read_metadata(path).metadata[b"geo"])
    without_box = json.loads(pq.read_schema(path).metadata[b"geo"])  # where arrow looks
    assert without_box["columns"]["geometry"].items() <= geo["columns"]["geometry"].items()
    column = geo["columns"]["geometry"]
    assert (geo["version"], geo["primary_column"]) == ("1.1.0", "geometry")
    assert (column["encoding"], column["geometry_types"], column["crs"]) == ("WKB", ["Polygon"], None)
    assert column["bbox"] == [*cells.vertices.min(axis=0), *cells.vertices.max(axis=0)]
    assert column["covering"] == {"bbox": {edge: ["bbox", edge] for edge in ("xmin", "ymin", "xmax", "ymax")}}
    table = pq.read_table(path)
    boxes = np.array([list(box.values()) for box in table["bbox"].to_pylist()])
    np.testing.assert_array_equal(boxes, shapely.bounds(shapely.from_wkb(table["geometry"].to_pylist())))
    assert pq.read_metadata(path).row_group(0).column(table.num_columns - 1).statistics.has_min_max
    assert read_metadata(path) == {"model": {"name": "m"}, "notice": "research use only", "regions": list(REGIONS)}


def test_an_empty_file_is_valid(tmp_path: Path) -> None:
    geopandas = pytest.importorskip("geopandas")
    path = write(tmp_path / "cells.parquet")
    assert len(geopandas.read_parquet(path)) == 0
    assert_same(read_cells(path), CellTable.empty(FEATURES))


def test_probabilities_are_made_to_sum_to_one(tmp_path: Path) -> None:
    cells = make_cells(4)
    cells.type_probs[1] *= 1.01
    cells.type_probs[2] = np.float32(0.1)
    got = read_cells(write(tmp_path / "cells.parquet", cells)).type_probs
    np.testing.assert_allclose(got.sum(axis=1, dtype=np.float64), 1, atol=1e-6)
    np.testing.assert_allclose(got[2], 1 / 7, rtol=1e-6)
    np.testing.assert_array_equal(got[[0, 3]], cells.type_probs[[0, 3]])


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    def fail() -> None:
        with CellsWriter(tmp_path / "cells.parquet", FEATURES) as writer:
            writer.append(make_cells(3))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert os.listdir(tmp_path) == []


def test_a_failure_keeps_the_file_that_was_there(tmp_path: Path) -> None:
    path = write(tmp_path / "cells.parquet", make_cells(2))
    with pytest.raises(InputError), CellsWriter(path, ("other",)) as writer:
        writer.append(make_cells(3))
    assert len(read_cells(path)) == 2
    assert os.listdir(tmp_path) == ["cells.parquet"]


def test_the_file_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "cells.parquet"
    with CellsWriter(path, FEATURES, REGIONS) as writer:
        writer.append(make_cells(3))
        assert not path.exists()
    assert path.exists()


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"cells\.parquet cannot be written"),
        CellsWriter(tmp_path / "no" / "cells.parquet"),
    ):
        pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = tmp_path / ".full"
    full.symlink_to("/dev/full")
    monkeypatch.setattr("cytolite.files.beside", lambda path: full)
    with pytest.raises(OutputError, match="No space left"):
        write(tmp_path / "cells.parquet", make_cells(2000))
    assert os.listdir(tmp_path) == []


def test_outlines_of_two_points_are_refused(tmp_path: Path) -> None:
    cells = make_cells(1)
    line = CellTable(**{**vars(cells), "vertices": cells.vertices[:2], "offsets": np.array([0, 2])})
    with pytest.raises(InputError, match="at least 3"):
        write(tmp_path / "cells.parquet", line)
    assert os.listdir(tmp_path) == []


def test_files_that_are_no_cells_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        read_cells(tmp_path / "missing.parquet")
    (tmp_path / "text.parquet").write_text("not a table")
    with pytest.raises(InputError, match="not a readable Parquet"):
        read_cells(tmp_path / "text.parquet")
    whole = write(tmp_path / "cells.parquet", make_cells(3)).read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not a readable Parquet"):
        read_cells(tmp_path / "cut.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match="lacks the columns geometry, cell_type"):
        read_cells(tmp_path / "other.parquet")


def test_outlines_with_holes_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "cells.parquet", make_cells(2))
    table = pq.read_table(path)
    hole = shapely.Point(0, 0).buffer(9).difference(shapely.Point(0, 0).buffer(2))
    shapes = pa.array([shapely.to_wkb(hole)] * 2)
    pq.write_table(table.set_column(1, "geometry", shapes), path)
    with pytest.raises(InputError, match="one ring"):
        read_cells(path)


def with_column(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, column)


def texts(table: pa.Table, kind: pa.DataType) -> pa.Table:
    for name in ("cell_type", "region"):
        plain = table[name].combine_chunks().dictionary_decode()
        if pa.types.is_dictionary(kind):
            index, codes = kind.index_type, plain.dictionary_encode()
            values = codes.dictionary.cast(kind.value_type)
            column = pa.DictionaryArray.from_arrays(codes.indices.cast(index), values)
        else:
            column = plain.cast(kind)
        table = with_column(table, name, column)
    return table


def as_geoarrow(table: pa.Table, *, pairs: bool) -> pa.Table:
    """The outlines as GeoArrow's polygons, of structures or of pairs, what geopandas writes as its native encoding."""
    shapes = shapely.from_wkb(table["geometry"].to_pylist())
    kind = pa.list_(pa.float64(), 2) if pairs else pa.struct([("x", pa.float64()), ("y", pa.float64())])
    rings = [[[[x, y] if pairs else {"x": x, "y": y} for x, y in shape.exterior.coords]] for shape in shapes]
    return with_column(table, "geometry", pa.array(rings, pa.list_(pa.list_(kind))))


RESAVED = {
    "string": lambda t: texts(t, pa.string()),
    "large_string": lambda t: texts(t, pa.large_string()),
    "string_view": lambda t: texts(t, pa.string_view()),
    "dictionary of int8": lambda t: texts(t, pa.dictionary(pa.int8(), pa.string())),
    "dictionary of uint32 and large strings": lambda t: texts(t, pa.dictionary(pa.uint32(), pa.large_string())),
    "large_binary": lambda t: with_column(t, "geometry", t["geometry"].cast(pa.large_binary())),
    "binary_view": lambda t: with_column(t, "geometry", t["geometry"].combine_chunks().cast(pa.binary_view())),
    "geoarrow structures": lambda t: as_geoarrow(t, pairs=False),
    "geoarrow pairs": lambda t: as_geoarrow(t, pairs=True),
    "well-known text": lambda t: with_column(
        t, "geometry", pa.array(shapely.to_wkt(shapely.from_wkb(t["geometry"].to_pylist()), rounding_precision=-1))
    ),
    "big-endian": lambda t: with_column(
        t, "geometry", pa.array(list(shapely.to_wkb(shapely.from_wkb(t["geometry"].to_pylist()), byte_order=0)))
    ),
    "multipolygons the other way round": lambda t: with_column(
        t,
        "geometry",
        pa.array([shapely.to_wkb(shapely.MultiPolygon([shapely.reverse(shapely.from_wkb(g))]))
                  for g in t["geometry"].to_pylist()]),
    ),
    "doubles and an index": lambda t: pa.table(
        {f.name: t[f.name].cast(pa.float64()) if f.type == pa.float32() else t[f.name] for f in t.schema}
        | {"__index_level_0__": pa.array(range(len(t))), "comment": pa.array(["x"] * len(t))}
    ),
}  # fmt: skip


def rings_alike(got: CellTable, wanted: CellTable) -> bool:
    """Whether outlines are the same polygons, from whatever vertex they start."""
    pairs = zip(range(len(got)), range(len(wanted)), strict=True)
    return all(shapely.equals(shapely.Polygon(got.outline(i)), shapely.Polygon(wanted.outline(j))) for i, j in pairs)


@pytest.mark.parametrize("keep_metadata", [True, False])
@pytest.mark.parametrize("name", RESAVED)
def test_files_saved_again_are_read(tmp_path: Path, name: str, keep_metadata: bool) -> None:
    cells = make_cells(40)
    path = write(tmp_path / "cells.parquet", cells)
    before = read_cells(path)
    names = read_metadata(path)["regions"]
    table = RESAVED[name](pq.read_table(path))
    metadata = pq.read_schema(path).metadata if keep_metadata else None
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=13)
    got = read_cells(path)
    assert rings_alike(got, before)
    assert shapely.is_ccw(shapely.linearrings(got.vertices, indices=np.repeat(range(40), np.diff(got.offsets)))).all()
    for column in ("types", "type_probs", "area_um2", "centroids"):
        np.testing.assert_array_equal(getattr(got, column), getattr(before, column))
    told = read_metadata(path)["regions"]
    assert [told[i] if i >= 0 else None for i in got.regions] == [names[i] if i >= 0 else None for i in before.regions]
    assert list(got.features) == list(before.features)
    assert all(column.dtype == np.float32 for column in got.features.values())


def test_columns_that_are_lost_follow_from_the_outlines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "cells.parquet", make_cells(20))
    before = read_cells(path)
    pq.write_table(pq.read_table(path).select(["geometry", "cell_type"]).replace_schema_metadata(None), path)
    got = read_cells(path)
    shapes = [shapely.Polygon(before.outline(i)).centroid.coords[0] for i in range(20)]
    np.testing.assert_allclose(got.centroids, shapes, atol=1e-6)
    assert (got.type_probs.argmax(1) + 1 == before.types).all()
    assert np.isnan(got.area_um2).all()
    assert (got.regions == -1).all()
    assert "lacks the columns" in caplog.text
    assert "x_px" in caplog.text
    assert "neither slide nor model" in caplog.text


def test_a_column_of_nothing_means_no_regions(tmp_path: Path) -> None:
    path = write(tmp_path / "cells.parquet", make_cells(5))
    table = pq.read_table(path)
    pq.write_table(with_column(table, "region", pa.nulls(5)), path)
    assert (read_cells(path).regions == -1).all()
    pq.write_table(with_column(table, "cell_type", pa.nulls(5)), path)
    with pytest.raises(InputError, match="5 cells have no cell_type"):
        read_cells(path)
    pq.write_table(with_column(table, "geometry", pa.array([1] * 5)), path)
    with pytest.raises(InputError, match="well-known binary"):
        read_cells(path)


def test_geopandas_and_pandas_save_it_again(tmp_path: Path) -> None:
    geopandas = pytest.importorskip("geopandas")
    pandas = pytest.importorskip("pandas")
    path = write(tmp_path / "cells.parquet", make_cells(30))
    before, names = read_cells(path), read_metadata(path)["regions"]
    for save in (
        lambda: geopandas.read_parquet(path).to_parquet(tmp_path / "again.parquet"),
        lambda: geopandas.read_parquet(path).to_parquet(tmp_path / "again.parquet", geometry_encoding="geoarrow"),
        lambda: geopandas.read_parquet(path).sort_values("x_px").sort_index().to_parquet(tmp_path / "again.parquet"),
        lambda: pandas.read_parquet(path).to_parquet(tmp_path / "again.parquet"),
    ):
        save()
        got, told = read_cells(tmp_path / "again.parquet"), read_metadata(tmp_path / "again.parquet")["regions"]
        assert rings_alike(got, before)
        np.testing.assert_array_equal(got.types, before.types)
        assert [told[i] if i >= 0 else None for i in got.regions] == [
            names[i] if i >= 0 else None for i in before.regions
        ]


@pytest.mark.parametrize("valid", [None, [True] * 11, [False] * 11, [i % 3 > 0 for i in range(11)]])
def test_columns_are_what_arrow_makes_of_the_same_values(valid: list[bool] | None) -> None:
    """Also of parts of arrays that are not contiguous, of none, and with nulls at either side of a byte."""
    known = None if valid is None else np.array(valid)
    null = None if known is None else ~known
    for values in (np.arange(22, dtype=np.int32)[::2], np.linspace(0, 1, 33).reshape(11, 3)[:, 1]):
        ours = arrow_arrays.of_numbers(values, known)
        ours.validate(full=True)
        assert ours.equals(pa.array(np.ascontiguousarray(values), mask=null))
    texts = [None if null is not None and null[i] else "µ" * i for i in range(11)]
    found = arrow_arrays.of_texts(texts)
    found.validate(full=True)
    assert found.equals(pa.array(texts, pa.string()))
    coded = pa.array(texts, pa.string()).dictionary_encode()
    words = coded.dictionary.to_pylist()
    assert [words[code] if code >= 0 else None for code in arrow_arrays.codes_of(coded)] == texts


def test_no_values_are_columns_too() -> None:
    assert arrow_arrays.of_numbers(np.empty(0, np.float32)).equals(pa.array([], pa.float32()))
    assert arrow_arrays.of_texts([]).equals(pa.array([], pa.string()))
    assert arrow_arrays.to_numbers(pa.array([], pa.float32())).shape == (0,)
    np.testing.assert_array_equal(arrow_arrays.to_numbers(pa.array([1.5, None])), [1.5, np.nan])


def test_cells_are_written_and_read_without_pandas(tmp_path: Path) -> None:
    """Arrow's own ways would import it, for half a second, wherever it is installed."""
    code = (
        "import sys; from cytolite.cells import CellTable\n"
        "from cytolite.interop.parquet import CellsWriter, read_cells\n"
        "import numpy as np; from dataclasses import replace\n"
        "one = replace(CellTable.empty(), vertices=np.array([[0., 0], [1, 0], [1, 1]]), offsets=np.array([0, 3]),"
        " centroids=np.ones((1, 2)), types=np.ones(1, np.uint8), type_probs=np.full((1, 7), 1 / 7, np.float32),"
        " area_um2=np.ones(1, np.float32), regions=np.zeros(1, np.int32))\n"
        f"path = {str(tmp_path / 'c.parquet')!r}\n"
        "with CellsWriter(path, region_names=['a']) as file: file.append(one)\n"
        "print(read_cells(path).regions, {'pandas', 'pyarrow.compute'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout == "[0] set()\n"
