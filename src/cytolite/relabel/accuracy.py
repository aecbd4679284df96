"""How often a classifier is right, per type, with intervals over cells and over patients or images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolite.metrics.bootstrap import Interval

RESAMPLES = 1000


@dataclass(frozen=True)
class Measure:
    """A share of cells that were named right.

    Attributes
    ----------
    over_cells : Interval
        The 95% interval resamples cells, as the paper's Table 1; too narrow, because cells of one patient are alike.
    over_groups : Interval
        The 95% interval resamples patients or images; NaN where there is one alone.
    """

    over_cells: Interval
    over_groups: Interval

    def as_json(self) -> dict[str, Any]:
        """Return plain numbers; None where there is none."""
        cells, groups = self.over_cells, self.over_groups
        return {
            "value": rounded(cells.value), "cells": cells.n, "groups": groups.n,
            "over_cells": [rounded(cells.low), rounded(cells.high)],
            "over_groups": [rounded(groups.low), rounded(groups.high)],
        }  # fmt: skip

    def __str__(self) -> str:
        if np.isnan(self.over_cells.value):
            return "-"
        cells, groups = self.over_cells, self.over_groups
        text = f"{cells.value:.3f} ({cells.low:.3f} to {cells.high:.3f})"
        return text if np.isnan(groups.low) else f"{text} [{groups.low:.3f} to {groups.high:.3f}]"


@dataclass(frozen=True)
class Accuracy:
    """What a classifier got right on some cells.

    Attributes
    ----------
    types : tuple of str
        The k names, in the order of the confusion matrix.
    by_group : numpy.ndarray
        int64 (g, k, k): a confusion matrix for each patient or image; rows are the truth, columns what was found.
    average : Measure
        Over all cells, as often as each type occurs (Table 1's average).
    balanced : Measure
        Mean over the types that occur.
    per_type : tuple of Measure
        Of the cells of each type, the share that was named so.
    """

    types: tuple[str, ...]
    by_group: NDArray[np.int64]
    average: Measure
    balanced: Measure
    per_type: tuple[Measure, ...]

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Confusion matrix of all cells, int64 (k, k)."""
        total: NDArray[np.int64] = self.by_group.sum(0)
        return total

    def as_json(self) -> dict[str, Any]:
        """Return plain numbers."""
        return {
            "average": self.average.as_json(),
            "balanced": self.balanced.as_json(),
            **{name: m.as_json() for name, m in zip(self.types, self.per_type, strict=True)},
            "confusion": self.confusion.tolist(),
        }


def measure(
    truth: NDArray[np.integer],
    found: NDArray[np.integer],
    groups: NDArray[np.integer],
    types: Sequence[str],
    seed: int = 0,
) -> Accuracy:
    """Count and resample.

    Parameters
    ----------
    truth, found : numpy.ndarray
        int (n,), 0 to k - 1.
    groups : numpy.ndarray
        int (n,), the patient or image of each cell.
    types : sequence of str
        The k names.
    seed : int
        Of the resamples.
    """
    k = len(types)
    names, group = np.unique(groups, return_inverse=True)
    by_group = np.zeros((len(names), k, k), np.int64)
    np.add.at(by_group, (group, truth, found), 1)
    drawn = _drawn(by_group, seed)
    return Accuracy(
        types=tuple(types),
        by_group=by_group,
        average=_measured(by_group, drawn, _average, list(range(k))),
        balanced=_measured(by_group, drawn, _balanced, list(range(k))),
        per_type=tuple(_measured(by_group, drawn, partial(_balanced, types=[i]), [i]) for i in range(k)),
    )


def fall(home: Accuracy, away: Accuracy, seed: int = 0) -> Measure:
    """Return by how much the balanced accuracy falls from `home` to `away`, over the types that both hold.

    Both sides are resampled, each on its own.

    Parameters
    ----------
    home, away : Accuracy
        Of one classifier: on the data that it learnt from, and on others.
    seed : int
        Of the resamples of `home`; those of `away` take the next.
    """
    present = np.flatnonzero(home.confusion.sum(1) * away.confusion.sum(1)).tolist()
    statistic = partial(_balanced, types=present)
    sides = []
    for accuracy, shift in ((home, 0), (away, 1)):
        drawn = _drawn(accuracy.by_group, seed + shift)
        sides.append([statistic(accuracy.confusion[None]), *(statistic(d) for d in drawn)])
    value, over_cells, over_groups = (a - b for a, b in zip(*sides, strict=True))
    enough = all(_holding(accuracy.by_group, [t]) > 1 for accuracy in (home, away) for t in present)
    n_cells = min(int(accuracy.confusion[present].sum()) for accuracy in (home, away))
    n_groups = min(_holding(accuracy.by_group, present) for accuracy in (home, away))
    return Measure(
        _interval(float(value[0]), over_cells, n_cells),
        _interval(float(value[0]), over_groups if enough else np.empty(0), n_groups),
    )


def _drawn(by_group: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Resample cells, then groups; int64 (resamples, k, k) each."""
    rng, (g, k, _), confusion = np.random.default_rng(seed), by_group.shape, by_group.sum(0)
    n = int(confusion.sum())
    cells = rng.multinomial(n, confusion.ravel() / max(n, 1), RESAMPLES) if n else np.zeros((RESAMPLES, k * k), int)
    groups = rng.multinomial(g, np.full(g, 1 / g), RESAMPLES) @ by_group.reshape(g, -1) if g else cells
    return cells.reshape(-1, k, k), groups.reshape(-1, k, k)


def _measured(
    by_group: NDArray[np.int64],
    drawn: tuple[NDArray[np.int64], NDArray[np.int64]],
    statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    types: list[int],
) -> Measure:
    value = float(statistic(by_group.sum(0)[None])[0])
    over_cells, over_groups = (statistic(d) for d in drawn)
    # Of a type that one group alone holds, resampled groups say nothing.
    present = [t for t in types if by_group[:, t].any()]
    enough = all(_holding(by_group, [t]) > 1 for t in present)
    return Measure(
        _interval(value, over_cells, int(by_group[:, types].sum())),
        _interval(value, over_groups if enough else np.empty(0), _holding(by_group, types)),
    )


def _holding(by_group: NDArray[np.int64], types: list[int]) -> int:
    """How many groups hold a cell of any of the types."""
    return int((by_group[:, types].sum((1, 2)) > 0).sum())


def _average(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of cells on the diagonal, (b,)."""
    with np.errstate(invalid="ignore"):
        shares: NDArray[np.float64] = np.trace(confusion, axis1=1, axis2=2) / confusion.sum((1, 2))
        return shares


def _balanced(confusion: NDArray[np.int64], types: list[int] | None = None) -> NDArray[np.float64]:
    """Mean over the types that occur of the share of their cells on the diagonal, (b,); NaN where none occurs."""
    with np.errstate(invalid="ignore"):
        recalls = np.diagonal(confusion, axis1=1, axis2=2) / confusion.sum(2)
        recalls = recalls if types is None else recalls[:, types]
        known = ~np.isnan(recalls)
        means: NDArray[np.float64] = np.where(known, recalls, 0).sum(1) / known.sum(1)
        return means


def _interval(value: float, drawn: NDArray[np.float64], n: int) -> Interval:
    drawn = drawn[~np.isnan(drawn)]
    low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (float("nan"),) * 2
    return Interval(value, float(low), float(high), n)


def rounded(value: float) -> float | None:
    """Return a number for JSON, which knows no NaN."""
    return None if np.isnan(value) else round(value, 4)
