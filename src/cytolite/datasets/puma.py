"""PUMA: melanoma regions with ten nucleus classes (Schuiveling et al. 2025)."""

from __future__ import annotations

from pathlib import Path

from cytolite import celltypes
from cytolite.celltypes import by_name
from cytolite.datasets.base import Dataset, Reading, read_label_folder
from cytolite.errors import InputError

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


def read(folder: Path) -> Reading:
    """Read the regions of a PUMA label folder; each is a group of its own.

    Raises
    ------
    InputError
        If it is no label folder, or a name does not say how far the region was scaled down.
    """
    return read_label_folder(folder, TYPES, source="puma", mpp=_mpp)


def _mpp(stem: str) -> float:
    scale = stem.rsplit("_", 1)[-1]
    if scale not in MPP:
        raise InputError(f"PUMA's {stem} does not say its scale; a name ends in {', '.join('_' + s for s in MPP)}.")
    return MPP[scale]


PUMA = Dataset(
    name="puma",
    licence="CC0-1.0",
    citation="Schuiveling et al., PUMA: melanoma nuclei and tissue, GigaScience (2025)",
    read=read,
)
