"""The record of a run, ``settings.json``: what it was begun with, so that it goes on with the same and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cytolite.config import DistillSettings, TrainSettings
from cytolite.datasets.store import Store
from cytolite.errors import InputError, OutputError, UsageError
from cytolite.renamed import settings_of_today

RECORD = "settings.json"
# Settings that say where things are, not what comes out.
PLACES = {"cache", "weights"}
# Files whose content is in the record.
FILES = {"types", "map"}
# Of the machine: another one, or a busier one, may take a run up again, with sums that differ in their last bits.
MACHINE = {"threads"}


def store_hashes(stores: Sequence[Path]) -> list[dict[str, str]]:
    """Return path and content hash of each store."""
    found = []
    for path in stores:
        with Store(path) as store:
            found.append({"path": str(path), "sha256": store.sha256})
    return found


def make_record(
    out: Path, stores: Sequence[Path], settings: TrainSettings, **sources: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the record of a run, and check that its folder holds no other; `write_record` is for the first step.

    Parameters
    ----------
    out : Path
        Folder of the run.
    stores : sequence of Path
    settings : TrainSettings
    **sources
        Whatever else decides the result, by name: each a mapping with the hash of its content under ``sha256``.

    Raises
    ------
    InputError
        If the folder holds another run.
    """
    verb = type(settings).__name__.removesuffix("Settings").lower()
    given = {name: source for name, source in sources.items() if source is not None}
    record = {"verb": verb, "settings": settings.model_dump(mode="json"), "stores": store_hashes(stores), **given}
    path = out / RECORD
    if path.exists() and identity(json.loads(path.read_text())) != identity(record):
        raise InputError(
            f"{out} holds a run of other settings, of other stores or of another teacher; choose another folder or "
            "remove it."
        )
    return record


def write_record(out: Path, record: Mapping[str, Any]) -> None:
    """Write a run's record into its folder: from then on the folder is this run's.

    Parameters
    ----------
    out : pathlib.Path
        Folder of the run.
    record : mapping
        From `make_record`.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    part = out / f".{RECORD}.part"
    try:
        out.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(record, indent=1))
        os.replace(part, out / RECORD)
    except OSError as error:
        raise OutputError(f"The run cannot be kept in {out}: {error.strerror or error}.") from error


def read_record(out: Path) -> dict[str, Any]:
    """Return a run's record.

    Raises
    ------
    InputError
        If `out` holds no run.
    """
    path = out / RECORD
    if not path.exists():
        raise UsageError(
            f"{out} holds no finished epoch of a run; give the folder that `cytolite train` or `distill` wrote."
        )
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def recorded_settings(record: dict[str, Any]) -> TrainSettings:
    """Return the settings of a record; those that an older version did not know have their defaults."""
    kind = DistillSettings if record.get("verb") == "distill" else TrainSettings
    return kind(**settings_of_today(record["settings"], silent=True))


def identity(record: dict[str, Any]) -> dict[str, Any]:
    """Return what must not change when a run is taken up again: stores may have moved, their content may not."""
    settings = recorded_settings(record).model_dump(mode="json", exclude=PLACES | FILES | MACHINE)
    hashes = [store["sha256"] for store in record["stores"]]
    others = {name: record.get(name, {}).get("sha256") for name in ("teacher", "encoder", "types")}
    return {"settings": settings, "stores": hashes, **others}
