"""Flows: nuclei as vector fields and back, Cellpose's targets and dynamics written for speed.

`encode` turns an instance map into unit vectors that point to each nucleus's centre; `decode` follows vectors to
their sinks and gives each pixel to the sink that it reaches. Source: Stringer et al., Cellpose, Nature Methods 2021,
doi:10.1038/s41592-020-01018-x, and the rules of ``cellpose.dynamics`` 4.2.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cytolite.errors import InputError


def encode(instance_map: NDArray[np.integer]) -> NDArray[np.float32]:
    """Turn nuclei into the vectors that a network learns: Cellpose's targets.

    Heat spreads inside each nucleus from its centre, the vectors are the normalised gradient of the heat.

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
    return _encode(labels, n)


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


@njit(cache=True, nogil=True)
def _encode(labels, n):  # type: ignore[no-untyped-def]
    """Return float32 (2, H, W) of the normalised gradient of the heat of ids 1..n."""
    height, width = labels.shape
    heat = _heat(labels, _boxes(labels, n))
    flows = np.zeros((2, height, width), np.float32)
    for r in range(height):
        for c in range(width):
            if labels[r, c]:
                # The heat of touching nuclei counts too, as in Cellpose.
                dy = heat[r + 2, c + 1] - heat[r, c + 1]
                dx = heat[r + 1, c + 2] - heat[r + 1, c]
                norm = 1e-60 + np.sqrt(dy * dy + dx * dx)
                flows[0, r, c] = dy / norm
                flows[1, r, c] = dx / norm
    return flows


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def _heat(labels, boxes):  # type: ignore[no-untyped-def]
    """Return float64 (H + 2, W + 2): the heat in every nucleus, each spread on its own in its bounding box."""
    height, width = labels.shape
    heat = np.zeros((height + 2, width + 2))
    longest, largest = 0, 0
    for i in range(1, len(boxes)):
        rows, cols = boxes[i, 1] - boxes[i, 0], boxes[i, 3] - boxes[i, 2]
        longest = max(longest, rows + cols + 2)
        largest = max(largest, (rows + 2) * (cols + 2) + 2)
    # Cellpose spreads all nuclei for as long as the largest needs.
    n_steps = 2 * longest
    inside, now, later = np.zeros(largest), np.zeros(largest), np.zeros(largest)
    for i in range(1, len(boxes)):
        r0, r1, c0, c1 = boxes[i]
        if r1 == 0:
            continue
        stride = c1 - c0 + 2
        size = (r1 - r0 + 2) * stride
        _cut_out(labels, i, boxes[i], inside)
        centre = _centre(inside, r1 - r0, stride)
        now[:size] = 0.0
        later[:size] = 0.0
        for step in range(n_steps):
            now[centre] += 1.0
            _spread(now, later, inside, stride, size - 2 * stride - 2)
            now, later = later, now
            # Heat only grows (every rounding is monotone), so a step without change is the end, exactly.
            if step % 32 == 31 and _equal(now, later, centre, size):
                break
        for r in range(r0, r1):
            at = (r - r0 + 1) * stride + 1 - c0
            for c in range(c0, c1):
                if labels[r, c] == i:
                    heat[r + 1, c + 1] = now[at + c]
    return heat


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def _spread(now, later, inside, s, n):  # type: ignore[no-untyped-def]
    """One step: the mean of 3x3 pixels inside the nucleus, added in Cellpose's order so that results are equal."""
    stride, one = np.uint64(s), np.uint64(1)  # unsigned: no test for negative indices, so that the loop vectorises
    for k in range(np.uint64(n)):
        i = k + stride + one
        total = now[i] + now[i - stride] + now[i + stride] + now[i - one] + now[i + one]
        total += now[i - stride - one]
        total += now[i - stride + one]
        total += now[i + stride - one]
        total += now[i + stride + one]
        later[i] = total / 9.0 * inside[i]


@njit(cache=True, nogil=True)
def _equal(now, later, centre, size):  # type: ignore[no-untyped-def]
    """Tell whether the last step changed nothing; `later` is the step before, with its unit of heat added."""
    for k in range(size):
        if later[k] != (now[k] + 1.0 if k == centre else now[k]):
            return False
    return True
