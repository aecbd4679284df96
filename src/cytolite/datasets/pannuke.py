"""PanNuke patches with types: 256x256, many organs (Gamper et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cytolite import celltypes
from cytolite.celltypes import by_name
from cytolite.datasets.base import Dataset, read_label_folder
from cytolite.patches import Patch

# PanNuke's five classes; 255 marks a nucleus whose type is not known.
TYPES = {
    1: by_name("neoplastic").id,
    2: celltypes.INFLAMMATORY,
    3: by_name("connective").id,
    4: by_name("dead").id,
    5: by_name("epithelial").id,
    255: celltypes.UNKNOWN_NUCLEUS,
}


def read(folder: Path) -> Iterator[Patch]:
    """Yield PanNuke patches from a label folder (0.25 um/px); each is a group of its own."""
    return read_label_folder(folder, TYPES, source="pannuke", mpp=0.25)


PANNUKE = Dataset(
    name="pannuke",
    licence="CC-BY-NC-SA-4.0",
    citation="Gamper et al., PanNuke dataset extension, arXiv:2003.10778 (2020)",
    read=read,
)
