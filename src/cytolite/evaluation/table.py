"""counts.parquet: the table of counts on disk, one row per image and class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cytolite.errors import InputError, UsageError
from cytolite.files import whole_file
from cytolite.metrics.calibration import BINS
from cytolite.metrics.classes import Classes
from cytolite.metrics.counts import FIELDS, PIXELS, Counts

_KEY = b"cytolite_classes"
_BINS = ("bin_count", "bin_confidence", "bin_right")


def write_counts(path: Path, counts: Counts) -> None:
    """Write a table of counts; the file appears under its name only when whole.

    Columns: those of the image table, ``partly``, ``type`` and ``measured``; `FIELDS`; ``as_<type>``, the confusion of
    matched nuclei; ``bin_count``, ``bin_confidence`` and ``bin_right``, lists of 15; `PIXELS`, in the rows of "all".

    Parameters
    ----------
    path : pathlib.Path
        Parquet file to write.
    counts : Counts
        Of all images.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    n, k = len(counts), len(counts.classes.names)
    columns: dict[str, pa.Array] = {name: pa.array(np.repeat(c, k)) for name, c in counts.images.items()}
    columns["type"] = pa.array(list(counts.classes.names) * n)
    columns["partly"] = pa.array(np.repeat(counts.partly, k))
    columns["measured"] = pa.array(counts.measured.ravel())
    columns |= {name: pa.array(counts.values[name].ravel()) for name in FIELDS}
    for t, name in enumerate(counts.classes.types):
        columns[f"as_{name}"] = pa.array(counts.confusion[:, :, t].ravel())
    for part, name in enumerate(_BINS):
        columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(counts.bins[:, :, part].ravel()), BINS)
    first = np.arange(n * k) % k == 0
    columns |= {name: pa.array(np.repeat(counts.pixels[name], k), mask=~first) for name in PIXELS}
    table = pa.table(columns).replace_schema_metadata({_KEY: counts.classes.describe().encode()})
    with whole_file(path) as file:
        pq.write_table(table, file, compression="zstd")


def read_counts(path: Path) -> Counts:
    """Read what `write_counts` wrote.

    Raises
    ------
    InputError
        If the file is missing, or is no table of counts.
    """
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}.") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path} is not a readable Parquet file ({error}).") from None
    metadata = table.schema.metadata or {}
    if _KEY not in metadata:
        raise InputError(f"{path} is no table of counts; `cytolite evaluate` writes one as counts.parquet.")
    classes = Classes.from_description(metadata[_KEY].decode())
    k = len(classes.names)
    first = table.take(pa.array(np.arange(0, len(table), k)))
    texts = table.column_names[: table.column_names.index("type")]

    def numbers(name: str) -> np.ndarray:
        columns: np.ndarray = table[name].to_numpy().reshape(-1, k).astype(np.float64)
        return columns

    bins = [table[name].combine_chunks().flatten().to_numpy().reshape(-1, k, BINS) for name in _BINS]
    return Counts(
        classes,
        {name: np.array(first[name].to_pylist(), dtype=np.str_) for name in texts},
        first["partly"].to_numpy(),
        table["measured"].to_numpy().reshape(-1, k),
        {name: numbers(name) for name in FIELDS},
        {name: first[name].to_numpy().astype(np.float64) for name in PIXELS},
        np.stack([numbers(f"as_{name}") for name in classes.types], 2),
        np.stack(bins, 2),
    )
