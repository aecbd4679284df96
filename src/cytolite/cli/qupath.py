"""`cytolite qupath install` and `uninstall`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cytolite.cli.qupath_app import qupath
from cytolite.errors import UsageError

if TYPE_CHECKING:
    from cytolite.qupath.install import Installation

UserDir = Annotated[Path | None, Parameter(help="QuPath's user folder; default: those of all versions from 0.5 on.")]


@qupath.command
def install(*, user_dir: UserDir = None) -> int:
    """Put cytolite into QuPath's menu; again after Python, cytolite or QuPath has moved or is new."""
    from cytolite.qupath.install import STARTUP, install

    for place in _places(user_dir):
        install(place)
        print(f"{place.scripts}: in QuPath, Automate > User scripts > cytolite")
        if place.startup == place.user_dir / STARTUP:
            print("  once, for the Extensions menu too: run 'Show in the Extensions menu' from there")
        else:
            print(f"  {place.startup}: adds Extensions > cytolite when QuPath starts")
    return 0


@qupath.command
def uninstall(*, user_dir: UserDir = None) -> int:
    """Take cytolite out of QuPath's menu; nothing else of QuPath's folder is touched."""
    from cytolite.qupath.install import uninstall

    removed = [path for place in _places(user_dir) for path in uninstall(place)]
    for path in removed:
        print(f"{path}: {'changed' if path.exists() else 'removed'}")
    if not removed:
        print("There was nothing of cytolite.")
    return 0


def _places(user_dir: Path | None) -> list[Installation]:
    from cytolite.qupath.install import installation
    from cytolite.qupath.preferences import startup_script, user_folders

    folders = user_folders()
    if user_dir is not None:
        versions = {path.absolute(): version for version, path in folders.items()}
        return [installation(user_dir, startup_script(versions.get(user_dir.absolute())))]
    if not folders:
        raise UsageError(
            f"No user folder of QuPath 0.5 or newer was found in {Path.home() / 'QuPath'} or in QuPath's preferences; "
            "start QuPath once, so that it makes one, or name it with --user-dir."
        )
    return [installation(path, startup_script(version)) for version, path in folders.items()]
