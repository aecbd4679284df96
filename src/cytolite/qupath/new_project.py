"""A QuPath project with slides, classes and colours, written without QuPath: versions 0.5.1 to 0.7 open it.

``data.qpdata``, where objects are kept, is a stream of Java objects and is never written here.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cytolite.celltypes import DEFAULT, TypeSet
from cytolite.files import whole_folder

PROJECT_FILE = "project.qpproj"
# QuPath's own classes, as a new project of its has them, in the order of its list.
_OWN_CLASSES = {
    "Tumor": (200, 0, 0),
    "Stroma": (150, 200, 150),
    "Immune cells": (160, 90, 160),
    "Necrosis": (50, 50, 50),
    "Other": (255, 200, 0),
    "Region*": (0, 0, 180),
    "Ignore*": (180, 180, 180),
    "Positive": (250, 62, 62),
    "Negative": (112, 112, 225),
}
# What QuPath's own projects of the version say that this was tried with first.
_VERSION = "0.6.0"


def write_project(
    folder: Path,
    slides: Sequence[Path],
    thumbnail: Callable[[Path, Path], None] = lambda slide, target: None,
    type_set: TypeSet = DEFAULT,
) -> Path:
    """Write a new project; the folder gets its name when everything is in it.

    Parameters
    ----------
    folder : pathlib.Path
        Of the project; must not be there yet, or be empty.
    slides : sequence of pathlib.Path
        Files; the project refers to them where they are.
    thumbnail : callable
        Called with a slide and where its small JPEG goes, for each.
    type_set : TypeSet
        Types whose classes the project's list has.

    Returns
    -------
    pathlib.Path
        The file to open in QuPath.

    Raises
    ------
    OutputError
        If the folder is there already and is not empty, or cannot be written.
    """
    now = time.time_ns() // 1_000_000
    with whole_folder(folder) as part:
        entries = [_entry(number, slide) for number, slide in enumerate(slides, start=1)]
        for entry, slide in zip(entries, slides, strict=True):
            data = part / "data" / str(entry["entryID"])
            data.mkdir(parents=True)
            _write_json(data / "server.json", entry["serverBuilder"])
            thumbnail(slide, data / "thumbnail.jpg")
        (part / "classifiers").mkdir()
        _write_json(part / "classifiers" / "classes.json", {"pathClasses": path_classes(type_set)})
        project = {
            "version": _VERSION,
            "createTimestamp": now,
            "modifyTimestamp": now,
            "uri": (folder.absolute() / PROJECT_FILE).as_uri(),
            "lastID": len(entries),
            "images": entries,
        }
        _write_json(part / PROJECT_FILE, project)
    return folder / PROJECT_FILE


def path_classes(type_set: TypeSet = DEFAULT) -> list[dict[str, Any]]:
    """Return QuPath's classes, then those of the types, as QuPath lists them: a colour is a signed number of ARGB."""
    ours = {t.qupath_class: t.colour for t in type_set}
    return [{"name": name, "color": packed_colour(rgb)} for name, rgb in ({**_OWN_CLASSES, **ours}).items()]


def packed_colour(rgb: tuple[int, int, int]) -> int:
    """Return an opaque colour as Java's ``int``."""
    red, green, blue = rgb
    return (0xFF << 24 | red << 16 | green << 8 | blue) - 2**32


def _entry(number: int, slide: Path) -> dict[str, Any]:
    return {
        # No provider: QuPath then takes the reader that it likes best for this file.
        "serverBuilder": {"builderType": "uri", "uri": slide.resolve().as_uri(), "args": []},
        "entryID": number,
        "randomizedName": str(uuid.uuid4()),
        "imageName": slide.name,
        "metadata": {},
    }


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
