"""Score a network on whole held-back patches while it trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cytolite.celltypes import SEVEN, LabelSet
from cytolite.decoding.instances import Defaults
from cytolite.inference.image import ImageNuclei, locate
from cytolite.metrics.classes import own_classes
from cytolite.metrics.counts import Counts, collect, count_image
from cytolite.metrics.truth import Prediction, true_nuclei
from cytolite.networks.network import NucleusNetwork
from cytolite.patches import Patch


@dataclass(frozen=True, kw_only=True)
class Reading(Defaults):
    """How the maps of a network that is being trained are read: as those of its bundle will be."""

    mpp: float
    stride: int


def score_network(
    network: NucleusNetwork,
    patches: Sequence[Patch],
    mpp: float,
    labels: LabelSet = SEVEN,
    seen: Callable[[Patch, NDArray[np.int32], NDArray[np.uint8]], None] = lambda *_: None,
) -> Counts:
    """Predict each patch at the network's resolution, `mpp`, and count at the truth's own; `seen` is shown each.

    Parameters
    ----------
    network : NucleusNetwork
        To be judged.
    patches : sequence of Patch
        Images with their truth.
    mpp : float
        Resolution that the network sees, um per pixel.
    seen : callable
        Is shown each patch, its instance map and the types of the nuclei.
    labels : LabelSet
        The set of types, and what labels mean in it.
    """
    classes, counted = own_classes(labels), []
    for patch in patches:
        nuclei = predict_patch(network, patch, mpp)
        truth = true_nuclei(patch.instance_map, patch.judged_types(), classes, patch.name)
        found = Prediction(nuclei.instance_map, np.arange(1, len(nuclei.types) + 1), nuclei.types)
        counted.append(count_image(truth, found, classes, patch.mpp))
        seen(patch, nuclei.instance_map, nuclei.types)
    return collect([{"image": p.name, "source": p.source, "group": p.group} for p in patches], counted, classes)


@torch.no_grad()
def predict_patch(network: NucleusNetwork, patch: Patch, mpp: float) -> ImageNuclei:
    """Return the nuclei of a patch as the bundle of a network of resolution `mpp` would.

    Parameters
    ----------
    network : NucleusNetwork
        To be judged.
    patch : Patch
        Image with its truth.
    mpp : float
        Resolution that the network sees, um per pixel.
    """

    def maps(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        given = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(next(network.parameters()).device)
        flows, logits = network(given)
        return flows.float().cpu().numpy(), logits.float().cpu().numpy()

    return locate(maps, Reading(mpp=mpp, stride=network.stride), patch.image, patch.mpp).named()
