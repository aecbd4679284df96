"""Whether a project may be open in QuPath, which would overwrite what is written here when it saves.

QuPath locks nothing and leaves no sign in a project that it has open (looked up in the source of 0.5 to 0.7). What can
be told: that some QuPath runs on this machine; that it is just writing, or stopped while it wrote; and that a file was
written between reading and saving. A QuPath on another machine, with the same network folder, shows by the last two.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PureWindowsPath

from cytolite.errors import InputError

# The main classes of QuPath, as they are on the command line of a Java that was started by hand.
_MAIN_CLASSES = {"qupath.QuPath", "qupath.lib.gui.QuPathApp", "qupath.app/qupath.QuPath"}


def require_closed(project: Path, other_project_open: bool = False) -> None:
    """Refuse a project that may be open in QuPath.

    Parameters
    ----------
    project : pathlib.Path
        Its ``project.qpproj``.
    other_project_open : bool
        Whether the user says that the QuPath that runs has another project open.

    Raises
    ------
    InputError
        If it may be.
    """
    writing = [*project.parent.glob("*.qpproj.tmp"), *project.parent.glob("data/*/data.qpdata.bkp")]
    if writing:
        raise InputError(
            f"QuPath is writing to the project, or was stopped while it wrote ({writing[0]}); open the project in "
            "QuPath, see that all is well, save and close it."
        )
    if not other_project_open and any(map(is_qupath, running_commands())):
        raise InputError(
            "QuPath is running, and may have this project open: it would overwrite the cells when it saves. Close it, "
            "or say --other-project-open if it has another project open."
        )


def is_qupath(command: list[str]) -> bool:
    """Say whether the command line of a process is that of QuPath."""
    if not command:
        return False
    program = PureWindowsPath(command[0]).name if "\\" in command[0] else PurePath(command[0]).name
    return program.lower().startswith("qupath") or any(word in _MAIN_CLASSES for word in command[1:])


def running_commands() -> Iterator[list[str]]:
    """Yield the command lines of the processes of this machine, as far as they can be seen."""
    if Path("/proc/self/cmdline").exists():
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                yield file.read_bytes().decode(errors="replace").rstrip("\0").split("\0")
            except OSError:  # it has ended, or is not ours to see
                continue
        return
    listing = ["tasklist", "/fo", "csv", "/nh"] if sys.platform == "win32" else ["ps", "-axo", "args="]
    try:
        done = subprocess.run(listing, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise InputError(f"It cannot be told whether QuPath is running ({error}); say --other-project-open.") from None
    for line in done.stdout.splitlines():
        yield [line.split('","')[0].strip('"')] if sys.platform == "win32" else line.split()


@dataclass
class Unchanged:
    """What files were like when they were read, so that a change by another program is seen before saving."""

    _seen: dict[Path, tuple[int, int] | None] = field(default_factory=dict)

    def remember(self, path: Path) -> None:
        """Take down size and time of a file, or that it is not there."""
        self._seen[path] = _look(path)

    def require(self, path: Path, image: str) -> None:
        """Refuse to save over a file that was written since.

        Parameters
        ----------
        path : pathlib.Path
            File that shall be replaced.
        image : str
            Its name, for the error.

        Raises
        ------
        InputError
            If it was.
        """
        if path in self._seen and _look(path) != self._seen[path]:
            raise InputError(
                f"The image {image} was changed by another program meanwhile; nothing was added to it. Close QuPath "
                "and run the same again: what was found is kept."
            )


def _look(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_size, stat.st_mtime_ns
