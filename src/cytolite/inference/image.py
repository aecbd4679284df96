"""One image to its nuclei, at the image's own size: what `segment` does with a slide, for images with a known truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytolite.decoding.instances import find_nuclei, vote_types
from cytolite.decoding.refine import FACTOR, refine
from cytolite.inference.predictor import Predictor
from cytolite.slides.levels import ArrayLevel, Pyramid
from cytolite.slides.reader import Slide
from cytolite.slides.tiles import ALIGN_PX


@dataclass(frozen=True)
class PatchNuclei:
    """The nuclei found in an image.

    Attributes
    ----------
    instance_map : numpy.ndarray
        int32 (H, W) of the image's size; 0 = background, 1..n = nuclei, of which the smallest may have no pixel.
    types : numpy.ndarray
        uint8 (n,), 1 to 7.
    type_probs : numpy.ndarray
        float32 (n, 7); rows sum to 1.
    """

    instance_map: NDArray[np.int32]
    types: NDArray[np.uint8]
    type_probs: NDArray[np.float32]


@dataclass(frozen=True)
class Located:
    """The nuclei of an image before they are named.

    Attributes
    ----------
    instances : numpy.ndarray
        int32 (h, w), on the grid of the network's maps.
    type_logits : numpy.ndarray
        float32 (8, h, w).
    instance_map : numpy.ndarray
        int32 (H, W), the same nuclei at the image's size, outlines refined.
    """

    instances: NDArray[np.int32]
    type_logits: NDArray[np.float32]
    instance_map: NDArray[np.int32]

    def names(self, temperature: float) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Return types and their probabilities, of logits divided by `temperature`; see `vote_types`."""
        return vote_types(self.instances, self.type_logits, int(self.instances.max(initial=0)), temperature)


def predict_patch(predictor: Predictor, image: NDArray[np.uint8], mpp: float) -> PatchNuclei:
    """Find and name the nuclei of an image; parameters as of `locate`."""
    located = locate(predictor, image, mpp)
    return PatchNuclei(located.instance_map, *located.names(predictor.spec.type_temperature))


def locate(predictor: Predictor, image: NDArray[np.uint8], mpp: float) -> Located:
    """Find the nuclei of an image in one piece, read and resampled as a slide is, and do not name them yet.

    Parameters
    ----------
    predictor : Predictor
        Network to run.
    image : numpy.ndarray
        uint8 (H, W, 3), RGB.
    mpp : float
        um per pixel.
    """
    spec = predictor.spec
    slide = Slide(Path("image"), Pyramid("image", [ArrayLevel(image)], (mpp, mpp), close=lambda: None), mpp)
    read_mpp = slide.working_mpp(spec.mpp)
    size = slide.size_at(read_mpp)
    width, height = (-(-side // ALIGN_PX) * ALIGN_PX for side in size)
    flows, logits = predictor.maps(slide.read(0, 0, width, height, read_mpp)[None])
    columns, rows = (-(-side // spec.stride) for side in size)
    inside = (slice(0, rows), slice(0, columns))
    map_mpp = read_mpp * spec.stride
    instances = find_nuclei(flows[0], logits[0], spec, map_mpp, inside)
    fine = refine(instances, logits[0], spec.foreground_threshold, inside)
    r, c = (
        np.minimum(_nearest(n, mpp * FACTOR / map_mpp), m - 1) for n, m in zip(image.shape, fine.shape, strict=False)
    )
    return Located(instances, logits[0], fine[r[:, None], c])


def _nearest(count: int, scale: float) -> NDArray[np.int64]:
    """Pixels of a map, `scale` of them a pixel of the image, that hold the centres of the image's first `count`."""
    return np.floor((np.arange(count) + 0.5) * scale).astype(np.int64)
