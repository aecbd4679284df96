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
from cytolite.decoding.following import field_of


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
    flows : numpy.ndarray
        float32 (2, H, W), (dy, dx), in pixels per step: Cellpose's network output divided by 5.
    foreground : numpy.ndarray
        bool (H, W); pixels of nuclei.
    flow_threshold : float or None
        Nuclei are dropped whose mean squared difference between `flows` and their own is above this; 0 or None keeps
        all.
    min_size_px : int
        Nuclei with fewer pixels are dropped, before and after their holes are filled.
    steps : int
        How many steps the pixels take.
    tolerance : float
        A pixel stops early when it comes back within so many pixels to where it was two steps before; 0 gives exactly
        the end points of Cellpose.
    threads : int
        How many threads work on this one image.

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
    # Positions run from -1 to 1 over the image.
    spans = (np.float32(max(foreground.shape[0] - 1, 1)), np.float32(max(foreground.shape[1] - 1, 1)))
    field = field_of(flows, foreground, *(np.float32(2.0 / span) for span in spans))
    near_y, near_x = (np.float32(tolerance * 2.0 / span) for span in spans)
    labels, n = follow_to_labels(field, foreground, steps=steps, near=(near_y, near_x), threads=threads, spans=spans)
    return keep_good(
        labels, n, flows, _longest, flow_threshold=flow_threshold or 0, min_size_px=min_size_px, threads=threads
    )


def _longest(boxes: NDArray[np.int32]) -> NDArray[np.int64]:
    return np.full(len(boxes), heat.twice_around(boxes).max(initial=0))
