"""From the network's maps to nuclei: which there are, and what each is called."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cytolite.decoding import flows as flow_field
from cytolite.kernels import kernel


class Thresholds(Protocol):
    """What decides which pixels are nuclei: a bundle's spec has them, and `DEFAULTS`."""

    @property
    def foreground_threshold(self) -> float:
        """A pixel is nucleus where the probability of it is above this."""

    @property
    def flow_threshold(self) -> float:
        """Largest mean squared flow error of a nucleus; 0 for no check."""

    @property
    def min_area_um2(self) -> float:
        """Smaller nuclei are dropped."""


@dataclass(frozen=True)
class Defaults:
    """The thresholds that a network is validated with while it trains, and that its bundle gets."""

    foreground_threshold: float = 0.5
    flow_threshold: float = 0.4
    min_area_um2: float = 5.0


DEFAULTS = Defaults()


def find_nuclei(
    flows: NDArray[np.float32],
    type_logits: NDArray[np.float32],
    thresholds: Thresholds,
    mpp: float,
    inside: tuple[slice, slice] | None = None,
) -> NDArray[np.int32]:
    """Return the nuclei that the network sees, as an instance map.

    Parameters
    ----------
    flows : numpy.ndarray
        float32 (2, H, W), (dy, dx), of unit length inside nuclei.
    type_logits : numpy.ndarray
        float32 (8, H, W); class 0 is background.
    thresholds : Thresholds
        A bundle's spec, or `DEFAULTS`.
    mpp : float
        Resolution of the maps, um per pixel.
    inside : tuple of slice, optional
        Rows and columns that lie on the slide; nothing is found elsewhere.

    Returns
    -------
    numpy.ndarray
        int32 (H, W); 0 = background, 1..n = nuclei.
    """
    foreground = is_nucleus(type_logits, thresholds.foreground_threshold)
    if inside is not None:
        on_slide = np.zeros_like(foreground)
        on_slide[inside] = True
        foreground &= on_slide
    min_size_px = max(1, round(thresholds.min_area_um2 / mpp**2))
    return flow_field.decode(flows, foreground, flow_threshold=thresholds.flow_threshold, min_size_px=min_size_px)


def is_nucleus(type_logits: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
    """Return where 1 - softmax(type_logits)[0] is above `threshold`: bool (H, W).

    Parameters
    ----------
    type_logits : numpy.ndarray
        float32 (C, H, W); class 0 is background.
    threshold : float
        Of the probability of any nucleus.
    """
    nucleus: NDArray[np.bool_] = _is_nucleus(np.ascontiguousarray(type_logits), math.log(threshold / (1 - threshold)))
    return nucleus


def vote_types(
    instance_map: NDArray[np.int32], type_logits: NDArray[np.float32], n: int, temperature: float = 1.0
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the type of each nucleus by majority of its pixels, and the mean probabilities over them.

    Parameters
    ----------
    instance_map : numpy.ndarray
        int32 (H, W), ids 1..n.
    type_logits : numpy.ndarray
        float32 (types + 1, H, W). Background is left out: probabilities are among the types.
    n : int
        Number of nuclei.
    temperature : float
        Logits are divided by it before they become probabilities, so that these are calibrated; votes do not change.

    Returns
    -------
    types : numpy.ndarray
        uint8 (n,), from 1; equal votes go to the larger mean probability.
    type_probs : numpy.ndarray
        float32 (n, types); rows sum to 1.
    """
    votes, sums = _vote(
        np.ascontiguousarray(instance_map), np.ascontiguousarray(type_logits), n, np.float32(temperature)
    )
    probs = sums / np.maximum(sums.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    # A probability is below 1, so it decides between equal counts only.
    types = np.argmax(votes + probs / 2, axis=1) + 1
    return types.astype(np.uint8), probs.astype(np.float32)


@kernel
def _is_nucleus(type_logits, least):  # type: ignore[no-untyped-def]
    """Compare log(sum of exp of the types' logits) - background's logit with `least`.

    The sum lies between its largest term and that times the number of types: exponentials are needed in between only.
    """
    classes, height, width = type_logits.shape
    out = np.empty((height, width), np.bool_)
    spread = np.float32(math.log(classes - 1) + 1e-3)
    for r in range(height):
        for c in range(width):
            largest = type_logits[1, r, c]
            for k in range(2, classes):
                largest = max(largest, type_logits[k, r, c])
            margin = largest - type_logits[0, r, c]
            if margin > least:
                out[r, c] = True
            elif margin + spread < least:
                out[r, c] = False
            else:
                total = 0.0
                for k in range(1, classes):
                    total += math.exp(np.float64(type_logits[k, r, c] - largest))
                out[r, c] = margin + math.log(total) > least
    return out


@kernel
def _vote(instance_map, type_logits, n, temperature):  # type: ignore[no-untyped-def]
    """Return int64 votes and float64 sums of probabilities, (n, types) each."""
    height, width = instance_map.shape
    n_types = type_logits.shape[0] - 1
    votes = np.zeros((n, n_types), np.int64)
    sums = np.zeros((n, n_types))
    terms = np.empty(n_types, np.float32)
    for r in range(height):
        for c in range(width):
            nucleus = instance_map[r, c] - 1
            if nucleus < 0:
                continue
            best = 0
            for k in range(n_types):
                terms[k] = type_logits[k + 1, r, c]
                if terms[k] > terms[best]:
                    best = k
            votes[nucleus, best] += 1
            largest = terms[best]
            total = np.float32(0)
            for k in range(n_types):
                terms[k] = math.exp((terms[k] - largest) / temperature)
                total += terms[k]
            for k in range(n_types):
                sums[nucleus, k] += np.float64(terms[k] / total)
    return votes, sums
