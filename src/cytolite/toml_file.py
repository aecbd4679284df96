"""Files that people write: TOML, or JSON where a program wrote it; what is wrong with one is said in a sentence."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from cytolite.errors import InputError


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
