"""What is known of a slide before a run: the file, its tissue, its quality, and how long a run would take here."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cytolite import machine
from cytolite.drawing.overview import draw_slide
from cytolite.errors import CytoliteError
from cytolite.inference.predictor import Model
from cytolite.interop.cohort import quality_columns
from cytolite.names import as_text, one_line
from cytolite.segmentation.checks import check_plan, check_quality
from cytolite.segmentation.memory import Kept
from cytolite.segmentation.opening import open_as_set
from cytolite.segmentation.plan import Plan, plan_slide
from cytolite.segmentation.slide import TileJob
from cytolite.segmentation.slide_list import Entry
from cytolite.slides.reader import Slide

_PICTURE_PX = 1600


@dataclass(frozen=True)
class SlideInfo:
    """A slide as it is, or why it cannot be used (`error`; the rest is empty then). Areas are in mm2."""

    slide: str
    error: str = ""
    id: str = ""
    format: str = ""
    width_px: int = 0
    height_px: int = 0
    levels: tuple[float, ...] = ()
    mpp: float | None = None
    mpp_from: Literal["", "file", "given"] = ""
    magnification: float | None = None
    scanner: str = ""
    tissue_mm2: float = 0.0
    tiles: int = 0
    expected_s: float | None = None
    qc: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """Return it flat, for tables."""
        row = asdict(self)
        row["levels"] = " ".join(f"{level:g}" for level in self.levels)
        row["warnings"] = "; ".join(self.warnings)
        return row | quality_columns(row.pop("qc"))


class Looker:
    """Looks at slides, and measures once for each model how fast it is on one of their tiles.

    Parameters
    ----------
    model : callable
        Gives the model of some settings.
    timed : bool
        Whether to measure; it takes the time of a tile or two.
    pictures : pathlib.Path, optional
        Folder for a picture of each slide.
    """

    def __init__(self, model: Callable[[Any], Model], *, timed: bool = True, pictures: Path | None = None) -> None:
        self._model, self._timed, self._pictures = model, timed, pictures
        self._seconds_per_px: dict[tuple[Any, ...], float] = {}

    def look(self, entry: Entry, name: str) -> SlideInfo:
        """Return what there is to know; `name` is that of its picture.

        Parameters
        ----------
        entry : Entry
            The slide and its settings.
        name : str
            Of its picture.
        """
        try:
            with open_as_set(entry.path, entry.settings) as slide:
                return self._look(entry, name, slide)
        except CytoliteError as error:
            return SlideInfo(as_text(entry.path), str(error), entry.id)

    def _look(self, entry: Entry, name: str, slide: Slide) -> SlideInfo:
        model = self._model(entry.settings)
        plan = plan_slide(slide, model.bundle, entry.settings, judged=True)
        quality = plan.quality
        assert quality is not None
        areas = plan.areas_mm2()
        tissue_mm2 = sum(area.tissue_mm2 for area in areas)
        size = f"{slide.width_px:,} x {slide.height_px:,} px, {slide.mpp:.4g} µm/px"
        if self._pictures is not None:
            draw_slide(
                self._pictures / f"{name}.png", slide.thumbnail(_PICTURE_PX), slide.thumbnail_scale(_PICTURE_PX),
                mpp=slide.mpp, tissue=plan.tissue.mask, tissue_scale_px=plan.tissue.scale_px,
                artefacts=quality.artefacts, title=one_line(slide.path.name),
                line=f"{size}, {tissue_mm2:.2f} mm² of tissue",
            )  # fmt: skip
        warned = [*check_plan(plan, slide, areas), *check_quality(quality)]
        return SlideInfo(
            as_text(entry.path), "", entry.id, slide.format, slide.width_px, slide.height_px,
            tuple(max(pair) for pair in slide.downsamples), slide.mpp,
            "given" if entry.settings.mpp is not None else "file", slide.scan.magnification, slide.scan.scanner,
            round(tissue_mm2, 4), len(plan.tiles), self._expected_s(model, plan, slide, entry),
            quality.summary(slide.mpp), (*slide.notes, *(warning.message for warning in warned)),
        )  # fmt: skip

    def _expected_s(self, model: Model, plan: Plan, slide: Slide, entry: Entry) -> float | None:
        """Seconds of all tiles at the pace of the middle one, shared among the workers, without start and end."""
        if not self._timed:
            return None
        if not plan.tiles:
            return 0.0
        key = (model.bundle.sha256, model.device, model.arithmetic, model.tta)
        if key not in self._seconds_per_px:
            job = TileJob(slide, plan.grid, model.bundle, model.predictor, Kept())
            tile = plan.tiles[len(plan.tiles) // 2]
            model.predictor.maps(np.zeros((1, 64, 64, 3), np.uint8))  # what the first call alone takes is not counted
            job([tile])  # nor what compiled functions take
            start = time.perf_counter()
            job([tile])
            self._seconds_per_px[key] = (time.perf_counter() - start) / (tile.width * tile.height)
        px = sum(tile.width * tile.height for tile in plan.tiles)
        workers = entry.settings.workers or machine.cores()
        return float(f"{px * self._seconds_per_px[key] / min(workers, machine.cores(), len(plan.tiles)):.2g}")
