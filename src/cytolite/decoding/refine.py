"""Outlines finer than the network's pixels: a nucleus ends where the interpolated odds cross the threshold."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cytolite.kernels import kernel

FACTOR = 2


def refine(
    instance_map: NDArray[np.int32],
    type_logits: NDArray[np.float32],
    threshold: float,
    inside: tuple[slice, slice] | None = None,
) -> NDArray[np.int32]:
    """Enlarge an instance map twofold, placing its edges between pixels.

    The network's pixels are samples of a smooth field, so its level set, not the pixels' stairs, is the outline. Each
    fine pixel takes the nearest nucleus among the four pixels around it, if the log odds of nucleus interpolated
    between these four exceed the threshold's.

    Parameters
    ----------
    instance_map : numpy.ndarray
        int32 (H, W), ids 1..n.
    type_logits : numpy.ndarray
        float32 (8, H, W); class 0 is background.
    threshold : float
        Probability above which a pixel is nucleus, as in decoding.
    inside : tuple of slice, optional
        Rows and columns of `instance_map` that lie on the slide; nothing grows beyond them.

    Returns
    -------
    numpy.ndarray
        int32 (2 H, 2 W), with the same ids: a nucleus too thin to have a fine pixel above the threshold keeps its
        pixels.
    """
    least = math.log(threshold / (1 - threshold))
    fine: NDArray[np.int32]
    fine, found = _refine(
        instance_map, np.ascontiguousarray(type_logits), np.float32(least), int(instance_map.max(initial=0))
    )
    if inside is not None:
        fine = _within(fine, inside)
    lost = np.flatnonzero(found[1:] == 0) + 1
    if len(lost):
        coarse = np.where(np.isin(instance_map, lost), instance_map, 0).repeat(FACTOR, 0).repeat(FACTOR, 1)
        fine = np.where(coarse > 0, coarse, fine)
    return fine


def _within(fine: NDArray[np.int32], inside: tuple[slice, slice]) -> NDArray[np.int32]:
    rows, cols = (slice(s.start * FACTOR, s.stop * FACTOR) for s in inside)
    kept = np.zeros_like(fine)
    kept[rows, cols] = fine[rows, cols]
    return kept


@kernel
def _refine(labels, logits, least, n):  # type: ignore[no-untyped-def]
    height, width = labels.shape
    odds = _odds_near_nuclei(labels, logits, least)
    fine = np.zeros((2 * height, 2 * width), np.int32)
    found = np.zeros(n + 1, np.int32)
    near = np.empty(width, np.bool_)
    for r in range(height):
        _near_nuclei(labels, r, near)
        for c in range(width):
            if not near[c]:  # most of a tile
                continue
            for half_r in range(2):
                r2 = min(max(r + 2 * half_r - 1, 0), height - 1)
                for half_c in range(2):
                    c2 = min(max(c + 2 * half_c - 1, 0), width - 1)
                    label = labels[r, c]
                    if label == 0:
                        label = labels[r, c2]
                    if label == 0:
                        label = labels[r2, c]
                    if label == 0:
                        label = labels[r2, c2]
                    if label == 0:
                        continue
                    # Quarter-pixel offsets: weights 9, 3, 3 and 1 of 16.
                    value = 0.5625 * odds[r, c] + 0.1875 * (odds[r, c2] + odds[r2, c]) + 0.0625 * odds[r2, c2]
                    if value > 0:
                        fine[2 * r + half_r, 2 * c + half_c] = label
                        found[label] += 1
    return fine, found


@kernel
def _odds_near_nuclei(labels, logits, least):  # type: ignore[no-untyped-def]
    """Log odds of nucleus minus the threshold's, where a nucleus is at most a pixel away; elsewhere they are not used.

    Pixels of a nucleus that lie below the threshold were holes that decoding filled: they count as just inside.
    """
    height, width = labels.shape
    odds = np.zeros((height, width), np.float32)
    near = np.empty(width, np.bool_)
    for r in range(height):
        _near_nuclei(labels, r, near)
        for c in range(width):
            if not near[c]:
                continue
            top = logits[1, r, c]
            for k in range(2, logits.shape[0]):
                top = max(top, logits[k, r, c])
            total = np.float32(0)
            for k in range(1, logits.shape[0]):
                total += np.exp(logits[k, r, c] - top)
            value = top + np.log(total) - logits[0, r, c] - least
            odds[r, c] = max(value, np.float32(0.1)) if labels[r, c] > 0 else value
    return odds


@kernel
def _near_nuclei(labels, r, near):  # type: ignore[no-untyped-def]
    """Write which pixels of row `r` are at most one pixel away from a nucleus, diagonals included."""
    height, width = labels.shape
    above, below = max(r - 1, 0), min(r + 1, height - 1)
    before, here = False, (labels[above, 0] | labels[r, 0] | labels[below, 0]) > 0
    for c in range(width):
        x = min(c + 1, width - 1)
        after = (labels[above, x] | labels[r, x] | labels[below, x]) > 0
        near[c] = before or here or after
        before, here = here, after
