"""`cytolite teach`, `apply` and `sheet`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cytolite.cli.app import RESEARCH_USE, Config, app, with_extra
from cytolite.config import TeachSettings, make_settings
from cytolite.errors import UsageError

Results = Annotated[Path, Parameter(help="Folders of results of `segment`.")]
Slide = Annotated[Path | None, Parameter(help="The slide, if it is not where it was.")]


@app.command(usage="Usage: cytolite teach RESULT... (--labels FILE... -o MODEL | --suggest N -o FILE) [OPTIONS]")
def teach(
    *results: Results,
    output: Annotated[Path, Parameter(name=["--output", "-o"], help="Folder of the new model; a file for --suggest.")],
    labels: Annotated[
        tuple[Path, ...],
        Parameter(help="Labels of each result, in their order: GeoJSON of QuPath, .csv (x, y, type) or cells.parquet."),
    ] = (),
    suggest: Annotated[
        int | None, Parameter(help="Write so many nuclei worth labelling next as GeoJSON, and a sheet of their crops.")
    ] = None,
    slide: Slide = None,
    config: Config = None,
    settings: Annotated[TeachSettings | None, Parameter(name="*")] = None,
) -> int:
    """Teach a model the types that you label, on results that are there (needs the extra `teach`).

    Five labels of a type are enough to begin; scores are of nuclei that were held out. The new model is used by name of
    its folder, with `apply` on results that are there and `segment --model` on others.
    """
    given = settings.model_dump(exclude_unset=True) if settings else {}
    resolved = make_settings(TeachSettings, given, config)
    from cytolite import pipeline

    if suggest is not None:
        if labels or len(results) != 1 or suggest < 1:
            raise UsageError("--suggest takes a number from 1 on and one result, and no --labels.")
        n, notes = pipeline.suggest_labels(results[0], output, suggest, slide)
        _tell(notes)
        print(f"{output}: {n:,} nuclei to label")
        return 0
    if not results or not labels:
        raise UsageError("Name at least one result and, with --labels, a file of labels for each.")
    found = with_extra(lambda: pipeline.teach(results, labels, output, resolved), "teach")
    _tell(found.notes)
    if not resolved.quiet:
        from cytolite.teach.report import summary

        print(summary(found.report))
        print(f"{found.bundle.path}\n{RESEARCH_USE}")
    return 0


@app.command(name="apply")
def apply_model(
    model: Annotated[str, Parameter(help="A taught model; or the model of the results, to have its names back.")],
    /,
    *results: Results,
    output: Annotated[Path, Parameter(name=["--output", "-o"], help="Folder that gets a folder for each result.")],
    overwrite: Annotated[bool, Parameter(help="Replace results that are there.")] = False,
    quiet: Annotated[bool, Parameter(help="Print nothing but errors and warnings.")] = False,
) -> int:
    """Name the nuclei of results that are there again, with a taught model; slides are not read again."""
    from cytolite import pipeline

    if not results:
        raise UsageError("Name at least one result.")

    def done(folder: Path, n: int, warnings: tuple[str, ...]) -> None:
        _tell([f"{folder}: {warning}" for warning in warnings])
        if not quiet:
            print(f"{folder}: {n:,} nuclei")

    pipeline.name_results(model, results, output, overwrite=overwrite, done=done)
    return 0


@app.command
def sheet(
    result: Annotated[Path, Parameter(help="Folder of a result of `segment`.")],
    /,
    *,
    output: Annotated[
        Path | None, Parameter(name=["--output", "-o"], help="PNG to write; sheet.png in the result without it.")
    ] = None,
    region: Annotated[str | None, Parameter(help="Only nuclei of this region.")] = None,
    columns: Annotated[int, Parameter(help="Crops of each type, 1 to 40.")] = 16,
    slide: Slide = None,
) -> int:
    """Draw crops of the nuclei of each type, from the surest to the least sure: a look at whether types are right."""
    from cytolite import pipeline

    if not 1 <= columns <= 40:
        raise UsageError(f"--columns {columns} is not allowed; 1 to 40 are.")
    print(pipeline.sheet(result, output, slide=slide, region=region, columns=columns))
    return 0


def _tell(notes: tuple[str, ...] | list[str]) -> None:
    for note in notes:
        print(f"warning: {note}", file=sys.stderr)
