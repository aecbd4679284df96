"""Following flows to where they end, a block of pixels at a time."""

from __future__ import annotations

import numpy as np

from cytolite.decoding import steps as arithmetic
from cytolite.kernels import kernel

_BLOCK = 1024


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


@kernel
def follow(field, pixels, ends, steps, near, spans):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Write where pixels, flat indices, end after so many steps; with `spans` as in Cellpose, with None as on slides.

    They walk in blocks that stay in the first-level cache, two steps at a time, as they often jump to and fro around
    their sink at the end; those that come back to within `near` (in y and x) of where they were leave the block.
    """
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
            _begin(field, pixels[start + k], now, home, k, spans)
            who[k] = start + k
        if steps % 2:
            _step(field, home, now, now, n, spans)
        for _ in range(steps // 2):
            _step(field, home, now, mid, n, spans)
            _step(field, home, mid, new, n, spans)
            left = 0
            for k in range(n):
                y, x = new[0, k], new[1, k]
                if abs(y - now[0, k]) <= near_y and abs(x - now[1, k]) <= near_x:
                    ends[who[k]] = _end(field, home, k, y, x, spans)
                else:
                    now[0, left], now[1, left], who[left] = y, x, who[k]
                    home[0, left], home[1, left] = home[0, k], home[1, k]
                    left += 1
            n = left
            if n == 0:
                break
        for k in range(n):
            ends[who[k]] = _end(field, home, k, now[0, k], now[1, k], spans)


# Chosen when it is compiled, by the type of `spans`. A `follow` that is made of functions could not be kept compiled:
# each start would compile it again, and keep it beside the others.


@kernel
def _begin(field, pixel, now, home, k, spans):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    if spans is None:
        arithmetic.begin(field, pixel, now, home, k)
    else:
        arithmetic.begin_like_cellpose(field, pixel, now, k, spans)


@kernel
def _step(field, home, now, new, n, spans):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    if spans is None:
        arithmetic.step(field, home, now, new, n)
    else:
        arithmetic.step_like_cellpose(field, now, new, n)


@kernel
def _end(field, home, k, y, x, spans):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    if spans is None:
        return arithmetic.end(field, home, k, y, x)
    return arithmetic.end_like_cellpose(field, y, x, spans)
