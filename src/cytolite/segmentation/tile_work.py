"""Tiles as values: what has to be known to work on a slide's tiles in any process that sees the files."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from cytolite.bundle import load_bundle
from cytolite.config import SegmentSettings
from cytolite.errors import BundleError, InputError
from cytolite.inference.predictor import Model
from cytolite.segmentation.checkpoint import WorkFolder
from cytolite.segmentation.opening import open_as_set
from cytolite.segmentation.plan import Grid
from cytolite.segmentation.slide import TileJob
from cytolite.slides.tiles import Tile

# Slides that a process keeps open: those in work at a time. Networks are few and stay.
_OPEN_SLIDES = 4


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
    bundle : pathlib.Path
        Folder of the model.
    bundle_sha256 : str
        Of its network: another one there would find other nuclei.
    grid : Grid
        From `Plan.grid`.
    folder : pathlib.Path
        The slide's results; parts go to the work folder beside it.
    version : str
        Of cytolite, where the work was planned.
    """

    slide: Path
    settings: SegmentSettings
    bundle: Path
    bundle_sha256: str
    grid: Grid
    folder: Path
    version: str

    def __call__(self, tiles: Sequence[Tile]) -> None:
        """Do a run of tiles.

        Raises
        ------
        CytoliteError
            If this process has another cytolite or model, does not see the files, or cannot read or write something.
        """
        _opened.job(self)(tiles)

    def open(self) -> TileJob:
        """Open slide and network, and return the job; raises what `__call__` raises."""
        model = _opened.model(self)
        slide = open_as_set(self.slide, self.settings)
        embeddings = model.bundle.channels(self.settings.embeddings) > 0
        return TileJob(slide, self.grid, model.bundle, model.predictor, WorkFolder(self.folder), embeddings)

    def load_model(self) -> Model:
        """Load the model, if it and this cytolite are those that the work was planned with."""
        if (here := version("cytolite")) != self.version:
            raise InputError(
                f"A worker has cytolite {here}, the run was started with {self.version}: install the same on all hosts."
            )
        bundle = load_bundle(str(self.bundle))
        if bundle.sha256 != self.bundle_sha256:
            raise BundleError(f"A worker has another network in {self.bundle} than the run was started with.")
        return Model.of(bundle, self.settings)


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
        key = (work.bundle, work.bundle_sha256, work.version, settings.device, settings.precision, settings.tta)
        if key not in self._models:
            self._models[key] = work.load_model()
        return self._models[key]


_opened = _Opened()
