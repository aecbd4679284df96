"""`cytolite qupath install` and `uninstall`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cytolite.cli.qupath_app import qupath

UserDir = Annotated[Path | None, Parameter(help="QuPath's user directory; default: those that its preferences name.")]


@qupath.command
def install(*, user_dir: UserDir = None) -> int:
    """Put the extension into QuPath, and tell it of this Python; again when Python or cytolite has moved or is new.

    A QuPath that is new has no folder for extensions yet: then this says which file to drag onto its window.
    """
    from cytolite.qupath.install import extension_jar, install, write_python

    folders = _folders(user_dir)
    jars = [install(folder) for folder in folders]
    print(f"{write_python()}: the extension calls this Python")
    for jar in jars:
        print(f"{jar}: in QuPath, after its next start, Extensions > cytolite")
    if not folders:
        print(f"Drag this file onto QuPath's window, and let QuPath make its folder: {extension_jar()}")
    return 0


@qupath.command
def uninstall(*, user_dir: UserDir = None) -> int:
    """Take the extension out of QuPath; nothing else of QuPath's folder is touched."""
    from cytolite.files import plain_refusal
    from cytolite.qupath.install import python_file, uninstall

    removed = [path for folder in _folders(user_dir) for path in uninstall(folder)]
    if python_file().is_file():
        with plain_refusal(python_file()):
            python_file().unlink()
        removed.append(python_file())
    for path in removed:
        print(f"{path}: removed")
    if not removed:
        print("There was nothing of cytolite.")
    return 0


def _folders(user_dir: Path | None) -> list[Path]:
    from cytolite.qupath.preferences import user_folders

    return [user_dir] if user_dir is not None else list(dict.fromkeys(user_folders().values()))
