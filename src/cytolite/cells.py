"""CellTable: one row per nucleus, in level-0 pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cytolite.celltypes import DEFAULT, TypeSet
from cytolite.errors import InputError

if TYPE_CHECKING:
    from anndata import AnnData
    from geopandas import GeoDataFrame
    from matplotlib.axes import Axes
    from pandas import DataFrame


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
        uint8 (N,), ids of `type_set`: 1 to 7 by default.
    type_probs : numpy.ndarray
        float32 (N, types); rows sum to 1.
    area_um2 : numpy.ndarray
        float32 (N,).
    regions : numpy.ndarray
        int32 (N,); index of the region of interest that holds the centroid, -1 where no regions were given.
    features : dict of str to numpy.ndarray
        float32 (N,) each: shape and stain.
    region_names : tuple of str
        What `regions` counts.
    mpp : float, optional
        Resolution of level 0, um per pixel, where it is known.
    type_set : TypeSet
        The types that are told apart.
    embeddings : numpy.ndarray, optional
        float16 (N, channels), what an inner map of the network says of each nucleus, where it was asked for.

    Examples
    --------
    >>> import numpy as np
    >>> cells = CellTable.empty()
    >>> len(cells[cells.type == "lymphocyte"])
    0
    """

    vertices: NDArray[np.float64]
    offsets: NDArray[np.int64]
    centroids: NDArray[np.float64]
    types: NDArray[np.uint8]
    type_probs: NDArray[np.float32]
    area_um2: NDArray[np.float32]
    regions: NDArray[np.int32]
    features: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    region_names: tuple[str, ...] = ()
    mpp: float | None = None
    type_set: TypeSet = DEFAULT
    embeddings: NDArray[np.float16] | None = None

    def __len__(self) -> int:
        return len(self.types)

    def __getitem__(self, rows: ArrayLike | slice) -> CellTable:
        """Return the rows named by a boolean mask, by indices (negative ones count from the end) or by a slice.

        Raises
        ------
        InputError
            If a mask has another length, or an index is out of range.
        """
        n = len(self)
        if isinstance(rows, slice):
            return self.select(np.arange(n)[rows])
        index = np.atleast_1d(np.asarray(rows))
        if index.dtype == np.bool_ and index.shape != (n,):
            raise InputError(f"The mask has {index.size:,} entries, and there are {n:,} cells.")
        if index.size == 0:
            index = index.astype(np.intp)
        if index.dtype != np.bool_ and not np.issubdtype(index.dtype, np.integer):
            raise InputError(f"Cells are chosen by a mask, by indices or by a slice, not by {index.dtype}.")
        if index.dtype != np.bool_ and index.size and not -n <= index.min() <= index.max() < n:
            raise InputError(f"There is no cell {index.max() if index.max() >= n else index.min()}: there are {n:,}.")
        return self.select(index if index.dtype == np.bool_ else index % max(n, 1))

    def __repr__(self) -> str:
        counted = ", ".join(f"{n:,} {name}" for name, n in self.counts().items() if n) or "none"
        places = f"{len(self.region_names):,} regions" if self.region_names else "no regions"
        scale = "resolution not known" if self.mpp is None else f"level 0 at {self.mpp:g} um/px"
        return f"CellTable of {len(self):,} nuclei\n  {counted}\n  {len(self.features)} features, {places}, {scale}"

    def _repr_html_(self) -> str:
        import cytolite

        return cytolite.describe_html(self)

    @property
    def type_names(self) -> tuple[str, ...]:
        """Names of the types; entry i is that of type i + 1."""
        return self.type_set.names

    @property
    def type(self) -> NDArray[np.str_]:
        """The name of each nucleus's type, (N,)."""
        return np.array(self.type_names)[self.types.astype(np.intp) - 1]

    def counts(self) -> dict[str, int]:
        """Return the number of nuclei of each type, by name."""
        found = np.bincount(self.types, minlength=len(self.type_names) + 1)[1:]
        return dict(zip(self.type_names, found.tolist(), strict=True))

    def to_pandas(self) -> DataFrame:
        """Return a pandas frame without outlines; see `cytolite.to_pandas`."""
        import cytolite

        return cytolite.to_pandas(self)

    def to_geodataframe(self) -> GeoDataFrame:
        """Return a geopandas frame with outlines; see `cytolite.to_geodataframe`."""
        import cytolite

        return cytolite.to_geodataframe(self)

    def to_anndata(self) -> AnnData:
        """Return an annotated matrix of the features; see `cytolite.to_anndata`."""
        import cytolite

        return cytolite.to_anndata(self, self.region_names)

    def to_labels(self, shape: tuple[int, int]) -> NDArray[np.int32]:
        """Return an instance map of level 0, int32 `shape` (rows, columns); see `cytolite.to_labels`."""
        import cytolite

        return cytolite.to_labels(self, shape)

    def plot(self, image: NDArray[np.uint8] | None = None, **options: Any) -> Axes:
        """Draw outlines in the types' colours over an image; see `cytolite.plot_cells`.

        Parameters
        ----------
        image : numpy.ndarray, optional
            uint8 (H, W, 3), whose pixels the outlines count.
        **options
            As of `cytolite.plot_cells`.
        """
        import cytolite

        return cytolite.plot_cells(self, image, **options)

    @classmethod
    def empty(
        cls, feature_names: Sequence[str] = (), type_set: TypeSet = DEFAULT, channels: int | None = None
    ) -> CellTable:
        """Return a table without rows, with the given feature columns and types.

        Parameters
        ----------
        feature_names : sequence of str
            Columns of measurements.
        type_set : TypeSet
            The types that its nuclei could have.
        channels : int, optional
            Numbers in their embeddings.
        """
        return cls(
            vertices=np.empty((0, 2)),
            offsets=np.zeros(1, np.int64),
            centroids=np.empty((0, 2)),
            types=np.empty(0, np.uint8),
            type_probs=np.empty((0, len(type_set)), np.float32),
            area_um2=np.empty(0, np.float32),
            regions=np.empty(0, np.int32),
            features={name: np.empty(0, np.float32) for name in feature_names},
            type_set=type_set,
            embeddings=np.empty((0, channels), np.float16) if channels else None,
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
            region_names=self.region_names,
            mpp=self.mpp,
            type_set=self.type_set,
            embeddings=None if self.embeddings is None else self.embeddings[index],
        )

    def with_types(self, mapping: Mapping[str, str]) -> CellTable:
        """Return the nuclei under other names of their types; probabilities of types that get one name are added.

        Parameters
        ----------
        mapping : mapping of str to str
            New names; types that it does not name keep theirs.

        Raises
        ------
        InputError
            If it names a type that there is not, or fewer than two types are left.
        """
        merged, ids = self.type_set.merged(mapping)
        probs = np.zeros((len(self), len(merged)), np.float32)
        for old, new in enumerate(ids):
            probs[:, new - 1] += self.type_probs[:, old]
        types = np.array([0, *ids], np.uint8)[self.types]
        return replace(self, types=types, type_probs=probs, type_set=merged)

    @staticmethod
    def concatenate(tables: Sequence[CellTable]) -> CellTable:
        """Return the rows of all `tables`, one after the other; they must have the same features and types.

        Raises
        ------
        InputError
            If their types differ, or some have embeddings and others none, or others.
        """
        if not tables:
            return CellTable.empty()
        tables = [t for t in tables if len(t)] or tables[:1]
        if other := next((t.type_set for t in tables if t.type_set != tables[0].type_set), None):
            raise InputError(
                f"Cells of the types {', '.join(tables[0].type_names)} and of {', '.join(other.names)} cannot be in "
                "one table; map one to the other first (`cytolite convert --map`)."
            )
        vectors = [t.embeddings for t in tables if t.embeddings is not None]
        if vectors and (len(vectors) < len(tables) or len({part.shape[1] for part in vectors}) > 1):
            raise InputError("Cells with embeddings and cells without, or with others, cannot be in one table.")
        starts = np.cumsum([0] + [len(t.vertices) for t in tables])
        first = tables[0]
        offsets = [t.offsets[:-1] + start for t, start in zip(tables, starts, strict=False)]
        return CellTable(
            vertices=np.concatenate([t.vertices for t in tables]),
            offsets=np.concatenate([*offsets, starts[-1:]]).astype(np.int64),
            centroids=np.concatenate([t.centroids for t in tables]),
            types=np.concatenate([t.types for t in tables]),
            type_probs=np.concatenate([t.type_probs for t in tables]),
            area_um2=np.concatenate([t.area_um2 for t in tables]),
            regions=np.concatenate([t.regions for t in tables]),
            features={name: np.concatenate([t.features[name] for t in tables]) for name in first.features},
            region_names=first.region_names,
            mpp=first.mpp,
            type_set=first.type_set,
            embeddings=np.concatenate(vectors) if vectors else None,
        )


def with_known_types(type_probs: NDArray[np.float32], types: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return probabilities, float32 (N, types), where rows that are not all known say that the type is certain.

    Where those that are known sum to 1, the others are 0.

    Parameters
    ----------
    type_probs : numpy.ndarray
        float32 (N, types), NaN where it is not known.
    types : numpy.ndarray
        uint8 (N,), from 1.
    """
    probs = np.ascontiguousarray(type_probs).copy()
    missing = np.isnan(probs)
    whole = np.abs(np.nansum(probs, axis=1) - 1) < 1e-3
    probs[missing & whole[:, None]] = 0
    unknown = missing.any(axis=1) & ~whole
    probs[unknown] = np.eye(type_probs.shape[1], dtype=np.float32)[types[unknown].astype(np.intp) - 1]
    return probs


def require_types(table: CellTable, type_set: TypeSet, path: Path) -> None:
    """Check that cells are of the types that a file was opened for.

    Parameters
    ----------
    table : CellTable
        Cells to check.
    type_set : TypeSet
        What the file was opened for.
    path : pathlib.Path
        The file, for the error.

    Raises
    ------
    InputError
        If they are of others.
    """
    if len(table) and table.type_set != type_set:
        raise InputError(
            f"{path.name} is for cells of the types {', '.join(type_set.names)}; these are of "
            f"{', '.join(table.type_names)}."
        )
