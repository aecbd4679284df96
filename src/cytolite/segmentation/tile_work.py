"""Tiles as values: what has to be known to work on a slide's tiles in any process that sees the slide."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cytolite.config import SegmentSettings
from cytolite.inference.predictor import Model
from cytolite.segmentation.checkpoint import WorkFolder, encoded
from cytolite.segmentation.expected import Expected
from cytolite.segmentation.opening import open_as_set
from cytolite.segmentation.plan import Grid
from cytolite.segmentation.slide import TileJob
from cytolite.segmentation.stitch import TileCells
from cytolite.slides.tiles import Rectangle, Tile

# Slides that a process keeps open: those in work at a time. Networks are few and stay.
_OPEN_SLIDES = 4


@dataclass
class Parcel:
    """What came of a run of tiles, on its way to the host that writes it; see `Keeper`.

    Attributes
    ----------
    parts : dict
        Content of the part file of each tile.
    damaged : list of Rectangle
        What could not be read: x, y, width and height, level-0 px.
    """

    parts: dict[Tile, bytes] = field(default_factory=dict)
    damaged: list[Rectangle] = field(default_factory=list)

    def save(self, part: TileCells) -> None:
        """Keep a tile's nuclei."""
        self.parts[part.tile] = encoded(part)

    def add_damaged(self, places: Sequence[Rectangle]) -> None:
        """Keep what could not be read."""
        self.damaged += places


@dataclass(frozen=True)
class TileWork:
    """A slide's tiles as work for any process; called with a run of tiles.

    It holds no pixels and opens nothing until it is called: then slide and network are opened, once per process.

    Attributes
    ----------
    slide : pathlib.Path
        The file, under a name by which all processes see it.
    settings : SegmentSettings
        How it is opened, and where the network runs.
    expected : Expected
        The model, and the cytolite that planned the work.
    grid : Grid
        From `Plan.grid`.
    folder : pathlib.Path
        The slide's results; parts go to the work folder beside it.
    """

    slide: Path
    settings: SegmentSettings
    expected: Expected
    grid: Grid
    folder: Path

    def __call__(self, tiles: Sequence[Tile]) -> None:
        """Do a run of tiles.

        Raises
        ------
        CytoliteError
            If this process has another cytolite or model, does not see the files, or cannot read or write something.
        """
        _opened.job(self)(tiles)

    def fetch(self, tiles: Sequence[Tile]) -> Parcel:
        """Do a run of tiles and write nothing; raises what `__call__` raises."""
        parcel = Parcel()
        replace(_opened.job(self), work=parcel)(tiles)
        return parcel

    def open(self) -> TileJob:
        """Open slide and network, and return the job; raises what `__call__` raises."""
        model = _opened.model(self)
        slide = open_as_set(self.slide, self.settings)
        embeddings = model.bundle.channels(self.settings.embeddings) > 0
        return TileJob(slide, self.grid, model.bundle, model.predictor, WorkFolder(self.folder), embeddings)


class _Opened:
    """What this process has open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: OrderedDict[TileWork, TileJob] = OrderedDict()
        self._models: dict[tuple[object, ...], Model] = {}

    def job(self, work: TileWork) -> TileJob:
        with self._lock:
            if work not in self._jobs:
                self._jobs[work] = work.open()
                # Not closed: another thread may be reading. The file is given back when the last reader lets go of it.
                while len(self._jobs) > _OPEN_SLIDES:
                    self._jobs.popitem(last=False)
            self._jobs.move_to_end(work)
            return self._jobs[work]

    def model(self, work: TileWork) -> Model:
        settings = work.settings
        key = (work.expected, settings.device, settings.precision, settings.tta)
        if key not in self._models:
            self._models[key] = Model.of(work.expected.load(), settings)
        return self._models[key]


_opened = _Opened()
