"""Two doubts about a value: which ground the glass happened to show, and what the classifier was not sure of."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytolite.spatial.window import Window

LOW, HIGH = 2.5, 97.5
# About so many blocks where the tissue allows: larger ones keep more of the dependence between neighbours.
WANTED, SMALLEST_UM, LARGEST_UM = 60, 100.0, 1_000.0
# With fewer blocks there is no interval; with fewer than FEW it is rough, which is told.
LEAST, FEW = 5, 20


@dataclass(frozen=True)
class Blocks:
    """Squares of tissue that are drawn again as a whole.

    Attributes
    ----------
    side_um : float
    pixels : numpy.ndarray
        int32 (h, w), block of each pixel of the window's grid, -1 outside of the window.
    n : int
        Number of blocks.
    weights : numpy.ndarray
        float64 (1 + R, n): how often each block was drawn; the first row is ones, the sample itself.
    """

    side_um: float
    pixels: NDArray[np.int32]
    n: int
    weights: NDArray[np.float64]

    def areas_um2(self, mask: NDArray[np.bool_], px_um: float) -> NDArray[np.float64]:
        """Area of each block within a mask that lies in the window, float64 (n,).

        Parameters
        ----------
        mask : numpy.ndarray
            bool (h, w), on the window's grid.
        px_um : float
            Side of a pixel.
        """
        found = self.pixels[mask]
        return np.bincount(found[found >= 0], minlength=self.n).astype(np.float64) * px_um**2


def make_blocks(window: Window, resamples: int, seed: int) -> Blocks:
    """Cut a window into blocks and draw them.

    A spatial block bootstrap (Künsch, Annals of Statistics 17 (1989); for point patterns Loh & Stein, Statistica
    Sinica 14 (2004)): cells that lie near each other are not independent, so ground is drawn, not cells.

    Parameters
    ----------
    window : Window
    resamples : int
        R; with fewer than `LEAST` blocks none is drawn.
    seed : int
        Of the draws.
    """
    side = min(LARGEST_UM, max(SMALLEST_UM, math.sqrt(window.area_um2 / WANTED)))
    step = max(1, round(side / window.px_um))
    height, width = window.mask.shape
    cols = math.ceil(width / step)
    flat = (np.arange(height) // step)[:, None] * cols + (np.arange(width) // step)[None]
    known, pixels = np.unique(np.where(window.mask, flat, -1), return_inverse=True)
    pixels = pixels.reshape(window.mask.shape).astype(np.int32) - (known[0] == -1)
    n = len(known) - int(known[0] == -1)
    times = resamples if n >= LEAST else 0
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=times)
    weights = np.concatenate([np.ones((1, n)), drawn])
    return Blocks(step * window.px_um, pixels, n, weights)


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Percentiles 2.5 and 97.5 of what is finite; NaN if that is less than half, or nothing was drawn."""
    known = values[np.isfinite(values)]
    if len(values) == 0 or len(known) < len(values) / 2:
        return math.nan, math.nan
    low, high = np.percentile(known, [LOW, HIGH])
    return float(low), float(high)


def draw_types(probs: NDArray[np.float32], draws: int, seed: int) -> NDArray[np.uint8]:
    """Draw a type for each cell from its probabilities, many times: uint8 (N, D), codes from 0.

    Parameters
    ----------
    probs : numpy.ndarray
        float32 (N, T); a row need not sum to 1.
    draws : int
        D.
    seed : int
        Of the draws.
    """
    rng = np.random.default_rng(seed)
    edges = np.cumsum(probs, axis=1, dtype=np.float64)
    edges /= edges[:, -1:]
    drawn = np.empty((len(probs), draws), np.uint8)
    for d in range(draws):
        drawn[:, d] = (rng.random((len(probs), 1)) >= edges[:, :-1]).sum(axis=1)
    return drawn
