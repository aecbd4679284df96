"""Flows: nuclei as vector fields and back, Cellpose's targets and dynamics written for speed.

`encode` turns an instance map into unit vectors that point to each nucleus's centre; `decode` follows vectors to
their sinks and gives each pixel to the sink that it reaches. Source: Stringer et al., Cellpose, Nature Methods 2021,
doi:10.1038/s41592-020-01018-x, and the rules of ``cellpose.dynamics`` 4.2.

The kernels hold no Python object and release the GIL, so tiles can be decoded in threads. Where sums are written out
term by term, it is Cellpose's order: rounding then is the same, and so are the masks.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba.extending import intrinsic
from numpy.typing import NDArray

from cytolite.errors import InputError
from cytolite.kernels import kernel

SEED_MIN_PX = 10  # a sink needs more than this many pixels to found a nucleus
HEAT_STEPS = 256  # for as long heat spreads at least: about as long as Cellpose's does in a tile of 1000 px
GROW_MIN_PX = 2  # places around a sink belong to it where more than this many pixels end
GROW_STEPS = 5  # how far a sink reaches, in pixels; also the margin of the histogram


def encode(instance_map: NDArray[np.integer]) -> NDArray[np.float32]:
    """Turn nuclei into the vectors that a network learns: Cellpose's targets.

    Heat spreads inside each nucleus from its centre; the vectors are the normalised gradient of the heat.

    Parameters
    ----------
    instance_map : numpy.ndarray
        Integers (H, W); 0 = background, any positive ids = nuclei.

    Returns
    -------
    numpy.ndarray
        float32 (2, H, W), (dy, dx); unit vectors inside nuclei (zero where no heat arrives, as in parts not connected
        with the centre), zero outside. Equal to ``cellpose.dynamics.masks_to_flows_gpu`` on its CPU path.

    Raises
    ------
    InputError
        When `instance_map` is not a 2-D array of non-negative integers.
    """
    labels, n = _as_labels(instance_map)
    boxes = _boxes(labels, n)
    return _gradient(labels, _heat(labels, boxes, threads=1))


def decode(
    flows: NDArray[np.float32],
    foreground: NDArray[np.bool_],
    *,
    flow_threshold: float | None = 0.4,
    min_size_px: int = 15,
    steps: int = 200,
    tolerance: float = 1e-4,
    like_cellpose: bool = True,
    threads: int = 1,
) -> NDArray[np.int32]:
    """Turn vectors back into nuclei: every foreground pixel follows them, and belongs to the sink that it reaches.

    Parameters
    ----------
    flows : numpy.ndarray
        float32 (2, H, W), (dy, dx), in pixels per step as `encode` makes them: Cellpose's network output divided by 5.
    foreground : numpy.ndarray
        bool (H, W); pixels of nuclei.
    flow_threshold : float or None
        Nuclei are dropped whose mean squared difference between `flows` and their own `encode` is above this; 0 or
        None keeps all.
    min_size_px : int
        Nuclei with fewer pixels are dropped, before and after their holes are filled.
    steps : int
        How many steps the pixels take.
    tolerance : float
        A pixel stops early when it comes back within so many pixels to where it was two steps before; 0 gives exactly
        the end points of Cellpose.
    like_cellpose : bool
        Cellpose samples the flows up to half a pixel off, by where in the image a pixel lies, and compares a nucleus
        with heat that spread for as long as the image's longest nucleus needs: the same nucleus may be kept in one
        tile and dropped in another. Without this, what becomes of a nucleus depends on the flows around it alone,
        to the last bit.
    threads : int
        How many threads work on this one image; leave 1 where several images are decoded side by side.

    Returns
    -------
    numpy.ndarray
        int32 (H, W); 0 = background, 1..n = nuclei, numbered in reading order of their first pixel. The masks are
        those of ``cellpose.dynamics.resize_and_compute_masks(5 * flows, foreground, max_size_fraction=1)`` if
        `like_cellpose`.

    Raises
    ------
    InputError
        When shapes or dtypes are wrong, a vector is not finite, or a setting is out of its range.
    """
    foreground = np.asarray(foreground)
    flows = _checked_flows(np.asarray(flows), foreground)
    for name, value, least in (
        ("flow_threshold", flow_threshold or 0, 0),
        ("min_size_px", min_size_px, 0),
        ("steps", steps, 1),
        ("tolerance", tolerance, 0),
        ("threads", threads, 1),
    ):
        if not value >= least:
            raise InputError(f"{name} is {value}; give at least {least}.")
    pixels = np.flatnonzero(foreground).astype(np.int32)
    ends = np.empty(len(pixels), np.int32)
    follow = _follow if like_cellpose else _follow_exactly
    field = _field(flows, foreground, like_cellpose)
    _in_threads(threads, len(pixels), lambda a, b: follow(field, pixels[a:b], ends[a:b], steps, tolerance))
    labels, n = _label(ends, pixels, foreground.shape)
    if not n:
        return labels
    keep = np.ones(n + 1, np.bool_)
    if flow_threshold:
        heat = _heat(labels, _boxes(labels, n), threads, like_cellpose)
        keep = _flow_errors(labels, heat, flows, n) <= flow_threshold
    n = _drop_small(labels, keep, min_size_px)
    _fill_holes(labels, _boxes(labels, n))
    _drop_small(labels, np.ones(n + 1, np.bool_), min_size_px)
    return labels


def _as_labels(instance_map: NDArray[np.integer]) -> tuple[NDArray[np.int32], int]:
    """Return the map as contiguous int32 and its highest id, which is never far above the number of pixels."""
    array = np.asarray(instance_map)
    if array.ndim != 2 or array.dtype.kind not in "iu":
        raise InputError(
            f"The instance map is {array.dtype} {array.shape}; give a 2-D array of integers, 0 = background."
        )
    if array.min(initial=0) < 0:
        raise InputError(f"The instance map holds the id {array.min()}; ids are 0 for background and positive.")
    n = int(array.max(initial=0))
    if n > array.size + 65536:  # sparse ids: tables per id would be larger than the image
        values, inverse = np.unique(array, return_inverse=True)
        array = inverse.reshape(array.shape) + (values[0] != 0)
        n = int(array.max(initial=0))
    return np.ascontiguousarray(array, dtype=np.int32), n


def _checked_flows(flows: NDArray[np.float32], foreground: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return `flows` as contiguous float32 that fits `foreground`."""
    if flows.ndim != 3 or flows.shape[0] != 2 or flows.dtype.kind != "f":
        raise InputError(f"The flows are {flows.dtype} {flows.shape}; give float32 (2, H, W), (dy, dx).")
    if foreground.dtype != np.bool_ or foreground.shape != flows.shape[1:]:
        raise InputError(
            f"The foreground is {foreground.dtype} {foreground.shape}; the flows need bool {flows.shape[1:]}."
        )
    if foreground.size >= 2**31:
        raise InputError(f"The image has {foreground.size} pixels; decode it in tiles of less than 2**31.")
    flows = np.ascontiguousarray(flows, dtype=np.float32)
    if not np.isfinite(flows.sum(dtype=np.float64)) and not np.isfinite(flows).all():
        raise InputError("The flows hold values that are not finite (NaN or infinity); check the network's output.")
    return flows


def _label(ends: NDArray[np.int32], pixels: NDArray[np.int32], shape: tuple[int, ...]) -> tuple[NDArray[np.int32], int]:
    """Give every pixel to the sink around its end; return int32 `shape`, numbered in reading order, and the highest."""
    counts, seeds = _count(ends, shape[0], shape[1])
    # Where sinks overlap, the larger has the last word.
    seeds = seeds[np.argsort(counts.ravel()[seeds], kind="stable")]
    owners = _grow(counts, seeds)
    labels = np.zeros(shape, np.int32)
    n = _assign(owners, ends, pixels, labels, len(seeds))
    return labels, n


def _heat(
    labels: NDArray[np.int32], boxes: NDArray[np.int32], threads: int, like_cellpose: bool = True
) -> NDArray[np.float64]:
    """Return float64 (H + 2, W + 2): the heat in every nucleus, with a margin of one pixel."""
    heat = np.zeros((labels.shape[0] + 2, labels.shape[1] + 2))
    n_steps = 2 * (boxes[:, 1] - boxes[:, 0] + boxes[:, 3] - boxes[:, 2] + 2)
    # Cellpose spreads all nuclei for as long as the longest needs.
    n_steps = np.full_like(n_steps, n_steps.max(initial=0)) if like_cellpose else np.maximum(n_steps, HEAT_STEPS)
    _in_threads(threads, len(boxes), lambda a, b: _heat_nuclei(labels, boxes, heat, n_steps, (a, b)))
    return heat


def _in_threads(threads: int, n: int, work: Callable[[int, int], None]) -> None:
    """Call ``work(start, stop)`` on parts of ``range(n)`` that together cover it."""
    if threads == 1:
        work(0, n)
        return
    edges = np.linspace(0, n, 8 * threads + 1).astype(int).tolist()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, edges[:-1], edges[1:]))


# ---------------------------------------------------------------------------------------------- heat and its gradient


@kernel
def _boxes(labels, n):  # type: ignore[no-untyped-def]
    """Return int32 (n + 1, 4): first row, last row + 1, first column, last column + 1; all 0 where an id is absent."""
    height, width = labels.shape
    boxes = np.zeros((n + 1, 4), np.int32)
    for r in range(height):
        for c in range(width):
            i = labels[r, c]
            if i:
                if boxes[i, 1] == 0:
                    boxes[i, 0] = r
                    boxes[i, 2] = c
                boxes[i, 1] = r + 1
                boxes[i, 2] = min(boxes[i, 2], c)
                boxes[i, 3] = max(boxes[i, 3], c + 1)
    return boxes


@kernel
def _heat_nuclei(labels, boxes, heat, n_steps, part):  # type: ignore[no-untyped-def]
    """Write the heat of ids ``part[0]`` to ``part[1] - 1``, each spread on its own in its bounding box."""
    first, last = part
    largest = 0
    for i in range(first, last):
        rows, cols = boxes[i, 1] - boxes[i, 0], boxes[i, 3] - boxes[i, 2]
        largest = max(largest, (rows + 2) * (cols + 2))
    inside, now, later = np.zeros(largest), np.zeros(largest), np.zeros(largest)
    for i in range(max(first, 1), last):
        r0, r1, c0, c1 = boxes[i]
        if r1 == 0:
            continue
        stride = c1 - c0 + 2
        size = (r1 - r0 + 2) * stride
        _cut_out(labels, i, boxes[i], inside)
        centre = _centre(inside, r1 - r0, stride)
        now[:size] = 0.0
        later[:size] = 0.0
        for step in range(n_steps[i]):
            now[centre] += 1.0
            _spread(now, later, inside, stride, size - 2 * stride - 2)
            now, later = later, now
            # Heat only grows (every rounding is monotone), so a step without change is the end, exactly.
            if step % 32 == 31 and _unchanged(now, later, centre, size):
                break
        for r in range(r0, r1):
            at = (r - r0 + 1) * stride + 1 - c0
            for c in range(c0, c1):
                if inside[at + c] != 0.0:
                    heat[r + 1, c + 1] = now[at + c]


@kernel
def _cut_out(labels, i, box, inside):  # type: ignore[no-untyped-def]
    """Write 1.0 where the box, with a margin of one pixel, holds id `i`, else 0.0, row after row."""
    r0, r1, c0, c1 = box
    stride = c1 - c0 + 2
    inside[: (r1 - r0 + 2) * stride] = 0.0
    for r in range(r0, r1):
        at = (r - r0 + 1) * stride + 1 - c0
        for c in range(c0, c1):
            if labels[r, c] == i:
                inside[at + c] = 1.0


@kernel
def _centre(inside, rows, stride):  # type: ignore[no-untyped-def]
    """Return the index in `inside` of the pixel nearest the rounded mean position; the first one of equals."""
    n, sum_r, sum_c = 0, 0, 0
    for r in range(rows):
        for c in range(stride - 2):
            if inside[(r + 1) * stride + c + 1] != 0.0:
                n += 1
                sum_r += r
                sum_c += c
    mean_r, mean_c = np.int64(np.round(sum_r / n)), np.int64(np.round(sum_c / n))
    best, nearest = 0, np.int64(1) << 62
    for r in range(rows):
        for c in range(stride - 2):
            at = (r + 1) * stride + c + 1
            distance = (r - mean_r) ** 2 + (c - mean_c) ** 2
            if inside[at] != 0.0 and distance < nearest:
                best, nearest = at, distance
    return best


@kernel
def _spread(now, later, inside, s, n):  # type: ignore[no-untyped-def]
    """One step: the mean of 3x3 pixels inside the nucleus."""
    stride, one = np.uint64(s), np.uint64(1)  # unsigned: no test for negative indices, so that the loop vectorises
    for k in range(np.uint64(n)):
        i = k + stride + one
        total = now[i] + now[i - stride] + now[i + stride] + now[i - one] + now[i + one]
        total += now[i - stride - one]
        total += now[i - stride + one]
        total += now[i + stride - one]
        total += now[i + stride + one]
        later[i] = total / 9.0 * inside[i]


@kernel
def _unchanged(now, later, centre, size):  # type: ignore[no-untyped-def]
    """Tell whether the last step changed nothing; `later` is the step before, with its unit of heat added."""
    different = 0
    for k in range(size):
        different += later[k] != now[k]
    return different == 1 and later[centre] == now[centre] + 1.0


@kernel
def _gradient(labels, heat):  # type: ignore[no-untyped-def]
    """Return float32 (2, H, W): the normalised gradient of the heat inside nuclei."""
    height, width = labels.shape
    flows = np.zeros((2, height, width), np.float32)
    for r in range(height):
        for c in range(width):
            if labels[r, c]:
                dy, dx = _unit(heat, r + 1, c + 1)
                flows[0, r, c] = dy
                flows[1, r, c] = dx
    return flows


@kernel
def _unit(heat, r, c):  # type: ignore[no-untyped-def]
    """Return the normalised gradient at one place; the heat of touching nuclei counts too, as in Cellpose."""
    dy = heat[r + 1, c] - heat[r - 1, c]
    dx = heat[r, c + 1] - heat[r, c - 1]
    norm = 1e-60 + np.sqrt(dy * dy + dx * dx)
    return dy / norm, dx / norm


@kernel
def _flow_errors(labels, heat, flows, n):  # type: ignore[no-untyped-def]
    """Return float64 (n + 1,): each nucleus's mean squared difference between `flows` and its own encoding."""
    height, width = labels.shape
    errors, sizes = np.zeros(n + 1), np.zeros(n + 1, np.int64)
    for r in range(height):
        for c in range(width):
            i = labels[r, c]
            if i:
                dy, dx = _unit(heat, r + 1, c + 1)
                errors[i] += (dy - flows[0, r, c]) ** 2 + (dx - flows[1, r, c]) ** 2
                sizes[i] += 1
    for i in range(1, n + 1):
        errors[i] /= max(sizes[i], 1)
    return errors


# ------------------------------------------------------------------------------------------------ following the flows


@kernel
def _field(flows, foreground, of_image):  # type: ignore[no-untyped-def]
    """Return float32 (H + 2, W + 2, 2): flows of the foreground, in px or in units of half the image, zero elsewhere.

    One pixel's two components lie side by side, and the margin spares a test for the border.
    """
    height, width = foreground.shape
    scale_y, scale_x = np.float32(1), np.float32(1)
    if of_image:
        scale_y, scale_x = np.float32(2.0 / max(height - 1, 1)), np.float32(2.0 / max(width - 1, 1))
    field = np.zeros((height + 2, width + 2, 2), np.float32)
    for r in range(height):
        for c in range(width):
            if foreground[r, c]:
                field[r + 1, c + 1, 0] = flows[0, r, c] * scale_y
                field[r + 1, c + 1, 1] = flows[1, r, c] * scale_x
    return field


def _emit_fma(typingctx, a, b, c):  # type: ignore[no-untyped-def]
    return a(a, a, a), lambda context, builder, signature, args: builder.fma(*args)


_fma: Any = intrinsic(_emit_fma)  # a * b + c rounded once, as in torch's kernels; it is also the faster instruction


@kernel
def _follow(field, pixels, ends, steps, tolerance):  # type: ignore[no-untyped-def]
    """Write where each of `pixels` ends after `steps` Euler steps in bilinearly interpolated flows.

    Positions run from -1 to 1 over the image and are float32, and they are sampled half a pixel off except at the
    image's centre: both are Cellpose's, and cells at a threshold depend on them. Pixels walk in blocks that stay in
    the first-level cache, two steps at a time, as they often jump to and fro around their sink at the end; those that
    come back to where they were leave the block.
    """
    height, width = field.shape[0] - 2, field.shape[1] - 2
    one, half = np.float32(1), np.float32(0.5)
    span_y, span_x = np.float32(max(height - 1, 1)), np.float32(max(width - 1, 1))
    near_y, near_x = np.float32(tolerance * 2.0 / span_y), np.float32(tolerance * 2.0 / span_x)
    block = 1024
    now, mid, new = (
        np.empty((2, block), np.float32),
        np.empty((2, block), np.float32),
        np.empty((2, block), np.float32),
    )
    who = np.empty(block, np.int64)
    for start in range(0, len(pixels), block):
        n = min(block, len(pixels) - start)
        for k in range(n):
            p = pixels[start + k]
            now[0, k] = np.float32(p // width) / span_y * np.float32(2) - one
            now[1, k] = np.float32(p % width) / span_x * np.float32(2) - one
            who[k] = start + k
        if steps % 2:
            _step(field, now, now, n)
        for _ in range(steps // 2):
            _step(field, now, mid, n)
            _step(field, mid, new, n)
            left = 0
            for k in range(n):
                y, x = new[0, k], new[1, k]
                if abs(y - now[0, k]) <= near_y and abs(x - now[1, k]) <= near_x:
                    ends[who[k]] = np.int32((y + one) * half * span_y) * width + np.int32((x + one) * half * span_x)
                else:
                    now[0, left], now[1, left], who[left] = y, x, who[k]
                    left += 1
            n = left
            if n == 0:
                break
        for k in range(n):
            y, x = now[0, k], now[1, k]
            ends[who[k]] = np.int32((y + one) * half * span_y) * width + np.int32((x + one) * half * span_x)


@kernel
def _step(field, now, new, n):  # type: ignore[no-untyped-def]
    """One Euler step of the first `n` positions, with torch's ``grid_sample`` (zeros outside) to the last bit."""
    one, half = np.float32(1), np.float32(0.5)
    to_row, to_col = np.float32((field.shape[0] - 2) * 0.5), np.float32((field.shape[1] - 2) * 0.5)
    flat, y, x, new_y, new_x = field.ravel(), now[0], now[1], new[0], new[1]
    # Unsigned offsets in `flat` to dx, the next pixel's dy and dx, the next row: no test for negative indices.
    u1, u2, u3, row = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(2 * field.shape[1])
    for k in range(np.uint64(n)):
        at_y, at_x = _fma(y[k] + one, to_row, -half), _fma(x[k] + one, to_col, -half)
        top, west = np.floor(at_y), np.floor(at_x)
        i = np.uint64(np.int32(top) + 1) * row + np.uint64(np.int32(west) + 1) * u2
        j = i + row
        down, right = at_y - top, at_x - west
        up, left = one - down, one - right
        nw, ne, sw, se = left * up, right * up, left * down, right * down
        dy = _fma(flat[j + u2], se, _fma(flat[j], sw, _fma(flat[i + u2], ne, flat[i] * nw)))
        dx = _fma(flat[j + u3], se, _fma(flat[j + u1], sw, _fma(flat[i + u3], ne, flat[i + u1] * nw)))
        to_y, to_x = y[k] + dy, x[k] + dx
        to_y = one if to_y > one else to_y
        to_x = one if to_x > one else to_x
        new_y[k] = -one if to_y < -one else to_y
        new_x[k] = -one if to_x < -one else to_x


@kernel
def _follow_exactly(field, pixels, ends, steps, tolerance):  # type: ignore[no-untyped-def]
    """Write where each of `pixels` ends, as `_follow` does, but from the flows around it alone.

    What is followed is each pixel's displacement, in px: neither where the pixel lies nor how large the image is enters
    the arithmetic, so that all tiles agree to the last bit.
    """
    width = field.shape[1] - 2
    half, near = np.float32(0.5), np.float32(tolerance)
    block = 1024
    now, mid, new = (
        np.empty((2, block), np.float32),
        np.empty((2, block), np.float32),
        np.empty((2, block), np.float32),
    )
    home, who = np.empty((2, block), np.int64), np.empty(block, np.int64)
    for start in range(0, len(pixels), block):
        n = min(block, len(pixels) - start)
        for k in range(n):
            home[0, k], home[1, k] = pixels[start + k] // width, pixels[start + k] % width
            now[0, k], now[1, k], who[k] = 0, 0, start + k
        if steps % 2:
            _step_exactly(field, home, now, now, n)
        for _ in range(steps // 2):
            _step_exactly(field, home, now, mid, n)
            _step_exactly(field, home, mid, new, n)
            left = 0
            for k in range(n):
                y, x = new[0, k], new[1, k]
                if abs(y - now[0, k]) <= near and abs(x - now[1, k]) <= near:
                    down, right = np.int32(np.floor(y + half)), np.int32(np.floor(x + half))
                    ends[who[k]] = (home[0, k] + down) * width + home[1, k] + right
                else:
                    now[0, left], now[1, left], who[left] = y, x, who[k]
                    home[0, left], home[1, left] = home[0, k], home[1, k]
                    left += 1
            n = left
            if n == 0:
                break
        for k in range(n):
            down, right = np.int32(np.floor(now[0, k] + half)), np.int32(np.floor(now[1, k] + half))
            ends[who[k]] = (home[0, k] + down) * width + home[1, k] + right


@kernel
def _step_exactly(field, home, now, new, n):  # type: ignore[no-untyped-def]
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
        dy = _fma(flat[j + u2], se, _fma(flat[j], sw, _fma(flat[i + u2], ne, flat[i] * nw)))
        dx = _fma(flat[j + u3], se, _fma(flat[j + u1], sw, _fma(flat[i + u3], ne, flat[i + u1] * nw)))
        to_y, to_x = y[k] + dy, x[k] + dx
        new_y[k] = min(max(to_y, zero - np.float32(home[0, k])), np.float32(bottom - home[0, k]))
        new_x[k] = min(max(to_x, zero - np.float32(home[1, k])), np.float32(right_end - home[1, k]))


# ------------------------------------------------------------------------------------------------- sinks become nuclei


@kernel
def _count(ends, height, width):  # type: ignore[no-untyped-def]
    """Count the pixels that end in each pixel; return the counts, with a margin, and flat indices of the sinks."""
    margin = GROW_STEPS
    counts = np.zeros((height + 2 * margin, width + 2 * margin), np.int32)
    for p in ends:
        counts[p // width + margin, p % width + margin] += 1
    seeds = np.empty(len(ends) // SEED_MIN_PX + 1, np.int64)
    n = 0
    for r in range(margin, height + margin):
        for c in range(margin, width + margin):
            here = counts[r, c]
            if here > SEED_MIN_PX and here == counts[r - 2 : r + 3, c - 2 : c + 3].max():
                seeds[n] = r * counts.shape[1] + c
                n += 1
    return counts, seeds[:n]


@kernel
def _grow(counts, seeds):  # type: ignore[no-untyped-def]
    """Return int32 of counts' shape: 1 + the index of the last seed that reaches a place, within GROW_STEPS of it."""
    owners = np.zeros(counts.shape, np.int32)
    side = 2 * GROW_STEPS + 1
    queue = np.empty(side * side, np.int64)
    width = counts.shape[1]
    for s in range(len(seeds)):
        seed_r, seed_c = seeds[s] // width, seeds[s] % width
        owners[seed_r, seed_c] = s + 1
        queue[0] = seeds[s]
        head, tail = 0, 1
        for _ in range(GROW_STEPS):  # one ring of neighbours a round
            end = tail
            while head < end:
                r, c = queue[head] // width, queue[head] % width
                head += 1
                for rr in range(r - 1, r + 2):
                    for cc in range(c - 1, c + 2):
                        if counts[rr, cc] > GROW_MIN_PX and owners[rr, cc] != s + 1:
                            owners[rr, cc] = s + 1
                            queue[tail] = rr * width + cc
                            tail += 1
    return owners


@kernel
def _assign(owners, ends, pixels, labels, n_seeds):  # type: ignore[no-untyped-def]
    """Write each pixel's nucleus into `labels`, numbered as first met; return how many there are."""
    width = labels.shape[1]
    flat = labels.ravel()
    numbers = np.zeros(n_seeds + 1, np.int32)
    n = 0
    for k in range(len(pixels)):
        owner = owners[ends[k] // width + GROW_STEPS, ends[k] % width + GROW_STEPS]
        if owner:
            if numbers[owner] == 0:
                n += 1
                numbers[owner] = n
            flat[pixels[k]] = numbers[owner]
    return n


# ------------------------------------------------------------------------------------------------------------ clean-up


@kernel
def _drop_small(labels, keep, min_size):  # type: ignore[no-untyped-def]
    """Remove nuclei not to `keep` and those below `min_size`, number the others as first met; return how many."""
    flat = labels.ravel()
    sizes, numbers = np.zeros(len(keep), np.int64), np.zeros(len(keep), np.int32)
    for i in flat:
        sizes[i] += 1
    n = 0
    for k in range(len(flat)):
        i = flat[k]
        if i:
            if numbers[i] == 0 and keep[i] and sizes[i] >= min_size:
                n += 1
                numbers[i] = n
            flat[k] = numbers[i]
    return n


@kernel
def _fill_holes(labels, boxes):  # type: ignore[no-untyped-def]
    """Give each nucleus, in order, what its pixels enclose (4-connected), be it background or another nucleus."""
    largest = 0
    for i in range(1, len(boxes)):
        largest = max(largest, (boxes[i, 1] - boxes[i, 0] + 2) * (boxes[i, 3] - boxes[i, 2] + 2))
    inside, stack = np.zeros(largest), np.empty(largest, np.int64)
    for i in range(1, len(boxes)):
        r0, r1, c0, c1 = boxes[i]
        stride = c1 - c0 + 2
        size = (r1 - r0 + 2) * stride
        _cut_out(labels, i, boxes[i], inside)
        # Flood from the margin, whose places are all connected, marking what is outside with 2.
        inside[0] = 2.0
        stack[0] = 0
        top = 1
        while top:
            top -= 1
            at = stack[top]
            for near in (at - stride, at - 1, at + 1, at + stride):
                if 0 <= near < size and inside[near] == 0.0:
                    inside[near] = 2.0
                    stack[top] = near
                    top += 1
        for r in range(r0, r1):
            at = (r - r0 + 1) * stride + 1 - c0
            for c in range(c0, c1):
                if inside[at + c] == 0.0:
                    labels[r, c] = i
