"""Estimates of one pattern of cells: what is summed in blocks of ground, and which formula takes the sums.

Each family can be computed again with other types (drawn from the probabilities) and without resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cytolite.spatial import composition as c
from cytolite.spatial import distances, graph, ripley
from cytolite.spatial.estimate import Curve, Estimate, band
from cytolite.spatial.intervals import Blocks
from cytolite.spatial.pairs import pair_sums, relabelled_sums
from cytolite.spatial.roles import Roles
from cytolite.spatial.sample import Sample
from cytolite.spatial.tiles import Tiles, false_discovery, getis_ord
from cytolite.spatial.window import Window

# Between types: fewer cells of one say nothing.
LEAST_CELLS = 10
# Cells that may be the first of a pair under drawn or shuffled types; all are second.
MOST_FIRST = 50_000
# Means of these are told by type and region, where the cells have them; the area always is.
PROPERTIES = ("eccentricity", "haematoxylin_od_mean")


@dataclass(frozen=True)
class Pattern:
    """Cells of a region, and its ground cut into blocks.

    Attributes
    ----------
    region : str
    window : Window
        Of the region.
    roles : Roles
    xy, types, area_um2 : numpy.ndarray
        (n, 2), (n,) and (n,).
    features : dict of str to numpy.ndarray
        (n,) each.
    blocks : Blocks
        Of the window.
    at : tuple of numpy.ndarray
        Row and column of each cell on the window's grid, (n,) each.
    block : numpy.ndarray
        int64 (n,), block of each cell.
    """

    region: str
    window: Window
    roles: Roles
    xy: NDArray[np.float64]
    types: NDArray[np.int64]
    area_um2: NDArray[np.float32]
    features: dict[str, NDArray[np.float32]]
    blocks: Blocks
    at: tuple[NDArray[np.intp], NDArray[np.intp]]
    block: NDArray[np.int64]

    @property
    def n_types(self) -> int:
        """Number of types that there are."""
        return len(self.roles.names)

    def retyped(self, types: NDArray[np.integer]) -> Pattern:
        """The same cells with other types, without resamples."""
        blocks = replace(self.blocks, weights=self.blocks.weights[:1])
        return replace(self, types=types.astype(np.int64), blocks=blocks)

    def frequent(self) -> list[int]:
        """Codes of types with enough cells for measures between types."""
        return np.flatnonzero(np.bincount(self.types, minlength=self.n_types) >= LEAST_CELLS).tolist()

    def sums(
        self, numbers: NDArray[np.floating] | None = None, chosen: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float64]:
        """Sum `numbers` (or count) of chosen cells by type, for the sample and each resample: float64 (1 + R, T).

        Parameters
        ----------
        numbers : numpy.ndarray, optional
            Floats (n,), one a cell of the pattern; None: cells are counted.
        chosen : numpy.ndarray, optional
            bool (n,); None: all cells.
        """
        block, types = (self.block, self.types) if chosen is None else (self.block[chosen], self.types[chosen])
        if numbers is not None and chosen is not None:
            numbers = numbers[chosen]
        flat = np.bincount(block * self.n_types + types, numbers, self.blocks.n * self.n_types)
        return self.blocks.weights @ flat.reshape(self.blocks.n, self.n_types)


def make_pattern(
    region: str,
    window: Window,
    sample: Sample,
    roles: Roles,
    blocks: Blocks,
    *,
    chosen: NDArray[np.bool_] | None = None,
) -> Pattern:
    """Return the pattern of the chosen cells of a sample, by default of all.

    Parameters
    ----------
    region : str
        Its name.
    window : Window
        Of the region; holds the chosen cells.
    sample : Sample
        N cells.
    roles : Roles
        Which types are tumour, lymphocytes and stroma.
    blocks : Blocks
        Of the window.
    chosen : numpy.ndarray, optional
        bool (N,).
    """
    rows = slice(None) if chosen is None else chosen
    xy = sample.xy[rows]
    at = window.at(xy)
    features = {name: column[rows] for name, column in sample.features.items()}
    block = blocks.pixels[at].astype(np.int64)
    return Pattern(region, window, roles, xy, sample.types[rows], sample.area_um2[rows], features, blocks, at, block)


@dataclass(frozen=True)
class Part:
    """A part of a pattern's window.

    Attributes
    ----------
    name : str
    chosen : numpy.ndarray
        bool (n,), the pattern's cells in it.
    ground_um2 : numpy.ndarray
        float64 (B,), its area in each block.
    """

    name: str
    chosen: NDArray[np.bool_]
    ground_um2: NDArray[np.float64]

    @classmethod
    def of(cls, p: Pattern, name: str, mask: NDArray[np.bool_]) -> Part:
        """Return the part of a pattern that lies in a mask, bool (h, w).

        Parameters
        ----------
        p : Pattern
        name : str
            Of the part.
        mask : numpy.ndarray
            bool (h, w), on the grid of the pattern's window.
        """
        return cls(name, mask[p.at], p.blocks.areas_um2(mask, p.window.px_um))


# ---- composition and morphometry -------------------------------------------------------------------------------------


def compose(p: Pattern, where: Part) -> Iterator[Estimate]:
    """Densities, fractions and nuclear morphometry of the cells in a part of the window.

    Parameters
    ----------
    p : Pattern
    where : Part
        Of the pattern's window.
    """
    region, chosen = where.name, where.chosen
    n, ground = p.sums(None, chosen), p.blocks.weights @ where.ground_um2
    nuclear = p.sums(p.area_um2, chosen)
    counts = n[0].astype(int)
    all_cells = int(counts.sum())

    def of(name: str, types: str, values: NDArray[np.float64], cells: int, variant: str = "") -> Estimate:
        return Estimate(name, region, types, values, cells, variant)

    yield of("density", "all", c.density(n.sum(axis=1), ground), all_cells)
    for t, name in enumerate(p.roles.names):
        yield of("density", name, c.density(n[:, t], ground), int(counts[t]))
        yield of("type_fraction", name, c.type_fraction(n[:, t], n.sum(axis=1)), all_cells)
    part = {role: n[:, list(codes)].sum(axis=1) for role, codes in p.roles.codes.items() if codes}
    area = {role: nuclear[:, list(codes)].sum(axis=1) for role, codes in p.roles.codes.items() if codes}
    if "tumour" in part:
        yield of("tumour_cell_fraction", "tumour", c.tumour_cell_fraction(part["tumour"], n.sum(axis=1)), all_cells)
        values = c.tumour_area_fraction(area["tumour"], nuclear.sum(axis=1))
        yield of("tumour_area_fraction", "tumour", values, all_cells)
    if "lymphocytes" in part:
        cells = int(part["lymphocytes"][0])
        yield of("til_area_share", "lymphocytes", c.til_area_share(area["lymphocytes"], ground), cells)
        if "tumour" in part:
            values = c.lymphocytes_per_tumour_cell(part["lymphocytes"], part["tumour"])
            yield of("lymphocytes_per_tumour_cell", "lymphocytes", values, cells + int(part["tumour"][0]))
        if "stroma" in part:
            values = c.til_nuclei_share(part["lymphocytes"], part["stroma"])
            yield of("til_nuclei_share", "lymphocytes", values, cells + int(part["stroma"][0]))
    yield from _morphometry(p, region, chosen, n, nuclear)


def _morphometry(
    p: Pattern, region: str, chosen: NDArray[np.bool_], n: NDArray[np.float64], nuclear: NDArray[np.float64]
) -> Iterator[Estimate]:
    enough = np.flatnonzero(n[0] >= LEAST_CELLS)
    totals = {"area_um2": nuclear} | {
        name: p.sums(np.nan_to_num(p.features[name]), chosen) for name in PROPERTIES if name in p.features
    }
    squares = p.sums(p.area_um2.astype(np.float64) ** 2, chosen)
    for t in enough.tolist():
        for name, total in totals.items():
            values = c.nucleus_mean(total[:, t], n[:, t])
            yield Estimate("nucleus_mean", region, p.roles.names[t], values, int(n[0, t]), name)
        values = c.pleomorphism(n[:, t], nuclear[:, t], squares[:, t])
        yield Estimate("pleomorphism", region, p.roles.names[t], values, int(n[0, t]))


def profile(p: Pattern, front_um: NDArray[np.float32], reach_um: float, step_um: float) -> list[Curve]:
    """Density of every type by distance from the tumour's front, negative inside.

    Parameters
    ----------
    p : Pattern
    front_um : numpy.ndarray
        float32 (h, w), `Compartments.front_um`: NaN where there is no front or no tissue.
    reach_um : float
        How far the profile goes to either side.
    step_um : float
        Width of a bin.
    """
    edges = np.arange(-reach_um, reach_um + step_um / 2, step_um)
    n_bins = len(edges) - 1
    if n_bins < 1 or not np.isfinite(front_um).any():
        return []
    # Distances of pixels are odd multiples of half a pixel, so none lies on 0.
    bins = np.where(np.isfinite(front_um), np.digitize(front_um, edges) - 1, -1)
    bins[(bins < 0) | (bins >= n_bins)] = n_bins
    pixels = p.blocks.pixels.astype(np.int64) * (n_bins + 1) + bins
    known = p.blocks.pixels >= 0
    ground = np.bincount(pixels[known], minlength=p.blocks.n * (n_bins + 1)).reshape(-1, n_bins + 1)[:, :-1]
    ground = p.blocks.weights @ (ground * p.window.px_um**2)
    of_cell = bins[p.at]
    curves = []
    for t in p.frequent():
        of_type = p.types == t
        flat = p.block[of_type] * (n_bins + 1) + of_cell[of_type]
        n = np.bincount(flat, minlength=p.blocks.n * (n_bins + 1)).reshape(-1, n_bins + 1)[:, :-1]
        values = c.density(p.blocks.weights @ n, ground)
        curves.append(_curve("density", p, p.roles.names[t], (edges[:-1] + edges[1:]) / 2, values))
    return curves


def _curve(  # noqa: PLR0917
    name: str, p: Pattern, types: str, x: NDArray[np.float64], values: NDArray[np.float64],
    null: NDArray[np.float64] | None = None,
) -> Curve:  # fmt: skip
    low, high = band(values[1:])
    null_low, null_high = band(values[:0] if null is None else null)
    return Curve(name, p.region, types, x, values[0], low, high, null_low, null_high)


# ---- distances -------------------------------------------------------------------------------------------------------


def nearest(
    p: Pattern, codes: Sequence[int], radii_um: Sequence[float], most: int | None = None, seed: int = 0
) -> Iterator[Estimate]:
    """Median distance to the nearest cell and shares within radii, for each ordered pair of types.

    With `most`, so many cells of the first type are taken by chance.

    Parameters
    ----------
    p : Pattern
    codes : sequence of int
        Types that are paired, each with itself too.
    radii_um : sequence of float
        For the shares.
    most : int, optional
        Cells of the first type; None: all.
    seed : int
        Of the choice of cells.
    """
    rng = np.random.default_rng(seed)
    rows = {t: np.flatnonzero(p.types == t) for t in codes}
    trees = {t: distances.tree_of(p.xy[rows[t]]) for t in codes}
    for a in codes:
        first = rows[a] if most is None or len(rows[a]) <= most else rng.choice(rows[a], most, replace=False)
        block = p.block[first]
        for b in codes:
            found = distances.nearest(p.xy[first], trees[b], a == b)
            label = f"{p.roles.names[a]} to {p.roles.names[b]}"
            counts = p.blocks.weights @ distances.histogram(found, block, p.blocks.n)
            values = distances.median_of(counts)
            values[0] = np.median(found) if len(found) else np.nan
            yield Estimate("nearest_median", p.region, label, values, len(rows[a]))
            for radius in radii_um:
                near = p.blocks.weights @ np.bincount(block[found <= radius], minlength=p.blocks.n)
                shares = distances.share_within(near, counts.sum(axis=1))
                yield Estimate("nearest_within", p.region, label, shares, len(rows[a]), f"{radius:g}um")


# ---- second order ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Relabellings:
    """Types drawn from the probabilities, and shuffled ones: uint8 (n, D) and (n, P)."""

    drawn: NDArray[np.uint8]
    shuffled: NDArray[np.uint8]


def second_order(
    p: Pattern, edges_um: NDArray[np.float64], radii_um: Sequence[float], labels: Relabellings, seed: int
) -> tuple[list[Estimate], list[Curve], dict[tuple[str, str, str], list[float]]]:
    """K functions as L(r) - r, and co-occurrence: estimates at radii, curves, and values under drawn types.

    Parameters
    ----------
    p : Pattern
    edges_um : numpy.ndarray
        float64 (K + 1,), ends of the distance bins, rising, the first 0.
    radii_um : sequence of float
        Of the estimates: each takes the value at the nearest end of a bin.
    labels : Relabellings
        Of the pattern's n cells; without any there are no envelopes and no values under drawn types.
    seed : int
        Chooses the cells that are the first of a pair under other types, at most `MOST_FIRST`.
    """
    codes = p.frequent()
    if not codes:
        return [], [], {}
    covariance = (p.window.set_covariance(edges_um[-1]), p.window.px_um)
    weighted, counts = pair_sums(p.xy, p.types, p.n_types, edges_um, covariance, p.block, p.blocks.n)
    weights, n = p.blocks.weights, p.sums()
    area = weights @ p.blocks.areas_um2(p.window.mask, p.window.px_um)
    sums = np.tensordot(weights, weighted, 1)
    # A pair's weight is taken from the window as it is; drawn blocks make a window of another area.
    shrink = (p.window.area_um2 / area)[:, None]
    both = ripley.co_occurrence(np.tensordot(weights, counts, 1))
    first = np.zeros(len(p.xy), np.bool_)
    first[np.random.default_rng(seed).permutation(len(p.xy))[:MOST_FIRST]] = True
    every = np.concatenate([labels.drawn, labels.shuffled], axis=1)
    again = relabelled_sums(p.xy, every, p.n_types, edges_um, covariance, first) if every.shape[1] else None
    n_drawn, r_um = labels.drawn.shape[1], edges_um[1:]
    at = [int(np.argmin(np.abs(r_um - radius))) for radius in radii_um]
    estimates, curves, drawn = [], [], {}
    for a in codes:
        for b in codes:
            label = f"{p.roles.names[a]} to {p.roles.names[b]}"
            k = ripley.k_function(sums[:, a, b] * shrink, n[:, a], n[:, b], area, same=a == b)
            values = ripley.l_minus_r(k, r_um)
            null = None
            if again is not None:
                n_first = (every[first] == a).sum(axis=0)
                n_second = (every == b).sum(axis=0)
                other = ripley.k_function(
                    again[:, a, b], n_first, n_second, np.full(len(n_first), p.window.area_um2), same=a == b
                )
                other = ripley.l_minus_r(other, r_um)
                null = other[n_drawn:]
            curves.append(_curve("l_minus_r", p, label, r_um, values, null))
            curves.append(_curve("co_occurrence", p, label, r_um, both[:, a, b]))
            for radius, i in zip(radii_um, at, strict=True):
                e = Estimate("l_minus_r", p.region, label, values[:, i], int(n[0, a]), f"{radius:g}um")
                estimates.append(e)
                estimates.append(Estimate("ripley_k", p.region, label, k[:, i], int(n[0, a]), f"{radius:g}um"))
                if again is not None:
                    drawn[e.key] = other[:n_drawn, i].tolist()
    return estimates, curves, drawn


# ---- graph and tiles -------------------------------------------------------------------------------------------------


def on_graph(p: Pattern, edges: NDArray[np.int32]) -> Iterator[Estimate]:
    """Neighbourhood enrichment as a ratio, and the mixing score.

    Parameters
    ----------
    p : Pattern
    edges : numpy.ndarray
        int32 (E, 2), of the pattern's cells, each once (`graph.delaunay_edges`).
    """
    counts = graph.edge_counts(edges, p.types, p.n_types, p.block, p.blocks.n)
    total = np.tensordot(p.blocks.weights, counts, 1)
    ratios = graph.neighbourhood_ratio(total)
    codes = p.frequent()
    n = np.bincount(p.types, minlength=p.n_types)
    for a in codes:
        for b in codes:
            label = f"{p.roles.names[a]} to {p.roles.names[b]}"
            yield Estimate("neighbourhood_ratio", p.region, label, ratios[:, a, b], int(n[a]))
    tumour, lymphocytes = (list(p.roles.codes[role]) for role in ("tumour", "lymphocytes"))
    if tumour and lymphocytes:
        between = total[:, lymphocytes][:, :, tumour].sum(axis=(1, 2))
        among = total[:, lymphocytes][:, :, lymphocytes].sum(axis=(1, 2)) / 2
        values = graph.mixing_score(between, among)
        yield Estimate("mixing_score", p.region, "tumour and lymphocytes", values, int(n[lymphocytes].sum()))


def shuffled_graph(p: Pattern, edges: NDArray[np.int32], permutations: int, seed: int) -> Iterator[Estimate]:
    """Z of neighbourhoods and sizes of clusters, which have no resamples.

    Parameters
    ----------
    p : Pattern
    edges : numpy.ndarray
        int32 (E, 2), of the pattern's cells, each once (`graph.delaunay_edges`).
    permutations : int
        Shuffles of the types; 0: no z.
    seed : int
        Of the shuffles.
    """
    codes = p.frequent()
    if permutations and codes:
        counts = graph.edge_counts(edges, p.types, p.n_types, np.zeros(len(p.types), np.int64), 1)[0]
        z = graph.neighbourhood_z(
            graph.enrich(counts, graph.permuted_edges(edges, p.types, p.n_types, permutations, seed))
        )
        n = np.bincount(p.types, minlength=p.n_types)
        for a in codes:
            for b in codes:
                label = f"{p.roles.names[a]} to {p.roles.names[b]}"
                yield Estimate("neighbourhood_z", p.region, label, z[None, a, b], int(n[a]))
    cluster = graph.clusters(edges, p.types)
    size = np.bincount(cluster)[cluster]
    for a in codes:
        of_type = size[p.types == a]
        yield Estimate(
            "cluster_median", p.region, p.roles.names[a], np.array([graph.cluster_median(of_type)]), len(of_type)
        )


def on_tiles(p: Pattern, tiles: Tiles, tile: NDArray[np.intp]) -> Iterator[Estimate]:
    """Morisita-Horn overlap of every two types, each pair once; `tile` is that of each cell.

    Parameters
    ----------
    p : Pattern
    tiles : Tiles
        K tiles.
    tile : numpy.ndarray
        intp (n,), from `Tiles.find`: -1 where the tile is left out.
    """
    counts = tiles.counts(tile, p.types, p.n_types)
    block = p.blocks.pixels[p.window.at(tiles.centres())].astype(np.int64)
    block = np.where(block < 0, 0, block)  # a tile whose centre is glass

    def total(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        return p.blocks.weights @ np.bincount(block, numbers, p.blocks.n)

    codes = p.frequent()
    for i, a in enumerate(codes):
        for b in codes[i + 1 :]:
            x, y = counts[:, a], counts[:, b]
            values = c.morisita_horn(total(x), total(y), total(x * x), total(y * y), total(x * y))
            label = f"{p.roles.names[a]} and {p.roles.names[b]}"
            yield Estimate("morisita_horn", p.region, label, values, int(x.sum() + y.sum()))


def spots(tiles: Tiles, counts: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gi* and its q of the density in each tile, float64 (K, T) each.

    Parameters
    ----------
    tiles : Tiles
        K tiles.
    counts : numpy.ndarray
        float64 (K, T), cells by tile and type.
    """
    neighbours = tiles.neighbours()
    z = np.column_stack([getis_ord(column / tiles.tissue_um2, neighbours) for column in counts.T])
    return z, np.column_stack([false_discovery(column) for column in z.T])
