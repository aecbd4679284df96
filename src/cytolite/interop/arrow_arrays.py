"""Between numpy and Arrow without pandas, which Arrow's own ways import wherever it is installed: half a second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def of_numbers(values: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> pa.Array:
    """Return numbers as an Arrow array, without copying those that lie one after the other.

    Parameters
    ----------
    values : numpy.ndarray
        (N,), of any kind of number.
    valid : numpy.ndarray, optional
        bool (N,); the others are null.
    """
    known = None if valid is None else _bits(valid)
    numbers = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [known, numbers])


def _bits(valid: NDArray[np.bool_]) -> pa.Buffer | None:
    return None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))


def of_texts(texts: Sequence[str | None]) -> pa.Array:
    """Return texts as an Arrow array of strings; ``None`` is null."""
    encoded = [(text or "").encode() for text in texts]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    known = _bits(np.array([text is not None for text in texts], np.bool_))
    buffers = [known, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(texts), buffers)


def to_numbers(column: pa.Array) -> NDArray[Any]:
    """Return an Arrow array of numbers as numpy's, floats with NaN where some are null; it may be read-only."""
    kind = column.type
    if column.null_count == 0 and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return np.from_dlpack(column)
    numbers: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return numbers


def codes_of(column: pa.DictionaryArray) -> NDArray[np.int64]:
    """Return where in its dictionary each entry of an Arrow array is, -1 for null: int64 (N,)."""
    indices = column.indices
    if indices.null_count == len(indices):
        return np.full(len(indices), -1, np.int64)
    if indices.null_count == 0:
        return to_numbers(indices).astype(np.int64)
    codes: NDArray[np.int64] = indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    return codes
