"""NuInsSeg: nuclei of 31 human and mouse organs (Mahbod et al. 2024), here with cuts that are not the authors'.

What is nucleus and what is background is exact. Touching nuclei were cut apart by a watershed: near a cut the outline
is not known, so flows are not learnt there, nucleus and background are.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytolite.datasets.base import Dataset, Reading, read_label_folder, stated_mpp
from cytolite.errors import InputError
from cytolite.patches import OUTLINE, PRESENCE, Patch

MPP = 0.2
CUT_UM = 2.0
# Images of one slide and organ are neighbours in number; which belong together is not published.
BLOCK = 35


def near_cuts(instances: NDArray[np.int32], radius_px: int) -> NDArray[np.bool_]:
    """Return the pixels of nuclei that lie within `radius_px` rows and columns of another nucleus that touches theirs.

    Parameters
    ----------
    instances : numpy.ndarray
        int32 (H, W).
    radius_px : int
        How far a cut reaches, at least 1.

    Returns
    -------
    numpy.ndarray
        bool (H, W).
    """
    from cytolite.datasets.monusac import within

    cut = np.zeros(instances.shape, bool)
    for axis in (0, 1):
        before, after = (np.s_[:-1], np.s_[1:]) if axis == 0 else (np.s_[:, :-1], np.s_[:, 1:])
        a, b = instances[before], instances[after]
        touch = (a != b) & (a > 0) & (b > 0)
        cut[before] |= touch
        cut[after] |= touch
    return within(cut, radius_px) & (instances > 0)


def foreground_alone(patch: Patch) -> Patch:
    """Return the patch with outlines unknown near its cuts."""
    doubtful = near_cuts(patch.instance_map, max(1, round(CUT_UM / patch.mpp)))
    return replace(patch, known_map=np.where(doubtful, PRESENCE, PRESENCE | OUTLINE).astype(np.uint8))


def block(stem: str) -> str:
    """Return the block of numbers that an image belongs to.

    Raises
    ------
    InputError
        If the name is not a number.
    """
    if not stem.isdecimal():
        raise InputError(f"NuInsSeg's images are numbered here; {stem!r} is not a number.")
    return f"block_{(int(stem) - 1) // BLOCK:02d}"


def read(folder: Path) -> Reading:
    """Read image/ and inst/ of NuInsSeg, grouped by blocks of 35 numbers.

    Raises
    ------
    InputError
        If the folder is not such a folder, or a name is not a number.
    """
    given = read_label_folder(folder, None, source="nuinsseg", mpp=stated_mpp(folder, MPP), group=block)
    return Reading(len(given), (foreground_alone(patch) for patch in given))


NUINSSEG = Dataset("nuinsseg", "CC-BY-4.0", "Mahbod et al., NuInsSeg, Scientific Data 11 (2024)", read)
