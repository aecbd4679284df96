"""The files of a result folder by name, and which folders are results; reading them is `cytolite.interop.result`'s."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cytolite.errors import UsageError
from cytolite.files import is_debris

# Written last: a folder that has it is whole.
RUN_FILE = "run.json"
CELLS_FILE, GEOJSON_FILE, SUMMARY_FILE, OVERVIEW_FILE, TISSUE_FILE, ARTEFACTS_FILE = (
    "cells.parquet", "cells.geojson.gz", "summary.json", "overview.png", "tissue.geojson", "artefacts.geojson",
)  # fmt: skip
SHEET_FILE = "sheet.png"  # on request


def results_in(folder: Path, has: str = RUN_FILE) -> list[Path]:
    """Return the results directly in a folder, sorted; what a killed run left there is hidden and is none.

    Parameters
    ----------
    folder : pathlib.Path
        What was the ``--output`` of ``segment``.
    has : str
        The file that makes a folder a result: `RUN_FILE`, or what of a result is needed.
    """
    return sorted(path.parent for path in folder.glob(f"*/{has}") if not is_debris(Path(path.parent.name)))


def find_results(given: Iterable[Path], has: str = RUN_FILE) -> list[Path]:
    """Return the results among and directly in the folders given, each once, sorted within each.

    Parameters
    ----------
    given : iterable of pathlib.Path
        Results, or folders of results.
    has : str
        File by which a folder is known as one.

    Raises
    ------
    UsageError
        If one is no folder, or holds no result.
    """
    found: dict[Path, Path] = {}
    for folder in given:
        if not folder.is_dir():
            raise UsageError(f"There is no folder {folder}; name the results of `cytolite segment`.")
        inside = [folder] if (folder / has).is_file() else results_in(folder, has)
        if not inside:
            raise UsageError(
                f"{folder} is no result of `cytolite segment` and holds no result: a folder with {has} is needed."
            )
        for result in inside:
            found.setdefault(result.resolve(), result)
    if not found:
        raise UsageError("No result was given; name at least one folder that `cytolite segment` wrote.")
    return list(found.values())
