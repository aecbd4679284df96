"""Verbs that make data ready and look at what there is: `prepare`, `inspect`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cytolite.cli.app import app, with_extra
from cytolite.errors import UsageError

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
    mpp: Annotated[float | None, Parameter(help="Of labels: resolution, µm per px.")] = None,
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


@app.command(usage="Usage: cytolite inspect [MODEL | STORE...] [OPTIONS]")
def inspect(
    *what: Annotated[
        str, Parameter(name="WHAT", help="A model bundle, by name or path, or stores; default: the model.")
    ],
    output: Annotated[
        Path | None,
        Parameter(name=["--output", "-o"], help="Of stores: PNG to draw some patches and their outlines in."),
    ] = None,
    pairs: Annotated[Path | None, Parameter(help="Of stores: CSV to write near-duplicates to, for training.")] = None,
    duplicates: Annotated[bool, Parameter(help="Of stores: look for near-duplicates, which can take minutes.")] = True,
    speed: Annotated[
        bool, Parameter(negative="", help="Of a model: measure memory and speed of its network here.")
    ] = False,
    quiet: Quiet = False,
) -> int:
    """Print what a model bundle says about itself, or what stores hold: types, sources, near-duplicates."""
    from cytolite import pipeline, progress

    paths = [Path(name) for name in what]
    if not paths or (len(paths) == 1 and not is_store(paths[0])):
        if output or pairs:
            raise UsageError("A model bundle has no patches to draw or compare; --output and --pairs are for stores.")
        print(pipeline.inspect(what[0] if what else None, speed))
        return 0
    display = progress.choose(quiet)
    print(
        with_extra(
            lambda: pipeline.inspect_stores(paths, sheet=output, pairs=pairs, duplicates=duplicates, display=display)
        )
    )
    return 0


def is_store(path: Path) -> bool:
    """Tell a store, which is one HDF5 file, from a bundle, which is a folder or a name."""
    if not path.is_file():
        return path.suffix == ".h5"
    with path.open("rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n" or path.suffix == ".h5"
