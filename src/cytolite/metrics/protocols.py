"""PanNuke's three folds: which are trained on, validated and tested, and what published numbers mean by it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytolite.errors import InputError, UsageError, did_you_mean
from cytolite.metrics.bootstrap import LEAST_GROUPS, RESAMPLES, SEED, Score, count_groups, draw, interval, unique_groups
from cytolite.metrics.counts import Counts
from cytolite.metrics.scores import METRICS


@dataclass(frozen=True)
class Split:
    """Folds, numbered from 1, that train, validate and test one model."""

    train: tuple[int, ...]
    validate: tuple[int, ...]
    test: int


@dataclass(frozen=True)
class Protocol:
    """Splits whose results are averaged, and what to know about them."""

    name: str
    splits: tuple[Split, ...]
    note: str


PROTOCOLS = {
    p.name: p
    for p in (
        Protocol(
            "paper",
            (Split((1, 2), (1, 2), 3),),
            "Two folds train and validate, the third tests. Which one tests is not said; fold 3 is taken here.",
        ),
        Protocol(
            "official",
            (Split((1,), (2,), 3), Split((2,), (1,), 3), Split((3,), (2,), 1)),
            "The three splits of Gamper et al. 2020, as published numbers use them. Known flaw: fold 3 is tested "
            "twice, fold 2 never, so the mean weighs fold 3 by two thirds.",
        ),
        Protocol(
            "rotation",
            (Split((1,), (2,), 3), Split((2,), (3,), 1), Split((3,), (1,), 2)),
            "Each fold trains, validates and tests once. Not what published numbers use.",
        ),
    )
}


def protocol(name: str) -> Protocol:
    """Return the protocol called so.

    Raises
    ------
    InputError
        If there is none.
    """
    if name not in PROTOCOLS:
        known = ", ".join(PROTOCOLS)
        raise UsageError(f"There is no protocol {name!r}; known are {known}.{did_you_mean(name, PROTOCOLS)}")
    return PROTOCOLS[name]


def in_fold(folds: NDArray[np.str_], fold: int) -> NDArray[np.bool_]:
    """Return the images of a fold, whose column may say "3", "fold3" or "Fold 3".

    Parameters
    ----------
    folds : numpy.ndarray
        The column's entries.
    fold : int
        Its number.

    Raises
    ------
    InputError
        If there are none.
    """
    numbers = np.array([entry.lower().removeprefix("fold").strip(" _-") for entry in folds], dtype=np.str_)
    found: NDArray[np.bool_] = numbers == str(fold)
    if not found.any():
        seen = ", ".join(sorted(set(folds.tolist()))[:5]) or "nothing"
        raise InputError(f"No image is in fold {fold}; the column 'fold' holds {seen}.")
    return found


def score_splits(
    tested: list[Counts],
    folds: list[int],
    *,
    group: str = "image",
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[Score]:
    """Return the mean over splits of every metric; an image that two splits test is drawn for both alike.

    Parameters
    ----------
    tested : list of Counts
        What the model of each split found in its test fold.
    folds : list of int
        Those folds.
    group, resamples, seed
        As `cytolite.metrics.bootstrap.score`.
    """
    weights = []
    for counts, fold in zip(tested, folds, strict=True):
        # The same fold is drawn alike wherever it is tested.
        drawn = draw(unique_groups(counts, group), resamples, (seed, fold))
        weights.append(np.concatenate([np.ones((1, len(counts))), drawn]))
    found = []
    for metric in METRICS:
        computed = [metric(counts, w) for counts, w in zip(tested, weights, strict=True)]
        values = np.mean([values for values, _ in computed], axis=0)
        low, high = interval(values[1:])
        n = np.sum([used.sum(0) for _, used in computed], axis=0)
        groups = np.concatenate([unique_groups(counts, group) for counts in tested])
        n_groups = count_groups(groups, np.concatenate([used for _, used in computed]))
        for k, label in enumerate(metric.labels(tested[0])):
            value, a, b = float(values[0, k]), float(low[k]), float(high[k])
            if n_groups[k] < LEAST_GROUPS:
                a = b = float("nan")
            found.append(Score(value, a, b, int(n[k]), metric.name, metric.aggregation, label, groups=int(n_groups[k])))
    return found
