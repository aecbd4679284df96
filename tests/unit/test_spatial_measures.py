"""Measures of `cytolite.spatial`: worked by hand, on patterns with known answers, and beside other implementations."""

import json
from pathlib import Path

import numpy as np
import pytest
import shapely

pytest.importorskip("scipy", reason="needs the extra spatial")

from cytolite.spatial import composition, distances, graph, intervals, pairs, ripley, tiles
from cytolite.spatial.compartments import smooth_density
from cytolite.spatial.definition import MEASURES
from cytolite.spatial.window import rasterise, window_of, window_of_cells
from patterns import lattice, strewn

SQUARE = window_of(shapely.box(0, 0, 400, 400))
EDGES = np.arange(0, 51, 5.0)


def all_pairs(xy, types, n_types, window=SQUARE, edges=EDGES):
    zeros = np.zeros(len(xy), int)
    covariance = (window.set_covariance(edges[-1]), window.px_um)
    weighted, counts = pairs.pair_sums(xy, types, n_types, edges, covariance, zeros, 1)
    return weighted[0], counts[0]


# ---- window ----------------------------------------------------------------------------------------------------------


def test_a_pixel_is_inside_if_its_centre_is_also_with_holes_and_islands_in_them():
    outer, hole, island = (
        shapely.Point(50, 50).buffer(45),
        shapely.Point(50, 50).buffer(30),
        shapely.box(42, 41, 58, 63),
    )
    geometry = shapely.MultiPolygon([shapely.difference(outer, hole), island])
    found = rasterise(geometry, (40, 50), 2.5, (-5.0, 3.0))
    x, y = np.meshgrid(-5 + (np.arange(50) + 0.5) * 2.5, 3 + (np.arange(40) + 0.5) * 2.5)
    assert np.array_equal(found, shapely.contains_xy(geometry, x, y))
    assert found.any()


def test_a_geometry_beyond_the_grid_is_cut():
    found = rasterise(shapely.box(-100, -100, 15, 15), (10, 10), 10.0, (0.0, 0.0))
    assert np.array_equal(np.argwhere(found), [[0, 0]])


def test_set_covariance_of_a_rectangle():
    covariance = SQUARE.set_covariance(40)
    k, px = covariance.shape[0] // 2, SQUARE.px_um
    for rows, cols in ((0, 0), (2, 3), (-5, 1), (k, -k)):
        assert covariance[k + rows, k + cols] == pytest.approx((400 - abs(rows) * px) * (400 - abs(cols) * px))


def test_window_of_cells_is_what_lies_near_them():
    window = window_of_cells(np.array([[200.0, 200.0], [600.0, 200.0]]), 50)
    assert window.area_um2 == pytest.approx(2 * np.pi * 50**2, rel=0.05)
    assert not window.contains(np.array([[400.0, 200.0]]))[0]


def test_density_is_flat_to_the_edge_of_the_tissue():
    xy, _ = lattice(40, 10.0)  # 10,000 per mm2
    density = smooth_density(SQUARE, xy, 50)
    assert density[SQUARE.mask] == pytest.approx(10_000, rel=0.02)
    assert not density[~SQUARE.mask].any()


def test_density_is_a_sum_of_gaussians():
    xy = strewn(30, 200, 200) + 100
    density, sigma = smooth_density(SQUARE, xy, 20), 20
    row, col = 50, 50
    at = (np.array([col, row]) + 0.5) * SQUARE.px_um
    squares = ((xy - at) ** 2).sum(axis=1)
    expected = np.exp(-squares / (2 * sigma**2)).sum() / (2 * np.pi * sigma**2) * 1e6
    assert density[row, col] == pytest.approx(expected, rel=0.03)


# ---- formulas by hand ------------------------------------------------------------------------------------------------


def test_every_measure_says_what_it_is():
    for name, definition in MEASURES.items():
        assert all(vars(definition).values()), name


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (composition.density(30, 20_000), 1_500),  # 30 on 0.02 mm2
        (composition.type_fraction(3, 12), 0.25),
        (composition.tumour_cell_fraction(6, 8), 0.75),
        (composition.tumour_area_fraction(90, 120), 0.75),
        (composition.lymphocytes_per_tumour_cell(5, 2), 2.5),
        (composition.til_area_share(500, 20_000), 0.025),
        (composition.til_nuclei_share(30, 70), 0.3),
        # x = (1, 2), y = (2, 1): 2 * 4 / ((5/9 + 5/9) * 9)
        (composition.morisita_horn(3, 3, 5, 5, 4), 0.8),
        (composition.nucleus_mean(12, 4), 3),
        (composition.pleomorphism(2, 4, 10), 0.5),  # 1 and 3: mean 2, deviation 1
        (graph.mixing_score(3, 6), 0.5),
        (ripley.l_minus_r(np.pi * 25, 4), 1),
    ],
)
def test_formula(found, expected):
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    "formula",
    [composition.density, composition.type_fraction, composition.lymphocytes_per_tumour_cell, graph.mixing_score],
)
def test_nothing_in_the_denominator_is_no_value(formula):
    assert np.isnan(formula(3, 0))


def test_k_of_two_points():
    # 5 um apart, 3 across and 4 down; of 400 x 400 um, 397 x 396 hold both.
    sums, counts = all_pairs(np.array([[200.0, 200.0], [203.0, 204.0]]), np.array([0, 1]), 2)
    k = ripley.k_function(sums[0, 1], 1, 1, 400.0**2)
    assert counts[0, 1].tolist() == [1] + [0] * 9  # a distance of 5 is within 5
    assert k == pytest.approx(np.full(10, 400.0**4 / (397 * 396)), rel=1e-4)


def test_k_equals_the_formula_for_rectangles():
    xy, types = strewn(300, 400, 400), np.arange(300) % 3
    sums, counts = all_pairs(xy, types, 3)
    dx, dy = (np.abs(np.subtract.outer(c, c)) for c in xy.T)
    d = np.hypot(dx, dy)
    for i, j in np.ndindex(3, 3):
        mine = (types[:, None] == i) & (types[None] == j) & (d <= 50) & ~np.eye(300, dtype=bool)
        weights = 1 / ((400 - dx) * (400 - dy))
        assert np.array_equal(np.histogram(d[mine], EDGES)[0], counts[i, j])
        assert sums[i, j] == pytest.approx(np.histogram(d[mine], EDGES, weights=weights[mine])[0], rel=1e-3)


def test_pairs_in_one_place_count_and_a_cell_is_no_pair_with_itself():
    _, counts = all_pairs(np.full((3, 2), 100.0), np.zeros(3, int), 1)
    assert counts[0, 0].tolist() == [6] + [0] * 9


def test_relabelled_sums_are_those_of_each_labelling():
    xy = strewn(200, 400, 400)
    labels = np.random.default_rng(1).integers(0, 3, (200, 4)).astype(np.uint8)
    covariance = (SQUARE.set_covariance(50), SQUARE.px_um)
    found = pairs.relabelled_sums(xy, labels, 3, EDGES, covariance, np.ones(200, bool))
    for p in range(4):
        assert found[p] == pytest.approx(all_pairs(xy, labels[:, p], 3)[0])


def test_co_occurrence_by_hand():
    # Within r: 2 pairs 0-0, 1 each way 0-1, none 1-1. P(1 | 0) = 1/3, P(1) = 1/4.
    counts = np.array([[[2.0], [1.0]], [[1.0], [0.0]]])
    found = ripley.co_occurrence(counts)[..., 0]
    assert found == pytest.approx(np.array([[8 / 9, 4 / 3], [4 / 3, 0]]))
    assert graph.neighbourhood_ratio(counts[..., 0]) == pytest.approx(found)  # the same, on edges


def test_median_of_histograms_is_near_the_exact_one_and_knows_its_limits():
    rng = np.random.default_rng(0)
    values = rng.gamma(3, 20, 5_000)
    found = distances.median_of(distances.histogram(values, np.zeros(5_000, int), 1))
    assert found == pytest.approx(np.median(values), abs=0.1)
    counts = np.zeros((2, int(distances.FARTHEST_UM) + 1))
    counts[0, -1] = 3
    assert distances.median_of(counts)[0] == np.inf
    assert np.isnan(distances.median_of(counts)[1])


def test_neighbour_counts_are_those_of_all_distances():
    xy, types = strewn(250, 150, 150), np.arange(250) % 2
    radii = np.array([10.0, 20.0, 50.0])
    d = np.hypot(*(np.subtract.outer(c, c) for c in xy.T))
    np.fill_diagonal(d, np.inf)
    expected = np.array([[[(d[i, types == t] <= r).sum() for r in radii] for t in range(2)] for i in range(250)])
    assert np.array_equal(pairs.neighbour_counts(xy, types, 2, radii), expected)


# ---- patterns with known answers -------------------------------------------------------------------------------------


def test_cells_by_chance_are_neither_together_nor_apart():
    window = window_of(shapely.box(0, 0, 1000, 1000))
    found = []
    for seed in range(8):
        xy, types = strewn(2_000, 1000, 1000, seed), np.arange(2_000) % 2
        sums, _ = all_pairs(xy, types, 2, window)
        k = [ripley.k_function(sums[0, j], 1000, 1000, 1e6, same=j == 0) for j in (0, 1)]
        found.append(ripley.l_minus_r(k, EDGES[1:]))
    assert np.mean(found, axis=0)[:, 2:] == pytest.approx(0, abs=0.3)


def test_clustered_cells_lie_together():
    parents = strewn(40, 400, 400)
    xy = np.clip(np.repeat(parents, 10, axis=0) + np.random.default_rng(0).normal(0, 5, (400, 2)), 0, 399.9)
    sums, _ = all_pairs(xy, np.zeros(400, int), 1)
    l_r = ripley.l_minus_r(ripley.k_function(sums[0, 0], 400, 400, 400.0**2, same=True), EDGES[1:])
    assert (l_r[1:6] > 10).all()


def test_checkerboard():
    xy, types = lattice(20, 20.0)
    edges = graph.delaunay_edges(xy, 25.0)  # no diagonals
    assert len(edges) == 2 * 20 * 19
    counts = graph.edge_counts(edges, types, 2, np.zeros(400, int), 1)[0]
    assert graph.neighbourhood_ratio(counts) == pytest.approx(np.array([[0, 2], [2, 0]]))
    assert distances.nearest(xy[types == 0], distances.tree_of(xy[types == 1]), same=False) == pytest.approx(
        20, abs=0.1
    )
    assert distances.nearest(xy[types == 0], distances.tree_of(xy[types == 0]), same=True) == pytest.approx(
        20 * 2**0.5, abs=0.1
    )
    assert len(np.unique(graph.clusters(edges, types))) == 400  # none touches its like
    tiling = tiles.tile_window(SQUARE, "square", 80)
    x, y = tiling.counts(tiling.find(xy), types, 2).T
    assert composition.morisita_horn(x.sum(), y.sum(), x @ x, y @ y, x @ y) == pytest.approx(1, abs=0.02)


def test_halves_do_not_overlap_and_make_two_clusters():
    xy, _ = lattice(20, 20.0)
    types = (xy[:, 0] > 200).astype(int)
    edges = graph.delaunay_edges(xy, 25.0)
    assert np.bincount(graph.clusters(edges, types)).tolist() == [200, 200]
    z = graph.neighbourhood_z(
        graph.enrich(
            graph.edge_counts(edges, types, 2, np.zeros(400, int), 1)[0], graph.permuted_edges(edges, types, 2, 100, 0)
        )
    )
    assert z[0, 0] > 10
    assert z[0, 1] < -10


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_few_cells_and_cells_on_a_line_have_a_graph(n):
    xy = np.column_stack([np.arange(n) * 10.0, np.zeros(n)])
    assert len(graph.delaunay_edges(xy, 15)) == max(0, n - 1)


def test_permutations_have_the_expectation_of_shuffled_types():
    xy, types = strewn(500, 400, 400), (np.arange(500) < 150).astype(int)
    edges = graph.delaunay_edges(xy, np.inf)
    found = graph.permuted_edges(edges, types, 2, 400, 0).mean(axis=0)
    n = len(edges) / (500 * 499)
    expected = 2 * n * np.array([[350 * 349, 350 * 150], [350 * 150, 150 * 149]])
    assert found == pytest.approx(expected, rel=0.03)


# ---- tiles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["hexagon", "square"])
def test_tiles_hold_their_points_and_cover_the_window_once(shape):
    tiling = tiles.tile_window(SQUARE, shape, 60)
    xy = strewn(2_000, 400, 400)
    outlines, tile = tiling.polygons(), tiling.find(xy)
    assert shapely.area(outlines) == pytest.approx(tiling.tile_um2)
    kept = tile >= 0
    assert shapely.distance(outlines[tile[kept]], shapely.points(xy[kept])).max() < 1e-6
    assert shapely.area(shapely.union_all(outlines)) == pytest.approx(len(outlines) * tiling.tile_um2)
    assert tiling.tissue_um2.max() == pytest.approx(tiling.tile_um2, rel=0.05)
    around, centres = tiling.neighbours(), tiling.centres()
    near = np.hypot(*(centres[around] - centres[:, None]).transpose(2, 0, 1))[around >= 0]
    assert near.max() < 60 * (1.01 if shape == "hexagon" else 1.42)


def test_getis_ord_by_hand():
    # Three tiles in a row with 1, 2, 6: mean 3, deviation sqrt(14/3); the last one and its neighbour hold 8 against 6.
    around = np.array([[1, -1], [0, 2], [1, -1]])
    spread = (14 / 3) ** 0.5 * ((3 * 2 - 4) / 2) ** 0.5
    assert tiles.getis_ord(np.array([1.0, 2.0, 6.0]), around)[2] == pytest.approx((8 - 6) / spread)
    assert np.isnan(tiles.getis_ord(np.ones(3), around)).all()


def test_getis_ord_equals_esda():
    esda = pytest.importorskip("esda.getisord", reason="compares with esda")
    from libpysal.weights import W

    tiling = tiles.tile_window(SQUARE, "hexagon", 40)
    values = np.random.default_rng(0).poisson(5, len(tiling.keys)).astype(float)
    around = tiling.neighbours()
    weights = W({i: [j for j in row if j >= 0] for i, row in enumerate(around.tolist())}, silence_warnings=True)
    expected = esda.G_Local(values, weights, transform="B", star=True, permutations=0).Zs
    assert tiles.getis_ord(values, around) == pytest.approx(expected, abs=1e-9)


def test_few_false_discoveries_by_chance_and_a_real_spot_is_found():
    tiling = tiles.tile_window(window_of(shapely.box(0, 0, 1000, 1000)), "hexagon", 50)
    values = np.random.default_rng(0).normal(100, 10, len(tiling.keys))
    z = tiles.getis_ord(values, tiling.neighbours())
    assert (tiles.false_discovery(z) < 0.05).mean() < 0.02
    centre = np.hypot(*(tiling.centres() - 500).T) < 100
    values[centre] += 60
    hot = tiles.false_discovery(tiles.getis_ord(values, tiling.neighbours())) < 0.05
    assert hot[centre].all()


# ---- intervals -------------------------------------------------------------------------------------------------------


def test_blocks_cover_the_window_and_even_ground_has_no_doubt():
    blocks = intervals.make_blocks(SQUARE, 50, 0)
    assert blocks.n >= 16
    assert blocks.areas_um2(SQUARE.mask, SQUARE.px_um).sum() == pytest.approx(SQUARE.area_um2)
    area = blocks.weights @ blocks.areas_um2(SQUARE.mask, SQUARE.px_um)
    assert intervals.interval((composition.density(area / 100, area))[1:]) == pytest.approx((10_000, 10_000))


def test_intervals_cover_the_truth():
    window = window_of(shapely.box(0, 0, 1000, 1000))
    hits = 0
    for seed in range(60):
        xy = strewn(np.random.default_rng(seed).poisson(2_000), 1000, 1000, seed)
        blocks = intervals.make_blocks(window, 200, seed)
        n = np.bincount(blocks.pixels[window.at(xy)], minlength=blocks.n)
        ground = blocks.weights @ blocks.areas_um2(window.mask, window.px_um)
        low, high = intervals.interval(composition.density(blocks.weights @ n, ground)[1:])
        hits += low <= 2_000 <= high
    assert hits >= 52  # of 60; 57 on average


def test_too_few_blocks_are_not_drawn():
    assert len(intervals.make_blocks(window_of(shapely.box(0, 0, 150, 150)), 100, 0).weights) == 1
    assert all(np.isnan(intervals.interval(np.array([]))))


def test_types_are_drawn_by_their_probabilities():
    probs = np.tile(np.array([[0.2, 0.5, 0.3]], np.float32), (20_000, 1))
    assert np.bincount(intervals.draw_types(probs, 1, 0)[:, 0]) / 20_000 == pytest.approx([0.2, 0.5, 0.3], abs=0.02)
    certain = np.eye(3, dtype=np.float32)[[2, 0, 1]]
    assert (intervals.draw_types(certain, 20, 0) == np.array([[2], [0], [1]])).all()


# ---- beside squidpy, whose answers are kept: to import and compile it takes longer than all tests here ---------------


@pytest.fixture(scope="module")
def squidpys():
    content = json.loads((Path(__file__).parents[1] / "golden" / "spatial" / "squidpy.json").read_text())
    return {name: np.array(value) for name, value in content.items() if name != "made_by"}


def test_graph_and_enrichment_equal_squidpys(squidpys):
    xy, types = squidpys["xy"], squidpys["types"]
    edges = graph.delaunay_edges(xy, np.inf)
    assert np.array_equal(edges, squidpys["edges"])
    counts = graph.edge_counts(edges, types, 3, np.zeros(len(xy), int), 1)[0]
    assert np.array_equal(counts, squidpys["count"])
    z = graph.neighbourhood_z(graph.enrich(counts, graph.permuted_edges(edges, types, 3, 5_000, 0)))
    assert z == pytest.approx(squidpys["zscore"], abs=0.15)  # both are drawn by chance


def test_co_occurrence_equals_squidpys(squidpys):
    window = window_of(shapely.box(0, 0, 200, 200))
    _, counts = all_pairs(squidpys["xy"], squidpys["types"], 3, window)
    assert ripley.co_occurrence(counts) == pytest.approx(squidpys["occ"], abs=1e-6)
