"""The results of many slides as one table: a row a slide, and one a region; what failed, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cytolite.errors import UsageError
from cytolite.files import NOTICE, plain_refusal, whole_path
from cytolite.interop.arrow_arrays import of_numbers, of_texts
from cytolite.interop.result_folder import RUN_FILE, SUMMARY_FILE, results_in
from cytolite.names import as_text
from cytolite.tables import write_csv

COHORT_FILE, FAILURES_FILE = "cohort.json", "failures.csv"
_FAILURE_COLUMNS = ("id", "path", "message")


@dataclass(frozen=True)
class Cohort:
    """What a folder of results holds.

    Attributes
    ----------
    rows : list of dict
        Of the cohort's table, sorted by id: a slide's total first, then its regions.
    failures : list of dict
        ``id``, ``path`` and ``message`` of each slide that has no result.
    columns : tuple of str
        Those of `rows` that came from a list of slides.
    """

    rows: list[dict[str, Any]]
    failures: list[dict[str, str]]
    columns: tuple[str, ...]


def read_cohort(output: Path) -> Cohort:
    """Read all results in a folder, and what the last run says of those that failed.

    Raises
    ------
    UsageError
        If there is neither.
    """
    folders = results_in(output)
    last = read_state(output)["slides"]
    if not folders and not last:
        raise UsageError(f"{output} holds no results of `cytolite segment`: name the folder that was its --output.")
    rows: list[dict[str, Any]] = []
    failures = [
        {"id": name, "path": state.get("path", ""), "message": state.get("message", "")}
        for name, state in sorted(last.items())
        if state.get("status") == "failed" and output / name not in folders
    ]
    listed: dict[str, None] = {}
    for folder in folders:
        try:
            run, summary = (json.loads((folder / name).read_bytes()) for name in (RUN_FILE, SUMMARY_FILE))
            columns = last.get(as_text(folder.name), {}).get("columns") or run.get("columns") or {}
            rows += _rows(folder, run, summary, columns)
            listed |= dict.fromkeys(columns)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            message = as_text(f"The result {folder} is damaged ({error}); segment the slide again with --overwrite.")
            failures.append({"id": as_text(folder.name), "path": "", "message": message})
    taken = set(rows[0]) if rows else set()
    return Cohort(rows, failures, tuple(name for name in map(_own_name, listed) if name in taken or not rows))


def _own_name(column: str) -> str:
    """A list may have a column that is called as one of ours."""
    return f"list_{column}" if column in _OURS else column


_OURS = {
    "id", "slide", "path", "region", "cells", "cells_per_mm2", "searched_mm2", "tissue_mm2", "warnings", "seconds",
    "model", "model_version", "model_sha256", "cytolite_version", "finished", "mpp", "width_px", "height_px",
}  # fmt: skip


def _rows(
    folder: Path, run: Mapping[str, Any], summary: Mapping[str, Any], columns: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    head = {"id": as_text(folder.name), "slide": summary.get("slide", ""), "path": run["slide"].get("path", "")}
    head |= {_own_name(name): value for name, value in columns.items()}
    tail = quality_columns(summary.get("qc", {})) | {
        "warnings": "; ".join(warning["message"] for warning in summary.get("warnings", ())),
        "seconds": _seconds(run),
        "mpp": summary.get("mpp"),
        "width_px": summary.get("width_px"),
        "height_px": summary.get("height_px"),
        "model": run["model"]["name"],
        "model_version": run["model"]["version"],
        "model_sha256": run["model"]["onnx_sha256"],
        "cytolite_version": run.get("versions", {}).get("cytolite", ""),
        "finished": run.get("finished", ""),
    }
    for part in (summary["total"], *summary["regions"]):
        counted = {k: v for k, v in part.items() if k != "types"}
        for name, found in part["types"].items():
            counted |= {
                name: found["count"],
                f"{name}_fraction": found["fraction"],
                f"{name}_per_mm2": found["per_mm2"],
            }
        yield head | counted | tail


def quality_columns(qc: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `cytolite.slides.quality` says of a slide as columns of a table."""
    kinds = {f"qc_{kind}_share": found["share_of_tissue"] for kind, found in qc.get("artefacts", {}).items()}
    return kinds | {f"qc_{name}": value for name, value in qc.items() if name != "artefacts"}


def _seconds(run: Mapping[str, Any]) -> float | None:
    try:
        started, finished = (datetime.fromisoformat(run[name]) for name in ("started", "finished"))
    except (KeyError, ValueError, TypeError):
        return None
    return (finished - started).total_seconds()


def write_cohort(output: Path, cohort: Cohort) -> list[Path]:
    """Write ``cohort.parquet``, ``cohort.csv`` and ``failures.csv`` into the folder of results; return what is there.

    Parameters
    ----------
    output : pathlib.Path
        Folder of results.
    cohort : Cohort
        Its table and its failures.

    Raises
    ------
    OutputError
        If something cannot be written.
    """
    names = _column_names(cohort)
    table, texts, failures = output / "cohort.parquet", output / "cohort.csv", output / FAILURES_FILE
    if cohort.rows:
        arrays = {name: _array([row.get(name) for row in cohort.rows]) for name in names}
        with whole_path(table) as part, plain_refusal(table):
            pq.write_table(pa.Table.from_arrays([*arrays.values()], [*arrays], metadata={"notice": NOTICE}), part)
        write_csv(texts, names, ([row.get(name) for name in names] for row in cohort.rows))
    write_csv(failures, _FAILURE_COLUMNS, (failure.values() for failure in cohort.failures))
    return [path for path in (table, texts, failures) if path.is_file()]


def _column_names(cohort: Cohort) -> list[str]:
    """All columns of all rows: slides of several models may know different types."""
    return list(dict.fromkeys(name for row in cohort.rows for name in row))


def _array(values: list[Any]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and kinds:
        numbers = np.array(
            [0 if value is None else value for value in values], np.int64 if kinds == {int} else np.float64
        )
        return of_numbers(numbers, np.array([value is not None for value in values]))
    return of_texts([None if value is None else str(value) for value in values])


def read_state(output: Path) -> dict[str, Any]:
    """Return ``cohort.json`` of a folder of results; without slides if there is none, or it is damaged."""
    try:
        state = json.loads((output / COHORT_FILE).read_bytes())
        return state if isinstance(state.get("slides"), dict) else {"slides": {}}
    except (OSError, ValueError, AttributeError):
        return {"slides": {}}
