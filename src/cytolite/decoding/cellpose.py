"""Cellpose's own arithmetic, for comparison with it: the same masks, and the same dependence on the image around.

Cellpose samples the flows up to half a pixel off, by where in the image a pixel lies, and compares a nucleus with heat
that spread for as long as the image's longest nucleus needs: the same nucleus may be kept in one tile and dropped in
another. Slides are decoded by `cytolite.decoding.flows.decode`, which does neither.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytolite.decoding import heat
from cytolite.decoding.flows import check_settings, checked_flows, follow_to_labels, keep_good
from cytolite.decoding.following import field_of, fma, make_follow
from cytolite.kernels import kernel


def decode_like_cellpose(
    flows: NDArray[np.float32],
    foreground: NDArray[np.bool_],
    *,
    flow_threshold: float | None = 0.4,
    min_size_px: int = 15,
    steps: int = 200,
    tolerance: float = 1e-4,
    threads: int = 1,
) -> NDArray[np.int32]:
    """Turn vectors into the masks of ``cellpose.dynamics.resize_and_compute_masks``.

    Parameters
    ----------
    flows, foreground, flow_threshold, min_size_px, steps, threads
        As of `cytolite.decoding.flows.decode`.
    tolerance : float
        A pixel stops early when it comes back within so many pixels to where it was two steps before; 0 gives exactly
        the end points of Cellpose.

    Returns
    -------
    numpy.ndarray
        int32 (H, W), those of ``resize_and_compute_masks(5 * flows, foreground, max_size_fraction=1)``.

    Raises
    ------
    InputError
        As `cytolite.decoding.flows.decode`.
    """
    foreground = np.asarray(foreground)
    flows = checked_flows(np.asarray(flows), foreground)
    check_settings(
        flow_threshold=flow_threshold or 0, min_size_px=min_size_px, steps=steps, tolerance=tolerance, threads=threads
    )
    # Positions run from -1 to 1 over the image and are float32: cells at a threshold depend on that.
    spans = [np.float32(max(side - 1, 1)) for side in foreground.shape]
    field = field_of(flows, foreground, *(np.float32(2.0 / span) for span in spans))
    near_y, near_x = (np.float32(tolerance * 2.0 / span) for span in spans)
    labels, n = follow_to_labels(_follow, field, foreground, steps=steps, near=(near_y, near_x), threads=threads)
    return keep_good(
        labels, n, flows, _longest, flow_threshold=flow_threshold or 0, min_size_px=min_size_px, threads=threads
    )


def _longest(boxes: NDArray[np.int32]) -> NDArray[np.int64]:
    return np.full(len(boxes), heat.twice_around(boxes).max(initial=0))


@kernel
def _begin(field, pixel, now, home, k):  # type: ignore[no-untyped-def]
    height, width = field.shape[0] - 2, field.shape[1] - 2
    one, two = np.float32(1), np.float32(2)
    now[0, k] = np.float32(pixel // width) / np.float32(max(height - 1, 1)) * two - one
    now[1, k] = np.float32(pixel % width) / np.float32(max(width - 1, 1)) * two - one


@kernel
def _step(field, home, now, new, n):  # type: ignore[no-untyped-def]
    """One Euler step of the first `n` positions, with torch's ``grid_sample`` (zeros outside) to the last bit."""
    one, half = np.float32(1), np.float32(0.5)
    to_row, to_col = np.float32((field.shape[0] - 2) * 0.5), np.float32((field.shape[1] - 2) * 0.5)
    flat, y, x, new_y, new_x = field.ravel(), now[0], now[1], new[0], new[1]
    # Unsigned offsets in `flat` to dx, the next pixel's dy and dx, the next row: no test for negative indices.
    u1, u2, u3, row = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(2 * field.shape[1])
    for k in range(np.uint64(n)):
        at_y, at_x = fma(y[k] + one, to_row, -half), fma(x[k] + one, to_col, -half)
        top, west = np.floor(at_y), np.floor(at_x)
        i = np.uint64(np.int32(top) + 1) * row + np.uint64(np.int32(west) + 1) * u2
        j = i + row
        down, right = at_y - top, at_x - west
        up, left = one - down, one - right
        nw, ne, sw, se = left * up, right * up, left * down, right * down
        dy = fma(flat[j + u2], se, fma(flat[j], sw, fma(flat[i + u2], ne, flat[i] * nw)))
        dx = fma(flat[j + u3], se, fma(flat[j + u1], sw, fma(flat[i + u3], ne, flat[i + u1] * nw)))
        to_y, to_x = y[k] + dy, x[k] + dx
        to_y = one if to_y > one else to_y
        to_x = one if to_x > one else to_x
        new_y[k] = -one if to_y < -one else to_y
        new_x[k] = -one if to_x < -one else to_x


@kernel
def _end(field, home, k, y, x):  # type: ignore[no-untyped-def]
    one, half = np.float32(1), np.float32(0.5)
    width = field.shape[1] - 2
    span_y, span_x = np.float32(max(field.shape[0] - 3, 1)), np.float32(max(width - 1, 1))
    return np.int32((y + one) * half * span_y) * width + np.int32((x + one) * half * span_x)


_follow = make_follow(_begin, _step, _end)
