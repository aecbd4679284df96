"""What may be wrong with a result although nothing failed: resolution, stains, nuclei that cannot be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolite.cells import CellTable
from cytolite.classifier import Unlike
from cytolite.interop.summary import Area
from cytolite.segmentation.plan import Plan
from cytolite.slides.quality import Quality
from cytolite.slides.reader import Slide
from cytolite.slides.stains import SAMPLE_MPP, not_he
from cytolite.slides.tiles import Rectangle

_OTHER_MPP, _ENLARGED = 0.10, 1.5
_SMALLEST_UM2, _LARGEST_UM2, _LEAST_PER_MM2 = 8.0, 200.0, 50.0
# Less tells nothing of the median, or of a density of 50 per mm2.
_LEAST_CELLS, _LEAST_MM2 = 20, 0.1
_SAMPLES, _SAMPLE_UM = 16, 512.0
_MOST_NAMED = 3
_QUESTION = "is the resolution right? Usual are 0.25 µm/px for 40x, 0.5 for 20x and 1 for 10x (--mpp)"

# Of artefacts: more than this share of the tissue is worth a word. H&E here has a median density of 0.34 to 0.51.
# Folds are narrow: less of them is worth one.
_MUCH, _MUCH_FOLDED, _PALE_OD = 0.05, 0.01, 0.15
_ARTEFACTS = {
    "blur": "is out of focus",
    "pen": "is under ink",
    "fold": "may be folded",
    "dark": "is under something dark",
}


@dataclass(frozen=True)
class Warned:
    """A warning of a run.

    Attributes
    ----------
    code : str
        For programs: stays the same while words may change.
    message : str
        A sentence for the user.
    """

    code: str
    message: str


@dataclass
class SizeTally:
    """How many of the nuclei are smaller or larger than most can be; gathered table by table."""

    cells: int = 0
    small: int = 0
    large: int = 0

    def add(self, table: CellTable) -> None:
        """Count the rows of `table`."""
        self.cells += len(table)
        self.small += int((table.area_um2 < _SMALLEST_UM2).sum())
        self.large += int((table.area_um2 > _LARGEST_UM2).sum())


def check_plan(plan: Plan, slide: Slide, areas: Sequence[Area]) -> Iterator[Warned]:
    """Warn of what the plan and the slide show: resolution, stains, no tissue. Reads up to 16 parts of the slide.

    Parameters
    ----------
    plan : Plan
        What shall be done.
    slide : Slide
        Open.
    areas : sequence of Area
        From `Plan.areas_mm2`.
    """
    if slide.file_mpp is not None and abs(slide.mpp / slide.file_mpp - 1) > _OTHER_MPP:
        yield Warned(
            "mpp_differs",
            f"--mpp {slide.mpp:g} was used, but the file says {slide.file_mpp:.4g} µm/px: "
            "sizes and densities follow --mpp",
        )
    # Of the maps, in whose resolution nuclei are found: a network may read finer than it answers.
    if slide.mpp / plan.map_mpp > _ENLARGED - 1e-9:
        yield Warned(
            "enlarged",
            f"the slide has {slide.mpp:.3g} µm/px and was enlarged {slide.mpp / plan.map_mpp:.1f} times: "
            "nuclei are found worse than at 0.5 µm/px (20x) and finer",
        )
    if not plan.searched.mask.any():
        yield Warned("no_tissue", "no tissue was found, so there are no cells; --tissue all works on the whole slide")
    elif not plan.tiles:
        yield Warned(
            "no_tissue", "no tissue was found in the regions, so there are no cells; --tissue all works on all of them"
        )
    pairs = zip(plan.regions or [], areas, strict=False)
    empty = [repr(region.name) for region, area in pairs if plan.tiles and area.searched_mm2 == 0]
    if len(empty) > _MOST_NAMED:
        named, more = ", ".join(empty[:_MOST_NAMED]), len(empty) - _MOST_NAMED
        yield Warned("empty_region", f"{len(empty):,} regions hold no tissue of this slide: {named} and {more:,} more")
    else:
        yield from (Warned("empty_region", f"the region {name} holds no tissue of this slide") for name in empty)
    if odd := not_he(_samples(plan, slide)):
        yield Warned("not_he", f"this does not look like H&E: {odd}; types and counts may mean nothing")


def damage(places: Sequence[Rectangle], mpp: float) -> dict[str, Any]:
    """Return what a summary says of what could not be read: x, y, width, height of places, level-0 px; {} of none.

    Parameters
    ----------
    places : sequence of Rectangle
        x, y, width, height, level-0 px.
    mpp : float
        Of the slide, um per pixel.
    """
    if not places:
        return {}
    area = sum(width * height for _, _, width, height in places) * mpp**2 / 1e6
    return {"damaged": {"tiles": len(places), "mm2": round(area, 6), "places": [list(place) for place in places]}}


def check_damage(places: Sequence[Rectangle], mpp: float) -> Iterator[Warned]:
    """Warn of what could not be read and was left out.

    Parameters
    ----------
    places : sequence of Rectangle
        x, y, width, height, level-0 px.
    mpp : float
        Of the slide, um per pixel.
    """
    if places:
        lost = damage(places, mpp)["damaged"]["mm2"]
        yield Warned(
            "damaged",
            f"{len(places):,} damaged tiles of the file ({lost:.4g} mm²) could not be read and were left out",
        )


def check_quality(quality: Quality | None) -> Iterator[Warned]:
    """Warn of tissue that is no good to look at, and of a stain or a light that hides things."""
    if quality is None:
        return
    for kind, what in _ARTEFACTS.items():
        much, option = (_MUCH_FOLDED, "--exclude-folds") if kind == "fold" else (_MUCH, "--exclude-artefacts")
        if (share := quality.share(kind)) > much:
            yield Warned(kind, f"{share:.0%} of the tissue {what}; {option} leaves such parts out")
    if quality.stain is not None and quality.stain < _PALE_OD:
        yield Warned("pale", f"the stain is pale (optical density {quality.stain:.2g}): nuclei may be missed")
    if quality.saturated is not None and quality.saturated > _MUCH:
        lost = f"{quality.saturated:.0%} of the stained pixels are 0 or 255 in a channel"
        yield Warned("saturated", f"{lost}: the scan is over- or underexposed")


def check_result(area: Area, sizes: SizeTally) -> Iterator[Warned]:
    """Warn of nuclei that cannot be: too small, too large, too few, or none.

    Parameters
    ----------
    area : Area
        Searched, and of tissue.
    sizes : SizeTally
        Of the nuclei found.
    """
    n = sizes.cells
    if area.searched_mm2 > 0 and area.tissue_mm2 == 0:
        yield Warned("no_stained_tissue", "nothing is stained as tissue is, so there are no densities")
    if n >= _LEAST_CELLS and 2 * max(sizes.small, sizes.large) > n:
        what = f"smaller than {_SMALLEST_UM2:g}" if sizes.small > sizes.large else f"larger than {_LARGEST_UM2:g}"
        yield Warned("nuclei_size", f"more than half of the nuclei are {what} µm²: {_QUESTION}")
    if area.tissue_mm2 >= _LEAST_MM2 and n < _LEAST_PER_MM2 * area.tissue_mm2:
        found = "1 nucleus was" if n == 1 else f"{n:,} nuclei were"
        yield Warned("nuclei_few", f"only {found} found in {area.tissue_mm2:.2f} mm² of tissue: {_QUESTION}")
    elif n == 0 and area.searched_mm2 > 0:
        yield Warned("no_nuclei", "no nuclei were found")


def check_taught(unlike: Unlike | None) -> Iterator[Warned]:
    """Warn of a slide that is unlike those that a taught model has seen."""
    if unlike is not None and (sentence := unlike.sentence()):
        yield Warned("unlike_taught", sentence)


def _samples(plan: Plan, slide: Slide) -> list[NDArray[np.uint8]]:
    """Read parts of tiles that lie evenly among all, at `SAMPLE_MPP`."""
    count = min(_SAMPLES, len(plan.tiles))
    chosen = [plan.tiles[i] for i in np.linspace(0, len(plan.tiles) - 1, count).round().astype(int)] if count else []
    samples = []
    for tile in chosen:
        (left, top), (right, bottom) = (
            [pick(a, b) * plan.scale for a, b in zip(tile.core[i : i + 2], tile.read[i : i + 2], strict=True)]
            for pick, i in ((max, 0), (min, 2))
        )
        right, bottom = min(right, slide.width_px), min(bottom, slide.height_px)
        mpp = max(SAMPLE_MPP, slide.mpp)
        width, height = (int(min(side * slide.mpp, _SAMPLE_UM) / mpp) for side in (right - left, bottom - top))
        if width > 0 and height > 0:
            samples.append(slide.read(left, top, width, height, mpp))
    return samples
