"""Where the tissue of a slide is, from a thumbnail of about 8 um/px."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import NDArray

from cytolite.kernels import kernel
from cytolite.slides.reader import Slide

MASK_MPP = 8.0

# Stain is measured in optical density. Fixed floors, not Otsu: an image filled with tissue must not be split into
# its darker and paler half, and an empty one not into two kinds of white.
_STAIN_WEAK, _STAIN_STRONG = 0.030, 0.075
# Tissue is darker than glass by at least this, as the mean of the channels; the coloured rim that JPEG leaves is not.
_TISSUE_LEAST = 0.06
# Near black, noise has density too: colour must also be this many grey levels.
_LEAST_COLOUR = 6
# Glass is at most this far from grey and at least this bright; what is left of its tint is taken off.
_GLASS_BRIGHT, _GLASS_CHROMA, _GLASS_LEAST = 200, 16, 0.005
# Pens: blue and green ink absorb more red than green light, which tissue never does by much. (Green and black have
# no stain in the sense above; red ink cannot be told from red cells.)
_INK_RED, _INK_LEAST = 1.25, 0.1
_SMALLEST_UM2, _LARGEST_HOLE_UM2 = 2_000.0, 60_000.0
_CLOSE_UM, _GROW_UM = 24.0, 16.0
# An image no larger than this is a field that somebody chose: it is tissue as a whole if this share of it is.
_FIELD_MM2, _FIELD_STAINED = 0.3, 0.002


@dataclass(frozen=True)
class TissueMask:
    """A part of a slide, where nuclei are searched or where tissue is.

    Attributes
    ----------
    mask : numpy.ndarray
        bool (h, w); pixel (r, c) covers ``scale_px`` level-0 px on each side, from ``c * scale_px``, ``r * scale_px``.
    scale_px : float
        Level-0 px per mask px.
    width_px, height_px : int
        Of the slide; the last column and row of the mask may reach beyond.
    """

    mask: NDArray[np.bool_]
    scale_px: float
    width_px: int
    height_px: int

    @classmethod
    def whole(cls, slide: Slide) -> TissueMask:
        """Return the mask that takes all of the slide."""
        scale = _mask_scale(slide)
        shape = (math.ceil(slide.height_px / scale), math.ceil(slide.width_px / scale))
        return cls(np.ones(shape, np.bool_), float(scale), slide.width_px, slide.height_px)

    def area_mm2(self, mpp: float) -> float:
        """Area of the mask within the slide, at `mpp` um per level-0 px; exact at the slide's right and bottom."""
        rows = _clipped_sizes(self.mask.shape[0], self.scale_px, self.height_px)
        cols = _clipped_sizes(self.mask.shape[1], self.scale_px, self.width_px)
        return float(rows @ (self.mask @ cols)) * mpp**2 / 1e6

    def without(self, places: Sequence[tuple[int, int, int, int]]) -> TissueMask:
        """Return the mask without some rectangles (x, y, width, height, level-0 px), and without the px around them.

        A nucleus at the edge of what could not be read may be cut by it: its middle lies at most one mask px away.
        """
        mask = self.mask.copy()
        for x, y, width, height in places:
            rows, cols = (
                slice(max(0, math.floor(start / self.scale_px) - 1), math.ceil((start + size) / self.scale_px) + 1)
                for start, size in ((y, height), (x, width))
            )
            mask[rows, cols] = False
        return replace(self, mask=mask)

    def minus(self, mask: NDArray[np.bool_]) -> TissueMask:
        """Return the mask without what another of its shape, bool (h, w), has."""
        return replace(self, mask=self.mask & ~mask)

    def contains(self, xy: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether points (N, 2), (x, y) in level-0 px, lie in the mask; bool (N,)."""
        col, row = np.floor(np.asarray(xy, np.float64) / self.scale_px).astype(np.int64).T
        height, width = self.mask.shape
        inside = (col >= 0) & (row >= 0) & (col < width) & (row < height)
        found = np.zeros(len(inside), np.bool_)
        found[inside] = self.mask[row[inside], col[inside]]
        return found

    def bounds_within(
        self, left: float, top: float, right: float, bottom: float
    ) -> tuple[float, float, float, float] | None:
        """Return the smallest (left, top, right, bottom) that holds what a rectangle has of it, or None; level-0 px.

        Edges are those of mask pixels, so they may lie a little outside of the rectangle.

        Parameters
        ----------
        left, top, right, bottom : float
            Of the rectangle, level-0 px.
        """
        first_row, first_col = (max(0, math.floor(start / self.scale_px)) for start in (top, left))
        last_row, last_col = (max(0, math.ceil(end / self.scale_px)) for end in (bottom, right))
        part = self.mask[first_row:last_row, first_col:last_col]
        if not part.any():
            return None
        rows, cols = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
        return (
            (first_col + int(cols[0])) * self.scale_px,
            (first_row + int(rows[0])) * self.scale_px,
            (first_col + int(cols[-1]) + 1) * self.scale_px,
            (first_row + int(rows[-1]) + 1) * self.scale_px,
        )

    def outline(self) -> shapely.MultiPolygon:
        """Return the mask as polygons along its pixels' edges, holes kept, within the slide; level-0 px."""
        labels, count = number_parts(self.mask)
        vertices, offsets, owners = _trace(labels)
        vertices = np.minimum(vertices * self.scale_px, [self.width_px, self.height_px])
        shells: list[NDArray[np.float64]] = [np.empty((0, 2))] * count
        holes: list[list[NDArray[np.float64]]] = [[] for _ in range(count)]
        for start, stop, owner in zip(offsets[:-1], offsets[1:], owners, strict=True):
            ring = vertices[start:stop]
            x, y = ring.T
            if x @ np.roll(y, -1) > np.roll(x, -1) @ y:
                shells[owner - 1] = ring
            else:
                holes[owner - 1].append(ring)
        return shapely.MultiPolygon([shapely.Polygon(*rings) for rings in zip(shells, holes, strict=True)])


def _mask_scale(slide: Slide) -> int:
    return max(1, round(MASK_MPP / slide.mpp))


def _clipped_sizes(count: int, scale: float, length: int) -> NDArray[np.float64]:
    """Level-0 px of each mask row or column that lie within the slide."""
    edges = np.minimum(np.arange(count + 1) * scale, length)
    return np.diff(edges)


def find_tissue(slide: Slide) -> tuple[TissueMask, TissueMask]:
    """Find where nuclei are to be searched, and the tissue itself, on white, grey or black ground.

    Pens, dust and empty glass are left out of both. In the first, holes up to 0.06 mm2 are filled, and it reaches 16 um
    beyond what is stained, so that no nucleus at an edge is lost; an image of at most 0.3 mm2 that is not blank is
    searched as a whole, fat and lumina included. The second is what densities are counted on: the part of the first
    that is stained, neither grown nor closed nor filled. A blank slide gives empty masks.

    Parameters
    ----------
    slide : Slide
        Read at about 8 um/px.
    """
    scale = _mask_scale(slide)
    height, width = math.ceil(slide.height_px / scale), math.ceil(slide.width_px / scale)
    thumbnail = slide.read(0, 0, width, height, slide.mpp * scale)
    searched, tissue = (
        TissueMask(mask, float(scale), slide.width_px, slide.height_px) for mask in _find(thumbnail, slide.mpp * scale)
    )
    return searched, tissue


def _find(image: NDArray[np.uint8], mpp: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return where to search in a thumbnail uint8 (h, w, 3), and its tissue; both bool (h, w)."""
    density = optical_density(image)
    stain = density[..., 1] - np.minimum(density[..., 0], density[..., 2])
    inked = ink(density)
    coloured = image[..., ::2].max(axis=2) >= image[..., 1].astype(np.int16) + _LEAST_COLOUR
    weak = (stain > _STAIN_WEAK) & coloured & ~inked
    strong = (stain > _STAIN_STRONG) & weak
    if stain.size * mpp**2 <= _FIELD_MM2 * 1e6:
        mask = np.full(strong.shape, strong.mean() >= _FIELD_STAINED)
    else:
        mask = keep_parts(weak, strong, 1)
        mask = _close(mask, round(_CLOSE_UM / mpp)) & ~grow(inked, 1)
        mask = keep_parts(mask, mask, round(_SMALLEST_UM2 / mpp**2))
        mask = _fill_holes(mask, round(_LARGEST_HOLE_UM2 / mpp**2))
        mask = grow(mask, max(1, round(_GROW_UM / mpp)))
    return mask, mask & weak & (density.mean(axis=2) > _TISSUE_LEAST)


def ink(density: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where a pen of blue or green ink drew, bool (h, w), by optical density (h, w, 3)."""
    return (density[..., 0] > _INK_RED * density[..., 1]) & (density[..., 0] > _INK_LEAST)


def optical_density(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Optical density per channel relative to the glass, 0 or more, float32 (h, w, 3)."""
    # + 4: bounded near black.
    density: NDArray[np.float32] = np.maximum(np.log((glass_colour(image) + 4) / (image.astype(np.float32) + 4)), 0)
    return density


def glass_colour(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Colour of the empty glass, float32 (3,); white where the image shows too little of it to tell."""
    bright = (image.min(axis=2) >= _GLASS_BRIGHT) & (np.ptp(image, axis=2) <= _GLASS_CHROMA)
    # Pure white is what scanners and readers put where nothing was scanned.
    bright &= image.min(axis=2) < 250
    if bright.sum() < max(16, _GLASS_LEAST * bright.size):
        return np.full(3, 255, np.float32)
    values = image[bright]
    # The brightest glass: pale tissue is darker than it.
    level = values.sum(axis=1)
    glass: NDArray[np.float32] = np.median(values[level >= np.percentile(level, 50)], axis=0).astype(np.float32)
    return glass


def grow(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Dilate by an octagon of about `radius` px: squares and diamonds in turn.

    Parameters
    ----------
    mask : numpy.ndarray
        bool (h, w).
    radius : int
        In px of the mask.
    """
    for step in range(radius):
        grown = mask.copy()
        for axis in (0, 1):
            # A square is a step along the rows of what was stepped along the columns; a diamond is not.
            source = grown.copy() if step % 2 == 0 else mask
            ahead, behind = [slice(None)] * 2, [slice(None)] * 2
            ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
            grown[tuple(ahead)] |= source[tuple(behind)]
            grown[tuple(behind)] |= source[tuple(ahead)]
        mask = grown
    return mask


def _close(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Grow and shrink again: gaps up to twice `radius` px are bridged; the image's border does not shrink."""
    padded = np.pad(mask, radius, mode="edge") if radius else mask
    closed = ~grow(~grow(padded, radius), radius)
    return closed[radius : closed.shape[0] - radius, radius : closed.shape[1] - radius] if radius else closed


def keep_parts(mask: NDArray[np.bool_], seeds: NDArray[np.bool_], least_px: int) -> NDArray[np.bool_]:
    """Return the connected parts of `mask` that hold a seed and at least `least_px` pixels.

    A quarter of it is enough at the image's border, beyond which a part goes on.

    Parameters
    ----------
    mask : numpy.ndarray
        bool (h, w).
    seeds : numpy.ndarray
        bool (h, w).
    least_px : int
        Of a part, px of the mask.
    """
    labels, count = number_parts(mask)
    size = np.bincount(labels.ravel(), minlength=count + 1)
    seeded = np.bincount(labels[seeds], minlength=count + 1) > 0
    keep: NDArray[np.bool_] = size >= least_px
    for border in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        keep[border] |= size[border] >= least_px / 4
    keep &= seeded
    keep[0] = False
    kept: NDArray[np.bool_] = keep[labels]
    return kept


def _fill_holes(mask: NDArray[np.bool_], largest_px: int) -> NDArray[np.bool_]:
    """Fill the holes of up to `largest_px` pixels; what touches the border is no hole."""
    labels, count = number_parts(~mask)
    fill = np.bincount(labels.ravel(), minlength=count + 1) <= largest_px
    for border in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        fill[border] = False
    fill[0] = False
    filled: NDArray[np.bool_] = mask | fill[labels]
    return filled


@kernel
def number_parts(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Number the 4-connected parts of a mask 1..n by flood fill; int32 (h, w) and n."""
    height, width = mask.shape
    labels = np.zeros((height, width), np.int32)
    stack = np.empty(height * width, np.int64)
    count = 0
    for start in range(height * width):
        if not mask[start // width, start % width] or labels[start // width, start % width]:
            continue
        count += 1
        labels[start // width, start % width] = count
        stack[0] = start
        top = 1
        while top:
            top -= 1
            r, c = stack[top] // width, stack[top] % width
            for dr, dc in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                rr, cc = r + dr, c + dc
                if 0 <= rr < height and 0 <= cc < width and mask[rr, cc] and not labels[rr, cc]:
                    labels[rr, cc] = count
                    stack[top] = rr * width + cc
                    top += 1
    return labels, count


@kernel
def _trace(labels: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """Trace the edges of 4-connected parts; return corners (x, y) int64 (V, 2), offsets (R + 1,) and labels (R,).

    A ring has its part at its right hand, so holes run the other way round; each visits a corner at most once: where
    it would touch itself, it is cut in two, as valid polygons want it.
    """
    height, width = labels.shape
    steps = ((0, 1), (1, 0), (0, -1), (-1, 0))  # along the upper, right, lower and left edge of a pixel: (row, column)
    seen = np.zeros((height, width, 4), np.bool_)
    place = np.full((height + 1, width + 1), -1, np.int64)
    corners, ends, owners = [(0, 0) for _ in range(0)], [0], [np.int32(0) for _ in range(0)]
    path = [(0, 0) for _ in range(0)]
    for start in range(height * width):
        r, c = start // width, start % width
        owner = labels[r, c]
        if not owner or seen[r, c, 0] or (r and labels[r - 1, c] == owner):
            continue
        way = 0
        while not seen[r, c, way]:
            # The corner where this edge begins; only where the ring turns.
            y, x = r + (way >= 2), c + (1 <= way <= 2)
            if place[y, x] >= 0:
                first = place[y, x]
                for corner in path[first:]:
                    place[corner[1], corner[0]] = -1
                    corners.append(corner)
                ends.append(len(corners))
                owners.append(owner)
                del path[first:]
            place[y, x] = len(path)
            path.append((x, y))
            turned = False
            while not turned:
                seen[r, c, way] = True
                dr, dc = steps[way]
                ahead_r, ahead_c = r + dr, c + dc
                side_r, side_c = ahead_r + steps[way - 1][0], ahead_c + steps[way - 1][1]
                if not (0 <= ahead_r < height and 0 <= ahead_c < width and labels[ahead_r, ahead_c] == owner):
                    way, turned = (way + 1) % 4, True
                elif 0 <= side_r < height and 0 <= side_c < width and labels[side_r, side_c] == owner:
                    r, c, way, turned = side_r, side_c, (way + 3) % 4, True
                else:
                    r, c = ahead_r, ahead_c
        for corner in path:
            place[corner[1], corner[0]] = -1
            corners.append(corner)
        ends.append(len(corners))
        owners.append(owner)
        path.clear()
    found = np.empty((len(corners), 2), np.int64)
    for i in range(len(corners)):
        found[i, 0], found[i, 1] = corners[i]
    return found, np.array(ends), np.array(owners)
