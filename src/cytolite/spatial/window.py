"""The window: where nuclei were looked for, as a grid of square pixels, on which every area in this room is measured.

A density needs an area and a K function needs a window; both mislead when the window is wrong. The grid makes them one
and the same: a pixel is tissue if its centre is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon

# Finer than a nucleus where the slide is small; on a large one the grid has about this many pixels.
FINEST_UM, MOST_PIXELS = 4.0, 4e6
# How far from a cell tissue is taken for granted where nobody says where it is.
REACH_UM = 50.0


@dataclass(frozen=True)
class Window:
    """A grid over the slide and which of its pixels are looked at.

    Attributes
    ----------
    mask : numpy.ndarray
        bool (h, w).
    px_um : float
        Side of a pixel.
    origin_um : tuple of float
        (x, y) of the grid's corner.
    """

    mask: NDArray[np.bool_]
    px_um: float
    origin_um: tuple[float, float]

    @property
    def area_um2(self) -> float:
        """Area of what is looked at."""
        return float(self.mask.sum()) * self.px_um**2

    def at(self, xy: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows and columns of the pixels that hold points (N, 2), (x, y) um; points beyond the grid get its border."""
        col, row = np.floor((xy - np.array(self.origin_um)) / self.px_um).astype(np.intp).T
        height, width = self.mask.shape
        return np.clip(row, 0, height - 1), np.clip(col, 0, width - 1)

    def contains(self, xy: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which points lie in the window: bool (N,)."""
        scaled = (xy - np.array(self.origin_um)) / self.px_um
        inside = ((scaled >= 0) & (scaled < self.mask.shape[::-1])).all(axis=1)
        held: NDArray[np.bool_] = inside & self.mask[self.at(xy)]
        return held

    def within(self, mask: NDArray[np.bool_]) -> Window:
        """Return the part of this window that lies in another mask of the same grid."""
        return Window(self.mask & mask, self.px_um, self.origin_um)

    def part(self, place: tuple[slice, slice]) -> Window:
        """Return the rows and columns of a place in the grid."""
        rows, cols = place
        (x, y), px = self.origin_um, self.px_um
        return Window(self.mask[place], px, (x + cols.start * px, y + rows.start * px))

    def draw(self, geometry: Polygon | MultiPolygon) -> NDArray[np.bool_]:
        """Return which pixels of the grid have their centre in a geometry (um): bool (h, w)."""
        return rasterise(geometry, self.mask.shape, self.px_um, self.origin_um)

    def set_covariance(self, reach_um: float) -> NDArray[np.float64]:
        """Area of the window that stays within it when it is shifted, um2, float64 (2k + 1, 2k + 1).

        Entry [k + i, k + j] is for a shift by i rows and j columns, up to `reach_um` and one pixel
        more. Between whole pixels it is bilinear, exactly, since the window is made of pixels.
        """
        from scipy.fft import irfft2, next_fast_len, rfft2

        k = math.ceil(reach_um / self.px_um) + 1
        rows, cols = np.flatnonzero(self.mask.any(axis=1)), np.flatnonzero(self.mask.any(axis=0))
        part = self.mask[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1].astype(np.float32)
        shape = [next_fast_len(side + k, real=True) for side in part.shape]
        spectrum = rfft2(part, shape)
        covariance = irfft2(np.abs(spectrum) ** 2, shape)
        shifts = np.arange(-k, k + 1)
        pairs: NDArray[np.float64] = np.rint(covariance[np.ix_(shifts, shifts)]).astype(np.float64) * self.px_um**2
        return pairs


def window_of(geometry: Polygon | MultiPolygon) -> Window:
    """Return the window of a geometry (um), as far as it lies right of and below the slide's corner.

    Pixels are at whole multiples of their side from that corner.
    """
    left, top, right, bottom = (max(0.0, bound) for bound in geometry.bounds)
    px = max(FINEST_UM, math.sqrt((right - left) * (bottom - top) / MOST_PIXELS))
    px = float(f"{px:.2g}")
    left, top = math.floor(left / px) * px, math.floor(top / px) * px
    shape = (math.ceil((bottom - top) / px) + 1, math.ceil((right - left) / px) + 1)
    return Window(rasterise(geometry, shape, px, (left, top)), px, (left, top))


def window_of_cells(xy: NDArray[np.float64], reach_um: float = REACH_UM) -> Window:
    """Return what lies within `reach_um` of a cell: a stand-in where no tissue is known.

    Cells that stand alone get a disk of their own, so wide gaps without nuclei (fat, necrosis, mucus) are left out.

    Parameters
    ----------
    xy : numpy.ndarray
        float64 (N, 2), um, N at least 1.
    reach_um : float
        How far from a cell there is tissue.
    """
    from scipy.ndimage import distance_transform_edt

    corner, far = xy.min(axis=0) - reach_um, xy.max(axis=0) + reach_um
    empty = window_of(shapely.box(*corner, *far))
    taken = np.zeros_like(empty.mask)
    taken[empty.at(xy)] = True
    return empty.within(distance_transform_edt(~taken) * empty.px_um <= reach_um)


def rasterise(
    geometry: Polygon | MultiPolygon, shape: tuple[int, int], px_um: float, origin_um: tuple[float, float]
) -> NDArray[np.bool_]:
    """Return which pixels have their centre inside a geometry: bool (h, w). Holes stay open.

    Parameters
    ----------
    geometry : shapely.geometry.Polygon or shapely.geometry.MultiPolygon
        In um.
    shape : (int, int)
        Rows and columns of the grid.
    px_um : float
        Side of a pixel.
    origin_um : (float, float)
        (x, y) of the grid's corner.
    """
    height, width = shape
    rings = [r for part in shapely.get_parts(geometry) for r in (part.exterior, *part.interiors)]
    flips = np.zeros((height, width + 1), np.uint8)
    for ring in rings:
        # In pixels, centres at whole numbers.
        x, y = (shapely.get_coordinates(ring).T - np.array(origin_um)[:, None]) / px_um - 0.5
        upper, lower = np.minimum(y[:-1], y[1:]), np.maximum(y[:-1], y[1:])
        first = np.clip(np.ceil(upper), 0, height).astype(np.intp)
        count = np.clip(np.ceil(lower), 0, height).astype(np.intp) - first  # rows whose centres an edge passes
        edge = np.repeat(np.arange(len(count)), count)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
        slope = (x[1:] - x[:-1])[edge] / (y[1:] - y[:-1])[edge]
        col = np.clip(np.ceil(x[edge] + (row - y[edge]) * slope), 0, width).astype(np.intp)
        np.add.at(flips, (row, col), 1)
    # A pixel is inside if an odd number of edges lies left of it.
    odd: NDArray[np.bool_] = np.cumsum(flips[:, :width], axis=1, dtype=np.uint8) % 2 == 1
    return odd
