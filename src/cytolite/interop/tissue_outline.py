"""The tissue that densities are counted on, as GeoJSON that QuPath opens as a locked annotation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import shapely
from shapely.geometry import mapping

from cytolite.files import NOTICE, plain_refusal, whole_file

TISSUE_COLOUR, ARTEFACT_COLOUR = (0, 121, 107), (216, 100, 20)
_GRID_PX = 0.01


def write_tissue(path: str | Path, tissue: shapely.Geometry) -> None:
    """Write the tissue as a FeatureCollection of one Feature, valid after rounding to 0.01 px; of none if it is empty.

    Parameters
    ----------
    path : str or pathlib.Path
        Final name.
    tissue : shapely.Geometry
        Polygons with holes, level-0 px; lines and points among them are left out.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    _write(path, {"Tissue": tissue}, "Tissue", TISSUE_COLOUR)


def write_artefacts(path: str | Path, found: Mapping[str, shapely.Geometry]) -> None:
    """Write what is no good of a slide, as `write_tissue`: a Feature for each kind, named "Artefact: blur" and so on.

    A file of its own: whoever takes ``tissue.geojson`` for regions, or for an area, wants tissue alone.

    Parameters
    ----------
    path : str or pathlib.Path
        File to write.
    found : mapping
        Outline of each kind, level-0 px.
    """
    _write(path, {f"Artefact: {kind}": outline for kind, outline in found.items()}, "Artefact", ARTEFACT_COLOUR)


def _write(path: str | Path, outlines: Mapping[str, shapely.Geometry], kind: str, colour: tuple[int, int, int]) -> None:
    features = []
    for name, outline in outlines.items():
        polygons = [part for part in shapely.get_parts(_on_grid(outline)) if part.area > 0]
        features += [_feature(polygons, name, kind, colour)] if polygons else []
    content = {"type": "FeatureCollection", "notice": NOTICE, "features": features}
    with whole_file(path) as file, plain_refusal(Path(path)):
        file.write(orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE))


def _on_grid(outline: shapely.Geometry) -> shapely.Geometry:
    """Round coordinates to what is written. Outlines of masks stay valid; what does not is cut anew, slowly."""
    rounded = shapely.transform(outline, lambda xy: np.round(xy, 2))
    polygonal = rounded.geom_type in {"Polygon", "MultiPolygon"}
    return rounded if polygonal and shapely.is_valid(rounded) else shapely.set_precision(outline, _GRID_PX)


def _feature(polygons: Sequence[shapely.Polygon], name: str, kind: str, colour: tuple[int, int, int]) -> dict[str, Any]:
    outline = polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)
    return {
        "type": "Feature",
        "geometry": {"type": outline.geom_type, "coordinates": _rounded(mapping(outline)["coordinates"])},
        "properties": {
            "objectType": "annotation",
            "name": name,
            "classification": {"name": kind, "color": colour},
            "isLocked": True,
        },
    }


def _rounded(coordinates: Any) -> Any:
    """Nested coordinates as numbers that are written short: 12.34, not 12.340000000000001."""
    if isinstance(coordinates[0], float):
        return [round(value, 2) for value in coordinates]
    return [_rounded(part) for part in coordinates]
