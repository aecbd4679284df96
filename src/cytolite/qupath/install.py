"""Put the scripts for QuPath into its user folder, and take them out again.

Three places, and in each only what cytolite wrote is ever replaced or removed::

    <user folder>/scripts/cytolite/   what QuPath lists under Automate > User scripts > cytolite
    <user folder>/cytolite/           the library that these scripts load
    the startup script                a marked block that adds cytolite to the Extensions menu
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from cytolite.errors import InputError, OutputError, UsageError
from cytolite.files import plain_refusal, whole_file

SCRIPTS, LIBRARY, STARTUP = Path("scripts", "cytolite"), Path("cytolite"), Path("startup.groovy")
MARK = b"by `cytolite qupath install`"
BEGIN = b"// >>> cytolite: written by `cytolite qupath install`, removed by `cytolite qupath uninstall`"
END = b"// <<< cytolite"
_OPTIONS = re.compile(r"^def options = .*$", re.MULTILINE)


@dataclass(frozen=True)
class Installation:
    """Where everything of one QuPath user folder lies.

    Attributes
    ----------
    user_dir : pathlib.Path
        QuPath's user folder.
    startup : pathlib.Path
        The script that QuPath's preferences name, or the one that they will.
    """

    user_dir: Path
    startup: Path

    @property
    def scripts(self) -> Path:
        return self.user_dir / SCRIPTS

    @property
    def library(self) -> Path:
        return self.user_dir / LIBRARY


def installation(user_dir: Path, startup: Path | None = None) -> Installation:
    """Return where things lie, or will lie, in a user folder; `startup` as the preferences say it, if they do.

    Raises
    ------
    InputError
        If the folder does not exist: QuPath makes it, not we.
    """
    user_dir = user_dir.absolute()
    if not user_dir.is_dir():
        raise UsageError(
            f"There is no folder {user_dir}; start QuPath once, so that it makes its user folder, "
            "or name another with --user-dir."
        )
    return Installation(user_dir, (startup or user_dir / STARTUP).absolute())


def install(place: Installation, python: str | None = None) -> None:
    """Write the scripts; what is there from an earlier installation is replaced, options set in it are kept.

    Parameters
    ----------
    place : Installation
        Where to.
    python : str, optional
        Absolute path of the Python that has cytolite; default: this one.

    Raises
    ------
    InputError
        If a file of the same name is there that cytolite did not write, or the startup script's block is damaged.
    OutputError
        If something cannot be written.
    """
    files = _files(place, python or sys.executable)
    before = {path: _read(path) for path in (*files, place.startup)}
    foreign = [path for path in files if before[path] and MARK not in before[path].splitlines()[0]]
    if foreign:
        raise InputError(f"{foreign[0]} was not written by cytolite; rename it, and install again.")
    block = _block(place)
    startup = _with_block(before[place.startup], block, place.startup)
    for path, text in files.items():
        _write(path, _keep_options(text, before[path]).encode("ascii"))
    _write(place.startup, startup)


def uninstall(place: Installation) -> list[Path]:
    """Remove what `install` wrote, and nothing else; return what was removed or changed.

    Raises
    ------
    InputError
        If the startup script's block is damaged.
    OutputError
        If something cannot be removed.
    """
    found = [
        path
        for folder in (place.scripts, place.library)
        for path in sorted(folder.glob("*.groovy"))
        if MARK in _read(path).split(b"\n", 1)[0]
    ]
    before = _read(place.startup)
    after = _without_block(before, place.startup)
    for path in found:
        with plain_refusal(path):
            path.unlink()
    for folder in (place.scripts, place.scripts.parent, place.library):
        if folder.is_dir() and not any(folder.iterdir()):
            with plain_refusal(folder):
                folder.rmdir()
    if after == before:
        return found
    if after == b"" and before.startswith(BEGIN):  # it was ours alone
        with plain_refusal(place.startup):
            place.startup.unlink()
    else:
        _write(place.startup, after)
    return [*found, place.startup]


def installed_python(place: Installation) -> str | None:
    """Return the Python that the installed script calls, ``None`` if there is no script."""
    match = re.search(r"^def python = '(.*)'$", _read(place.scripts / "Find_nuclei.groovy").decode(), re.MULTILINE)
    return _meaning(match[1]) if match else None


def groovy_literal(text: str) -> str:
    """Return a Groovy string that means `text`, in ASCII, whatever encoding QuPath reads the script in."""
    units = text.encode("utf-16-be", "surrogatepass")
    codes = [int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2)]
    return "'" + "".join(map(_escape, codes)) + "'"


def _escape(code: int) -> str:
    if chr(code) in "'\\":  # by a backslash: Groovy puts in characters for numbers before it reads strings
        return "\\" + chr(code)
    return chr(code) if 32 <= code < 127 else f"\\u{code:04x}"


def _meaning(literal: str) -> str:
    """Undo `groovy_literal`, whose numbers are halves of characters where one is rare."""
    halves = re.sub(r"\\u([0-9a-f]{4})|\\(.)", lambda m: chr(int(m[1], 16)) if m[1] else m[2], literal)
    return halves.encode("utf-16", "surrogatepass").decode("utf-16")


# ---- content --------------------------------------------------------------------------------------------------------


def _assets() -> Traversable:
    return resources.files("cytolite") / "assets" / "qupath"


def _files(place: Installation, python: str) -> dict[Path, str]:
    """Return every file with its text, each begun by the line that marks it as ours."""
    values = {"PYTHON": python, "LIBRARY": str(place.library), "STARTUP": str(place.startup)}
    head = f"// Part of cytolite; written {MARK.decode()}, which replaces it.\n"
    texts = {
        folder / asset.name: head + _fill(asset.read_text("ascii"), values)
        for folder, name in ((place.scripts, "menu"), (place.library, "library"))
        for asset in (_assets() / name).iterdir()
        if asset.name.endswith(".groovy")
    }
    return dict(sorted(texts.items()))


def _fill(text: str, values: dict[str, str]) -> str:
    return re.sub(r"'@([A-Z]+)@'", lambda match: groovy_literal(values[match[1]]), text)


def _block(place: Installation) -> bytes:
    text = _fill((_assets() / "startup.groovy").read_text("ascii"), {"SCRIPTS": str(place.scripts)})
    return BEGIN + b"\n" + text.encode("ascii") + END + b"\n"


def _keep_options(text: str, before: bytes) -> str:
    """Carry over the line of options, which the user may have set."""
    kept = _OPTIONS.search(before.decode("utf-8", "replace"))
    return _OPTIONS.sub(lambda _: kept[0], text) if kept and kept[0].isascii() else text


def _with_block(content: bytes, block: bytes, path: Path) -> bytes:
    """Return `content` with our block in place of an older one, else at its end, after a line break of ours."""
    span = _find_block(content, path)
    if span is None:
        return content + b"\n" + block if path.exists() else block
    return content[: span[0]] + block + content[span[1] :]


def _without_block(content: bytes, path: Path) -> bytes:
    span = _find_block(content, path)
    if span is None:
        return content
    start, end = span
    return content[: max(0, start - 1)] + content[end:]  # with the line break that came before it


def _find_block(content: bytes, path: Path) -> tuple[int, int] | None:
    start, end = content.find(BEGIN), content.find(END + b"\n")
    if start < 0 and end < 0:
        return None
    if not 0 <= start < end or content.count(BEGIN) > 1:
        raise InputError(
            f"The lines of cytolite in {path} were changed; remove them, from '>>> cytolite' to '<<< cytolite'."
        )
    return start, end + len(END) + 1


# ---- files ----------------------------------------------------------------------------------------------------------


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise OutputError(f"{path} cannot be read ({error.strerror or error}).") from None


def _write(path: Path, content: bytes) -> None:
    target = path.resolve()  # through a link, which stays
    if target.exists() and _read(target) == content:
        return
    with plain_refusal(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target) as file, plain_refusal(target):
        file.write(content)
