"""The run over one slide: threads and their errors, what belongs to tissue and regions, what is kept and said."""

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely

from cytolite.config import SegmentSettings
from cytolite.errors import InputError, OutputError, SlideError, Stopped
from cytolite.interop.parquet import read_cells
from cytolite.segmentation import slide as slide_module
from cytolite.segmentation.checks import check_plan
from cytolite.segmentation.executors import Threads
from cytolite.segmentation.plan import _area_px, plan_slide
from cytolite.segmentation.slide import batches, segment_slide
from cytolite.slides.reader import open_slide
from cytolite.slides.tiles import plan_tiles
from cytolite.slides.tissue import TissueMask
from fakes import EndlessSlide, fake_bundle, paint, random_nuclei, write_slide

SETTINGS = SegmentSettings(tissue="all", tile=128, halo=32, workers=2)


@pytest.fixture(scope="module")
def truth():
    return random_nuclei(np.random.default_rng(5), (400, 500), 250, gap=1)


@pytest.fixture(scope="module")
def painted(tmp_path_factory, truth):
    return write_slide(tmp_path_factory.mktemp("slides") / "painted.tif", paint(*truth))


@pytest.fixture
def bundle(tmp_path):
    return fake_bundle(tmp_path / "model")


# ---- threads --------------------------------------------------------------------------------------------------------


def test_batches_hold_neighbours_of_one_shape():
    tiles = plan_tiles(1000, 300, 256, 32)
    runs = batches(tiles, 3)
    assert [tile for run in runs for tile in run] == tiles
    assert max(map(len, runs)) == 3
    assert all(len({(tile.height, tile.width) for tile in run}) == 1 for run in runs)


def test_every_tile_is_done_once_and_counted_down():
    tiles = plan_tiles(1000, 1000, 100, 0)
    done, left = [], []
    Threads(4).run(done.extend, batches(tiles, 7), left.append)
    assert sorted(tile.index for tile in done) == list(range(100))
    assert left[-1] == 0
    assert left == sorted(left, reverse=True)


def test_the_first_error_stops_the_others():
    started = []

    def job(tiles):
        started.append(tiles)
        time.sleep(0.01)
        if len(started) == 3:
            raise SlideError("It cannot be read.")

    with pytest.raises(SlideError, match="cannot be read"):
        Threads(2).run(job, [[tile] for tile in plan_tiles(1000, 1000, 100, 0)])
    assert len(started) < 20


@pytest.mark.parametrize("stop", [KeyboardInterrupt, Stopped])
def test_an_interruption_stops_soon_and_says_that_work_is_kept(stop):
    started = []

    def job(tiles):
        started.append(threading.current_thread())
        time.sleep(0.01)

    def interrupt(left):
        if left == 95:
            raise stop

    with pytest.raises(stop, match="95 tiles to go; run the same command again"):
        Threads(2).run(job, [[tile] for tile in plan_tiles(1000, 1000, 100, 0)], interrupt)
    assert len(started) < 20
    assert threading.main_thread() not in started


# ---- results --------------------------------------------------------------------------------------------------------


def labels_at(cells, instance_map):
    x, y = np.floor(cells.centroids).astype(int).T
    return instance_map[y, x]


def test_painted_slide_gives_its_nuclei_back(painted, truth, bundle, tmp_path):
    instance_map, types = truth
    seen = []
    with open_slide(painted) as slide:
        out = tmp_path / "out" / "painted"
        out.parent.mkdir()
        result = segment_slide(slide, out, bundle, SETTINGS, record={"a": 1}, update=lambda *mm2: seen.append(mm2))
    cells = read_cells(out / "cells.parquet")
    labels = labels_at(cells, instance_map)
    assert sorted(labels) == list(range(1, instance_map.max() + 1))
    np.testing.assert_array_equal(cells.types, types[labels])
    areas = np.bincount(instance_map.ravel())[labels]
    np.testing.assert_allclose(cells.area_um2, areas * 0.25)
    np.testing.assert_allclose(shapely.area(polygons(cells)), areas)
    assert result.n_cells == len(cells)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["total"]["searched_mm2"] == pytest.approx(400 * 500 * 0.25 / 1e6)
    assert summary["total"]["tissue_mm2"] == pytest.approx(result.tissue_mm2)
    assert summary["total"]["cells_per_mm2"] == pytest.approx(len(cells) / result.tissue_mm2, rel=1e-5)
    [tissue] = json.loads((out / "tissue.geojson").read_text())["features"]
    assert shapely.geometry.shape(tissue["geometry"]).area * 0.25 / 1e6 == pytest.approx(result.tissue_mm2)
    assert seen[-1] == (pytest.approx(result.tissue_mm2), pytest.approx(result.tissue_mm2))
    # The paint is no H&E, and it is told wherever it may be looked for.
    # What is painted has no stain's colours, and is as bright as ink.
    assert [warning.code for warning in result.warnings] == ["not_he", "pen"]
    assert [warning["code"] for warning in summary["warnings"]] == ["not_he", "pen"]
    names = {
        "cells.parquet",
        "cells.geojson.gz",
        "summary.csv",
        "summary.json",
        "artefacts.geojson",
        "overview.png",
        "run.json",
        "tissue.geojson",
    }
    assert {path.name for path in out.iterdir()} == names
    record = json.loads((out / "run.json").read_text())
    assert record["a"] == 1
    assert record["cells"] == len(cells)
    assert [path.name for path in out.parent.iterdir()] == ["painted"]


def polygons(cells):
    return [shapely.Polygon(cells.outline(i)) for i in range(len(cells))]


def test_batches_workers_and_tiles_change_nothing(painted, bundle, tmp_path):
    def run(name, **changes):
        with open_slide(painted) as slide:
            segment_slide(slide, tmp_path / name, bundle, SETTINGS.model_copy(update=changes))
        return (tmp_path / name / "cells.parquet").read_bytes()

    assert run("a", batch=1, workers=1) == run("b", batch=3, workers=4)


def test_regions_limit_the_cells_and_are_named(painted, truth, bundle, tmp_path):
    triangle = shapely.Polygon([(20, 20), (300, 40), (150, 380)])
    small = shapely.box(100, 50, 180, 120)
    write_regions(tmp_path / "roi.geojson", [("outer", triangle), ("inner", small)])
    settings = SETTINGS.model_copy(update={"roi": tmp_path / "roi.geojson"})
    with open_slide(painted) as slide:
        result = segment_slide(slide, tmp_path / "out", bundle, settings)
        everything = segment_slide(slide, tmp_path / "all", bundle, SETTINGS)
    cells = read_cells(tmp_path / "out" / "cells.parquet")
    centroids = read_cells(tmp_path / "all" / "cells.parquet").centroids
    expected = {
        0: shapely.contains_xy(triangle, *centroids.T) & ~shapely.contains_xy(small, *centroids.T),
        1: shapely.contains_xy(small, *centroids.T),
    }
    for region, inside in expected.items():
        assert inside.any()
        found = cells.centroids[cells.regions == region]
        assert sorted(map(tuple, found)) == sorted(map(tuple, centroids[inside]))
    assert len(cells) == sum(inside.sum() for inside in expected.values())
    union = shapely.union(triangle, small)
    total = json.loads((tmp_path / "out" / "summary.json").read_text())["total"]
    assert total["searched_mm2"] == pytest.approx(union.area * 0.25 / 1e6, abs=1e-6)
    [tissue] = json.loads((tmp_path / "out" / "tissue.geojson").read_text())["features"]
    assert shapely.geometry.shape(tissue["geometry"]).area * 0.25 / 1e6 == pytest.approx(result.tissue_mm2, rel=1e-4)
    assert everything.n_cells > result.n_cells
    [outer, inner] = json.loads((tmp_path / "out" / "summary.json").read_text())["regions"]
    assert outer["searched_mm2"] == pytest.approx(triangle.difference(small).area * 0.25 / 1e6, abs=1e-6)
    assert inner["searched_mm2"] == pytest.approx(small.area * 0.25 / 1e6, abs=1e-6)


def test_many_regions_without_tissue_are_one_warning(painted, bundle, tmp_path):
    boxes = [shapely.box(x, 0, x + 5, 5) for x in range(0, 40, 10)]
    write_regions(
        tmp_path / "roi.geojson", [(str(i), box) for i, box in enumerate([shapely.box(50, 50, 90, 90), *boxes])]
    )
    settings = SETTINGS.model_copy(update={"roi": tmp_path / "roi.geojson"})
    with open_slide(painted) as slide:
        plan = slide_module.plan_slide(slide, bundle, settings)
        mask = np.zeros_like(plan.searched.mask)
        scale = plan.searched.scale_px
        mask[round(50 // scale) :, round(50 // scale) :] = True
        plan = replace(plan, searched=replace(plan.searched, mask=mask))
        found = [w.message for w in check_plan(plan, slide, plan.areas_mm2()) if w.code == "empty_region"]
    assert found == ["4 regions hold no tissue of this slide: '1', '2', '3' and 1 more"]


def write_regions(path, regions):
    features = [
        {"type": "Feature", "geometry": shapely.geometry.mapping(polygon), "properties": {"name": name}}
        for name, polygon in regions
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def test_area_of_tissue_in_a_region_is_exact():
    rng = np.random.default_rng(3)
    mask = np.repeat(np.repeat(rng.uniform(size=(5, 7)) < 0.5, 3, axis=0), 3, axis=1)
    tissue = TissueMask(mask, 16.0, 21 * 16 - 5, 15 * 16 - 9)
    angles = np.linspace(0, 2 * np.pi, 23)[:-1]
    radius = rng.uniform(60, 200, 22)
    star = shapely.Polygon(np.column_stack([170 + radius * np.cos(angles), 110 + radius * np.sin(angles)]))
    region = star.difference(shapely.Point(170, 110).buffer(30))
    squares = [shapely.box(c * 16, r * 16, min(c * 16 + 16, 331), min(r * 16 + 16, 231)) for r, c in np.argwhere(mask)]
    assert _area_px(tissue, region) == pytest.approx(sum(square.intersection(region).area for square in squares))
    assert _area_px(tissue, shapely.box(0, 0, 999, 999)) * 0.25 / 1e6 == pytest.approx(tissue.area_mm2(0.5))
    assert _area_px(tissue, shapely.Polygon()) == 0


def test_regions_outside_of_the_slide_are_refused(painted, bundle, tmp_path):
    write_regions(tmp_path / "roi.geojson", [("far", shapely.box(9000, 9000, 9100, 9100))])
    settings = SETTINGS.model_copy(update={"roi": tmp_path / "roi.geojson"})
    with open_slide(painted) as slide, pytest.raises(InputError, match="far"):
        segment_slide(slide, tmp_path / "out", bundle, settings)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / ".out.partial").exists()


def test_a_blank_slide_gives_an_empty_result_and_a_warning(bundle, tmp_path):
    path = write_slide(tmp_path / "blank.tif", np.full((300, 400, 3), 245, np.uint8))
    with open_slide(path) as slide:
        result = segment_slide(slide, tmp_path / "out", bundle, SegmentSettings())
    assert result.n_cells == 0
    assert result.tissue_mm2 == 0
    assert [warning.code for warning in result.warnings] == ["no_tissue"]
    assert json.loads((tmp_path / "out" / "tissue.geojson").read_text())["features"] == []
    assert len(read_cells(tmp_path / "out" / "cells.parquet")) == 0


@pytest.mark.parametrize("mpp", [0.25, 0.23, 0.37, 1.1])
def test_the_plan_covers_the_slide_at_any_resolution(bundle, tmp_path, mpp):
    path = write_slide(tmp_path / "s.tif", np.full((211, 307, 3), 245, np.uint8), mpp)
    with open_slide(path) as slide:
        plan = plan_slide(slide, bundle, SegmentSettings(tissue="all", tile=64, halo=0))
    assert abs(plan.map_mpp / 0.5 - 1) <= 0.1
    assert 0 <= plan.width * plan.scale - 307 < plan.scale
    assert 0 <= plan.height * plan.scale - 211 < plan.scale
    assert max(tile.core[2] for tile in plan.tiles) == plan.width
    assert max(tile.core[3] for tile in plan.tiles) == plan.height


def test_outlines_end_where_the_slide_ends(bundle, tmp_path):
    """307 px are 153.5 px of the model's: the last one has its outer half beside the slide."""
    instance_map = np.zeros((106, 154), np.int32)
    instance_map[40:60, 138:154] = 1
    image = np.repeat(np.repeat(paint(instance_map, np.array([0, 2])), 2, axis=0), 2, axis=1)[:211, :307]
    bundle = fake_bundle(tmp_path / "lenient", flow_threshold=0)
    with open_slide(write_slide(tmp_path / "s.tif", image, 0.25)) as slide:
        segment_slide(slide, tmp_path / "out", bundle, SETTINGS)
    cells = read_cells(tmp_path / "out" / "cells.parquet")
    assert cells.vertices[:, 0].max() <= 307
    assert cells.vertices.min(axis=0).tolist() == [276, 80]


# ---- faults ---------------------------------------------------------------------------------------------------------


class BrokenSlide(EndlessSlide):
    """Cannot be read from row 200 on."""

    def read(self, x_px, y_px, width_px, height_px, mpp):
        if y_px >= 200:
            raise OSError("bad sector")
        return super().read(x_px, y_px, width_px, height_px, mpp)


def test_a_read_error_names_the_region_and_keeps_the_tiles_done(painted, truth, bundle, tmp_path):
    image = paint(*truth)
    settings = SETTINGS.model_copy(update={"workers": 1})
    with pytest.raises(SlideError, match=r"x .*, y 2.*bad sector"):
        segment_slide(BrokenSlide(painted, image, 500, 400), tmp_path / "out", bundle, settings)
    assert not (tmp_path / "out").exists()
    kept = list((tmp_path / ".out.partial" / "tiles").iterdir())
    assert len(kept) >= 4
    times = {path: path.stat().st_mtime_ns for path in kept}
    whole = EndlessSlide(painted, image, 500, 400)
    monkey = pytest.MonkeyPatch()
    written = []
    monkey.setattr(slide_module.WorkFolder, "save", spy(slide_module.WorkFolder.save, written))
    result = segment_slide(whole, tmp_path / "out", bundle, settings)
    monkey.undo()
    assert result.n_cells == truth[0].max()
    assert len(written) == 16 - len(times)


def spy(method, calls):
    def spied(self, part):
        calls.append(part.tile.index)
        return method(self, part)

    return spied


def test_a_full_disk_in_the_middle(painted, bundle, tmp_path, monkeypatch):
    import errno

    real, calls = Path.write_bytes, []

    def write_bytes(self, content):
        calls.append(1)
        if len(calls) > 5:
            real(self, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, content)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with open_slide(painted) as slide, pytest.raises(OutputError, match="disk is full"):
        segment_slide(slide, tmp_path / "out", bundle, SETTINGS)
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    with open_slide(painted) as slide:
        resumed = segment_slide(slide, tmp_path / "out", bundle, SETTINGS)
        whole = segment_slide(slide, tmp_path / "whole", bundle, SETTINGS)
    assert resumed.n_cells == whole.n_cells
    assert (tmp_path / "out" / "cells.parquet").read_bytes() == (tmp_path / "whole" / "cells.parquet").read_bytes()


def test_kept_tiles_of_other_settings_are_not_used(painted, truth, bundle, tmp_path):
    image = paint(*truth)
    with pytest.raises(SlideError):
        segment_slide(BrokenSlide(painted, image, 500, 400), tmp_path / "out", bundle, SETTINGS)
    settings = SETTINGS.model_copy(update={"tile": 100})
    result = segment_slide(EndlessSlide(painted, image, 500, 400), tmp_path / "out", bundle, settings)
    assert result.n_cells == truth[0].max()
    assert [warning.code for warning in result.warnings] == ["stale_tiles", "not_he", "pen"]
