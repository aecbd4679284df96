"""One step along flows, in two arithmetics: of a pixel's displacement, for slides, and Cellpose's own.

Each has three parts: ``begin`` puts a pixel, a flat index, into place k of a block, ``step`` takes the first n of a
block on, and ``end`` is the flat index of the pixel in which a position lies. A block is `now` (2, n), y and x, and,
of displacements, `home` (2, n), where its pixels are from; a field is that of `cytolite.decoding.following.field_of`,
and `spans` are the largest row and column, float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import intrinsic

from cytolite.kernels import kernel


def _emit_fma(typingctx, a, b, c):  # type: ignore[no-untyped-def]
    return a(a, a, a), lambda context, builder, signature, args: builder.fma(*args)


fma: Any = intrinsic(_emit_fma)  # a * b + c rounded once, as in torch's kernels; it is also the faster instruction


@kernel
def _flow_between(flat, i, row, down, right):  # type: ignore[no-untyped-def]
    """Return dy and dx, bilinear between four pixels: `i` is where the first lies in `flat`, `row` the next row's."""
    # Unsigned offsets to dx, the next pixel's dy and dx: no test for negative indices.
    one, u1, u2, u3 = np.float32(1), np.uint64(1), np.uint64(2), np.uint64(3)
    j = i + row
    up, left = one - down, one - right
    nw, ne, sw, se = left * up, right * up, left * down, right * down
    dy = fma(flat[j + u2], se, fma(flat[j], sw, fma(flat[i + u2], ne, flat[i] * nw)))
    dx = fma(flat[j + u3], se, fma(flat[j + u1], sw, fma(flat[i + u3], ne, flat[i + u1] * nw)))
    return dy, dx


# ---- displacements: neither where a pixel lies nor how large the image is enters the arithmetic, so that all tiles
# agree to the last bit


@kernel
def begin(field, pixel, now, home, k):  # type: ignore[no-untyped-def]
    """Begin at a displacement of 0 px."""
    width = field.shape[1] - 2
    home[0, k], home[1, k] = pixel // width, pixel % width
    now[0, k], now[1, k] = 0, 0


@kernel
def step(field, home, now, new, n):  # type: ignore[no-untyped-def]
    """One Euler step of the first `n` displacements; nothing leaves the image."""
    zero, u2, row = np.float32(0), np.uint64(2), np.uint64(2 * field.shape[1])
    flat, y, x, new_y, new_x = field.ravel(), now[0], now[1], new[0], new[1]
    bottom, right_end = field.shape[0] - 3, field.shape[1] - 3
    for k in range(np.uint64(n)):
        top, west = np.floor(y[k]), np.floor(x[k])
        i = np.uint64(home[0, k] + np.int64(top) + 1) * row + np.uint64(home[1, k] + np.int64(west) + 1) * u2
        dy, dx = _flow_between(flat, i, row, y[k] - top, x[k] - west)
        to_y, to_x = y[k] + dy, x[k] + dx
        new_y[k] = min(max(to_y, zero - np.float32(home[0, k])), np.float32(bottom - home[0, k]))
        new_x[k] = min(max(to_x, zero - np.float32(home[1, k])), np.float32(right_end - home[1, k]))


@kernel
def end(field, home, k, y, x):  # type: ignore[no-untyped-def]
    """Where a displacement leads."""
    half, width = np.float32(0.5), field.shape[1] - 2
    down, right = np.int32(np.floor(y + half)), np.int32(np.floor(x + half))
    return (home[0, k] + down) * width + home[1, k] + right


# ---- Cellpose's: positions run from -1 to 1 over the image and are float32: nuclei at a threshold depend on that


@kernel
def begin_like_cellpose(field, pixel, now, k, spans):  # type: ignore[no-untyped-def]
    """Begin at the pixel's position."""
    one, two, width = np.float32(1), np.float32(2), field.shape[1] - 2
    now[0, k] = np.float32(pixel // width) / spans[0] * two - one
    now[1, k] = np.float32(pixel % width) / spans[1] * two - one


@kernel
def step_like_cellpose(field, now, new, n):  # type: ignore[no-untyped-def]
    """One Euler step of the first `n` positions, with torch's ``grid_sample`` (zeros outside) to the last bit."""
    one, half = np.float32(1), np.float32(0.5)
    to_row, to_col = np.float32((field.shape[0] - 2) * 0.5), np.float32((field.shape[1] - 2) * 0.5)
    flat, y, x, new_y, new_x = field.ravel(), now[0], now[1], new[0], new[1]
    u2, row = np.uint64(2), np.uint64(2 * field.shape[1])
    for k in range(np.uint64(n)):
        at_y, at_x = fma(y[k] + one, to_row, -half), fma(x[k] + one, to_col, -half)
        top, west = np.floor(at_y), np.floor(at_x)
        i = np.uint64(np.int32(top) + 1) * row + np.uint64(np.int32(west) + 1) * u2
        dy, dx = _flow_between(flat, i, row, at_y - top, at_x - west)
        to_y, to_x = y[k] + dy, x[k] + dx
        to_y = one if to_y > one else to_y
        to_x = one if to_x > one else to_x
        new_y[k] = -one if to_y < -one else to_y
        new_x[k] = -one if to_x < -one else to_x


@kernel
def end_like_cellpose(field, y, x, spans):  # type: ignore[no-untyped-def]
    """Where a position lies."""
    one, half = np.float32(1), np.float32(0.5)
    return np.int32((y + one) * half * spans[0]) * (field.shape[1] - 2) + np.int32((x + one) * half * spans[1])
