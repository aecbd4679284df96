"""GeoJSON for QuPath: its rules as a validator that our files pass and every known bad example fails."""

from __future__ import annotations

import copy
import gzip
import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import shapely
from shapely.geometry import shape

from cytolite.cells import CellTable
from cytolite.celltypes import CELL_TYPES, TYPE_NAMES
from cytolite.decoding.outlines import trace
from cytolite.errors import InputError, OutputError
from cytolite.interop.geojson import writer as geojson
from cytolite.interop.geojson.writer import TAG, GeoJSONWriter, object_id, round_rings


def validate(data: bytes) -> list[dict[str, Any]]:
    """Raise AssertionError unless QuPath 0.5 to 0.7 opens `data` as detections; return the features."""
    content = orjson.loads(data)  # strict: one document, no NaN
    if isinstance(content, dict):  # an array of features and a single one are fine too
        content = [content] if content["type"] == "Feature" else content["features"]
    features = content
    assert len({feature["id"] for feature in features}) == len(features)
    for feature in features:
        assert feature["type"] == "Feature"
        assert str(uuid.UUID(feature["id"])) == feature["id"]
        validate_geometry(feature["geometry"])
        if "nucleusGeometry" in feature:
            validate_geometry(feature["nucleusGeometry"])
        properties = feature["properties"]
        assert properties["objectType"] in {"detection", "cell"}, "becomes an annotation"
        assert "nucleusGeometry" not in properties, "is lost"
        classification = properties["classification"]
        if not isinstance(classification, str):
            assert isinstance(classification["name"], str)
            colour = classification["color"]
            assert isinstance(colour, list)
            assert len(colour) == 3
            assert all(isinstance(c, int) and 0 <= c <= 255 for c in colour)
        assert all(value == "NaN" or isinstance(value, float | int) for value in properties["measurements"].values())
    return features


def validate_geometry(geometry: dict[str, Any]) -> None:
    assert geometry["type"] in {"Polygon", "MultiPolygon"}
    polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    for ring in (ring for polygon in polygons for ring in polygon):
        assert len(ring) >= 4
        assert ring[0] == ring[-1], "not closed"
        assert all(round(c, 2) == c for vertex in ring for c in vertex)
    assert shape(geometry).is_valid
    assert shape(geometry).area > 0


GOOD = {
    "type": "Feature",
    "id": str(uuid.UUID(int=5)),
    "geometry": {"type": "Polygon", "coordinates": [[[10, 10], [20, 10], [20, 20], [10, 10]]]},
    "properties": {
        "objectType": "detection",
        "classification": {"name": "Dead", "color": [240, 215, 30]},
        "measurements": {"a": 1, "b": "NaN"},
    },
}


def changed(*path: str, to: Any) -> bytes:
    feature = copy.deepcopy(GOOD)
    place: Any = feature
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return json.dumps({"type": "FeatureCollection", "features": [feature]}).encode()


BAD_EXAMPLES = {
    "no colour": changed("properties", "classification", to={"name": "Dead"}),
    "integer colour": changed("properties", "classification", "color", to=-65536),
    "unclosed ring": changed("geometry", "coordinates", to=[[[10, 10], [20, 10], [20, 20], [10, 20]]]),
    "bow tie": changed("geometry", "coordinates", to=[[[0, 0], [9, 9], [9, 0], [0, 9], [0, 0]]]),
    "collection": changed("geometry", to={"type": "GeometryCollection", "geometries": [GOOD["geometry"]]}),
    "nucleus inside properties": changed("properties", "nucleusGeometry", to=GOOD["geometry"]),
    "unknown object type": changed("properties", "objectType", to="Detection"),
    "bad nucleus": changed(
        "nucleusGeometry", to={"type": "Polygon", "coordinates": [[[1, 1], [2, 1], [2, 2], [1, 2]]]}
    ),
    "bow tie in two parts": changed(
        "geometry", to={"type": "MultiPolygon", "coordinates": [[[[0, 0], [9, 9], [9, 0], [0, 9], [0, 0]]]]}
    ),
    "colour of four": changed("properties", "classification", "color", to=[1, 2, 3, 4]),
    "annotation": changed("properties", "objectType", to="annotation"),
    "no object type": changed("properties", to={k: v for k, v in GOOD["properties"].items() if k != "objectType"}),
    "too fine": changed("geometry", "coordinates", to=[[[10, 10], [20.001, 10], [20, 20], [10, 10]]]),
    "lines of JSON": json.dumps(GOOD).encode() + b"\n" + json.dumps(GOOD).encode(),
    "bare NaN": changed("properties", "measurements", "a", to=float("nan")),
    "same id twice": json.dumps({"type": "FeatureCollection", "features": [GOOD, GOOD]}).encode(),
    "cut off": changed("id", to=GOOD["id"])[:-1],
}


def test_the_validator_lets_good_examples_pass() -> None:
    assert validate(changed("id", to=GOOD["id"])) == [GOOD]
    validate(changed("properties", "classification", to="Dead"))
    validate(changed("properties", "objectType", to="cell"))
    validate(changed("nucleusGeometry", to=GOOD["geometry"]))
    validate(changed("properties", "metadata", to={"model": "m", "region": "r"}))
    validate(json.dumps([GOOD]).encode())
    validate(json.dumps(GOOD).encode())


@pytest.mark.parametrize("name", BAD_EXAMPLES)
def test_the_validator_finds_bad_examples(name: str) -> None:
    with pytest.raises((AssertionError, KeyError, orjson.JSONDecodeError)):
        validate(BAD_EXAMPLES[name])


FEATURES = ("perimeter_um", "circularity", "solidity")


def make_cells(n: int, scale: float = 1.0, seed: int = 0) -> CellTable:
    rng = np.random.default_rng(seed)
    rings = []
    for _ in range(n):
        blob = np.zeros((9, 9), np.int32)
        blob[2:5, 2:6] = 1
        blob[1:8, 1:8] |= rng.integers(0, 2, (7, 7), np.int32)
        rings.append((trace(blob)[0] + rng.integers(0, 90_000, 2)) * scale)
    return CellTable(
        vertices=np.concatenate([np.empty((0, 2)), *rings]),
        offsets=np.cumsum([0, *map(len, rings)]).astype(np.int64),
        centroids=rng.uniform(0, 1e5, (n, 2)),
        types=rng.integers(1, 8, n).astype(np.uint8),
        type_probs=rng.dirichlet(np.full(7, 0.3), n).astype(np.float32),
        area_um2=rng.uniform(5, 100, n).astype(np.float32),
        regions=np.full(n, -1, np.int32),
        features={name: rng.normal(size=n).astype(np.float32) for name in FEATURES},
    )


def write(path: Path, *tables: CellTable, **options: Any) -> bytes:
    with GeoJSONWriter(path, **options) as writer:
        for table in tables:
            writer.append(table)
    return gzip.decompress(path.read_bytes())


@pytest.mark.parametrize("scale", [1.0, 2.0, 0.25, 1.9877, 0.5031, 0.1, 0.03])
def test_our_files_follow_the_rules(tmp_path: Path, scale: float) -> None:
    cells = make_cells(60, scale)
    for feature, i in zip(validate(write(tmp_path / "c.geojson.gz", cells)), range(60), strict=True):
        ring = np.array(feature["geometry"]["coordinates"][0])
        np.testing.assert_allclose(ring[:-1], cells.outline(i), atol=0.005 + 1e-9)
        properties = feature["properties"]
        kind = CELL_TYPES[cells.types[i] - 1]
        assert properties["objectType"] == "detection"
        assert properties["name"] == TAG
        assert properties["classification"] == {"name": kind.qupath_class, "color": list(kind.colour)}
        got = properties["measurements"]
        for j, name in enumerate(TYPE_NAMES):
            assert got.pop(f"p_{name}") == pytest.approx(cells.type_probs[i, j], abs=5.01e-5)
        assert got.pop("area_um2") == pytest.approx(cells.area_um2[i], abs=0.00501)
        assert got.pop("perimeter_um") == pytest.approx(cells.features["perimeter_um"][i], abs=5.01e-5)
        assert got.pop("circularity") == pytest.approx(cells.features["circularity"][i], abs=5.01e-5)
        assert got == {}


def test_the_bytes_are_those_of_a_plain_formatter(tmp_path: Path) -> None:
    """The same file from json and Python's own rounding, digit by digit."""
    cells = make_cells(25, 0.37)
    cells.vertices[:] -= 20_000  # negative ones too
    lines = [
        json.dumps(
            {
                "type": "Feature",
                "id": str(object_id("s", "m", i + 1)),
                "geometry": {
                    "type": "Polygon",
                    "coordinates": [[*map(plain, [*cells.outline(i), cells.outline(i)[0]])]],
                },
                "properties": {
                    "objectType": "detection",
                    "name": TAG,
                    "classification": {
                        "name": CELL_TYPES[cells.types[i] - 1].qupath_class,
                        "color": CELL_TYPES[cells.types[i] - 1].colour,
                    },
                    "measurements": {
                        **{f"p_{name}": short(p, 4) for name, p in zip(TYPE_NAMES, cells.type_probs[i], strict=True)},
                        "area_um2": short(cells.area_um2[i], 2),
                        "solidity": short(cells.features["solidity"][i], 4),
                    },
                    "metadata": {"model": "m"},
                },
            },
            separators=(",", ":"),
        )
        for i in range(len(cells))
    ]
    wanted = '{"type":"FeatureCollection","features":[\n' + ",\n".join(lines) + "\n]}\n"
    got = write(tmp_path / "c.geojson.gz", cells, slide="s", model="m", measurements=["solidity"])
    assert got.decode() == wanted


def test_each_cell_says_its_region(tmp_path: Path) -> None:
    cells = make_cells(30)
    cells.regions[:] = np.arange(30) % 4 - 1
    names = ["Tumour", 'a "quoted" näme', ""]
    features = validate(write(tmp_path / "c.geojson.gz", cells, model="m", region_names=names))
    for feature, region in zip(features, cells.regions, strict=True):
        wanted = {"model": "m"} if region < 0 else {"model": "m", "region": names[region]}
        assert feature["properties"]["metadata"] == wanted
    features = validate(write(tmp_path / "d.geojson.gz", cells, region_names=names))
    assert "metadata" not in features[0]["properties"]
    assert features[1]["properties"]["metadata"] == {"region": "Tumour"}


def plain(vertex: np.ndarray) -> list[float]:
    return [short(c, 2) for c in vertex]


def short(value: float, decimals: int) -> float | int:
    rounded = float(np.rint(float(value) * 10**decimals) / 10**decimals)
    return int(rounded) if rounded == int(rounded) else rounded


def test_an_empty_table_is_a_valid_file(tmp_path: Path) -> None:
    assert validate(write(tmp_path / "a.geojson.gz")) == []
    assert validate(write(tmp_path / "b.geojson.gz", CellTable.empty())) == []


def test_chunks_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = make_cells(50)
    whole = write(tmp_path / "a.geojson.gz", cells)
    monkeypatch.setattr(geojson, "_CHUNK", 7)
    parts = [cells.select(np.arange(a, b)) for a, b in ((0, 0), (0, 1), (1, 30), (30, 50))]
    assert write(tmp_path / "b.geojson.gz", *parts) == whole
    assert len(validate(whole)) == 50


def test_the_same_cells_give_the_same_file(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz"):
        write(tmp_path / name, make_cells(5), slide="s")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_ids() -> None:
    ids = [object_id("slide", "model", i) for i in range(1, 2000)]
    assert len(set(ids)) == len(ids)
    assert {i.version for i in ids} == {8}
    assert {i.variant for i in ids} == {uuid.RFC_4122}
    assert object_id("slide", "model", 1) == ids[0]
    assert object_id("other", "model", 1) != ids[0]
    assert object_id("slide", "other", 1) != ids[0]


def test_numbers_that_are_none(tmp_path: Path) -> None:
    cells = make_cells(3)
    cells.features["circularity"][:] = [np.nan, np.inf, 1e30]
    features = validate(write(tmp_path / "c.geojson.gz", cells))
    assert [feature["properties"]["measurements"]["circularity"] for feature in features] == ["NaN"] * 3


@pytest.mark.parametrize("value", [0, 1e-9, 4.9e-5, 5.1e-5, 0.99996, 9.99999, 123456.78905, 1e13, -0.00005, -0.01])
def test_all_sizes_of_numbers_fit(tmp_path: Path, value: float) -> None:
    cells = make_cells(40)
    cells.features["circularity"][:] = value
    value = float(np.float32(value))
    for feature in validate(write(tmp_path / "c.geojson.gz", cells)):
        assert feature["properties"]["measurements"]["circularity"] == pytest.approx(value, abs=5.01e-5, rel=1e-12)


@pytest.mark.parametrize("offset", [0, -3.14159, 99_999.99, -99_999.995, 1e9])
def test_all_sizes_of_coordinates_fit(tmp_path: Path, offset: float) -> None:
    cells = make_cells(30)
    cells.vertices[:] += offset
    for i, feature in enumerate(validate(write(tmp_path / "c.geojson.gz", cells))):
        np.testing.assert_allclose(feature["geometry"]["coordinates"][0][:-1], cells.outline(i), atol=0.00501, rtol=0)


def table_of(*rings: list[list[float]]) -> CellTable:
    cells = make_cells(len(rings))
    return CellTable(
        **{
            **vars(cells),
            "vertices": np.concatenate([np.array(ring, float) for ring in rings]),
            "offsets": np.cumsum([0, *map(len, rings)]),
        }
    )


REPAIRED: dict[str, tuple[list[list[float]], Callable[[float], bool]]] = {
    "slanted": ([[0, 0], [10, 3], [7, 9], [2, 8]], lambda area: area == 53.5),
    "bow tie": ([[0, 0], [10, 10], [10, 0], [0, 12]], lambda area: 20 < area < 40),
    "needle": ([[0, 0], [10, 0.004], [10, 0], [0, 0.004]], lambda area: 0 < area < 0.2),
    "point": ([[5, 5], [5.001, 5], [5.001, 5.001], [5, 5.001]], lambda area: area == pytest.approx(1e-4)),
    "pinched by rounding": (
        [[0, 0], [10, 0], [10, 10], [5.001, 10], [5.001, 0.004], [4.999, 0.004], [4.999, 10], [0, 10]],
        lambda area: area == 100,  # the slit closes
    ),
    "same vertex twice": ([[0, 0], [4, 0], [4, 0], [4, 4], [0, 4]], lambda area: area == 16),
    "touches itself": ([[0, 0], [4, 0], [4, 4], [2, 0], [0, 4]], lambda area: area == 4),
    "two scales": ([[0, 0], [5.005, 0], [5.005, 3], [5.0, 3], [5.0, 6], [0, 6]], lambda area: area > 29.9),
}


@pytest.mark.parametrize("name", REPAIRED)
def test_any_outline_is_valid_after_rounding(tmp_path: Path, name: str) -> None:
    ring, fits = REPAIRED[name]
    square = [[0, 0], [1, 0], [1, 1], [0, 1]]
    before, feature, after = validate(write(tmp_path / "c.geojson.gz", table_of(square, ring, square)))
    assert fits(shape(feature["geometry"]).area)
    assert shapely.LinearRing(feature["geometry"]["coordinates"][0]).is_ccw  # like all others: clockwise on the screen
    assert before["geometry"] == after["geometry"]


def test_random_polygons_are_valid_after_rounding() -> None:
    """Tiny star-shaped rings at all angles, where rounding does the most harm."""
    rng = np.random.default_rng(0)
    for size in (0.01, 0.03, 0.1, 1):
        for _ in range(50):
            angles = np.sort(rng.uniform(0, 2 * np.pi, 12))
            ring = np.column_stack([np.cos(angles), np.sin(angles)]) * rng.uniform(0.2, 1, (12, 1)) * size + 7
            vertices, offsets = round_rings(ring, np.array([0, 12]))
            assert offsets.tolist() == [0, len(vertices)]
            assert shapely.Polygon(vertices / 100).is_valid


def test_valid_outlines_are_left_alone() -> None:
    cells = make_cells(40, 0.731)
    vertices, offsets = round_rings(cells.vertices, cells.offsets)
    np.testing.assert_array_equal(offsets, cells.offsets)
    np.testing.assert_array_equal(vertices, np.rint(cells.vertices * 100))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"types": np.array([0], np.uint8)}, "0 to 0"),
        ({"types": np.array([8], np.uint8)}, "8 to 8"),
        ({"regions": np.array([0], np.int32)}, "regions up to 0; 0 have a name"),
        ({"regions": np.array([-2], np.int32)}, "regions"),
        ({"vertices": np.array([[0, 0], [1, 1]], float), "offsets": np.array([0, 2])}, "at least 3"),
        ({"vertices": np.array([[0, 0], [np.nan, 1], [1, 0]]), "offsets": np.array([0, 3])}, "numbers"),
        ({"vertices": np.array([[0, 0], [1e20, 1], [1, 0]]), "offsets": np.array([0, 3])}, "numbers"),
    ],
)
def test_bad_cells_are_refused_and_leave_no_file(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        write(tmp_path / "c.geojson.gz", CellTable(**{**vars(make_cells(1)), **change}))
    assert os.listdir(tmp_path) == []


def test_names_are_escaped(tmp_path: Path) -> None:
    cells = make_cells(2)
    cells.features['a "quoted" \\ näme'] = np.ones(2, np.float32)
    data = write(tmp_path / "c.geojson.gz", cells, model='m "1"\n', measurements=list(cells.features))
    properties = validate(data)[0]["properties"]
    assert properties["metadata"] == {"model": 'm "1"\n'}
    assert properties["measurements"]['a "quoted" \\ näme'] == 1


def test_the_file_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "c.geojson.gz"
    with GeoJSONWriter(path) as writer:
        writer.append(make_cells(3))
        assert not path.exists()
    assert os.listdir(tmp_path) == ["c.geojson.gz"]


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"c\.geojson\.gz cannot be written"):
        write(tmp_path / "no" / "c.geojson.gz")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
@pytest.mark.parametrize("n", [1, 3000])
def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    full = tmp_path / ".full"
    full.symlink_to("/dev/full")
    monkeypatch.setattr("cytolite.files.beside", lambda path: full)
    with pytest.raises(OutputError, match="No space left"):
        write(tmp_path / "c.geojson.gz", make_cells(n))
    assert os.listdir(tmp_path) == []


def test_a_read_only_folder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OutputError, match="Permission denied"):
        write(tmp_path / "c.geojson.gz")


def test_of_many_rings_only_those_that_are_wrong_are_mended():
    """Against the definition, ring by ring: valid, and no vertex twice."""
    rng = np.random.default_rng(4)
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    radius = rng.uniform(3, 9, (60, 12))
    rings = np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=-1) + rng.uniform(0, 500, (60, 1, 2))
    rings[3, 4] = rings[3, 5]  # twice in a row
    rings[7, -1] = rings[7, 0]  # closed
    rings[11, 2] = rings[11, 8]  # touches itself
    rings[20, [2, 8]] = rings[20, [8, 2]]  # crosses itself
    rings[30] = rings[30, 0]  # a point
    vertices, offsets = round_rings(rings.reshape(-1, 2), np.arange(61) * 12)
    changed = []
    for i, ring in enumerate(np.rint(rings * 100).astype(np.int64)):
        found = vertices[offsets[i] : offsets[i + 1]]
        assert shapely.Polygon(found).is_valid
        assert len(np.unique(found, axis=0)) == len(found)
        fine = shapely.Polygon(ring).is_valid and len(np.unique(ring, axis=0)) == len(ring)
        assert np.array_equal(found, ring) == fine
        changed += [i] * (not fine)
    assert changed == [3, 7, 11, 20, 30]
