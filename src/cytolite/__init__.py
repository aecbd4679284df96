"""Find, outline and name every nucleus in an H&E whole slide image.

Importing this loads nothing heavy: each name below is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cytolite.bundle import load_bundle
    from cytolite.cells import CellTable
    from cytolite.celltypes import CELL_TYPES
    from cytolite.errors import CytoliteError, InputError
    from cytolite.interop.parquet import read_cells
    from cytolite.pipeline import segment
    from cytolite.slides.reader import open_slide

_HOMES = {
    "CELL_TYPES": "cytolite.celltypes",
    "CellTable": "cytolite.cells",
    "CytoliteError": "cytolite.errors",
    "InputError": "cytolite.errors",
    "load_bundle": "cytolite.bundle",
    "open_slide": "cytolite.slides.reader",
    "read_cells": "cytolite.interop.parquet",
    "segment": "cytolite.pipeline",
}

__all__ = [
    "CELL_TYPES",
    "CellTable",
    "CytoliteError",
    "InputError",
    "__version__",
    "load_bundle",
    "open_slide",
    "read_cells",
    "segment",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("cytolite")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'cytolite' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
