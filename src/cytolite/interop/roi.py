"""Regions of interest: QuPath's annotations, read from GeoJSON, and which of them holds a point."""

from __future__ import annotations

import gzip
import logging
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon, shape

from cytolite.errors import InputError, UsageError
from cytolite.files import require_regular
from cytolite.interop.json_text import parse, unwrapped

log = logging.getLogger("cytolite")

# What QuPath calls objects that are no regions, in today's files and in those of QuPath 0.2.
_NOT_REGIONS = {"detection", "cell", "tile", "pathdetectionobject", "pathcellobject", "pathtileobject"}
# The row of all cells in tables by region; no region may be called so.
TOTAL = "total"
_GEOMETRIES = {
    "Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon", "GeometryCollection",
}  # fmt: skip


@dataclass(frozen=True)
class Region:
    """A region of interest.

    Attributes
    ----------
    name : str
        Unique among the regions of a file.
    polygon : shapely.Polygon or shapely.MultiPolygon
        Valid, in level-0 px, (x, y).
    """

    name: str
    polygon: Polygon | MultiPolygon

    def __post_init__(self) -> None:
        shapely.prepare(self.polygon)

    def contains(self, xy: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Say which points (N, 2) lie in the region or on its border: bool (N,).

        The border counts, so that no cell is lost between two regions that touch.
        """
        x, y = np.asarray(xy, np.float64).reshape(-1, 2).T
        left, top, right, bottom = self.polygon.bounds
        inside: NDArray[np.bool_] = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
        inside[inside] = shapely.intersects_xy(self.polygon, x[inside], y[inside])
        return inside


def assign(regions: Sequence[Region], xy: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return the index of the region that holds each point (N, 2), -1 where none does: int32 (N,).

    Of several, the smallest wins (the first among equals): a region drawn inside another takes its cells out of it.

    Parameters
    ----------
    regions : sequence of Region
        May overlap.
    xy : numpy.ndarray
        float64 (N, 2), level-0 px.
    """
    out = np.full(len(xy), -1, np.int32)
    if not len(xy) or not regions:
        return out
    order = _by_size(regions)
    polygons = np.array([regions[i].polygon for i in order], dtype=object)
    left, top, right, bottom = shapely.bounds(polygons).T
    (x0, y0), (x1, y1) = np.min(xy, axis=0), np.max(xy, axis=0)
    near = np.flatnonzero((left <= x1) & (right >= x0) & (top <= y1) & (bottom >= y0))
    # The index is of the points: polygons are prepared, and one of many corners then answers for many points fast.
    rank, point = shapely.STRtree(shapely.points(xy)).query(polygons[near], predicate="intersects")
    smallest = np.full(len(xy), len(order))
    np.minimum.at(smallest, point, near[rank])
    found = smallest < len(order)
    out[found] = np.array(order)[smallest[found]]
    return out


def own_parts(regions: Sequence[Region]) -> list[shapely.Geometry]:
    """Return what each region keeps when the smaller ones that overlap it take their part: the area for densities.

    A point inside such a part (not on a border) is one that `assign` gives to that region. Parts may be empty.
    """
    order = _by_size(regions)
    polygons = np.array([regions[i].polygon for i in order], dtype=object)
    larger, smaller = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    earlier = smaller < larger
    # Sorted by the larger of each pair, so that its smaller ones follow each other.
    pairs = np.argsort(larger[earlier], kind="stable")
    larger, smaller = larger[earlier][pairs], smaller[earlier][pairs]
    starts = np.searchsorted(larger, np.arange(len(order) + 1))
    parts: list[shapely.Geometry] = list(polygons)
    for rank in np.unique(larger):
        taken = shapely.union_all(polygons[smaller[starts[rank] : starts[rank + 1]]])
        parts[rank] = shapely.difference(polygons[rank], taken)
    return [parts[rank] for rank in np.argsort(order)]


def _by_size(regions: Sequence[Region]) -> list[int]:
    """Return the indices of the regions from the smallest on, the first among equals first."""
    return sorted(range(len(regions)), key=lambda i: regions[i].polygon.area)


def require_overlap(regions: Iterable[Region], width_px: int, height_px: int) -> None:
    """Check that every region reaches into a slide of this size.

    Parameters
    ----------
    regions : iterable of Region
        To check.
    width_px, height_px : int
        Of the slide, level-0 px.

    Raises
    ------
    InputError
        If one lies wholly outside: the file belongs to another slide, or to another resolution of it.
    """
    outside = [r.name for r in regions if not _reaches_into(r.polygon, width_px, height_px)]
    if outside:
        some = ", ".join(map(repr, outside[:3])) + (f" and {len(outside) - 3} more" if len(outside) > 3 else "")
        raise InputError(
            f"The region {some} lies outside of the slide, which is {width_px} x {height_px} px; "
            "export the annotations of this slide, in pixels of its full resolution."
        )


def _reaches_into(geometry: Polygon | MultiPolygon, width_px: int, height_px: int) -> bool:
    return bool(geometry.relate_pattern(shapely.box(0, 0, width_px, height_px), "T********"))  # interiors meet


def read_regions(path: str | Path) -> list[Region]:
    """Read the regions of a GeoJSON file, plain or gzipped, as QuPath exports annotations.

    A FeatureCollection, an array of features, one feature and a bare geometry are read; polygons may have holes and
    several parts. Detections, cells, points, lines, missing cores of a tissue microarray and features without a
    usable outline are left out, with a line in the log. A region is named after its annotation, else its class, else
    "region 1", "region 2", ...; white space and control characters become single spaces, and a name that was used
    gets a number, as does "total", in whatever case. Outlines that cross themselves are repaired.

    Parameters
    ----------
    path : str or pathlib.Path
        The file.

    Returns
    -------
    list of Region
        In the file's order; at least one.

    Raises
    ------
    InputError
        If the file is missing or no GeoJSON, or holds no region.
    """
    path = Path(path)
    return regions_of(_load(path), path)


def regions_of(content: Any, path: Path) -> list[Region]:
    """Return the regions of GeoJSON that is parsed already, as `read_regions` does; `path` is named in what is said.

    Parameters
    ----------
    content : Any
        Parsed GeoJSON.
    path : pathlib.Path
        The file, for errors.
    """
    regions: list[Region] = []
    taken = {TOTAL}
    no_regions, missing, unusable = 0, 0, list[str]()
    for number, feature in enumerate(_features(content, path), start=1):
        try:
            properties, where = _properties(feature, f"{path}, feature {number}")
            if _kind(feature, properties) in _NOT_REGIONS:
                no_regions += 1
                continue
            if str(properties.get("isMissing")).lower() == "true":
                missing += 1
                continue
            name = _name(properties)
            geometry = _region_geometry(feature.get("geometry"), f"{where} ({name!r})" if name else where)
        except InputError as error:
            unusable.append(str(error))
            continue
        regions.append(Region(_unique(name or f"region {len(regions) + 1}", taken), geometry))
    if no_regions:
        _warn(f"{path}: {no_regions} detections or cells were skipped; regions are annotations.")
    if missing:
        _warn(f"{path}: {missing} cores that are marked as missing were left out.")
    if not regions and unusable:
        raise InputError(unusable[0])
    if not regions:
        held = [f"only {no_regions} detections or cells"] * (no_regions > 0) + ["missing cores"] * (missing > 0)
        raise InputError(
            f"{path} holds {' and '.join(held) or 'no features'}; at least one annotation with a polygon is needed."
        )
    if unusable:
        _warn(f"{path}: {len(unusable)} features were left out as regions; the first: {unusable[0]}")
    return regions


@lru_cache(maxsize=1024)
def _warn(text: str) -> None:
    """Say something of a file once: it is read for every slide of a batch."""
    log.warning("%s", text)


def _load(path: Path) -> Any:
    require_regular(path)
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}; name a GeoJSON file of regions.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise InputError(f"{path} is a damaged gzip file; export the annotations again.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from None
    return parse(data, path, "GeoJSON")


def features_of(path: Path) -> list[Any]:
    """Return the features of a GeoJSON file, plain or gzipped, as they are; a bare geometry becomes one without more.

    Raises
    ------
    InputError
        If the file is missing or no GeoJSON.
    """
    return _features(_load(path), path)


def _features(content: Any, path: Path) -> list[Any]:
    """Return the features of any of the shapes that GeoJSON comes in, not yet judged one by one."""
    if isinstance(content, dict) and content.get("type") == "FeatureCollection":
        content = content.get("features")
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        raise InputError(f"{path} is JSON but not GeoJSON: a FeatureCollection of annotations is needed.")
    return [
        {"geometry": item} if isinstance(item, dict) and item.get("type") in _GEOMETRIES else item for item in content
    ]


def _properties(feature: Any, where: str) -> tuple[dict[str, Any], str]:
    """Return a feature's properties and where it is, for messages."""
    if not isinstance(feature, dict) or feature.get("type", "Feature") != "Feature" or "geometry" not in feature:
        raise InputError(f"{where} is neither a GeoJSON feature nor a geometry.")
    properties = unwrapped(feature.get("properties")) or {}
    if not isinstance(properties, dict):
        raise InputError(f"{where}: its properties are not an object; export the annotations from QuPath again.")
    return properties, where


def _kind(feature: dict[str, Any], properties: dict[str, Any]) -> str:
    kind = properties.get("objectType") or properties.get("object_type") or feature.get("id")
    return str(kind).replace("_", "").lower()


def class_name(properties: Mapping[str, Any]) -> str:
    """Return the name of an object's class, in any of the ways that QuPath has written it; empty if it has none."""
    classification = unwrapped(properties.get("classification"))
    if isinstance(classification, dict):
        classification = classification.get("name") or classification.get("names")
    if isinstance(classification, list):
        classification = ": ".join(map(str, classification))
    return classification.strip() if isinstance(classification, str) else ""


def _name(properties: dict[str, Any]) -> str:
    """Return an annotation's name, else its class, else an empty string; on one line."""
    name = properties.get("name")
    name = (name.strip() if isinstance(name, str) else "") or class_name(properties)
    return " ".join("".join(c if c.isprintable() else " " for c in name).split())


def _unique(name: str, taken: set[str]) -> str:
    """Return a name, with a number where it is taken, and take it."""
    free = next(new for i in count(1) if (new := name if i == 1 else f"{name} {i}").casefold() not in taken)
    taken.add(free.casefold())
    return free


def _region_geometry(content: Any, where: str) -> Polygon | MultiPolygon:
    """Return the polygons of a GeoJSON geometry, valid and flat."""
    if content is None:
        raise InputError(f"{where}: it has no geometry.")
    try:
        with np.errstate(invalid="ignore"):  # coordinates that are no numbers are told below
            geometry = shapely.force_2d(shape(content))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, shapely.errors.ShapelyError) as error:
        raise InputError(f"{where}: its geometry cannot be read ({str(error) or type(error).__name__}).") from None
    parts = _simple_parts(geometry)
    areas = [part for part in parts if part.geom_type == "Polygon"]
    if others := {part.geom_type for part in parts} - {"Polygon"}:
        what = f"it is or holds a {min(others)}; a region is an area: a polygon, rectangle, ellipse or brush."
        if not areas:
            raise InputError(f"{where}: {what}")
        _warn(f"{where}: {what} Its polygons are used.")
    if not np.isfinite(shapely.get_coordinates(geometry)).all():
        raise InputError(f"{where}: its coordinates are not all numbers.")
    # Also joins the polygons of a collection. Lines and points that a repair leaves over have no area.
    repaired = shapely.union_all([shapely.make_valid(part) for part in areas])
    polygons = [part for part in _simple_parts(repaired) if part.geom_type == "Polygon" and part.area > 0]
    if not polygons:
        raise InputError(f"{where}: its polygon has no area.")
    return polygons[0] if len(polygons) == 1 else MultiPolygon(polygons)


def _simple_parts(geometry: Any) -> list[Any]:
    """Return the points, lines and polygons that a geometry is made of, however nested."""
    if not hasattr(geometry, "geoms"):
        return [geometry]
    return [simple for part in geometry.geoms for simple in _simple_parts(part)]
