"""Verbs that make models: `train`, `export`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from cytolite.cli.app import Config, app, with_extra
from cytolite.config import DistillSettings, TrainSettings, make_settings
from cytolite.errors import UsageError


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

    print(with_extra(lambda: pipeline.train(stores, output, resolved)))
    return 0


@app.command(usage="Usage: cytolite distill TEACHER STORE... -o RUN [OPTIONS]")
def distill(
    teacher: Annotated[str, Parameter(help="Run of `train`, or a model bundle, by name or path.")],
    /,
    *stores: Annotated[Path, Parameter(name="STORE", help="Stores that `prepare` wrote.")],
    output: Annotated[Path, Parameter(name=["--output", "-o"], help="Folder of the run: logs and checkpoints.")],
    config: Config = None,
    settings: Annotated[DistillSettings | None, Parameter(name="*")] = None,
) -> int:
    """Train a student on the truth and on a teacher's soft targets; a stopped run goes on (needs the extra `train`)."""
    resolved = make_settings(DistillSettings, settings.model_dump(exclude_unset=True) if settings else {}, config)
    from cytolite import pipeline

    print(with_extra(lambda: pipeline.distill(teacher, stores, output, resolved)))
    return 0


# Options that some kinds of export have, beside --stores, which all have.
OPTIONS_OF_KIND = {
    "bundle": ("model_version", "truth"),
    "torchscript": (),
    "float16": ("duplicates",),
    "int8": ("duplicates",),
    "ensemble": ("model_version", "duplicates", "others"),
    "embedding": ("duplicates",),
}


@app.command(usage="Usage: cytolite export RUN|BUNDLE -o OUTPUT [OPTIONS]")
def export(
    source: Annotated[
        str, Parameter(name="RUN", help="Folder that `train` or `distill` wrote; for the other kinds: a bundle.")
    ],
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"], help="Folder of the bundle, names it; or a .pt file.")],
    kind: Annotated[
        Literal["bundle", "torchscript", "float16", "int8", "ensemble", "embedding"],
        Parameter(
            help="bundle, torchscript: of a run; float16, int8: of a bundle; ensemble: of it and --others; embedding: "
            "a bundle again, for `segment --embeddings`."
        ),
    ] = "bundle",
    model_version: Annotated[
        str | None, Parameter(help="bundle, ensemble: version of the weights; default: 1.")
    ] = None,
    stores: Annotated[
        tuple[Path, ...],
        Parameter(help="Stores of the run, if they have moved; float16, int8, ensemble, embedding: needed."),
    ] = (),
    duplicates: Annotated[
        Path | None,
        Parameter(help="float16, int8, ensemble, embedding: the pairs that `train --duplicates` was given."),
    ] = None,
    others: Annotated[tuple[str, ...], Parameter(help="ensemble: further bundles, by name or path.")] = (),
    truth: Annotated[
        tuple[Path, ...], Parameter(help="bundle: stores with the labels to score on, if --stores were relabelled.")
    ] = (),
) -> int:
    """Make a model bundle of a run: ONNX, checked and scored, with its card (needs the extra `train`)."""
    given = {"model_version": model_version, "duplicates": duplicates, "others": others, "truth": truth}
    _refuse_unused(kind, given)
    from cytolite import pipeline

    version = model_version or "1"
    if kind == "ensemble":
        members = [source, *others]
        _print_compared(*with_extra(lambda: pipeline.export_ensemble(members, output, version, stores, duplicates)))
    elif kind in ("float16", "int8"):
        _print_compared(*with_extra(lambda: pipeline.export_variant(source, output, kind, stores, duplicates)))
    elif kind == "embedding":
        print(with_extra(lambda: pipeline.export_embedding(source, output, stores, duplicates)).path)
    elif kind == "torchscript":
        difference = with_extra(lambda: pipeline.export_torchscript(Path(source), output, stores))
        print(f"{output}: differs from torch by {difference:.2g} at most")
    else:
        print(with_extra(lambda: pipeline.export(Path(source), output, version, stores, truth)).path)
    return 0


def _print_compared(text: str, warning: str) -> None:
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
    print(text)


def _refuse_unused(kind: str, given: Mapping[str, object]) -> None:
    for name, value in given.items():
        if value and name not in OPTIONS_OF_KIND[kind]:
            kinds = " and ".join(other for other, names in OPTIONS_OF_KIND.items() if name in names)
            raise UsageError(f"--{name.replace('_', '-')} is for --kind {kinds}, not for {kind}; leave it out.")
