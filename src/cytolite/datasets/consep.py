"""CoNSeP: colorectal nuclei in seven classes (Graham et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cytolite import celltypes
from cytolite.celltypes import by_name
from cytolite.datasets.base import Dataset, read_label_folder
from cytolite.patches import Patch

# 1 other, 2 inflammatory, 3 healthy epithelium, 4 malignant epithelium, 5 fibroblast, 6 muscle, 7 endothelial.
TYPES = {
    1: celltypes.UNKNOWN_NUCLEUS,
    2: celltypes.INFLAMMATORY,
    3: by_name("epithelial").id,
    4: by_name("neoplastic").id,
    5: by_name("connective").id,
    6: by_name("connective").id,
    7: by_name("connective").id,
}


def read(folder: Path) -> Iterator[Patch]:
    """Yield the images of a CoNSeP label folder (1000x1000 at 0.25 um/px); each is a group of its own."""
    return read_label_folder(folder, TYPES, source="consep", mpp=0.25)


CONSEP = Dataset(
    name="consep",
    licence="Apache-2.0 as listed by two toolkits",
    citation="Graham et al., HoVer-Net, Medical Image Analysis 58 (2019)",
    read=read,
)
