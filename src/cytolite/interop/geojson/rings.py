"""From rings as files have them to outlines as a table of cells has them: one open clockwise ring each, and valid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.polygon import orient

from cytolite.errors import InputError
from cytolite.interop.geojson.scan import Scanned
from cytolite.kernels import kernel


@dataclass(frozen=True)
class Outlines:
    """Outlines, one for each polygon or multipolygon of a text.

    Attributes
    ----------
    vertices, offsets : numpy.ndarray
        As in `CellTable`; a ring that has no area is empty.
    centroids : numpy.ndarray
        float64 (N, 2).
    area_px : numpy.ndarray
        float64 (N,).
    n_reduced, n_repaired : int
        How many had holes or several parts, and how many crossed themselves.
    """

    vertices: NDArray[np.float64]
    offsets: NDArray[np.int64]
    centroids: NDArray[np.float64]
    area_px: NDArray[np.float64]
    n_reduced: int = 0
    n_repaired: int = 0

    @property
    def has_area(self) -> NDArray[np.bool_]:
        """Which outlines are more than a line: bool (N,)."""
        return self.area_px > 0

    def take(self, rows: Sequence[int]) -> Outlines:
        """Return the outlines at `rows`, in that order."""
        if len(rows) == len(self.area_px) and list(rows) == list(range(len(rows))):
            return self
        index = np.array(rows, np.intp)
        lengths = np.diff(self.offsets)[index]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        vertices = self.vertices[np.repeat(self.offsets[:-1][index], lengths) + within]
        return Outlines(vertices, offsets, self.centroids[index], self.area_px[index])


def outlines_of(scanned: Scanned) -> Outlines:
    """Return the largest part of each array of coordinates, without holes.

    Parameters
    ----------
    scanned : Scanned
        What `scan_features` found.
    """
    vertices, offsets, n_reduced = _largest_rings(
        scanned.points, scanned.ring_ends, scanned.ring_values, scanned.ring_polygons, scanned.n_values
    )
    return clean_outlines(vertices, offsets, int(n_reduced))


def rings_of(polygons: NDArray[Any], where: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return (vertices, offsets) of the open rings of shapely polygons of one ring, clockwise on the screen.

    A multipolygon of one part is taken for that part.

    Parameters
    ----------
    polygons : numpy.ndarray
        shapely polygons (N,).
    where : str
        What they are of, for errors.

    Raises
    ------
    InputError
        If one is no polygon, or has holes.
    """
    polygons = np.asarray(polygons, object)
    single = (shapely.get_type_id(polygons) == shapely.GeometryType.MULTIPOLYGON) & (
        shapely.get_num_geometries(polygons) == 1
    )
    polygons = np.where(single, shapely.get_geometry(polygons, 0), polygons)
    if (shapely.get_type_id(polygons) != shapely.GeometryType.POLYGON).any() or shapely.is_empty(polygons).any():
        raise InputError(f"{where}: an outline is no polygon.")
    if shapely.get_num_interior_rings(polygons).any():
        raise InputError(f"{where}: an outline is not a polygon of one ring: it has holes.")
    rings = shapely.get_exterior_ring(shapely.force_2d(polygons))
    back = ~shapely.is_ccw(rings)  # in mathematics' sense, where y grows upwards
    rings[back] = shapely.reverse(rings[back])
    lengths = shapely.get_num_points(rings)
    vertices = np.delete(shapely.get_coordinates(rings), np.cumsum(lengths) - 1, axis=0)
    return vertices, np.concatenate([[0], np.cumsum(lengths - 1)])


def clean_outlines(vertices: NDArray[np.float64], offsets: NDArray[np.int64], n_reduced: int = 0) -> Outlines:
    """Return valid outlines and their measures.

    Parameters
    ----------
    vertices, offsets : numpy.ndarray
        Rings without doubled vertices, each clockwise on the screen; those without an area are empty.
    n_reduced : int
        Taken over.
    """
    vertices, offsets, n_repaired = _repair(vertices, offsets)
    centroids, area_px = _measure(vertices, offsets)
    return Outlines(vertices, offsets, centroids, area_px, n_reduced, n_repaired)


def _repair(
    vertices: NDArray[np.float64], offsets: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64], int]:
    """Replace rings that cross themselves by the largest part of what they enclose."""
    doubtful = np.flatnonzero((np.diff(offsets) > 0) & ~_is_star(vertices, offsets))
    if not len(doubtful):
        return vertices, offsets, 0
    lengths = np.diff(offsets)[doubtful]
    starts = np.cumsum(lengths) - lengths
    index = np.repeat(np.arange(len(doubtful)), lengths)
    corners = vertices[np.repeat(offsets[doubtful] - starts, lengths) + np.arange(len(index))]
    polygons = shapely.polygons(shapely.linearrings(corners, indices=index))
    repaired = {}
    for i in np.flatnonzero(~shapely.is_valid(polygons)):
        parts = shapely.get_parts(shapely.make_valid(polygons[i]))
        largest = max((part for part in parts if part.geom_type == "Polygon"), key=shapely.area, default=None)
        ring = shapely.Polygon() if largest is None else orient(shapely.Polygon(largest.exterior))
        repaired[int(doubtful[i])] = shapely.get_coordinates(ring)[:-1]
    if not repaired:
        return vertices, offsets, 0
    n_repaired = sum(len(ring) > 0 for ring in repaired.values())
    rings = [repaired.get(i, vertices[offsets[i] : offsets[i + 1]]) for i in range(len(offsets) - 1)]
    return np.concatenate(rings), np.concatenate([[0], np.cumsum([len(ring) for ring in rings])]), n_repaired


@kernel
def _is_star(vertices, offsets):  # type: ignore[no-untyped-def]
    """Say of each ring whether all of it is seen from its middle: most nuclei are so, and then no sides can cross.

    Every side turns the same way around the middle, and all of them together once.
    """
    out = np.zeros(len(offsets) - 1, np.bool_)
    for k in range(len(out)):
        start, stop = offsets[k], offsets[k + 1]
        x, y = 0.0, 0.0
        for i in range(start, stop):
            x += vertices[i, 0]
            y += vertices[i, 1]
        x /= max(1, stop - start)
        y /= max(1, stop - start)
        rounds = 0
        good = stop > start
        xa, ya = (vertices[stop - 1, 0] - x, vertices[stop - 1, 1] - y) if good else (0.0, 0.0)
        for i in range(start, stop):
            xb, yb = vertices[i, 0] - x, vertices[i, 1] - y
            if not xa * yb - xb * ya > 0:
                good = False
                break
            rounds += ya < 0 <= yb
            xa, ya = xb, yb
        out[k] = good and rounds == 1
    return out


@kernel
def _twice_area(points, start, stop):  # type: ignore[no-untyped-def]
    """Return twice the signed area of a ring, positive if it runs clockwise on the screen (y down)."""
    total = 0.0
    before = stop - 1
    for i in range(start, stop):
        total += (points[before, 0] - points[start, 0]) * (points[i, 1] - points[start, 1])
        total -= (points[i, 0] - points[start, 0]) * (points[before, 1] - points[start, 1])
        before = i
    return total


@kernel
def _largest_rings(points, ends, values, polygons, n_values):  # type: ignore[no-untyped-def]
    """Return vertices, offsets (n_values + 1,) of open clockwise rings, and how many values had more than one ring."""
    best = np.full(n_values, -1, np.int64)
    best_area = np.zeros(n_values)
    n_rings = np.zeros(n_values, np.int64)
    for r in range(len(ends)):
        value = values[r]
        n_rings[value] += 1
        outer = r == 0 or values[r - 1] != value or polygons[r - 1] != polygons[r]
        area = abs(_twice_area(points, ends[r - 1] if r else 0, ends[r]))
        if outer and (best[value] < 0 or area > best_area[value]):
            best[value], best_area[value] = r, area
    vertices = np.empty((len(points), 2))
    offsets = np.zeros(n_values + 1, np.int64)
    at = 0
    for value in range(n_values):
        r = best[value]
        if r >= 0:
            at = _put_ring(points, ends[r - 1] if r else 0, ends[r], vertices, at)
        offsets[value + 1] = at
    return vertices[:at].copy(), offsets, np.int64((n_rings > 1).sum())


@kernel
def _put_ring(points, start, stop, vertices, at):  # type: ignore[no-untyped-def]
    """Write a ring without doubled vertices, clockwise on the screen and open; return where it ends."""
    forward = _twice_area(points, start, stop) > 0
    first = at
    for i in range(stop - start):
        j = start + i if forward else stop - 1 - i
        if at == first or points[j, 0] != vertices[at - 1, 0] or points[j, 1] != vertices[at - 1, 1]:
            vertices[at] = points[j]
            at += 1
    while at - first > 1 and vertices[at - 1, 0] == vertices[first, 0] and vertices[at - 1, 1] == vertices[first, 1]:
        at -= 1
    return at if at - first >= 3 else first


@kernel
def _measure(vertices, offsets):  # type: ignore[no-untyped-def]
    """Return centroids (N, 2) and areas (N,) of polygons; counted from each one's first vertex, to lose no digits."""
    n = len(offsets) - 1
    centroids = np.full((n, 2), np.nan)
    areas = np.zeros(n)
    for k in range(n):
        start, stop = offsets[k], offsets[k + 1]
        if stop == start:
            continue
        x0, y0 = vertices[start]
        total, sum_x, sum_y = 0.0, 0.0, 0.0
        before = stop - 1
        for i in range(start, stop):
            xa, ya = vertices[before, 0] - x0, vertices[before, 1] - y0
            xb, yb = vertices[i, 0] - x0, vertices[i, 1] - y0
            cross = xa * yb - xb * ya
            total += cross
            sum_x += (xa + xb) * cross
            sum_y += (ya + yb) * cross
            before = i
        areas[k] = total / 2
        if total != 0:
            centroids[k, 0], centroids[k, 1] = x0 + sum_x / (3 * total), y0 + sum_y / (3 * total)
    return centroids, areas
