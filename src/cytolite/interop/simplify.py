"""Outlines with fewer vertices: those of cells follow pixels, in stairs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import shapely

from cytolite.cells import CellTable


class Simplified:
    """Simplifies outlines table by table, and counts what that changes.

    Parameters
    ----------
    tolerance_px : float
        No vertex that is left out lies further than this from the new outline, level-0 px.
    """

    def __init__(self, tolerance_px: float) -> None:
        self._tolerance = tolerance_px
        self._before = self._after = 0
        self._area = self._changed = self._net = 0.0

    def simplify(self, table: CellTable) -> CellTable:
        """Return the cells with simpler outlines, each a valid polygon; everything else is as it was."""
        if not len(table):
            return table
        rings = shapely.linearrings(table.vertices, indices=np.repeat(np.arange(len(table)), np.diff(table.offsets)))
        before = shapely.polygons(rings)
        after = shapely.simplify(before, self._tolerance, preserve_topology=True)
        # Holes cannot arise; what would not be one polygon of some area stays as it is.
        bad = (shapely.get_type_id(after) != 3) | shapely.is_empty(after) | ~shapely.is_valid(after)
        after = np.where(bad, before, after)
        outlines = shapely.get_exterior_ring(after)
        vertices, owners = shapely.get_coordinates(outlines, return_index=True)
        last = np.flatnonzero(np.diff(owners, append=len(table)))
        vertices, owners = np.delete(vertices, last, axis=0), np.delete(owners, last)  # shapely repeats the first
        offsets = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=len(table)))])
        difference = shapely.area(after) - shapely.area(before)
        self._before += len(table.vertices)
        self._after += len(vertices)
        self._area += float(shapely.area(before).sum())
        self._changed += float(np.abs(difference).sum())
        self._net += float(difference.sum())
        return replace(table, vertices=vertices, offsets=offsets.astype(table.offsets.dtype))

    @property
    def note(self) -> str:
        """What was done, in words."""
        whole = max(self._area, 1e-9)
        return (
            f"outlines have {self._after:,} vertices in place of {self._before:,}; their areas changed by "
            f"{self._changed / whole:.2%} a nucleus, {self._net / whole:+.2%} in all (areas and measures are as before)"
        )
