"""Whether a slide is stained with haematoxylin and eosin, from a few small samples of its tissue.

In H&E green light is absorbed most: haematoxylin takes much of the red too, eosin hardly any, and neither takes more
blue than green. What follows is told by that alone, so it holds for any scanner and any mixture of the two.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cytolite.slides.tissue import optical_density

# Coarser, nuclei and what is around them would mix; finer, noise would decide.
SAMPLE_MPP = 2.0
_DENSE, _LEAST_PX = 0.15, 200
# 6 of 3,133 public H&E images lie beyond these limits; see docs/concepts/method.md.
_DARK, _DARK_SHARE = 60, 0.5
_GREY_LEVELS, _GREY_SHARE = 10, 0.8
_BROWN, _BROWN_RED, _BROWN_SHARE = 1.05, 0.35, 0.1
_GREEN_SHARE = 0.5
_HAEMATOXYLIN_RED, _LEAST_SPREAD = 0.8, 0.08


def not_he(samples: Sequence[NDArray[np.uint8]]) -> str | None:
    """Say what of a slide does not look like H&E; ``None`` if nothing does, or if too little is stained to tell.

    Parameters
    ----------
    samples : sequence of numpy.ndarray
        uint8 (h, w, 3), RGB, parts of the slide at about `SAMPLE_MPP`.
    """
    pixels = np.concatenate([np.empty((0, 3), np.uint8), *(sample.reshape(-1, 3) for sample in samples)])
    if len(pixels) and (pixels.max(axis=1) < _DARK).mean() > _DARK_SHARE:
        return "its ground is black, as in dark field or fluorescence"
    density = np.concatenate([np.empty((0, 3)), *(optical_density(sample).reshape(-1, 3) for sample in samples)])
    stained = density.mean(axis=1) > _DENSE
    if stained.sum() < _LEAST_PX:
        return None
    if (np.ptp(pixels[stained], axis=1) < _GREY_LEVELS).mean() > _GREY_SHARE:
        return "it has no colours"
    return _odd_colours(*density[stained].T)


def _odd_colours(red: NDArray[np.floating], green: NDArray[np.floating], blue: NDArray[np.floating]) -> str | None:
    """Judge the optical densities of stained pixels."""
    # Red cells take much blue too, but hardly any red.
    if ((blue > _BROWN * green) & (red > _BROWN_RED * green) & (red < green)).mean() > _BROWN_SHARE:
        return "much of it is brown, as DAB is in immunohistochemistry"
    if (green >= np.maximum(red, blue)).mean() < _GREEN_SHARE:
        return "its colours are not those of haematoxylin and eosin"
    low, high = np.percentile(red / np.maximum(green, 1e-3), [5, 95])
    if low > _HAEMATOXYLIN_RED or high - low < _LEAST_SPREAD:
        return "one stain alone is seen"
    return None
