"""The cells of a result, by place: what the browser draws, as bytes that go to the graphics card as they are."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cytolite.errors import InputError
from cytolite.interop.parquet import iter_cells, open_cells, read_types
from cytolite.interop.roi import Region
from cytolite.viewer.layout import CHUNK_PX, OUTLINE_TILE_PX, POINT, STEPS, UNKNOWN, by_tile

_SEED = 0
# What can be coloured besides the table's own columns: how little the likeliest type stands out.
UNCERTAINTY = "uncertainty"
_NO_MEASURES = {"cell_id", "x_px", "y_px"}
# What is beyond these percentiles has the first or the last colour: one odd cell must not take the colours of all.
_SHOWN = (1, 99)


def measures_of(path: Path) -> list[str]:
    """Return what the cells of a ``cells.parquet`` can be coloured by: told by its schema, no cell is read.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    with open_cells(path) as file:
        fields = list(file.schema_arrow)
    numbers = [f.name for f in fields if pa.types.is_integer(f.type) or pa.types.is_floating(f.type)]
    return [UNCERTAINTY, *(name for name in numbers if name not in _NO_MEASURES)]


class CellIndex:
    """Cells of one ``cells.parquet``, read once.

    Centroids, types and certainties stay in memory (about 40 bytes a cell); outlines wait in a scratch file that
    ends with this object, so that a million cells take no more memory than their centroids.

    Attributes
    ----------
    centroids : numpy.ndarray
        float64 (N, 2), (x, y), level-0 px, in the file's order.
    type_set : TypeSet
        What the ids of types mean.
    types : numpy.ndarray
        uint8 (N,).
    certainties : numpy.ndarray
        float32 (N,): the probability of the cell's type.
    areas_um2 : numpy.ndarray
        float32 (N,).

    Raises
    ------
    InputError
        If the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.type_set = path, read_types(path)
        self._outlines = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the index
        centroids, types, certainties, areas, lengths = [], [], [], [], []
        for table in iter_cells(path):
            centroids.append(table.centroids)
            types.append(table.types)
            certainties.append(table.type_probs[np.arange(len(table)), table.types.astype(np.intp) - 1])
            areas.append(table.area_um2)
            lengths.append(np.diff(table.offsets))
            self._outlines.write(table.vertices.astype("<f4").tobytes())
        self._outlines.flush()
        self.centroids = np.concatenate(centroids)
        self.types, self.certainties = np.concatenate(types), np.concatenate(certainties)
        self.areas_um2 = np.concatenate(areas)
        self._starts = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)
        self._order, self._tiles = by_tile(self.centroids, OUTLINE_TILE_PX)

    def __len__(self) -> int:
        return len(self.types)

    def points(self) -> bytes:
        """Return all cells as points, chunk by chunk.

        A little-endian header, uint32: number of chunks, `CHUNK_PX`; for each chunk uint32 column, row, number of
        points. Then the points (`POINT`). Those of a chunk are in random order (the same each time), so that the first
        tenth of them is a fair picture of all.
        """
        shuffled = np.random.default_rng(_SEED).permutation(len(self))
        order, tiles = by_tile(self.centroids[shuffled], CHUNK_PX)
        rows = shuffled[order]
        chunks = np.array([(c, r, stop - start) for (c, r), (start, stop) in tiles.items()], "<u4").reshape(-1, 3)
        points = np.empty(len(self), POINT)
        points["x"], points["y"] = self.centroids[rows].T
        points["type"] = self.types[rows]
        points["certainty"] = np.round(255 * self.certainties[rows])
        points["shade"], points["pad"], points["row"] = UNKNOWN, 0, rows
        return np.array([len(chunks), CHUNK_PX], "<u4").tobytes() + chunks.tobytes() + points.tobytes()

    def outlines(self, column: int, row: int) -> bytes:
        """Return the cells whose centroid lies in a square of `OUTLINE_TILE_PX`, with their outlines.

        Little-endian: uint32 number of cells n and of vertices v; uint32 (n,) number of the cell's row in the file;
        uint32 (n + 1,) where its vertices start; float32 (n,) certainty; float32 (n,) area in um2;
        float32 (v, 2) vertices from the corner of the square, level-0 px; uint8 (n,) type.

        Parameters
        ----------
        column, row : int
            Of the square.
        """
        start, stop = self._tiles.get((column, row), (0, 0))
        rows = np.sort(self._order[start:stop])
        lengths = self._starts[rows + 1] - self._starts[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        vertices = np.empty((0, 2), np.float32)
        if len(rows):
            stored = np.memmap(self._outlines, "<f4", "r", shape=(int(self._starts[-1]), 2))
            # Each outline's start repeated, plus a running count within it.
            vertices = stored[np.repeat(self._starts[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])]
            vertices = vertices - np.array([column, row], np.float32) * OUTLINE_TILE_PX
        return b"".join(
            part.tobytes()
            for part in (
                np.array([len(rows), len(vertices)], "<u4"),
                rows.astype("<u4"),
                offsets.astype("<u4"),
                self.certainties[rows].astype("<f4"),
                self.areas_um2[rows].astype("<f4"),
                vertices.astype("<f4"),
                self.types[rows],
            )
        )

    def numbers(self, row: int) -> dict[str, Any]:
        """Return every number that the file has of the cell in a row of it; one that is unknown is None.

        Raises
        ------
        InputError
            If there is no such row.
        """
        if not 0 <= row < len(self):
            raise InputError(f"There is no cell in row {row}; the result has {len(self):,}.")
        with open_cells(self.path) as file:
            group = 0
            while row >= (size := file.metadata.row_group(group).num_rows):
                row, group = row - size, group + 1
            columns = [name for name in file.schema_arrow.names if name not in {"geometry", "bbox", "embedding"}]
            [cell] = file.read_row_group(group, columns).slice(row, 1).to_pylist()
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in cell.items()
        }

    def outline(self, row: int) -> NDArray[np.float64]:
        """Return the outline of a cell, float64 (vertices, 2), level-0 px."""
        stored = np.memmap(self._outlines, "<f4", "r", shape=(int(self._starts[-1]), 2))
        return np.asarray(stored[self._starts[row] : self._starts[row + 1]], np.float64)

    def measure(self, name: str) -> NDArray[np.float64]:
        """Return a number of each cell, float64 (N,), NaN where it is not known.

        Raises
        ------
        InputError
            If there is none of that name.
        """
        if name not in (names := measures_of(self.path)):
            raise InputError(f"There is no measure {name[:80]!r} here; there are {', '.join(names)}.")
        if name == UNCERTAINTY:
            return np.concatenate([1 - margins(table.type_probs) for table in iter_cells(self.path)])
        with open_cells(self.path) as file:
            column = file.read([name])[name]
        return np.asarray(column.cast(pa.float64()).to_numpy(), np.float64)

    def steps(self, name: str) -> bytes:
        """Return a measure as the browser colours it.

        Little-endian: float32 least and most, percentiles 1 and 99 (those of a probability are 0 and 1); uint8 (N,)
        the step between them, 0 to `STEPS`, or `UNKNOWN`.
        """
        values = self.measure(name)
        known = values[np.isfinite(values)]
        low, high = np.percentile(known, _SHOWN) if len(known) else (0.0, 1.0)
        if name == UNCERTAINTY or name in self.type_set.probs:
            low, high = 0.0, 1.0
        scaled = np.clip((values - low) / max(high - low, 1e-12), 0, 1) * STEPS
        steps = np.where(np.isfinite(values), np.round(np.nan_to_num(scaled)), UNKNOWN).astype(np.uint8)
        return np.array([low, high], "<f4").tobytes() + steps.tobytes()

    def inside(self, regions: Sequence[Region], hidden: Collection[int] = (), least: float = 0) -> NDArray[np.int64]:
        """Return the rows of cells whose centroid lies in one of some regions, int64 ascending.

        Parameters
        ----------
        regions : sequence of Region
            In level-0 px.
        hidden : collection of int
            Types that do not count.
        least : float
            The least probability of a cell's type that counts.
        """
        chosen = np.zeros(len(self), np.bool_)
        for region in regions:
            chosen |= region.contains(self.centroids)
        chosen &= ~np.isin(self.types, list(hidden)) & (self.certainties >= least)
        return np.flatnonzero(chosen)

    def counts(self) -> NDArray[np.int64]:
        """Return how many cells of each type there are, from type 1 on."""
        return np.bincount(self.types, minlength=2)[1:]


def margins(type_probs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return how far the likeliest type of each cell stands out: its probability less the next one's, float64 (N,)."""
    two = np.sort(type_probs.astype(np.float64), axis=1)[:, -2:]
    return two[:, -1] - two[:, 0]
