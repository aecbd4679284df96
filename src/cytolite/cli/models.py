"""Verbs that make models: `train`, `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cytolite.cli.app import Config, app, with_extra
from cytolite.config import TrainSettings, make_settings


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

    bundle = with_extra(lambda: pipeline.export(run, output, model_version, stores))
    print(bundle.path)
    return 0
