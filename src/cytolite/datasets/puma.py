"""PUMA: melanoma regions with ten nucleus classes (Schuiveling et al. 2025)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cytolite import celltypes
from cytolite.celltypes import by_name
from cytolite.datasets.base import Dataset, read_label_folder
from cytolite.patches import Patch

# 1 tumour, 2 lymphocyte, 3 plasma cell, 4 histiocyte, 7 stroma, 9 endothelium, 10 apoptosis. A plasma cell is a
# nucleus, but none of the seven types.
TYPES = {
    1: by_name("neoplastic").id,
    2: by_name("lymphocyte").id,
    3: celltypes.UNKNOWN_NUCLEUS,
    4: by_name("macrophage").id,
    7: by_name("connective").id,
    9: by_name("connective").id,
    10: by_name("dead").id,
}
# The name says how far the region was scaled down.
MPP = {"full": 0.23, "half": 0.50, "small": 0.56}


def read(folder: Path) -> Iterator[Patch]:
    """Yield the regions of a PUMA label folder; each is a group of its own."""
    return read_label_folder(folder, TYPES, source="puma", mpp=lambda stem: MPP[stem.rsplit("_", 1)[-1]])


PUMA = Dataset(
    name="puma",
    licence="CC0-1.0",
    citation="Schuiveling et al., PUMA: melanoma nuclei and tissue, GigaScience (2025)",
    read=read,
)
