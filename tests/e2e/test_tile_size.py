"""The cells do not depend on how the slide is cut into tiles."""

import numpy as np
import shapely

from cytolite.bundle import load_bundle
from cytolite.config import SegmentSettings
from cytolite.interop.parquet import read_cells
from cytolite.segmentation.plan import plan_slide
from cytolite.segmentation.slide import segment_slide
from cytolite.slides.reader import open_slide
from cytolite.slides.tissue import TissueMask
from fakes import fake_bundle, paint, random_nuclei, write_slide


def cells_at(path, bundle, folder, tile, **settings):
    with open_slide(path) as slide:
        segment_slide(slide, folder / str(tile), bundle, SegmentSettings(tile=tile, **settings))
    cells = read_cells(folder / str(tile) / "cells.parquet")
    return cells.select(np.lexsort(cells.centroids.T))


def test_painted_slide_exactly(tmp_path):
    """Every pixel's answer is the same in all tiles, so every byte about each nucleus must be, too."""
    instance_map, types = random_nuclei(np.random.default_rng(11), (700, 900), 900, gap=1)
    path = write_slide(tmp_path / "painted.tif", paint(instance_map, types))
    bundle = fake_bundle(tmp_path)
    whole = cells_at(path, bundle, tmp_path, 1024, tissue="all")
    assert len(whole) == instance_map.max()
    for tile in (64, 150, 333, 512):
        cells = cells_at(path, bundle, tmp_path, tile, tissue="all")
        for name, column in vars(whole).items():
            if name != "features":
                np.testing.assert_array_equal(getattr(cells, name), column, err_msg=f"{name} at {tile}")
        for name, column in whole.features.items():
            np.testing.assert_array_equal(cells.features[name], column, err_msg=f"{name} at {tile}")


def test_glass_is_not_read_and_changes_nothing(tmp_path, monkeypatch):
    """A tile reads the tissue in its core and the halo around that; its cells are those of one that reads all of it."""
    instance_map, types = random_nuclei(np.random.default_rng(13), (900, 900), 1200, gap=1)
    path = write_slide(tmp_path / "painted.tif", paint(instance_map, types))
    rows, columns = np.mgrid[:900:16, :900:16]
    tissue = TissueMask((rows - 300) ** 2 + (columns - 420) ** 2 < 200**2, 16.0, 900, 900)
    monkeypatch.setattr("cytolite.segmentation.plan.find_tissue", lambda slide: (tissue, tissue))
    bundle = fake_bundle(tmp_path)
    with open_slide(path) as slide:
        [tile] = plan_slide(slide, bundle, SegmentSettings(tile=1024)).tiles
    assert tile.width * tile.height < 0.4 * 900**2
    everything = cells_at(path, bundle, tmp_path, 1024, tissue="all")
    expected = everything.select(tissue.contains(everything.centroids))
    assert len(expected) > 100
    for number in (64, 300, 1025):
        cells = cells_at(path, bundle, tmp_path, number)
        np.testing.assert_array_equal(cells.vertices, expected.vertices)
        np.testing.assert_array_equal(cells.types, expected.types)


def test_touching_nuclei_are_found_once(tmp_path):
    """Where nuclei touch, a pixel at their border may change sides: positions are rounded differently in each tile."""
    instance_map, types = random_nuclei(np.random.default_rng(12), (700, 900), 1500)
    path = write_slide(tmp_path / "painted.tif", paint(instance_map, types))
    bundle = fake_bundle(tmp_path)
    whole = cells_at(path, bundle, tmp_path, 1024, tissue="all")
    for tile in (64, 150, 512):
        cells = cells_at(path, bundle, tmp_path, tile, tissue="all")
        assert len(cells) == len(whole) == instance_map.max()
        assert share_matched(cells, whole) == 1


def test_real_slide_with_the_embedded_model(shared_data, tmp_path):
    """The embedded network sees hardly further than its halo, and what becomes of a nucleus is decided around it."""
    path = shared_data / "slides" / "pathml_small_HE.svs"
    found = {tile: cells_at(path, load_bundle(None), tmp_path, tile) for tile in (512, 777, 4096)}
    whole = found.pop(4096)
    assert len(whole) > 1000
    for tile, cells in found.items():
        assert len(cells) == len(whole), f"tile {tile}"
        assert share_matched(cells, whole) >= 0.99, f"tile {tile}"


def share_matched(a, b, least=0.9):
    """Share of the cells of `a` that overlap one of `b` with an IoU above `least`."""
    ours, theirs = polygons(a), polygons(b)
    i, j = shapely.STRtree(theirs).query(ours, predicate="intersects")
    shared = shapely.area(shapely.intersection(ours[i], theirs[j]))
    iou = shared / (shapely.area(ours[i]) + shapely.area(theirs[j]) - shared)
    return len(np.unique(i[iou > least])) / len(a)


def polygons(cells):
    rings = np.repeat(np.arange(len(cells)), np.diff(cells.offsets))
    return shapely.polygons(shapely.linearrings(cells.vertices, indices=rings))
