"""MoNuSAC: epithelial cells, lymphocytes, macrophages and neutrophils of four organs (Verma et al. 2021).

Two traps. Nuclei of other types (fibroblasts, endothelium) are not labelled, so most of the ground is unknown, not
background: only a narrow ring around each labelled nucleus is kept as background, the rest is `IGNORE`. And macrophages
are outlined as whole cells: their type is kept, their outline is not (instance 0 under a type means just that).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytolite import celltypes
from cytolite.celltypes import IGNORE, by_name
from cytolite.datasets.base import Dataset, read_label_folder
from cytolite.patches import Patch

MACROPHAGE = by_name("macrophage").id
TYPES = {
    1: celltypes.EPITHELIAL_OR_NEOPLASTIC,
    2: by_name("lymphocyte").id,
    3: MACROPHAGE,
    4: by_name("neutrophil").id,
    255: IGNORE,
}
RING_UM = 1.5


def patient(stem: str) -> str:
    """Return the patient: the file name up to its third dash."""
    return "-".join(stem.split("-")[:3])


def within(mask: NDArray[np.bool_], radius_px: int) -> NDArray[np.bool_]:
    """Return the pixels at most `radius_px` rows and columns away from `mask` (a square dilation)."""
    for axis in (0, 1):
        counts = np.cumsum(
            np.pad(mask, [(radius_px + 1, radius_px) if a == axis else (0, 0) for a in (0, 1)]), axis=axis
        )
        span, n = 2 * radius_px + 1, mask.shape[axis]
        mask = np.take(counts, np.arange(span, span + n), axis) > np.take(counts, np.arange(n), axis)
    return mask


def partial_truth(patch: Patch) -> Patch:
    """Return the patch with unlabelled ground ignored and whole-cell outlines dropped (see the module's text)."""
    labelled = (patch.type_map > 0) & (patch.type_map != IGNORE)
    ring = within(labelled, round(RING_UM / patch.mpp))
    types = np.where((patch.type_map == 0) & ~ring, IGNORE, patch.type_map).astype(np.uint8)
    # Ambiguous regions carry instances too: neither their outline nor their type is to be learnt.
    outlined = (types != MACROPHAGE) & (types != IGNORE)
    return replace(patch, type_map=types, instance_map=np.where(outlined, patch.instance_map, 0).astype(np.int32))


def read(folder: Path) -> Iterator[Patch]:
    """Yield the images of a MoNuSAC label folder, grouped by patient."""
    for patch in read_label_folder(folder, TYPES, source="monusac", mpp=0.25, group=patient):
        yield partial_truth(patch)


MONUSAC = Dataset(
    name="monusac",
    licence="CC-BY-NC-SA-4.0",
    citation="Verma et al., IEEE Transactions on Medical Imaging 40 (2021)",
    read=read,
)
