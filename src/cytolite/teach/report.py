"""What a taught model is worth, in numbers and as its card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolite.bundle import ModelSpec
from cytolite.files import NOTICE
from cytolite.teach.fit import Fitted, Worth, f1_of


def report_of(
    types: Sequence[str],
    worth: Worth,
    fitted: Fitted,
    *,
    names: NDArray[np.str_],
    parent_names: NDArray[np.str_],
    groups: NDArray[np.int64],
    by: str,
) -> dict[str, Any]:
    """Return what cross-validation says, and what the parent called the same nuclei, as plain values.

    Parameters
    ----------
    types : sequence of str
        Taught types, in the order of `worth`.
    worth, fitted
        From `fit`.
    names, parent_names : numpy.ndarray
        str (n,): what the labelled nuclei are, and what the parent called them.
    groups : numpy.ndarray
        int64 (n,): what was kept on one side.
    by : str
        What the groups are.
    """
    known = [*types, *sorted(set(parent_names.tolist()) - set(types))]
    number = {name: i for i, name in enumerate(known)}
    y = np.array([number[name] for name in names.tolist()])
    parent = f1_of(y, np.array([number[name] for name in parent_names.tolist()]), len(known))[: len(types)]
    return {
        "labels": {name: int((names == name).sum()) for name in types},
        "groups": len(np.unique(groups)),
        "grouped_by": by,
        "macro_f1": _three(worth.macro),
        "parent_macro_f1": _number(float(np.nanmean(parent))),
        "f1": {name: _three(row) for name, row in zip(types, worth.f1, strict=True)},
        "parent_f1": {name: _number(value) for name, value in zip(types, parent, strict=True)},
        "confusion": {
            name: dict(zip(types, row, strict=True)) for name, row in zip(types, worth.confusion.tolist(), strict=True)
        },
        "learning_curve": [
            {"labels_of_each_type": n, "macro_f1": _number(mean), "sd": _number(sd)} for n, mean, sd in worth.curve
        ],
        "calibration_error": _number(worth.calibration_error),
        "strength": fitted.strength,
        "temperature": _number(fitted.temperature),
    }


def _number(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def _three(values: NDArray[np.float64]) -> dict[str, float | None]:
    return dict(zip(("value", "low", "high"), map(_number, values.tolist()), strict=True))


def card(spec: ModelSpec, report: dict[str, Any], notes: Sequence[str]) -> str:
    """Return the card of a taught bundle, Markdown.

    Parameters
    ----------
    spec : ModelSpec
        Of the taught bundle.
    report : dict
        From `report_of`.
    notes : sequence of str
        What else is to be known, a sentence each; may be empty.
    """
    parent = spec.classifier.parent if spec.classifier else ""
    lines = [
        f"# {spec.name}",
        "",
        f"{NOTICE} A classifier that was taught with labels of its user; nuclei are found by the network of {parent}.",
        "It is for slides like those that it was taught on: same stain, scanner and tissue. On others it may be wrong",
        "and sure of it.",
        "",
        *_table(report),
        "",
        *_confusion(report),
        "",
        *_curve(report),
        f"Calibration error of held-out nuclei: {_shown(report['calibration_error'])} (temperature "
        f"{_shown(report['temperature'])}).",
        "Types have the same weight however many labels they have, so probabilities are those where types are equally",
        "common.",
        "",
        f"Licence of the network: {spec.licence}.",
    ]
    lines += ["", "## Notes", "", *(f"- {note}" for note in notes)] if notes else []
    return "\n".join(lines) + "\n"


def as_json(report: dict[str, Any], notes: Sequence[str]) -> str:
    """Return what programs read.

    Parameters
    ----------
    report : dict
        From `report_of`.
    notes : sequence of str
        What else is to be known, a sentence each; may be empty.
    """
    content = {"notice": NOTICE, **report, "doubts": _doubts(report), "notes": list(notes)}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def summary(report: dict[str, Any]) -> str:
    """Return what a terminal shows."""
    return "\n".join([*_table(report), "", *_curve(report)]).rstrip()


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _with_interval(score: dict[str, float | None]) -> str:
    return f"{_shown(score['value'])} ({_shown(score['low'])} to {_shown(score['high'])})"


def _table(report: dict[str, Any]) -> list[str]:
    rows = [
        f"| {name} | {n:,} | {_with_interval(report['f1'][name])} | {_shown(report['parent_f1'][name])} |"
        for name, n in report["labels"].items()
    ]
    whole = f"| mean | {sum(report['labels'].values()):,} | {_with_interval(report['macro_f1'])} | "
    n, by = report["groups"], report["grouped_by"]
    over = by if n >= 5 else "nuclei"
    return [
        f"F1 of labelled nuclei that were held out, by {n} {by} (95% intervals from resamples of {over}):",
        "",
        "| type | labels | F1 | parent's F1 |",
        "|---|---:|---:|---:|",
        *rows,
        whole + f"{_shown(report['parent_macro_f1'])} |",
        *(["", *doubts] if (doubts := _doubts(report)) else []),
    ]


def _doubts(report: dict[str, Any]) -> list[str]:
    few = [name for name, n in report["labels"].items() if n < 25]
    doubts = []
    if (report["parent_macro_f1"] or 0) > (report["macro_f1"]["value"] or 0):
        doubts.append("The parent is better on these nuclei: use it, or label more, of more slides.")
    if report["grouped_by"] != "slides":
        doubts.append("All labels are of fewer than three slides: nothing is known of how it does on another slide.")
    if few:
        doubts.append(f"Fewer than 25 labels of {', '.join(few)}: these scores say little yet.")
    return doubts


def _confusion(report: dict[str, Any]) -> list[str]:
    names = list(report["labels"])
    return [
        "What held-out nuclei are (rows) and were called (columns):",
        "",
        "| | " + " | ".join(names) + " |",
        "|---" + "|---:" * len(names) + "|",
        *(f"| {name} | " + " | ".join(f"{n:,}" for n in report["confusion"][name].values()) + " |" for name in names),
    ]


def _curve(report: dict[str, Any]) -> list[str]:
    if not report["learning_curve"]:
        return []
    head = " | ".join(str(p["labels_of_each_type"]) for p in report["learning_curve"])
    body = " | ".join(f"{_shown(p['macro_f1'])} ± {_shown(p['sd'])}" for p in report["learning_curve"])
    return [
        "Mean F1 of held-out nuclei with fewer labels of each type (mean and standard deviation of 5 draws):",
        "",
        f"| labels of each type | {head} |",
        "|---" + "|---:" * len(report["learning_curve"]) + "|",
        f"| mean F1 | {body} |",
        "",
    ]
