"""One owner per nucleus: constructed seams, and a check against the answer that needs no tiles."""

import numpy as np
import pytest

from cytolite.cells import CellTable
from cytolite.decoding import features, outlines
from cytolite.segmentation.stitch import _area, _fill, _Placed, own_or_offer, stitch
from cytolite.slides.tiles import plan_tiles
from fakes import random_nuclei

BAND = 8


def table(*boxes, types=None):
    """Cells that are rectangles (x0, y0, x1, y1)."""
    boxes = np.array(boxes, float).reshape(-1, 4)
    x0, y0, x1, y1 = boxes.T
    n = len(boxes)
    empty = CellTable.empty()
    return CellTable(
        vertices=np.stack([x0, y0, x1, y0, x1, y1, x0, y1], axis=1).reshape(-1, 2),
        offsets=np.arange(0, 4 * n + 1, 4),
        centroids=np.stack([(x0 + x1) / 2, (y0 + y1) / 2], axis=1),
        types=np.array(types or [1] * n, np.uint8),
        type_probs=np.full((n, 7), 1 / 7, np.float32),
        area_um2=((x1 - x0) * (y1 - y0)).astype(np.float32),
        regions=np.full(n, -1, np.int32),
        features=empty.features,
    )


def stitched(tiles, views):
    """Boxes of the cells that come out when each tile sees its own boxes."""
    parts = [own_or_offer(tile, table(*views.get(tile.index, [])), BAND) for tile in tiles]
    cells = CellTable.concatenate(list(stitch(parts)))
    return sorted(tuple(np.concatenate([ring.min(axis=0), ring.max(axis=0)]).astype(int)) for ring in rings(cells))


def rings(cells):
    return [cells.outline(i) for i in range(len(cells))]


def four():
    """Tiles 0 1 / 2 3, meeting at (100, 100)."""
    return plan_tiles(200, 200, 100, 32)


def test_lost_between_two_tiles_is_adopted_once():
    left_says_right, right_says_left = (90, 40, 111, 60), (89, 40, 110, 60)
    assert stitched(four(), {0: [left_says_right], 1: [right_says_left]}) == [left_says_right]


def test_lost_between_rows_is_adopted_once():
    top_says_below, below_says_top = (40, 90, 60, 111), (40, 89, 60, 110)
    assert stitched(four(), {0: [top_says_below], 2: [below_says_top]}) == [top_says_below]


def test_doubled_is_reduced_to_one():
    left_says_left, right_says_right = (89, 40, 110, 60), (90, 40, 111, 60)
    assert stitched(four(), {0: [left_says_left], 1: [right_says_right]}) == [left_says_left]


def test_same_to_both_is_kept_by_its_owner():
    box = (92, 40, 113, 60)
    assert stitched(four(), {0: [box], 1: [box]}) == [box]


@pytest.mark.parametrize("across", [10, 40])
def test_a_tile_is_compared_with_those_around_it_however_wide_the_slide(monkeypatch, across):
    compared = []
    real = _Placed._seen_by
    monkeypatch.setattr(_Placed, "_seen_by", lambda self, *given: compared.append(1) or real(self, *given))
    tiles = plan_tiles(100 * across, 500, 100, 32)
    views = {
        tile.index: [(tile.core[0] + 40, tile.core[1] + 40, tile.core[0] + 50, tile.core[1] + 50)] for tile in tiles
    }
    assert len(stitched(tiles, views)) == len(tiles)
    # Reads of 192 px at every 100 px meet the next two on each side at most: 24 around, some of which come twice.
    assert len(compared) <= 2 * 24 * len(tiles)


@pytest.mark.parametrize("seen_by", [(0,), (3,), (0, 1), (1, 2), (0, 1, 2, 3)])
def test_corner_of_four_tiles(seen_by):
    box = (90, 90, 110, 110)  # owned by tile 3, whose core starts at (100, 100)
    assert stitched(four(), {index: [box] for index in seen_by}) == [box]


def test_corner_of_four_that_all_disown_it():
    views = {0: (91, 91, 111, 111), 1: (89, 91, 109, 111), 2: (91, 89, 111, 109), 3: (89, 89, 109, 109)}
    assert stitched(four(), {index: [box] for index, box in views.items()}) == [views[0]]


def test_corner_of_four_that_all_claim_it():
    views = {0: (89, 89, 109, 109), 1: (91, 89, 111, 109), 2: (89, 91, 109, 111), 3: (91, 91, 111, 111)}
    assert stitched(four(), {index: [box] for index, box in views.items()}) == [views[0]]


def test_whole_for_one_and_halves_for_the_other():
    whole, halves = (80, 40, 119, 60), [(80, 40, 100, 60), (100, 40, 119, 60)]
    assert stitched(four(), {0: [whole], 1: halves}) == [whole]


def test_touching_neighbours_are_two():
    left, right = (80, 40, 100, 60), (100, 40, 120, 60)
    assert stitched(four(), {0: [left, right], 1: [left, right]}) == [left, right]


def test_a_crescent_and_what_it_holds_are_two():
    """The crescent's centroid lies in the other: distance of centroids says nothing, shared pixels do."""
    instance_map = np.zeros((200, 200), np.int32)
    instance_map[40:80, 85:125] = 1
    instance_map[46:74, 96:125] = 0
    instance_map[48:72, 101:120] = 2
    vertices, offsets = outlines.trace(instance_map)
    measures = features.measure(instance_map, np.zeros((200, 200, 3), np.uint8), 0.5, (vertices, offsets))
    cells = table((0, 0, 1, 1), (0, 0, 1, 1))
    cells = CellTable(**{**vars(cells), "vertices": vertices.astype(float), "offsets": offsets,
                         "centroids": measures.centroids})  # fmt: skip
    out = CellTable.concatenate(list(stitch(own_or_offer(tile, cells, BAND) for tile in four())))
    assert len(out) == 2


def test_far_outside_of_the_core_is_nobodys_offer():
    assert stitched(four(), {0: [(110, 40, 130, 60)]}) == []


def test_missing_tiles_leave_no_gap():
    """Without tiles in between, rows further apart than one must not be mixed up."""
    tiles = [tile for tile in plan_tiles(400, 400, 100, 32) if tile.index in (0, 10)]
    boxes = (10, 10, 30, 30), (250, 250, 270, 270)
    assert stitched(tiles, {0: [boxes[0]], 10: [boxes[1]]}) == list(boxes)


@pytest.mark.parametrize("tile", [64, 100, 333, 1000])
def test_identical_views_give_every_nucleus_once(tile):
    instance_map, types = random_nuclei(np.random.default_rng(tile), (500, 450), 400)
    cells = cells_of(instance_map, types)
    tiles = plan_tiles(450, 500, tile, 40)
    out = CellTable.concatenate(list(stitch(own_or_offer(t, cells, BAND) for t in tiles)))
    assert sorted(map(tuple, out.centroids)) == sorted(map(tuple, cells.centroids))


def test_jittered_views_lose_and_double_nothing():
    """Each tile sees every nucleus moved by up to 1 px: all are found, each once."""
    rng = np.random.default_rng(1)
    instance_map, types = random_nuclei(rng, (500, 450), 400, radius=(6, 11))
    cells = cells_of(instance_map, types)
    lengths = np.diff(cells.offsets)
    parts = []
    for tile in plan_tiles(450, 500, 64, 40):
        shift = rng.integers(-1, 2, (len(cells), 2)).astype(float)
        seen = CellTable(**{**vars(cells), "vertices": cells.vertices + np.repeat(shift, lengths, axis=0),
                            "centroids": cells.centroids + shift})  # fmt: skip
        parts.append(own_or_offer(tile, seen, BAND))
    out = CellTable.concatenate(list(stitch(parts)))
    inner = (cells.centroids > 2).all(axis=1) & (cells.centroids < (448, 498)).all(axis=1)
    distance = np.abs(cells.centroids[:, None] - out.centroids[None]).max(axis=2)
    assert (np.sum(distance <= 1, axis=1)[inner] == 1).all()


def cells_of(instance_map, types):
    vertices, offsets = outlines.trace(instance_map)
    measures = features.measure(instance_map, np.zeros((*instance_map.shape, 3), np.uint8), 0.5, (vertices, offsets))
    n = len(offsets) - 1
    return CellTable(
        vertices.astype(float), offsets, measures.centroids, types[1:], np.full((n, 7), 1 / 7, np.float32),
        measures.area_px.astype(np.float32), np.full(n, -1, np.int32),
    )  # fmt: skip


def test_fill_and_area_are_those_of_the_mask():
    instance_map, _ = random_nuclei(np.random.default_rng(2), (200, 200), 60)
    vertices, offsets = outlines.trace(instance_map)
    for index in range(len(offsets) - 1):
        ring = vertices[offsets[index] : offsets[index + 1]].astype(np.int64)
        mask = instance_map == index + 1
        assert _area(ring) == mask.sum()
        x0, y0 = ring.min(axis=0) + 3
        window = mask[y0 : y0 + 9, x0 : x0 + 9]
        np.testing.assert_array_equal(_fill(ring, x0, y0, x0 + window.shape[1], y0 + window.shape[0]), window)


def test_halves_of_a_pixel_count():
    """Two slivers that share a column of half a pixel are two; cut to whole pixels they would be one nucleus."""
    seen = {0: [(98.5, 40, 100, 60)], 1: [(99.5, 40, 101, 60)]}
    parts = [own_or_offer(tile, table(*seen.get(tile.index, [])), BAND) for tile in four()]
    assert len(CellTable.concatenate(list(stitch(parts)))) == 2
