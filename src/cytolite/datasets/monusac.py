"""MoNuSAC: epithelial cells, lymphocytes, macrophages and neutrophils of four organs (Verma et al. 2021).

Published as a folder per patient with images (.svs and .tif of one stem) and ImageScope XML, its layers named by type.
The test set adds the layer Ambiguous: regions about which nothing is said, neither type nor background.

Two traps. Nuclei of other types (fibroblasts, endothelium) are not labelled, so most of the ground is unknown, not
background: only a narrow ring around each labelled nucleus is kept as background, the rest is `IGNORE`. And macrophages
are outlined as whole cells: their type is kept, their outline is not (instance 0 under a type means just that).
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytolite import celltypes
from cytolite.celltypes import IGNORE, by_name
from cytolite.datasets.base import Dataset, Reading, below, read_label_folder, read_rgb
from cytolite.datasets.imagescope import find_annotations, left_out_note, rasterise, read_regions
from cytolite.errors import InputError, did_you_mean
from cytolite.files import sha256_of
from cytolite.patches import Patch

MACROPHAGE = by_name("macrophage").id
TYPES = {
    1: celltypes.EPITHELIAL_OR_NEOPLASTIC,
    2: by_name("lymphocyte").id,
    3: MACROPHAGE,
    4: by_name("neutrophil").id,
    255: IGNORE,
}
# Layers of the XML. A few published files hold layers that were never given a type's name: as good as ambiguous.
LAYERS = {
    "epithelial": celltypes.EPITHELIAL_OR_NEOPLASTIC,
    "lymphocyte": by_name("lymphocyte").id,
    "macrophage": MACROPHAGE,
    "neutrophil": by_name("neutrophil").id,
    "ambiguous": IGNORE,
    "description": IGNORE,
    "1": IGNORE,
}
RING_UM, MPP = 1.5, 0.25
IMAGES_PER_FOLD = {"train": 209, "test": 85}
PUBLISHED = "a folder per patient with .svs or .tif images and an .xml of the same stem"


def patient(stem: str) -> str:
    """Return the patient: the file name up to its third dash, without the image's number."""
    return re.sub(r"_\d+$", "", "-".join(stem.split("-")[:3]))


def within(mask: NDArray[np.bool_], radius_px: int) -> NDArray[np.bool_]:
    """Return the pixels at most `radius_px` rows and columns away from `mask` (a square dilation).

    Parameters
    ----------
    mask : numpy.ndarray
        bool (H, W).
    radius_px : int
        Half the square's side.
    """
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


def read(folder: Path) -> Reading:
    """Read MoNuSAC from its images and XML, or from a label folder, grouped by patient.

    Raises
    ------
    InputError
        If the folder is neither, an image lacks its XML, or a layer has a name that is no type's.
    """
    images = _published_images(folder)
    if not images:
        labelled = read_label_folder(folder, TYPES, source="monusac", mpp=MPP, group=patient, published=PUBLISHED)
        return Reading(len(labelled), (partial_truth(patch) for patch in labelled))
    reading = Reading(len(images), ())
    reading.patches = (partial_truth(_read_image(folder, path, reading.notes)) for path in images)
    folds = [_fold(path, folder) for path in images]
    for fold, wanted in IMAGES_PER_FOLD.items():
        if folds.count(fold) not in (0, wanted):
            reading.notes.append(f"{folds.count(fold)} images in {fold}; as it is published it has {wanted}")
    return reading


def _published_images(folder: Path) -> list[Path]:
    """Return the images that have an XML; of an .svs and a .tif of one stem the .svs, which was annotated."""
    if not below(folder, "*.xml", depth=3):
        return []
    found: dict[Path, Path] = {}
    for suffix in (".svs", ".tif"):
        for path in below(folder, f"*{suffix}", depth=3):
            found.setdefault(path.with_suffix(""), path)
    return [found[stem] for stem in sorted(found)]


def _fold(path: Path, folder: Path) -> str:
    """Tell the archives apart: "MoNuSAC_images_and_annotations" and "MoNuSAC Testing Data and Annotations"."""
    above = str(path.relative_to(folder).parent).lower()
    return "test" if "testing" in above else "train" if "images_and_annotations" in above else ""


def _read_image(folder: Path, path: Path, notes: list[str]) -> Patch:
    annotations = find_annotations(path)
    regions, mpp, left_out = read_regions(annotations)
    notes += left_out_note(annotations.name, left_out)
    labels = [0, *(_layer(region.label, annotations) for region in regions)]
    image = read_rgb(path)
    instance_map = rasterise(regions, image.shape[:2])
    return Patch(
        name=path.stem,
        image=image,
        instance_map=instance_map,
        type_map=np.array(labels, np.uint8)[instance_map],
        mpp=mpp or MPP,
        source="monusac",
        group=patient(path.parent.name if path.stem.startswith(path.parent.name) else path.stem),
        fold=_fold(path, folder),
        file=str(path.relative_to(folder)),
        file_sha256=sha256_of(path, annotations),
    )


def _layer(name: str, path: Path) -> int:
    if name.lower() not in LAYERS:
        known = [layer.capitalize() for layer in list(LAYERS)[:5]]
        raise InputError(f"{path} has a layer {name!r}; known are {', '.join(known)}.{did_you_mean(name, known)}")
    return LAYERS[name.lower()]


MONUSAC = Dataset(
    name="monusac",
    licence="CC-BY-NC-SA-4.0",
    citation="Verma et al., IEEE Transactions on Medical Imaging 40 (2021)",
    read=read,
)


def read_pieces(folder: Path) -> Reading:
    """Read further pieces of MoNuSAC's training images, rich in macrophages, from a label folder.

    Which patient each is from is not known: each is a group of its own.

    Raises
    ------
    InputError
        If it is no label folder.
    """
    pieces = read_label_folder(folder, TYPES, source="monusac_macrophages", mpp=MPP)
    return Reading(len(pieces), (partial_truth(patch) for patch in pieces))


MONUSAC_MACROPHAGES = Dataset(
    name="monusac_macrophages",
    licence="CC-BY-NC-SA-4.0",
    citation=MONUSAC.citation,
    read=read_pieces,
)
