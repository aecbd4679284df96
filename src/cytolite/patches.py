"""Patch: a training image with its nuclei outlined and typed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolite.celltypes import IGNORE, SEVEN, LabelSet
from cytolite.errors import InputError

# Bits of `Patch.known_map`: what is known of a pixel, and so may be learnt and judged.
OUTLINE = 1  # the instance map is right here: the outline of this nucleus was drawn, or this is background
PRESENCE = 2  # whether this is a nucleus is known: it is one if an instance lies here, else it is background
PSEUDO = 4  # the instance here was outlined by a model, around a point or a box that an expert set
# `Patch.trust_map` where a type is as sure as an expert's.
FULL_TRUST = 100


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
        uint8 (H, W); 0 = background, else labels of a `cytolite.celltypes.LabelSet`, or ``IGNORE``.
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
    known_map : numpy.ndarray, optional
        uint8 (H, W), `OUTLINE`, `PRESENCE` and `PSEUDO` together. Without one the labels say it all: an instance is an
        outline, 0 is background, a type without an instance is a cell of unknown outline, and of `IGNORE` nothing is
        known.
    trust_map : numpy.ndarray, optional
        uint8 (H, W), how much the type of a pixel weighs, in per cent; without one all types weigh fully.
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
    known_map: NDArray[np.uint8] | None = None
    trust_map: NDArray[np.uint8] | None = None

    @property
    def known(self) -> NDArray[np.uint8]:
        """The `known_map`, or what the labels imply; uint8 (H, W)."""
        if self.known_map is not None:
            return self.known_map
        drawn = (self.type_map != IGNORE) & ((self.instance_map > 0) | (self.type_map == 0))
        return np.where(drawn, OUTLINE | PRESENCE, 0).astype(np.uint8)

    @property
    def trust(self) -> NDArray[np.uint8]:
        """The `trust_map`, or what the labels imply; uint8 (H, W)."""
        if self.trust_map is not None:
            return self.trust_map
        typed = (self.type_map != 0) & (self.type_map != IGNORE)
        return np.where(typed, FULL_TRUST, 0).astype(np.uint8)

    @property
    def label_maps(self) -> dict[str, Any]:
        """All maps of labels that there are, by the name of their field: what is cut and scaled like the image."""
        maps = {name: getattr(self, name) for name in ("instance_map", "type_map", "known_map", "trust_map")}
        return {name: array for name, array in maps.items() if array is not None}

    @property
    def marks(self) -> NDArray[np.intp]:
        """The ids of nuclei that an expert marked and nobody outlined, neither by hand nor with a model."""
        if self.known_map is None:
            return np.empty(0, np.intp)
        ids = np.flatnonzero(np.bincount(self.instance_map.ravel()))
        outlined = np.unique(self.instance_map[(self.known_map & (OUTLINE | PSEUDO)) > 0])
        return np.setdiff1d(ids, np.append(outlined, 0))

    @property
    def judged(self) -> bool:
        """Whether the patch can be scored: it has an outline to judge, or its labels say it all."""
        return self.known_map is None or bool(((self.instance_map > 0) & (self.judged_types() != IGNORE)).any())

    def judged_types(self) -> NDArray[np.uint8]:
        """Return the type map with `IGNORE` where an outline cannot be judged; uint8 (H, W).

        That is on every nucleus that is not outlined all over by hand, and on ground that may hold nuclei.
        """
        if self.known_map is None:
            return self.type_map
        doubtful = np.zeros(int(self.instance_map.max(initial=0)) + 1, bool)
        doubtful[self.instance_map[(self.known_map & OUTLINE) == 0]] = True
        ground = (self.instance_map == 0) & (self.type_map == 0) & ((self.known_map & PRESENCE) == 0)
        doubtful[0] = False
        return np.where(doubtful[self.instance_map] | ground, IGNORE, self.type_map).astype(np.uint8)

    def validate(self, labels: LabelSet = SEVEN) -> None:
        """Check shapes, dtypes and labels.

        Parameters
        ----------
        labels : LabelSet
            What the type map may hold.

        Raises
        ------
        InputError
            Naming the patch and what is wrong with it.
        """
        where = f"Patch {self.name!r} of {self.source}"
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] != 3:
            raise InputError(f"{where}: the image is {self.image.dtype} {self.image.shape}; uint8 (H, W, 3) is needed.")
        for name, array in self.label_maps.items():
            dtype = np.dtype(np.int32 if name == "instance_map" else np.uint8)
            if array.dtype != dtype or array.shape != self.image.shape[:2]:
                raise InputError(
                    f"{where}: the {name.replace('_', ' ')} is {array.dtype} {array.shape}; "
                    f"{dtype} {self.image.shape[:2]} is needed."
                )
        for name, high in (("known_map", OUTLINE | PRESENCE | PSEUDO), ("trust_map", FULL_TRUST)):
            if name in self.label_maps and self.label_maps[name].max(initial=0) > high:
                raise InputError(f"{where}: the {name.replace('_', ' ')} holds values above {high}.")
        if self.instance_map.min(initial=0) < 0:
            raise InputError(f"{where}: instance ids must not be negative.")
        allowed = {0, IGNORE, *labels}
        unknown = sorted(set(np.unique(self.type_map).tolist()) - allowed)
        if unknown:
            raise InputError(f"{where}: the type map holds {unknown}; allowed are {sorted(allowed)}.")
        if not 0.05 <= self.mpp <= 5:
            raise InputError(f"{where}: {self.mpp} µm/px is not a microscope's resolution (0.05 to 5).")
