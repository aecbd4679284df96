"""What of a slide is no good to look at: out of focus, under ink, folded, covered by something dark; and its stain.

Each measure is one that can be explained and seen: of optical density at about 8 um/px, and of detail at about 1 um/px.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from cytolite.slides.folds import find_folds
from cytolite.slides.reader import Slide
from cytolite.slides.tissue import TissueMask, grow, ink, keep_parts, optical_density

# What can be wrong with a place, in the order in which it is told. Folds are suspected, the others are sure.
KINDS, _SURE = ("blur", "pen", "fold", "dark"), ("blur", "pen", "dark")
# Focus is judged in blocks of so many px of the mask of tissue (about 64 um), each read as so many px (about 1 um).
_BLOCK, _READ = 8, 8
_STRIP_BLOCKS = 32
# Limits between sharp public H&E images and the same, blurred by a Gaussian of 2 um; see docs/concepts/quality.md.
_FOCUS, _NOISE, _LEAST_DETAIL = 0.20, 1.0, 4.0
_STAINED_GREEN, _STAINED_SHARE, _BLUR_BLOCKS = 215, 0.3, 3
# A patch smaller than three blocks, told by blocks of half the side: less than this, and than so much of the slide's.
_FOCUS_PATCH, _OF_SLIDE = 0.25, 0.5
# Something opaque is near black and grey.
_DARK, _DARK_CHROMA, _DARK_UM2, _PEN_UM2 = 1.2, 0.3, 2_000.0, 10_000.0


@dataclass(frozen=True)
class Quality:
    """What was found; masks are on the grid of the mask of tissue.

    Attributes
    ----------
    artefacts : mapping of str to numpy.ndarray
        bool (h, w) for each of `KINDS`: where it is.
    grid : TissueMask
        The tissue that was judged.
    focus : float, or None
        Median of the blocks: detail at 1 um over detail at 4 um. Sharp slides have 0.45 to 1.1; ``None`` if there is
        too little tissue, or the slide is too coarse to tell.
    stain : float, or None
        Median optical density of the tissue, mean of the channels.
    saturated : float, or None
        Share of stained pixels that are 0 or 255 in some channel: what was there is lost.
    """

    artefacts: Mapping[str, NDArray[np.bool_]]
    grid: TissueMask
    focus: float | None
    stain: float | None
    saturated: float | None

    def where(self, kinds: Sequence[str] = KINDS) -> NDArray[np.bool_]:
        """Return where an artefact of these kinds, one at least, is; bool (h, w)."""
        found: NDArray[np.bool_] = np.logical_or.reduce([self.artefacts[kind] for kind in kinds])
        return found

    def share(self, kind: str) -> float:
        """Share of the tissue, 0 to 1, that has an artefact of a kind."""
        total = int(self.grid.mask.sum())
        return float((self.artefacts[kind] & self.grid.mask).sum()) / total if total else 0.0

    def outline(self, kind: str) -> shapely.MultiPolygon:
        """Return where an artefact is, in level-0 px."""
        return replace(self.grid, mask=self.artefacts[kind]).outline()

    def summary(self, mpp: float) -> dict[str, Any]:
        """Return what ``summary.json`` says of it, at `mpp` um per level-0 px."""
        kinds = {
            kind: {
                "mm2": round(replace(self.grid, mask=self.artefacts[kind]).area_mm2(mpp), 6),
                "share_of_tissue": _rounded(self.share(kind)),
            }
            for kind in KINDS
        }
        whole = int(self.grid.mask.sum())
        return {
            "artefacts": kinds,
            "tissue_share": _rounded(self.grid.area_mm2(1.0) * 1e6 / (self.grid.width_px * self.grid.height_px)),
            "artefact_share": _rounded(float((self.where() & self.grid.mask).sum()) / whole if whole else 0.0),
            "focus": _rounded(self.focus),
            "stain_od": _rounded(self.stain),
            "saturated_share": _rounded(self.saturated),
        }


def excluded_kinds(artefacts: bool, folds: bool) -> tuple[str, ...]:
    """Return the kinds that are left out.

    Parameters
    ----------
    artefacts : bool
        ``--exclude-artefacts``: what is sure.
    folds : bool
        ``--exclude-folds``.
    """
    return (*(_SURE if artefacts else ()), *(("fold",) if folds else ()))


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def assess(slide: Slide, tissue: TissueMask) -> Quality:
    """Judge a slide.

    Parameters
    ----------
    slide : Slide
        Read whole at the resolution of the mask, and where tissue is at about 1 um/px.
    tissue : TissueMask
        The tissue itself, from `find_tissue`.

    Raises
    ------
    SlideError
        If a part of the slide cannot be read.
    """
    height, width = tissue.mask.shape
    thumbnail = slide.read(0, 0, width, height, slide.mpp * tissue.scale_px)
    density = optical_density(thumbnail)
    mean = density.mean(axis=2)
    area_um2 = (slide.mpp * tissue.scale_px) ** 2
    stain = float(np.median(mean[tissue.mask])) if tissue.mask.any() else None

    pen = ink(density)
    pen = grow(keep_parts(grow(pen, 1), pen, round(_PEN_UM2 / area_um2)), 1)
    dark = (mean > _DARK) & (np.ptp(density, axis=2) < _DARK_CHROMA * mean) & ~pen
    dark = grow(keep_parts(dark, dark, max(1, round(_DARK_UM2 / area_um2))), 1)
    fold = find_folds(thumbnail, tissue.mask & ~pen & ~dark) & ~pen & ~dark
    blur, focus, saturated = _focus(slide, tissue)
    return Quality({"blur": blur, "pen": pen, "fold": fold, "dark": dark}, tissue, focus, stain, saturated)


def _focus(slide: Slide, tissue: TissueMask) -> tuple[NDArray[np.bool_], float | None, float | None]:
    """Return where tissue is out of focus, the median focus, and the share of stained pixels that are saturated."""
    height, width = tissue.mask.shape
    blocks = np.zeros((math.ceil(height / _BLOCK), math.ceil(width / _BLOCK)))
    padded = np.pad(
        tissue.mask, [(0, n * _BLOCK - side) for n, side in zip(blocks.shape, (height, width), strict=True)]
    )
    share = padded.reshape(blocks.shape[0], _BLOCK, blocks.shape[1], _BLOCK).mean(axis=(1, 3))
    mpp = slide.mpp * tissue.scale_px / _READ
    focus, halves = np.full(blocks.shape, np.nan), np.full([2 * side for side in blocks.shape], np.nan)
    stained = saturated = 0
    if slide.mpp < 1.1 * mpp:
        for rows, cols in _strips(share >= _STAINED_SHARE / 2):
            corner = [part.start * _BLOCK * tissue.scale_px for part in (cols, rows)]
            shape = [(part.stop - part.start) * _BLOCK * _READ for part in (cols, rows)]
            image = slide.read(corner[0], corner[1], shape[0], shape[1], mpp)
            detail = _detail(image, _BLOCK * _READ // 2)
            focus[rows, cols] = _ratio(*(_blocks(part, 2) for part in detail))
            halves[_twice(rows), _twice(cols)] = _ratio(*detail)
            pixels = image[image[..., 1] < _STAINED_GREEN]
            stained += len(pixels)
            saturated += int(((pixels == 0) | (pixels == 255)).any(axis=1).sum())
    judged = focus[~np.isnan(focus)]
    blurred = np.nan_to_num(focus, nan=1.0) < _FOCUS
    blurred = keep_parts(blurred, blurred, _BLUR_BLOCKS)
    median = float(np.median(judged)) if len(judged) else None
    patch = np.nan_to_num(halves, nan=1.0) < min(_FOCUS_PATCH, _OF_SLIDE * (median or 0.0))
    patch = keep_parts(patch, patch, _BLUR_BLOCKS)
    half = _BLOCK // 2
    mask = (blurred.repeat(2, 0).repeat(2, 1) | patch).repeat(half, 0).repeat(half, 1)[:height, :width]
    return mask, median, saturated / stained if stained else None


def _twice(part: slice) -> slice:
    return slice(2 * part.start, 2 * part.stop)


def _strips(wanted: NDArray[np.bool_]) -> Iterator[tuple[slice, slice]]:
    """Yield rows and columns of blocks that hold all that is wanted, few enough at a time to be read."""
    for top in range(0, wanted.shape[0], _STRIP_BLOCKS):
        for left in range(0, wanted.shape[1], _STRIP_BLOCKS):
            part = wanted[top : top + _STRIP_BLOCKS, left : left + _STRIP_BLOCKS]
            if part.any():
                rows, cols = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
                yield (
                    slice(top + int(rows[0]), top + int(rows[-1]) + 1),
                    slice(left + int(cols[0]), left + int(cols[-1]) + 1),
                )


def block_focus(image: NDArray[np.uint8], side: int) -> NDArray[np.float64]:
    """Return the focus of each block of `side` px: the mean of the Laplacian's size at 1 px over that at 4 px.

    It does not depend on how strong the stain is. A block that is mostly glass, or has no detail at all, has NaN.

    Parameters
    ----------
    image : numpy.ndarray
        uint8 (h, w, 3), RGB, at about 1 um/px; `side` divides h and w, and 4 divides `side`.
    side : int
        Of a block, px.
    """
    return _ratio(*_detail(image, side))


def _detail(
    image: NDArray[np.uint8], side: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return of each block of `side` px: detail at 1 px where it is stained, the share that is stained, and at 4 px."""
    green = image[..., 1].astype(np.float32)
    stained = green < _STAINED_GREEN
    coarse = _blocks(_laplacian(_blocks(green, 4)), side // 4)
    return _blocks(_laplacian(green) * stained, side), _blocks(stained.astype(np.float32), side), coarse


def _ratio(fine: NDArray[np.float32], n: NDArray[np.float32], coarse: NDArray[np.float32]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        # What quantisation and compression leave of a flat image is taken off.
        focus = np.maximum(fine / n - _NOISE, 0) / coarse
    return np.where((n < _STAINED_SHARE) | (coarse < _LEAST_DETAIL), np.nan, focus)


def _laplacian(image: NDArray[np.float32]) -> NDArray[np.float32]:
    padded = np.pad(image, 1, mode="edge")
    edges: NDArray[np.float32] = np.abs(
        4 * image - padded[:-2, 1:-1] - padded[2:, 1:-1] - padded[1:-1, :-2] - padded[1:-1, 2:]
    )
    return edges


def _blocks(image: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Mean of each block of `side` px."""
    height, width = image.shape
    means: NDArray[np.float32] = image.reshape(height // side, side, width // side, side).mean(axis=(1, 3))
    return means
