"""Lists of slides: a row a slide, with settings of its own and whatever else is known of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cytolite.config import SegmentSettings, make_settings
from cytolite.errors import CytoliteError, UsageError, did_you_mean
from cytolite.files import to_number
from cytolite.names import folder_name, same_folder
from cytolite.segmentation.results import find_slides, is_result, is_result_of, refuse_address, result_folders
from cytolite.tables import open_csv

# Columns that say how a slide is worked on; all others travel into the cohort's table.
SETTING_COLUMNS = ("mpp", "roi", "scene", "model")
_MOST_TOLD = 5


@dataclass(frozen=True)
class Entry:
    """A slide of a run.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    settings : SegmentSettings
        Those of the command, with the row's own in their place.
    id : str
        Name of its folder, and of its row in the cohort's table; empty where the file's name is to do.
    columns : dict
        What else the row says.
    place : str
        "list.csv, line 7", for errors; empty for slides that were named in the command.
    """

    path: Path
    settings: SegmentSettings
    id: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    place: str = ""


def entries_of(slides: Sequence[str | Path], slide_list: Path | None, settings: SegmentSettings) -> list[Entry]:
    """Return the slides of a command: those it names, then those of its list; one that is in both has the list's row.

    Parameters
    ----------
    slides : sequence of str or pathlib.Path
        Files and patterns.
    slide_list : pathlib.Path, optional
        CSV file of more slides, with settings and columns of their own.
    settings : SegmentSettings
        For all slides, where the list says nothing else.

    Raises
    ------
    UsageError
        If nothing was given, or rows of the list cannot be used: each is named.
    """
    listed = [] if slide_list is None else read_slide_list(slide_list, settings)
    known = {os.path.realpath(entry.path) for entry in listed}
    named = find_slides(slides) if slides or not listed else []
    return [*(Entry(path, settings) for path in named if os.path.realpath(path) not in known), *listed]


def folders_of(entries: Sequence[Entry], output: Path) -> list[Path]:
    """Return the folder of each slide's results: of its id, else of its name as `result_folders` has it.

    Parameters
    ----------
    entries : sequence of Entry
        Slides, in their order.
    output : pathlib.Path
        Folder of all results.

    Raises
    ------
    UsageError
        If two slides would share one, or an id is that of another slide's result.
    """
    named = [entry for entry in entries if not entry.id]
    by_name = iter(result_folders([entry.path for entry in named], output))
    folders = [output / folder_name(entry.id) if entry.id else next(by_name) for entry in entries]
    taken: dict[str, Entry] = {}
    for entry, folder in zip(entries, folders, strict=True):
        other = taken.setdefault(same_folder(folder.name), entry)
        if other is not entry:
            raise UsageError(
                f"{other.path} and {entry.path} would share the folder {folder.name}: give them different ids."
            )
        foreign = entry.id and is_result(folder) and entry.path.exists() and not is_result_of(folder, entry.path)
        if foreign and not entry.settings.overwrite:
            raise UsageError(
                f"{folder} holds the result of another slide than {entry.path}: give it another id, or --overwrite."
            )
    return folders


def read_slide_list(path: Path, settings: SegmentSettings) -> list[Entry]:
    """Read a list of slides.

    Parameters
    ----------
    path : pathlib.Path
        CSV (comma, semicolon or tab) or Parquet, with a column ``path``; ``id``, ``mpp``, ``roi``, ``scene`` and
        ``model`` where a slide has its own, and any others. Paths count from the list's folder.
    settings : SegmentSettings
        What holds where a row says nothing.

    Raises
    ------
    UsageError
        If it cannot be read, has no column ``path``, or rows cannot be used; those are named with their lines.
    """
    rows = list(_rows(path))
    if not rows:
        raise UsageError(f"The list {path} has no rows: it needs one for each slide, with a column 'path'.")
    entries, bad, checked = [], [], dict[tuple[str, str], str]()
    seen: dict[str, tuple[str, bool]] = {}
    for place, row in rows:
        try:
            entry = _entry(path, place, row, settings)
            _check(entry, seen, checked)
            entries.append(entry)
        except CytoliteError as error:
            bad.append(f"{place.rpartition(', ')[2]}: {str(error).rstrip('.')}")
    if bad:
        more = f"; and {len(bad) - _MOST_TOLD} more rows" if len(bad) > _MOST_TOLD else ""
        raise UsageError(
            f"{len(bad)} of {len(rows)} rows of {path} cannot be used: {'; '.join(bad[:_MOST_TOLD])}{more}."
        )
    return entries


def _entry(path: Path, place: str, row: Mapping[str, str], settings: SegmentSettings) -> Entry:
    if not row["path"]:
        raise UsageError("it has no path")
    refuse_address(row["path"])
    given: dict[str, Any] = {name: row[name] for name in SETTING_COLUMNS if row.get(name)}
    if "mpp" in given:
        try:
            given["mpp"] = to_number(given["mpp"])
        except ValueError:
            raise UsageError(f"mpp {given['mpp']!r} is no number") from None
    if "roi" in given:
        given["roi"] = path.parent / given["roi"]
    if "model" in given and (path.parent / given["model"]).is_dir():
        given["model"] = str(path.parent / given["model"])
    own = make_settings(SegmentSettings, settings.model_dump(exclude_unset=True) | given) if given else settings
    columns = {k: v for k, v in row.items() if k not in {"path", "id", *SETTING_COLUMNS}}
    return Entry(path.parent / row["path"], own, row.get("id", ""), columns, place)


def _check(entry: Entry, seen: dict[str, tuple[str, bool]], checked: dict[tuple[str, str], str]) -> None:
    """Refuse an id or a file that was there before, and regions or a model that cannot be used."""
    line = entry.place.rpartition(", ")[2]
    if entry.id and not folder_name(entry.id):
        raise UsageError(f"id {entry.id!r} is no name that a folder can have")
    if entry.id and (before := seen.setdefault(f"id {same_folder(folder_name(entry.id))}", (line, True)))[0] != line:
        raise UsageError(f"id {entry.id!r} is that of {before[0]} too")
    file = os.path.realpath(entry.path)
    before = seen.setdefault(file, (line, bool(entry.id)))
    if before[0] != line and not (entry.id and before[1]):
        raise UsageError(f"it names the same file as {before[0]}: give both an id")
    for name, value in (("roi", entry.settings.roi), ("model", entry.settings.model)):
        if value is not None and (name, str(value)) not in checked:
            checked[name, str(value)] = _complaint(name, str(value))
        if complaint := value is not None and checked[name, str(value)]:
            raise UsageError(str(complaint))


def _complaint(name: str, value: str) -> str:
    from cytolite.bundle import load_bundle
    from cytolite.interop.roi import read_regions

    try:
        if name == "roi":
            read_regions(Path(value))
        else:
            load_bundle(value)
    except CytoliteError as error:
        return str(error)
    return ""


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each row with its place."""
    try:
        rows = _parquet_rows(path) if path.suffix.lower() == ".parquet" else _csv_rows(path)
        names: list[str] | None = None
        for place, row in rows:
            if names is None:
                names = [name.strip() for name in row]
                _check_header(path, names)
            yield (
                f"{path}, {place}",
                {n.strip().lower() if n.strip().lower() in _KNOWN else n.strip(): v for n, v in row.items()},
            )
    except OSError as error:
        raise UsageError(f"The list {path} cannot be read: {error.strerror or error}.") from None


_KNOWN = {"path", "id", *SETTING_COLUMNS}


def _check_header(path: Path, names: Sequence[str]) -> None:
    if "path" not in {name.lower() for name in names}:
        raise UsageError(
            f"The list {path} has no column 'path', which names each slide's file; it has {', '.join(names)}."
            f"{did_you_mean('path', names)}"
        )


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    reader = open_csv(path)
    for row in reader:
        if any(row.pop(None, ())):
            raise UsageError(
                f"Line {reader.line_num} of {path} has more fields than the first line; quote what has a "
                f"{reader.reader.dialect.delimiter!r}."
            )
        texts = {k: (v or "").strip() for k, v in row.items()}
        if any(texts.values()):
            yield f"line {reader.line_num}", texts


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise UsageError(f"The list {path} is no Parquet file ({error}).") from None
    for number, row in enumerate(table.to_pylist(), 1):
        yield f"row {number}", {str(k): "" if v is None else str(v) for k, v in row.items()}
