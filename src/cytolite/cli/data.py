"""Verbs that make data ready and look at what there is: `prepare`, `inspect`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cytolite.cli.app import app, with_extra

Quiet = Annotated[bool, Parameter(name="--quiet", negative="", help="No progress; errors are still printed.")]


@app.command(usage="Usage: cytolite prepare DATASET FOLDER -o STORE [OPTIONS]")
def prepare(
    dataset: Annotated[str, Parameter(help="consep, monusac, monuseg, pannuke, puma or labels (any other).")],
    folder: Annotated[Path, Parameter(help="Where it lies, as its authors publish it or as label images.")],
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"], help="Store to write, an .h5 file.")],
    patch: Annotated[int | None, Parameter(help="Cut images to this side in px; default: they stay whole.")] = None,
    types: Annotated[Path | None, Parameter(help="Of labels: TOML or JSON file that names the type ids.")] = None,
    mpp: Annotated[float | None, Parameter(help="Of labels: resolution, um per px.")] = None,
    quiet: Quiet = False,
) -> int:
    """Read a public dataset and write its patches into a store to train on (needs the extra `train`)."""
    from cytolite import pipeline, progress

    display = progress.choose(quiet)
    made = with_extra(
        lambda: pipeline.prepare(dataset, folder, output, patch=patch, types=types, mpp=mpp, display=display)
    )
    for note in made.notes:
        print(f"warning: {folder}: {note}", file=sys.stderr)
    for line in made.rules:
        print(line)
    print(f"{output}: {made.n:,} patches")
    return 0


@app.command
def inspect(
    model: Annotated[str | None, Parameter(help="Model bundle, by name or path; default: the embedded one.")] = None, /
) -> int:
    """Print what a model bundle says about itself, and its card."""
    from cytolite import pipeline

    print(pipeline.inspect(model))
    return 0
