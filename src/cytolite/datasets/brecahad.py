"""BreCaHAD: boxes around nuclei of breast cancer (Aksac et al. 2019); by far not all nuclei have one.

image/ and boxes/ (CSV of centre x, centre y, w, h, type) of the same stems.
"""

from __future__ import annotations

from pathlib import Path

from cytolite.celltypes import UNKNOWN_NUCLEUS, by_name
from cytolite.datasets.base import Dataset, Reading, image_files, stated_mpp
from cytolite.datasets.marks import mark_boxes, marked_patch, read_marks
from cytolite.patches import Patch

# Tumour, other nucleus (not of the tumour, of which type is not said), apoptosis, mitosis; tubules are no nuclei.
TYPES = {
    1: by_name("neoplastic").id,
    2: UNKNOWN_NUCLEUS,
    3: by_name("dead").id,
    4: by_name("neoplastic").id,
    5: 0,
    6: 0,
}
MPP = 0.25


def read(folder: Path) -> Reading:
    """Read images and boxes, grouped by case (the file name before its dash).

    Raises
    ------
    InputError
        If the folder is not such a folder, or a table is damaged.
    """
    images = image_files(folder, "BreCaHAD (image/ and boxes/ with files of the same stems)")
    resolution = stated_mpp(folder, MPP)

    def read_image(path: Path) -> Patch:
        file = folder / "boxes" / f"{path.stem}.csv"
        boxes, labels = read_marks(file, ("x", "y", "w", "h"), TYPES)
        return marked_patch(
            path, folder, file,
            lambda shape: mark_boxes(boxes, labels, shape),
            mpp=resolution(path.stem), source="brecahad_boxes", group=path.stem.split("-")[0],
        )  # fmt: skip

    return Reading(len(images), map(read_image, images))


BRECAHAD = Dataset("brecahad_boxes", "CC-BY-4.0", "Aksac et al., BreCaHAD, BMC Research Notes 12 (2019)", read)
