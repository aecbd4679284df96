"""Score a network on whole held-back patches while it trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from cytolite import flows
from cytolite.celltypes import N_TYPES
from cytolite.evaluation.classes import own_classes
from cytolite.evaluation.counts import Counts, collect, count_image
from cytolite.evaluation.nuclei import Prediction, true_nuclei
from cytolite.models.network import NucleusNetwork
from cytolite.patches import Patch

FOREGROUND_THRESHOLD = 0.5
MIN_AREA_UM2 = 5.0


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
    seen: Callable[[Patch, NDArray[np.int32], NDArray[np.int64]], None] = lambda *_: None,
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
def predict_patch(network: NucleusNetwork, patch: Patch, mpp: float) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the nuclei of a patch, int32 (H, W) at the network's resolution, and the type of each, int (n,)."""
    image = resize(patch.image, patch.mpp / mpp)
    stride = network.stride
    h, w = (-(-side // stride) for side in image.shape[:2])
    given = torch.from_numpy(pad_to_stride(image).transpose(2, 0, 1)[None].copy())
    field, logits = network(given.to(next(network.parameters()).device))
    probs = logits[0, :, :h, :w].float().softmax(0).cpu().numpy()
    instances = flows.decode(
        np.ascontiguousarray(field[0, :, :h, :w].float().cpu().numpy()),
        probs[0] < 1 - FOREGROUND_THRESHOLD,
        min_size_px=round(MIN_AREA_UM2 / (mpp * stride) ** 2),
        like_cellpose=False,
    )
    fine = instances.repeat(stride, 0).repeat(stride, 1)[: image.shape[0], : image.shape[1]]
    return fine, majority_types(instances, probs)


def majority_types(instances: NDArray[np.int32], probs: NDArray[np.float32]) -> NDArray[np.int64]:
    """Type of each nucleus by majority over its pixels, int (n,)."""
    inside = instances > 0
    winner = probs[1:].argmax(0)
    votes = np.bincount(instances[inside] * N_TYPES + winner[inside], minlength=(instances.max() + 1) * N_TYPES)
    return votes.reshape(-1, N_TYPES)[1:].argmax(1) + 1
