"""Tables as text: read as spreadsheets of any country write them, written so that they compute nothing of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from cytolite.files import cell_text, plain_refusal, read_text, whole_file


def open_csv(path: Path) -> csv.DictReader[str]:
    """Return a reader of a table that somebody gives: with commas, semicolons or tabs, as its first line has.

    Raises
    ------
    OSError
        If it cannot be read.
    InputError
        If it is no file, or no text.
    """
    text = read_text(path)
    separator = max(",;\t", key=text.partition("\n")[0].count)
    return csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)


def csv_text(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a table with its header; what has no value (None) stays empty, and texts are no formulas.

    Parameters
    ----------
    columns : sequence of str
        Header.
    rows : iterable
        Values, in the order of the columns.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(cell_text, columns))
    writer.writerows([cell_text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return text.getvalue()


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Write what `csv_text` returns, with the byte order mark by which spreadsheets know UTF-8.

    Parameters
    ----------
    path : pathlib.Path
        File to write, as a whole or not at all.
    columns : sequence of str
        Header.
    rows : iterable
        Values, in the order of the columns.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with whole_file(path) as file, plain_refusal(path):
        file.write(csv_text(columns, rows).encode("utf-8-sig"))
