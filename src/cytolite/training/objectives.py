"""Objectives: which losses a network is trained on, and with what weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from cytolite.celltypes import SEVEN, LabelSet
from cytolite.config import TrainSettings
from cytolite.datasets.census import nuclei_per_label
from cytolite.patches import Patch
from cytolite.training.losses import (
    allowed_table,
    effective_number_weights,
    flow_loss,
    focal_loss,
    frequency_weights,
    nucleus_loss,
    set_codes,
    set_table,
    smoothed_cross_entropy,
    spectral_decoupling,
    type_loss,
)

Batch = Mapping[str, torch.Tensor]


class LightObjective(nn.Module):
    """Flows, nucleus against background, and types within nuclei: what the light student is trained on."""

    def __init__(self, settings: TrainSettings, patches: Sequence[Patch], labels: LabelSet = SEVEN) -> None:
        super().__init__()
        self.weights = {
            "flow": settings.flow_weight,
            "nucleus": settings.nucleus_weight,
            "type": settings.type_weight,
        }
        allowed = allowed_table(labels)
        self.register_buffer("allowed", allowed, persistent=False)
        weights, log_prior, self.gamma = rare_types(settings.rare_loss, patches, allowed)
        # A coarse label weighs as the mean of its types.
        label_weights = (allowed * weights).sum(1) / allowed.sum(1).clamp_min(1)
        self.register_buffer("label_weights", label_weights, persistent=False)
        self.register_buffer("log_prior", log_prior, persistent=False)

    def forward(self, flows: torch.Tensor, type_logits: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the losses by name, not weighted yet.

        Parameters
        ----------
        flows : torch.Tensor
            float (B, 2, H, W), (dy, dx), unit scale.
        type_logits : torch.Tensor
            float (B, types + 1, H, W); class 0 is background.
        batch : mapping of str to torch.Tensor
            Truth and weights of the crops, by the names of `cytolite.training.sampling.as_tensors`.
        """
        labels = batch["labels"].long()
        weights = batch["type_weight"] * self.label_weights[labels]
        options = {"log_prior": self.log_prior, "gamma": self.gamma}
        return {
            "flow": flow_loss(flows, batch["flows"], batch["flow_weight"]),
            "nucleus": nucleus_loss(type_logits, batch["nucleus"], batch["nucleus_weight"]),
            "type": type_loss(type_logits, labels, self.allowed, weights, **options),
        }


class PaperObjective(nn.Module):
    """Flows, and cross-entropy and focal loss over background and types (section 3 of the paper)."""

    def __init__(self, settings: TrainSettings, patches: Sequence[Patch], labels: LabelSet = SEVEN) -> None:
        super().__init__()
        self.settings, self.labels = settings, labels
        self.weights = {
            "flow": settings.flow_weight,
            "cross_entropy": settings.type_weight,
            "decoupling": settings.type_weight * settings.decoupling_weight,
            "focal": settings.focal_weight,
        }
        self.register_buffer("table", set_table(labels), persistent=False)
        counts = frequency_weights(nuclei_per_label(patches), n_types=len(labels.type_set))
        self.register_buffer("class_weights", counts, persistent=False)

    def forward(self, flows: torch.Tensor, type_logits: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the losses by name, not weighted yet.

        Parameters
        ----------
        flows : torch.Tensor
            float (B, 2, H, W), (dy, dx), unit scale.
        type_logits : torch.Tensor
            float (B, types + 1, H, W); class 0 is background.
        batch : mapping of str to torch.Tensor
            Truth and weights of the crops, by the names of `cytolite.training.sampling.as_tensors`.
        """
        codes = set_codes(batch["labels"].long(), batch["nucleus"], self.labels)
        known = batch["class_weight"]
        sigma, gamma = self.settings.smoothing_px, self.settings.focal_gamma
        return {
            "flow": flow_loss(flows, batch["flows"], batch["flow_weight"]),
            "cross_entropy": smoothed_cross_entropy(type_logits, codes, self.table, known, sigma),
            "decoupling": spectral_decoupling(type_logits, known),
            "focal": focal_loss(type_logits, codes, self.table, self.class_weights, known, gamma=gamma),
        }


def objective(
    settings: TrainSettings, patches: Sequence[Patch], labels: LabelSet = SEVEN
) -> LightObjective | PaperObjective:
    """Return the objective that the settings name, with class weights from the patches that train.

    Parameters
    ----------
    settings : TrainSettings
        Of the run.
    patches : sequence of Patch
        That train.
    labels : LabelSet
        The set of types, and what labels mean in it.
    """
    return (PaperObjective if settings.loss == "paper" else LightObjective)(settings, patches, labels)


def rare_types(
    kind: str, patches: Sequence[Patch], allowed: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None, float]:
    """Return the types' weights, float (types,), what is added to their logits, or none, and focal's gamma.

    Parameters
    ----------
    kind : str
        Of `TrainSettings.rare_loss`.
    patches : sequence of Patch
        That train.
    allowed : torch.Tensor
        The classes of each label's set.
    """
    if kind == "weights":
        return class_weights(patches, allowed), None, 0.0
    counts = nuclei_per_label(patches)
    n = torch.tensor([float(counts.get(t, 0)) for t in range(1, allowed.shape[1] + 1)])
    if kind == "focal":
        return effective_number_weights(n), None, 2.0
    return torch.ones(len(n)), ((n + 1) / (n + 1).sum()).log(), 0.0


def class_weights(patches: Sequence[Patch], allowed: torch.Tensor) -> torch.Tensor:
    """Weights of the types, float (types,): fourth root of the inverse share of typed pixels, mean 1, at most 3.

    Parameters
    ----------
    patches : sequence of Patch
        That train.
    allowed : torch.Tensor
        The classes of each label's set.
    """
    pixels = np.zeros(256)
    for patch in patches:
        pixels += np.bincount(patch.type_map.ravel(), minlength=256) * patch.mpp**2
    table = allowed.numpy()
    fine = (table * (table.sum(1, keepdims=True) == 1) * pixels[:, None]).sum(0)
    weights = (np.maximum(fine, 1).mean() / np.maximum(fine, 1)) ** 0.25
    return torch.tensor(np.clip(weights / weights.mean(), 0.3, 3), dtype=torch.float32)
