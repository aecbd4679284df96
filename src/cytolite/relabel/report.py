"""What relabelling did and how far it can be trusted: the same numbers as JSON and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolite.celltypes import LABEL_NAMES
from cytolite.classifier import softmax
from cytolite.relabel.accuracy import Accuracy, Measure, fall, measure, rounded
from cytolite.relabel.calibration import equal_weights, expected_calibration_error
from cytolite.relabel.crossrelabel import Census
from cytolite.relabel.recipe import ClassifierRecipe

RESEARCH_USE = "For research use only; not for diagnosis."
THRESHOLDS = (0.0, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
# Table S4 of the paper, before relabelling, by what `cytolite prepare` calls the labels.
TABLE_S4 = {
    "pannuke": {"neoplastic": 77403, "epithelial": 26572, "inflammatory": 32276, "dead": 2908, "connective": 50585},
    "monusac": {"epithelial or neoplastic": 31402, "lymphocyte": 37045, "neutrophil": 1355, "macrophage": 1842},
}
FULL_PANNUKE = 7901


@dataclass(frozen=True)
class Scored:
    """A classifier on cells whose types are known.

    Attributes
    ----------
    accuracy : Accuracy
    error : float
        Expected calibration error, every type that occurs weighing the same; NaN without cells.
    error_before : float
        The same before the temperature.
    kept : tuple of tuple of float
        For each of `THRESHOLDS`: it, the share of cells whose probability reaches it, and their balanced accuracy.
    """

    accuracy: Accuracy
    error: float
    error_before: float
    kept: tuple[tuple[float, float, float], ...]

    def as_json(self) -> dict[str, Any]:
        """Return plain numbers."""
        keys = ("min_probability", "kept", "balanced_accuracy")
        kept = [{k: rounded(v) for k, v in zip(keys, row, strict=True)} for row in self.kept]
        errors = {"ece": rounded(self.error), "ece_before_temperature": rounded(self.error_before)}
        return {**self.accuracy.as_json(), **errors, "kept_at": kept}


def score(
    logits: NDArray[np.floating],
    truth: NDArray[np.integer],
    groups: NDArray[np.integer],
    types: Sequence[str],
    *,
    temperature: float = 1.0,
) -> Scored:
    """Score logits (n, k) against the true types, 0 to k - 1.

    Parameters
    ----------
    logits : numpy.ndarray
        float (n, k), before the temperature.
    truth : numpy.ndarray
        int (n,), 0 to k - 1.
    groups : numpy.ndarray
        int (n,), the patient or image of each cell.
    types : sequence of str
        The k names.
    temperature : float
        Divides the logits.
    """
    if not len(truth):
        nan = float("nan")
        return Scored(measure(truth, truth, groups, types), nan, nan, ())
    probs, weights = softmax(logits, temperature), equal_weights(truth)
    found = probs.argmax(1)
    kept = []
    for threshold in THRESHOLDS:
        sure = probs.max(1) >= threshold
        value = float("nan")
        if sure.any():
            value = float(equal_weights(truth[sure]) @ (found == truth)[sure])
        kept.append((threshold, float(sure.mean()), value))
    return Scored(
        accuracy=measure(truth, found, groups, types),
        error=expected_calibration_error(probs, truth, weights),
        error_before=expected_calibration_error(softmax(logits), truth, weights),
        kept=tuple(kept),
    )


@dataclass(frozen=True)
class ClassifierReport:
    """One classifier: what it learnt from, how it does at home and away.

    Attributes
    ----------
    recipe : ClassifierRecipe
    record : mapping
        What `classifier.save` wrote.
    test : Scored
        On the held-back patients or images of the data that it learnt from.
    elsewhere : mapping of str to Scored
        On other datasets that know some of its types.
    left_out : mapping of str to int
        Cells of those that show the same tissue as the data that it learnt from, as far as that is known.
    """

    recipe: ClassifierRecipe
    record: Mapping[str, Any]
    test: Scored
    elsewhere: Mapping[str, Scored]
    left_out: Mapping[str, int] = field(default_factory=dict)

    def drops(self) -> dict[str, Measure]:
        """By how much the balanced accuracy drops on each other dataset."""
        return {name: fall(self.test.accuracy, away.accuracy) for name, away in self.elsewhere.items()}

    def as_json(self) -> dict[str, Any]:
        """Return plain numbers."""
        return {
            "trained_on": list(self.recipe.trained_on),
            **{key: value for key, value in self.record.items() if key != "made_from"},
            "test": self.test.as_json(),
            "elsewhere": {name: scored.as_json() for name, scored in self.elsewhere.items()},
            "left_out": dict(self.left_out),
            "fall": {name: measured.as_json() for name, measured in self.drops().items()},
        }


def counts_json(census: Census) -> dict[str, Any]:
    """Return cells per dataset and label, before and after."""
    return {
        what: {source: {LABEL_NAMES[t]: counter[source, t] for t in LABEL_NAMES if counter[source, t]}
               for source in sorted(census.patches)}
        for what, counter in (("before", census.before), ("learnable", census.learnable), ("after", census.after))
    }  # fmt: skip


def counts_table(census: Census) -> list[list[str]]:
    """Return the rows of Table S4: label, each dataset before (of these learnable), all of them after."""
    sources = sorted(census.patches)
    table = [["cell type", *(f"{source} (large enough)" for source in sources), *(f"{s}, refined" for s in sources)]]
    table[0].append("all, refined")
    for label, name in LABEL_NAMES.items():
        before = [
            f"{census.before[s, label]:,} ({census.learnable[s, label]:,})" if census.before[s, label] else "-"
            for s in sources
        ]
        after = [census.after[s, label] for s in sources]
        if any(census.before[s, label] for s in sources) or any(after):
            table.append([name, *before, *(f"{n:,}" if n else "-" for n in after), f"{sum(after):,}"])
    return table


def against_paper(census: Census) -> list[str]:
    """Compare the counts before relabelling with Table S4, if this is the whole of PanNuke; a line a difference."""
    if census.patches["pannuke"] != FULL_PANNUKE:
        return []
    lines = []
    for source, wanted in TABLE_S4.items():
        if source in census.patches:
            found = {name: census.before[source, t] for t, name in LABEL_NAMES.items()}
            lines += [f"{source}: {found[n]:,} {n} cells; the paper's Table S4 has {m:,}." for n, m in wanted.items()]
    return lines


def markdown(census: Census, splits: Sequence[Mapping[str, Any]], reports: Sequence[ClassifierReport]) -> str:
    """Return the whole report as Markdown.

    Parameters
    ----------
    census : Census
        Cells before and after.
    splits : sequence of mapping
        One per split: `dataset`, `label`, `by`, the number of `cells`, and `new_types`, name to number.
    reports : sequence of ClassifierReport
        One per classifier.
    """
    parts = ["# Relabelling", RESEARCH_USE]
    if splits:
        parts += ["## Cells before and after", _table(counts_table(census)), *against_paper(census)]
    for split in splits:
        new = ", ".join(f"{n:,} {name}" for name, n in split["new_types"].items()) or "none"
        parts.append(
            f"{split['dataset']}, {split['label']}: {split['cells']:,} cells looked at by `{split['by']}`; now {new}."
        )
    for report in reports:
        parts += _classifier(report)
    return "\n\n".join(parts) + "\n"


def _classifier(report: ClassifierReport) -> list[str]:
    record, name = report.record, report.recipe.name
    sides = [["cells", *report.recipe.types]]
    sides += [[side, *(f"{n:,}" for n in counts)] for side, counts in record["cells"].items()]
    datasets = ", ".join(report.recipe.trained_on)
    weights = record["weights"] or "none, it started from scratch"
    start = f"Weights before training: {weights}. Temperature {record['temperature']:.3f}."
    equal = f"{record['crops_per_epoch']:,} crops an epoch, {len(record['history'])} epochs, best epoch kept."
    parts = [f"## Classifier `{name}`, trained on {datasets}", f"{start} {equal}", _table(sides)]
    places = {f"{datasets} (held-back test)": report.test} | dict(report.elsewhere)
    table = [["accuracy", *places]]
    rows: list[tuple[str, Callable[[Accuracy], Measure]]]
    rows = [("average", lambda a: a.average), ("balanced", lambda a: a.balanced)]
    rows += [(t, lambda a, i=i: a.per_type[i]) for i, t in enumerate(report.recipe.types)]  # type: ignore[misc]
    table += [[title, *(_measured(pick(scored.accuracy)) for scored in places.values())] for title, pick in rows]
    drops = report.drops()
    if drops:
        table.append(["falls by (balanced)", "", *(_measured(drops[place]) for place in report.elsewhere)])
    for title, attribute in (("ECE before temperature", "error_before"), ("ECE", "error")):
        table.append([title, *(_plain(getattr(scored, attribute)) for scored in places.values())])
    parts += [_table(table), EXPLANATION]
    parts += [
        f"{n:,} cells of {place} are not counted: their tissue is in {datasets}, too."
        for place, n in report.left_out.items()
        if n
    ]
    for place, scored in places.items():
        if scored.kept:
            parts += [f"{place}: what was found (columns) of what is true (rows), and what a threshold keeps"]
            head = ["truth", *report.recipe.types]
            rows_ = [[t, *map(str, row)] for t, row in zip(report.recipe.types, scored.accuracy.confusion, strict=True)]
            parts += [_table([head, *rows_])]
            kept = [["min_probability", "cells kept", "balanced accuracy of these"]]
            kept += [[f"{p:g}", f"{100 * share:.1f}%", _plain(value)] for p, share, value in scored.kept]
            parts += [_table(kept)]
    return parts


EXPLANATION = (
    "(95% interval over cells, as in the paper's Table 1) [95% interval over patients or images; missing where one "
    "alone holds a type], n = cells of patients or images, from 1,000 resamples. Average: every cell counts the same; "
    "balanced: every type. ECE: expected calibration error, every type that occurs weighing the same."
)


def _measured(measured: Measure) -> str:
    text = str(measured)
    return text if text == "-" else f"{text}, n = {measured.over_cells.n:,} of {measured.over_groups.n}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _plain(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"
