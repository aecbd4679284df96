"""What QuPath's preferences say of its folders; they are Java's, which each system keeps in another way."""

from __future__ import annotations

import base64
import importlib
import plistlib
import re
import string
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

NODE = "io.github.qupath"  # below it one node a version, "0.6"
USER_PATH = "userPath"
OLDEST = (0, 5)
_BASE64 = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
# java.util.prefs.Base64: its alphabet without capitals, for file systems that do not tell them apart.
_ALTERNATIVE = "!\"#$%&'(),-.:;<>@[]^`_{|}~" + string.ascii_lowercase + string.digits + "+?"


def read_preferences(home: Path | None = None, platform: str = sys.platform) -> dict[str, dict[str, str]]:
    """Return the preferences of every QuPath version that was started by this user: version -> name -> value.

    What cannot be read counts as not there: preferences are one way to find a folder, not the only one.

    Parameters
    ----------
    home : pathlib.Path, optional
        The user's folder, by default that of who runs this.
    platform : str
        As `sys.platform` says it.
    """
    home = home or Path.home()
    read = _from_registry if platform == "win32" else _from_plist if platform == "darwin" else _from_xml
    try:
        return read(home)
    except (OSError, ValueError, ElementTree.ParseError):
        return {}


def user_folders(home: Path | None = None, platform: str = sys.platform) -> dict[str, Path]:
    """Return QuPath's user folder for each version from 0.5 on that has one, oldest first: ``"0.6" -> path``.

    That is what its preferences say. A folder of the usual name that was made by hand counts for nothing, to QuPath
    as to us; one that the preferences name but that is gone is left out.

    Parameters
    ----------
    home, platform
        As for `read_preferences`.
    """
    folders = {
        version: Path(values[USER_PATH])
        for version, values in started_versions(home, platform).items()
        if values.get(USER_PATH)
    }
    return {version: path for version, path in folders.items() if path.is_dir()}


def started_versions(home: Path | None = None, platform: str = sys.platform) -> dict[str, dict[str, str]]:
    """Return the preferences of each version from 0.5 on that this user has started, oldest first.

    Parameters
    ----------
    home, platform
        As for `read_preferences`.
    """
    found = read_preferences(home, platform)
    return {version: found[version] for version in sorted(found, key=_numbers) if _numbers(version) >= OLDEST}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))


# ---- one reader a system --------------------------------------------------------------------------------------------


def _from_xml(home: Path) -> dict[str, dict[str, str]]:
    """Linux: ``.java/.userPrefs/<node>/<version>/prefs.xml``, with the names of folders in Java's own base 64."""
    root = home / ".java" / ".userPrefs"
    nodes = [folder for folder in root.iterdir() if _node_name(folder) == NODE]
    return {
        _node_name(file.parent): {
            entry.attrib["key"]: entry.attrib["value"] for entry in ElementTree.parse(file).iter("entry")
        }
        for node in nodes
        for file in node.glob("*/prefs.xml")
    }


def _node_name(folder: Path) -> str:
    if not folder.name.startswith("_"):
        return folder.name
    plain = folder.name[1:].translate(str.maketrans(_ALTERNATIVE, _BASE64))
    return base64.b64decode(plain).decode("utf-16-be")


def _from_plist(home: Path) -> dict[str, dict[str, str]]:
    """macOS: all programs of Java share one property list, in which names of nodes end with a slash."""
    with (home / "Library" / "Preferences" / "com.apple.java.util.prefs.plist").open("rb") as file:
        nodes: dict[str, Any] = plistlib.load(file).get("/", {}).get(f"{NODE}/", {})
    return {
        name.rstrip("/"): {key: value for key, value in node.items() if isinstance(value, str)}
        for name, node in nodes.items()
        if isinstance(node, dict)
    }


def _from_registry(home: Path) -> dict[str, dict[str, str]]:
    """Windows: the user's key ``Software/JavaSoft/Prefs/<node>/<version>``, a slash before each capital of a name."""
    registry: Any = importlib.import_module("winreg")  # there on Windows alone
    found = {}
    with registry.OpenKey(registry.HKEY_CURRENT_USER, rf"Software\JavaSoft\Prefs\{NODE}") as node:
        for i in range(registry.QueryInfoKey(node)[0]):
            version = registry.EnumKey(node, i)
            with registry.OpenKey(node, version) as key:
                values = [registry.EnumValue(key, j)[:2] for j in range(registry.QueryInfoKey(key)[1])]
            found[version] = {re.sub("/([A-Z])", r"\1", name): _registry_text(str(value)) for name, value in values}
    return found


def _registry_text(value: str) -> str:
    r"""Undo how Java writes a text: ``//`` for a backslash, a backslash for a slash, ``/u00e9`` for others."""
    return re.sub(
        r"//|/u([0-9a-fA-F]{4})|\\",
        lambda m: "\\" if m[0] == "//" else "/" if m[0] == "\\" else chr(int(m[1], 16)),
        value,
    )
