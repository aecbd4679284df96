"""The tissue that densities are counted on, as GeoJSON that QuPath opens as a locked annotation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import shapely
from shapely.geometry import mapping

from cytolite.files import NOTICE, plain_refusal, whole_file

TISSUE_COLOUR = (0, 121, 107)
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
    polygons = [part for part in shapely.get_parts(shapely.set_precision(tissue, _GRID_PX)) if part.area > 0]
    content = {"type": "FeatureCollection", "notice": NOTICE, "features": [_feature(polygons)] if polygons else []}
    with whole_file(path) as file, plain_refusal(Path(path)):
        file.write(orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE))


def _feature(polygons: Sequence[shapely.Polygon]) -> dict[str, Any]:
    outline = polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)
    return {
        "type": "Feature",
        "geometry": {"type": outline.geom_type, "coordinates": _rounded(mapping(outline)["coordinates"])},
        "properties": {
            "objectType": "annotation",
            "name": "Tissue",
            "classification": {"name": "Tissue", "color": TISSUE_COLOUR},
            "isLocked": True,
        },
    }


def _rounded(coordinates: Any) -> Any:
    """Nested coordinates as numbers that are written short: 12.34, not 12.340000000000001."""
    if isinstance(coordinates[0], float):
        return [round(value, 2) for value in coordinates]
    return [_rounded(part) for part in coordinates]
