"""Flows: nuclei as vector fields and back, Cellpose's targets and dynamics written for speed.

`encode` turns an instance map into unit vectors that point to each nucleus's centre; `decode` follows vectors to
their sinks and gives each pixel to the sink that it reaches. Source: Stringer et al., Cellpose, Nature Methods 2021,
doi:10.1038/s41592-020-01018-x, and the rules of ``cellpose.dynamics`` 4.2; where it departs from them,
`cytolite.decoding.cellpose` does not.

The kernels hold no Python object and release the GIL, so tiles can be decoded in threads.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cytolite.decoding import heat
from cytolite.decoding.following import field_of, follow
from cytolite.decoding.sinks import drop_small, fill_holes, label_ends
from cytolite.errors import InputError


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
    boxes = heat.boxes(labels, n)
    # Cellpose spreads all nuclei for as long as the longest needs.
    longest = np.full(len(boxes), heat.twice_around(boxes).max(initial=0))
    flows: NDArray[np.float32] = heat.gradient(labels, heat.heat_of(labels, boxes, longest))
    return flows


def decode(
    flows: NDArray[np.float32],
    foreground: NDArray[np.bool_],
    *,
    flow_threshold: float | None = 0.4,
    min_size_px: int = 15,
    steps: int = 200,
    tolerance: float = 1e-4,
    threads: int = 1,
) -> NDArray[np.int32]:
    """Turn vectors back into nuclei: every foreground pixel follows them, and belongs to the sink that it reaches.

    What becomes of a nucleus depends on the flows around it alone, to the last bit: it is the same wherever it lies in
    however large an image.

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
        A pixel stops early when it comes back within so many pixels to where it was two steps before.
    threads : int
        How many threads work on this one image; leave 1 where several images are decoded side by side.

    Returns
    -------
    numpy.ndarray
        int32 (H, W); 0 = background, 1..n = nuclei, numbered in reading order of their first pixel.

    Raises
    ------
    InputError
        When shapes or dtypes are wrong, a vector is not finite, or a setting is out of its range.
    """
    foreground = np.asarray(foreground)
    flows = checked_flows(np.asarray(flows), foreground)
    check_settings(
        flow_threshold=flow_threshold or 0, min_size_px=min_size_px, steps=steps, tolerance=tolerance, threads=threads
    )
    one, near = np.float32(1), np.float32(tolerance)
    labels, n = follow_to_labels(
        field_of(flows, foreground, one, one), foreground, steps=steps, near=(near, near), threads=threads
    )
    return keep_good(
        labels, n, flows, heat.steps_of, flow_threshold=flow_threshold or 0, min_size_px=min_size_px, threads=threads
    )


def follow_to_labels(
    field: NDArray[np.float32],
    foreground: NDArray[np.bool_],
    *,
    steps: int,
    near: tuple[np.float32, np.float32],
    threads: int,
    spans: tuple[np.float32, np.float32] | None = None,
) -> tuple[NDArray[np.int32], int]:
    """Give each pixel of the foreground to the sink that it reaches; return int32 (H, W) and the highest id.

    Parameters
    ----------
    field : numpy.ndarray
        float32 (H + 2, W + 2, 2), made by `field_of`.
    foreground : numpy.ndarray
        bool (H, W); pixels of nuclei.
    steps : int
        How many steps the pixels take.
    near : tuple of float32
        A pixel stops early when it comes back within this, in y and x, to where it was two steps before; in the field's
        unit.
    threads : int
        How many threads share the pixels.
    spans : tuple of float32, optional
        Largest row and column, to step in Cellpose's own arithmetic, in which positions run from -1 to 1; by default
        displacements in px.
    """
    pixels = np.flatnonzero(foreground).astype(np.int32)
    ends = np.empty(len(pixels), np.int32)
    heat.in_threads(threads, len(pixels), lambda a, b: follow(field, pixels[a:b], ends[a:b], steps, near, spans))
    return label_ends(ends, pixels, foreground.shape)


def keep_good(
    labels: NDArray[np.int32],
    n: int,
    flows: NDArray[np.float32],
    n_steps: Callable[[NDArray[np.int32]], NDArray[np.int64]],
    *,
    flow_threshold: float,
    min_size_px: int,
    threads: int,
) -> NDArray[np.int32]:
    """Drop nuclei whose flows are not their own and small ones, and fill holes; changes `labels` and returns it.

    Parameters
    ----------
    labels : numpy.ndarray
        int32 (H, W); 0 = background.
    n : int
        Highest id in `labels`.
    flows : numpy.ndarray
        float32 (2, H, W), (dy, dx), in px per step.
    n_steps : callable
        Takes the nuclei's boxes, int32 (n + 1, 4), and says for how many steps heat spreads in each, int64 (n + 1,).
    flow_threshold : float
        Largest mean squared difference between `flows` and a nucleus's own; 0 for no check.
    min_size_px : int
        Nuclei with fewer pixels are dropped, before and after holes are filled.
    threads : int
        How many threads share the nuclei.
    """
    if not n:
        return labels
    keep = np.ones(n + 1, np.bool_)
    if flow_threshold:
        boxes = heat.boxes(labels, n)
        spread = heat.heat_of(labels, boxes, n_steps(boxes), threads)
        keep = heat.flow_errors(labels, spread, flows, n) <= flow_threshold
    n = drop_small(labels, keep, min_size_px)
    fill_holes(labels, heat.boxes(labels, n))
    drop_small(labels, np.ones(n + 1, np.bool_), min_size_px)
    return labels


def check_settings(**values: float) -> None:
    """Refuse settings of `decode` below what makes sense."""
    least = {"steps": 1, "threads": 1}
    for name, value in values.items():
        if not value >= least.get(name, 0):
            raise InputError(f"{name} is {value}; give at least {least.get(name, 0)}.")


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


def checked_flows(flows: NDArray[np.float32], foreground: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return `flows` as contiguous float32 that fits `foreground`.

    Parameters
    ----------
    flows : numpy.ndarray
        (2, H, W).
    foreground : numpy.ndarray
        bool (H, W).
    """
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
