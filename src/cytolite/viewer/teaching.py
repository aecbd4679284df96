"""The buttons *Teach*, *Name again* and *Suggest*: `cytolite teach` and `apply`, on the results that are shown."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolite.cells import CellTable
from cytolite.config import TeachSettings
from cytolite.errors import UsageError, how_to_install
from cytolite.interop.parquet import iter_cells
from cytolite.interop.result import Result
from cytolite.teach.naming import name_results
from cytolite.teach.run import teach
from cytolite.teach.suggest import POOL_MOST, suggest
from cytolite.viewer.cell_index import margins

MISSING = f"Teaching needs the extra 'teach', {how_to_install('teach')}; then start again."


class Teaching:
    """One piece of work at a time."""

    def __init__(self) -> None:
        self._busy = threading.Lock()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            raise UsageError("Something is being taught or named already; wait until it is done.")
        try:
            yield
        finally:
            self._busy.release()

    def teach(self, results: Sequence[Result], labels: Sequence[Path], keep: bool) -> dict[str, Any]:
        """Teach by labels and keep the model beside the first result, as the next ``taught-N``.

        Parameters
        ----------
        results : sequence of Result
            Of one network.
        labels : sequence of pathlib.Path
            A file for each.
        keep : bool
            Whether types without labels keep the probability that the parent gave them.

        Returns
        -------
        dict
            ``model``: its folder; ``report``: as `cytolite.teach.report.report_of`; ``notes``.

        Raises
        ------
        CytoliteError
            As `cytolite.teach.run.teach`, or if the extra is missing.
        """
        if not can_teach():
            raise UsageError(MISSING)
        given = results[0].run.get("settings", {}).get("model")
        settings = TeachSettings(model=given, unlabelled="keep" if keep else "drop", quiet=True)
        with self._alone():
            found = teach([result.folder for result in results], labels, _free(results[0].folder.parent), settings)
        return {"model": str(found.bundle.path), "report": found.report, "notes": list(found.notes)}

    def name(self, result: Result, model: Path) -> Path:
        """Write a result again with a taught model's names, beside the model in ``MODEL-results``; return its folder.

        Parameters
        ----------
        result : Result
            Whose nuclei get names.
        model : pathlib.Path
            Folder of a taught bundle.

        Raises
        ------
        CytoliteError
            As `cytolite.teach.naming.name_results`.
        """
        with self._alone():
            [folder] = name_results(model, [result.folder], model.parent / f"{model.name}-results", overwrite=True)
        return folder


def can_teach() -> bool:
    """Say whether the extra `teach` is there."""
    return find_spec("sklearn") is not None


def _free(folder: Path) -> Path:
    number = 1
    while (folder / f"taught-{number}").exists():
        number += 1
    return folder / f"taught-{number}"


def suggestions(path: Path, n: int, without: set[int]) -> NDArray[np.int64]:
    """Return rows that `cytolite.teach.suggest.suggest` would choose, less those that have a label.

    Of each batch of cells the least sure alone are kept, which are all that it looks at: a million cells take little
    memory.

    Parameters
    ----------
    path : pathlib.Path
        A ``cells.parquet``.
    n : int
        How many.
    without : set of int
        Rows that are labelled.
    """
    kept, kept_rows, first = list[CellTable](), list[NDArray[np.int64]](), 0
    for table in iter_cells(path):
        rows = first + np.arange(len(table))
        first += len(table)
        free = np.flatnonzero(~np.isin(rows, list(without)))
        order = free[np.argsort(margins(table.type_probs[free]), kind="stable")[:POOL_MOST]]
        kept.append(table.select(np.sort(order)))
        kept_rows.append(rows[np.sort(order)])
        if sum(map(len, kept)) > 4 * POOL_MOST:
            kept, kept_rows = _least_sure(kept, kept_rows)
    kept, kept_rows = _least_sure(kept, kept_rows)
    return kept_rows[0][suggest(kept[0], n)] if len(kept_rows[0]) else kept_rows[0]


def _least_sure(
    tables: Sequence[CellTable], rows: Sequence[NDArray[np.int64]]
) -> tuple[list[CellTable], list[NDArray[np.int64]]]:
    table, all_rows = CellTable.concatenate(tables), np.concatenate(rows)
    order = np.sort(np.argsort(margins(table.type_probs), kind="stable")[:POOL_MOST])
    return [table.select(order)], [all_rows[order]]
