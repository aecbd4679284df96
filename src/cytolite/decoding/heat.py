"""Heat that spreads in nuclei from their centres, and its gradient: what flows are made of and checked against.

Where sums are written out term by term, it is Cellpose's order: rounding then is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from cytolite.kernels import kernel

HEAT_STEPS = 256  # for as long as heat spreads at least: about as long as Cellpose's does in a tile of 1000 px


def steps_of(boxes: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return for how many steps heat spreads in each nucleus: by its own size, whatever else is in the image."""
    return np.maximum(twice_around(boxes), HEAT_STEPS)


def twice_around(boxes: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return twice the sum of height and width of each box, with a margin of one pixel."""
    return 2 * (boxes[:, 1] - boxes[:, 0] + boxes[:, 3] - boxes[:, 2] + 2).astype(np.int64)


def heat_of(
    labels: NDArray[np.int32], boxes: NDArray[np.int32], n_steps: NDArray[np.int64], threads: int = 1
) -> NDArray[np.float64]:
    """Return float64 (H + 2, W + 2): the heat in every nucleus after its `n_steps`, with a margin of one pixel.

    Parameters
    ----------
    labels : numpy.ndarray
        int32 (H, W), 0 = background.
    boxes : numpy.ndarray
        int32 (n + 1, 4), of each nucleus.
    n_steps : numpy.ndarray
        int64 (n + 1,), of each nucleus.
    threads : int
        At most.
    """
    heat = np.zeros((labels.shape[0] + 2, labels.shape[1] + 2))
    in_threads(threads, len(boxes), lambda a, b: _heat_nuclei(labels, boxes, heat, n_steps, (a, b)))
    return heat


def in_threads(threads: int, n: int, work: Callable[[int, int], None]) -> None:
    """Call ``work(start, stop)`` on parts of ``range(n)`` that together cover it.

    Parameters
    ----------
    threads : int
        At most.
    n : int
        How many items.
    work : callable
        Is given where a part starts and stops.
    """
    if threads == 1:
        work(0, n)
        return
    edges = np.linspace(0, n, 8 * threads + 1).astype(int).tolist()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, edges[:-1], edges[1:]))


@kernel
def boxes(labels, n):  # type: ignore[no-untyped-def]
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
        cut_out(labels, i, boxes[i], inside)
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
def cut_out(labels, i, box, inside):  # type: ignore[no-untyped-def]
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
    mean_r, mean_c = np.int64(np.rint(sum_r / n)), np.int64(np.rint(sum_c / n))
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
def gradient(labels, heat):  # type: ignore[no-untyped-def]
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
def flow_errors(labels, heat, flows, n):  # type: ignore[no-untyped-def]
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
