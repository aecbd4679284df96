"""Counts on hexagons or squares, and where they are higher or lower than chance allows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import shapely
from numpy.typing import NDArray

from cytolite.spatial.definition import measure
from cytolite.spatial.window import Window

Shape = Literal["hexagon", "square"]
# A tile of which less is tissue says little of the tissue's density.
LEAST_TISSUE = 0.25
FALSE_DISCOVERIES = 0.05
_HEXAGON = ((1, 0), (0, 1), (-1, 1), (-1, 0), (0, -1), (1, -1))
_SQUARE = ((1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1))


@dataclass(frozen=True)
class Tiles:
    """A tiling of the window; tile k is at `keys[k]`.

    Attributes
    ----------
    shape : str
    side_um : float
        Width of a tile: between two opposite sides.
    origin_um : tuple of float
        Centre of the tile (0, 0).
    keys : numpy.ndarray
        int64 (K, 2), sorted: axial coordinates of hexagons (q, r), or column and row of squares.
    tissue_um2 : numpy.ndarray
        float64 (K,).
    """

    shape: Shape
    side_um: float
    origin_um: tuple[float, float]
    keys: NDArray[np.int64]
    tissue_um2: NDArray[np.float64]

    @property
    def tile_um2(self) -> float:
        """Area of a whole tile."""
        return self.side_um**2 * (math.sqrt(3) / 2 if self.shape == "hexagon" else 1)

    def find(self, xy: NDArray[np.float64]) -> NDArray[np.intp]:
        """Index of the tile that holds each point, intp (N,), -1 where that tile is left out."""
        return self.lookup(_keys(xy, self.shape, self.side_um, self.origin_um))

    def lookup(self, keys: NDArray[np.int64]) -> NDArray[np.intp]:
        """Index of each key (N, 2), -1 where there is no such tile."""
        if not len(self.keys):
            return np.full(len(keys), -1, np.intp)
        own_codes, wanted = _code(self.keys), _code(keys)
        at = np.minimum(np.searchsorted(own_codes, wanted), len(own_codes) - 1)
        return np.where(own_codes[at] == wanted, at, -1)

    def counts(self, tile: NDArray[np.intp], types: NDArray[np.integer], n_types: int) -> NDArray[np.float64]:
        """Cells by tile (as `find` gives it) and type: float64 (K, T).

        Parameters
        ----------
        tile : numpy.ndarray
            intp (N,), -1 where the tile is left out.
        types : numpy.ndarray
            Integers (N,), 0 to `n_types` - 1.
        n_types : int
            T.
        """
        flat = (tile * n_types + types)[tile >= 0]
        return np.bincount(flat, minlength=len(self.keys) * n_types).reshape(-1, n_types).astype(np.float64)

    def neighbours(self) -> NDArray[np.intp]:
        """Indices of the tiles around each: intp (K, 6 or 8), -1 where there is none."""
        steps = _HEXAGON if self.shape == "hexagon" else _SQUARE
        return np.column_stack([self.lookup(self.keys + np.array(step)) for step in steps])

    def centres(self) -> NDArray[np.float64]:
        """Centres in um, float64 (K, 2)."""
        q, r = self.keys.T.astype(np.float64)
        if self.shape == "square":
            offsets = np.column_stack([q, r])
        else:
            offsets = np.column_stack([q + r / 2, r * math.sqrt(3) / 2])
        return np.array(self.origin_um) + offsets * self.side_um

    def polygons(self) -> NDArray[np.object_]:
        """Outlines in um, as shapely polygons (K,)."""
        if self.shape == "square":
            corners = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
        else:
            angle = np.deg2rad(30 + 60 * np.arange(6))
            corners = np.column_stack([np.cos(angle), np.sin(angle)]) / math.sqrt(3)
        outlines: NDArray[np.object_] = shapely.polygons(self.centres()[:, None] + corners * self.side_um)
        return outlines


def tile_window(window: Window, shape: Shape, side_um: float) -> Tiles:
    """Lay tiles over a window; those of which less than a quarter is tissue are left out.

    Parameters
    ----------
    window : Window
    shape : str
        "hexagon" or "square".
    side_um : float
        Width of a tile: between two opposite sides.
    """
    rows, cols = np.nonzero(window.mask)
    xy = (np.column_stack([cols, rows]) + 0.5) * window.px_um + np.array(window.origin_um)
    codes, pixels = np.unique(_code(_keys(xy, shape, side_um, window.origin_um)), return_counts=True)
    keys = np.column_stack([codes >> 32, codes & 0xFFFFFFFF]) - _SHIFT
    tiles = Tiles(shape, side_um, window.origin_um, keys, pixels.astype(np.float64) * window.px_um**2)
    enough = tiles.tissue_um2 >= LEAST_TISSUE * tiles.tile_um2
    return Tiles(shape, side_um, window.origin_um, keys[enough], tiles.tissue_um2[enough])


_SHIFT = 2**24


def _code(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    return ((keys[:, 0] + _SHIFT) << 32) | (keys[:, 1] + _SHIFT)


def _keys(xy: NDArray[np.float64], shape: Shape, side_um: float, origin_um: tuple[float, float]) -> NDArray[np.int64]:
    x, y = ((xy - np.array(origin_um)) / side_um).T
    if shape == "square":
        return np.floor(np.column_stack([x, y]) + 0.5).astype(np.int64)
    # Cube coordinates rounded: the one that was moved most is made up from the other two.
    r = y * 2 / math.sqrt(3)
    q = x - r / 2
    cube = np.column_stack([q, r, -q - r])
    whole = np.rint(cube)
    worst = np.argmax(np.abs(whole - cube), axis=1)
    rows = np.arange(len(whole))
    whole[rows, worst] -= whole.sum(axis=1)
    keys: NDArray[np.int64] = whole[:, :2].astype(np.int64)
    return keys


@measure(
    "hot_spots", "Ground in hot spots", "share", "tissue in tiles with Gi* > 0 and q < 0.05 / tissue in all tiles",
    source="Ord & Getis, Geographical Analysis 27 (1995); Benjamini & Hochberg, JRSS B 57 (1995)",
    edge="tiles of which less than a quarter is tissue are left out; counts are per tissue in the tile",
    caution="Hot against this slide's own mean: an even slide full of lymphocytes has no hot spot.",
)  # fmt: skip
def getis_ord(values: NDArray[np.float64], neighbours: NDArray[np.intp]) -> NDArray[np.float64]:
    """Gi*, the z of the sum over a tile and those around it, float64 (K,), NaN where all values are the same.

    Gi* = (sum_j w_ij x_j - x̄ W_i) / (s sqrt((n sum_j w_ij² - W_i²) / (n - 1))), w_ij = 1 for the tile itself and its
    neighbours.

    Parameters
    ----------
    values : numpy.ndarray
        float64 (K,), one a tile.
    neighbours : numpy.ndarray
        intp (K, 6 or 8), from `Tiles.neighbours`: -1 where there is none.
    """
    n = len(values)
    if n < 2:
        return np.full(n, np.nan)
    present = neighbours >= 0
    total = values + np.where(present, values[neighbours], 0).sum(axis=1)
    weight = 1.0 + present.sum(axis=1)
    spread = values.std() * np.sqrt(np.maximum(n * weight - weight**2, 0) / (n - 1))
    scores: NDArray[np.float64] = np.divide(
        total - values.mean() * weight, spread, out=np.full(n, np.nan), where=spread > 1e-12
    )
    return scores


def false_discovery(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return q, two-sided and adjusted by Benjamini and Hochberg, of z; NaN stays."""
    from scipy.stats import false_discovery_control, norm

    q = np.full(len(z), np.nan)
    known = np.isfinite(z)
    if known.any():
        q[known] = false_discovery_control(2 * norm.sf(np.abs(z[known])))
    return q
