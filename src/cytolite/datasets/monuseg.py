"""MoNuSeg: outlined nuclei of seven organs, without types (Kumar et al. 2017, 2020).

Published as images (TIFF) and ImageScope XML of the same stem: the training set in ``Tissue Images`` and
``Annotations``, the test set in one folder.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cytolite.celltypes import UNKNOWN_NUCLEUS
from cytolite.datasets.base import IMAGE_SUFFIXES, Dataset, Reading, below, read_rgb
from cytolite.datasets.imagescope import find_annotations, left_out_note, rasterise, read_regions
from cytolite.errors import InputError
from cytolite.files import sha256_of
from cytolite.patches import Patch

MPP = 0.25


def read(folder: Path) -> Reading:
    """Read MoNuSeg: JPEG, PNG or TIFF with ImageScope XML (or XML.gz) of the same stem, beside it or in Annotations/.

    Each comes from a patient of its own, and is a group of its own.

    Raises
    ------
    InputError
        If the folder holds no images, or an image has no XML.
    """
    images = [p for p in below(folder, "*", depth=2) if p.suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        raise InputError(f"{folder} holds no MoNuSeg images; image files with an XML of the same stem are needed.")
    reading = Reading(len(images), ())
    reading.patches = (_read_image(folder, path, reading.notes) for path in images)
    return reading


def _read_image(folder: Path, path: Path, notes: list[str]) -> Patch:
    annotations = find_annotations(path, path.parent.parent / "Annotations")
    regions, mpp, left_out = read_regions(annotations)
    notes += left_out_note(annotations.name, left_out)
    image = read_rgb(path)
    instance_map = rasterise(regions, image.shape[:2])
    below_folder = path.relative_to(folder)
    return Patch(
        name=path.stem,
        image=image,
        instance_map=instance_map,
        type_map=np.where(instance_map > 0, UNKNOWN_NUCLEUS, 0).astype(np.uint8),
        mpp=mpp or MPP,
        source="monuseg",
        group=path.stem,
        # The archives are called "MoNuSeg 2018 Training Data" and "MoNuSegTestData".
        fold=next((fold for fold in ("train", "test") if fold in str(below_folder.parent).lower()), ""),
        file=str(below_folder),
        file_sha256=sha256_of(path, annotations),
    )


MONUSEG = Dataset(
    name="monuseg",
    licence="CC-BY-NC-SA-4.0",
    citation="Kumar et al., IEEE Transactions on Medical Imaging 36 (2017) and 39 (2020)",
    read=read,
)
