"""What something was made from: settings as options of the command line, versions, fingerprints of files."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import platform
import shlex
from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cytolite.config import Settings
from cytolite.names import as_text

HASHED_BYTES = 2**20
RECORDED_PACKAGES = (
    "cytolite", "numba", "numpy", "onnxruntime", "onnxruntime-gpu", "openslide-python", "openslide-bin", "tifffile",
)  # fmt: skip


def options(
    settings: Settings, without: Collection[str] = (), places: Collection[str] = (), *, whole: bool = False
) -> list[str]:
    """Return the options, ``--name value``, that give these settings, quoted; those at their default are left out.

    Files and folders are named without saying where they lie, which is nobody else's business and of no use elsewhere.

    Parameters
    ----------
    settings : Settings
    without : collection of str
        Settings that do not decide the result.
    places : collection of str
        Settings that name a folder, as texts.
    whole : bool
        Say where files lie, for a command that shall run here again.
    """
    defaults = {n: f.get_default(call_default_factory=True) for n, f in type(settings).model_fields.items()}
    return [
        text
        for name, value in settings
        if name not in without and value != defaults[name]
        for text in option(f"--{name.replace('_', '-')}", value, name in places, whole=whole)
    ]


def option(flag: str, value: object, place: bool = False, *, whole: bool = False) -> list[str]:
    """Return what gives one option a value, quoted for a shell: a tuple or a dictionary takes several.

    Of a path, and of a `place`, only the name is told, unless `whole`.

    Parameters
    ----------
    flag : str
        With its dashes.
    value : object
        A tuple or a dictionary gives the flag several times.
    place : bool
        Whether a text is a path, of which the name alone is told.
    whole : bool
        Tell whole paths.

    >>> option("--stores", ("a.h5", "my b.h5"))
    ['--stores a.h5', "--stores 'my b.h5'"]
    """
    match value:
        case bool():
            return [flag if value else flag.replace("--", "--no-", 1)]
        case tuple():
            return [text for item in value for text in option(flag, item, place, whole=whole)]
        case dict():
            return [text for key, item in value.items() for text in option(f"{flag}.{key}", item, place, whole=whole)]
        case _:
            name_alone = not whole and (place or isinstance(value, Path))
            return [shlex.join([flag, Path(str(value)).name if name_alone else str(value)])]


def versions_here() -> dict[str, str]:
    """Of Python and of the packages that are installed; ONNX Runtime comes under one of two names."""
    return dict(_versions())


@functools.cache
def _versions() -> dict[str, str]:
    """Read once in a process: each is looked up in a file, at a cost that many small images would pay again."""
    versions = {"python": platform.python_version()}
    for name in RECORDED_PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def fingerprint(slide: Path) -> dict[str, Any]:
    """Return what tells one slide file from another: its size, and the SHA-256 of its first MiB.

    Whole slides have gigabytes: hashing all of one would cost as much as reading it. Of a missing file or a folder
    only the name is returned.
    """
    try:
        if not slide.is_file():  # a pipe would be waited for
            return {"name": as_text(slide.name)}
        with slide.open("rb") as file:
            start = file.read(HASHED_BYTES)
        return {"size_bytes": slide.stat().st_size, "sha256_first_mib": hashlib.sha256(start).hexdigest()}
    except (OSError, ValueError):  # ValueError: no system has a file of such a name
        return {"name": as_text(slide.name)}
