"""Names of version 0.2 that are called otherwise now: they still work in this version, with a word of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

SETTINGS = {"turns": "tta", "teacher_turns": "teacher_tta"}
MODELS = {"nuclei-committee-int8": "nuclei-ensemble-int8"}
KINDS = {"committee": "ensemble"}  # of `export --kind`

log = logging.getLogger("cytolite")


def of_today(names: Mapping[str, str], name: str) -> str:
    """Return what `name` is called today, and say so where it is another name.

    Parameters
    ----------
    names : mapping
        Old names to new ones.
    name : str
        Of either kind.
    """
    if name in names:
        log.warning("warning: %s is called %s now; the old name goes with the next version.", name, names[name])
    return names.get(name, name)


def settings_of_today(given: Mapping[str, Any], *, silent: bool = False) -> dict[str, Any]:
    """Return settings under the names of today; `silent` is for records, which nobody can be asked to change.

    Parameters
    ----------
    given : mapping
        Settings by name.
    silent : bool
        Say nothing: for records.
    """
    return {SETTINGS.get(name, name) if silent else of_today(SETTINGS, name): given[name] for name in given}


def arguments_of_today(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a command under the names of today."""
    flags = {_flag(old): _flag(new) for old, new in SETTINGS.items()}
    renamed: list[str] = []
    for argument in arguments:
        if renamed and renamed[-1] == "--kind":
            renamed.append(of_today(KINDS, argument))
            continue
        flag, equals, value = argument.partition("=")
        renamed.append(of_today(flags, flag) + equals + (of_today(KINDS, value) if flag == "--kind" else value))
    return renamed


def _flag(setting: str) -> str:
    return f"--{setting.replace('_', '-')}"
