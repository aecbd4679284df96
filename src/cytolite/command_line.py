"""Settings as options of the command line: what cards and stores say of how they were made."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from cytolite.config import Settings


def options(settings: Settings, without: Collection[str] = (), places: Collection[str] = ()) -> list[str]:
    """Return the options, ``--name value``, that give these settings; those at their default are left out.

    Files and folders are named without saying where they lie, which is nobody else's business and of no use elsewhere.

    Parameters
    ----------
    settings : Settings
    without : collection of str
        Settings that do not decide the result.
    places : collection of str
        Settings that name a folder, as texts.
    """
    defaults = {n: f.get_default(call_default_factory=True) for n, f in type(settings).model_fields.items()}
    return [
        text
        for name, value in settings
        if name not in without and value != defaults[name]
        for text in option(f"--{name.replace('_', '-')}", value, name in places)
    ]


def option(flag: str, value: object, place: bool = False) -> list[str]:
    """Return what gives one option a value: a tuple or a dictionary takes several; of a `place` only the name is told.

    >>> option("--stores", ("a.h5", "b.h5"))
    ['--stores a.h5', '--stores b.h5']
    """
    match value:
        case bool():
            return [flag if value else flag.replace("--", "--no-", 1)]
        case tuple():
            return [text for item in value for text in option(flag, item, place)]
        case dict():
            return [text for key, item in value.items() for text in option(f"{flag}.{key}", item, place)]
        case _:
            return [f"{flag} {Path(str(value)).name if place or isinstance(value, Path) else value}"]
