"""Following flows to where they end, a block of pixels at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.extending import intrinsic
from numpy.typing import NDArray

from cytolite.kernels import kernel

# Writes where pixels end: ``follow(field, pixels, ends, steps, near)``.
Follow = Callable[[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32], int, tuple[np.float32, np.float32]], None]

_BLOCK = 1024


def _emit_fma(typingctx, a, b, c):  # type: ignore[no-untyped-def]
    return a(a, a, a), lambda context, builder, signature, args: builder.fma(*args)


fma: Any = intrinsic(_emit_fma)  # a * b + c rounded once, as in torch's kernels; it is also the faster instruction


def make_follow(begin: Any, step: Any, end: Any) -> Follow:
    """Compile the loop that takes pixels along the flows.

    Pixels walk in blocks that stay in the first-level cache, two steps at a time, as they often jump to and fro around
    their sink at the end; those that come back to within `near` of where they were leave the block.

    Parameters
    ----------
    begin : compiled function
        ``begin(field, pixel, now, home, k)``: puts a pixel, a flat index, into place k of a block.
    step : compiled function
        ``step(field, home, now, new, n)``: one Euler step of the first n.
    end : compiled function
        ``end(field, home, k, y, x)``: the flat index of the pixel in which a position lies.

    Returns
    -------
    callable
        ``follow(field, pixels, ends, steps, near)``; `field` from `field_of`, `near` in y and x.
    """

    @kernel
    def follow(field, pixels, ends, steps, near):  # type: ignore[no-untyped-def]
        now, mid, new = (
            np.empty((2, _BLOCK), np.float32),
            np.empty((2, _BLOCK), np.float32),
            np.empty((2, _BLOCK), np.float32),
        )
        home, who = np.empty((2, _BLOCK), np.int64), np.empty(_BLOCK, np.int64)
        near_y, near_x = near
        for start in range(0, len(pixels), _BLOCK):
            n = min(_BLOCK, len(pixels) - start)
            for k in range(n):
                begin(field, pixels[start + k], now, home, k)
                who[k] = start + k
            if steps % 2:
                step(field, home, now, now, n)
            for _ in range(steps // 2):
                step(field, home, now, mid, n)
                step(field, home, mid, new, n)
                left = 0
                for k in range(n):
                    y, x = new[0, k], new[1, k]
                    if abs(y - now[0, k]) <= near_y and abs(x - now[1, k]) <= near_x:
                        ends[who[k]] = end(field, home, k, y, x)
                    else:
                        now[0, left], now[1, left], who[left] = y, x, who[k]
                        home[0, left], home[1, left] = home[0, k], home[1, k]
                        left += 1
                n = left
                if n == 0:
                    break
            for k in range(n):
                ends[who[k]] = end(field, home, k, now[0, k], now[1, k])

    return follow  # type: ignore[no-any-return]


@kernel
def field_of(flows, foreground, scale_y, scale_x):  # type: ignore[no-untyped-def]
    """Return float32 (H + 2, W + 2, 2): flows of the foreground times a scale, zero elsewhere.

    One pixel's two components lie side by side, and the margin spares a test for the border.
    """
    height, width = foreground.shape
    field = np.zeros((height + 2, width + 2, 2), np.float32)
    for r in range(height):
        for c in range(width):
            if foreground[r, c]:
                field[r + 1, c + 1, 0] = flows[0, r, c] * scale_y
                field[r + 1, c + 1, 1] = flows[1, r, c] * scale_x
    return field


# What is followed is each pixel's displacement, in px: neither where the pixel lies nor how large the image is enters
# the arithmetic, so that all tiles agree to the last bit.


@kernel
def _begin(field, pixel, now, home, k):  # type: ignore[no-untyped-def]
    width = field.shape[1] - 2
    home[0, k], home[1, k] = pixel // width, pixel % width
    now[0, k], now[1, k] = 0, 0


@kernel
def _step(field, home, now, new, n):  # type: ignore[no-untyped-def]
    """One Euler step of the first `n` displacements; nothing leaves the image."""
    one, zero = np.float32(1), np.float32(0)
    flat, y, x, new_y, new_x = field.ravel(), now[0], now[1], new[0], new[1]
    bottom, right_end = field.shape[0] - 3, field.shape[1] - 3
    u1, u2, u3, row = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(2 * field.shape[1])
    for k in range(np.uint64(n)):
        top, west = np.floor(y[k]), np.floor(x[k])
        i = np.uint64(home[0, k] + np.int64(top) + 1) * row + np.uint64(home[1, k] + np.int64(west) + 1) * u2
        j = i + row
        down, right = y[k] - top, x[k] - west
        up, left = one - down, one - right
        nw, ne, sw, se = left * up, right * up, left * down, right * down
        dy = fma(flat[j + u2], se, fma(flat[j], sw, fma(flat[i + u2], ne, flat[i] * nw)))
        dx = fma(flat[j + u3], se, fma(flat[j + u1], sw, fma(flat[i + u3], ne, flat[i + u1] * nw)))
        to_y, to_x = y[k] + dy, x[k] + dx
        new_y[k] = min(max(to_y, zero - np.float32(home[0, k])), np.float32(bottom - home[0, k]))
        new_x[k] = min(max(to_x, zero - np.float32(home[1, k])), np.float32(right_end - home[1, k]))


@kernel
def _end(field, home, k, y, x):  # type: ignore[no-untyped-def]
    half, width = np.float32(0.5), field.shape[1] - 2
    down, right = np.int32(np.floor(y + half)), np.int32(np.floor(x + half))
    return (home[0, k] + down) * width + home[1, k] + right


follow = make_follow(_begin, _step, _end)
