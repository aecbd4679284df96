"""Probabilities of types that can be taken at their word: one temperature, fitted on nuclei held back from training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytolite.celltypes import SEVEN, LabelSet
from cytolite.inference.image import Located
from cytolite.metrics.matching import match
from cytolite.patches import Patch
from cytolite.training.losses import allowed_table

# Temperatures that are tried, a step of 5%.
TEMPERATURES = np.geomspace(0.25, 8.0, 72)


@dataclass(frozen=True)
class Fit:
    """The temperature with the lowest negative log likelihood of the true types.

    Attributes
    ----------
    temperature : float
    before, after : float
        Mean negative log likelihood at temperature 1 and at `temperature`, nats per nucleus.
    n : int
        Matched nuclei whose type is known, wholly or to a set.
    """

    temperature: float
    before: float
    after: float
    n: int


def fit_temperature(patches: Sequence[Patch], located: Sequence[Located], labels: LabelSet = SEVEN) -> Fit:
    """Fit the temperature that a nucleus's logits are divided by (Guo et al. 2017) before they become probabilities.

    What is fitted is what the user gets: the mean of the softened probabilities over a nucleus's pixels, for nuclei
    that match true ones (IoU > 0.5). A coarse label asks for the probability of its set. Names do not change.

    Parameters
    ----------
    patches : sequence of Patch
        Held back from training.
    located : sequence of Located
        The nuclei that the network finds in each.
    labels : LabelSet
        What the patches' type maps hold.
    """
    allowed = allowed_table(labels).numpy()
    parts = [_likelihoods(*pair, allowed) for pair in zip(patches, located, strict=True)]
    likelihood = np.concatenate([*parts, np.empty((0, len(TEMPERATURES) + 1))])
    if not len(likelihood):
        return Fit(1.0, 0.0, 0.0, 0)
    loss = -np.log(np.maximum(likelihood, 1e-6)).mean(0)
    best = int(loss[:-1].argmin())
    return Fit(round(float(TEMPERATURES[best]), 4), float(loss[-1]), float(loss[best]), len(likelihood))


def temperature_over_sources(patches: Sequence[Patch], located: Sequence[Located], labels: LabelSet = SEVEN) -> float:
    """Return the median of the sources' temperatures, each fitted alone; 1 where no source can tell.

    One source whose types the model does not know would otherwise soften what it says of all others: its mistakes are
    made with confidence, and outweigh everything in a common likelihood.

    Parameters
    ----------
    patches : sequence of Patch
        Images with their truth.
    located : sequence of Located
        The nuclei found in each.
    labels : LabelSet
        The set of types, and what labels mean in it.
    """
    by_source: dict[str, list[tuple[Patch, Located]]] = {}
    for pair in zip(patches, located, strict=True):
        by_source.setdefault(pair[0].source, []).append(pair)
    sides = [zip(*pairs, strict=True) for pairs in by_source.values()]
    fits = [fit_temperature(patches, nuclei, labels) for patches, nuclei in sides]
    return round(float(np.median([fit.temperature for fit in fits if fit.n] or [1.0])), 4)


def _likelihoods(patch: Patch, located: Located, table: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Probability of each matched nucleus's true type at every temperature tried, and in the last column at 1."""
    found = match(patch.instance_map, located.instance_map)
    ids, first = np.unique(patch.instance_map, return_index=True)
    allowed = table[patch.judged_types().ravel()[first][np.searchsorted(ids, found.true_ids)]]
    known = allowed.any(1) & ~allowed.all(1)
    columns = []
    for temperature in (*TEMPERATURES, 1.0):
        probs = located.decoded.names(float(temperature))[1]
        columns.append((probs[found.predicted_ids - 1] * allowed).sum(1)[known])
    return np.stack(columns, 1).astype(float)
