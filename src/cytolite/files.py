"""Files: written as a whole or not at all; read with a sentence for what is wrong with them."""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from cytolite.errors import InputError, OutputError

NOTICE = "Research use only - not for diagnosis."


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file that gets its name when the block ends: it is there as a whole, or not at all.

    What is written goes to a hidden file beside it; if an exception ends the block, that is removed.

    Parameters
    ----------
    path : str or pathlib.Path
        Final name; a file of that name is replaced, at the end.

    Yields
    ------
    BinaryIO
        What to write to.

    Raises
    ------
    OutputError
        If the system refuses: no such folder, no permission, disk full.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    with plain_refusal(path):
        file = part.open("wb")
    try:
        yield file
        with plain_refusal(path):
            file.close()
            os.replace(part, path)
    finally:
        with suppress(OSError):  # the first error is the one to tell
            file.close()
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Give a folder to write into that gets its name when the block ends: as `whole_file`, for many files.

    Raises
    ------
    OutputError
        If the system refuses, or a folder of that name is there already and is not empty.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    with plain_refusal(path):
        if os.path.lexists(path) and (not path.is_dir() or any(path.iterdir())):
            raise OutputError(f"{path} is there already; name another folder, or move it away.")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    try:
        yield part
        with plain_refusal(path):
            if path.is_dir():
                path.rmdir()
            os.replace(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def plain_refusal(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write into an `OutputError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror or error}).") from error


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
