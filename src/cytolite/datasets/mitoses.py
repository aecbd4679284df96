"""AMi-Br and AtNorM-MD: fields of 128 px around mitoses, which are neoplastic nuclei; of other nuclei nothing is said.

image/ and points/ (CSV of x, y, type: 1 typical, 2 atypical, 3 no mitosis) of the same stems; AMi-Br also inst/, the
chromatin of the central mitosis, and index.csv with slide and um per px. The point of a mitosis may lie between its two
plates, so without the chromatin it teaches a type alone. A look-alike that is no mitosis may be of any
type, or not be a nucleus, so it teaches nothing.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolite.celltypes import by_name
from cytolite.datasets.base import Dataset, Reading, image_files, read_labels, read_rows
from cytolite.datasets.marks import Maps, mark_points, marked_patch, read_marks
from cytolite.errors import InputError
from cytolite.patches import FULL_TRUST, PRESENCE, Patch

NEOPLASTIC = by_name("neoplastic").id
TYPES = {1: NEOPLASTIC, 2: NEOPLASTIC, 3: 0}
# AtNorM-MD's scanners have 0.23 and 0.25; which image is whose is not published.
MPP = 0.24
LAYOUT = "a folder of mitoses (image/ and points/ with files of the same stems)"


def with_chromatin(maps: Maps, chromatin: NDArray[np.bool_]) -> Maps:
    """Return the marks with the disc nearest to the chromatin's middle replaced by the chromatin, which is nucleus.

    Parameters
    ----------
    maps : Maps
        Of the marks.
    chromatin : numpy.ndarray
        bool (H, W).
    """
    if not chromatin.any():
        return maps
    middle = np.argwhere(chromatin).mean(0)
    discs = np.argwhere(maps.instance_map > 0)
    nearest = discs[np.hypot(*(discs - middle).T).argmin()] if len(discs) else None
    number = int(maps.instance_map.max()) + 1 if nearest is None else int(maps.instance_map[tuple(nearest)])
    kept = (maps.instance_map > 0) & (maps.instance_map != number) & ~chromatin

    def painted(given: NDArray[Any], value: int) -> NDArray[Any]:
        return np.where(chromatin, value, np.where(kept, given, 0)).astype(given.dtype)

    return Maps(
        painted(maps.instance_map, number),
        painted(maps.type_map, NEOPLASTIC),
        painted(maps.known_map, PRESENCE),
        painted(maps.trust_map, FULL_TRUST),
    )


def read_amibr(folder: Path) -> Reading:
    """Read AMi-Br, grouped by slide.

    Raises
    ------
    InputError
        If a file is missing or damaged, or an image is not in index.csv.
    """
    images = image_files(folder, LAYOUT)
    index = {row["name"]: row for row in read_rows(folder / "index.csv", ("name", "set", "slide", "um_per_px"))}

    def read(path: Path) -> Patch:
        if path.stem not in index:
            raise InputError(f"{folder / 'index.csv'} has no row of the image {path.stem!r}.")
        row = index[path.stem]
        try:
            mpp = float(row["um_per_px"])
        except ValueError:
            raise InputError(f"{folder / 'index.csv'} gives {row['um_per_px']!r} um/px to {path.stem!r}.") from None
        patch = _read_points(folder, path, mpp, "mitosis_amibr", f"{row['set']}/{row['slide']}")
        chromatin = folder / "inst" / f"{path.stem}.png"
        if not chromatin.exists():
            return patch
        maps = Maps(**patch.label_maps)
        return replace(patch, **vars(with_chromatin(maps, read_labels(chromatin, patch.type_map.shape) > 0)))

    return Reading(len(images), map(read, images))


def read_atnorm(folder: Path) -> Reading:
    """Read AtNorM-MD; each image is a group of its own, for their slides are not published.

    Raises
    ------
    InputError
        If a file is missing or damaged.
    """
    images = image_files(folder, LAYOUT)
    return Reading(len(images), (_read_points(folder, p, MPP, "mitosis_atnorm_md", p.stem) for p in images))


def _read_points(folder: Path, path: Path, mpp: float, source: str, group: str) -> Patch:
    file = folder / "points" / f"{path.stem}.csv"
    points, labels = read_marks(file, ("x", "y"), TYPES)
    return marked_patch(
        path, folder, file,
        lambda shape: mark_points(points, labels, shape, mpp, within=False),
        mpp=mpp, source=source, group=group,
    )  # fmt: skip


MITOSES = (
    Dataset(
        "mitosis_amibr",
        "none stated; public research data (images: MIDOG 2021 CC-BY-4.0, TUPAC16 free for research)",
        "Bertram et al., AMi-Br (2025)",
        read_amibr,
    ),
    Dataset("mitosis_atnorm_md", "CC-BY-4.0", "Bertram et al., AtNorM-MD (2025); images of MIDOG++", read_atnorm),
)
