"""Sinks become nuclei: where many pixels end, and which of them belong together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytolite.decoding.heat import cut_out
from cytolite.kernels import kernel

SEED_MIN_PX = 10  # a sink needs more than this many pixels to found a nucleus
GROW_MIN_PX = 2  # places around a sink belong to it where more than this many pixels end
GROW_STEPS = 5  # how far a sink reaches, in pixels; also the margin of the histogram


def label_ends(
    ends: NDArray[np.int32], pixels: NDArray[np.int32], shape: tuple[int, ...]
) -> tuple[NDArray[np.int32], int]:
    """Give every pixel to the sink around its end; return int32 `shape`, numbered in reading order, and the highest.

    Parameters
    ----------
    ends : numpy.ndarray
        Where each pixel ends.
    pixels : numpy.ndarray
        Flat index of each pixel.
    shape : tuple of int
        Of the map.
    """
    counts, seeds = _count(ends, shape[0], shape[1])
    # Where sinks overlap, the larger has the last word.
    seeds = seeds[np.argsort(counts.ravel()[seeds], kind="stable")]
    owners = _grow(counts, seeds)
    labels = np.zeros(shape, np.int32)
    n = _assign(owners, ends, pixels, labels, len(seeds))
    return labels, n


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
            if here > SEED_MIN_PX and _is_largest(counts, r, c):
                seeds[n] = r * counts.shape[1] + c
                n += 1
    return counts, seeds[:n]


@kernel
def _is_largest(counts, r, c):  # type: ignore[no-untyped-def]
    """Tell whether no place at most two pixels away has a larger count."""
    for rr in range(r - 2, r + 3):
        for cc in range(c - 2, c + 3):
            if counts[rr, cc] > counts[r, c]:
                return False
    return True


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


@kernel
def drop_small(labels, keep, min_size):  # type: ignore[no-untyped-def]
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
def fill_holes(labels, boxes):  # type: ignore[no-untyped-def]
    """Give each nucleus, in order, what its pixels enclose (4-connected), be it background or another nucleus."""
    largest = 0
    for i in range(1, len(boxes)):
        largest = max(largest, (boxes[i, 1] - boxes[i, 0] + 2) * (boxes[i, 3] - boxes[i, 2] + 2))
    inside, stack = np.zeros(largest), np.empty(largest, np.int64)
    for i in range(1, len(boxes)):
        r0, r1, c0, c1 = boxes[i]
        stride = c1 - c0 + 2
        size = (r1 - r0 + 2) * stride
        cut_out(labels, i, boxes[i], inside)
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
