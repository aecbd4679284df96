"""Intervals: metrics of resampled images, drawn as one table of weights and computed at once (the paper's S5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cytolite.errors import InputError, UsageError
from cytolite.metrics.counts import Counts
from cytolite.metrics.scores import METRICS, Metric

RESAMPLES, SEED = 1000, 0
LOW, HIGH = 2.5, 97.5
# Where fewer resamples than this share have a value, percentiles of the others would not be an interval.
_LEAST_SHARE = 0.5
# Resamples of fewer groups than this are no sample of anything; of fewer than that, the interval is rough.
LEAST_GROUPS, ROUGH_BELOW = 5, 20


@dataclass(frozen=True)
class Interval:
    """A value with its 95% bootstrap interval.

    Attributes
    ----------
    value, low, high : float
        NaN where undefined; an interval needs `LEAST_GROUPS`.
    n : int
        Images (or whatever was counted) that enter.
    groups : int
        Groups that were drawn as a whole, of those with a value: what the interval rests on. 0 where nobody told.
    """

    value: float
    low: float
    high: float
    n: int
    groups: int = field(default=0, kw_only=True)

    @property
    def defined(self) -> bool:
        """Whether there is a value."""
        return bool(np.isfinite(self.value))

    @property
    def bounded(self) -> bool:
        """Whether there is an interval."""
        return bool(np.isfinite(self.low))

    @property
    def rough(self) -> bool:
        """Whether there is an interval of few groups."""
        return self.bounded and 0 < self.groups < ROUGH_BELOW

    def __str__(self) -> str:
        return self._text("")

    @property
    def signed(self) -> str:
        """As a difference is written: with its sign."""
        return self._text("+")

    def _text(self, sign: str) -> str:
        if not self.defined:
            return "-"
        between = f"{self.low:{sign}.3f} to {self.high:{sign}.3f}" if self.bounded else ""
        notes = ", ".join(note for note in (between, f"n = {self.groups}" if self.groups else "") if note)
        return f"{self.value:{sign}.3f}" + (f" ({notes})" if notes else "")


@dataclass(frozen=True)
class Score(Interval):
    """A metric of one class.

    Attributes
    ----------
    metric, aggregation, type : str
        E.g. pq, pooled, lymphocyte.
    """

    metric: str
    aggregation: str
    type: str

    @property
    def name(self) -> str:
        """Metric and aggregation."""
        return f"{self.metric}_{self.aggregation}"


def draw(
    groups: Sequence[str] | NDArray[np.str_], resamples: int = RESAMPLES, seed: int | tuple[int, ...] = SEED
) -> NDArray[np.float64]:
    """Draw groups with replacement, as many as there are; return how often each image was drawn.

    Parameters
    ----------
    groups : sequence of str
        One entry an image: what is drawn as a whole, e.g. the patient, or the image itself.
    resamples : int
        How many times.
    seed : int or tuple of int
        The same seed gives the same draw.

    Returns
    -------
    numpy.ndarray
        float64 (resamples, images).

    Raises
    ------
    InputError
        If there are no resamples.
    """
    if resamples < 1:
        raise UsageError(f"{resamples} resamples give no interval; at least 1 is needed.")
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    if not len(names):
        return np.zeros((resamples, 0))
    drawn = np.random.default_rng(seed).integers(len(names), size=(resamples, len(names)))
    drawn += len(names) * np.arange(resamples)[:, None]
    times = np.bincount(drawn.ravel(), minlength=resamples * len(names)).reshape(resamples, len(names))
    return times[:, member].astype(float)


def interval(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the 2.5 and 97.5 percentiles over resamples, float64 (k,), of values (resamples, k), NaN left out.

    NaN where most resamples have no value.
    """
    known = np.isfinite(values)
    low, high = np.full((2, values.shape[1]), np.nan)
    for k in np.flatnonzero(known.mean(0) >= _LEAST_SHARE):
        low[k], high[k] = np.percentile(values[known[:, k], k], [LOW, HIGH])
    return low, high


def score(
    counts: Counts,
    metrics: Sequence[Metric] = METRICS,
    *,
    group: str = "image",
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[Score]:
    """Compute metrics with their intervals.

    Parameters
    ----------
    counts : Counts
        Of the images that are judged together.
    metrics : sequence of Metric
        Which.
    group : str
        Column of the image table whose entries are drawn as a whole.
    resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    list of Score
        In the order of the metrics and of the classes, also those without a value.

    Raises
    ------
    InputError
        If there is no such column.
    """
    groups = unique_groups(counts, group)
    weights = np.concatenate([np.ones((1, len(counts))), draw(groups, resamples, seed)])
    found = []
    for metric in metrics:
        values, used = metric(counts, weights)
        n_groups = count_groups(groups, used)
        found += _scores(metric, metric.labels(counts), values, n_groups, used.sum(0))
    return found


def compare(
    counts: Counts,
    baseline: Counts,
    metrics: Sequence[Metric] = METRICS,
    *,
    group: str = "image",
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[Score]:
    """Compute the differences of metrics between two predictions of the same images, with paired intervals.

    Both are computed on the same resamples, so what makes an image hard for both does not widen the interval.

    Parameters
    ----------
    counts, baseline : Counts
        Of the same images.
    metrics : sequence of Metric
        To compute.
    group : str
        Column whose entries are drawn as a whole.
    resamples : int
        How many.
    seed : int
        Of the draws.

    Returns
    -------
    list of Score
        Value and interval of ``counts - baseline``.

    Raises
    ------
    InputError
        If the images or the classes are not the same.
    """
    for column in ("source", "image"):
        if not np.array_equal(counts.images[column], baseline.images[column]):
            raise InputError("Two predictions are compared on the same images alone, in the same order.")
    if counts.classes.names != baseline.classes.names:
        raise InputError("Two predictions are compared on the same types alone.")
    groups = unique_groups(counts, group)
    weights = np.concatenate([np.ones((1, len(counts))), draw(groups, resamples, seed)])
    found = []
    for metric in metrics:
        (ours, used), (theirs, also) = metric(counts, weights), metric(baseline, weights)
        used = used | also
        n_groups = count_groups(groups, used)
        found += _scores(metric, metric.labels(counts), ours - theirs, n_groups, used.sum(0))
    return found


def unique_groups(counts: Counts, column: str) -> NDArray[np.str_]:
    """Return what is drawn as a whole: entries of different sources are never the same, nor are empty ones.

    Parameters
    ----------
    counts : Counts
        Of all images.
    column : str
        Of the image table.
    """
    entries = np.where(counts.column(column) == "", counts.images["image"], counts.column(column))
    return np.char.add(np.char.add(counts.images["source"], "\n"), entries)


def count_groups(groups: NDArray[np.str_], used: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return how many groups have an image that enters each class; `used` is bool (images, classes).

    Parameters
    ----------
    groups : numpy.ndarray
        Of each image.
    used : numpy.ndarray
        bool (images, classes).
    """
    return np.array([len(np.unique(groups[used[:, k]])) for k in range(used.shape[1])], np.int64)


def _scores(
    metric: Metric,
    labels: Sequence[str],
    values: NDArray[np.float64],
    n_groups: NDArray[np.int64],
    n: NDArray[np.int64],
) -> list[Score]:
    low, high = interval(values[1:])
    low, high = (np.where((n_groups >= LEAST_GROUPS) & np.isfinite(values[0]), bound, np.nan) for bound in (low, high))
    return [
        Score(float(value), float(a), float(b), int(images), metric.name, metric.aggregation, label, groups=int(drawn))
        for label, value, a, b, images, drawn in zip(labels, values[0], low, high, n, n_groups, strict=True)
    ]


def headline(counts: Counts, group: str = "image", resamples: int = RESAMPLES, seed: int = SEED) -> dict[str, Score]:
    """Return one number a source: ``<source>_bpq_image``, or ``<source>_recall_image`` where partly labelled.

    Parameters
    ----------
    counts : Counts
        Of all images.
    group : str
        Column whose entries are drawn as a whole.
    resamples : int
        How many.
    seed : int
        Of the draws.
    """
    found = {}
    for source, of_source in _sources(counts):
        metric = _headline_metric(of_source)
        [found[f"{source}_{metric.full_name}"]] = score(
            of_source, [metric], group=group, resamples=resamples, seed=seed
        )
    return found


def headline_differences(
    counts: Counts, baseline: Counts, group: str = "image", resamples: int = RESAMPLES, seed: int = SEED
) -> dict[str, Score]:
    """Return ``counts - baseline`` of each source's headline number, with paired intervals.

    Parameters
    ----------
    counts, baseline : Counts
        Of the same images.
    group : str
        Column whose entries are drawn as a whole.
    resamples : int
        How many.
    seed : int
        Of the draws.

    Raises
    ------
    InputError
        As `compare`.
    """
    found = {}
    for (source, of_source), (_, theirs) in zip(_sources(counts), _sources(baseline), strict=True):
        metric, options = _headline_metric(of_source), {"group": group, "resamples": resamples, "seed": seed}
        [found[f"{source}_{metric.full_name}"]] = compare(of_source, theirs, [metric], **options)  # type: ignore[arg-type]
    return found


def _sources(counts: Counts) -> list[tuple[str, Counts]]:
    names = counts.images["source"]
    return [(str(source), counts.select(names == source)) for source in np.unique(names)]


def _headline_metric(counts: Counts) -> Metric:
    name = "recall_image" if counts.partly.all() else "bpq_image"
    return next(m for m in METRICS if m.full_name == name)
