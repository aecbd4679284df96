"""Sets of outlined nuclei without types: image/ and inst/ of the same stems, um per px in meta.json.

Each says what must stay together: TCGA's tiles of one patient do, other images are from patients of their own, as far
as is known.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cytolite.datasets.base import Dataset, Reading, read_label_folder, stated_mpp

MPP = 0.25
NO_LICENCE = "none stated; public research data"


def tcga_patient(stem: str) -> str:
    """Return the patient of a TCGA barcode: its first three parts; other names as they are."""
    return "-".join(stem.split("-")[:3]) if stem.startswith("TCGA-") else stem


def _dataset(name: str, licence: str, citation: str, group: Callable[[str], str] = tcga_patient) -> Dataset:
    def read(folder: Path) -> Reading:
        return read_label_folder(folder, None, source=name, mpp=stated_mpp(folder, MPP), group=group)

    return Dataset(name, licence, citation, read)


UNTYPED = (
    _dataset(
        "monuseg_more",
        "CC-BY-NC-SA-4.0",
        "Kumar et al., IEEE Transactions on Medical Imaging 36 (2017); instances rebuilt from two published masks",
    ),
    _dataset("cpm17", NO_LICENCE, "Vu et al., Frontiers in Bioengineering and Biotechnology 7 (2019)"),
    _dataset("cpm15", NO_LICENCE, "MICCAI 2015 challenge, segmentation of nuclei, training tiles"),
    _dataset("cpm15_test", NO_LICENCE, "MICCAI 2015 challenge, segmentation of nuclei, test tiles"),
    _dataset("gbm40", NO_LICENCE, "Zhang et al., IEEE ISBI (2016) and (2017)"),
    _dataset("lgg_tcga", NO_LICENCE, "Zhang et al., IEEE ISBI (2017); tiles of TCGA"),
)
