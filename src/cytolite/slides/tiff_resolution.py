"""What a TIFF says of itself in words: its resolution (OME-XML, descriptions of others, tags), its channels."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import tifffile

from cytolite.files import to_number

_UM_PER = {
    "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "\\u00b5m": 1.0,
    "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "inch": 25_400.0, "in": 25_400.0,
}  # fmt: skip
_UM_PER_TAG_UNIT = {2: 25_400.0, 3: 10_000.0}
_APERIO_MPP = re.compile(r"\bMPP\s*=\s*([0-9]*[.,]?[0-9]+(?:[eE][-+]?[0-9]+)?)")


def tiff_mpp(tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> tuple[float, float] | None:
    """Return um per pixel in x and y as the file says, from the most explicit source; None where it says nothing.

    Parameters
    ----------
    tiff : tifffile.TiffFile
        The open file.
    page : tifffile.TiffPage
        Of level 0.
    """
    if tiff.is_ome and (sizes := _from_ome(tiff.ome_metadata or "", page)):
        return sizes
    if match := _APERIO_MPP.search(page.description):
        return to_number(match[1]), to_number(match[1])
    return _from_tags(page, _imagej_unit(tiff) or _tag_unit(page))


def channel_names(tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> list[str]:
    """Return what a file calls the channels of one of its images: OME's names, ImageJ's labels; else nothing.

    Parameters
    ----------
    tiff : tifffile.TiffFile
        Open.
    series : tifffile.TiffPageSeries
        The image of it.
    """
    if not tiff.is_ome:
        labels = (tiff.imagej_metadata or {}).get("Labels") if tiff.is_imagej else None
        return [str(label) for label in labels] if isinstance(labels, list) else []
    try:
        images = [e for e in ElementTree.fromstring(tiff.ome_metadata or "") if e.tag.endswith("Image")]
        image = images[list(tiff.series).index(series)]
    except (ElementTree.ParseError, IndexError):
        return []
    return [e.get("Name", "") for e in image.iter() if e.tag.endswith("}Channel") or e.tag == "Channel"]


def _from_ome(xml: str, page: tifffile.TiffPage) -> tuple[float, float] | None:
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None
    for element in root.iter():
        sizes = (element.get("SizeX"), element.get("SizeY"))
        if element.tag.endswith("Pixels") and sizes == (str(page.imagewidth), str(page.imagelength)):
            x, y = (_length_um(element, f"PhysicalSize{axis}") for axis in "XY")
            return (x, y) if x and y else None
    return None


def _length_um(element: ElementTree.Element, name: str) -> float | None:
    # um is OME's default unit.
    unit = _UM_PER.get(element.get(f"{name}Unit", "µm"))
    try:
        return to_number(element.get(name, "")) * unit if unit else None
    except ValueError:
        return None


def _imagej_unit(tiff: tifffile.TiffFile) -> float | None:
    return _UM_PER.get(str((tiff.imagej_metadata or {}).get("unit", "")).lower()) if tiff.is_imagej else None


def _tag_unit(page: tifffile.TiffPage) -> float | None:
    tag = page.tags.get("ResolutionUnit")
    # Inch is TIFF's default unit.
    return _UM_PER_TAG_UNIT.get(int(tag.value) if tag else 2)


def _from_tags(page: tifffile.TiffPage, um_per_unit: float | None) -> tuple[float, float] | None:
    tags = [page.tags.get(name) for name in ("XResolution", "YResolution")]
    if um_per_unit is None or None in tags:
        return None
    rationals = [tag.value for tag in tags if tag is not None]
    if any(len(value) != 2 or value[0] == 0 or value[1] == 0 for value in rationals):
        return None
    x, y = (um_per_unit * value[1] / value[0] for value in rationals)
    return x, y
