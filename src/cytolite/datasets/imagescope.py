"""ImageScope XML: the outlines that MoNuSeg and MoNuSAC are published with."""

from __future__ import annotations

import gzip
import math
import zlib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import shapely
from numpy.typing import NDArray

from cytolite.errors import InputError
from cytolite.files import require_regular, to_number

# What ImageScope calls the kinds of regions; the others are outlines.
_RECTANGLE, _ELLIPSE = "1", "2"
_NO_OUTLINES = {"3": "arrows", "4": "rulers"}
_ELLIPSE_VERTICES = 64


@dataclass(frozen=True)
class Region:
    """One outlined nucleus.

    Attributes
    ----------
    label : str
        The layer's first attribute.
    ring : numpy.ndarray
        float64 (n, 2), (x, y).
    holes : tuple of numpy.ndarray
        Rings within it that are not part of it.
    """

    label: str
    ring: NDArray[np.float64]
    holes: tuple[NDArray[np.float64], ...] = ()

    @property
    def polygon(self) -> shapely.Geometry:
        """What it encloses, valid."""
        outer = shapely.make_valid(shapely.Polygon(self.ring))
        if not self.holes:
            return outer
        return shapely.difference(
            outer, shapely.union_all([shapely.make_valid(shapely.Polygon(h)) for h in self.holes])
        )


def find_annotations(image: Path, *elsewhere: Path) -> Path:
    """Return the XML (or XML.gz) of an image's stem, beside it or in a folder `elsewhere`.

    Parameters
    ----------
    image : pathlib.Path
        File of the image.
    *elsewhere : pathlib.Path
        Folders to look into after the image's own, in this order.

    Raises
    ------
    InputError
        If there is none.
    """
    for place in (image.parent, *elsewhere):
        for suffix in (".xml", ".xml.gz"):
            if (place / (image.stem + suffix)).exists():
                return place / (image.stem + suffix)
    raise InputError(f"There is no annotation file {image.stem}.xml for {image}.")


def read_regions(path: Path) -> tuple[list[Region], float | None, Counter[str]]:
    """Read all outlines of an ImageScope XML file, plain or gzipped.

    Ellipses and rectangles, which ImageScope keeps as two corners, become outlines, and regions that are marked as
    negative (``NegativeROA``) holes of the smallest region of their layer around them. Arrows, rulers and regions of
    fewer than three vertices hold no area and are left out.

    Returns
    -------
    regions : list of Region
    mpp : float or None
        um per pixel, where the file says so.
    left_out : collections.Counter
        What is not among the regions, and how often.

    Raises
    ------
    InputError
        If the file is missing, is not whole XML, or has a coordinate that is no number.
    """
    require_regular(path)
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        root = ElementTree.fromstring(raw)
    except FileNotFoundError:
        raise InputError(f"There is no annotation file {path}.") from None
    except (ElementTree.ParseError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path} is not whole ImageScope XML: {error}.") from None
    regions: list[Region] = []
    left_out: Counter[str] = Counter()
    for layer in root.iter("Annotation"):
        attribute = layer.find("Attributes/Attribute")
        label = "" if attribute is None else attribute.get("Name", "")
        outer: list[Region] = []
        negative: list[NDArray[np.float64]] = []
        for region in layer.iter("Region"):
            ring = _ring(region, path)
            if (kind := region.get("Type", "")) in _NO_OUTLINES:
                left_out[_NO_OUTLINES[kind]] += 1
            elif len(ring) < 3:
                left_out["regions of fewer than three vertices"] += 1
            elif region.get("NegativeROA", "0") == "1":
                negative.append(ring)
            else:
                outer.append(Region(label, ring))
        outer, lost = _with_holes(outer, negative)
        left_out["holes (NegativeROA) outside of any region"] += lost
        regions += outer
    mpp = root.get("MicronsPerPixel")
    return regions, _number(mpp, path) if mpp else None, +left_out


def left_out_note(name: str, left_out: Counter[str]) -> list[str]:
    """Return a sentence about what was left out of a file; none if it was nothing.

    Parameters
    ----------
    name : str
        Of the file.
    left_out : Counter[str]
        How many of what.
    """
    return [f"{name}: left out {', '.join(f'{n} {what}' for what, n in left_out.items())}"] if left_out else []


def _ring(region: ElementTree.Element, path: Path) -> NDArray[np.float64]:
    """Return a region's vertices; of an ellipse or rectangle of two corners its outline."""
    ring = np.array([(_number(v.get("X"), path), _number(v.get("Y"), path)) for v in region.iter("Vertex")])
    if len(ring) != 2 or region.get("Type") not in {_RECTANGLE, _ELLIPSE}:
        return ring
    (x0, y0), (x1, y1) = ring
    if region.get("Type") == _RECTANGLE:
        return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    turn = np.linspace(0, 2 * np.pi, _ELLIPSE_VERTICES, endpoint=False)
    ellipse: NDArray[np.float64] = ring.mean(0) + np.abs(ring[1] - ring[0]) / 2 * np.column_stack(
        [np.cos(turn), np.sin(turn)]
    )
    return ellipse


def _with_holes(outer: list[Region], negative: list[NDArray[np.float64]]) -> tuple[list[Region], int]:
    """Give each hole to the smallest region that holds a point of it; return the regions and how many found none."""
    if not negative:
        return outer, 0
    polygons = [region.polygon for region in outer]
    holes: dict[int, list[NDArray[np.float64]]] = {}
    lost = 0
    for ring in negative:
        inside = shapely.make_valid(shapely.Polygon(ring)).representative_point()
        around = [i for i, polygon in enumerate(polygons) if polygon.contains(inside)]
        if around:
            holes.setdefault(min(around, key=lambda i: polygons[i].area), []).append(ring)
        else:
            lost += 1
    return [replace(region, holes=tuple(holes.get(i, ()))) for i, region in enumerate(outer)], lost


def _number(text: str | None, path: Path) -> float:
    try:
        value = to_number(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{path} is not whole ImageScope XML: a coordinate or resolution is {text!r}.")
    return value


def rasterise(regions: list[Region], shape: tuple[int, int]) -> NDArray[np.int32]:
    """Fill the outlines, pixel by pixel centre: int32 (H, W), region i gets id i + 1.

    Where outlines overlap, the smaller one stays on top; what lies outside the image is cut, and an id
    may be absent.

    Parameters
    ----------
    regions : list of Region
        Outlines in px; a later one lies on top.
    shape : tuple
        (H, W) of the map.
    """
    labels = np.zeros(shape, np.int32)
    if not regions:
        return labels
    polygons = np.array([region.polygon for region in regions], dtype=object)
    for i in np.argsort(-shapely.area(polygons), kind="stable"):
        x0, y0, x1, y1 = polygons[i].bounds
        rows = slice(max(0, math.floor(y0)), min(shape[0], math.ceil(y1)))
        cols = slice(max(0, math.floor(x0)), min(shape[1], math.ceil(x1)))
        if rows.start >= rows.stop or cols.start >= cols.stop:
            continue
        y, x = np.mgrid[rows, cols] + 0.5
        shapely.prepare(polygons[i])
        labels[rows, cols][shapely.contains_xy(polygons[i], x, y)] = i + 1
    return labels
