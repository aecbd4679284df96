"""Verbs that give stores more labels: `relabel`, `outline`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cytolite.cli.app import RESEARCH_USE, Config, app, with_extra
from cytolite.cli.data import Quiet
from cytolite.config import RelabelSettings, Tta, make_settings


@app.command(usage="Usage: cytolite relabel STORE... -o RUN [OPTIONS]")
def relabel(
    *stores: Annotated[Path, Parameter(name="STORE", help="Stores that `prepare` wrote.")],
    output: Annotated[Path, Parameter(name=["--output", "-o"], help="Folder for the refined store and its audit.")],
    config: Config = None,
    settings: Annotated[RelabelSettings | None, Parameter(name="*")] = None,
) -> int:
    """Split coarse labels into types by classifiers that learn them from another dataset (needs the extra `train`).

    RUN gets refined.h5, audit.parquet (a row per cell that was looked at), report.md and report.json (counts,
    accuracies, confusion, calibration, accuracy on other datasets), sheets/ of crops to look at, and classifiers/.
    """
    resolved = make_settings(RelabelSettings, settings.model_dump(exclude_unset=True) if settings else {}, config)
    from cytolite import pipeline, progress

    result = with_extra(lambda: pipeline.relabel(stores, output, resolved, progress.choose(resolved.quiet)))
    for note in result.notes:
        print(f"warning: {note}", file=sys.stderr)
    if result.skipped:
        print(f"{output}: already there, nothing was done (--overwrite does it again)")
        return 0
    if not resolved.quiet:
        print((output / "report.md").read_text(encoding="utf-8"))
    print(f"{output}: {result.changed:,} of {result.cells:,} cells were given a finer type. {RESEARCH_USE}")
    return 0


@app.command(usage="Usage: cytolite outline STORE... -o RUN [OPTIONS]")
def outline(
    *stores: Annotated[Path, Parameter(name="STORE", help="Stores that `prepare` wrote.")],
    output: Annotated[Path, Parameter(name=["--output", "-o"], help="Folder for the new store and its audit.")],
    model: Annotated[str | None, Parameter(help="Model bundle, by name or path; default: the embedded one.")] = None,
    tta: Annotated[Tta, Parameter(help="Test-time augmentation: 4 or 8 shows images rotated, and mirrored too.")] = 1,
    threads: Annotated[int, Parameter(help="Threads of the network.")] = 2,
    quiet: Quiet = False,
) -> int:
    """Outline nuclei that experts marked by points or boxes with a model; their types stay the experts'.

    RUN gets outlined.h5 and audit.parquet (a row per mark: what the model found there, and what became of it).
    """
    from cytolite import pipeline, progress

    display = progress.choose(quiet)
    print(with_extra(lambda: pipeline.outline(stores, output, model, tta=tta, threads=threads, display=display)))
    print(f"{output}: {RESEARCH_USE}")
    return 0
