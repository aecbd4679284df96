"""The audit: one row per cell whose coarse label a classifier looked at, with all that it was decided by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cytolite.celltypes import LABEL_NAMES, TYPE_NAMES, UNKNOWN_NUCLEUS, label_by_name
from cytolite.config import RelabelSettings
from cytolite.files import whole_file

SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("patch", pa.string()),
        ("id", pa.int32()),
        ("x_px", pa.float32()),
        ("y_px", pa.float32()),
        ("area_px", pa.int32()),
        ("as_trained", pa.bool_()),
        ("old_type", pa.string()),
        ("new_type", pa.string()),
        ("likeliest_type", pa.string()),
        ("probability", pa.float32()),
        *((f"p_{name}", pa.float32()) for name in TYPE_NAMES),
        ("classifier", pa.string()),
        ("classifier_sha256", pa.string()),
    ]
)


def decide(
    probs: NDArray[np.float64], type_ids: Sequence[int], old_label: int, settings: RelabelSettings
) -> NDArray[np.uint8]:
    """Return each cell's new label: the likeliest type, or what `settings.below` says where its probability is too low.

    A probability that equals `settings.min_probability` is high enough. Below it the cell keeps its coarse label, by
    which the type loss asks for any type of the set; or it becomes a nucleus of unknown type, which the type loss
    passes over.

    Parameters
    ----------
    probs : numpy.ndarray
        float64 (n, k).
    type_ids : sequence of int
        The k types.
    old_label : int
        The coarse label.
    settings : RelabelSettings
        Its `below` and `min_probability` matter.
    """
    likeliest = np.asarray(type_ids, np.uint8)[probs.argmax(1)]
    otherwise = old_label if settings.below == "coarse" else UNKNOWN_NUCLEUS
    # In the precision that the audit keeps, so that what it shows is what decided.
    sure = probs.max(1).astype(np.float32) >= np.float32(settings.min_probability)
    return np.where(sure, likeliest, otherwise).astype(np.uint8)


def rows(
    cells: dict[str, Any],
    probs: NDArray[np.float64],
    type_ids: Sequence[int],
    old_label: int,
    settings: RelabelSettings,
) -> pa.Table:
    """Make the audit's rows of cells with one coarse label.

    Parameters
    ----------
    cells : dict
        The columns that the schema has before ``old_type``, and those of the classifier.
    probs : numpy.ndarray
        float64 (n, k).
    type_ids : sequence of int
        The k types.
    old_label : int
        The coarse label.
    settings : RelabelSettings
        As for `decide`.
    """
    n = len(probs)
    names = np.array([LABEL_NAMES[t] for t in type_ids])
    new = decide(probs, type_ids, old_label, settings)
    columns = {
        **cells,
        "old_type": [LABEL_NAMES[old_label]] * n,
        "new_type": [LABEL_NAMES[label] for label in new.tolist()],
        "likeliest_type": names[probs.argmax(1)].tolist(),
        "probability": probs.max(1).astype(np.float32),
        **{f"p_{name}": pa.nulls(n, pa.float32()) for name in TYPE_NAMES},
        **{f"p_{name}": p.astype(np.float32) for name, p in zip(names, probs.T, strict=True)},
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)


def write_audit(path: Path, table: pa.Table) -> None:
    """Write the table as Parquet, as a whole or not at all.

    Parameters
    ----------
    path : pathlib.Path
        File to write or replace.
    table : pyarrow.Table
        With the columns of `SCHEMA`.
    """
    with whole_file(path) as file:
        pq.write_table(table, file, compression="zstd")


def changes(table: pa.Table) -> dict[tuple[str, str], tuple[NDArray[np.int32], NDArray[np.uint8]]]:
    """Return, for each (source, patch), the ids of the cells looked at and their new labels."""
    labels = {name: label_by_name(name) for name in table["new_type"].unique().to_pylist()}
    new = np.array([labels[name] for name in table["new_type"].to_pylist()], np.uint8)
    ids = table["id"].to_numpy()
    result: dict[tuple[str, str], list[int]] = {}
    for row, key in enumerate(zip(table["source"].to_pylist(), table["patch"].to_pylist(), strict=True)):
        result.setdefault(key, []).append(row)
    return {key: (ids[at], new[at]) for key, at in result.items()}
