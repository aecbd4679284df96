"""Losses, each a pure function of logits or flows, a target and per-pixel weights."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch.nn import functional as F  # noqa: N812 - the field's name

from cytolite.celltypes import IGNORE, N_TYPES, SEVEN, LabelSet


def allowed_table(labels: LabelSet = SEVEN) -> torch.Tensor:
    """Return bool (256, types): which types a label of a type map leaves open; none for background and ignored."""
    table = torch.zeros(256, len(labels.type_set), dtype=torch.bool)
    for label in labels:
        table[label, [t - 1 for t in labels.allowed(label)]] = True
    return table


def weighted_mean(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean of `values` under `weights` of the same shape; 0 where all weights are 0.

    Parameters
    ----------
    values, weights : torch.Tensor
        Of one shape.
    """
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
    """Log odds of nucleus against background, (B, H, W), from (B, types + 1, H, W): logsumexp of types minus it."""
    return type_logits[:, 1:].logsumexp(1) - type_logits[:, 0]


def nucleus_loss(type_logits: torch.Tensor, nucleus: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy plus soft Dice (Milletari et al. 2016) of nucleus against background.

    Parameters
    ----------
    type_logits : torch.Tensor
        float (B, types + 1, H, W).
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
    type_logits: torch.Tensor,
    labels: torch.Tensor,
    allowed: torch.Tensor,
    weights: torch.Tensor,
    *,
    log_prior: torch.Tensor | None = None,
    gamma: float = 0.0,
) -> torch.Tensor:
    """Cross-entropy of the type of nucleus pixels, where a coarse label asks only for its set.

    For a pixel with the allowed set A the loss is ``-log(sum_{t in A} p_t)``, p being the softmax over the types
    alone: what is background is `nucleus_loss`'s affair, and a nucleus of unknown type costs nothing.

    Parameters
    ----------
    type_logits : torch.Tensor
        float (B, types + 1, H, W).
    labels : torch.Tensor
        int (B, H, W), labels of a `cytolite.celltypes.LabelSet`.
    allowed : torch.Tensor
        bool (256, types), from `allowed_table`.
    weights : torch.Tensor
        float (B, H, W); taken as 0 where the label names no types.
    log_prior : torch.Tensor, optional
        float (types,), added to the logits (logit adjustment, Menon et al. 2021): what the network then says without it
        is what it would say if all types were equally frequent.
    gamma : float
        The loss is multiplied by ``(1 - p)^gamma`` (Lin et al. 2017), p being the probability of the allowed set.
    """
    logits = type_logits[:, 1:] if log_prior is None else type_logits[:, 1:] + log_prior[:, None, None]
    log_probs = logits.log_softmax(1)
    open_types = allowed[labels].permute(0, 3, 1, 2)
    # A nucleus of any type says nothing: it must not thin out, in the mean, what others say.
    known = open_types.any(1) & ~open_types.all(1)
    # A finite floor instead of -inf keeps the gradient of unlabelled pixels at 0 and not NaN.
    within = log_probs.masked_fill(~open_types, -1e4).logsumexp(1)
    loss = -within.where(known, torch.zeros_like(within))
    if gamma:
        loss = loss * (1 - torch.exp(-loss)).clamp_min(1e-6) ** gamma
    return weighted_mean(loss, weights * known)


def set_table(of: LabelSet = SEVEN) -> torch.Tensor:
    """Return bool (2 * (labels + 1), types + 1): which classes, background first, codes of `set_codes` leave open."""
    n_labels = 1 + of.unknown
    table = torch.zeros(2 * n_labels, 1 + len(of.type_set), dtype=torch.bool)
    table[0, 0] = True
    allowed = allowed_table(of)
    for label in of:
        table[[label, label + n_labels], 1:] = allowed[label]
    table[n_labels:, 0] = True
    return table


def set_codes(labels: torch.Tensor, nucleus: torch.Tensor, of: LabelSet = SEVEN) -> torch.Tensor:
    """Code what is known of each pixel's class among background and the types.

    A pixel of a nucleus is one of its label's types. A typed pixel outside every nucleus belongs to a cell whose
    outline is not known: it is one of its label's types, or background. Of an `IGNORE` pixel nothing is known.

    Parameters
    ----------
    labels : torch.Tensor
        int (B, H, W), labels of a `cytolite.celltypes.LabelSet`.
    nucleus : torch.Tensor
        bool (B, H, W).
    of : LabelSet
        What the labels mean.

    Returns
    -------
    torch.Tensor
        int64 (B, H, W), a row of `set_table`, or -1 where nothing is known.
    """
    codes = labels.long() + (1 + of.unknown) * ((labels > 0) & ~nucleus)
    return torch.where(labels == IGNORE, -1, codes)


def set_log_probs(type_logits: torch.Tensor, codes: torch.Tensor, table: torch.Tensor) -> dict[int, torch.Tensor]:
    """Return, for every code that occurs, the log probability of its set of classes at every pixel, (B, H, W).

    Parameters
    ----------
    type_logits : torch.Tensor
        float (B, C, H, W).
    codes : torch.Tensor
        Labels that occur.
    table : torch.Tensor
        bool (labels, C), the classes of each label's set.
    """
    log_probs = type_logits.log_softmax(1)
    return {code: log_probs[:, table[code]].logsumexp(1) for code in codes.unique().tolist() if code >= 0}


def smoothing_kernel(sigma: float) -> torch.Tensor:
    """Return the 3x3 weights of spatially varying label smoothing (Islam & Glocker 2021), sum 1.

    The neighbours' weights are Gaussian, and the centre weighs as much as all of them together.
    """
    square = torch.tensor([[2.0, 1.0, 2.0], [1.0, 0.0, 1.0], [2.0, 1.0, 2.0]])
    kernel = torch.exp(-square / (2 * sigma**2))
    kernel[1, 1] = 0
    kernel /= 2 * kernel.sum()
    kernel[1, 1] = 0.5
    return kernel


def smoothed_cross_entropy(
    type_logits: torch.Tensor, codes: torch.Tensor, table: torch.Tensor, weights: torch.Tensor, sigma: float = 1.0
) -> torch.Tensor:
    """Cross-entropy with spatially varying label smoothing (Islam & Glocker 2021), for sets of classes.

    ``-sum_j w_j log P_i(A_j)``: what is asked of pixel i is the mean of the labels j around it under
    `smoothing_kernel`; P_i(A_j) is the probability, at i, of the classes that label j leaves open. Where all labels are
    single classes this is the cross-entropy with the blurred one-hot labels. Neighbours of which nothing is known are
    left out of the mean.

    Parameters
    ----------
    type_logits : torch.Tensor
        float (B, types + 1, H, W).
    codes : torch.Tensor
        int64 (B, H, W), from `set_codes`.
    table : torch.Tensor
        bool, from `set_table`.
    weights : torch.Tensor
        float (B, H, W); taken as 0 where nothing is known.
    sigma : float
        Of the Gaussian, px.
    """
    kernel = smoothing_kernel(sigma).to(type_logits)[None, None]
    asked = torch.zeros_like(weights)
    share = torch.zeros_like(weights)
    for code, log_prob in set_log_probs(type_logits, codes, table).items():
        here = (codes == code).to(type_logits)[:, None]
        blurred = F.conv2d(F.pad(here, (1, 1, 1, 1), mode="replicate"), kernel)[:, 0]
        asked = asked - blurred * log_prob
        share = share + blurred
    return weighted_mean(asked / share.clamp_min(1e-6), weights * (codes >= 0))


def spectral_decoupling(type_logits: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Half the mean square of the logits (Pezeshki et al. 2021): added to the cross-entropy in place of weight decay.

    Parameters
    ----------
    type_logits : torch.Tensor
        float (B, types + 1, H, W).
    weights : torch.Tensor
        float (B, H, W); 0 where nothing is known.
    """
    return weighted_mean(type_logits.square().mean(1) / 2, weights)


def focal_loss(
    type_logits: torch.Tensor,
    codes: torch.Tensor,
    table: torch.Tensor,
    class_weights: torch.Tensor,
    weights: torch.Tensor,
    *,
    gamma: float = 2.0,
) -> torch.Tensor:
    """Focal loss (Lin et al. 2017): ``-alpha (1 - p)^gamma log p``, p being the probability of the label's classes.

    Parameters
    ----------
    type_logits : torch.Tensor
        float (B, types + 1, H, W).
    codes, table : torch.Tensor
        From `set_codes` and `set_table`.
    class_weights : torch.Tensor
        float (types + 1,), alpha of each class; a set's is the mean of its classes'.
    weights : torch.Tensor
        float (B, H, W); taken as 0 where nothing is known.
    gamma : float
        How much pixels that are right already are held back; 0 gives the weighted cross-entropy.
    """
    loss = torch.zeros_like(weights)
    for code, log_prob in set_log_probs(type_logits, codes, table).items():
        alpha = class_weights[table[code]].mean()
        focal = -alpha * (1 - log_prob.exp()).clamp_min(0) ** gamma * log_prob
        loss = torch.where(codes == code, focal, loss)
    return weighted_mean(loss, weights * (codes >= 0))


def frequency_weights(counts: Mapping[int, int], power: float = 0.5, n_types: int = N_TYPES) -> torch.Tensor:
    """Weights of background and the types, float (types + 1,), from how many nuclei there are of each.

    ``(1 / n_t) ** power``, scaled to mean 1 over the types that occur and held between 0.1 and 10; a type that does not
    occur weighs 1, background as little as the commonest type.

    Parameters
    ----------
    counts : mapping
        Nuclei of each type.
    power : float
        How much rarity counts.
    n_types : int
        Types of the set.
    """
    n = torch.tensor([float(counts.get(t, 0)) for t in range(1, n_types + 1)])
    if not bool((n > 0).any()):
        return torch.ones(1 + n_types)
    raw = n.clamp_min(1) ** -power
    types = torch.where(n > 0, (raw / raw[n > 0].mean()).clamp(0.1, 10), torch.ones_like(n))
    return torch.cat([types[n > 0].min()[None], types])


def effective_number_weights(counts: torch.Tensor, beta: float = 0.999) -> torch.Tensor:
    """Class-balanced weights ``(1 - beta) / (1 - beta^n)`` (Cui et al. 2019), mean 1; of a type without nuclei 1.

    Parameters
    ----------
    counts : torch.Tensor
        float (types,), nuclei of each.
    beta : float
        1 / (1 - beta) nuclei count as many; more add nothing.
    """
    weights = (1 - beta) / (1 - torch.pow(beta, counts.double().clamp_min(1)))
    present = counts > 0
    scaled = weights / weights[present].mean() if bool(present.any()) else torch.ones_like(weights)
    return torch.where(present, scaled, torch.ones_like(scaled)).float()


def distillation_loss(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor, weights: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Divergence of the student's softened classes from the teacher's (Hinton et al. 2015), times the square of T.

    ``T^2 KL(softmax(teacher / T) || softmax(student / T))``. The factor keeps the size of the gradients when T changes;
    for a T that is large beside the logits the loss is half the variance, over the classes, of student minus teacher.

    Parameters
    ----------
    student_logits, teacher_logits : torch.Tensor
        float (B, types + 1, H, W).
    weights : torch.Tensor
        float (B, H, W); 0 where nothing shall be learnt.
    temperature : float
        T, at least 1.
    """
    wanted = (teacher_logits / temperature).log_softmax(1)
    found = (student_logits / temperature).log_softmax(1)
    divergence = (wanted.exp() * (wanted - found)).sum(1)
    return weighted_mean(divergence * math.pow(temperature, 2), weights)
