"""Score a network on whole patches while it trains."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cytolite import flows
from cytolite.evaluation.matching import match
from cytolite.patches import Patch
from cytolite.training.losses import allowed_table

FOREGROUND_THRESHOLD = 0.5
MIN_AREA_UM2 = 5.0


@torch.no_grad()
def predict(network: nn.Module, patch: Patch, mpp: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return flows (2, h, w) and type probabilities (8, h, w) of a patch at the model's resolution."""
    h, w = (round(side * patch.mpp / mpp) for side in patch.image.shape[:2])
    shrunk = h * w < patch.image.shape[0] * patch.image.shape[1]
    image = cv2.resize(patch.image, (w, h), interpolation=cv2.INTER_AREA if shrunk else cv2.INTER_LINEAR)
    padded = np.pad(image, ((0, -h % 32), (0, -w % 32), (0, 0)), mode="symmetric" if min(h, w) >= 32 else "edge")
    field, logits = network(torch.from_numpy(padded.transpose(2, 0, 1)[None].copy()))
    return field[0, :, :h, :w].numpy(), logits[0, :, :h, :w].softmax(0).numpy()


def decode(field: NDArray[np.float32], probs: NDArray[np.float32], mpp: float) -> NDArray[np.int32]:
    """Instances from flows and type probabilities, with the settings that the bundle will carry."""
    return flows.decode(
        np.ascontiguousarray(field), probs[0] < 1 - FOREGROUND_THRESHOLD, min_size_px=round(MIN_AREA_UM2 / mpp**2)
    )


def vote(instances: NDArray[np.int32], probs: NDArray[np.float32]) -> NDArray[np.int64]:
    """Type of each nucleus by majority over its pixels; int (n + 1,), entry 0 unused."""
    inside = instances > 0
    winner = probs[1:].argmax(0) + 1
    votes = np.zeros((instances.max() + 1, len(probs)), np.int64)
    np.add.at(votes, (instances[inside], winner[inside]), 1)
    return votes.argmax(1)


def score_patches(network: nn.Module, patches: Sequence[Patch], mpp: float) -> dict[str, float]:
    """Mean class-agnostic PQ per image of each source, and the share of matched nuclei whose type is right.

    Sources whose ground is not fully labelled (MoNuSAC) give the recall of detection instead of PQ.
    """
    allowed = allowed_table().numpy()
    pq, types = defaultdict(list), defaultdict(list)
    for patch in patches:
        field, probs = predict(network, patch, mpp)
        small = decode(field, probs, mpp)
        h, w = patch.image.shape[:2]
        full = cv2.resize(small.astype(np.float32), (w, h), interpolation=cv2.INTER_NEAREST).astype(np.int32)
        found = match(patch.instance_map, full)
        if patch.source == "monusac":
            pq["monusac_recall"].append(len(found.iou) / found.n_true if found.n_true else np.nan)
        else:
            pq[f"{patch.source}_pq"].append(found.pq)
        if len(found.iou):
            _, first = np.unique(patch.instance_map, return_index=True)
            label = dict(zip(np.unique(patch.instance_map).tolist(), patch.type_map.ravel()[first].tolist(), strict=True))
            given = vote(small, probs)[found.predicted_ids]
            asked = np.array([label[i] for i in found.true_ids.tolist()])
            typed = allowed[asked].any(1) & ~allowed[asked].all(1)
            types[f"{patch.source}_type"] += allowed[asked[typed], given[typed] - 1].tolist()
    return {name: float(np.nanmean(values)) for name, values in {**pq, **types}.items() if values}
