"""MoNuSeg: outlined nuclei of seven organs, without types (Kumar et al. 2017, 2020)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cytolite.celltypes import UNKNOWN_NUCLEUS
from cytolite.datasets.base import Dataset, read_rgb
from cytolite.datasets.imagescope import rasterise, read_regions
from cytolite.errors import InputError
from cytolite.patches import Patch


def read(folder: Path) -> Iterator[Patch]:
    """Yield the images of a MoNuSeg folder: JPEG, PNG or TIFF with ImageScope XML (or XML.gz) of the same stem.

    Each comes from a patient of its own, and is a group of its own.

    Raises
    ------
    InputError
        If the folder holds no images, or an image has no XML.
    """
    images = sorted(p for p in folder.glob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png", ".tif", ".tiff"})
    if not images:
        raise InputError(f"{folder} holds no MoNuSeg images; image files with an XML of the same stem are needed.")
    for path in images:
        xml = path.with_suffix(".xml")
        regions, mpp = read_regions(xml if xml.exists() else path.with_suffix(".xml.gz"))
        image = read_rgb(path)
        instance_map = rasterise(regions, image.shape[:2])
        yield Patch(
            name=path.stem,
            image=image,
            instance_map=instance_map,
            type_map=np.where(instance_map > 0, UNKNOWN_NUCLEUS, 0).astype(np.uint8),
            mpp=mpp or 0.25,
            source="monuseg",
            group=path.stem,
        )


MONUSEG = Dataset(
    name="monuseg",
    licence="CC-BY-NC-SA-4.0",
    citation="Kumar et al., IEEE Transactions on Medical Imaging 36 (2017) and 39 (2020)",
    read=read,
)
