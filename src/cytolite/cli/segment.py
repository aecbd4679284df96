"""`cytolite segment`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from cytolite.cli.app import FAILED, RESEARCH_USE, Config, app, print_error, print_table, with_extra
from cytolite.config import SegmentSettings, make_settings
from cytolite.errors import UsageError
from cytolite.names import one_line

if TYPE_CHECKING:
    from cytolite.segmentation.run import Outcome

Slides = Annotated[str, Parameter(name="SLIDE", help="Slides or images, or patterns such as 'slides/*.svs'.")]
Output = Annotated[Path, Parameter(name=["--output", "-o"], help="Folder for the results; one folder per slide in it.")]
Progress = Annotated[
    Literal["auto", "json"],
    Parameter(
        help="json: an object a line on stderr, for programs; auto: a bar on a terminal, else a line now and then."
    ),
]


SlideList = Annotated[
    Path | None,
    Parameter(name="--slides", help="CSV or Parquet list: path, and id, mpp, roi, scene, model or any other columns."),
]


@app.command(usage="Usage: cytolite segment SLIDE... -o OUTPUT [OPTIONS]")
def segment(
    *slides: Slides,
    output: Output,
    slide_list: SlideList = None,
    dry_run: Annotated[bool, Parameter(help="Look at all slides, say what a run would do and take, and stop.")] = False,
    cluster: Annotated[
        str | None,
        Parameter(help="local:N processes, tcp://HOST:PORT of a Dask scheduler, or slurm:SETTINGS.toml."),
    ] = None,
    jobs: Annotated[int | None, Parameter(help="Jobs that Slurm may start, or processes of `local`.")] = None,
    config: Config = None,
    progress: Progress = "auto",
    settings: Annotated[SegmentSettings | None, Parameter(name="*")] = None,
) -> int:
    """Find, outline and name every nucleus of H&E slides.

    Each slide's results go to a folder of its name in OUTPUT: cells.parquet, cells.geojson.gz (QuPath),
    summary.csv, summary.json, tissue.geojson,
    artefacts.geojson, overview.png and run.json; of several slides OUTPUT gets cohort.csv, cohort.parquet,
    cohort.html and failures.csv. A run that was stopped goes on where it was
    when it is started again; results that are there already are skipped.
    """
    given = settings.model_dump(exclude_unset=True) if settings else {}
    resolved = make_settings(SegmentSettings, given, config)
    from cytolite import pipeline
    from cytolite.progress import choose

    if dry_run:
        from cytolite.cli.cohort import show_infos

        return show_infos(slides, resolved, slide_list=slide_list, expect=True)
    if jobs is not None and (cluster is None or jobs < 1):
        raise UsageError(f"--jobs {jobs} needs --cluster, and a number from 1.")
    display = choose(resolved.quiet, progress)

    def work(report: Callable[[Outcome], None]) -> list[Outcome]:
        return pipeline.segment_slides(
            slides, output, resolved, display, report, slide_list=slide_list, cluster=cluster, jobs=jobs
        )

    run = work if cluster is None else lambda report: with_extra(lambda: work(report), "cluster")
    return print_outcomes(resolved.quiet, run)


def print_outcomes(quiet: bool, work: Callable[[Callable[[Outcome], None]], list[Outcome]]) -> int:
    """Do work on several slides, say what became of each as soon as it is known, and return the exit code.

    Parameters
    ----------
    quiet : bool
        Print failures alone.
    work : callable
        Is given what shall be called with each outcome; returns all of them.
    """
    show: Callable[[str], None] = _silent if quiet else print
    outcomes = work(_report(show))
    if any(outcome.status == "done" for outcome in outcomes):
        show(RESEARCH_USE)
    failures = [outcome for outcome in outcomes if outcome.status == "failed"]
    if len(outcomes) > 1 and failures:
        _print_failures(failures, len(outcomes))
    return FAILED if failures else 0


def _report(show: Callable[[str], None]) -> Callable[[Outcome], None]:
    def report(outcome: Outcome) -> None:
        for warning in outcome.warnings:
            print(f"warning: {one_line(outcome.slide)}: {warning}", file=sys.stderr)
        if outcome.status == "failed":
            print_error(outcome.message)
        elif outcome.status == "skipped":
            show(f"{outcome.folder}: already there, skipped (--overwrite does it again)")
        else:
            # On a small image the start takes longer than the work, and a speed would say nothing.
            speed = f", {outcome.seconds / outcome.tissue_mm2:.1f} s/mm²" if outcome.tissue_mm2 >= 1 else ""
            area = f"{outcome.cells:,} nuclei in {outcome.tissue_mm2:.2f} mm² of tissue"
            show(f"{outcome.folder}: {area}, {outcome.seconds:.1f} s{speed}")

    return report


def _silent(line: str) -> None:
    pass


def _print_failures(failures: list[Outcome], n_slides: int) -> None:
    rows = [(one_line(outcome.slide), outcome.message) for outcome in failures]
    title = f"{len(failures)} of {n_slides} slides failed"
    print_table(("slide", "what went wrong"), rows, title=title, lines=True, error=True)
