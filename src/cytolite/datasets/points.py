"""BRCA-M2C and CRCHistoPhenotypes: a point and a type per nucleus, no outlines.

image/ and points/ (CSV of x, y, type) of the same stems.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from cytolite.celltypes import EPITHELIAL_OR_NEOPLASTIC, INFLAMMATORY, UNKNOWN_NUCLEUS, by_name
from cytolite.datasets.base import Dataset, Reading, image_files, stated_mpp
from cytolite.datasets.marks import mark_points, marked_patch, read_marks
from cytolite.datasets.untyped import tcga_patient
from cytolite.patches import Patch

CONNECTIVE = by_name("connective").id


def _read(
    folder: Path, *, source: str, types: dict[int, int], mpp: float, exhaustive: bool, group: Callable[[str], str]
) -> Reading:
    images = image_files(folder, "a folder of points (image/ and points/ with files of the same stems)")
    resolution = stated_mpp(folder, mpp)

    def read(path: Path) -> Patch:
        file = folder / "points" / f"{path.stem}.csv"
        points, labels = read_marks(file, ("x", "y"), types)
        um_per_px = resolution(path.stem)
        return marked_patch(
            path, folder, file,
            lambda shape: mark_points(points, labels, shape, um_per_px, exhaustive),
            mpp=um_per_px, source=source, group=group(path.stem),
        )  # fmt: skip

    return Reading(len(images), map(read, images))


def _dataset(
    name: str,
    licence: str,
    citation: str,
    *,
    types: dict[int, int],
    mpp: float,
    exhaustive: bool,
    group: Callable[[str], str] = str,
) -> Dataset:
    read = partial(_read, source=name, types=types, mpp=mpp, exhaustive=exhaustive, group=group)
    return Dataset(name, licence, citation, read)


POINTS = (
    _dataset(
        "brca_m2c_points",
        "BSD-3-Clause",
        "Abousamra et al., BRCA-M2C, IEEE ICCV (2021)",
        types={1: INFLAMMATORY, 2: EPITHELIAL_OR_NEOPLASTIC, 3: CONNECTIVE},
        mpp=0.5,
        exhaustive=True,
        group=tcga_patient,
    ),
    # Type 4 is "others", 0 a nucleus whose type was not given.
    _dataset(
        "crchisto_points",
        "released for research purpose only",
        "Sirinukunwattana et al., IEEE Transactions on Medical Imaging 35 (2016)",
        types={0: UNKNOWN_NUCLEUS, 1: EPITHELIAL_OR_NEOPLASTIC, 2: INFLAMMATORY, 3: CONNECTIVE, 4: UNKNOWN_NUCLEUS},
        mpp=0.55,
        exhaustive=False,
    ),
)
