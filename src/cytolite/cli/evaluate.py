"""`cytolite evaluate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cytolite.cli.app import RESEARCH_USE, Config, app, print_table, with_extra
from cytolite.config import MODELS, EvaluateSettings, make_settings

if TYPE_CHECKING:
    from cytolite.evaluation.report import Section

# What fits a terminal: sections side by side, and how few leave room for intervals.
MOST_COLUMNS, WITH_INTERVALS = 7, 3

Truth = Annotated[
    tuple[Path, ...], Parameter(help="Label folder (inst/, type/) or store; several are scored together.")
]
Predicted = Annotated[
    tuple[Path, ...],
    Parameter(help="Label folder, results of `segment`, or one cells.parquet; one for each split of a protocol."),
]
Model = Annotated[
    str | None, Parameter(help=f"Bundle that predicts, in place of --predicted: {MODELS}, or the folder of another.")
]
Baseline = Annotated[str | None, Parameter(help="Predictions or a bundle to compare with, on the same images.")]
Output = Annotated[Path, Parameter(name=["--output", "-o"], help="Folder of the report.")]
Page = Annotated[Path | None, Parameter(help="Write the scores as a Markdown page too.")]


@app.command(usage="Usage: cytolite evaluate --truth TRUTH (--predicted FOLDER | --model BUNDLE) -o REPORT [OPTIONS]")
def evaluate(
    *,
    truth: Truth,
    output: Output,
    predicted: Predicted = (),
    model: Model = None,
    baseline: Baseline = None,
    page: Page = None,
    config: Config = None,
    settings: Annotated[EvaluateSettings | None, Parameter(name="*")] = None,
) -> int:
    """Score predictions against a truth: every PQ by its full name, with intervals, and a report to look at.

    REPORT gets report.html, report.json, counts.parquet (all that metrics need) and plots/.
    """
    given = settings.model_dump(exclude_unset=True) if settings else {}
    resolved = make_settings(EvaluateSettings, given, config)
    from cytolite import pipeline, progress

    show = progress.choose(resolved.quiet)
    found = with_extra(
        lambda: pipeline.evaluate(
            truth, output, resolved, predicted, model=model, baseline=baseline, page=page, display=show, warn=_warn
        )
    )
    if not resolved.quiet:
        _print(found, resolved.group)
        print(f"{output / 'report.html'}\n{RESEARCH_USE}")
    return 0


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _print(found: list[Section], group: str) -> None:
    """Print the scores over all types, a row a metric; with their intervals where few sections stand side by side."""
    from cytolite.evaluation.markdown import OVERALL
    from cytolite.evaluation.report import Bootstrap, interval_notes

    if found[0].differences:
        _print_compared(found)
        return
    shown = found[:MOST_COLUMNS]
    rows = []
    for name in OVERALL:
        scores = [s.find(name, "all") or s.find(name, "mean") for s in shown]
        if any(scores):
            texts = ["-" if s is None else str(s) if len(shown) < WITH_INTERVALS else f"{s.value:.3f}" for s in scores]
            rows.append((name, *texts))
    print_table(("", *(f"{s.title}\n{len(s.counts):,} images" for s in shown)), rows)
    for note in interval_notes(shown, Bootstrap(group)):
        print(note)


def _print_compared(found: list[Section]) -> None:
    """Print a table a section: the scores, those of the baseline, and the differences."""
    from cytolite.evaluation.markdown import OVERALL

    for section in found[:MOST_COLUMNS]:
        rows = []
        for name in OVERALL:
            ours = section.find(name, "all") or section.find(name, "mean")
            if ours is None:
                continue
            theirs, difference = (
                next((s for s in scores if (s.name, s.type) == (name, ours.type) and s.defined), None)
                for scores in (section.baseline, section.differences)
            )
            signed = "-" if difference is None else difference.signed
            rows.append((name, str(ours), "-" if theirs is None else str(theirs), signed))
        print_table((f"{section.title}\n{len(section.counts):,} images", "this", "baseline", "difference"), rows)
