"""The one way from the network's maps to nuclei, for slides, images and validation alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytolite.decoding.instances import Thresholds, find_nuclei, vote_types
from cytolite.decoding.refine import refine


@dataclass(frozen=True)
class DecodedMaps:
    """The nuclei of maps, found but not named yet.

    Attributes
    ----------
    instances : numpy.ndarray
        int32 (h, w), on the grid of the maps; 0 = background, 1..n = nuclei.
    fine : numpy.ndarray
        int32 (2 h, 2 w), the same nuclei with their outlines between the maps' pixels.
    type_logits : numpy.ndarray
        float32 (8, h, w), of which the names are made.
    """

    instances: NDArray[np.int32]
    fine: NDArray[np.int32]
    type_logits: NDArray[np.float32]

    def names(self, temperature: float = 1.0) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Return types, uint8 (n,), and their probabilities, float32 (n, types), of logits divided by `temperature`."""
        return vote_types(self.instances, self.type_logits, int(self.instances.max(initial=0)), temperature)


def decode_maps(
    flows: NDArray[np.float32],
    type_logits: NDArray[np.float32],
    thresholds: Thresholds,
    mpp: float,
    inside: tuple[slice, slice] | None = None,
) -> DecodedMaps:
    """Find the nuclei that maps show and refine their outlines; parameters as of `find_nuclei`.

    Parameters
    ----------
    flows : numpy.ndarray
        float32 (2, h, w), (dy, dx), of unit length inside nuclei.
    type_logits : numpy.ndarray
        float32 (types + 1, h, w); class 0 is background.
    thresholds : Thresholds
        A bundle's spec, or `DEFAULTS`.
    mpp : float
        Resolution of the maps, um per pixel.
    inside : tuple of slice, optional
        Rows and columns of the maps that lie on the slide; by default all.
    """
    instances = find_nuclei(flows, type_logits, thresholds, mpp, inside)
    return DecodedMaps(instances, refine(instances, type_logits, thresholds.foreground_threshold, inside), type_logits)
