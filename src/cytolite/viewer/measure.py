"""Counts and densities in regions that were drawn: the numbers of ``segment --roi``, of cells that are there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from cytolite.interop.roi import Region, assign, own_parts
from cytolite.interop.summary import Area, summarise
from cytolite.viewer.cell_index import CellIndex

BINS = 24


def measure(
    cells: CellIndex,
    tissue: Sequence[Region],
    regions: Sequence[Region],
    size_px: tuple[int, int],
    mpp: float,
    *,
    owners: NDArray[np.int32] | None = None,
) -> list[dict[str, Any]]:
    """Return the rows of `summarise` for regions, and "total", the last.

    As in a run, a cell belongs to the smallest region that holds its centroid, and so does the tissue. What was
    searched is not known any more: ``area_mm2``, what a region has of the slide, stands in its place.

    Parameters
    ----------
    cells : CellIndex
        Of the result.
    tissue : sequence of Region
        Of the result, level-0 px.
    regions : sequence of Region
        What was drawn, level-0 px.
    size_px : (int, int)
        Width and height of the slide.
    mpp : float
        um per level-0 px.
    owners : numpy.ndarray, optional
        int32 (N,): what `assign` says of the cells, where it was asked already.
    """
    owners = assign(regions, cells.centroids) if owners is None else owners
    inside = owners >= 0
    counts = np.zeros((len(regions) + 1, len(cells.type_set)), np.int64)
    np.add.at(counts, (owners[inside], cells.types[inside].astype(np.intp) - 1), 1)
    slide, ground = shapely.box(0, 0, *size_px), shapely.union_all([region.polygon for region in tissue])
    parts = [shapely.intersection(slide, part) for part in own_parts(regions)]
    mm2 = mpp**2 / 1e6
    areas = [Area(part.area * mm2, shapely.intersection(ground, part).area * mm2) for part in parts]
    total = Area(*map(sum, zip(*areas, strict=True)))
    rows = summarise(counts, [region.name for region in regions], total, areas, cells.type_set)
    return [{"area_mm2" if key == "searched_mm2" else key: value for key, value in row.items()} for row in rows]


def histograms(owners: NDArray[np.int32], n: int, values: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Count a number of each cell, float64 (N,), in `BINS` bins for each of `n` regions, which `owners` (N,) point to.

    ``low`` and ``high`` are the percentiles 1 and 99 of all cells; what lies beyond counts to the first and the last
    bin.

    Parameters
    ----------
    owners : numpy.ndarray
        int32 (N,), region of each cell, below 0 for none, as of `cytolite.interop.roi.assign`.
    n : int
        Number of regions.
    values : numpy.ndarray
        float64 (N,); what is not finite does not count.
    """
    known = np.isfinite(values)
    low, high = np.percentile(values[known], (1, 99)).tolist() if known.any() else (0.0, 1.0)
    bins = np.clip((np.nan_to_num(values) - low) / max(high - low, 1e-12) * BINS, 0, BINS - 1).astype(np.intp)
    return [
        {"low": low, "high": high, "counts": np.bincount(bins[known & (owners == i)], minlength=BINS).tolist()}
        for i in range(n)
    ]
