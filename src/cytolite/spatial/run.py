"""A result folder's measures, from reading it to the folder ``spatial`` in it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytolite.config import SpatialSettings
from cytolite.errors import CytoliteError, OutputError
from cytolite.files import whole_folder
from cytolite.interop.result_folder import CELLS_FILE, TISSUE_FILE, find_results
from cytolite.progress import Display
from cytolite.spatial import files
from cytolite.spatial.analysis import Analysis, Update, analyse
from cytolite.spatial.sample import read_sample

FOLDER = "spatial"
# Settings that say what is written, by what they write; they do not change what is measured, nor do some others.
_WRITTEN = {"cells": CELLS_FILE, "anndata": "cells.h5ad", "spatialdata": "cells.zarr", "report": "report.html"}
_ASIDE = {"overwrite", "quiet", "roi", *_WRITTEN}


@dataclass(frozen=True)
class Measured:
    """What became of one result: `message` says what went wrong, empty if nothing did."""

    result: Path
    folder: Path
    measures: dict[str, Any]
    kept: bool = False
    message: str = ""


def measure_results(given: Sequence[Path], settings: SpatialSettings, display: Display) -> list[Measured]:
    """Measure results one after the other; when one fails the others go on.

    Parameters
    ----------
    given : sequence of pathlib.Path
        Results, or folders that hold some.
    settings : SpatialSettings
        The same for all.
    display : Display
        Shows the progress of each.

    Raises
    ------
    UsageError
        If something given is no result and holds none.
    """
    outcomes = []
    for result in find_results(given, CELLS_FILE):
        folder = result / FOLDER
        try:
            with display(str(result), "steps") as update:
                kept = measure_result(result, settings, update)
        except CytoliteError as error:
            outcomes.append(Measured(result, folder, {}, message=str(error)))
        else:
            outcomes.append(Measured(result, folder, files.read_measures(folder), kept))
    return outcomes


def measure_result(result: Path, settings: SpatialSettings, update: Update) -> bool:
    """Write ``spatial/`` into a result folder; return whether the measures that were there are these already.

    Parameters
    ----------
    result : pathlib.Path
        Folder of a result.
    settings : SpatialSettings
        What is measured, and what is written.
    update : callable
        Called with the steps done and the steps there are.

    Raises
    ------
    CytoliteError
        If the result cannot be measured, or measures made otherwise are there and may not be replaced.
    """
    folder, fingerprint = result / FOLDER, _fingerprint(result, settings)
    known = files.read_measures(folder)
    same = bool(known) and known.get("made_from") == fingerprint["made_from"]
    written = {name: (folder / file).exists() for name, file in _WRITTEN.items()}
    if same and not settings.overwrite:
        if all(written[name] for name in _WRITTEN if getattr(settings, name)):
            return True
        # What was asked for before stays, beside what is asked for now.
        settings = settings.model_copy(
            update={name: written[name] or getattr(settings, name) for name in _WRITTEN} | {"overwrite": True}
        )
    if folder.exists() and not (known and settings.overwrite) and (not folder.is_dir() or any(folder.iterdir())):
        if known:
            raise OutputError(
                f"{folder} holds measures made with other settings or of other files; --overwrite replaces them."
            )
        raise OutputError(f"{folder} is there and holds no measures of cytolite; move it away.")
    sample = read_sample(result, settings.window, settings.roi)
    analysis = analyse(sample, settings, update)
    with whole_folder(folder, replace=True) as part:
        write(part, analysis, fingerprint)
    return False


def write(folder: Path, analysis: Analysis, fingerprint: dict[str, Any]) -> None:
    """Write all that the settings ask for into an empty folder.

    Parameters
    ----------
    folder : pathlib.Path
        Is there, and empty.
    analysis : Analysis
        Whose settings say what is written.
    fingerprint : dict
        What the measures are made from, for ``measures.json``.

    Raises
    ------
    OutputError
        If something cannot be written.
    """
    settings = analysis.settings
    files.write_measures(folder, analysis, fingerprint)
    files.write_density(folder / "density.ome.tif", analysis)
    files.write_tiles(folder / "tiles.parquet", analysis)
    files.write_regions(folder / "regions.geojson", analysis)
    if settings.cells or settings.anndata or settings.spatialdata:
        from cytolite.spatial import per_cell

        columns = per_cell.neighbourhood(analysis)
        if settings.cells:
            per_cell.write_cells(folder / CELLS_FILE, analysis, columns)
        per_cell.write_annotated(folder, analysis, columns)
    if settings.report:
        from cytolite.spatial.report import write_report

        write_report(folder, analysis)


def _fingerprint(result: Path, settings: SpatialSettings) -> dict[str, Any]:
    """What measures are made from: the settings, and the files by content."""
    chosen = settings.model_dump(mode="json", exclude=_ASIDE)

    def digest(path: Path | None) -> str | None:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path is not None and path.is_file() else None

    hashes = {
        "cells_sha256": digest(result / CELLS_FILE),
        "tissue_sha256": digest(result / TISSUE_FILE) if settings.window == "tissue" else None,
        "roi_sha256": digest(settings.roi),
    }
    return {"made_from": {"settings": chosen, **hashes}}
