"""Any set of types through everything: the model, the run, every format and back, pictures, summary, evaluation."""

import json
from dataclasses import fields, replace

import numpy as np
import orjson
import pytest
import shapely
from PIL import Image

from cytolite.bundle import load_bundle
from cytolite.cells import CellTable
from cytolite.celltypes import DEFAULT, CellType, TypeSet, read_mapping, read_types
from cytolite.config import SegmentSettings
from cytolite.drawing.overview import draw_crop, draw_overview
from cytolite.drawing.plot import describe_html
from cytolite.errors import InputError, UsageError
from cytolite.evaluation import images as cases
from cytolite.interop.convert import convert
from cytolite.interop.frames import to_pandas
from cytolite.interop.geojson.reader import GeoJSONReader
from cytolite.interop.parquet import CellsWriter, read_cells
from cytolite.interop.parquet import read_types as types_of_file
from cytolite.interop.result import Result
from cytolite.interop.summary import Area, SummaryCounter
from cytolite.metrics.classes import read_classes
from cytolite.pipeline import segment_slides
from cytolite.segmentation.slide import segment_slide
from cytolite.slides.reader import open_slide
from fakes import fake_bundle, paint, random_nuclei, write_slide

TWO = TypeSet.named(["tumour", "other"])
TWELVE = TypeSet.named([f"kind {i}" for i in range(1, 13)])
GROUPED = TypeSet.from_description(
    [
        {"name": "tumour", "colour": "#aa0011"},
        {"name": "t cell", "parent": "immune", "qupath": "Immune: T cell"},
        {"name": "plasma cell", "parent": "immune"},
        {"name": "stroma", "colour": [1, 2, 3]},
    ]
)
SETS = pytest.mark.parametrize("types", [TWO, TWELVE, GROUPED, DEFAULT], ids=["two", "twelve", "grouped", "seven"])


def some_cells(types: TypeSet, n: int = 60, seed: int = 0) -> CellTable:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 500, (n, 2)).round()
    square = np.array([[0, 0], [10, 0], [10, 8], [0, 8]], float)
    probs = rng.dirichlet(np.ones(len(types)), n).round(4)
    probs[:, 0] += 1 - probs.sum(axis=1)
    return CellTable(
        vertices=(corners[:, None] + square).reshape(-1, 2),
        offsets=np.arange(0, 4 * n + 1, 4),
        centroids=corners + np.array([5, 4]),
        types=(np.arange(n) % len(types) + 1).astype(np.uint8),
        type_probs=probs.astype(np.float32),
        area_um2=np.full(n, 20, np.float32),
        regions=np.full(n, -1, np.int32),
        features={"circularity": rng.uniform(size=n).round(3).astype(np.float32)},
        type_set=types,
    )


# ---- sets -----------------------------------------------------------------------------------------------------------


@SETS
def test_a_set_goes_through_json_and_back(types):
    again = TypeSet.from_description(json.loads(json.dumps(types.describe())))
    assert again == types
    assert len(set(types.colours)) == len(types)


def test_groups_and_classes_are_told():
    assert GROUPED.groups == {"immune": (2, 3)}
    assert [t.qupath_class for t in GROUPED] == ["Tumour", "Immune: T cell", "Plasma cell", "Stroma"]
    assert GROUPED[0].colour == (170, 0, 17)
    assert GROUPED.by_name(" T Cell ").id == 2
    with pytest.raises(UsageError, match="Did you mean 'plasma cell'"):
        GROUPED.by_name("plasma cels")


def test_sixty_four_types_get_colours_of_their_own_and_more_are_refused():
    names = [f"type {i}" for i in range(64)]
    assert len(set(TypeSet.named(names).colours)) == 64
    with pytest.raises(InputError, match="2 to 64 types; 65"):
        TypeSet.named([*names, "one more"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([{"name": "a"}], "2 to 64"),
        ([{"name": "a"}, {"name": "a"}], "share the name or column 'a'"),
        ([{"name": "a"}, {"name": "a_fraction"}], "'a_fraction'"),
        ([{"name": "a"}, {"name": "b", "qupath": "A"}], "QuPath class 'a'"),
        ([{"name": "a"}, {"name": "b", "parent": "a"}], "names a type and a group"),
        ([{"name": "a"}, {"name": "region"}], "means something else"),
        ([{"name": "a"}, {"name": "B"}], "lower case"),
        ([{"name": "a"}, {"name": "b|c"}], "without any of"),
        ([{"name": "a"}, {"name": " b"}], "no space around it"),
        ([{"name": "a"}, {"name": "b\n"}], "1 to 40 characters"),
        ([{"name": "a"}, {"name": "+b"}], "take it for a formula"),
        ([{"name": "a"}, {"name": "@b"}], "take it for a formula"),
        ([{"name": "a"}, {"name": 3}], "Type 2 has no name"),
        ([{"name": "a"}, {"name": "b", "color": "#fff000"}], "Did you mean 'colour'"),
        ([{"name": "a"}, {"name": "b", "colour": "red"}], "colour 'red' is none"),
        ([{"name": "a"}, {"name": "b", "colour": [1, 2, 300]}], "from 0 to 255"),
        ({"a": 1}, "Types are a list"),
    ],
)
def test_what_is_no_set_gets_a_sentence(content, words):
    with pytest.raises(InputError, match=words):
        TypeSet.from_description(content)


def test_files_of_types_and_of_mappings(tmp_path):
    (tmp_path / "t.toml").write_text('[[types]]\nname = "tumour"\n[[types]]\nname = "other"\ncolour = "#010203"\n')
    assert read_types(tmp_path / "t.toml").colours[1] == (1, 2, 3)
    (tmp_path / "seven.json").write_text(json.dumps({"types": DEFAULT.describe()}))
    assert read_types(tmp_path / "seven.json") is DEFAULT
    (tmp_path / "m.toml").write_text('tumour = "neoplastic"\n')
    assert read_mapping(tmp_path / "m.toml") == {"tumour": "neoplastic"}
    for text, words in [("", "empty"), ("tumour = ['a']", "gets one name"), ("a = ", "not valid")]:
        (tmp_path / "m.toml").write_text(text)
        with pytest.raises(UsageError, match=words):
            read_mapping(tmp_path / "m.toml")
    (tmp_path / "t.toml").write_text("tumour = 1")
    with pytest.raises(UsageError, match="one list, 'types'"):
        read_types(tmp_path / "t.toml")


# ---- tables ---------------------------------------------------------------------------------------------------------


def test_a_table_keeps_its_types_and_never_mixes_them():
    cells = some_cells(GROUPED)
    assert cells[cells.type == "t cell"].type_set == GROUPED
    assert cells.counts() == {"tumour": 15, "t cell": 15, "plasma cell": 15, "stroma": 15}
    joined = CellTable.concatenate([CellTable.empty(["circularity"]), cells, cells])
    assert joined.type_set == GROUPED
    with pytest.raises(InputError, match="cannot be in one table"):
        CellTable.concatenate([cells, some_cells(TWO)])
    assert "15 t cell" in repr(cells)
    assert "p_plasma cell" in to_pandas(cells).columns
    assert describe_html(cells) != describe_html(replace(cells, types=cells.types[::-1].copy()))


def test_a_mapping_adds_probabilities_of_what_becomes_one():
    cells = some_cells(GROUPED)
    mapped = cells.with_types({"t cell": "lymphocyte", "plasma cell": "lymphocyte"})
    assert mapped.type_names == ("tumour", "lymphocyte", "stroma")
    np.testing.assert_allclose(mapped.type_probs[:, 1], cells.type_probs[:, 1] + cells.type_probs[:, 2], rtol=1e-6)
    assert mapped.counts() == {"tumour": 15, "lymphocyte": 30, "stroma": 15}
    assert mapped.type_set[0].colour == GROUPED[0].colour
    assert mapped.type_set[1].colour == DEFAULT.by_name("lymphocyte").colour
    with pytest.raises(UsageError, match="Did you mean 't cell'"):
        cells.with_types({"t cel": "lymphocyte"})
    with pytest.raises(InputError, match="2 to 64"):
        some_cells(TWO).with_types({"other": "tumour"})


# ---- formats --------------------------------------------------------------------------------------------------------


def write(path, cells: CellTable):
    with CellsWriter(path, list(cells.features), metadata={"slide": "s.svs", "mpp": 0.5}, type_set=cells.type_set) as w:
        w.append(cells)
    return path


@SETS
@pytest.mark.parametrize("ending", [".parquet", ".geojson", ".geojson.gz", ".csv", ".h5ad", ".zarr", ""])
def test_every_format_gives_the_types_back(tmp_path, types, ending):
    if ending in {".h5ad", ".zarr"}:
        pytest.importorskip("anndata" if ending == ".h5ad" else "spatialdata")
    cells = some_cells(types)
    source = write(tmp_path / "a.parquet", cells)
    convert(source, tmp_path / f"b{ending}", outlines=True)
    convert(tmp_path / f"b{ending}", tmp_path / "c.parquet")
    found = read_cells(tmp_path / "c.parquet")
    assert found.type_names == types.names
    if ending != ".csv":  # which has no place for more than names
        assert found.type_set == types
        assert types_of_file(tmp_path / "c.parquet") == types
    np.testing.assert_array_equal(found.types, cells.types)
    np.testing.assert_allclose(found.type_probs, cells.type_probs, atol=1e-6)
    np.testing.assert_array_equal(found.features["circularity"], cells.features["circularity"])


def test_the_seven_are_not_described_so_their_files_stay_as_they_were(tmp_path):
    write(tmp_path / "a.parquet", some_cells(DEFAULT))
    convert(tmp_path / "a.parquet", tmp_path / "a.geojson")
    assert (tmp_path / "a.geojson").read_bytes().startswith(b'{"type":"FeatureCollection","features":[\n')
    import pyarrow.parquet as pq

    assert "types" not in json.loads(pq.read_metadata(tmp_path / "a.parquet").metadata[b"cytolite"])


def test_names_come_from_the_columns_where_another_program_dropped_the_description(tmp_path):
    import pyarrow.parquet as pq

    cells = some_cells(TWELVE)
    table = pq.read_table(write(tmp_path / "a.parquet", cells)).replace_schema_metadata(None)
    pq.write_table(table, tmp_path / "b.parquet")
    assert read_cells(tmp_path / "b.parquet").type_names == TWELVE.names
    convert(tmp_path / "a.parquet", tmp_path / "a.geojson")
    content = orjson.loads((tmp_path / "a.geojson").read_bytes())
    (tmp_path / "b.geojson").write_bytes(orjson.dumps({"type": content["type"], "features": content["features"]}))
    convert(tmp_path / "b.geojson", tmp_path / "c.parquet")
    assert read_cells(tmp_path / "c.parquet").type_names == TWELVE.names


def test_some_of_the_seven_keep_their_probabilities_in_a_csv(tmp_path):
    cells = some_cells(TypeSet.named(["lymphocyte", "dead"]))
    convert(write(tmp_path / "a.parquet", cells), tmp_path / "a.csv", outlines=True)
    convert(tmp_path / "a.csv", tmp_path / "b.parquet")
    found = read_cells(tmp_path / "b.parquet")
    np.testing.assert_allclose(found.type_probs[:, [2, 6]], cells.type_probs, atol=1e-6)
    assert (found.type == cells.type).all()


def test_qupath_s_classes_carry_colour_and_derived_names(tmp_path):
    convert(write(tmp_path / "a.parquet", some_cells(GROUPED)), tmp_path / "a.geojson")
    content = orjson.loads((tmp_path / "a.geojson").read_bytes())
    assert content["features"][1]["properties"]["classification"] == {
        "name": "Immune: T cell",
        "color": [*GROUPED[1].colour],
    }
    del content["cytolite"]
    for feature in content["features"]:
        feature["properties"]["classification"]["name"] = "Lymphs"
    (tmp_path / "b.geojson").write_bytes(orjson.dumps(content))
    with pytest.raises(InputError, match=r"'Lymphs' is none of tumour, t cell.*--class 'Lymphs=tumour'"):
        convert(tmp_path / "b.geojson", tmp_path / "c.parquet")
    convert(tmp_path / "b.geojson", tmp_path / "c.parquet", classes={"Lymphs": "t cell"})
    assert set(read_cells(tmp_path / "c.parquet").type) == {"t cell"}


def test_convert_maps_one_set_to_another(tmp_path):
    source = write(tmp_path / "a.parquet", some_cells(GROUPED))
    mapping = {"tumour": "neoplastic", "t cell": "lymphocyte", "plasma cell": "lymphocyte"}
    convert(source, tmp_path / "b.geojson", mapping=mapping)
    with GeoJSONReader(tmp_path / "b.geojson") as reader:
        [cells] = reader.tables()
    assert cells.counts() == {"neoplastic": 15, "lymphocyte": 30, "stroma": 15}


def test_cells_of_other_types_than_the_file_s_are_refused(tmp_path):
    with pytest.raises(InputError, match="for cells of the types"), CellsWriter(tmp_path / "a.parquet") as writer:
        writer.append(some_cells(TWO))
    assert not (tmp_path / "a.parquet").exists()


# ---- summary and pictures -------------------------------------------------------------------------------------------


def test_a_summary_counts_types_and_their_groups():
    counter = SummaryCounter(type_set=GROUPED)
    counter.add(some_cells(GROUPED))
    [row] = counter.rows(Area(1.0, 0.5))
    assert (row["t cell"], row["plasma cell"], row["immune"], row["immune_fraction"]) == (15, 15, 30, 0.5)
    assert row["immune_per_mm2"] == 60
    assert not {"neoplastic", "tumour_group"} & set(row)


@pytest.mark.parametrize("mpp", [0.5, 2.0, 8.0])
def test_an_overview_has_the_set_s_colours(tmp_path, mpp):
    types = TypeSet(tuple(CellType(i + 1, f"k{i}", (0, 40 * i, 255 - 40 * i)) for i in range(6)))
    cells = some_cells(types)
    only = cells.select(cells.types == 4)
    image = np.full((500, 500, 3), 255, np.uint8)
    draw_overview(tmp_path / "o.png", image, 1.0, [only], mpp=mpp, type_set=types)
    with Image.open(tmp_path / "o.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    assert (np.abs(pixels - types[3].colour).sum(axis=1) < 40).sum() > 100
    draw_crop(tmp_path / "c.png", image, cells, (0, 0), 1.0, mpp=0.5)


# ---- the model and its results --------------------------------------------------------------------------------------


@SETS
def test_a_model_of_other_types_gives_results_of_them(tmp_path, types):
    rng = np.random.default_rng(3)
    truth, _ = random_nuclei(rng, (300, 320), 90, gap=1)
    kinds = np.concatenate([[0], rng.integers(1, len(types) + 1, truth.max())]).astype(np.uint8)
    slide = write_slide(tmp_path / "painted.tif", paint(truth, kinds, len(types)))
    bundle = load_bundle(fake_bundle(tmp_path / "model", type_set=types).path)
    assert bundle.spec.type_set == types
    settings = SegmentSettings(tissue="all", tile=128, halo=32, workers=2)
    with open_slide(slide) as opened:
        segment_slide(opened, tmp_path / "result", bundle, settings, record={})
    result = Result(tmp_path / "result")
    cells = result.cells
    assert cells.type_set == types
    expected = kinds[truth[cells.centroids[:, 1].astype(int), cells.centroids[:, 0].astype(int)]]
    np.testing.assert_array_equal(cells.types, expected)
    assert result.summary["total"]["types"].keys() == set(types.names)
    with GeoJSONReader(tmp_path / "result" / "cells.geojson.gz") as reader:
        [from_geojson] = reader.tables()
    assert from_geojson.type_set == types
    np.testing.assert_array_equal(from_geojson.types, cells.types)


def test_an_evaluation_takes_names_from_truth_and_model(tmp_path):
    rng = np.random.default_rng(4)
    folder = tmp_path / "truth"
    truth, _ = random_nuclei(rng, (200, 200), 40, gap=1)
    kinds = np.concatenate([[0], rng.integers(1, 5, truth.max())]).astype(np.uint8)
    for name, array in (("inst", truth.astype(np.uint16)), ("type", kinds[truth])):
        (folder / name).mkdir(parents=True)
        Image.fromarray(array).save(folder / name / "a.png")
    (folder / "image").mkdir()
    Image.fromarray(paint(truth, kinds, 4)).save(folder / "image" / "a.png")
    bundle = fake_bundle(tmp_path / "model", type_set=GROUPED)
    (tmp_path / "t.toml").write_text('1 = "tumour"\n2 = "lymphocyte"\n3 = "lymphocyte"\n4 = "stroma"\n')
    classes = read_classes(tmp_path / "t.toml")
    found = cases.find_cases([folder], 0.5)
    with pytest.raises(InputError, match=r"names the type 't cell', which the truth has not.*--map"):
        cases.model_predictions(bundle, classes)
    mapping = {"t cell": "lymphocyte", "plasma cell": "lymphocyte"}
    counts = cases.count_cases(found, cases.model_predictions(bundle, classes, mapping=mapping), classes)
    pairs = counts.confusion.sum(0)
    assert pairs[1:4].trace() == pairs[1:4].sum() == truth.max()  # each nucleus is found and called as the truth does


def test_every_field_of_a_table_survives_choosing_rows():
    assert {f.name for f in fields(CellTable)} >= {"type_set"}
    assert some_cells(TWO).select(np.arange(3)).type_set == TWO


# ---- what works on results afterwards -------------------------------------------------------------------------------


@SETS
def test_surroundings_are_measured_of_the_result_s_own_types(tmp_path, types):
    pytest.importorskip("scipy", reason="needs the extra spatial")
    pytest.importorskip("contourpy", reason="needs the extra spatial")
    from cytolite.config import SpatialSettings
    from cytolite.spatial.analysis import WHOLE, analyse
    from cytolite.spatial.sample import read_sample

    cells = some_cells(types, 400)
    folder = tmp_path / "slide"
    folder.mkdir()
    with CellsWriter(folder / "cells.parquet", ("circularity",), (), {"mpp": 0.5}, types) as writer:
        writer.append(cells)
    quick = SpatialSettings(window="cells", resamples=100, draws=4, permutations=20, envelopes=4, report=False)
    found = analyse(read_sample(folder, "cells"), quick, lambda done, total: None)
    assert found.sample.colours == types.colours
    shares = {r.types: r.value for r in found.rows if r.name == "type_fraction" and r.region == WHOLE}
    counts = np.bincount(cells.types, minlength=len(types) + 1)[1:]
    assert shares == pytest.approx(dict(zip(types.names, counts / len(cells), strict=True)))


@SETS
def test_the_viewer_names_and_counts_the_result_s_own_types(tmp_path, types):
    pytest.importorskip("fastapi", reason="needs the extra viewer")
    from cytolite.interop.result_folder import find_results
    from cytolite.interop.roi import Region
    from cytolite.loopback.allowed import AllowedFolders
    from cytolite.viewer.catalogue import Catalogue
    from cytolite.viewer.measure import measure

    rng = np.random.default_rng(3)
    truth, _ = random_nuclei(rng, (300, 320), 90, gap=1)
    kinds = np.concatenate([[0], rng.integers(1, len(types) + 1, truth.max())]).astype(np.uint8)
    slide = write_slide(tmp_path / "slide.tiff", paint(truth, kinds, len(types)))
    bundle = fake_bundle(tmp_path / "model", type_set=types)
    segment_slides([slide], tmp_path / "out", SegmentSettings(model=str(bundle.path), tissue="all", quiet=True))
    catalogue = Catalogue(find_results([tmp_path / "out"]), AllowedFolders.of([tmp_path]))
    told = catalogue.entries[0].page()["kinds"]
    assert [(t["id"], t["name"], t["colour"]) for t in told] == [(t.id, t.name, t.colour) for t in types]
    assert len({t["safe_colour"] for t in told}) == len(types)
    everything = Region("all", shapely.box(0, 0, 320, 300))
    *_, total = measure(catalogue.cells(0), [everything], [everything], (320, 300), 0.5)
    counts = Result(tmp_path / "out" / "slide").cells.counts()
    assert min(counts.values()) > 0
    assert {name: total[name] for name in types.names} == counts
