"""ImageScope XML: the outlines that MoNuSeg and MoNuSAC are published with."""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import shapely
from numpy.typing import NDArray

from cytolite.errors import InputError


@dataclass(frozen=True)
class Region:
    """One outlined nucleus: its label (the layer's first attribute) and its ring, float64 (n, 2), (x, y)."""

    label: str
    ring: NDArray[np.float64]


def find_annotations(image: Path, *elsewhere: Path) -> Path:
    """Return the XML (or XML.gz) of an image's stem, beside it or in a folder `elsewhere`.

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


def read_regions(path: Path) -> tuple[list[Region], float | None]:
    """Read all outlines of an ImageScope XML file, plain or gzipped.

    Regions of fewer than three vertices hold no area and are left out.

    Returns
    -------
    regions : list of Region
    mpp : float or None
        um per pixel, where the file says so.

    Raises
    ------
    InputError
        If the file is missing, is not whole XML, or has a coordinate that is no number.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        root = ElementTree.fromstring(raw)
    except FileNotFoundError:
        raise InputError(f"There is no annotation file {path}.") from None
    except (ElementTree.ParseError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path} is not whole ImageScope XML: {error}.") from None
    regions = []
    for layer in root.iter("Annotation"):
        attribute = layer.find("Attributes/Attribute")
        label = "" if attribute is None else attribute.get("Name", "")
        for region in layer.iter("Region"):
            ring = np.array([(_number(v.get("X"), path), _number(v.get("Y"), path)) for v in region.iter("Vertex")])
            if len(ring) >= 3:
                regions.append(Region(label, ring))
    mpp = root.get("MicronsPerPixel")
    return regions, _number(mpp, path) if mpp else None


def _number(text: str | None, path: Path) -> float:
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{path} is not whole ImageScope XML: a coordinate or resolution is {text!r}.")
    return number


def rasterise(regions: list[Region], shape: tuple[int, int]) -> NDArray[np.int32]:
    """Fill the outlines, pixel by pixel centre: int32 (H, W), region i gets id i + 1.

    Where outlines overlap, the smaller one stays on top; what lies outside the image is cut, and an id
    may be absent.
    """
    labels = np.zeros(shape, np.int32)
    if not regions:
        return labels
    polygons = shapely.make_valid(np.array([shapely.Polygon(r.ring) for r in regions], dtype=object))
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
