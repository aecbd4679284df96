"""JSON as programs write it: with bare NaN and Infinity, in other encodings than UTF-8, and JSON within its texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson

from cytolite.errors import InputError
from cytolite.files import decode, encoding_of_mark

# A word or number that the end of a file may have cut: "tru", "-12.5e".
_LONGEST_WORD = 24


def parse(data: bytes, path: Path, what: str) -> Any:
    """Return the content of a JSON text; NaN and Infinity, which QuPath wrote up to 0.4, become floats.

    Parameters
    ----------
    data : bytes
        The whole text.
    path : pathlib.Path
        Named in errors.
    what : str
        What it should be: "GeoJSON".

    Raises
    ------
    InputError
        If it is no JSON; says whether it was cut off.
    """
    if encoding_of_mark(data) is None:
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            pass  # slower, and takes more
    text = decode(data, path)
    try:
        return json.loads(text)
    except RecursionError:
        raise InputError(f"{path} is not {what}: it is nested too deeply.") from None
    except json.JSONDecodeError as error:
        rest = text[error.pos :].strip()
        whole_word = len(rest) > _LONGEST_WORD or not all(c.isalnum() or c in "+-." for c in rest)
        if text.strip() and (not rest or error.msg.startswith("Unterminated") or (error.pos and not whole_word)):
            raise InputError(f"{path} was cut off: it ends within its {what}; copy or export it again.") from None
        raise InputError(f"{path} is not {what}: {error}.") from None


def unwrapped(value: Any) -> Any:
    """Return what a text that holds a JSON object or array says, as other programs store one; else the value itself."""
    if isinstance(value, str) and value.lstrip()[:1] in {"{", "["}:
        try:
            return json.loads(value)
        except (json.JSONDecodeError, RecursionError):
            pass
    return value
