"""One slide's measures, in order: window, compartments, maps, then every family of estimates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytolite.config import SpatialSettings
from cytolite.spatial import families, graph
from cytolite.spatial.compartments import Compartments, find_compartments, smooth_density
from cytolite.spatial.estimate import Curve, Estimate, Key, Row, difference, rows_of
from cytolite.spatial.families import LEAST_CELLS, Part, Pattern, Relabellings
from cytolite.spatial.intervals import FEW, LEAST, Blocks, draw_types, make_blocks
from cytolite.spatial.reliability import type_warnings
from cytolite.spatial.roles import Roles, choose_roles
from cytolite.spatial.sample import Sample
from cytolite.spatial.tiles import FALSE_DISCOVERIES, Tiles, tile_window

WHOLE = "whole tissue"
RADII_UM = (10.0, 20.0, 50.0)
STEP_UM = 5.0
PROFILE_STEP_UM = 50.0
# Under drawn types distances are taken from so many cells of a type.
_DRAWN_FROM = 3_000

Update = Callable[[float, float], None]


@dataclass(frozen=True)
class Analysis:
    """All that was found on a slide.

    Attributes
    ----------
    sample : Sample
    roles : Roles
    settings : SpatialSettings
    rows, comparisons : list of Row
        Measures, and differences of measures between regions.
    curves : list of Curve
    compartments : Compartments
    areas_mm2 : dict of str to float
        Tissue of every region.
    maps : dict of str to numpy.ndarray
        float32 (h, w) on the window's grid: nuclei per mm2 by type.
    tiles : Tiles
    tile_counts, spot_z, spot_q : numpy.ndarray
        float64 (K, T).
    edges : numpy.ndarray
        int32 (E, 2), the graph of all cells.
    blocks : Blocks
    warnings : list of str
    """

    sample: Sample
    roles: Roles
    settings: SpatialSettings
    rows: list[Row]
    comparisons: list[Row]
    curves: list[Curve]
    compartments: Compartments
    areas_mm2: dict[str, float]
    maps: dict[str, NDArray[np.float32]]
    tiles: Tiles
    tile_counts: NDArray[np.float64]
    spot_z: NDArray[np.float64]
    spot_q: NDArray[np.float64]
    edges: NDArray[np.int32]
    blocks: Blocks
    warnings: list[str]


def analyse(sample: Sample, settings: SpatialSettings, update: Update = lambda done, total: None) -> Analysis:
    """Measure a sample.

    Parameters
    ----------
    sample : Sample
        Cells and window of one slide.
    settings : SpatialSettings
        Parts, distances, tiles, resamples and seed.
    update : callable
        Called with the steps done and the steps there are.

    Raises
    ------
    InputError
        If a part is given to a type that the cells do not have.
    """
    steps, done = 6, 0

    def step() -> None:
        nonlocal done
        done += 1
        update(done, steps)

    update(0, steps)
    roles = choose_roles(
        sample.type_names,
        {"tumour": settings.tumour, "lymphocytes": settings.lymphocytes, "stroma": settings.stroma},
    )
    window, names = sample.window, sample.type_names
    compartments = find_compartments(window, sample.xy, sample.types, roles, settings.bands_um)
    step()
    maps = {
        name: smooth_density(window, sample.xy[sample.types == t], settings.scale_um) for t, name in enumerate(names)
    }
    tiles = tile_window(window, settings.tile, settings.tile_um)
    tile_counts = tiles.counts(tiles.find(sample.xy), sample.types, len(names))
    spot_z, spot_q = families.spots(tiles, tile_counts)
    step()
    blocks = make_blocks(window, settings.resamples, settings.seed)
    drawn = draw_types(sample.probs, settings.draws, settings.seed)
    if settings.draws and (drawn == sample.types[:, None]).all():
        drawn = drawn[:, :0]  # types without doubt
    whole = families.make_pattern(WHOLE, window, sample, roles, blocks)
    masks = {WHOLE: window.mask, **_own_names(sample.regions, compartments), **compartments.masks}
    parts = [Part.of(whole, name, mask) for name, mask in masks.items()]
    estimates = [e for part in parts for e in families.compose(whole, part)]
    retyped = (whole.retyped(types) for types in drawn.T)
    again = _collect(e for other in retyped for part in parts for e in families.compose(other, part))
    estimates += _hot_ground(tiles, spot_z, spot_q, roles)
    step()
    curves = families.profile(whole, compartments.front_um, settings.bands_um[-1], PROFILE_STEP_UM)
    comparisons = rows_of(_compare(estimates), {})
    for pattern, types in _patterns(whole, masks, sample, drawn, settings):
        found, more, values, edges = _between_types(pattern, types, tiles, settings)
        estimates += found
        curves += more
        again |= values
        if pattern is whole:
            all_edges = edges
            step()
    step()
    analysis = Analysis(
        sample, roles, settings, rows_of(estimates, again), comparisons, curves, compartments,
        {name: float(mask.sum()) * window.px_um**2 / 1e6 for name, mask in masks.items()},
        maps, tiles, tile_counts, spot_z, spot_q, all_edges, blocks,
        _warnings(sample, roles, blocks, settings),
    )  # fmt: skip
    step()
    return analysis


def _own_names(regions: dict[str, NDArray[np.bool_]], compartments: Compartments) -> dict[str, NDArray[np.bool_]]:
    """Regions of the user by names that no compartment has."""
    taken = {WHOLE, *compartments.masks}
    return {f"{name} (region)" if name in taken else name: mask for name, mask in regions.items()}


def _patterns(
    whole: Pattern,
    masks: dict[str, NDArray[np.bool_]],
    sample: Sample,
    drawn: NDArray[np.uint8],
    settings: SpatialSettings,
) -> Iterator[tuple[Pattern, NDArray[np.uint8]]]:
    """The whole tissue, then each region of the user as a pattern of its own, with its drawn types."""
    yield whole, drawn
    for name, mask in list(masks.items())[1 : 1 + len(sample.regions)]:
        window, chosen = sample.window.within(mask), mask[whole.at]
        if chosen.any():
            blocks = make_blocks(window, settings.resamples, settings.seed)
            yield families.make_pattern(name, window, sample, whole.roles, blocks, chosen=chosen), drawn[chosen]


def _between_types(
    p: Pattern, drawn: NDArray[np.uint8], tiles: Tiles, settings: SpatialSettings
) -> tuple[list[Estimate], list[Curve], dict[Key, list[float]], NDArray[np.int32]]:
    """Distances, K, co-occurrence, graph and overlap of one pattern."""
    codes, seed = p.frequent(), settings.seed
    estimates = list(families.nearest(p, codes, RADII_UM))
    edges = graph.delaunay_edges(p.xy, settings.edge_um)
    estimates += families.on_graph(p, edges)
    estimates += families.shuffled_graph(p, edges, settings.permutations, seed)
    tile = tiles.find(p.xy)
    estimates += families.on_tiles(p, tiles, tile)
    played = [t for t in codes if any(t in c for c in p.roles.codes.values())]
    values: dict[Key, list[float]] = defaultdict(list)
    for d in range(drawn.shape[1]):
        other = p.retyped(drawn[:, d])
        for family in (
            families.nearest(other, played, RADII_UM, _DRAWN_FROM, seed),
            families.on_graph(other, edges),
            families.on_tiles(other, tiles, tile),
        ):
            for e in family:
                values[e.key].append(float(e.values[0]))
    rng = np.random.default_rng(seed)
    shuffled = np.column_stack(
        [rng.permutation(p.types).astype(np.uint8) for _ in range(settings.envelopes)] or [drawn[:, :0]]
    )
    bins = np.arange(0, settings.reach_um + STEP_UM / 2, STEP_UM)
    radii = [radius for radius in RADII_UM[1:] if radius <= bins[-1]]
    more, curves, from_k = families.second_order(p, bins, radii, Relabellings(drawn, shuffled), seed)
    return estimates + more, curves, values | from_k, edges


def _collect(estimates: Iterator[Estimate]) -> dict[Key, list[float]]:
    found: dict[Key, list[float]] = defaultdict(list)
    for e in estimates:
        found[e.key].append(float(e.values[0]))
    return found


def _hot_ground(tiles: Tiles, z: NDArray[np.float64], q: NDArray[np.float64], roles: Roles) -> Iterator[Estimate]:
    """Share of the tissue in hot spots of each type."""
    for t, name in enumerate(roles.names):
        if np.isfinite(z[:, t]).any():
            hot = (z[:, t] > 0) & (q[:, t] < FALSE_DISCOVERIES)
            share = tiles.tissue_um2[hot].sum() / tiles.tissue_um2.sum()
            yield Estimate("hot_spots", WHOLE, name, np.array([share]), int(hot.sum()))


def _compare(estimates: list[Estimate]) -> Iterator[Estimate]:
    """Differences between tumour and stroma, and between the tumour's front and its depth, on the same resamples."""
    known = {e.key: e for e in estimates}
    depth = [e.region for e in estimates if e.region.startswith("front, inside")]
    pairs = [("tumour", "stroma")]
    if len(set(depth)) > 1:
        pairs.append((depth[0], depth[-1]))
    compared = ("density", "nucleus_mean", "pleomorphism", "til_area_share", "til_nuclei_share")
    for a, b in pairs:
        for e in estimates:
            if e.region == a and e.measure in compared and (other := known.get((e.name, b, e.types))):
                yield difference(e, other)


def _warnings(sample: Sample, roles: Roles, blocks: Blocks, settings: SpatialSettings) -> list[str]:
    counts = np.bincount(sample.types, minlength=len(roles.names))
    used = {name for name, n in zip(roles.names, counts, strict=True) if n}
    warnings = [*sample.warnings, *type_warnings(sample.about, roles, used)]
    few = [f"{name} ({n})" for name, n in zip(roles.names, counts.tolist(), strict=True) if 0 < n < LEAST_CELLS]
    if few:
        warnings.append(f"Measures between types need {LEAST_CELLS} cells of each; too few are {', '.join(few)}.")
    for role in ("tumour", "lymphocytes", "stroma"):
        if roles.codes[role] and not counts[list(roles.codes[role])].any():
            warnings.append(
                f"No cell of the type {' or '.join(roles.types(role))} was found; "
                f"what needs the part {role!r} is missing or 0."
            )
    if settings.resamples and blocks.n < LEAST:
        warnings.append(
            f"The tissue makes {blocks.n} blocks of {blocks.side_um:g} µm; intervals need {LEAST}: there are none."
        )
    elif settings.resamples and blocks.n < FEW:
        warnings.append(f"The tissue makes only {blocks.n} blocks of {blocks.side_um:g} µm: intervals are rough.")
    return warnings
