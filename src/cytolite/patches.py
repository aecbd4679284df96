"""Patch: a training image with its nuclei outlined and typed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytolite.celltypes import COARSE_LABELS, IGNORE, N_TYPES
from cytolite.errors import InputError


@dataclass(frozen=True)
class Patch:
    """A training image and its truth.

    Attributes
    ----------
    name : str
        Unique within its source.
    image : numpy.ndarray
        uint8 (H, W, 3), RGB.
    instance_map : numpy.ndarray
        int32 (H, W); 0 = background, 1..n = nuclei.
    type_map : numpy.ndarray
        uint8 (H, W); 0 = background, 1..7 = types, coarse labels and ``IGNORE`` as in `cytolite.celltypes`.
    mpp : float
        Resolution, um per pixel.
    source : str
        Dataset that the patch comes from.
    group : str
        What must not be split between training and validation: the patient, or the image.
    tissue : str
        Organ, where the dataset names it; else empty.
    fold : str
        The part of the dataset that its authors put it into ("1", "train"); else empty.
    file : str
        What it was read from: a path below the dataset's folder, and the number within it where it holds many.
    file_sha256 : str
        SHA-256 of the bytes that it was read from, first the image's, then the truth's.
    """

    name: str
    image: NDArray[np.uint8]
    instance_map: NDArray[np.int32]
    type_map: NDArray[np.uint8]
    mpp: float
    source: str
    group: str
    tissue: str = ""
    fold: str = ""
    file: str = ""
    file_sha256: str = ""

    def validate(self) -> None:
        """Check shapes, dtypes and labels.

        Raises
        ------
        InputError
            Naming the patch and what is wrong with it.
        """
        where = f"Patch {self.name!r} of {self.source}"
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] != 3:
            raise InputError(f"{where}: the image is {self.image.dtype} {self.image.shape}; uint8 (H, W, 3) is needed.")
        for what, array, dtype in (("instance", self.instance_map, np.int32), ("type", self.type_map, np.uint8)):
            if array.dtype != dtype or array.shape != self.image.shape[:2]:
                raise InputError(
                    f"{where}: the {what} map is {array.dtype} {array.shape}; "
                    f"{np.dtype(dtype)} {self.image.shape[:2]} is needed."
                )
        if self.instance_map.min(initial=0) < 0:
            raise InputError(f"{where}: instance ids must not be negative.")
        allowed = {0, IGNORE, *range(1, N_TYPES + 1), *COARSE_LABELS}
        unknown = sorted(set(np.unique(self.type_map).tolist()) - allowed)
        if unknown:
            raise InputError(f"{where}: the type map holds {unknown}; allowed are {sorted(allowed)}.")
        if not 0.05 <= self.mpp <= 5:
            raise InputError(f"{where}: {self.mpp} µm/px is not a microscope's resolution (0.05 to 5).")
