"""Losses, each a pure function of logits or flows, a target and per-pixel weights."""

from __future__ import annotations

import torch
from torch.nn import functional as F  # noqa: N812 - the field's name

from cytolite.celltypes import COARSE_LABELS, N_TYPES, allowed_types


def allowed_table() -> torch.Tensor:
    """Return bool (256, 7): which types a label of a type map leaves open; none for background and ignored."""
    table = torch.zeros(256, N_TYPES, dtype=torch.bool)
    for label in [*range(1, N_TYPES + 1), *COARSE_LABELS]:
        table[label, [t - 1 for t in allowed_types(label)]] = True
    return table


def weighted_mean(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean of `values` under `weights` of the same shape; 0 where all weights are 0."""
    return (values * weights).sum() / weights.sum().clamp_min(1e-6)


def flow_loss(flows: torch.Tensor, target: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Squared error of the flow vectors, as in Cellpose (Stringer et al. 2021).

    Parameters
    ----------
    flows, target : torch.Tensor
        float (B, 2, H, W), unit scale.
    weights : torch.Tensor
        float (B, H, W); 0 where the outline is not known.
    """
    return weighted_mean((flows - target).square().sum(1), weights)


def nucleus_logit(type_logits: torch.Tensor) -> torch.Tensor:
    """Log odds of nucleus against background, (B, H, W), from (B, 8, H, W): logsumexp of the types minus background."""
    return type_logits[:, 1:].logsumexp(1) - type_logits[:, 0]


def nucleus_loss(type_logits: torch.Tensor, nucleus: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy plus soft Dice (Milletari et al. 2016) of nucleus against background.

    Parameters
    ----------
    type_logits : torch.Tensor
        float (B, 8, H, W).
    nucleus : torch.Tensor
        bool (B, H, W).
    weights : torch.Tensor
        float (B, H, W); 0 where it is not known whether the pixel is a nucleus.
    """
    logit, target = nucleus_logit(type_logits), nucleus.float()
    bce = weighted_mean(F.binary_cross_entropy_with_logits(logit, target, reduction="none"), weights)
    known = (weights > 0).float()
    prob = logit.sigmoid() * known
    dice = 1 - (2 * (prob * target).sum() + 1) / (prob.sum() + (target * known).sum() + 1)
    return bce + dice


def type_loss(
    type_logits: torch.Tensor, labels: torch.Tensor, allowed: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy of the type of nucleus pixels, where a coarse label asks only for its set.

    For a pixel with the allowed set A the loss is ``-log(sum_{t in A} p_t)``, p being the softmax over the seven types
    alone: what is background is `nucleus_loss`'s affair, and a nucleus of unknown type costs nothing.

    Parameters
    ----------
    type_logits : torch.Tensor
        float (B, 8, H, W).
    labels : torch.Tensor
        int (B, H, W), labels of `cytolite.celltypes`.
    allowed : torch.Tensor
        bool (256, 7), from `allowed_table`.
    weights : torch.Tensor
        float (B, H, W); taken as 0 where the label names no types.
    """
    log_probs = type_logits[:, 1:].log_softmax(1)
    open_types = allowed[labels].permute(0, 3, 1, 2)
    known = open_types.any(1)
    # A finite floor instead of -inf keeps the gradient of unlabelled pixels at 0 and not NaN.
    within = log_probs.masked_fill(~open_types, -1e4).logsumexp(1)
    return weighted_mean(-within.where(known, torch.zeros_like(within)), weights * known)
