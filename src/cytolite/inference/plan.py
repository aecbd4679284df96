"""Plan of one slide: at which resolution it is read, where, and in which tiles."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from cytolite.cells import CellTable
from cytolite.config import SegmentSettings
from cytolite.errors import InputError
from cytolite.interop.roi import Region, read_regions
from cytolite.models.bundle import Bundle
from cytolite.slides.reader import Slide
from cytolite.slides.tiles import Tile, plan_tiles
from cytolite.slides.tissue import TissueMask, tissue_mask


@dataclass(frozen=True)
class Plan:
    """What shall be done with a slide; everything that the result depends on.

    Attributes
    ----------
    mpp : float
        Resolution that tiles are read at, um/px.
    scale : float
        Level-0 px per px of `mpp`.
    width, height : int
        Of the slide in px of `mpp`, rounded up.
    tile, halo : int
        In px of `mpp`.
    tissue : TissueMask
        Where cells are wanted.
    regions : list of Region, or None
        Limits of the work, where given.
    tiles : list of Tile
        Those that hold tissue and meet a region, row by row.
    """

    mpp: float
    scale: float
    width: int
    height: int
    tile: int
    halo: int
    tissue: TissueMask
    regions: list[Region] | None
    tiles: list[Tile]

    def to_level0(self, cells: CellTable, slide: Slide) -> CellTable:
        """Return `cells` in level-0 px; what a rounded-up last pixel has beyond the slide is cut off."""
        limits = np.array([slide.width_px, slide.height_px], np.float64)
        return CellTable(
            vertices=np.minimum(cells.vertices * self.scale, limits),
            offsets=cells.offsets,
            centroids=np.minimum(cells.centroids * self.scale, limits),
            types=cells.types,
            type_probs=cells.type_probs,
            area_um2=cells.area_um2,
            regions=cells.regions,
            features=cells.features,
        )

    def wanted(self, cells: CellTable) -> CellTable:
        """Return the cells whose centroid lies in tissue and, where regions were given, in one; with its index."""
        cells = cells.select(self.tissue.contains(cells.centroids))
        if self.regions is None:
            return cells
        region = region_of(cells.centroids, self.regions)
        cells.regions[:] = region
        return cells.select(region >= 0)

    def areas_mm2(self, slide: Slide) -> list[float]:
        """Return the area of tissue worked on in each region, exact along its border; without regions, of the slide."""
        if self.regions is None:
            return [self.tissue.area_mm2(slide.mpp)]
        return [_area_px(self.tissue, region.polygon) * slide.mpp**2 / 1e6 for region in self.regions]


def plan_slide(slide: Slide, bundle: Bundle, settings: SegmentSettings) -> Plan:
    """Find the tissue and lay out the tiles.

    Raises
    ------
    InputError
        If the regions cannot be read or lie outside of the slide.
    SlideError
        If the slide cannot be read.
    """
    mpp = slide.working_mpp(bundle.spec.mpp)
    scale = mpp / slide.mpp
    # 1e-6: 1000 px at a scale of 1.9999999999 are 500 px, not 501.
    width, height = (max(1, math.ceil(size / scale - 1e-6)) for size in (slide.width_px, slide.height_px))
    tile = settings.tile or bundle.spec.tile
    halo = bundle.spec.halo if settings.halo is None else settings.halo
    tissue = TissueMask.whole(slide) if settings.tissue == "all" else tissue_mask(slide)
    regions = None if settings.roi is None else read_regions(settings.roi)
    if regions is not None:
        _check_regions(regions, slide, settings)

    def keep(x0: int, y0: int, x1: int, y1: int) -> bool:
        left, top, right, bottom = (edge * scale for edge in (x0, y0, x1, y1))
        if not tissue.overlaps(left, top, right - left, bottom - top):
            return False
        box = shapely.box(left, top, right, bottom)
        return regions is None or any(region.polygon.intersects(box) for region in regions)

    tiles = plan_tiles(width, height, tile, halo, keep)
    return Plan(mpp, scale, width, height, tile, halo, tissue, regions, tiles)


def region_of(xy: NDArray[np.float64], regions: list[Region]) -> NDArray[np.int32]:
    """Return the index of the first region that holds each point (N, 2), -1 where none does: int32 (N,)."""
    found = np.full(len(xy), -1, np.int32)
    for index, region in enumerate(regions):
        left, top, right, bottom = region.polygon.bounds
        rows = np.flatnonzero(
            (found < 0) & (xy[:, 0] >= left) & (xy[:, 0] <= right) & (xy[:, 1] >= top) & (xy[:, 1] <= bottom)
        )
        if len(rows):
            shapely.prepare(region.polygon)
            # Covers, not contains: on a slide cut into adjoining regions a centroid on their border belongs to one.
            found[rows[shapely.intersects_xy(region.polygon, xy[rows])]] = index
    return found


def _area_px(tissue: TissueMask, polygon: shapely.Geometry) -> float:
    """Area that the tissue and a polygon share, in level-0 px."""
    shapely.prepare(polygon)
    rows, columns = np.nonzero(tissue.mask)
    limits = np.array([tissue.width_px, tissue.height_px, tissue.width_px, tissue.height_px])
    boxes = np.minimum(np.column_stack([columns, rows, columns + 1, rows + 1]) * tissue.scale_px, limits)
    left, top, right, bottom = polygon.bounds
    boxes = boxes[(boxes[:, 2] > left) & (boxes[:, 0] < right) & (boxes[:, 3] > top) & (boxes[:, 1] < bottom)]
    squares = shapely.box(*boxes.T)
    whole = shapely.covers(polygon, squares)
    return float(shapely.area(squares[whole]).sum() + shapely.area(shapely.intersection(squares[~whole], polygon)).sum())


def plan_key(plan: Plan, slide: Slide, bundle: Bundle, settings: SegmentSettings, version: str) -> dict[str, Any]:
    """Return what tells this work from another; tiles kept under the same key may be used."""
    stat = slide.path.stat()
    regions = [(region.name, region.polygon.wkb_hex) for region in plan.regions or []]
    return {
        "slide": [str(slide.path.resolve()), stat.st_size, stat.st_mtime_ns, slide.width_px, slide.height_px, slide.mpp],
        "model": [bundle.sha256, hashlib.sha256(bundle.spec.model_dump_json().encode()).hexdigest()],
        "mpp": plan.mpp,
        "tile": plan.tile,
        "halo": plan.halo,
        "tissue": hashlib.sha256(plan.tissue.mask.tobytes()).hexdigest(),
        "regions": None if plan.regions is None else hashlib.sha256(repr(regions).encode()).hexdigest(),
        "device": settings.device,
        "version": version,
    }


def _check_regions(regions: list[Region], slide: Slide, settings: SegmentSettings) -> None:
    bounds = shapely.box(0, 0, slide.width_px, slide.height_px)
    if not any(region.polygon.intersects(bounds) for region in regions):
        raise InputError(
            f"No region of {settings.roi} lies on {slide.path}, which is {slide.width_px} x {slide.height_px} px: "
            "regions are in level-0 pixels; export them from this very slide."
        )
