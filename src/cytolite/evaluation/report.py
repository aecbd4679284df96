"""report.json and what all reports are made of: scores of all images and of each group of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolite.metrics.bootstrap import LEAST_GROUPS, RESAMPLES, ROUGH_BELOW, SEED, Score, compare, score
from cytolite.metrics.calibration import reliability_curve
from cytolite.metrics.counts import Counts
from cytolite.metrics.scores import judged_bins

FORMAT = 1
NOTICE = "For research use only; not for diagnosis."


@dataclass(frozen=True)
class Section:
    """Images that are judged together.

    Attributes
    ----------
    column, value : str
        What they share, e.g. source and consep; both empty for all images.
    counts : Counts
        Theirs.
    scores : list of Score
        Every metric.
    baseline, differences : list of Score
        The other prediction's scores, and ours minus those; empty without one.
    """

    column: str
    value: str
    counts: Counts
    scores: list[Score]
    baseline: list[Score]
    differences: list[Score]

    @property
    def title(self) -> str:
        """Value, or "all images"."""
        return self.value or "all images"

    def find(self, name: str, label: str) -> Score | None:
        """Return the score of a metric's full name and a class, if it has a value.

        Parameters
        ----------
        name : str
            Full name of a metric.
        label : str
            Class, "all" or "mean".
        """
        return next((s for s in self.scores if s.name == name and s.type == label and s.defined), None)


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are drawn: what column holds what is drawn as a whole, how often, from which seed."""

    group: str = "image"
    resamples: int = RESAMPLES
    seed: int = SEED


def sections(
    counts: Counts, by: Sequence[str] = (), bootstrap: Bootstrap = Bootstrap(), baseline: Counts | None = None
) -> list[Section]:
    """Score all images, then those of each entry of the columns `by`.

    Parameters
    ----------
    counts : Counts
        Of all images.
    by : sequence of str
        Columns of the image table.
    bootstrap : Bootstrap
        How intervals are made.
    baseline : Counts, optional
        Of the same images, to be compared with.

    Raises
    ------
    InputError
        If there is no such column.
    """
    found = [_section(counts, baseline, bootstrap, column="", value="", rows=np.ones(len(counts), bool))]
    for column in by:
        entries = counts.column(column)
        for value in np.unique(entries):
            found.append(_section(counts, baseline, bootstrap, column=column, value=str(value), rows=entries == value))
    return found


def _section(
    counts: Counts, baseline: Counts | None, b: Bootstrap, *, column: str, value: str, rows: NDArray[np.bool_]
) -> Section:
    selected = counts.select(rows)
    options: dict[str, Any] = {"group": b.group, "resamples": b.resamples, "seed": b.seed}
    scores = score(selected, **options)
    if baseline is None:
        return Section(column, value, selected, scores, [], [])
    other = baseline.select(rows)
    return Section(column, value, selected, scores, score(other, **options), compare(selected, other, **options))


def as_json(found: Sequence[Section], bootstrap: Bootstrap, about: dict[str, Any]) -> dict[str, Any]:
    """Return the report as JSON values.

    Keys: ``overall`` and ``groups`` (column -> entry) hold ``scores``, metric -> aggregation -> type -> ``value``,
    ``low``, ``high``, ``n`` (images), ``groups`` (of those that are drawn as a whole); with a baseline also
    ``baseline`` and ``difference``, alike; ``confusion``, matched nuclei, label -> type -> number; ``reliability``,
    one entry a bin. What has no value is left out.

    Parameters
    ----------
    found : sequence of Section
        The scores.
    bootstrap : Bootstrap
        How intervals were made.
    about : dict
        Further keys.
    """
    groups: dict[str, dict[str, Any]] = {}
    for section in found[1:]:
        groups.setdefault(section.column, {})[section.value] = _section_json(section)
    return {
        "format": FORMAT,
        "notice": NOTICE,
        **about,
        "bootstrap": {
            "level": 0.95,
            **asdict(bootstrap),
            "least_groups": LEAST_GROUPS,
            "rough_below": ROUGH_BELOW,
        },
        "intervals": interval_notes(found, bootstrap),
        "overall": _section_json(found[0]),
        "groups": groups,
    }


def _section_json(section: Section) -> dict[str, Any]:
    content: dict[str, Any] = {
        "images": len(section.counts),
        "partly_labelled": int(section.counts.partly.sum()),
        "nuclei": int(section.counts.values["n_true"][:, 0].sum()),
        "scores": nested(section.scores),
    }
    if section.differences:
        content |= {"baseline": nested(section.baseline), "difference": nested(section.differences)}
    content["confusion"] = {
        label: dict(zip(section.counts.classes.types, map(int, row), strict=True))
        for label, row in zip(*confusion(section.counts), strict=True)
    }
    bins = zip(*reliability_curve(judged_bins(section.counts).sum(0)), strict=True)
    content["reliability"] = [{"confidence": float(c), "right": float(r), "n": int(n)} for c, r, n in bins if n > 0]
    return content


def nested(scores: Sequence[Score]) -> dict[str, Any]:
    """Return scores as metric -> aggregation -> type -> value, low, high, n, groups; without those of no value."""
    result: dict[str, Any] = {}
    for s in scores:
        if s.defined:
            entry = {"value": s.value, "low": _or_none(s.low), "high": _or_none(s.high), "n": s.n, "groups": s.groups}
            result.setdefault(s.metric, {}).setdefault(s.aggregation, {})[s.type] = entry
    return result


def interval_notes(found: Sequence[Section], bootstrap: Bootstrap) -> list[str]:
    """Return why some scores have no interval, and that some intervals are rough; empty where neither is so.

    Parameters
    ----------
    found : sequence of Section
        The scores.
    bootstrap : Bootstrap
        How intervals were made.
    """
    unit = "images" if bootstrap.group == "image" else f"groups of one {bootstrap.group}"
    scores = [s for section in found for s in (*section.scores, *section.differences) if s.defined]
    notes: list[str] = []
    if few := {s.groups for s in scores if s.groups < LEAST_GROUPS}:
        notes.append(
            f"Under {LEAST_GROUPS} {unit} there is no interval, and no difference is marked: resamples of so few "
            f"say nothing of others (least here: {min(few)})."
        )
    if any(s.rough for s in scores):
        notes.append(f"Intervals of under {ROUGH_BELOW} {unit} are rough, and often too narrow.")
    return notes


def confusion(counts: Counts) -> tuple[list[str], NDArray[np.float64]]:
    """Return labels that occur, and matched nuclei of each by predicted type, float64 (labels, types)."""
    table = counts.confusion.sum(0)
    rows = np.flatnonzero(table.sum(1))
    return [counts.classes.names[r] for r in rows], table[rows]


def shown_classes(counts: Counts) -> list[str]:
    """Return the classes, without "all", that can be judged somewhere and of which there are true nuclei."""
    present: NDArray[np.bool_] = np.any(counts.measured & (counts.values["n_true"] > 0), axis=0)
    return [name for name, shown in zip(counts.classes.names[1:], present[1:], strict=True) if shown]


def readable(label: str) -> str:
    """Return a class's name as text: "a|b|c" becomes "a, b or c"."""
    *others, last = label.split("|")
    return f"{', '.join(others)} or {last}" if others else last


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
