"""Files: read whatever encoding people give; written as a whole or not at all; what is wrong is said in a sentence."""

from __future__ import annotations

import codecs
import hashlib
import json
import logging
import os
import shutil
import socket
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from cytolite.errors import InputError, OutputError, UsageError

NOTICE = "Research use only - not for diagnosis."
log = logging.getLogger("cytolite")

_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before that of UTF-16, which it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_LEGACY = "cp1252"
_BLOCK = 2**20
_DEBRIS = {"thumbs.db", "desktop.ini", "__macosx"}
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_SPECIAL = {
    stat.S_IFIFO: "a pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def require_regular(path: Path) -> None:
    """Refuse what would be waited for without end; a path that does not exist passes.

    Raises
    ------
    InputError
        If it is a pipe, a socket or a device.
    """
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except (OSError, ValueError):  # opening it says what is wrong
        return
    if kind in _SPECIAL:
        raise InputError(f"{path} is {_SPECIAL[kind]}, not a file: save its content as a file and give that.")


def is_debris(path: Path) -> bool:
    """Whether a file or folder is what systems leave in folders: hidden, ``Thumbs.db``, or within ``__MACOSX``.

    Only the last name of an absolute path is judged, and every part of a relative one.
    """
    parts = (path.name,) if path.is_absolute() else path.parts
    return any((p.startswith(".") and p not in {".", ".."}) or p.lower() in _DEBRIS for p in parts)


def encoding_of_mark(head: bytes) -> str | None:
    """Return the encoding that a text's byte order mark tells; None if it has none."""
    return next((encoding for mark, encoding in _BYTE_ORDER_MARKS.items() if head.startswith(mark)), None)


def decode(data: bytes, path: Path) -> str:
    """Return a text that somebody gives: UTF-8, or what its byte order mark tells, else Windows-1252 with a word.

    Parameters
    ----------
    data : bytes
        The whole text.
    path : pathlib.Path
        Named in the word and in errors.

    Raises
    ------
    InputError
        If a marked text is damaged, or it is no text.
    """
    encoding = encoding_of_mark(data)
    try:
        return data.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        if encoding is not None:
            raise InputError(
                f"{path} is no whole {encoding[:6].upper()} text, which it begins as ({error}): save it as UTF-8."
            ) from None
    try:
        text = data.decode(_LEGACY)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InputError(f"{path} is no text in UTF-8, UTF-16 or Windows-1252: save it as UTF-8.")
    log.warning("%s is not UTF-8 and was read as Windows-1252: look at letters with accents.", path)
    return text


def read_text(path: Path) -> str:
    """Return the text of a file that somebody gives; see `decode`.

    Raises
    ------
    OSError
        If it cannot be read.
    InputError
        If it is no file, or no text.
    """
    require_regular(path)
    return decode(path.read_bytes(), path)


def encoding_of(path: Path) -> str:
    """Return the encoding of a large text file, as `decode` would choose it, without holding it in memory.

    Raises
    ------
    OSError
        If it cannot be read.
    InputError
        If it is no file.
    """
    require_regular(path)
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        block = file.read(_BLOCK)
        if marked := encoding_of_mark(block):
            return marked
        try:
            while block:
                decoder.decode(block)
                block = file.read(_BLOCK)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            log.warning("%s is not UTF-8 and was read as Windows-1252: look at letters with accents.", path)
            return _LEGACY
    return "utf-8"


def to_number(text: str) -> float:
    """Return a number that is written with a point, or with a comma as in much of Europe.

    Raises
    ------
    ValueError
        If it is neither; of "1.234,5" and "1,234.5" nobody knows.
    """
    return float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)


def cell_text(text: str) -> str:
    """Return a text that a spreadsheet shows and does not compute: one that begins like a formula gets a quote.

    >>> cell_text("=1+1"), cell_text("A-1")
    ("'=1+1", 'A-1')
    """
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def read_toml(path: Path, what: str, *, or_json: bool = False) -> dict[str, Any]:
    """Return a file's content.

    Parameters
    ----------
    path : Path
    what : str
        What the file is to the user, as a sentence begins with it: "The recipe".
    or_json : bool
        Read it as JSON where its name ends in ``.json``.

    Raises
    ------
    InputError
        If it cannot be read, or holds something else.
    """
    allowed = "TOML or JSON" if or_json else "TOML"
    try:
        text = read_text(path)
        content = json.loads(text) if or_json and path.suffix.lower() == ".json" else tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"{what} {path} cannot be read: {error.strerror or error}.") from None
    except InputError as error:
        raise UsageError(f"{what} cannot be read: {error}") from None
    except (tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        raise UsageError(f"{what} {path} is not valid {allowed}: {error}.") from None
    if not isinstance(content, dict):
        raise UsageError(f"{what} {path} holds no table of names and values.")
    return content


@contextmanager
def whole_path(path: str | Path) -> Iterator[Path]:
    """Give a path to write to that becomes `path` when the block ends: it is there as a whole, or not at all.

    Parameters
    ----------
    path : str or pathlib.Path
        Final name; a file of that name is replaced, at the end.

    Yields
    ------
    pathlib.Path
        Hidden, beside `path`; removed if an exception ends the block.

    Raises
    ------
    OutputError
        If the system refuses: no such folder, no permission, disk full.
    """
    path = Path(path)
    part = beside(path)
    try:
        with plain_refusal(path, part):
            yield part
            os.replace(part, path)
    finally:
        remove(part)  # whose errors are passed over: the first error is the one to tell


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file that gets its name when the block ends: as `whole_path`, for what writes to files."""
    with whole_path(path) as part, part.open("wb") as file:
        yield file


@contextmanager
def whole_folder(path: str | Path, *, replace: bool = False) -> Iterator[Path]:
    """Give a folder to write into that gets its name when the block ends: as `whole_path`, for many files.

    Parameters
    ----------
    path : str or pathlib.Path
        Final name.
    replace : bool
        Whether a folder of that name may go, at the end. Otherwise one that is not empty is refused.

    Raises
    ------
    OutputError
        If the system refuses, or a folder of that name is there already and must stay.
    """
    path = Path(path)
    part, old = beside(path), beside(path)
    try:
        with plain_refusal(path, part):
            if not replace and os.path.lexists(path) and (not path.is_dir() or any(path.iterdir())):
                raise OutputError(f"{path} is there already; name another folder, or move it away.")
            part.mkdir(parents=True)
            yield part
            if path.exists():
                os.replace(path, old)
            os.replace(part, path)
    finally:
        remove(part)
        remove(old)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, UTF-8, as a whole or not at all; raises what `whole_path` raises.

    Parameters
    ----------
    path : str or pathlib.Path
        Where it shall be.
    text : str
        What it shall say.
    """
    with whole_file(path) as file:
        file.write(text.encode("utf-8"))


def beside(path: Path) -> Path:
    """Return a hidden name in the folder of `path` that no other process uses, on this host or another.

    What a killed process of this host left there for the same `path` is removed.
    """
    prefix = f".cytolite-{_short_hash(path.name)}-{_short_hash(socket.gethostname())}"
    for leftover in path.parent.glob(f"{prefix}-*.part"):
        if not _is_running(int(leftover.name.split("-")[3])):
            remove(leftover)
    return path.with_name(f"{prefix}-{os.getpid()}-{uuid4().hex[:8]}.part")


def remove(path: Path) -> None:
    """Remove a file or a folder if it is there and the system lets us."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _short_hash(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:8]


def _is_running(pid: int) -> bool:
    """Whether there is such a process; where that cannot be asked without harm, yes."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def plain_refusal(path: Path, part: Path | None = None) -> Iterator[None]:
    """Turn the system's refusal to write into an `OutputError` that names `path`.

    With `part`, what is written to in its place, errors that are about another file pass: they are not about writing.

    Parameters
    ----------
    path : pathlib.Path
        What the user asked for.
    part : pathlib.Path, optional
        What is written meanwhile.
    """
    try:
        yield
    except OSError as error:
        about = error.filename if isinstance(error.filename, str | os.PathLike) else None
        if part is not None and about is not None and not Path(about).is_relative_to(part) and Path(about) != path:
            raise
        raise OutputError(f"{path} cannot be written ({error.strerror or error}).") from error


def sha256_of(*paths: Path) -> str:
    """Return the SHA-256 of the files' bytes, one after the other, in hexadecimal."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()
