"""Score a network on whole held-back patches while it trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from cytolite.decoding.instances import DEFAULTS, find_nuclei, vote_types
from cytolite.decoding.refine import FACTOR, refine
from cytolite.metrics.classes import own_classes
from cytolite.metrics.counts import Counts, collect, count_image
from cytolite.metrics.truth import Prediction, true_nuclei
from cytolite.networks.network import NucleusNetwork
from cytolite.patches import Patch


def resize(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """Scale an image, area-correctly when it shrinks."""
    size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def pad_to_stride(image: NDArray[np.uint8], stride: int = 32) -> NDArray[np.uint8]:
    """Pad with white at the bottom and right to multiples of `stride`, as a slide's edge is read."""
    below, right = (-side % stride for side in image.shape[:2])
    return np.pad(image, ((0, below), (0, right), (0, 0)), constant_values=255)


def score_network(
    network: NucleusNetwork,
    patches: Sequence[Patch],
    mpp: float,
    seen: Callable[[Patch, NDArray[np.int32], NDArray[np.uint8]], None] = lambda *_: None,
) -> Counts:
    """Predict each patch at the network's resolution, `mpp`, and count at the truth's own; `seen` is shown each."""
    classes, counted = own_classes(), []
    for patch in patches:
        instances, types = predict_patch(network, patch, mpp)
        truth = true_nuclei(patch.instance_map, patch.type_map, classes, patch.name)
        found = Prediction(enlarge(instances, patch.instance_map.shape), np.arange(1, len(types) + 1), types)
        counted.append(count_image(truth, found, classes, patch.mpp))
        seen(patch, instances, types)
    return collect([{"image": p.name, "source": p.source, "group": p.group} for p in patches], counted, classes)


def enlarge(labels: NDArray[np.int32], shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Return the label map at another size by nearest pixel centre."""
    rows, cols = (
        np.minimum(((np.arange(wanted) + 0.5) * given / wanted).astype(int), given - 1)
        for wanted, given in zip(shape, labels.shape, strict=True)
    )
    return labels[rows[:, None], cols]


@torch.no_grad()
def predict_patch(network: NucleusNetwork, patch: Patch, mpp: float) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Return the nuclei of a patch as its bundle would, int32 (H, W) at some resolution, and the type of each, (n,)."""
    image = resize(patch.image, patch.mpp / mpp)
    stride = network.stride
    given = torch.from_numpy(pad_to_stride(image).transpose(2, 0, 1)[None].copy())
    field, logits = (maps[0].float().cpu().numpy() for maps in network(given.to(next(network.parameters()).device)))
    height, width = (-(-side // stride) for side in image.shape[:2])
    inside = (slice(0, height), slice(0, width))
    instances = find_nuclei(field, logits, DEFAULTS, mpp * stride, inside)
    types = vote_types(instances, logits, int(instances.max(initial=0)))[0]
    fine = refine(instances, logits, DEFAULTS.foreground_threshold, inside)
    rows, columns = (side * FACTOR // stride for side in image.shape[:2])
    return fine[:rows, :columns], types
