"""Work in Python: the same nuclei as the command finds, in tables that know what they hold."""

import inspect
import os

import numpy as np
import pytest
from PIL import Image

import cytolite
from cytolite.api import Model
from cytolite.cells import CellTable
from cytolite.celltypes import TYPE_NAMES
from cytolite.config import SegmentSettings
from cytolite.errors import CytoliteError, InputError
from fakes import fake_bundle, paint, random_nuclei, write_slide


@pytest.fixture(scope="module")
def painted():
    """An image, its instance map, and the type of each nucleus (index 0 = none)."""
    instances, types = random_nuclei(np.random.default_rng(3), (700, 900), 300)
    return paint(instances, types), instances, types


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return cytolite.load_model(fake_bundle(tmp_path_factory.mktemp("api")).path)


@pytest.fixture(scope="module")
def cells(model, painted):
    return model.segment(painted[0], mpp=0.5)


@pytest.fixture(scope="module")
def result(model, painted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("result")
    slide = write_slide(folder / "s.tif", painted[0])
    return cytolite.segment_slide(slide, folder / "out", model=model.bundle.path, tissue="all")


def assert_same(one: CellTable, other: CellTable) -> None:
    for name in ("vertices", "offsets", "centroids", "types", "type_probs", "area_um2", "regions"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert one.features.keys() == other.features.keys()
    for name, column in one.features.items():
        np.testing.assert_array_equal(column, other.features[name], err_msg=name)


def by_place(cells: CellTable) -> CellTable:
    return cells[np.lexsort(cells.centroids.T)]


def test_an_array_a_file_and_the_folder_of_results_hold_the_same_nuclei(cells, model, result):
    assert len(cells) > 200
    assert_same(cells, result.cells)
    slide = result.folder.parents[1] / "s.tif"
    assert_same(by_place(cells), by_place(model.segment(slide, tissue="all", tile=128, workers=2)))
    assert_same(cells, cytolite.segment(slide, model=model.bundle.path, tissue="all"))
    assert_same(cells, cytolite.read_cells(result.folder))
    assert_same(cells, cytolite.read_cells(result.folder / "cells.parquet"))


def test_labels_are_the_painted_nuclei_and_types(cells, painted):
    _, instances, types = painted
    labels = cells.to_labels(instances.shape)
    assert labels.max() == len(cells)
    rows, columns = cells.centroids[:, 1].astype(int), cells.centroids[:, 0].astype(int)
    inside = instances[rows, columns] > 0
    assert inside.mean() > 0.98
    np.testing.assert_array_equal(cells.types[inside], types[instances[rows, columns][inside]])
    assert ((labels > 0) == (instances > 0)).mean() > 0.995


def test_nothing_is_written_unless_asked_for(model, painted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    model.segment(painted[0][:128, :128], mpp=0.5)
    assert os.listdir(tmp_path) == []


def test_what_is_doubtful_is_a_warning_of_the_line_that_asked(model, result):
    slide = result.folder.parents[1] / "s.tif"
    with pytest.warns(UserWarning, match="H&E") as caught:
        cytolite.segment(slide, model=model.bundle.path, tissue="all")
    assert {warning.filename for warning in caught} == {__file__}


@pytest.mark.parametrize(
    ("image", "mpp", "sentence"),
    [
        (np.zeros((8, 8, 3), np.float32), 0.5, "uint8"),
        (np.zeros((8, 8), np.uint8), 0.5, r"\(8, 8\)"),
        (np.zeros((8, 8, 4), np.uint8), 0.5, "RGB"),
        (np.zeros((0, 8, 3), np.uint8), 0.5, "RGB"),
        (np.zeros((8, 8, 3), np.uint8), None, "holds no resolution"),
        (np.zeros((8, 8, 3), np.uint8), 50.0, "50"),
        ("no.svs", None, "does not exist"),
    ],
)
def test_what_is_no_image_is_said(model, image, mpp, sentence):
    with pytest.raises(CytoliteError, match=sentence):
        model.segment(image, mpp=mpp)


def test_an_unknown_option_is_said(model, painted):
    with pytest.raises(InputError, match="tile"):
        model.segment(painted[0], mpp=0.5, tiles=512)
    with pytest.raises(InputError, match="tile"):
        cytolite.segment("no.svs", tiles=512)


@pytest.mark.parametrize(
    ("function", "without"),
    [
        (Model.segment, {"model", "device", "precision", "tta", "sheet", "overwrite", "quiet"}),
        (cytolite.segment_slide, set()),
        (cytolite.segment, set()),
    ],
)
def test_options_are_those_of_the_command(function, without):
    shown = inspect.signature(function).parameters
    fields = SegmentSettings.model_fields
    assert set(fields) - set(shown) == without
    for name in set(shown) & set(fields) - {"quiet"}:
        assert shown[name].default == fields[name].default
    assert all(fields[name].description in function.__doc__ for name in set(shown) & set(fields) - {"mpp", "quiet"})


def test_rows_are_chosen_by_mask_index_and_slice(cells):
    by_name = cells[cells.type == "lymphocyte"]
    assert set(by_name.types) == {TYPE_NAMES.index("lymphocyte") + 1}
    assert len(by_name) == cells.counts()["lymphocyte"] == np.count_nonzero(cells.types == 3)
    assert_same(cells[-1], cells[[len(cells) - 1]])
    assert_same(cells[2:9:3], cells[np.array([2, 5, 8])])
    assert len(cells[[]]) == 0
    assert by_name.mpp == cells.mpp == 0.5
    with pytest.raises(InputError, match="mask has 3"):
        cells[np.zeros(3, bool)]
    with pytest.raises(InputError, match="no cell"):
        cells[len(cells)]
    with pytest.raises(InputError, match="mask, by indices"):
        cells[np.array([0.5])]


def test_a_table_says_what_it_holds(cells):
    lines = repr(cells).splitlines()
    assert len(lines) == 3
    assert f"{len(cells):,} nuclei" in lines[0]
    assert f"{cells.counts()['dead']} dead" in lines[1]
    assert "0.5 um/px" in lines[2]
    assert "data:image/png;base64," in cells._repr_html_()
    assert "none" in repr(CellTable.empty())
    assert "data:image/png;base64," in CellTable.empty()._repr_html_()


def test_frames_have_the_columns_of_the_parquet_file(cells, result):
    geopandas = pytest.importorskip("geopandas", reason="needs geopandas")
    frame = cells.to_geodataframe()
    other = geopandas.read_parquet(result.folder / "cells.parquet").set_index("cell_id")
    assert set(frame.columns) == set(other.columns)
    assert frame.geometry.geom_equals(other.geometry, align=False).all()
    for name in ("x_px", "area_um2", "p_dead", "solidity"):
        np.testing.assert_array_equal(frame[name], other[name])
    assert (frame["cell_type"].astype(str) == other["cell_type"].astype(str)).all()
    assert list(cells.to_pandas().columns) == [c for c in frame.columns if c != "geometry"]
    assert len(CellTable.empty().to_geodataframe()) == 0


def test_anndata_holds_the_features(cells):
    pytest.importorskip("anndata", reason="needs anndata")
    data = cells.to_anndata()
    assert data.n_obs == len(cells)
    np.testing.assert_array_equal(data.obsm["spatial"], cells.centroids)


def test_a_plot_has_an_outline_for_every_nucleus(cells, painted):
    matplotlib = pytest.importorskip("matplotlib", reason="needs matplotlib")
    matplotlib.use("Agg")
    axes = cells.plot(painted[0], fill=True)
    assert sum(len(c.get_paths()) for c in axes.collections) == len(cells)
    assert axes.yaxis_inverted()
    assert {t.get_text() for t in axes.get_legend().get_texts()} == {f"{k} {n:,}" for k, n in cells.counts().items()}
    assert cells.plot().yaxis_inverted()


def test_a_result_is_read_when_asked(result, model):
    assert result.mpp == 0.5
    assert result.slide == "s.tif"
    assert result.model["name"] == "fake"
    assert result.run["cells"] == len(result.cells)
    assert result.regions == ()
    assert isinstance(result.overview, Image.Image)
    assert result.summary["total"]["cells"] == len(result.cells)
    assert "s.tif" in repr(result)
    assert "data:image/png" in result._repr_html_()


def test_what_is_no_result_is_said(result, tmp_path):
    with pytest.raises(InputError, match="is one of 1"):
        cytolite.Result(result.folder.parent)
    with pytest.raises(InputError, match=r"no run\.json"):
        cytolite.Result(tmp_path)
    with pytest.raises(InputError, match="no file"):
        cytolite.read_cells(tmp_path / "x.csv")
    (tmp_path / "run.json").write_text("{")
    broken = cytolite.Result(tmp_path)
    with pytest.raises(InputError, match="damaged"):
        _ = broken.run
    with pytest.raises(InputError, match=r"no cells\.parquet"):
        _ = broken.cells


def test_a_model_says_what_it_is():
    model = cytolite.load_model()
    assert model.name in cytolite.embedded_names()
    assert model.types == TYPE_NAMES
    assert model.name in repr(model)
    assert "research" in model.card.lower()
