"""What QuPath's menu offers besides finding nuclei: commands of this package that work on a result.

The extension asks for this list (``cytolite doctor --json``), so that its menu has just what the installed package can
do. ``{result}`` stands for the folder of a result, ``{labels}`` for a GeoJSON file, ``{folder}`` for a new folder; the
extension asks for them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple


class MenuEntry(NamedTuple):
    """A title, and the words after ``cytolite``."""

    title: str
    arguments: tuple[str, ...]


ENTRIES = (
    MenuEntry("Open in the browser viewer", ("view", "{result}")),
    MenuEntry("Surroundings of the cells", ("spatial", "{result}")),
    MenuEntry("Teach", ("teach", "{result}", "--labels", "{labels}", "-o", "{folder}")),
)


def offered(verbs: Collection[str]) -> list[MenuEntry]:
    """Return the entries whose verb this package has."""
    return [entry for entry in ENTRIES if entry.arguments[0] in verbs]
