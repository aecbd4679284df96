"""Verbs that make models: `train`, `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from cytolite.cli.app import Config, app, with_extra
from cytolite.config import DistillSettings, TrainSettings, make_settings


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
    """Train a student on what a teacher answers and on the truth; a stopped run goes on (needs the extra `train`)."""
    resolved = make_settings(DistillSettings, settings.model_dump(exclude_unset=True) if settings else {}, config)
    from cytolite import pipeline

    print(with_extra(lambda: pipeline.distill(teacher, stores, output, resolved)))
    return 0


@app.command(usage="Usage: cytolite export RUN|BUNDLE -o OUTPUT [OPTIONS]")
def export(
    source: Annotated[
        str, Parameter(name="RUN", help="Folder that `train` or `distill` wrote; for the other kinds: a bundle.")
    ],
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"], help="Folder of the bundle, names it; or a .pt file.")],
    kind: Annotated[
        Literal["bundle", "torchscript", "float16", "int8", "committee"],
        Parameter(help="bundle, torchscript: of a run; float16, int8: of a bundle; committee: of it and --others."),
    ] = "bundle",
    model_version: Annotated[str, Parameter(help="Version of the weights.")] = "1",
    stores: Annotated[tuple[Path, ...], Parameter(help="Where the run's stores are now, if they have moved.")] = (),
    others: Annotated[tuple[str, ...], Parameter(help="committee: further bundles, by name or path.")] = (),
    truth: Annotated[
        tuple[Path, ...], Parameter(help="bundle: stores with the labels to score on, if --stores were relabelled.")
    ] = (),
) -> int:
    """Make a model bundle of a run: ONNX, checked and scored, with its card (needs the extra `train`)."""
    from cytolite import pipeline

    if kind == "committee":
        print(with_extra(lambda: pipeline.export_committee([source, *others], output, model_version, stores)))
    elif kind in ("float16", "int8"):
        print(with_extra(lambda: pipeline.export_variant(source, output, kind, stores)))
    elif kind == "torchscript":
        difference = with_extra(lambda: pipeline.export_torchscript(Path(source), output, stores))
        print(f"{output}: differs from torch by {difference:.2g} at most")
    else:
        print(with_extra(lambda: pipeline.export(Path(source), output, model_version, stores, truth)).path)
    return 0
