"""The road of a slide without files: its nuclei as one table, for images and regions that fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from cytolite.bundle import Bundle
from cytolite.cells import CellTable
from cytolite.classifier import Unlike
from cytolite.config import SegmentSettings
from cytolite.decoding.features import FEATURE_NAMES
from cytolite.inference.predictor import Predictor
from cytolite.interop.summary import Area
from cytolite.segmentation.checks import SizeTally, Warned, check_damage, check_plan, check_result, check_taught
from cytolite.segmentation.executors import Threads
from cytolite.segmentation.plan import Plan, plan_slide
from cytolite.segmentation.slide import TileJob, batches
from cytolite.segmentation.stitch import TileCells, stitch
from cytolite.slides.reader import Slide
from cytolite.slides.tiles import Rectangle


@dataclass
class Kept:
    """Tiles done, by number; takes the place of a folder of part files."""

    parts: dict[int, TileCells] = field(default_factory=dict)

    def save(self, part: TileCells) -> None:
        """Keep a tile's nuclei."""
        self.parts[part.tile.index] = part

    def add_damaged(self, places: Sequence[Rectangle]) -> None:
        """The slide itself remembers as long as it is open."""


def find_cells(
    slide: Slide,
    bundle: Bundle,
    settings: SegmentSettings,
    predictor: Predictor,
    update: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[CellTable, list[Warned]]:
    """Find the nuclei of a slide, the same as `segment_slide` writes, and write nothing.

    Parameters
    ----------
    slide : Slide
        Open.
    bundle : Bundle
        Model to use.
    settings : SegmentSettings
        Everything else.
    predictor : Predictor
        The bundle's network.
    update : callable
        Called with the tiles done and all tiles.

    Returns
    -------
    cells : CellTable
        In level-0 px.
    warnings : list of Warned
        What the user should know.

    Raises
    ------
    SlideError
        If a part of the slide cannot be read.
    InputError
        If the settings cannot be used with this slide.
    """
    plan = plan_slide(slide, bundle, settings)
    kept, total = Kept(), len(plan.tiles)
    job = TileJob(slide, plan.grid, bundle, predictor, kept, plan.channels > 0)
    runs = batches(plan.tiles, settings.batch)
    Threads(settings.workers or 1).run(job, runs, lambda left: update(total - left, total))
    plan = plan.without(slide.damaged)
    tables = [plan.wanted(plan.to_level0(t)) for t in stitch(kept.parts[tile.index] for tile in plan.tiles)]
    names = tuple(region.name for region in plan.regions or ())
    empty = CellTable.empty(FEATURE_NAMES, bundle.spec.network_types, plan.channels)
    found = bundle.spec.named(CellTable.concatenate(tables) if tables else empty)
    return replace(found, region_names=names, mpp=slide.mpp), _warnings(plan, slide, found, bundle)


def _warnings(plan: Plan, slide: Slide, found: CellTable, bundle: Bundle) -> list[Warned]:
    areas, sizes = plan.areas_mm2(), SizeTally()
    sizes.add(found)
    unlike = Unlike(bundle.spec.classifier) if bundle.spec.classifier else None
    if unlike:
        unlike.add(found)
    return [
        *(Warned("file", note) for note in slide.notes),
        *check_plan(plan, slide, areas),
        *check_damage(slide.damaged, slide.mpp),
        *check_result(Area(*(sum(column) for column in zip(*areas, strict=True))), sizes),
        *check_taught(unlike),
    ]
