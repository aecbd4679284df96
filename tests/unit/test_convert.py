"""Cells from format to format: round trips, other people's GeoJSON, and files that are wrong."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from cytolite.cells import CellTable
from cytolite.celltypes import TYPE_NAMES
from cytolite.decoding.outlines import trace
from cytolite.errors import InputError, OutputError
from cytolite.interop import convert as convert_module
from cytolite.interop.convert import convert
from cytolite.interop.csv_table import CSVWriter
from cytolite.interop.geojson import reader as geojson_reader
from cytolite.interop.geojson.reader import GeoJSONReader
from cytolite.interop.geojson.scan import scan_features
from cytolite.interop.geojson.writer import MEASUREMENTS, GeoJSONWriter, object_id
from cytolite.interop.parquet import CellsWriter, read_cells, read_metadata

ABOUT = {"slide": "größe 1.svs", "model": {"name": "fake"}, "mpp": 0.25}


def make_cells(n: int, seed: int = 0, scale: float = 1.9873) -> CellTable:
    """Blobs with true centroids and areas, so that what is computed from outlines can be compared."""
    rng = np.random.default_rng(seed)
    rings, areas, centroids = [], [], []
    for _ in range(n):
        blob = np.zeros((12, 12), np.int32)
        blob[3:7, 3:9] = 1
        blob[1:11, 1:11] |= rng.integers(0, 2, (10, 10), np.int32)
        ring = (trace(blob)[0] + rng.integers(0, 90_000, 2)) * scale
        rings.append(ring)
        polygon = shapely.Polygon(ring)
        areas.append(polygon.area / 16)
        centroids.append([polygon.centroid.x, polygon.centroid.y])
    return CellTable(
        vertices=np.concatenate([np.empty((0, 2)), *rings]),
        offsets=np.cumsum([0, *map(len, rings)]).astype(np.int64),
        centroids=np.array(centroids).reshape(-1, 2),
        types=rng.integers(1, 8, n).astype(np.uint8),
        type_probs=rng.dirichlet(np.full(7, 0.3), n).astype(np.float32),
        area_um2=np.array(areas, np.float32),
        regions=rng.integers(-1, 2, n).astype(np.int32),
        features={name: rng.normal(size=n).astype(np.float32) for name in MEASUREMENTS},
    )


@pytest.fixture
def cells() -> CellTable:
    return make_cells(137)


@pytest.fixture
def parquet(tmp_path, cells) -> Path:
    with CellsWriter(tmp_path / "cells.parquet", MEASUREMENTS, ["A", "ä b"], ABOUT) as writer:
        writer.append(cells)
    return tmp_path / "cells.parquet"


def assert_same(found: CellTable, expected: CellTable, px: float = 0.0051, numbers: float = 5.1e-5) -> None:
    np.testing.assert_array_equal(found.types, expected.types)
    np.testing.assert_array_equal(found.offsets, expected.offsets)
    for i in range(len(expected)):  # rings may begin elsewhere, but go the same way around
        ring, wanted = found.outline(i), expected.outline(i)
        start = int(np.abs(ring - wanted[0]).sum(axis=1).argmin())
        assert np.abs(np.roll(ring, -start, axis=0) - wanted).max() <= px
    assert np.abs(found.centroids - expected.centroids).max(initial=0) <= 0.01
    # Four decimals each; a table divides seven of them by their sum.
    assert np.abs(found.type_probs - expected.type_probs).max(initial=0) <= 8 * numbers + 1e-6
    assert np.abs(found.area_um2 - expected.area_um2).max(initial=0) <= 0.0051 * bool(px)
    assert list(found.features) == list(expected.features)
    for name, column in expected.features.items():
        assert np.abs(found.features[name] - column).max(initial=0) <= numbers


@pytest.mark.parametrize("name", ["c.geojson.gz", "c.geojson", "c.JSON", "chunks"])
def test_round_trip_by_geojson(tmp_path, parquet, cells, name, monkeypatch):
    monkeypatch.setattr(convert_module, "CHUNK", 50)
    assert convert(parquet, tmp_path / name) == (137, [])
    n, warnings = convert(tmp_path / name, tmp_path / "back.parquet")
    assert (n, warnings) == (137, [])
    assert_same(read_cells(tmp_path / "back.parquet"), cells)


@pytest.mark.parametrize("block", [1, 7, 100, 1000, 5000])
def test_it_does_not_matter_where_blocks_end(tmp_path, parquet, cells, block, monkeypatch):
    convert(parquet, tmp_path / "c.geojson.gz")
    monkeypatch.setattr(geojson_reader, "_BLOCK", block)
    monkeypatch.setattr(geojson_reader, "_FIRST_BLOCK", block)
    with GeoJSONReader(tmp_path / "c.geojson.gz") as reader:
        tables = list(reader.tables())
    assert len(tables) > 10 or block == 5000
    assert_same(CellTable.concatenate(tables), cells)


def test_ids_follow_from_slide_model_and_number_also_in_chunks(tmp_path, parquet, monkeypatch):
    monkeypatch.setattr(convert_module, "CHUNK", 50)
    convert(parquet, tmp_path / "c.geojson")
    convert(parquet, tmp_path / "chunks")
    whole = json.loads((tmp_path / "c.geojson").read_bytes())["features"]
    files = sorted((tmp_path / "chunks").iterdir())
    assert [file.name for file in files] == [f"cells-000{i}.geojson.gz" for i in (1, 2, 3)]
    parts = [json.loads(gzip.decompress(file.read_bytes()))["features"] for file in files]
    assert [len(part) for part in parts] == [50, 50, 37]
    assert [feature for part in parts for feature in part] == whole
    assert [f["id"] for f in whole] == [str(object_id("größe 1", "fake", i)) for i in range(1, 138)]


@pytest.mark.parametrize("name", ["c.geojson", "c.geojson.gz", "chunks"])
def test_metadata_are_written_on_request_alone(tmp_path, parquet, name):
    """QuPath 0.5.1 logs a stack trace for each object that has them."""
    for folder, wanted in (("without", False), ("with", True)):
        (tmp_path / folder).mkdir()
        target = tmp_path / folder / name
        convert(parquet, target, metadata=wanted)
        [file] = target.iterdir() if target.is_dir() else [target]
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        assert all(("metadata" in each["properties"]) is wanted for each in json.loads(data)["features"])


def test_parquet_to_parquet_is_bit_for_bit(tmp_path, parquet, cells):
    convert(parquet, tmp_path / "b.parquet")
    assert_same(read_cells(tmp_path / "b.parquet"), read_cells(parquet), 0, 0)
    np.testing.assert_array_equal(read_cells(tmp_path / "b.parquet").regions, cells.regions)
    assert read_metadata(tmp_path / "b.parquet") == read_metadata(parquet)


def test_a_folder_of_results_is_taken_as_its_cells(tmp_path, parquet, cells):
    (tmp_path / "slide").mkdir()
    os.rename(parquet, tmp_path / "slide" / "cells.parquet")
    assert convert(tmp_path / "slide", tmp_path / "c.geojson") == (137, [])


def test_csv(tmp_path, parquet, cells):
    pd = pytest.importorskip("pandas", reason="the table is read back by pandas")

    convert(parquet, tmp_path / "c.csv")
    table = pd.read_csv(tmp_path / "c.csv", keep_default_na=False)
    assert list(table.cell_id) == list(range(1, 138))
    assert list(table.cell_type) == [TYPE_NAMES[t - 1] for t in cells.types]
    assert list(table.region) == [["A", "ä b", ""][r] for r in cells.regions]
    assert np.abs(table[["x_px", "y_px"]].to_numpy() - cells.centroids).max() <= 0.0051
    np.testing.assert_allclose(table.p_dead, cells.type_probs[:, 6], atol=1e-6)
    with pytest.raises(InputError, match="--outlines"):
        convert(tmp_path / "c.csv", tmp_path / "d.parquet")
    convert(parquet, tmp_path / "c.csv", outlines=True, overwrite=True)
    convert(tmp_path / "c.csv", tmp_path / "d.parquet")
    assert_same(read_cells(tmp_path / "d.parquet"), cells)


def test_h5ad(tmp_path, parquet, cells):
    anndata = pytest.importorskip("anndata", reason="needs the extra anndata")
    convert(parquet, tmp_path / "c.h5ad")
    convert(tmp_path / "c.h5ad", tmp_path / "d.parquet")
    found = read_cells(tmp_path / "d.parquet")
    assert_same(found, cells, 1e-9, 1e-6)
    np.testing.assert_array_equal(found.regions, cells.regions)
    # What scanpy's users do: some rows, in another order.
    data = anndata.read_h5ad(tmp_path / "c.h5ad")
    data[[5, 100, 2]].copy().write_h5ad(tmp_path / "few.h5ad")
    convert(tmp_path / "few.h5ad", tmp_path / "few.parquet")
    assert_same(read_cells(tmp_path / "few.parquet"), cells.select(np.array([5, 100, 2])), 1e-9, 1e-6)
    assert data.obsm["spatial"].shape == (137, 2)
    del data.uns["outlines"]
    data.write_h5ad(tmp_path / "bare.h5ad")
    with pytest.raises(InputError, match="outlines"):
        convert(tmp_path / "bare.h5ad", tmp_path / "x.parquet")


def test_zarr(tmp_path, parquet, cells):
    spatialdata = pytest.importorskip("spatialdata", reason="needs the extra spatialdata")
    convert(parquet, tmp_path / "c.zarr")
    convert(tmp_path / "c.zarr", tmp_path / "d.parquet")
    assert_same(read_cells(tmp_path / "d.parquet"), cells, 1e-9, 1e-6)
    store = spatialdata.read_zarr(tmp_path / "c.zarr")
    assert len(store.shapes["nuclei"]) == len(store.tables["cells"]) == 137
    with pytest.raises(OutputError, match="there already"):
        convert(parquet, tmp_path / "c.zarr", overwrite=True)


# ---- other people's files -------------------------------------------------------------------------------------------


SQUARE = [[[10, 10], [20, 10], [20, 20], [10, 20], [10, 10]]]


def feature(coordinates: Any = SQUARE, kind: str = "Polygon", **properties: Any) -> dict[str, Any]:
    properties = {"objectType": "detection", "classification": {"name": "Dead", "color": [1, 2, 3]}} | properties
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}


def read(path: Path, *features: Any, wrap: Any = None, **options: Any) -> tuple[CellTable, dict[str, int]]:
    content = {"type": "FeatureCollection", "features": list(features)} if wrap is None else wrap(list(features))
    path.write_text(json.dumps(content, indent=1))
    with GeoJSONReader(path, **options) as reader:
        tables = list(reader.tables())
    left_out = {what: count for what, count in reader.left_out.items() if count}
    return (CellTable.concatenate(tables) if tables else CellTable.empty()), left_out


@pytest.mark.parametrize(
    "wrap",
    [lambda f: {"type": "FeatureCollection", "features": f}, lambda f: f, lambda f: f[0],
     lambda f: {"crs": {"features": [1], "x": "\"features\": ["}, "features": f, "type": "FeatureCollection", "a": 1}],
)  # fmt: skip
def test_every_shape_that_geojson_comes_in(tmp_path, wrap):
    table, _ = read(tmp_path / "a.geojson", feature(), wrap=wrap)
    assert table.outline(0).tolist() == SQUARE[0][:-1]
    assert table.centroids.tolist() == [[15, 15]]


@pytest.mark.parametrize(
    "classification", ["Dead", "dead", {"name": "Dead"}, {"names": ["Dead"], "color": [1, 1, 1]}, {"name": " dead "}]
)
def test_classes_however_written(tmp_path, classification):
    table, _ = read(tmp_path / "a.geojson", feature(classification=classification))
    assert table.types.tolist() == [7]
    assert table.type_probs.tolist() == [[0, 0, 0, 0, 0, 0, 1]]  # nothing else is known


def test_classes_of_others_are_asked_for(tmp_path):
    tumour = feature(classification={"name": "Tumor"})
    with pytest.raises(InputError, match=r"feature 2: the class 'Tumor'.*--class 'Tumor=neoplastic'"):
        read(tmp_path / "a.geojson", feature(), tumour)
    with pytest.raises(InputError, match="unclassified"):
        read(tmp_path / "a.geojson", feature(classification=None))
    with pytest.raises(InputError, match="no cell type 'tumour'"):
        read(tmp_path / "a.geojson", tumour, classes={"Tumor": "tumour"})
    classes = {"Tumor": "neoplastic", "unclassified": "connective", "Dead": "neutrophil"}
    table, _ = read(tmp_path / "a.geojson", tumour, feature(classification=None), feature(), classes=classes)
    assert table.types.tolist() == [1, 6, 5]


def test_measurements_of_others(tmp_path):
    cells = [
        feature(measurements={"Nucleus: Area µm^2": 12.5, "Ki67 \"x\"": "NaN", "b": None, "c": -1.5e-3}),
        feature(measurements=[{"name": "c", "value": 4}, {"name": "Area µm^2", "value": 3}]),
        feature(),
        feature(measurements={"b": 7, "later": 1}),
    ]  # fmt: skip
    table, left_out = read(tmp_path / "a.geojson", *cells)
    np.testing.assert_array_equal(table.area_um2, np.array([12.5, 3, np.nan, np.nan], np.float32))
    assert list(table.features) == ['Ki67 "x"', "b", "c", "later"]
    np.testing.assert_array_equal(table.features["c"], np.array([-1.5e-3, 4, np.nan, np.nan], np.float32))
    assert left_out == {"cells have no area in µm², which needs --mpp": 2}
    table, left_out = read(tmp_path / "a.geojson", *cells, mpp=0.5)
    np.testing.assert_array_equal(table.area_um2, np.array([12.5, 3, 25, 25], np.float32))
    assert left_out == {}
    table, left_out = read(tmp_path / "a.geojson", feature(measurements={"b": "much", "c": "1,5"}), mpp=1)
    assert table.features["c"].tolist() == [1.5]
    assert list(table.features) == ["c"]
    assert left_out == {"measurements that are no numbers were left out": 1}


def test_the_quick_way_for_measurements_reads_the_same(tmp_path, monkeypatch):
    """Objects with the first one's names are read by the scanner, others by the parser: all give the same numbers."""
    monkeypatch.setattr(geojson_reader, "_FIRST_BLOCK", 400)
    rng = np.random.default_rng(0)
    rows = [{"a": float(x), "b é": float(10**x), "p_dead": float(x)} for x in rng.normal(0, 3, 60)]
    rows[20]["a"], rows[21]["a"] = None, "NaN"
    rows[22] = dict(reversed(rows[22].items()))
    rows[23].pop("b é")
    rows[24]["extra"] = 1
    rows[25] = {"coordinates": 3, "measurements": 4}
    table, _ = read(tmp_path / "a.geojson", *[feature(measurements=row) for row in rows])
    for name in ("a", "b é"):
        wanted = [np.nan if row.get(name) in (None, "NaN") else row[name] for row in rows]
        np.testing.assert_allclose(table.features[name], np.array(wanted, np.float32), rtol=1e-6)


def test_numbers_are_read_as_python_reads_them(tmp_path):
    rng = np.random.default_rng(1)
    texts = [f"{x:.{d}f}" for x, d in zip(rng.uniform(-1e5, 1e5, 3000), rng.integers(0, 9, 3000), strict=True)]
    texts += ["0", "-0.0", "1e3", "1.5E+2", "-2.5e-1", "123456789012345678901234", "0.00000000000000000000012345678"]
    square = ",".join(f"[{x},{x}]" for x in texts)
    text = f'{{"coordinates": [[[0, 0], [1, 0], [0, 1], {square}]]}}]'
    scanned = scan_features(np.frombuffer(text.encode(), np.uint8), True)
    found = scanned.points[3:, 0]
    np.testing.assert_allclose(found, [float(text) for text in texts], rtol=3e-16, atol=0)


def test_parts_holes_and_crossings(tmp_path):
    small, large = SQUARE, [[[100, 0], [100, 30], [130, 30], [130, 0], [100, 0]]]
    hole = [[[105, 5], [110, 5], [110, 10], [105, 5]]]
    bow = [[[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]]
    line = [[[0, 0], [5, 5], [9, 9], [0, 0]]]
    doubled = [[[0, 0], [9, 0, 7], [9, 0], [9, 9], [0, 9], [0, 0], [0, 0]]]
    table, left_out = read(
        tmp_path / "a.geojson",
        feature([small, large + hole], "MultiPolygon"), feature(bow), feature(line), feature(doubled),
        {"type": "Feature", "geometry": feature()["geometry"], "properties": {"objectType": "annotation"}},
        feature(objectType="tile"),
    )  # fmt: skip
    polygons = [shapely.Polygon(table.outline(i)) for i in range(len(table))]
    assert [polygon.area for polygon in polygons] == [900, 25, 81]
    assert all(polygon.is_valid and polygon.exterior.is_ccw for polygon in polygons)  # clockwise on the screen
    assert table.centroids.tolist()[0] == [115, 15]
    assert sorted(left_out.values()) == [1, 1, 1, 2, 3]


def test_random_rings_are_valid_whatever_they_are(tmp_path):
    rng = np.random.default_rng(5)
    rings = [rng.integers(0, 12, (rng.integers(3, 12), 2)) for _ in range(400)]
    features = [feature([[*map(list, ring.tolist()), ring[0].tolist()]]) for ring in rings]
    table, left_out = read(tmp_path / "a.geojson", *features)
    assert left_out["outlines that crossed themselves were repaired"] > 100
    polygons = [shapely.Polygon(table.outline(i)) for i in range(len(table))]
    assert all(polygon.is_valid for polygon in polygons)
    valid = [p for p in map(shapely.Polygon, rings) if p.is_valid and p.area > 0]
    assert {round(p.area, 9) for p in valid} <= {round(p.area, 9) for p in polygons}


def test_a_cell_with_two_outlines_is_its_nucleus(tmp_path):
    cell = feature([[[0, 0], [99, 0], [99, 99], [0, 0]]], objectType="cell")
    cell["nucleusGeometry"] = feature()["geometry"]
    table, _ = read(tmp_path / "a.geojson", cell)
    assert table.outline(0).tolist() == SQUARE[0][:-1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no FeatureCollection"),
        ("[", "ends in the middle"),
        ("{}", "no FeatureCollection"),
        ('{"type": "Topology"}', "no FeatureCollection"),
        ('{"features": [', "ends in the middle"),
        ('{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[1,', "ends in the middle"),
        ('{"features": [1, 2]}', "after feature 0 comes '1"),
        (json.dumps(feature()) + "\n" + json.dumps(feature()), "near feature 1"),
        (json.dumps([feature(), feature()]).replace("}}, {", "}} {"), "after feature 1 comes"),
        (json.dumps([feature([1, 2], "Point")]), "none of its features.*1 objects that are no polygons"),
        (json.dumps([{"type": "Feature"}]), "none of its features.*no polygons"),
        (json.dumps([feature([[["a", 1]]])]), "not all numbers"),
        (json.dumps([feature()]).replace('"Dead"', "Dead"), "not valid JSON"),
        (json.dumps([feature()]) + " trailing", "ends in the middle"),
        (json.dumps([feature() | {"properties": 3}]), "properties are not an object"),
    ],
)
def test_what_is_no_file_of_cells_is_a_sentence(tmp_path, content, words):
    (tmp_path / "a.geojson").write_text(content)
    with pytest.raises(InputError, match=words) as told:
        convert(tmp_path / "a.geojson", tmp_path / "b.parquet")
    assert str(tmp_path / "a.geojson") in str(told.value)
    assert os.listdir(tmp_path) == ["a.geojson"]


def test_damaged_gzip_is_a_sentence(tmp_path, parquet):
    convert(parquet, tmp_path / "c.geojson.gz")
    data = (tmp_path / "c.geojson.gz").read_bytes()
    for damaged in (data[:-10], data[: len(data) // 2], data[:-8] + bytes(8), data[:20] + bytes(100) + data[120:]):
        (tmp_path / "c.geojson.gz").write_bytes(damaged)
        with pytest.raises(InputError, match=r"gzip|no GeoJSON"):
            convert(tmp_path / "c.geojson.gz", tmp_path / "d.parquet")
        assert not (tmp_path / "d.parquet").exists()


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("none.geojson", "b.parquet", "no file"),
        ("cells.parquet", "b.parqet", "Did you mean '.parquet'"),
        ("cells.parquet", "cells.parquet", "what is to be converted"),
        ("cells.parquet", "there.csv", "--overwrite"),
        ("cells.parquet", "full", "there already"),
        ("empty", "b.csv", "neither"),
        ("there.csv", "b.parquet", "no column 'cell_type'"),
        ("a.txt", "b.parquet", "not known"),
        ("cells.parquet", "no/where.csv", "cannot be written"),
    ],
)
def test_wrong_names_are_a_sentence(tmp_path, parquet, source, target, words):
    (tmp_path / "there.csv").write_text("a,b\n1,2\n")
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises((InputError, OutputError), match=words):
        convert(tmp_path / source, tmp_path / target)
    assert sorted(tmp_path.rglob("*")) == before


def test_empty_tables_convert(tmp_path):
    with CellsWriter(tmp_path / "a.parquet", MEASUREMENTS) as writer:
        writer.append(CellTable.empty(MEASUREMENTS))
    for name in ("b.geojson.gz", "c.csv", "chunks"):
        assert convert(tmp_path / "a.parquet", tmp_path / name) == (0, [])
    assert convert(tmp_path / "b.geojson.gz", tmp_path / "d.parquet") == (0, [])
    assert convert(tmp_path / "chunks", tmp_path / "e.csv") == (0, [])


def test_progress_reaches_the_end(tmp_path, parquet):
    seen: list[tuple[float, float]] = []
    convert(parquet, tmp_path / "c.geojson.gz", update=lambda *mb: seen.append(mb))
    done, total = seen[-1]
    assert done == pytest.approx(total)
    seen.clear()
    convert(tmp_path / "c.geojson.gz", tmp_path / "d.parquet", update=lambda *mb: seen.append(mb))
    done, total = seen[-1]
    assert done == pytest.approx(total)


def test_a_colour_or_name_in_quotes_does_not_mislead_the_scanner(tmp_path):
    tricky = feature(name='"coordinates":[[[1,2]]] \\" }], {', metadata={"coordinates": ["x", [1, 2]], "features": []})
    table, _ = read(tmp_path / "a.geojson", tricky, feature())
    assert len(table) == 2
    with GeoJSONWriter(tmp_path / "b.geojson") as writer:
        writer.append(table)
    assert len(json.loads((tmp_path / "b.geojson").read_bytes())["features"]) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
@pytest.mark.parametrize("n", [3, 400])  # found out when the file is closed, or before
def test_a_disk_full_of_csv_is_said_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    full = tmp_path / ".full"
    full.symlink_to("/dev/full")
    monkeypatch.setattr("cytolite.files.beside", lambda path: full)
    with pytest.raises(OutputError, match="No space left"), CSVWriter(tmp_path / "cells.csv", ["a", "b"]) as writer:
        writer.append(make_cells(n))
    assert os.listdir(tmp_path) == []
