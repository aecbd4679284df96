"""Files: written as a whole or not at all; read with a sentence for what is wrong with them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from cytolite.errors import InputError, OutputError

NOTICE = "Research use only - not for diagnosis."


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
    """Write a text file, UTF-8, as a whole or not at all; raises what `whole_path` raises."""
    with whole_file(path) as file:
        file.write(text.encode("utf-8"))


def beside(path: Path) -> Path:
    """Return a hidden name in the folder of `path` that no other process uses, on this host or another.

    What a killed process of this host left there for the same `path` is removed.
    """
    mine = f".cytolite-{_short_hash(path.name)}-{_short_hash(socket.gethostname())}"
    for leftover in path.parent.glob(f"{mine}-*.part"):
        if not _is_running(int(leftover.name.split("-")[3])):
            remove(leftover)
    return path.with_name(f"{mine}-{os.getpid()}-{uuid4().hex[:8]}.part")


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
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if or_json and path.suffix.lower() == ".json" else tomllib.loads(text)
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read: {error.strerror or error}.") from None
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{what} {path} is not valid {allowed}: {error}.") from None
    if not isinstance(content, dict):
        raise InputError(f"{what} {path} holds no table of names and values.")
    return content
