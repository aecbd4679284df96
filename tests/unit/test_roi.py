"""Regions: every shape that GeoJSON comes in, what is refused and in which words, and which region holds a point."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import shapely

from cytolite.errors import InputError
from cytolite.interop.roi import Region, assign, own_parts, read_regions, require_overlap


def ring(x0: float, y0: float, x1: float, y1: float) -> list[list[float]]:
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]


SQUARE = {"type": "Polygon", "coordinates": [ring(0, 0, 10, 10)]}
HOLED = {"type": "Polygon", "coordinates": [ring(0, 0, 10, 10), ring(4, 4, 6, 6)]}
PARTS = {"type": "MultiPolygon", "coordinates": [[ring(0, 0, 4, 4)], [ring(6, 6, 9, 9), ring(7, 7, 8, 8)]]}


def feature(geometry: object = SQUARE, **properties: object) -> dict:
    return {"type": "Feature", "id": "PathAnnotationObject", "geometry": geometry, "properties": properties}


def collection(*features: object) -> dict:
    return {"type": "FeatureCollection", "features": list(features)}


def read(tmp_path: Path, content: object) -> list[Region]:
    path = tmp_path / "regions.geojson"
    path.write_text(json.dumps(content))
    return read_regions(path)


@pytest.mark.parametrize(
    "content", [collection(feature()), [feature()], feature(), SQUARE, [SQUARE], collection(feature(None) | feature())]
)
def test_every_shape_of_geojson(tmp_path: Path, content: object) -> None:
    [region] = read(tmp_path, content)
    assert region.name == "region 1"
    assert region.polygon.equals(shapely.box(0, 0, 10, 10))


def test_gzip(tmp_path: Path) -> None:
    path = tmp_path / "regions.geojson.gz"
    path.write_bytes(gzip.compress(json.dumps(collection(feature())).encode()))
    assert read_regions(path)[0].polygon.area == 100


def test_holes_and_parts(tmp_path: Path) -> None:
    holed, parts = read(tmp_path, collection(feature(HOLED), feature(PARTS)))
    assert holed.polygon.area == 96
    assert parts.polygon.area == 16 + 8
    inside = [[5, 1], [5, 5], [4, 5], [11, 5], [-1, 5]]
    assert holed.contains(np.array(inside)).tolist() == [True, False, True, False, False]
    assert parts.contains(np.array([[2, 2], [5, 5], [7.5, 7.5], [6.5, 6.5]])).tolist() == [True, False, False, True]


def test_names(tmp_path: Path) -> None:
    regions = read(
        tmp_path,
        collection(
            feature(name="core", classification={"name": "Tumor", "color": [200, 0, 0]}),
            feature(classification={"name": "Tumor", "color": [200, 0, 0]}),
            feature(classification="Tumor"),
            feature(classification={"names": ["Tumor", "Positive"]}),
            feature(name=" ", classification=None),
            feature(name="core"),
            {**feature(), "properties": None},
        ),
    )
    assert [r.name for r in regions] == [
        "core",
        "Tumor",
        "Tumor 2",
        "Tumor: Positive",
        "region 5",
        "core 2",
        "region 7",
    ]


def test_detections_and_cells_are_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    point = {"type": "Point", "coordinates": [1, 1]}
    content = collection(
        feature(objectType="detection"),
        feature(point, objectType="cell"),
        {**feature(), "id": "PathDetectionObject"},
        feature(objectType="annotation", name="kept"),
    )
    with caplog.at_level(logging.WARNING):
        assert [region.name for region in read(tmp_path, content)] == ["kept"]
    assert "3 detections or cells were skipped" in caplog.text


NO_AREA = {
    "point": {"type": "Point", "coordinates": [1, 1]},
    "points": {"type": "MultiPoint", "coordinates": [[1, 1], [2, 2]]},
    "line": {"type": "LineString", "coordinates": [[0, 0], [1, 1]]},
    "flat": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2, 2], [0, 0]]]},
    "empty": {"type": "Polygon", "coordinates": []},
    "nothing": None,
    "collection": {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [1, 1]}]},
}


@pytest.mark.parametrize("name", NO_AREA)
def test_one_annotation_without_area_does_not_spoil_the_others(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    content = collection(feature(), feature(NO_AREA[name], name=name), feature())
    with caplog.at_level(logging.WARNING):
        assert [region.name for region in read(tmp_path, content)] == ["region 1", "region 2"]
    assert "1 features were left out as regions; the first:" in caplog.text
    assert f"({name!r})" in caplog.text


def test_the_areas_of_a_mixed_collection_count(tmp_path: Path) -> None:
    mixed = {"type": "GeometryCollection", "geometries": [NO_AREA["line"], SQUARE, NO_AREA["point"]]}
    assert read(tmp_path, feature(mixed))[0].polygon.area == 100


def test_crossing_outlines_are_repaired(tmp_path: Path) -> None:
    bow_tie = {"type": "Polygon", "coordinates": [[[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]]}
    overlapping = {"type": "MultiPolygon", "coordinates": [[ring(0, 0, 6, 6)], [ring(3, 3, 9, 9)]]}
    with_line = {"type": "Polygon", "coordinates": [[[0, 0], [10, 0], [10, 10], [20, 10], [10, 10], [0, 10], [0, 0]]]}
    regions = read(tmp_path, [feature(bow_tie), feature(overlapping), feature(with_line)])
    assert [region.polygon.area for region in regions] == [50, 63, 100]
    assert all(region.polygon.is_valid for region in regions)
    assert {region.polygon.geom_type for region in regions} <= {"Polygon", "MultiPolygon"}


def test_collections_of_polygons_are_joined(tmp_path: Path) -> None:
    geometry = {
        "type": "GeometryCollection",
        "geometries": [SQUARE, {"type": "Polygon", "coordinates": [ring(20, 0, 21, 1)]}],
    }
    assert read(tmp_path, feature(geometry))[0].polygon.area == 101


def test_heights_are_ignored(tmp_path: Path) -> None:
    geometry = {"type": "Polygon", "coordinates": [[[x, y, 7] for x, y in ring(0, 0, 10, 10)]]}
    assert not read(tmp_path, feature(geometry))[0].polygon.has_z


BAD = {
    "point": (feature({"type": "Point", "coordinates": [1, 1]}, name="dot"), r"feature 1 \('dot'\).*Point"),
    "line": (feature({"type": "LineString", "coordinates": [[0, 0], [1, 1]]}), "feature 1.*LineString"),
    "mixed": (
        feature({"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [1, 1]}]}),
        "holds a Point",
    ),
    "flat": (feature({"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2, 2], [0, 0]]]}), "no area"),
    "two points": (feature({"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}), "cannot be read"),
    "empty": (feature({"type": "Polygon", "coordinates": []}), "no area"),
    "no geometry": (feature(None), "has no geometry"),
    "no coordinates": (feature({"type": "Polygon"}), "cannot be read"),
    "text": (feature({"type": "Polygon", "coordinates": "here"}), "cannot be read"),
    "words": (feature({"type": "Polygon", "coordinates": [[["a", "b"]] * 4]}), "cannot be read"),
    "empty collection": (collection(), "no features"),
    "empty array": ([], "no features"),
    "only cells": (feature(objectType="cell"), "only 1 detections or cells"),
    "number": (3, "not GeoJSON"),
    "array of numbers": ([1, 2], "feature 1 is neither"),
    "other JSON": ({"a": 1}, "feature 1 is neither"),
    "no features": ({"type": "FeatureCollection"}, "not GeoJSON"),
    "properties": ({**feature(), "properties": [1]}, "properties"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    content, words = BAD[name]
    with pytest.raises(InputError, match=words) as caught:
        read(tmp_path, content)
    assert str(tmp_path / "regions.geojson") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not GeoJSON"),
        (b"hello", "not GeoJSON"),
        (b"\xff\xd8\xff", "not GeoJSON"),
        (json.dumps(collection(feature())).encode()[:-20], "cut off"),
        (gzip.compress(json.dumps(collection(feature())).encode())[:-20], "damaged gzip"),
        (b"\x1f\x8bnonsense", "damaged gzip"),
        (b'{"type":"Polygon","coordinates":[[[0,0],[NaN,0],[1,1],[0,0]]]}', "not all numbers"),
        (b'{"type":"Polygon","coordinates":[[[0,0],[1e999,0],[1,1],[0,0]]]}', "not GeoJSON|not all numbers"),
    ],
)
def test_bad_bytes_are_refused(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "regions.geojson"
    path.write_bytes(data)
    with pytest.raises(InputError, match=words):
        read_regions(path)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        read_regions(tmp_path / "missing.geojson")
    with pytest.raises(InputError, match="cannot be read"):
        read_regions(tmp_path)


def test_the_smallest_region_wins_and_borders_count() -> None:
    outer, inner = Region("outer", shapely.box(0, 0, 10, 10)), Region("inner", shapely.box(2, 2, 4, 4))
    beside = Region("beside", shapely.box(10, 0, 20, 10))
    points = np.array([[1, 1], [3, 3], [2, 3], [10, 5], [15, 5], [21, 5]], float)
    assert assign([outer, inner, beside], points).tolist() == [0, 1, 1, 0, 2, -1]
    assert assign([inner, outer], points).tolist() == [1, 0, 0, 1, -1, -1]
    assert assign([], points).tolist() == [-1] * 6
    assert assign([outer], np.empty((0, 2))).tolist() == []
    assert assign([outer], points).dtype == np.int32


def test_thousands_of_regions_as_one_by_one() -> None:
    """Against the definition: the smallest region that holds the point, the first among equals."""
    rng = np.random.default_rng(5)
    corners, sides = rng.integers(0, 300, (400, 2)), rng.integers(1, 40, (400, 2))
    regions = [Region(str(i), shapely.box(*c, *(c + s))) for i, (c, s) in enumerate(zip(corners, sides, strict=True))]
    points = np.concatenate([rng.uniform(-10, 350, (3000, 2)), corners[:100], corners[:100] + sides[:100] / 2])
    areas = sides.prod(axis=1)
    wanted = []
    for point in points:
        held = np.flatnonzero((point >= corners).all(axis=1) & (point <= corners + sides).all(axis=1))
        wanted.append(min(held, key=lambda i: (areas[i], i), default=-1))
    assert assign(regions, points).tolist() == wanted
    # Unit squares, whose owners are known by their middles.
    middles = np.stack(np.meshgrid(np.arange(350), np.arange(350)), axis=-1).reshape(-1, 2) + 0.5
    grid = assign(regions, middles)
    assert [part.area for part in own_parts(regions)] == np.bincount(grid[grid >= 0], minlength=400).tolist()


def test_own_parts_are_where_cells_are_assigned() -> None:
    rng = np.random.default_rng(1)
    corners = rng.uniform(0, 60, (6, 2))
    regions = [Region(str(i), shapely.box(x, y, x + 10 + 8 * i, y + 30)) for i, (x, y) in enumerate(corners)]
    parts = own_parts(regions)
    points = rng.uniform(0, 120, (3000, 2))
    inside = np.array([shapely.contains_xy(part, points) for part in parts])
    assert (inside.sum(axis=0) <= 1).all()
    np.testing.assert_array_equal(np.where(inside.any(axis=0), inside.argmax(axis=0), -1), assign(regions, points))
    whole = shapely.union_all([region.polygon for region in regions])
    assert sum(part.area for part in parts) == pytest.approx(whole.area)
    assert own_parts([]) == []


def test_contains_is_shapelys_answer() -> None:
    rng = np.random.default_rng(0)
    blob = shapely.Point(0, 0).buffer(30).difference(shapely.box(-5, -5, 9, 40))
    points = rng.uniform(-40, 40, (2000, 2))
    wanted = [blob.intersects(shapely.Point(point)) for point in points]
    assert Region("blob", blob).contains(points).tolist() == wanted


def test_regions_outside_the_slide_are_refused() -> None:
    inside, edge = Region("in", shapely.box(0, 0, 5, 5)), Region("edge", shapely.box(90, 40, 150, 60))
    require_overlap([inside, edge], 100, 50)
    with pytest.raises(InputError, match=r"'out' lies outside.*100 x 50 px"):
        require_overlap([inside, Region("out", shapely.box(100, 0, 120, 10))], 100, 50)
    many = [Region(f"r{i}", shapely.box(-5, -5, -1, -1)) for i in range(5)]
    with pytest.raises(InputError, match="'r2' and 2 more"):
        require_overlap(many, 100, 50)
