from itertools import pairwise

import numpy as np
import pytest

from cytolite.cells import CellTable
from cytolite.decoding import outlines
from cytolite.metrics.raster import to_labels
from fakes import random_nuclei


def cells_of(rings: list[np.ndarray], areas: list[float] | None = None) -> CellTable:
    n = len(rings)
    empty = CellTable.empty()
    return CellTable(
        vertices=np.concatenate(rings),
        offsets=np.cumsum([0, *map(len, rings)]).astype(np.int64),
        centroids=np.zeros((n, 2)),
        types=np.ones(n, np.uint8),
        type_probs=np.repeat(np.eye(7, dtype=np.float32)[:1], n, 0),
        area_um2=np.array(areas or [1.0] * n, np.float32),
        regions=np.full(n, -1, np.int32),
        features=empty.features,
    )


def test_traced_outlines_give_the_map_back():
    labels, _ = random_nuclei(np.random.default_rng(3), (200, 150), 60)
    vertices, offsets = outlines.trace(labels)
    rings = [vertices[a:b] for a, b in pairwise(offsets)]
    np.testing.assert_array_equal(to_labels(cells_of(rings), labels.shape), labels)
    # Outlines at half the size, drawn at the map's.
    half = to_labels(cells_of([ring / 2 for ring in rings]), labels.shape, (2.0, 2.0))
    np.testing.assert_array_equal(half, labels)


def test_pixels_are_those_whose_centre_lies_inside():
    features = pytest.importorskip("rasterio.features")
    shapely = pytest.importorskip("shapely")
    rng = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = 20 * rng.uniform(0.6, 1.0, 40)
    ring = np.stack([30.3 + radius * np.cos(angles), 25.1 + radius * np.sin(angles)], 1)
    ours = to_labels(cells_of([ring]), (50, 60))
    theirs = features.rasterize([(shapely.Polygon(ring), 1)], (50, 60), dtype=np.int32)
    assert (ours != theirs).sum() <= 1  # GDAL decides on edges as it likes
    y, x = np.mgrid[:50, :60] + 0.5
    np.testing.assert_array_equal(ours > 0, shapely.contains_xy(shapely.Polygon(ring), x, y))


def test_the_smaller_nucleus_stays_on_top_and_what_is_outside_is_cut():
    big = np.array([[-5.0, -5], [9, -5], [9, 9], [-5, 9]])
    small = np.array([[2.0, 2], [4, 2], [4, 4], [2, 4]])
    found = to_labels(cells_of([small, big], [4, 196]), (8, 8))
    assert (found[2:4, 2:4] == 1).all()
    assert (found == 2).sum() == 60
