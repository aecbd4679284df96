"""Fit a classifier to labelled nuclei, and tell what it is worth: all scores are of nuclei it was not fitted to.

Needs the extra `teach` (scikit-learn).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytolite.classifier import softmax
from cytolite.metrics.calibration import bin_counts, expected_calibration_error

STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # inverse weight of the penalty
FOLDS, FEWEST_GROUPS = 5, 3
CURVE = (5, 10, 25, 50, 100, 200, 400, 800)  # labels of each type
_DRAWS, _RESAMPLES = 5, 1000
_TEMPERATURES = np.geomspace(0.25, 8, 61)


@dataclass(frozen=True)
class Fitted:
    """Numbers of a classifier: coefficients float64 (types, inputs), intercepts (types,) and the temperature."""

    coefficients: NDArray[np.float64]
    intercepts: NDArray[np.float64]
    temperature: float
    strength: float


@dataclass(frozen=True)
class Worth:
    """What cross-validation says.

    Attributes
    ----------
    confusion : numpy.ndarray
        int64 (types, types): labelled nuclei by what they are and what they were called.
    f1 : numpy.ndarray
        float64 (types, 3): F1 of each type, and its 95% interval.
    macro : numpy.ndarray
        float64 (3,): the mean over the types, and its interval.
    curve : list of tuple
        Labels of each type, mean and standard deviation of macro F1 over draws.
    calibration_error : float
        Expected calibration error: mean distance of what the probabilities say from how often it was so.
    """

    confusion: NDArray[np.int64]
    f1: NDArray[np.float64]
    macro: NDArray[np.float64]
    curve: list[tuple[int, float, float]]
    calibration_error: float


def fit(
    z: NDArray[np.float64], y: NDArray[np.int64], groups: NDArray[np.int64], n_types: int, seed: int = 0
) -> tuple[Fitted, Worth]:
    """Fit a classifier and cross-validate it.

    Parameters
    ----------
    z : numpy.ndarray
        float64 (n, inputs), standardised.
    y : numpy.ndarray
        int64 (n,), types from 0; each has as many weight as the others, however many labels it has.
    groups : numpy.ndarray
        int64 (n,); nuclei of one group are never on both sides.
    n_types : int
        Types that there are.
    seed : int
        Of the draws.

    Returns
    -------
    fitted : Fitted
        From all labels.
    worth : Worth
        Of nuclei that were held out, with the strength chosen without them.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(
        1
    ):  # matrices so small: threads would wait for each other, many times as long on a busy machine
        return _fit(z, y, groups, n_types, np.random.default_rng(seed))


def _fit(
    z: NDArray[np.float64], y: NDArray[np.int64], groups: NDArray[np.int64], n_types: int, rng: np.random.Generator
) -> tuple[Fitted, Worth]:
    strength = choose_strength(z, y, groups, n_types)
    scores = np.full((len(y), n_types), np.nan)
    for train, test in folds(groups):
        held = choose_strength(z[train], y[train], groups[train], n_types)
        scores[test] = scores_of(z[test], *regression(z[train], y[train], n_types, held))
    temperature = choose_temperature(scores, y)
    called = scores.argmax(axis=1)
    confusion = np.zeros((n_types, n_types), np.int64)
    np.add.at(confusion, (y, called), 1)
    f1, macro = intervals(y, called, groups, n_types, rng)
    fitted = Fitted(*regression(z, y, n_types, strength), temperature, strength)
    error = calibration_error(softmax(scores, temperature), y)
    return fitted, Worth(confusion, f1, macro, curve(z, y, groups, n_types, strength=strength, rng=rng), error)


def blocks(xy: NDArray[np.float64], least: int = 4) -> NDArray[np.int64]:
    """Cut places into up to 8 blocks of about as many each, by halving along the longer side: int64 (n,).

    Parameters
    ----------
    xy : numpy.ndarray
        float64 (n, 2), in any unit.
    least : int
        A block of fewer than twice as many is not halved.
    """
    out = np.zeros(len(xy), np.int64)

    def halve(rows: NDArray[np.intp], depth: int) -> None:
        if depth == 0 or len(rows) < 2 * least:
            return
        axis = int(np.argmax(np.ptp(xy[rows], axis=0)))
        order = rows[np.argsort(xy[rows, axis], kind="stable")]
        later = order[len(order) // 2 :]
        out[later] = out.max() + 1
        halve(order[: len(order) // 2], depth - 1)
        halve(later, depth - 1)

    halve(np.arange(len(xy)), 3)
    return out


def folds(groups: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield rows to fit and rows to test; groups are dealt out so that folds are about as large."""
    names, sizes = np.unique(groups, return_counts=True)
    n = min(FOLDS, len(names))
    load, fold_of = np.zeros(n), {}
    for name, size in sorted(zip(names.tolist(), sizes.tolist(), strict=True), key=lambda pair: -pair[1]):
        fold_of[name] = int(np.argmin(load))
        load[fold_of[name]] += size
    fold = np.array([fold_of[name] for name in groups.tolist()])
    for k in range(n):
        yield np.flatnonzero(fold != k), np.flatnonzero(fold == k)


def regression(
    z: NDArray[np.float64], y: NDArray[np.int64], n_types: int, strength: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit a multinomial logistic regression; a type without labels here is never chosen.

    Parameters
    ----------
    z : numpy.ndarray
        float64 (n, inputs), standardised.
    y : numpy.ndarray
        int64 (n,), types from 0.
    n_types : int
        Types that there are, with or without labels.
    strength : float
        Inverse weight of the penalty.

    Returns
    -------
    coefficients : numpy.ndarray
        float64 (types, inputs).
    intercepts : numpy.ndarray
        float64 (types,).
    """
    from sklearn.linear_model import LogisticRegression

    coefficients, intercepts = np.zeros((n_types, z.shape[1])), np.full(n_types, -1e3)
    present = np.unique(y)
    if len(present) == 1:
        intercepts[present] = 0
        return coefficients, intercepts
    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=2000).fit(z, y)
    if len(present) == 2:
        coefficients[present] = np.stack([-model.coef_[0], model.coef_[0]]) / 2
        intercepts[present] = np.array([-1, 1]) * model.intercept_[0] / 2
    else:
        coefficients[present], intercepts[present] = model.coef_, model.intercept_
    return coefficients, intercepts


def scores_of(
    z: NDArray[np.float64], coefficients: NDArray[np.float64], intercepts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return what a softmax makes probabilities of, float64 (n, types).

    Parameters
    ----------
    z : numpy.ndarray
        float64 (n, inputs), standardised.
    coefficients : numpy.ndarray
        float64 (types, inputs).
    intercepts : numpy.ndarray
        float64 (types,).
    """
    return z @ coefficients.T + intercepts


def choose_strength(z: NDArray[np.float64], y: NDArray[np.int64], groups: NDArray[np.int64], n_types: int) -> float:
    """Return the strength with the least loss on groups that were held out; a middle one if there is but one group.

    Parameters
    ----------
    z : numpy.ndarray
        float64 (n, inputs), standardised.
    y : numpy.ndarray
        int64 (n,), types from 0.
    groups : numpy.ndarray
        int64 (n,); nuclei of one group are never on both sides.
    n_types : int
        Types that there are.
    """
    if len(np.unique(groups)) < 2 or len(np.unique(y)) < 2:
        return 0.1
    losses = []
    for strength in STRENGTHS:
        scores = np.zeros((len(y), n_types))
        for train, test in folds(groups):
            scores[test] = scores_of(z[test], *regression(z[train], y[train], n_types, strength))
        losses.append(loss(np.maximum(softmax(scores), 1e-3), y))
    return STRENGTHS[int(np.argmin(losses))]


def loss(probs: NDArray[np.float64], y: NDArray[np.int64]) -> float:
    """Return the mean over types of the mean of -log(probability of what a nucleus is).

    Parameters
    ----------
    probs : numpy.ndarray
        float64 (n, types).
    y : numpy.ndarray
        int64 (n,), types from 0.
    """
    nats = -np.log(np.maximum(probs[np.arange(len(y)), y], 1e-12))
    return float(np.mean([nats[y == t].mean() for t in np.unique(y)]))


def choose_temperature(scores: NDArray[np.float64], y: NDArray[np.int64]) -> float:
    """Return the temperature with the least loss of scores that were held out, each type counting the same.

    However well a few nuclei are told apart, the next may be another: targets are as Platt's (1999), a type of n nuclei
    being one with (n + 1) / (n + 2).

    Parameters
    ----------
    scores : numpy.ndarray
        float64 (n, types), from `scores_of`.
    y : numpy.ndarray
        int64 (n,), types from 0.
    """
    counts = np.bincount(y, minlength=scores.shape[1])
    sure = ((counts + 1) / (counts + 2))[y]
    weights = 1 / counts[y]

    def nats(temperature: float) -> float:
        logs = np.log(np.maximum(softmax(scores, temperature), 1e-9))
        own = logs[np.arange(len(y)), y]
        others = (logs.sum(axis=1) - own) / max(1, logs.shape[1] - 1)
        return float(-(weights * (sure * own + (1 - sure) * others)).sum())

    losses = [nats(t) for t in _TEMPERATURES]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def f1_of(y: NDArray[np.int64], called: NDArray[np.int64], n_types: int) -> NDArray[np.float64]:
    """Return F1 of each type, 2 TP / (2 TP + FP + FN); NaN where there is none of it.

    Parameters
    ----------
    y : numpy.ndarray
        int64 (n,), what nuclei are, types from 0.
    called : numpy.ndarray
        int64 (n,), what they were called.
    n_types : int
        Types that there are.
    """
    right = np.bincount(y[y == called], minlength=n_types)
    both = np.bincount(y, minlength=n_types) + np.bincount(called, minlength=n_types)
    with np.errstate(invalid="ignore"):
        return np.where(both > 0, 2 * right / both, np.nan)


def intervals(
    y: NDArray[np.int64],
    called: NDArray[np.int64],
    groups: NDArray[np.int64],
    n_types: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return F1 of each type and their mean with 95% intervals, from resamples of groups (of nuclei if under five).

    Parameters
    ----------
    y : numpy.ndarray
        int64 (n,), what nuclei are, types from 0.
    called : numpy.ndarray
        int64 (n,), what they were called.
    groups : numpy.ndarray
        int64 (n,), drawn as a whole.
    n_types : int
        Types that there are.
    rng : numpy.random.Generator
        Of the resamples.

    Returns
    -------
    f1 : numpy.ndarray
        float64 (types, 3): value, low, high.
    macro : numpy.ndarray
        float64 (3,), of the mean.
    """
    names = np.unique(groups)
    members = [np.flatnonzero(groups == name) for name in names]
    drawn = []
    for _ in range(_RESAMPLES):
        if len(names) >= FOLDS:
            rows = np.concatenate([members[i] for i in rng.integers(0, len(names), len(names))])
        else:
            rows = rng.integers(0, len(y), len(y))
        drawn.append(f1_of(y[rows], called[rows], n_types))
    table, value = np.array(drawn), f1_of(y, called, n_types)
    with np.errstate(all="ignore"):
        low, high = np.nanpercentile(table, [2.5, 97.5], axis=0)
        macro = np.nanpercentile(np.nanmean(table, axis=1), [2.5, 97.5])
    return np.stack([value, low, high], axis=1), np.array([np.nanmean(value), *macro])


def calibration_error(probs: NDArray[np.float64], y: NDArray[np.int64]) -> float:
    """Return the expected calibration error of what was called, as `cytolite evaluate` counts it.

    Parameters
    ----------
    probs : numpy.ndarray
        float64 (n, types).
    y : numpy.ndarray
        int64 (n,), types from 0.
    """
    sure, right = probs.max(axis=1), probs.argmax(axis=1) == y
    bins = bin_counts(sure[:, None], right[:, None], np.ones((len(y), 1), np.bool_))
    return float(expected_calibration_error(bins)[0])


def curve(
    z: NDArray[np.float64],
    y: NDArray[np.int64],
    groups: NDArray[np.int64],
    n_types: int,
    *,
    strength: float,
    rng: np.random.Generator,
) -> list[tuple[int, float, float]]:
    """Return macro F1 of held-out nuclei with fewer labels of each type: (labels, mean, standard deviation).

    Parameters
    ----------
    z : numpy.ndarray
        float64 (n, inputs), standardised.
    y : numpy.ndarray
        int64 (n,), types from 0.
    groups : numpy.ndarray
        int64 (n,); nuclei of one group are never on both sides.
    n_types : int
        Types that there are.
    strength : float
        Inverse weight of the penalty, the same for all points of the curve.
    rng : numpy.random.Generator
        Of the draws.
    """
    parts = list(folds(groups))
    found = []
    for n in CURVE:
        if any(min((y[train] == t).sum() for t in range(n_types)) < n for train, _ in parts):
            break
        macros = []
        for _ in range(_DRAWS):
            called = np.zeros(len(y), np.int64)
            for train, test in parts:
                some = few(train, y, n, rng)
                called[test] = scores_of(z[test], *regression(z[some], y[some], n_types, strength)).argmax(axis=1)
            macros.append(float(np.nanmean(f1_of(y, called, n_types))))
        found.append((n, float(np.mean(macros)), float(np.std(macros))))
    return found


def few(rows: NDArray[np.intp], y: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return up to `n` of the rows of each type.

    Parameters
    ----------
    rows : numpy.ndarray
        intp (k,), to choose from.
    y : numpy.ndarray
        int64 (n,), types from 0.
    n : int
        Of each type.
    rng : numpy.random.Generator
        Of the choice.
    """
    kinds: Sequence[int] = np.unique(y[rows]).tolist()
    return np.concatenate([rng.permutation(rows[y[rows] == kind])[:n] for kind in kinds])
