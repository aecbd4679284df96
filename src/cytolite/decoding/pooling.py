"""What an inner map of the network says of each nucleus: its mean over the nucleus's pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytolite.errors import InputError
from cytolite.kernels import kernel


def mean_vectors(instance_map: NDArray[np.int32], feature_map: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean of a map over the pixels of each nucleus, float32 (n, C).

    Sums run over a nucleus's pixels row by row, in float64: they do not depend on what lies around it.

    Parameters
    ----------
    instance_map : numpy.ndarray
        int32 (H, W), ids 1..n, each with a pixel at least.
    feature_map : numpy.ndarray
        float32 (C, h, w), of the same size or coarser by one whole number; each of its pixels counts for all pixels
        that it covers, without being enlarged first.

    Raises
    ------
    InputError
        If the sizes do not fit.
    """
    channels, height, width = feature_map.shape
    factor = instance_map.shape[0] // max(height, 1)
    if factor < 1 or instance_map.shape != (height * factor, width * factor):
        raise InputError(f"A map of {height} x {width} does not fit nuclei on {instance_map.shape}.")
    rows, columns = np.nonzero(instance_map)
    ids = instance_map[rows, columns].astype(np.int64) - 1
    n = int(ids.max(initial=-1)) + 1
    places = (rows // factor) * width + columns // factor
    sums = _sums(ids, places, feature_map.reshape(channels, -1), n)
    means: NDArray[np.float32] = (sums / np.bincount(ids, minlength=n)[:, None]).astype(np.float32)
    return means


def vectors(instance_map: NDArray[np.int32], feature_map: NDArray[np.float32]) -> NDArray[np.float16]:
    """Return what is kept of each nucleus: `mean_vectors` as float16 (n, C), half the size and as good.

    Parameters
    ----------
    instance_map : numpy.ndarray
        int32 (H, W), ids 1..n, each with a pixel at least.
    feature_map : numpy.ndarray
        float32 (C, h, w), of the same size or coarser by one whole number.
    """
    return mean_vectors(instance_map, feature_map).astype(np.float16)


@kernel
def _sums(ids, places, maps, n):  # type: ignore[no-untyped-def]
    sums = np.zeros((n, maps.shape[0]))
    for channel in range(maps.shape[0]):
        for i in range(len(ids)):
            sums[ids[i], channel] += maps[channel, places[i]]
    return sums
