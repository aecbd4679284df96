"""Area-correct resampling whose result does not depend on how the image is cut into reads.

Output pixels lie on a grid over the whole slide: output pixel i covers the source from ``i * ratio`` to
``(i + 1) * ratio``. All weights follow from that absolute position, so a pixel that two reads share is the same
in both, bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cytolite.kernels import kernel

# How near to a whole number counts as whole: 1e-6 of a factor drifts by 0.1 px over 100,000 px, and a start
# 1e-4 px off cannot change a grey value.
_WHOLE_FACTOR = 1e-6
_WHOLE_PX = 1e-4
_PHASE_DIGITS = 6


@dataclass(frozen=True)
class Axis:
    """A run of output pixels along one axis.

    Attributes
    ----------
    start : int
        Index of the first output pixel on the slide's grid.
    phase : float
        Shift of that grid, in output pixels, in [0, 1).
    count : int
        Output pixels.
    ratio : float
        Source pixels per output pixel; above 1 reduces.
    """

    start: int
    phase: float
    count: int
    ratio: float

    @classmethod
    def at(cls, origin_px: float, count: int, scale: float, downsample: float) -> Axis:
        """Return the axis of a read.

        Parameters
        ----------
        origin_px : float
            Where the read starts, level-0 px.
        count : int
            Output pixels.
        scale : float
            Level-0 px per output pixel.
        downsample : float
            Level-0 px per source pixel.
        """
        position = origin_px / scale
        start = math.floor(position)
        phase = round(position - start, _PHASE_DIGITS)
        if phase >= 1:
            start, phase = start + 1, 0.0
        ratio = scale / downsample
        nearest = round(ratio)
        if nearest >= 1 and abs(ratio - nearest) <= _WHOLE_FACTOR * nearest:
            ratio = float(nearest)
        return cls(start, phase, count, ratio)

    def part(self, first: int, count: int) -> Axis:
        """Return `count` of this axis's output pixels, from the one numbered `first`.

        Parameters
        ----------
        first : int
            Number of an output pixel.
        count : int
            How many from there.
        """
        return replace(self, start=self.start + first, count=count)

    @property
    def factor(self) -> int:
        """Whole number of source pixels per output pixel, where both grids line up; else 0."""
        if self.ratio != round(self.ratio):
            return 0
        edge = self.phase * self.ratio
        return int(self.ratio) if abs(edge - round(edge)) <= _WHOLE_PX else 0

    @property
    def span(self) -> tuple[int, int]:
        """First and one-past-last source pixel that the output pixels need; may lie outside of the image."""
        if self.factor:
            first = self.start * self.factor + round(self.phase * self.factor)
            return first, first + self.count * self.factor
        first_tap, weights = self._taps()
        return int(first_tap[0]), int(first_tap[-1]) + weights.shape[1]

    def weights(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the source pixels that make up each output pixel.

        Returns
        -------
        first : numpy.ndarray
            int64 (count,), first source pixel, counted from the start of `span`.
        weights : numpy.ndarray
            float32 (count, n); rows sum to 1.
        """
        first, weights = self._taps()
        return first - self.span[0], weights.astype(np.float32)

    def _taps(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        index = np.arange(self.start, self.start + self.count + 1, dtype=np.float64)
        return _box(index, self.phase, self.ratio) if self.ratio >= 1 else _cubic(index[:-1], self.phase, self.ratio)


def _box(index: NDArray[np.float64], phase: float, ratio: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Share of each source pixel that lies within each output pixel: the mean over its area."""
    edges = (index + phase) * ratio
    first = np.floor(edges[:-1])
    source = first[:, None] + np.arange(math.ceil(ratio) + 1)
    overlap = np.minimum(source + 1, edges[1:, None]) - np.maximum(source, edges[:-1, None])
    overlap = np.maximum(overlap, 0)
    return first.astype(np.int64), overlap / overlap.sum(axis=1, keepdims=True)


def _cubic(index: NDArray[np.float64], phase: float, ratio: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Catmull-Rom cubic through the source pixels' centres (Keys 1981, a = -1/2)."""
    centre = (index + phase + 0.5) * ratio - 0.5
    first = np.floor(centre)
    t = (centre - first)[:, None]
    weights = np.concatenate(
        [
            -0.5 * t + t**2 - 0.5 * t**3,
            1 - 2.5 * t**2 + 1.5 * t**3,
            0.5 * t + 2 * t**2 - 1.5 * t**3,
            -0.5 * t**2 + 0.5 * t**3,
        ],
        axis=1,
    )
    return first.astype(np.int64) - 1, weights


def resample(source: NDArray[np.uint8], x: Axis, y: Axis) -> NDArray[np.uint8]:
    """Resample an image: the mean over each output pixel's area when reducing, a cubic when enlarging.

    Parameters
    ----------
    source : numpy.ndarray
        uint8 (H, W, 3); covers ``y.span`` by ``x.span``.
    x, y : Axis
        Output columns and rows.

    Returns
    -------
    numpy.ndarray
        uint8 (y.count, x.count, 3), rounded to nearest; `source` itself where nothing changes.
    """
    if x.factor == y.factor == 1:
        return source
    source = np.ascontiguousarray(source)
    out = np.empty((y.count, x.count, 3), np.uint8)
    if x.factor == y.factor == 2:
        _halve(source, out)
    elif x.factor and x.factor == y.factor:
        _block_mean(source, x.factor, out)
    else:
        _weighted_mean(source, y.weights(), x.weights(), out)
    return out


@kernel
def _halve(source: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Mean of 2 x 2 blocks. Rows are added first, all channels at once: that loop vectorises."""
    width = source.shape[1] * 3
    flat = source.reshape(source.shape[0], width)
    line = np.empty(width, np.uint16)
    for r in range(out.shape[0]):
        upper, lower = flat[2 * r], flat[2 * r + 1]
        for i in range(width):
            line[i] = np.uint16(upper[i]) + np.uint16(lower[i])
        for c in range(out.shape[1]):
            i = 6 * c
            out[r, c, 0] = (line[i] + line[i + 3] + 2) >> 2
            out[r, c, 1] = (line[i + 1] + line[i + 4] + 2) >> 2
            out[r, c, 2] = (line[i + 2] + line[i + 5] + 2) >> 2


@kernel
def _block_mean(source: NDArray[np.uint8], factor: int, out: NDArray[np.uint8]) -> None:
    """Mean of `factor` x `factor` blocks, in whole numbers."""
    width = source.shape[1] * 3
    flat = source.reshape(source.shape[0], width)
    line = np.empty(width, np.uint32)
    area = factor * factor
    for r in range(out.shape[0]):
        line[:] = 0
        for k in range(factor):
            row = flat[r * factor + k]
            for i in range(width):
                line[i] += row[i]
        for c in range(out.shape[1]):
            red = green = blue = area // 2
            for k in range(factor):
                i = 3 * (c * factor + k)
                red += line[i]
                green += line[i + 1]
                blue += line[i + 2]
            out[r, c, 0] = red // area
            out[r, c, 1] = green // area
            out[r, c, 2] = blue // area


@kernel
def _weighted_mean(
    source: NDArray[np.uint8],
    rows: tuple[NDArray[np.int64], NDArray[np.float32]],
    cols: tuple[NDArray[np.int64], NDArray[np.float32]],
    out: NDArray[np.uint8],
) -> None:
    """Separable weighted sum; every pixel's terms are added in the same order, whatever the read."""
    first_row, row_weights = rows
    first_col, col_weights = cols
    width = source.shape[1] * 3
    flat = source.reshape(source.shape[0], width)
    line = np.empty(width, np.float32)
    for r in range(out.shape[0]):
        line[:] = 0
        for k in range(row_weights.shape[1]):
            weight = row_weights[r, k]
            if weight != 0:
                row = flat[first_row[r] + k]
                for i in range(width):
                    line[i] += weight * np.float32(row[i])
        for c in range(out.shape[1]):
            red = green = blue = np.float32(0.5)
            for k in range(col_weights.shape[1]):
                weight = col_weights[c, k]
                if weight != 0:
                    i = 3 * (first_col[c] + k)
                    red += weight * line[i]
                    green += weight * line[i + 1]
                    blue += weight * line[i + 2]
            out[r, c, 0] = min(max(red, np.float32(0)), np.float32(255))
            out[r, c, 1] = min(max(green, np.float32(0)), np.float32(255))
            out[r, c, 2] = min(max(blue, np.float32(0)), np.float32(255))
