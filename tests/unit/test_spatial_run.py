"""`cytolite spatial` on results: what it finds on a nest of tumour, what it writes, and what it says of bad input."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
import tifffile

pytest.importorskip("scipy", reason="needs the extra spatial")
pytest.importorskip("contourpy", reason="needs the extra spatial")

from cytolite.bundle import load_bundle
from cytolite.celltypes import TYPE_NAMES
from cytolite.cli import main
from cytolite.config import SpatialSettings, make_settings
from cytolite.errors import InputError, OutputError
from cytolite.interop.parquet import read_cells
from cytolite.interop.roi import read_regions
from cytolite.spatial import files
from cytolite.spatial.analysis import WHOLE, analyse
from cytolite.spatial.reliability import type_warnings
from cytolite.spatial.roles import choose_roles
from cytolite.spatial.run import measure_result, measure_results
from cytolite.spatial.sample import read_sample
from patterns import MPP, nest, strewn, table, write_regions, write_result

TISSUE = shapely.box(0, 0, 1_200, 1_200)
QUICK = {"resamples": 100, "draws": 4, "permutations": 20, "envelopes": 4, "report": False}


def settings(**given):
    return make_settings(SpatialSettings, {**QUICK, **given})


def no_update(done, total):
    pass


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    xy, names = nest()
    return write_result(tmp_path_factory.mktemp("results") / "nest", table(xy, names, 0.9), TISSUE)


@pytest.fixture(scope="module")
def found(result):
    return analyse(read_sample(result), settings())


@pytest.fixture
def copy(result, tmp_path):
    """The same result, to write into."""
    folder = tmp_path / "nest"
    folder.mkdir()
    for name in ("cells.parquet", "tissue.geojson"):
        (folder / name).write_bytes((result / name).read_bytes())
    return folder


def value(found, name, region, types):
    return next(r for r in found.rows if (r.name, r.region, r.types) == (name, region, types))


# ---- what is found ---------------------------------------------------------------------------------------------------


def test_compartments_of_a_nest(found):
    assert found.areas_mm2[WHOLE] == pytest.approx(1.44, rel=0.01)
    assert found.areas_mm2["tumour"] == pytest.approx(np.pi * 0.3**2, rel=0.2)
    window, front = found.sample.window, found.compartments.front_um
    at = window.at(np.array([[600.0, 600.0], [600.0, 1_150.0]]))
    radius = (found.areas_mm2["tumour"] * 1e6 / np.pi) ** 0.5
    assert front[at] == pytest.approx([-radius, 550 - radius], abs=25)
    row, col = np.nonzero(found.compartments.masks["lymphoid aggregates"])
    radii = np.hypot(row - 150, col - 150) * window.px_um
    assert (radii > 290).all()
    assert (radii < 410).all()
    assert 0.05 < found.areas_mm2["lymphoid aggregates"] < np.pi * (0.4**2 - 0.3**2)


def test_measures_of_a_nest(found):
    n = np.bincount(found.sample.types, minlength=7)
    fraction = value(found, "tumour_cell_fraction", WHOLE, "tumour")
    assert fraction.value == pytest.approx(n[0] / n.sum())
    assert fraction.low < fraction.value < fraction.high
    # 0.1 of the doubt is spread over six other types, so tumour cells become fewer under drawn types.
    assert fraction.type_low <= fraction.type_high < 1
    assert value(found, "density", "tumour", "lymphocyte").value < 0.2 * 7_000 / 1.44
    assert value(found, "neighbourhood_ratio", WHOLE, "neoplastic to connective").value < 0.1
    assert value(found, "neighbourhood_z", WHOLE, "lymphocyte to lymphocyte").value > 50
    assert value(found, "hot_spots", WHOLE, "lymphocyte").value == pytest.approx(0.153, abs=0.08)
    assert value(found, "cluster_median", WHOLE, "neoplastic").value > 1_000
    apart = value(found, "nearest_within_20um", WHOLE, "neoplastic to connective")
    assert apart.value == 0


def test_the_profile_peaks_in_the_ring(found):
    curve = next(c for c in found.curves if c.measure == "density" and c.types == "lymphocyte")
    assert 0 < curve.x_um[np.nanargmax(curve.value)] < 100
    assert np.nanmax(curve.value[curve.x_um < -100]) == 0


def test_differences_between_regions_are_paired(found):
    difference = next(r for r in found.comparisons if r.name == "density" and r.types == "neoplastic")
    assert difference.region == "tumour - stroma"
    expected = (
        value(found, "density", "tumour", "neoplastic").value - value(found, "density", "stroma", "neoplastic").value
    )
    assert difference.value == pytest.approx(expected)
    assert difference.low > 0


def test_random_labels_enclose_cells_without_order(tmp_path):
    xy = strewn(3_000, 1_200, 1_200)
    names = np.random.default_rng(1).choice(["neoplastic", "lymphocyte"], 3_000).tolist()
    folder = write_result(tmp_path / "even", table(xy, names), TISSUE)
    found = analyse(read_sample(folder), settings(envelopes=39))
    curve = next(c for c in found.curves if c.measure == "l_minus_r" and c.types == "neoplastic to lymphocyte")
    inside = (curve.value >= curve.null_low - 0.1) & (curve.value <= curve.null_high + 0.1)
    assert inside.mean() > 0.8
    assert (
        value(found, "density", WHOLE, "neoplastic").type_low != value(found, "density", WHOLE, "neoplastic").type_low
    )


def test_roles_can_be_given(result):
    found = analyse(read_sample(result), settings(tumour="connective", stroma="neoplastic, epithelial"))
    assert found.areas_mm2["tumour"] > found.areas_mm2["stroma"]


def test_regions_of_the_user_on_an_old_result(result, tmp_path):
    geometries = {"core": shapely.Point(600, 600).buffer(250), "tumour": shapely.box(0, 0, 200, 1_200)}
    roi = write_regions(tmp_path / "roi.geojson", geometries)
    found = analyse(read_sample(result, roi=roi), settings())
    assert value(found, "tumour_cell_fraction", "core", "tumour").value == 1
    assert found.areas_mm2["core"] == pytest.approx(np.pi * 0.25**2, rel=0.02)
    # One that is called as a compartment keeps a name of its own.
    assert value(found, "density", "tumour (region)", "neoplastic").value == 0
    assert value(found, "l_minus_r_20um", "core", "neoplastic to neoplastic").value == pytest.approx(0, abs=1.5)


# ---- what is written -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(result):
    measure_result(result, settings(cells=True), no_update)
    return result / "spatial"


def test_measures_are_the_same_in_all_files(written):
    content = json.loads((written / "measures.json").read_text())
    table_ = pq.read_table(written / "measures.parquet").to_pylist()
    lines = (written / "measures.csv").read_text(encoding="utf-8-sig").splitlines()
    assert len(lines) == len(table_) + 1
    for row in table_:
        group = "comparisons" if row["measure"].endswith("_difference") else "measures"
        entry = content[group][row["measure"].removesuffix("_difference")][row["region"]][row["types"]]
        assert entry["value"] == row["value"]
        assert entry["n"] == row["n"]
    assert content["definitions"].keys() >= {"density", "ripley_k"}
    assert content["notice"].startswith("Research use only")
    assert content["roles"]["tumour"] == ["neoplastic"]


def test_the_density_map_covers_the_slide_to_scale(written):
    with tifffile.TiffFile(written / "density.ome.tif") as file:
        stack, ome = file.asarray(), file.ome_metadata
    assert stack.dtype == np.float32
    px = float(ome.split('PhysicalSizeX="')[1].split('"')[0])
    assert np.array(stack.shape[1:]) * px == pytest.approx(2_000, abs=2 * px)  # 4,000 px at 0.5
    assert stack[0].sum() * px**2 / 1e6 == pytest.approx(1_400, rel=0.1)  # of 7,000 cells a fifth is tumour
    row = col = int(600 / px)
    assert stack[0, row, col] == pytest.approx(7_000 / 1.44, rel=0.15)
    assert 'Name="lymphocyte"' in ome


def test_tiles_and_regions_are_read_by_others(written):
    gpd = pytest.importorskip("geopandas", reason="reads GeoParquet")
    frame = gpd.read_parquet(written / "tiles.parquet")
    assert frame.neoplastic.sum() == pytest.approx(1_400, rel=0.1)
    assert frame.total_bounds.max() == pytest.approx(1_200 / MPP, rel=0.1)
    regions = {region.name: region.polygon for region in read_regions(written / "regions.geojson")}
    assert regions["tumour"].area * MPP**2 == pytest.approx(np.pi * 300**2, rel=0.2)
    assert {"stroma", "lymphoid aggregate 1", "front, outside 0-100 um", "lymphocyte: hot spots"} <= regions.keys()


def test_columns_of_cells_say_what_is_around_them(written, result):
    cells, plain = read_cells(written / "cells.parquet"), read_cells(result / "cells.parquet")
    assert np.array_equal(cells.centroids, plain.centroids)
    xy, tumour = cells.centroids * MPP, cells.types == 1
    i = int(np.argmin(np.hypot(*(xy - 600).T)))
    d = np.hypot(*(xy - xy[i]).T)
    d[i] = np.inf
    assert cells.features["neoplastic_within_50um"][i] == (d[tumour] <= 50).sum()
    assert cells.features["lymphocyte_nearest_um"][i] == pytest.approx(d[cells.types == 3].min(), rel=1e-5)
    assert cells.features["in_tumour"][i] == 1
    assert cells.features["front_um"][i] < -250
    assert cells.features["cluster_size"][i] > 1_000


def test_anndata_has_the_graph_where_squidpy_looks(copy):
    anndata = pytest.importorskip("anndata", reason="needs the extra anndata")
    measure_result(copy, settings(anndata=True), no_update)
    data = anndata.read_h5ad(copy / "spatial" / "cells.h5ad")
    links, length = data.obsp["spatial_connectivities"], data.obsp["spatial_distances"]
    assert (links != links.T).nnz == 0
    assert length.max() <= 40
    assert set(data.uns["spatial_neighbors"]) == {"connectivities_key", "distances_key", "params"}
    i, j = (int(k[0]) for k in links.nonzero())
    assert length[i, j] == pytest.approx(np.hypot(*(data.obsm["spatial"][i] - data.obsm["spatial"][j])) * MPP)
    counts = data.uns["cell_type_nhood_enrichment"]["count"]
    assert counts.sum() == links.nnz
    occ = data.uns["cell_type_co_occurrence"]
    assert occ["occ"].shape == (7, 7, len(occ["interval"]) - 1)


def test_the_report_opens_offline_and_shows_its_numbers(copy):
    pytest.importorskip("matplotlib", reason="needs the extra spatial")
    measure_result(copy, settings(report=True), no_update)
    page = (copy / "spatial" / "report.html").read_text()
    assert "Research use only" in page
    assert "http" not in page.replace("http-equiv", "")
    entry = json.loads((copy / "spatial" / "measures.json").read_text())
    fraction = entry["measures"]["tumour_cell_fraction"][WHOLE]["tumour"]["value"]
    assert f"{100 * fraction:.1f}%" in page
    assert page.count("<img") == 6
    assert (copy / "spatial" / "report.pdf").read_bytes().startswith(b"%PDF")


def test_the_same_again_is_kept_and_other_settings_are_refused(copy):
    assert not measure_result(copy, settings(), no_update)
    assert measure_result(copy, settings(), no_update)
    assert not measure_result(copy, settings(cells=True), no_update)  # the same measures, and a file more
    assert measure_result(copy, settings(), no_update)
    assert (copy / "spatial" / "cells.parquet").is_file()
    with pytest.raises(OutputError, match="other settings"):
        measure_result(copy, settings(scale_um=50), no_update)
    assert not measure_result(copy, settings(scale_um=50, overwrite=True), no_update)


def test_a_folder_of_someone_else_is_left_alone(copy):
    (copy / "spatial").mkdir()
    (copy / "spatial" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="no measures of cytolite"):
        measure_result(copy, settings(overwrite=True), no_update)
    assert (copy / "spatial" / "notes.txt").read_text() == "mine"


def test_a_fault_in_the_middle_leaves_what_was_there(copy, monkeypatch):
    measure_result(copy, settings(), no_update)
    before = (copy / "spatial" / "measures.json").read_bytes()

    def full(path, analysis):
        raise OutputError("disk full")

    monkeypatch.setattr(files, "write_regions", full)
    with pytest.raises(OutputError, match="disk full"):
        measure_result(copy, settings(scale_um=50, overwrite=True), no_update)
    assert (copy / "spatial" / "measures.json").read_bytes() == before
    assert {p.name for p in copy.iterdir()} == {"cells.parquet", "tissue.geojson", "spatial"}


# ---- bad input -------------------------------------------------------------------------------------------------------


def test_without_tissue_it_says_so_and_takes_the_cells_on_request(copy):
    (copy / "tissue.geojson").unlink()
    with pytest.raises(InputError, match="--window cells"):
        read_sample(copy)
    sample = read_sample(copy, "cells")
    assert sample.window.area_um2 == pytest.approx(1_250**2, rel=0.02)  # 50 um more, not above and left of the slide
    assert any("made of the cells" in w for w in sample.warnings)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"features": [{"geometry": {"type": "Point", "coordinates": [1, 2]}}]}']
)
def test_tissue_that_is_none(copy, content):
    (copy / "tissue.geojson").write_bytes(content)
    with pytest.raises(InputError, match=r"tissue\.geojson"):
        read_sample(copy)


def test_three_cells(tmp_path):
    folder = write_result(tmp_path / "few", table(strewn(3, 100, 100), ["neoplastic", "lymphocyte", "dead"]), TISSUE)
    found = analyse(read_sample(folder), settings())
    assert any("too few" in w for w in found.warnings)
    assert value(found, "tumour_cell_fraction", WHOLE, "tumour").value == pytest.approx(1 / 3)
    assert not [r for r in found.rows if r.measure in ("nearest_median", "ripley_k")]
    assert not measure_result(folder, settings(report=True, cells=True), no_update)


def test_tissue_smaller_than_a_tile_and_a_short_reach(tmp_path):
    xy = strewn(40, 30, 30)
    folder = write_result(tmp_path / "tiny", table(xy, ["neoplastic", "lymphocyte"] * 20), shapely.box(0, 0, 30, 30))
    found = analyse(read_sample(folder), settings(reach_um=20))
    assert not len(found.tiles.keys)
    assert any("there are none" in w for w in found.warnings)
    assert {r.name for r in found.rows if r.measure == "l_minus_r"} == {"l_minus_r_20um"}
    assert not measure_result(folder, settings(report=True, cells=True), no_update)


def test_no_cells_and_cells_outside_of_the_tissue(tmp_path):
    cells = table(strewn(30, 100, 100), ["neoplastic"] * 30)
    empty = write_result(tmp_path / "empty", cells.select(np.zeros(30, bool)), TISSUE)
    with pytest.raises(InputError, match="no cells"):
        read_sample(empty)
    elsewhere = write_result(tmp_path / "elsewhere", cells, shapely.box(500, 500, 900, 900))
    with pytest.raises(InputError, match="do not belong together"):
        read_sample(elsewhere)
    half = write_result(tmp_path / "half", cells, shapely.box(0, 0, 50, 100))
    assert any("outside of the window" in w for w in read_sample(half).warnings)


def test_types_that_measures_need_are_missing(tmp_path):
    folder = write_result(tmp_path / "benign", table(strewn(200, 300, 300), ["connective"] * 200), TISSUE)
    found = analyse(read_sample(folder), settings())
    assert any("neoplastic was found" in w for w in found.warnings)
    assert value(found, "tumour_cell_fraction", WHOLE, "tumour").value == 0
    assert "tumour" not in found.areas_mm2
    assert not np.isfinite(value(found, "mixing_score", WHOLE, "tumour and lymphocytes").value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tumour": "neoplasic"}, "Did you mean 'neoplastic'"),
        ({"tumour": "neoplastic", "stroma": "neoplastic"}, "plays one part"),
    ],
)
def test_roles_that_do_not_fit(result, given, message):
    with pytest.raises(InputError, match=message):
        analyse(read_sample(result), settings(**given))


def test_a_region_outside_of_the_slide_and_one_without_tissue(result, tmp_path):
    far = write_regions(tmp_path / "far.geojson", {"far": shapely.box(9_000, 9_000, 9_100, 9_100)})
    with pytest.raises(InputError, match="outside of the slide"):
        read_sample(result, roi=far)
    glass = write_regions(tmp_path / "glass.geojson", {"glass": shapely.box(1_500, 1_500, 1_600, 1_600)})
    assert any("no tissue" in w for w in read_sample(result, roi=glass).warnings)


def test_a_result_of_regions_whose_ground_is_the_cells_needs_them_again(tmp_path):
    xy, names = nest()
    inside = (xy < 600).all(axis=1)
    cells = table(xy, names).select(inside)
    folder = write_result(tmp_path / "part", cells, TISSUE, ["box"])
    with pytest.raises(InputError, match="--roi"):
        read_sample(folder, "cells")
    roi = write_regions(tmp_path / "roi.geojson", {"box": shapely.box(0, 0, 600, 600)})
    assert read_sample(folder, "cells", roi).window.area_um2 == pytest.approx(600**2, rel=0.02)


def test_what_segment_warned_of_is_told_again(copy):
    told = {"warnings": [{"code": "stain", "message": "The stains are not those of H&E."}, "odd"]}
    (copy / "summary.json").write_text(json.dumps(told))
    assert read_sample(copy).warnings == ["The stains are not those of H&E."]


@pytest.mark.parametrize("bands", [(), (0.0,), (100.0, 50.0), (9_000.0,)])
def test_bands_that_do_not_rise(bands):
    with pytest.raises(InputError, match="rising"):
        settings(bands_um=bands)


def test_one_bad_result_does_not_end_the_others(copy, tmp_path, capsys):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "cells.parquet").write_bytes(b"no")
    with pytest.raises(SystemExit) as code:
        main(["spatial", str(tmp_path), "--resamples", "0", "--draws", "0", "--permutations", "0", "--no-report"])
    assert code.value.code == 1
    told = capsys.readouterr()
    assert "not a readable Parquet" in told.err
    assert "7,000 nuclei in 1.44 mm2" in told.out
    assert (copy / "spatial" / "measures.json").is_file()


def test_nothing_that_is_a_result(tmp_path):
    from cytolite.progress import silent

    with pytest.raises(InputError, match="is no result"):
        measure_results([tmp_path], settings(), silent)
    with pytest.raises(InputError, match="No result was given"):
        measure_results([], settings(), silent)


# ---- what the model says of its types --------------------------------------------------------------------------------------


def test_types_that_the_model_warns_of_are_told_where_they_are_used():
    bundle = load_bundle("nuclei-light-int8")
    few = bundle.spec.few_examples
    assert {"macrophage", "dead"} <= few.keys()
    about = {"model": {"name": "nuclei-light-int8", "onnx_sha256": bundle.sha256}}
    roles = choose_roles(TYPE_NAMES, {})
    [warning] = type_warnings(about, roles, {"dead", "neoplastic"})
    assert "dead ({} trained, {} tested)".format(*few["dead"]) in warning
    assert "macrophage" not in warning  # no cell is one, and it plays no part
    [warning] = type_warnings(about, choose_roles(TYPE_NAMES, {"stroma": ["macrophage"]}), set())
    assert "macrophage" in warning
    other = {"model": {"name": "nuclei-light-int8", "onnx_sha256": "0"}}
    assert "could not be asked" in type_warnings(other, roles, {"dead"})[0]
    assert "does not name its model" in type_warnings({}, roles, set())[0]


def test_a_set_of_types_without_the_usual_names():
    roles = choose_roles(("cancer", "immune"), {"tumour": ["cancer"]})
    assert roles.types("tumour") == ("cancer",)
    assert any("--lymphocytes" in w for w in type_warnings({}, roles, {"cancer"}))
