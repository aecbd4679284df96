"""Files as the world writes them: texts in any encoding, annotations of others, labels and folders with debris."""

import json
import logging
import os
import socket
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
import tifffile
from PIL import Image

import layouts
from cytolite.config import SegmentSettings, make_settings
from cytolite.datasets import imagescope, monuseg, pannuke
from cytolite.datasets.base import below, read_labels
from cytolite.errors import InputError, SlideError
from cytolite.evaluation.images import add_columns, cases_of_patches, find_cases
from cytolite.files import cell_text, decode, is_debris, read_text, to_number
from cytolite.interop.convert import convert
from cytolite.interop.parquet import read_cells
from cytolite.interop.roi import read_regions
from cytolite.interop.summary import SummaryCounter, write_summary_csv
from cytolite.patches import Patch
from cytolite.segmentation.results import find_slides
from cytolite.slides.reader import open_slide

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le with mark", "utf-16-be with mark", "cp1252"]
SQUARE = [[[0, 0], [20, 0], [20, 20], [0, 20], [0, 0]]]


def encoded(text: str, encoding: str) -> bytes:
    name, _, mark = encoding.partition(" ")
    return (("\ufeff" if mark else "") + text).encode(name)


def feature(geometry: object = "square", **properties: object) -> dict:
    geometry = {"type": "Polygon", "coordinates": SQUARE} if geometry == "square" else geometry
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def collection(*features: object) -> str:
    return json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False)


# Text


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_text_that_people_give_is_read_in_every_encoding(tmp_path, encoding, caplog):
    def given(name: str, text: str) -> Path:
        (tmp_path / name).write_bytes(encoded(text, encoding))
        return tmp_path / name

    assert read_text(given("a.txt", "Größe é")) == "Größe é"
    settings = make_settings(SegmentSettings, {}, given("s.toml", '# Größe\n[segment]\nmpp = 0.5\nmodel = "é"\n'))
    assert (settings.mpp, settings.model) == (0.5, "é")
    [region] = read_regions(given("r.geojson", collection(feature(name="Bröt"))))
    assert region.name == "Bröt"
    cell = feature(objectType="detection", classification="Dead", measurements={"Area µm^2": 12.5, "Größe": 3})
    convert(given("c.geojson", collection(cell)), tmp_path / "c.parquet")
    cells = read_cells(tmp_path / "c.parquet")
    assert (cells.area_um2.tolist(), list(cells.features)) == ([12.5], ["Größe"])
    table = 'cell_type,geometry,Größe\ndead,"POLYGON ((0 0, 9 0, 9 9, 0 0))",1.5\n'
    convert(given("t.csv", table), tmp_path / "t.parquet")
    assert read_cells(tmp_path / "t.parquet").features["Größe"].tolist() == [1.5]
    blank = np.zeros((8, 8), np.int32)
    case = Patch("é", np.zeros((8, 8, 3), np.uint8), blank, blank.astype(np.uint8), 0.25, "s", "g")
    [joined] = add_columns(cases_of_patches([case]), given("i.csv", "image,tissue\né,Bröt\n"))
    assert joined.columns["tissue"] == "Bröt"
    assert ("Windows-1252" in caplog.text) == (encoding == "cp1252")


def test_texts_that_are_none_are_a_sentence(tmp_path):
    for data in (b"\xff\xfea", b"\x00\xff\x81\x00", b"\x81\x8d"):
        with pytest.raises(InputError, match="save it as UTF-8"):
            decode(data, Path("a.toml"))


def test_columns_by_semicolon_with_decimal_commas(tmp_path):
    (tmp_path / "t.csv").write_text("cell_type;area_um2;geometry\ndead;12,5;POLYGON ((0 0, 9 0, 9 9, 0 0))\n")
    convert(tmp_path / "t.csv", tmp_path / "t.parquet")
    assert read_cells(tmp_path / "t.parquet").area_um2.tolist() == [12.5]


def test_numbers_with_point_or_comma():
    assert [to_number(text) for text in ("0,2500", "0.25", "1e-1", "3")] == [0.25, 0.25, 0.1, 3]
    for text in ("1.234,5", "1,234.5", "", "a"):
        with pytest.raises(ValueError, match="could not convert"):
            to_number(text)


# Regions and cells


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_bare_nan_and_infinity_are_read_anywhere(tmp_path, value):
    text = collection(feature(name="A", measurements={"x": "HERE", "y": 1}), feature(name="B")).replace('"HERE"', value)
    (tmp_path / "r.geojson").write_text(text)
    assert [region.name for region in read_regions(tmp_path / "r.geojson")] == ["A", "B"]
    cells = [feature(classification="Dead", measurements={"Area µm^2": 6.25, "x": "HERE"}) for _ in range(3)]
    (tmp_path / "c.geojson").write_text(collection(*cells).replace('"HERE"', value, 2).replace('"HERE"', "2"))
    convert(tmp_path / "c.geojson", tmp_path / "c.parquet")
    table = read_cells(tmp_path / "c.parquet")
    assert table.area_um2.tolist() == [6.25] * 3
    np.testing.assert_array_equal(table.features["x"], np.array([float(value), float(value), 2], np.float32))


def test_only_a_file_that_was_cut_off_is_said_to_be(tmp_path):
    whole = collection(feature(name="A"))
    path = tmp_path / "r.geojson"
    for at in (1, 20, 60, len(whole) // 2, len(whole) - 1):
        path.write_text(whole[:at])
        with pytest.raises(InputError, match="cut off"):
            read_regions(path)
    for text in (whole.replace('"name": "A"', "name: A"), whole + "}", whole.replace("[[[", "[[[,"), "hello", "{,}"):
        path.write_text(text)
        with pytest.raises(InputError) as told:
            read_regions(path)
        assert "cut off" not in str(told.value)


POINT = {"type": "Point", "coordinates": [1, 1]}
LINE = {"type": "LineString", "coordinates": [[0, 0], [5, 5]]}
MIXED = {"type": "GeometryCollection", "geometries": [POINT, {"type": "Polygon", "coordinates": SQUARE}, LINE]}
AS_TEXT = '{ "name": "Dead", "color": [ 1, 2, 3 ] }'


def test_what_is_no_region_is_passed_over_with_a_word(tmp_path, caplog):
    features = [
        feature(name="A"), feature(POINT, name="dot"), feature(LINE), feature(None, name="nothing"), feature(MIXED),
        feature({"type": "Polygon", "coordinates": [[["a", 1]]]}), feature(classification=AS_TEXT), 3, None,
        feature({"type": "MultiPoint", "coordinates": [[1, 1]]}), {"type": "Feature", "properties": {}},
    ]  # fmt: skip
    (tmp_path / "r.geojson").write_text(collection(*features))
    with caplog.at_level(logging.WARNING):
        regions = read_regions(tmp_path / "r.geojson")
    assert [region.name for region in regions] == ["A", "region 2", "Dead"]
    assert regions[1].polygon.area == 400
    assert "8 features were left out" in caplog.text
    assert "'dot'" in caplog.text


@pytest.mark.parametrize("missing", [True, "true"])
def test_missing_cores_are_left_out(tmp_path, missing, caplog):
    cores = [feature(objectType="tmaCore", name="A-1", isMissing=False)]
    cores.append(feature(objectType="tmaCore", name="A-2", isMissing=missing))
    (tmp_path / "r.geojson").write_text(collection(*cores))
    assert [region.name for region in read_regions(tmp_path / "r.geojson")] == ["A-1"]
    assert "1 cores that are marked as missing" in caplog.text
    (tmp_path / "r.geojson").write_text(collection(cores[1]))
    with pytest.raises(InputError, match="holds missing cores"):
        read_regions(tmp_path / "r.geojson")


def test_cells_of_others_lose_what_is_no_cell_and_say_so(tmp_path):
    features = [
        feature(classification=AS_TEXT, measurements='{"Area µm^2": 6.25, "note": "much"}'),
        feature(POINT, classification="Dead"), feature(LINE, classification="Dead"), feature(None),
        feature(MIXED, classification=["Dead"]), feature({"type": "Polygon", "coordinates": [[["a", 1]]]}),
    ]  # fmt: skip
    features.append({**feature(), "properties": json.dumps({"classification": {"name": "Dead"}})})
    (tmp_path / "c.geojson").write_text(collection(*features))
    n, told = convert(tmp_path / "c.geojson", tmp_path / "c.parquet", mpp=0.5)
    cells = read_cells(tmp_path / "c.parquet")
    assert n == 3
    assert cells.types.tolist() == [7, 7, 7]
    assert cells.area_um2.tolist() == [6.25, 100, 100]
    assert sorted(told) == [
        "1 measurements that are no numbers were left out",
        "1 objects whose coordinates are not all numbers were left out",
        "3 objects that are no polygons (points, lines, nothing) were left out",
    ]


# Names in tables


def test_names_of_regions_are_distinct_and_safe_in_tables(tmp_path):
    given = ["total", "Total", "A", "a", '=cmd|1, "x"\nnew', "+1", "-1", "@x", "\t=2", "\r=3", "\x00=4", "A"]
    boxes = [{"type": "Polygon", "coordinates": [[[i, 0], [i + 1, 0], [i + 1, 1], [i, 0]]]} for i in range(len(given))]
    text = json.dumps([feature(box, name=name) for box, name in zip(boxes, given, strict=True)])
    (tmp_path / "r.geojson").write_text(text)
    names = [region.name for region in read_regions(tmp_path / "r.geojson")]
    assert names == ["total 2", "Total 3", "A", "a 2", '=cmd|1, "x" new', "+1", "-1", "@x", "=2", "=3", "=4", "A 3"]
    rows = SummaryCounter(names).rows(1.0, [1.0] * len(names))
    write_summary_csv(tmp_path / "s.csv", rows)
    assert (tmp_path / "s.csv").read_bytes().startswith(b"\xef\xbb\xbfregion,")
    table = pd.read_csv(tmp_path / "s.csv")
    assert list(table["region"]) == [*map(cell_text, names), "total"]
    assert not table["region"].str.startswith(("=", "+", "-", "@", "\t", "\r")).any()
    assert len(set(table["region"].str.casefold())) == len(names) + 1


# Folders


def test_debris_is_never_data(tmp_path):
    for name in ("inst/a.png", "type/a.png", "image/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.ones((8, 8), np.uint8)).save(tmp_path / name)
    for name in ("._a.png", ".DS_Store", "Thumbs.db", ".hidden.png", "desktop.ini", "__MACOSX/._b.png"):
        (tmp_path / "inst" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "inst" / name).write_bytes(b"\0\5\x16\7")
    assert [case.name for case in find_cases([tmp_path])] == ["a"]
    assert [path.name for path in below(tmp_path / "inst", "*.png", depth=1)] == ["a.png"]
    found = find_slides([f"{tmp_path}/inst/*.png", f"{tmp_path}/inst/**/*.png"])
    assert [path.name for path in found] == ["a.png"]
    assert [is_debris(Path(p)) for p in ("a/b.png", "./a", "../a", "__MACOSX/a", "a/.b", "/x/.y/z")] == [
        False, False, False, True, True, False,
    ]  # fmt: skip


def test_pipes_sockets_and_devices_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.relpath(tmp_path / "socket"))
        for path, what in ((tmp_path / "pipe", "pipe"), (tmp_path / "socket", "socket"), (Path("/dev/zero"), "device")):
            with pytest.raises(SlideError, match=what):
                open_slide(path)
            for read in (read_regions, read_text, read_cells, read_labels, imagescope.read_regions):
                with pytest.raises(InputError, match=what):
                    read(path)
            for kind in ("geojson", "csv"):
                os.symlink(path, tmp_path / f"{what}.{kind}")
                with pytest.raises(InputError, match=what):
                    convert(tmp_path / f"{what}.{kind}", tmp_path / "out.parquet")


# Labels


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int32", "int64", "uint64"])
@pytest.mark.parametrize("suffix", [".tif", ".tiff"])
def test_tiff_labels_of_any_whole_number(tmp_path, dtype, suffix):
    labels = np.arange(48).reshape(6, 8).astype(dtype)
    tifffile.imwrite(tmp_path / f"a{suffix}", labels, compression="zlib")
    np.testing.assert_array_equal(read_labels(tmp_path / f"a{suffix}"), labels)


def test_ids_beyond_31_bits_are_told_apart(tmp_path):
    ids = np.array([[0, 1, 2**31], [2**31 + 1, 2**40, 2**40]], np.int64)
    tifffile.imwrite(tmp_path / "a.tif", ids)
    assert read_labels(tmp_path / "a.tif").tolist() == [[0, 1, 2], [3, 4, 4]]
    tifffile.imwrite(tmp_path / "b.tif", ids[1:].astype(np.uint64))
    assert read_labels(tmp_path / "b.tif").tolist() == [[1, 2, 2]]
    tifffile.imwrite(tmp_path / "c.tif", -ids)
    with pytest.raises(InputError, match="holds the id -"):
        read_labels(tmp_path / "c.tif")
    tifffile.imwrite(tmp_path / "d.tif", ids.astype(np.float32))
    with pytest.raises(InputError, match="whole numbers"):
        read_labels(tmp_path / "d.tif")


# ImageScope and PanNuke


def xml(*regions: str, mpp: str = "0.25") -> str:
    layer = f"<Annotation><Regions>{''.join(regions)}</Regions></Annotation>"
    return f'<Annotations MicronsPerPixel="{mpp}">{layer}</Annotations>'


def region(*vertices: tuple[object, object], kind: int = 0, negative: int = 0) -> str:
    points = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in vertices)
    return f'<Region Type="{kind}" NegativeROA="{negative}"><Vertices>{points}</Vertices></Region>'


def square(x0: float, x1: float) -> list[tuple[float, float]]:
    return [(x0, x0), (x1, x0), (x1, x1), (x0, x1)]


def test_imagescope_holes_ellipses_arrows_and_rulers(tmp_path):
    (tmp_path / "a.xml").write_text(
        xml(
            region(*square(10, 50)), region(*square(20, 40), negative=1), region(*square(5, 60)),
            region((70, 70), (90, 80), kind=2), region((70, 10), (80, 30), kind=1), region((0, 0), (5, 5), kind=3),
            region((0, 0), (5, 5), kind=4), region((0, 0), (5, 5)), region(*square(70, 72), negative=1),
        )
    )  # fmt: skip
    regions, _, left_out = imagescope.read_regions(tmp_path / "a.xml")
    areas = [found.polygon.area for found in regions]
    assert areas[:2] == [40 * 40 - 20 * 20, 55 * 55]  # the smaller of the two around it has the hole
    assert areas[2] == pytest.approx(np.pi * 10 * 5, rel=0.002)
    assert regions[2].polygon.bounds == pytest.approx((70, 70, 90, 80))
    assert areas[3] == 10 * 20
    assert left_out == {
        "arrows": 1, "rulers": 1, "regions of fewer than three vertices": 1,
        "holes (NegativeROA) outside of any region": 1,
    }  # fmt: skip
    labels = imagescope.rasterise(regions[:1], (64, 64))
    assert (labels > 0).sum() == 1200
    assert labels[30, 30] == 0


def test_decimal_commas_in_imagescope(tmp_path):
    (tmp_path / "a.xml").write_text(xml(region(("1,5", "1"), ("9,5", "1"), ("9,5", "9,25")), mpp="0,2500"))
    [found], mpp, _ = imagescope.read_regions(tmp_path / "a.xml")
    assert mpp == 0.25
    assert found.ring.tolist() == [[1.5, 1], [9.5, 1], [9.5, 9.25]]


def test_monuseg_says_what_was_left_out(tmp_path):
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(tmp_path / "im.png")
    (tmp_path / "._im.png").write_bytes(b"\0\5\x16\7")
    (tmp_path / "im.xml").write_text(xml(region(*square(10, 50)), region((0, 0), (5, 5), kind=3)))
    reading = monuseg.read(tmp_path)
    [patch] = reading
    assert len(np.unique(patch.instance_map)) == 2
    assert reading.notes == ["im.xml: left out 1 arrows"]


def pannuke_patch(types: np.ndarray) -> np.ndarray:
    return layouts.channels(types, (types > 0).astype(int))[None]


def test_pannuke_names_as_bytes_and_background_first(tmp_path):
    types = np.zeros((256, 256), int)
    types[10:30, 10:30], types[50:60, 50:60] = 1, 3
    image, masks = np.full((1, 256, 256, 3), 200), pannuke_patch(types)
    fold = layouts.pannuke_fold(tmp_path / "a", 1, image, masks, np.array([b"Breast"]))
    assert np.load(fold / "images" / "fold1" / "types.npy").dtype.kind == "S"
    [patch] = pannuke.read(tmp_path / "a")
    assert patch.tissue == "Breast"
    layouts.pannuke_fold(tmp_path / "b", 1, image, np.roll(masks, 1, axis=-1), ["Breast"])
    with pytest.raises(InputError, match="background in its first channel"):
        list(pannuke.read(tmp_path / "b"))
    for number, only in enumerate((1, 3, 5)):  # right as it is, whatever types there are
        layouts.pannuke_fold(tmp_path / f"c{number}", 1, image, pannuke_patch(np.where(types == 1, only, 0)), ["x"])
        assert len(list(pannuke.read(tmp_path / f"c{number}"))) == 1
    np.save(fold / "images" / "fold1" / "types.npy", np.array(["Breast"], object))
    with pytest.raises(InputError, match="holds Python objects"):
        list(pannuke.read(tmp_path / "a"))


def test_shapes_of_holes_are_valid():
    hole = imagescope.Region("", np.array(square(0, 9), float), (np.array(square(5, 20), float),))
    assert shapely.is_valid(hole.polygon)
    assert hole.polygon.area == 81 - 16


def test_the_inputs_that_failed(shared_data, tmp_path):
    cases = shared_data / "cases"
    if not cases.is_dir():
        pytest.skip("needs the inputs that failed")
    names = {
        "roi_nan": ["A"], "roi_bom": ["A"], "roi_geom_null": ["A"], "roi_tma_missing": ["A-1"],
        "roi_named_total": ['=cmd|1, "x" new', "total 2", "total 3"],
    }  # fmt: skip
    for name, expected in names.items():
        assert [region.name for region in read_regions(cases / f"{name}.geojson")] == expected
    assert make_settings(SegmentSettings, {}, cases / "settings_bom.toml").mpp == 0.25
    for name in ("cells_nan", "cells_class_text"):
        assert convert(cases / f"{name}.geojson", tmp_path / f"{name}.parquet")[0] == 2
    for name, n in (("no", 10), ("with", 353)):
        path = cases / f"geopandas_resaved_{name}_regions.parquet"
        for target in ("csv", "geojson", "parquet"):
            assert convert(path, tmp_path / f"{name}.{target}")[0] == n
    [patch] = monuseg.read(cases / "monuseg_negative_roa")
    assert np.bincount(patch.instance_map.ravel()).tolist()[1:] == [40 * 40 - 20 * 20]
    for side in ("truth", "pred"):
        assert [case.name for case in find_cases([cases / f"eval_appledouble_{side}"])] == ["a"]
