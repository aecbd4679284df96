"""The run over one slide: all cores at work, resumable at any moment, bounded memory."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cytolite import machine
from cytolite.bundle import Bundle
from cytolite.config import SegmentSettings
from cytolite.errors import SlideError
from cytolite.inference.predictor import Model, Predictor
from cytolite.provenance import versions_here
from cytolite.segmentation.checkpoint import WorkFolder
from cytolite.segmentation.checks import Warned, check_damage, check_plan, check_quality
from cytolite.segmentation.executors import Executor, Job, Threads
from cytolite.segmentation.plan import Grid, Plan, plan_key, plan_slide
from cytolite.segmentation.read_ahead import ReadAhead
from cytolite.segmentation.stitch import BAND_UM, TileCells, own_or_offer, stitch
from cytolite.segmentation.tile import tile_cells
from cytolite.segmentation.writers import Written, write_results
from cytolite.slides.reader import Slide
from cytolite.slides.tiles import Rectangle, Tile

# Called with the area done and the area to do, mm2.
Update = Callable[[float, float], None]
_STALE = Warned("stale_tiles", "tiles kept from a run with other settings, model or slide were not used")

log = logging.getLogger("cytolite")
# What a worker needs for each pixel that the network sees, from reading to outlines; measured on the embedded models
# (tiles of 2,000 px: 0.3 to 0.4 GB a worker), with half as much again to spare.
BYTES_PER_PX = 150
_BYTES_PER_VALUE = 8  # of an embedding: float32, and as much again to spare
# On a cluster: until it is known that the worker which had a slide is dead.
_LOCK_WAIT_S = 60.0


@dataclass(frozen=True)
class SlideResult:
    """What came out of a slide.

    Attributes
    ----------
    folder : pathlib.Path
        Holds the results.
    n_cells : int
        Nuclei found.
    tissue_mm2 : float
        Area of the tissue worked on, within the regions where there were some.
    seconds : float
        This run took, with the tiles kept from an earlier one not counted.
    warnings : tuple of Warned
        What the user should know.
    """

    folder: Path
    n_cells: int
    tissue_mm2: float
    seconds: float
    warnings: tuple[Warned, ...] = ()


def segment_slide(
    slide: Slide,
    folder: Path,
    bundle: Bundle,
    settings: SegmentSettings,
    *,
    record: dict[str, Any] | None = None,
    update: Update = lambda done_mm2, total_mm2: None,
    predictor: Callable[[], Predictor] | None = None,
    executor: Executor | None = None,
) -> SlideResult:
    """Find, outline and type the nuclei of a slide and write the results.

    Parameters
    ----------
    slide : Slide
        Open for reading from several threads.
    folder : pathlib.Path
        Of this slide's results; appears when they are whole, and replaces an older result there. Until then the work
        is kept in ``.<name>.partial`` beside it, and a run that finds it there goes on with it.
    bundle : Bundle
        Model to use.
    settings : SegmentSettings
        Everything else.
    record : dict, optional
        What ``run.json`` shall say of the run, besides its results.
    update : callable
        Called with the area done and the whole area, mm2, after each piece of work. What it raises ends the run, once
        the tiles in work are done; `Stopped` is how to stop it from another thread.
    predictor : callable, optional
        Gives the bundle's network when it is needed, for runs that share a loaded one; loaded here if not given.
    executor : Executor, optional
        Where tiles are worked on; threads of this process if not given.

    Raises
    ------
    SlideError
        If a part of the slide cannot be read; the tiles done are kept.
    InputError
        If the settings cannot be used with this slide.
    OutputError
        If something cannot be written; the tiles done are kept.
    KeyboardInterrupt, Stopped
        If the user stops it; the tiles done are kept, and the message says so.
    """
    start = time.perf_counter()
    work = WorkFolder(folder, bundle.spec.network_types)
    with work.alone(0.0 if executor is None or executor.here else _LOCK_WAIT_S):
        plan = plan_slide(slide, bundle, settings, judged=True)
        stale = work.open(plan_key(plan, slide.path, settings, versions_here()["cytolite"]))
        tiles_left = _in_mm2(plan, update)
        if todo := [tile for tile in plan.tiles if not work.has(tile)]:
            tiles_left(len(todo))
            executor = executor or Threads(workers_of(bundle, settings))
            runs = batches(todo, settings.batch)
            if isinstance(executor, Threads):
                network = predictor() if predictor else Model.of(bundle, settings).predictor
                job = TileJob(slide, plan.grid, bundle, network, work, plan.channels > 0)
                with ReadAhead(job.read, runs, executor.workers) as images:
                    executor.run(replace(job, images=images), runs, tiles_left)
            else:
                executor.run(_as_value(slide, plan, bundle, settings, folder), runs, tiles_left)
        found = _finish(slide, work, plan, stale=stale, record=record or {}, tiles_left=tiles_left)
    seconds = time.perf_counter() - start
    return SlideResult(work.final, found.cells, found.tissue_mm2, seconds, found.warnings)


def _in_mm2(plan: Plan, update: Update) -> Callable[[int], None]:
    """Return what tells `update` the areas, when it is called with the number of tiles that are left."""
    areas = plan.areas_mm2()
    # On an odd stain, where there is no tissue, what is searched has to do.
    area_mm2 = sum(area.tissue_mm2 for area in areas) or sum(area.searched_mm2 for area in areas)
    return lambda left: update(area_mm2 * (1 - left / max(1, len(plan.tiles))), area_mm2)


def _as_value(slide: Slide, plan: Plan, bundle: Bundle, settings: SegmentSettings, folder: Path) -> Job:
    from cytolite.segmentation.tile_work import TileWork

    paths = (path.resolve() for path in (slide.path, bundle.path, folder))
    at, model, results = paths
    return TileWork(at, settings, model, bundle.sha256, plan.grid, results, versions_here()["cytolite"])


def _finish(
    slide: Slide,
    work: WorkFolder,
    plan: Plan,
    *,
    stale: bool,
    record: dict[str, Any],
    tiles_left: Callable[[int], None],
) -> Written:
    """Stitch the tiles' nuclei and write all files."""

    def kept() -> Iterator[TileCells]:
        for number, tile in enumerate(plan.tiles):
            if number % 16 == 0:
                tiles_left(0)  # so that it can be stopped here too
            yield work.load(tile)

    work.add_damaged(slide.damaged)
    readable = plan.without(work.damaged())
    warnings = [Warned("file", note) for note in slide.notes]
    warnings += [_STALE] if stale else []
    warnings += check_plan(plan, slide, readable.areas_mm2())
    warnings += check_damage(readable.damaged, slide.mpp)
    warnings += check_quality(plan.quality)
    with work.result_folder() as result:
        return write_results(result, readable, stitch(kept()), record, picture=slide, warnings=warnings)


def workers_of(bundle: Bundle, settings: SegmentSettings) -> int:
    """Return as many workers as asked for, else one a core, or as many as there is memory for.

    Parameters
    ----------
    bundle : Bundle
        The model.
    settings : SegmentSettings
        Its tile and halo count where they are given.
    """
    if settings.workers:
        return settings.workers
    spec, channels = bundle.spec, bundle.channels(settings.embeddings)
    side_px = ((settings.tile or spec.tile) + 2 * (spec.halo if settings.halo is None else settings.halo)) * spec.stride
    bytes_per_px = BYTES_PER_PX + _BYTES_PER_VALUE * channels // spec.stride**2
    workers = machine.workers(bytes_per_px * side_px**2 * settings.batch)
    if workers < machine.cores():
        log.warning("Memory allows %d of %d workers; smaller tiles (--tile) need less.", workers, machine.cores())
    return workers


def batches(tiles: Sequence[Tile], size: int) -> list[list[Tile]]:
    """Cut `tiles` into runs of at most `size` neighbours of one shape, which the network can take at once.

    Parameters
    ----------
    tiles : sequence of Tile
        In their order.
    size : int
        Of a batch, at most.
    """
    runs = []
    for _, same in groupby(tiles, key=lambda tile: (tile.height, tile.width)):
        while run := list(islice(same, size)):
            runs.append(run)
    return runs


class Keeper(Protocol):
    """Where the nuclei of tiles go: a folder of part files, or memory."""

    def save(self, part: TileCells) -> None:
        """Keep a tile's nuclei; may be called by several threads."""

    def add_damaged(self, places: Sequence[Rectangle]) -> None:
        """Keep what could not be read: x, y, width and height, level-0 px."""


@dataclass(frozen=True)
class TileJob:
    """Everything from reading a few tiles to their part files; called by several threads.

    `images` gives the tiles' images, if somebody else reads them.
    """

    slide: Slide
    grid: Grid
    bundle: Bundle
    predictor: Predictor
    work: Keeper
    embeddings: bool = False
    images: Callable[[Sequence[Tile]], NDArray[np.uint8]] | None = None

    def __call__(self, tiles: Sequence[Tile]) -> None:
        plan, spec = self.grid, self.bundle.spec
        images = (self.images or self.read)(tiles)
        if damaged := self.slide.damaged:
            self.work.add_damaged(damaged)
        maps = self.predictor.maps_with_embedding if self.embeddings else self.predictor.maps
        flows, type_logits, *more = maps(images)
        for i, tile in enumerate(tiles):
            size = (plan.width, plan.height)
            cells = tile_cells(
                tile, images[i], flows[i], type_logits[i], spec=spec, mpp=plan.map_mpp, size=size,
                embedding=more[0][i] if more else None,
            )  # fmt: skip
            self.work.save(own_or_offer(tile, cells, BAND_UM / plan.map_mpp))

    def read(self, tiles: Sequence[Tile]) -> NDArray[np.uint8]:
        """Return the images of tiles of one shape, uint8 (B, H, W, 3); raises what reading them raises."""
        return np.stack([self._read(tile) for tile in tiles])

    def _read(self, tile: Tile) -> NDArray[np.uint8]:
        plan, stride = self.grid, self.grid.stride
        x, y = (edge * plan.scale for edge in tile.read[:2])
        try:
            return self.slide.read(x, y, tile.width * stride, tile.height * stride, plan.read_mpp)
        except OSError as error:
            size = [round(side * plan.scale) for side in (tile.width, tile.height)]
            raise SlideError(
                f"{self.slide.path} cannot be read at x {x:.0f}, y {y:.0f}, {size[0]} x {size[1]} px ({error}): "
                "the file or the disk seems damaged; copy it again and run the same command, the tiles done are kept."
            ) from error
