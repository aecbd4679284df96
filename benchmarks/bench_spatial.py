"""How long do all measures of a slide take, in how much memory, and do they agree with squidpy, esda and scipy?

    python benchmarks/bench_spatial.py --nuclei hgsc_nuclei_wsi.parquet --mpp 0.5 --compare cervix_biopsy_nuclei.parquet

The files are GeoParquet of typed polygons in pixels, as the wheel `histolytics` carries them (592,349 and 19,197
nuclei); fetch it alone (`pip download --no-deps histolytics`) and unzip it. Without them, nuclei are strewn by chance.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from cytolite.cells import CellTable
from cytolite.celltypes import N_TYPES, TYPE_NAMES
from cytolite.interop.parquet import CellsWriter
from cytolite.spatial import distances, graph, ripley, tiles
from cytolite.spatial.pairs import pair_sums
from cytolite.spatial.window import window_of

# Their names in cytolite's.
NAMES = {"inflammatory": "lymphocyte", "glandular_epithel": "epithelial", "squamous_epithel": "epithelial"}


def read(path: Path) -> CellTable:
    import geopandas as gpd

    frame = gpd.read_parquet(path)
    outlines = frame.geometry.to_numpy()
    rings = shapely.get_exterior_ring(outlines)
    lengths = shapely.get_num_points(rings)
    vertices = np.delete(shapely.get_coordinates(rings), np.cumsum(lengths) - 1, axis=0)
    names = [NAMES.get(name, name.split("_")[0]) for name in frame.class_name.astype(str)]
    types = np.array([TYPE_NAMES.index(name) for name in names]) + 1
    return table(vertices, np.concatenate([[0], np.cumsum(lengths - 1)]), types, shapely.area(outlines), outlines)


def table(vertices: Any, offsets: Any, types: Any, area: Any, outlines: Any) -> CellTable:
    probs = np.full((len(types), N_TYPES), 0.1 / (N_TYPES - 1), np.float32)
    probs[np.arange(len(types)), types - 1] = 0.9  # some doubt, so that types are drawn
    return CellTable(
        vertices=vertices, offsets=np.asarray(offsets, np.int64),
        centroids=shapely.get_coordinates(shapely.centroid(outlines)),
        types=types.astype(np.uint8), type_probs=probs, area_um2=(area * 0.25).astype(np.float32),
        regions=np.full(len(types), -1, np.int32), features={},
    )  # fmt: skip


def strewn(n: int) -> CellTable:
    rng = np.random.default_rng(0)
    outlines = shapely.buffer(shapely.points(rng.uniform(0, 28 * n**0.5, (n, 2))), rng.uniform(5, 12, n), quad_segs=3)
    rings = shapely.get_exterior_ring(outlines)
    lengths = shapely.get_num_points(rings)
    vertices = np.delete(shapely.get_coordinates(rings), np.cumsum(lengths) - 1, axis=0)
    types = rng.choice([1, 3, 6], n, p=[0.5, 0.2, 0.3])
    return table(vertices, np.concatenate([[0], np.cumsum(lengths - 1)]), types, shapely.area(outlines), outlines)


def write_result(folder: Path, cells: CellTable, mpp: float) -> None:
    """Write a result as `segment` does, as far as measures need it; its tissue is what lies near nuclei."""
    from cytolite.spatial.compartments import polygons
    from cytolite.spatial.window import window_of_cells

    folder.mkdir()
    with CellsWriter(folder / "cells.parquet", metadata={"mpp": mpp, "slide": "benchmark"}) as writer:
        writer.append(cells)
    window = window_of_cells(cells.centroids * mpp)
    outline = shapely.transform(polygons(window.mask, window), lambda xy: xy / mpp)
    feature = {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(outline)}
    (folder / "tissue.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))


MEASURE = """
import resource, sys, time
from pathlib import Path
from cytolite.config import SpatialSettings
from cytolite.spatial.run import measure_result
start = time.perf_counter()
def update(done, total):
    print(f"  step {done:.0f} of {total:.0f} at {time.perf_counter() - start:6.1f} s", flush=True)
measure_result(Path(sys.argv[1]), SpatialSettings(cells=True, report=sys.argv[2] == "1"), update)
print(f"  all measures, per-cell columns and report: {time.perf_counter() - start:.1f} s wall, "
      f"{time.process_time():.1f} s cpu, peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")
"""


def timed(name: str, work: Callable[[], Any]) -> Any:
    start, cpu = time.perf_counter(), time.process_time()
    found = work()
    print(f"  {name:<46}{time.perf_counter() - start:8.1f} s wall {time.process_time() - cpu:8.1f} s cpu", flush=True)
    return found


def as_squidpy(xy: np.ndarray, types: np.ndarray) -> Any:
    import anndata
    import pandas as pd

    obs = pd.DataFrame({"t": pd.Categorical(types)}, index=np.arange(len(xy)).astype(str))
    return anndata.AnnData(np.zeros((len(xy), 1), np.float32), obs=obs, obsm={"spatial": xy})


def beside_squidpy(cells: CellTable, mpp: float, permutations: int) -> None:
    """The same graph and enrichment by both, on all nuclei."""
    import squidpy as sq

    xy, types = cells.centroids * mpp, cells.types.astype(np.int64) - 1
    data = as_squidpy(xy, types)
    timed("squidpy: Delaunay graph", lambda: sq.gr.spatial_neighbors(data, coord_type="generic", delaunay=True))
    timed(
        f"squidpy: enrichment, {permutations} permutations",
        lambda: sq.gr.nhood_enrichment(data, "t", n_perms=permutations, n_jobs=1, show_progress_bar=False, seed=0),
    )
    edges = timed("cytolite: Delaunay graph", lambda: graph.delaunay_edges(xy, np.inf))
    timed(
        f"cytolite: enrichment, {permutations} permutations",
        lambda: graph.permuted_edges(edges, types, N_TYPES, permutations, 0),
    )


def agreement(cells: CellTable, mpp: float) -> None:
    """Largest relative differences from the references, on real cells."""
    import squidpy as sq

    xy, codes = cells.centroids * mpp, cells.types.astype(np.int64) - 1
    known, types = np.unique(codes, return_inverse=True)
    n_types, one = len(known), np.zeros(len(xy), np.int64)
    data = as_squidpy(xy, types)
    sq.gr.spatial_neighbors(data, coord_type="generic", delaunay=True)
    sq.gr.nhood_enrichment(data, "t", n_perms=1000, n_jobs=1, show_progress_bar=False, seed=0)
    edges = graph.delaunay_edges(xy, np.inf)
    counts = graph.edge_counts(edges, types, n_types, one, 1)[0]
    found = graph.enrich(counts, graph.permuted_edges(edges, types, n_types, 1000, 1))
    theirs = data.uns["t_nhood_enrichment"]
    tell("neighbourhood counts, squidpy", counts, theirs["count"])
    often = found.expected > 100
    tell(
        "neighbourhood z (1,000 permutations each), squidpy",
        graph.neighbourhood_z(found)[often],
        theirs["zscore"][often],
    )
    some = np.sort(np.random.default_rng(0).permutation(len(xy))[:5000])
    part, steps = as_squidpy(xy[some], types[some]), np.linspace(0, 100, 21)
    sq.gr.co_occurrence(part, "t", interval=steps)
    window = window_of(shapely.box(*xy.min(axis=0) - 1, *xy.max(axis=0) + 1))
    covariance = (window.set_covariance(100), window.px_um)
    sums, pairs = pair_sums(xy[some], types[some], n_types, steps, covariance, one[some], 1)
    mine, squidpys = ripley.co_occurrence(pairs[0]), part.uns["t_co_occurrence"]["occ"]
    seen = np.isfinite(mine) & (squidpys > 0)
    tell("co-occurrence (5,000 nuclei), squidpy", mine[seen], squidpys[seen])
    k = ripley.k_function(sums[0, 0, 0], (types[some] == 0).sum(), (types[some] == 0).sum(), window.area_um2, same=True)
    tell("K (5,000 nuclei, rectangle), exact formula", k, _k_exact(xy[some][types[some] == 0], window, steps))
    from esda.getisord import G_Local
    from libpysal.weights import W

    tiling = tiles.tile_window(window, "hexagon", 100)
    values = tiling.counts(tiling.find(xy), types, n_types)[:, 0] / tiling.tissue_um2
    around = tiling.neighbours()
    weights = W({i: [j for j in row if j >= 0] for i, row in enumerate(around.tolist())}, silence_warnings=True)
    theirs = G_Local(values, weights, transform="B", star=True, permutations=0).Zs
    tell("Getis-Ord Gi*, esda", tiles.getis_ord(values, around), theirs)
    from scipy.spatial.distance import cdist

    a, b = xy[types == 0][:2000], xy[types == 1]
    tell(
        "nearest distances, scipy's full matrix",
        distances.nearest(a, distances.tree_of(b), same=False),
        cdist(a, b).min(axis=1),
    )


def _k_exact(xy: np.ndarray, window: Any, edges: np.ndarray) -> np.ndarray:
    h, w = window.mask.any(axis=1).sum() * window.px_um, window.mask.any(axis=0).sum() * window.px_um
    dx, dy = (np.abs(np.subtract.outer(c, c)) for c in xy.T)
    d = np.hypot(dx, dy)
    np.fill_diagonal(d, np.inf)
    near = d <= edges[-1]
    sums = np.histogram(d[near], edges, weights=1 / ((w - dx[near]) * (h - dy[near])))[0]
    return np.cumsum(sums) * (w * h) ** 2 / (len(xy) * (len(xy) - 1))


def beside_tissue(cells: CellTable, mpp: float, path: Path) -> None:
    """Dice of the regions that cells draw and of outlines of tissue that others made of the same slide."""
    import geopandas as gpd

    from cytolite.spatial.compartments import find_compartments
    from cytolite.spatial.roles import choose_roles
    from cytolite.spatial.window import window_of_cells

    xy, frame = cells.centroids * mpp, gpd.read_parquet(path)
    window = window_of_cells(xy)
    types = cells.types.astype(np.int64) - 1
    found = find_compartments(window, xy, types, choose_roles(TYPE_NAMES, {}), (100.0,)).masks
    for theirs, mine in (("tumor", "tumour"), ("stroma", "stroma")):
        parts = [p for shape in frame.geometry[frame.class_name == theirs] for p in shapely.get_parts(shape)]
        drawn = window.draw(shapely.transform(shapely.MultiPolygon(parts), lambda c: c * mpp)) & window.mask
        both = 2 * (drawn & found[mine]).sum() / (drawn.sum() + found[mine].sum())
        areas = [mask.sum() * window.px_um**2 / 1e6 for mask in (found[mine], drawn)]
        print(f"  {mine}: {areas[0]:.1f} mm2 here, {areas[1]:.1f} mm2 there, Dice {both:.2f}", flush=True)


def tell(name: str, mine: Any, theirs: Any) -> None:
    mine, theirs = np.asarray(mine, float), np.asarray(theirs, float)
    known = np.isfinite(mine) & np.isfinite(theirs)
    worst = np.max(np.abs(mine - theirs)[known] / np.maximum(np.abs(theirs[known]), 1e-9))
    print(f"  {name:<56} {known.sum():6} values, largest relative difference {worst:.1e}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3,000 nuclei: only to see that it works")
    parser.add_argument("--nuclei", type=Path, help="GeoParquet of a whole slide")
    parser.add_argument("--mpp", type=float, default=0.5)
    parser.add_argument("--compare", type=Path, help="GeoParquet of fewer nuclei, to compare values on")
    parser.add_argument("--tissue", type=Path, help="GeoParquet of that slide's tissue, to compare regions with")
    parser.add_argument("--squidpy", action="store_true", help="time squidpy beside it")
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    cells = read(options.nuclei) if options.nuclei else strewn(3_000 if options.quick else 600_000)
    with tempfile.TemporaryDirectory() as temporary:
        write_result(Path(temporary) / "result", cells, options.mpp)
        print(f"{len(cells):,} nuclei", flush=True)
        command = [sys.executable, "-c", MEASURE, str(Path(temporary) / "result"), "0" if options.quick else "1"]
        subprocess.run(command, check=True)
    if options.squidpy:
        beside_squidpy(cells, options.mpp, 100)
    if options.tissue:
        beside_tissue(cells, options.mpp, options.tissue)
    if options.compare:
        print(f"agreement on {options.compare.name}:")
        agreement(read(options.compare), options.mpp)
    print(f"  peak of this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
