"""CellTable: one row per nucleus, in level-0 pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cytolite.celltypes import N_TYPES


@dataclass(frozen=True)
class CellTable:
    """The nuclei of a slide, column by column.

    The pixel in row r, column c covers x in [c, c + 1] and y in [r, r + 1].

    Attributes
    ----------
    vertices : numpy.ndarray
        float64 (V, 2), (x, y) of all outlines one after the other; each ring is open (its first vertex is
        not repeated) and runs clockwise on the screen (y down).
    offsets : numpy.ndarray
        int64 (N + 1,); outline i is ``vertices[offsets[i]:offsets[i + 1]]``.
    centroids : numpy.ndarray
        float64 (N, 2), (x, y) of the nucleus's centre of mass.
    types : numpy.ndarray
        uint8 (N,), 1 to 7.
    type_probs : numpy.ndarray
        float32 (N, 7); rows sum to 1.
    area_um2 : numpy.ndarray
        float32 (N,).
    regions : numpy.ndarray
        int32 (N,); index of the region of interest that holds the centroid, -1 where no regions were given.
    features : dict of str to numpy.ndarray
        float32 (N,) each: shape and stain.
    """

    vertices: NDArray[np.float64]
    offsets: NDArray[np.int64]
    centroids: NDArray[np.float64]
    types: NDArray[np.uint8]
    type_probs: NDArray[np.float32]
    area_um2: NDArray[np.float32]
    regions: NDArray[np.int32]
    features: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.types)

    @classmethod
    def empty(cls, feature_names: Sequence[str] = ()) -> CellTable:
        """Return a table without rows, with the given feature columns."""
        return cls(
            vertices=np.empty((0, 2)),
            offsets=np.zeros(1, np.int64),
            centroids=np.empty((0, 2)),
            types=np.empty(0, np.uint8),
            type_probs=np.empty((0, N_TYPES), np.float32),
            area_um2=np.empty(0, np.float32),
            regions=np.empty(0, np.int32),
            features={name: np.empty(0, np.float32) for name in feature_names},
        )

    def outline(self, i: int) -> NDArray[np.float64]:
        """Return the open ring of nucleus `i`, float64 (n, 2), (x, y)."""
        return self.vertices[self.offsets[i] : self.offsets[i + 1]]

    def select(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> CellTable:
        """Return the rows named by a boolean mask or by indices, in that order."""
        index = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        lengths = np.diff(self.offsets)[index]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        # Positions of the kept vertices: each ring's start repeated, plus a running count within the ring.
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        vertices = self.vertices[np.repeat(self.offsets[:-1][index], lengths) + within]
        return CellTable(
            vertices=vertices,
            offsets=offsets,
            centroids=self.centroids[index],
            types=self.types[index],
            type_probs=self.type_probs[index],
            area_um2=self.area_um2[index],
            regions=self.regions[index],
            features={name: column[index] for name, column in self.features.items()},
        )

    @staticmethod
    def concatenate(tables: Sequence[CellTable]) -> CellTable:
        """Return the rows of all `tables`, one after the other; they must have the same features."""
        if not tables:
            return CellTable.empty()
        starts = np.cumsum([0] + [len(t.vertices) for t in tables])
        offsets = [t.offsets[:-1] + start for t, start in zip(tables, starts, strict=False)]
        return CellTable(
            vertices=np.concatenate([t.vertices for t in tables]),
            offsets=np.concatenate([*offsets, starts[-1:]]).astype(np.int64),
            centroids=np.concatenate([t.centroids for t in tables]),
            types=np.concatenate([t.types for t in tables]),
            type_probs=np.concatenate([t.type_probs for t in tables]),
            area_um2=np.concatenate([t.area_um2 for t in tables]),
            regions=np.concatenate([t.regions for t in tables]),
            features={name: np.concatenate([t.features[name] for t in tables]) for name in tables[0].features},
        )


def with_known_types(type_probs: NDArray[np.float32], types: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return probabilities, float32 (N, 7), where rows that are not all known say that the type is certain."""
    probs = np.ascontiguousarray(type_probs).copy()
    unknown = np.isnan(probs).any(axis=1)
    probs[unknown] = np.eye(N_TYPES, dtype=np.float32)[types[unknown].astype(np.intp) - 1]
    return probs
