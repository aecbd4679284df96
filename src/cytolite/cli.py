"""The command `cytolite`: each verb parses, calls one function of the pipeline and prints where the result is.

Nothing heavy is imported here, so that ``--help`` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

from cyclopts import App, CycloptsError, Parameter
from pydantic import ValidationError

import cytolite
from cytolite.config import SegmentSettings, TrainSettings, explain, make_settings
from cytolite.errors import CytoliteError, InputError

if TYPE_CHECKING:
    from cytolite.pipeline import Outcome

Result = TypeVar("Result")
FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130
RESEARCH_USE = "For research use only; not for diagnosis."

app = App(
    name="cytolite",
    help=f"Find, outline and name every nucleus in H&E whole slide images. {RESEARCH_USE}",
    version=lambda: cytolite.__version__,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)

Slides = Annotated[str, Parameter(name="SLIDE", help="Slides or images, or patterns such as 'slides/*.svs'.")]
Output = Annotated[Path, Parameter(name=["--output", "-o"], help="Folder for the results; one folder per slide in it.")]
Config = Annotated[Path | None, Parameter(help="TOML file of settings; what is given on the command line wins.")]


@app.command(usage="Usage: cytolite segment SLIDE... -o OUTPUT [OPTIONS]")
def segment(
    *slides: Slides,
    output: Output,
    config: Config = None,
    settings: Annotated[SegmentSettings | None, Parameter(name="*")] = None,
) -> int:
    """Find, outline and name every nucleus of H&E slides.

    Each slide's results go to a folder of its name in OUTPUT: cells.parquet, cells.geojson.gz (QuPath),
    summary.csv, summary.json, overview.png and run.json. A run that was stopped goes on where it was
    when it is started again; results that are there already are skipped.
    """
    given = settings.model_dump(exclude_unset=True) if settings else {}
    resolved = make_settings(SegmentSettings, given, config)
    from cytolite import pipeline, progress

    show: Callable[[str], None] = _silent if resolved.quiet else print
    outcomes = pipeline.segment_slides(slides, output, resolved, progress.choose(resolved.quiet), _report(show))
    if any(outcome.status == "done" for outcome in outcomes):
        show(RESEARCH_USE)
    failures = [outcome for outcome in outcomes if outcome.status == "failed"]
    if len(outcomes) > 1 and failures:
        _print_failures(failures, len(outcomes))
    return FAILED if failures else 0


@app.command
def inspect(
    model: Annotated[str | None, Parameter(help="Model bundle, by name or path; default: the embedded one.")] = None, /
) -> int:
    """Print what a model bundle says about itself, and its card."""
    from cytolite import pipeline

    print(pipeline.inspect(model))
    return 0


@app.command
def prepare(
    dataset: Annotated[str, Parameter(help="consep, monusac, monuseg, pannuke or puma.")],
    folder: Annotated[Path, Parameter(help="Where the dataset lies.")],
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"], help="Store to write, an .h5 file.")],
) -> int:
    """Read a public dataset and write its patches into a store to train on (needs the extra `train`)."""
    from cytolite import pipeline

    n = _with_extra(lambda: pipeline.prepare(dataset, folder, output))
    print(f"{output}: {n:,} patches")
    return 0


@app.command(usage="Usage: cytolite train STORE... -o RUN [OPTIONS]")
def train(
    *stores: Annotated[Path, Parameter(name="STORE", help="Stores that `prepare` wrote.")],
    output: Annotated[Path, Parameter(name=["--output", "-o"], help="Folder of the run: logs and checkpoints.")],
    config: Config = None,
    settings: Annotated[TrainSettings | None, Parameter(name="*")] = None,
) -> int:
    """Train a student; a run that was stopped goes on when it is started again (needs the extra `train`)."""
    resolved = make_settings(TrainSettings, settings.model_dump(exclude_unset=True) if settings else {}, config)
    from cytolite import pipeline

    print(_with_extra(lambda: pipeline.train(stores, output, resolved)))
    return 0


@app.command(usage="Usage: cytolite export RUN -o BUNDLE [--model-version TEXT] [--stores STORE...]")
def export(
    run: Annotated[Path, Parameter(help="Folder that `train` wrote.")],
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"], help="Folder of the bundle; names the model.")],
    model_version: Annotated[str, Parameter(help="Version of the weights.")] = "1",
    stores: Annotated[tuple[Path, ...], Parameter(help="Where the run's stores are now, if they have moved.")] = (),
) -> int:
    """Make a model bundle of a run: ONNX, checked and scored, with its card (needs the extra `train`)."""
    from cytolite import pipeline

    bundle = _with_extra(lambda: pipeline.export(run, output, model_version, stores))
    print(bundle.path)
    return 0


def _with_extra(work: Callable[[], Result]) -> Result:
    """Do what needs the extra `train`; where a package of it is missing, say how to get it."""
    try:
        return work()
    except ModuleNotFoundError as error:
        raise InputError(f"This needs {error.name}, which is not installed: pip install 'cytolite[train]'.") from None


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command and leave with its exit code: 0 done, 1 failed, 2 wrong use, 130 interrupted."""
    try:
        code = app(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        _print_error(_usage(error))
        sys.exit(WRONG_USE)
    except CytoliteError as error:
        _print_error(str(error))
        sys.exit(FAILED)
    except KeyboardInterrupt as error:
        _print_error(str(error) or "Interrupted; run the same command again to go on.")
        sys.exit(INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _usage(error: CycloptsError) -> str:
    if isinstance(error.__cause__, ValidationError):
        return explain(error.__cause__, SegmentSettings)
    message = " ".join(str(error).split()).rstrip(".")
    return f"{message}; see cytolite --help."


def _report(show: Callable[[str], None]) -> Callable[[Outcome], None]:
    def report(outcome: Outcome) -> None:
        for warning in outcome.warnings:
            print(f"warning: {outcome.slide}: {warning}", file=sys.stderr)
        if outcome.status == "failed":
            _print_error(outcome.message)
        elif outcome.status == "skipped":
            show(f"{outcome.folder}: already there, skipped (--overwrite does it again)")
        else:
            # On a small image the start takes longer than the work, and a speed would say nothing.
            speed = f", {outcome.seconds / outcome.tissue_mm2:.1f} s/mm2" if outcome.tissue_mm2 >= 1 else ""
            area = f"{outcome.cells:,} nuclei in {outcome.tissue_mm2:.2f} mm2"
            show(f"{outcome.folder}: {area}, {outcome.seconds:.1f} s{speed}")

    return report


def _print_error(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)


def _silent(line: str) -> None:
    pass


def _print_failures(failures: list[Outcome], n_slides: int) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "slide", "what went wrong", title=f"{len(failures)} of {n_slides} slides failed", title_justify="left"
    )
    for outcome in failures:
        table.add_row(str(outcome.slide), outcome.message)
    Console(stderr=True).print(table)
