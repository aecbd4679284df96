"""Put the extension for QuPath into its user folder, and take it out again.

Two files, and nothing else of the user's is touched::

    <user folder>/extensions/cytolite-qupath-<version>.jar   what QuPath loads when it starts
    ~/.cytolite/qupath.json                                  the Python that the extension calls

QuPath has no user folder until it was asked for one, and only its preferences know which it is: it asks when an
extension is dragged onto its window, so that is the way where there is none yet.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

import cytolite
from cytolite.errors import UsageError
from cytolite.files import plain_refusal, whole_file
from cytolite.home import home_folder

EXTENSIONS = "extensions"
PYTHON_FILE = "qupath.json"
_JAR = re.compile(r"cytolite-qupath-(.+)\.jar")


def extension_jar() -> Path:
    """Return the extension that comes with this package."""
    return Path(str(resources.files("cytolite") / "assets" / "qupath" / "cytolite-qupath.jar"))


def jar_name() -> str:
    """Return the name under which it is installed and released."""
    return f"cytolite-qupath-{cytolite.__version__}.jar"


def install(user_dir: Path) -> Path:
    """Copy the extension into a user folder of QuPath, in place of other versions of it; return where it is.

    Raises
    ------
    InputError
        If the folder does not exist: QuPath makes it, not we.
    OutputError
        If the extension cannot be written, or an older one not removed: on Windows while QuPath runs.
    """
    if not user_dir.is_dir():
        raise UsageError(
            f"There is no folder {user_dir}; name the one that QuPath shows as its user directory in Edit > "
            f"Preferences, or drag {extension_jar()} onto QuPath's window, which then asks for one."
        )
    target = user_dir.absolute() / EXTENSIONS / jar_name()
    with plain_refusal(target):
        target.parent.mkdir(exist_ok=True)
    with whole_file(target) as file, plain_refusal(target):
        file.write(extension_jar().read_bytes())
    _remove(path for path in installed(user_dir) if path != target)
    return target


def uninstall(user_dir: Path) -> list[Path]:
    """Remove the extension, of whatever version, from a user folder; return what was removed.

    Raises
    ------
    OutputError
        If something cannot be removed: on Windows while QuPath runs.
    """
    return _remove(installed(user_dir))


def installed(user_dir: Path) -> list[Path]:
    """Return the extension's files in a user folder: one, unless somebody put more there by hand."""
    return sorted(path for path in (user_dir / EXTENSIONS).glob("*.jar") if _JAR.fullmatch(path.name))


def installed_version(path: Path) -> str:
    """Return the version that the name of an installed extension says."""
    match = _JAR.fullmatch(path.name)
    return match[1] if match else ""


def _remove(paths: Iterable[Path]) -> list[Path]:
    removed = list(paths)
    for path in removed:
        with plain_refusal(path):
            path.unlink()
    return removed


# ---- the Python that QuPath calls -----------------------------------------------------------------------------------


def python_file() -> Path:
    """Return the file that says which Python the extension calls."""
    return home_folder() / PYTHON_FILE


def write_python(python: str | None = None) -> Path:
    """Let the extension call this Python, by default the one that runs this.

    Raises
    ------
    OutputError
        If it cannot be written down.
    """
    path = python_file()
    with plain_refusal(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file, plain_refusal(path):
        file.write((json.dumps({"python": python or sys.executable}) + "\n").encode())
    return path


def read_python() -> str | None:
    """Return the Python that the extension calls, ``None`` if it was never said, or the file is damaged."""
    try:
        python = json.loads(python_file().read_text(encoding="utf-8"))["python"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return python if isinstance(python, str) else None
