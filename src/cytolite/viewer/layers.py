"""What lies over a slide besides its nuclei: tissue, artefacts, and what `cytolite spatial` wrote of it."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from cytolite.errors import InputError
from cytolite.interop.json_text import unwrapped
from cytolite.interop.result_folder import ARTEFACTS_FILE, TISSUE_FILE
from cytolite.interop.roi import class_name, features_of

SPATIAL = "spatial"
OUTLINES = {
    "tissue": TISSUE_FILE,
    "artefacts": ARTEFACTS_FILE,
    "compartments": f"{SPATIAL}/regions.geojson",
}
DENSITY_FILE = f"{SPATIAL}/density.ome.tif"
_MOST_PX = 4096  # of a density map's longer side, as it is sent
_HIGHEST = 99.5  # percentile of what is not 0 that has the last colour
# Colours from little to much: yellow, orange, red, dark violet; light to dark for any colour vision.
_RAMP = np.array([(255, 237, 160), (254, 178, 76), (240, 59, 32), (128, 0, 38), (60, 0, 50)], np.float64)
# What tifffile and its decoders raise of files that were cut or changed.
_DAMAGED = (OSError, ValueError, KeyError, TypeError, IndexError, RuntimeError, struct.error, zlib.error)
_STRONGEST = 215  # alpha; the slide stays visible


def layers_of(result: Path, mpp: float) -> dict[str, Any]:
    """Return which layers a result has: names of outlines, and of density maps with where they lie.

    Parameters
    ----------
    result : pathlib.Path
        Folder of the result.
    mpp : float
        um per level-0 px.

    Raises
    ------
    InputError
        If the density maps cannot be read.
    """
    outlines = [name for name, file in OUTLINES.items() if (result / file).is_file()]
    names, px_um, shape = _density(result)
    side = px_um / mpp
    return {"outlines": outlines, "densities": names, "density_px": side, "density_size": [shape[1], shape[0]]}


def outlines_of(result: Path, name: str) -> list[dict[str, Any]]:
    """Return the outlines of a layer: name, colour and geometry of each, GeoJSON in level-0 px.

    Parameters
    ----------
    result : pathlib.Path
        Folder of the result.
    name : str
        A key of `OUTLINES`.

    Raises
    ------
    InputError
        If there is none of that name, or its file cannot be read.
    """
    if name not in OUTLINES or not (result / OUTLINES[name]).is_file():
        raise InputError(f"The result has no layer {name[:80]!r}.")
    found = []
    for feature in features_of(result / OUTLINES[name]):
        properties = unwrapped(feature.get("properties")) if isinstance(feature, dict) else None
        geometry = feature.get("geometry") if isinstance(feature, dict) else None
        if isinstance(geometry, dict) and geometry.get("type") in {"Polygon", "MultiPolygon"}:
            properties = properties if isinstance(properties, dict) else {}
            given = str(properties.get("name") or class_name(properties) or name)
            found.append({"name": given, "colour": _colour(properties), "geometry": geometry})
    return found


def _colour(properties: dict[str, Any]) -> list[int] | None:
    classification = unwrapped(properties.get("classification"))
    given = classification.get("color") if isinstance(classification, dict) else None
    fits = isinstance(given, list) and len(given) == 3 and all(type(c) is int and 0 <= c <= 255 for c in given)
    return given if fits else None


def density_png(result: Path, name: str) -> tuple[bytes, float]:
    """Return the density map of a type as a picture, clear where there are none, and what its last colour means.

    Parameters
    ----------
    result : pathlib.Path
        Folder of the result.
    name : str
        Type of cells, a name of `layers_of`.

    Raises
    ------
    InputError
        If there is none.
    """
    names, _, _ = _density(result)
    if name not in names:
        raise InputError(f"The result has no density map of {name[:80]!r}; `cytolite spatial` makes them.")
    try:
        with tifffile.TiffFile(result / DENSITY_FILE) as file:
            density = file.series[0].asarray(key=names.index(name)).astype(np.float64)
    except _DAMAGED as error:
        raise _damaged(result / DENSITY_FILE, error) from None
    coarser = -(-max(density.shape) // _MOST_PX)
    density = np.nan_to_num(density[::coarser, ::coarser])
    known = density[density > 0]
    most = float(np.percentile(known, _HIGHEST)) if len(known) else 1.0
    share = np.clip(density / most, 0, 1)
    picture = np.empty((*density.shape, 4), np.uint8)
    steps = np.linspace(0, 1, len(_RAMP))
    for channel in range(3):
        picture[..., channel] = np.interp(share, steps, _RAMP[:, channel]).round()
    picture[..., 3] = np.minimum(_STRONGEST, 600 * share).round()
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue(), most


def _density(result: Path) -> tuple[list[str], float, tuple[int, int]]:
    """Return names, um per px and (rows, columns) of the density maps; nothing where there are none."""
    path = result / DENSITY_FILE
    if not path.is_file():
        return [], 0.0, (0, 0)
    try:
        with tifffile.TiffFile(path) as file:
            described = tifffile.xml2dict(file.ome_metadata or "<OME/>")
            pixels = described["OME"]["Image"]["Pixels"]
            channels = pixels["Channel"]
            names = [str(c["Name"]) for c in (channels if isinstance(channels, list) else [channels])]
            shape = file.series[0].shape[-2:]
            return names, float(pixels["PhysicalSizeX"]), (int(shape[0]), int(shape[1]))
    except _DAMAGED as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} is damaged ({type(error).__name__} {error}); `cytolite spatial` writes it anew.")
