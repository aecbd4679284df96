"""Plan of one slide: at which resolution it is read, where, and in which tiles."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from cytolite.bundle import Bundle
from cytolite.cells import CellTable
from cytolite.config import SegmentSettings
from cytolite.interop.roi import Region, assign, own_parts, read_regions, require_overlap
from cytolite.interop.summary import Area
from cytolite.provenance import fingerprint
from cytolite.slides.quality import Quality, assess, excluded_kinds
from cytolite.slides.reader import Slide
from cytolite.slides.tiles import Rectangle, Tile, plan_tiles
from cytolite.slides.tissue import TissueMask, find_tissue


@dataclass(frozen=True)
class SlideFacts:
    """What a result says of its slide, which may be closed by then: name of the file, scene, level-0 size and um/px."""

    name: str
    scene: str | None
    width_px: int
    height_px: int
    mpp: float


@dataclass(frozen=True)
class Grid:
    """What a tile needs of the plan: a few numbers, which travel with it.

    Attributes
    ----------
    map_mpp : float
        Resolution of the network's maps, um/px: tiles and their cells are counted in it.
    stride : int
        Pixels of the image, as the network reads it, per pixel of its maps.
    scale : float
        Level-0 px per px of `map_mpp`.
    width, height : int
        Of the slide in px of `map_mpp`, rounded up.
    """

    map_mpp: float
    stride: int
    scale: float
    width: int
    height: int

    @property
    def read_mpp(self) -> float:
        """Resolution that the slide is read at for the network, um/px."""
        return self.map_mpp / self.stride


@dataclass(frozen=True)
class Plan(Grid):
    """What shall be done with a slide; everything that the result depends on.

    Attributes
    ----------
    tile, halo : int
        In px of `map_mpp`.
    slide : SlideFacts
        What it is a plan of.
    bundle : Bundle
        The model.
    searched : TissueMask
        Where cells are wanted: the tissue grown and filled, or the whole slide.
    tissue : TissueMask
        The tissue itself, which densities are counted on.
    regions : list of Region, or None
        Limits of the work, where given.
    tiles : list of Tile
        Those that hold tissue and meet a region, row by row.
    quality : Quality, or None
        What is no good of the slide, where it was asked for.
    damaged : tuple of Rectangle
        What could not be read, x, y, width, height in level-0 px, and was taken out of both masks.
    channels : int
        Numbers in the vectors that cells get; 0 if they get none.
    """

    tile: int
    halo: int
    slide: SlideFacts
    bundle: Bundle
    searched: TissueMask
    tissue: TissueMask
    regions: list[Region] | None
    tiles: list[Tile]
    quality: Quality | None = None
    damaged: tuple[Rectangle, ...] = ()
    channels: int = 0

    @property
    def grid(self) -> Grid:
        """The part of the plan that tiles need."""
        return Grid(self.map_mpp, self.stride, self.scale, self.width, self.height)

    def to_level0(self, cells: CellTable) -> CellTable:
        """Return `cells` in level-0 px; what a rounded-up last pixel has beyond the slide is cut off."""
        limits = np.array([self.slide.width_px, self.slide.height_px], np.float64)
        return replace(
            cells,
            vertices=np.minimum(cells.vertices * self.scale, limits),
            centroids=np.minimum(cells.centroids * self.scale, limits),
        )

    def wanted(self, cells: CellTable) -> CellTable:
        """Return the cells whose centroid is searched ground and, if there are regions, lies in one; with its index."""
        cells = cells.select(self.searched.contains(cells.centroids))
        if self.regions is None:
            return cells
        cells = replace(cells, regions=assign(self.regions, cells.centroids))
        return cells.select(cells.regions >= 0)

    def areas_mm2(self) -> list[Area]:
        """Return what of each region is searched and is tissue, exact along its border; without regions, of the slide.

        As with cells, what lies in several regions belongs to the smallest: the sum counts nothing twice.
        """
        if self.regions is None:
            return [Area(self.searched.area_mm2(self.slide.mpp), self.tissue.area_mm2(self.slide.mpp))]
        mm2 = self.slide.mpp**2 / 1e6
        return [Area(searched * mm2, tissue * mm2) for searched, tissue in self._areas_px]

    @cached_property
    def _areas_px(self) -> list[tuple[float, float]]:
        """Searched and tissue in each region's own part, level-0 px; thousands of regions take seconds: only once."""
        parts = own_parts(self.regions or ())
        return [(_area_px(self.searched, part), _area_px(self.tissue, part)) for part in parts]

    def tissue_outline(self) -> shapely.Geometry:
        """Return the tissue within the regions, where there are some, as polygons in level-0 px."""
        outline = self.tissue.outline()
        if self.regions is None:
            return outline
        return shapely.intersection(outline, shapely.union_all([region.polygon for region in self.regions]))

    def without(self, places: Sequence[Rectangle]) -> Plan:
        """Return the plan with what could not be read (x, y, width, height, level-0 px) taken out of both masks."""
        if not places:
            return self
        searched, tissue = (area.without(places) for area in (self.searched, self.tissue))
        return replace(self, searched=searched, tissue=tissue, damaged=tuple(places))


def plan_slide(slide: Slide, bundle: Bundle, settings: SegmentSettings, *, judged: bool = False) -> Plan:
    """Find the tissue, judge it, if `judged` or if the settings leave out what is no good, and lay out the tiles.

    Parameters
    ----------
    slide : Slide
        Open.
    bundle : Bundle
        The model.
    settings : SegmentSettings
        Everything else.
    judged : bool
        Judge the tissue's quality.

    Raises
    ------
    InputError
        If the regions cannot be read or lie outside of the slide.
    SlideError
        If the slide cannot be read.
    """
    stride = bundle.spec.stride
    map_mpp = slide.working_mpp(bundle.spec.mpp) * stride
    scale = map_mpp / slide.mpp
    # 1e-6: 1000 px at a scale of 1.9999999999 are 500 px, not 501.
    width, height = (max(1, math.ceil(size / scale - 1e-6)) for size in (slide.width_px, slide.height_px))
    tile = settings.tile or bundle.spec.tile
    halo = bundle.spec.halo if settings.halo is None else settings.halo
    searched, tissue = find_tissue(slide)
    if settings.tissue == "all":
        searched = TissueMask.whole(slide)
    excluded = excluded_kinds(settings.exclude_artefacts, settings.exclude_folds)
    quality = assess(slide, tissue) if judged or excluded else None
    if quality is not None and excluded:
        searched, tissue = (area.minus(quality.where(excluded)) for area in (searched, tissue))
    regions = None if settings.roi is None else read_regions(settings.roi)
    if regions is not None:
        require_overlap(regions, slide.width_px, slide.height_px)
    index = None if regions is None else shapely.STRtree([region.polygon for region in regions])

    def wanted(x0: int, y0: int, x1: int, y1: int) -> Rectangle | None:
        left, top, right, bottom = (edge * scale for edge in (x0, y0, x1, y1))
        if index is not None and not len(index.query(shapely.box(left, top, right, bottom), predicate="intersects")):
            return None
        box = searched.bounds_within(left, top, right, bottom)
        if box is None:
            return None
        return (
            max(x0, math.floor(box[0] / scale)),
            max(y0, math.floor(box[1] / scale)),
            min(x1, math.ceil(box[2] / scale)),
            min(y1, math.ceil(box[3] / scale)),
        )

    tiles = plan_tiles(width, height, tile, halo, wanted)
    facts = SlideFacts(slide.path.name, slide.scene, slide.width_px, slide.height_px, slide.mpp)
    return Plan(
        map_mpp, stride, scale, width, height, tile, halo, facts, bundle, searched, tissue, regions, tiles, quality,
        channels=bundle.channels(settings.embeddings),
    )  # fmt: skip


def plan_key(plan: Plan, path: Path, settings: SegmentSettings, version: str) -> dict[str, Any]:
    """Return what tells this work from another; tiles kept under the same key may be used.

    Of the slide its content tells, not where it lies or when it was copied: another host may see it elsewhere.

    Parameters
    ----------
    plan : Plan
        What shall be done.
    path : pathlib.Path
        Where the slide lies.
    settings : SegmentSettings
        What the plan was made with.
    version : str
        Of cytolite.
    """
    slide, bundle = plan.slide, plan.bundle
    regions = [(region.name, region.polygon.wkb_hex) for region in plan.regions or []]
    vectors = bundle.spec.embedding if plan.channels else None
    return {
        **({"embedding": vectors.sha256} if vectors else {}),
        "slide": [fingerprint(path), slide.width_px, slide.height_px, slide.mpp],
        "model": [bundle.sha256, bundle.spec_sha256],
        "mpp": [plan.map_mpp, plan.stride],
        "read": [slide.scene, settings.rgb, settings.damaged],
        "tile": plan.tile,
        "halo": plan.halo,
        "tissue": hashlib.sha256(plan.searched.mask.tobytes()).hexdigest(),
        "regions": None if plan.regions is None else hashlib.sha256(repr(regions).encode()).hexdigest(),
        "device": settings.device,
        "precision": settings.precision,
        "tta": settings.tta,
        "version": version,
    }


def _area_px(area: TissueMask, polygon: shapely.Geometry) -> float:
    """Area that a mask and a polygon share, in level-0 px.

    Blocks of the mask are halved until each is full, or empty, or outside of the polygon.
    """
    mask, scale = area.mask, area.scale_px

    def shared(top: int, bottom: int, left: int, right: int, part: shapely.Geometry) -> float:
        part = shapely.intersection(part, shapely.box(left * scale, top * scale, right * scale, bottom * scale))
        block = mask[top:bottom, left:right]
        if part.is_empty or not block.any():
            return 0.0
        if block.all():
            return float(part.area)
        if bottom - top >= right - left:
            middle = (top + bottom) // 2
            return shared(top, middle, left, right, part) + shared(middle, bottom, left, right, part)
        middle = (left + right) // 2
        return shared(top, bottom, left, middle, part) + shared(top, bottom, middle, right, part)

    on_slide = shapely.intersection(polygon, shapely.box(0, 0, area.width_px, area.height_px))
    if on_slide.is_empty:
        return 0.0
    left, top, right, bottom = (edge / scale for edge in on_slide.bounds)
    return shared(math.floor(top), math.ceil(bottom), math.floor(left), math.ceil(right), on_slide)
