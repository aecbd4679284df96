"""What is written of an analysis: measures, maps, tiles and regions, each in formats that others open."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

import cytolite
from cytolite.files import NOTICE, whole_file
from cytolite.spatial.analysis import WHOLE, Analysis
from cytolite.spatial.compartments import polygons
from cytolite.spatial.definition import MEASURES
from cytolite.spatial.estimate import Curve, Row
from cytolite.spatial.tiles import FALSE_DISCOVERIES
from cytolite.tables import write_csv

MEASURES_FILE, FORMAT = "measures.json", 1
COLUMNS = ("measure", "region", "types", "value", "low", "high", "type_low", "type_high", "n", "unit")
NUMBERS = ("value", "low", "high", "type_low", "type_high")
_COLOURS = {
    "tumour": (200, 60, 60), "stroma": (120, 150, 210), "other epithelium": (240, 170, 90),
    "lymphoid aggregates": (30, 140, 70),
}  # fmt: skip


def write_measures(folder: Path, a: Analysis, fingerprint: dict[str, Any]) -> None:
    """Write ``measures.json``, ``.csv`` and ``.parquet``.

    Parameters
    ----------
    folder : pathlib.Path
        Is there.
    a : Analysis
    fingerprint : dict
        What the measures are made from, for ``measures.json``.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    content = {"format": FORMAT, "notice": NOTICE, **fingerprint, **describe(a)}
    content["measures"] = _nested(a.rows)
    content["comparisons"] = _nested(a.comparisons)
    content["curves"] = _curves(a.curves)
    with whole_file(folder / MEASURES_FILE) as file:
        file.write(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False).encode())
    table = table_of(a)
    write_csv(folder / "measures.csv", COLUMNS, (row.values() for row in table.to_pylist()))
    with whole_file(folder / "measures.parquet") as file:
        pq.write_table(table, file, compression="zstd")


def describe(a: Analysis) -> dict[str, Any]:
    """What measures.json says beside the measures."""
    about, s = a.sample.about, a.settings
    return {
        "cytolite": cytolite.__version__,
        "slide": about.get("slide", a.sample.folder.name),
        "model": about.get("model"),
        "mpp": a.sample.mpp,
        "nuclei": len(a.sample),
        "types": list(a.roles.names),
        "roles": {role: list(a.roles.types(role)) for role in a.roles.codes},
        "window": {"from": s.window, "px_um": a.sample.window.px_um, "tissue_mm2": a.areas_mm2[WHOLE]},
        "blocks": {"side_um": a.blocks.side_um, "n": a.blocks.n, "resamples": len(a.blocks.weights) - 1},
        "regions": a.areas_mm2,
        "warnings": a.warnings,
        "definitions": {name: vars(MEASURES[name]) for name in MEASURES},
    }


def _number(value: float) -> float | None:
    """Six significant digits; None for what JSON has no number for."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def unit_of(row: Row) -> str:
    """Unit of a row; of a property of nuclei, that of the property."""
    if row.measure != "nucleus_mean":
        return row.definition.unit
    return "µm²" if row.name.endswith("area_um2") else "optical density" if "_od_" in row.name else "1"


def _nested(rows: Iterable[Row]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for row in rows:
        numbers = {name: _number(getattr(row, name)) for name in NUMBERS}
        entry = {**numbers, "n": row.n, "unit": unit_of(row)}
        found.setdefault(row.name, {}).setdefault(row.region, {})[row.types] = entry
    return found


def _curves(curves: Iterable[Curve]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for curve in curves:
        arrays = ("x_um", "value", "low", "high", "null_low", "null_high")
        numbers = {name: [_number(v) for v in getattr(curve, name).tolist()] for name in arrays}
        entry: dict[str, Any] = {name: v for name, v in numbers.items() if any(x is not None for x in v)}
        entry["unit"] = MEASURES[curve.measure].unit
        found.setdefault(curve.measure, {}).setdefault(curve.region, {})[curve.types] = entry
    return found


def table_of(a: Analysis) -> pa.Table:
    """Measures as a table of `COLUMNS`; differences between regions have names that end in ``_difference``."""
    rows = [(row, row.name) for row in a.rows] + [(row, f"{row.name}_difference") for row in a.comparisons]
    columns: dict[str, Any] = {
        "measure": [name for _, name in rows],
        "region": [row.region for row, _ in rows],
        "types": [row.types for row, _ in rows],
        **{name: pa.array([_number(getattr(row, name)) for row, _ in rows], pa.float64()) for name in NUMBERS},
        "n": pa.array([row.n for row, _ in rows], pa.int64()),
        "unit": [unit_of(row) for row, _ in rows],
    }
    return pa.table(columns)


# ---- maps ------------------------------------------------------------------------------------------------------------


def write_density(path: Path, a: Analysis) -> None:
    """Write the density maps as an OME-TIFF of floats, a channel a type, over the whole slide; 0 off the tissue.

    Parameters
    ----------
    path : pathlib.Path
        OME-TIFF to write.
    a : Analysis

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    import tifffile

    window = a.sample.window
    before = [round(o / window.px_um) for o in reversed(window.origin_um)]
    about = a.sample.about
    least = [n + b for n, b in zip(window.mask.shape, before, strict=True)]
    slide = [math.ceil(float(about.get(key) or 0) * a.sample.mpp / window.px_um) for key in ("height_px", "width_px")]
    shape = [max(pair) for pair in zip(least, slide, strict=True)]
    stack = np.zeros((len(a.maps), *shape), np.float32)
    place = tuple(slice(b, b + n) for b, n in zip(before, window.mask.shape, strict=True))
    for channel, density in zip(stack, a.maps.values(), strict=True):
        channel[place] = density
    metadata = {
        "axes": "CYX",
        "Name": f"nuclei per mm2, sigma {a.settings.scale_um:g} um",
        "PhysicalSizeX": window.px_um, "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": window.px_um, "PhysicalSizeYUnit": "µm",
        "Channel": {"Name": list(a.maps)},
    }  # fmt: skip
    with whole_file(path) as file:
        tifffile.imwrite(
            file, stack, ome=True, metadata=metadata, photometric="minisblack", compression="zlib", tile=(256, 256)
        )


def write_tiles(path: Path, a: Analysis) -> None:
    """Write the tiles as GeoParquet, outlines in level-0 px.

    Parameters
    ----------
    path : pathlib.Path
        GeoParquet to write.
    a : Analysis

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    tiles, names = a.tiles, a.roles.names
    columns: dict[str, Any] = {
        "tile_id": np.arange(1, len(tiles.keys) + 1),
        "geometry": pa.array(shapely.to_wkb(_to_px(tiles.polygons(), a)).tolist(), pa.binary()),
        "tissue_um2": tiles.tissue_um2,
    }
    for t, name in enumerate(names):
        n = a.tile_counts[:, t]
        columns |= {
            name: n.astype(np.int32),
            f"{name}_per_mm2": (n / tiles.tissue_um2 * 1e6).astype(np.float32),
            f"{name}_gi_z": a.spot_z[:, t].astype(np.float32),
            f"{name}_gi_q": a.spot_q[:, t].astype(np.float32),
        }
    geo = {"encoding": "WKB", "geometry_types": ["Polygon"], "crs": None}
    about = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": geo}}
    table = pa.table(columns).replace_schema_metadata({"geo": json.dumps(about)})
    with whole_file(path) as file:
        pq.write_table(table, file, compression="zstd")


def _to_px(geometries: Any, a: Analysis) -> Any:
    return shapely.transform(geometries, lambda xy: xy / a.sample.mpp)


# ---- regions ---------------------------------------------------------------------------------------------------------


def write_regions(path: Path, a: Analysis) -> None:
    """Write compartments, lymphoid aggregates one by one, and hot spots as GeoJSON annotations for QuPath.

    Parameters
    ----------
    path : pathlib.Path
        GeoJSON to write, in level-0 px.
    a : Analysis

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    from scipy.ndimage import find_objects

    window, features = a.sample.window, []
    row, col = window.at(a.sample.xy)
    for name, mask in a.compartments.masks.items():
        if name != "lymphoid aggregates":
            features.append(
                _feature(name, name, polygons(mask, window), mask=mask, nuclei=int(mask[row, col].sum()), a=a)
            )
    cells = np.bincount(a.compartments.aggregates[row, col])
    for number, place in enumerate(find_objects(a.compartments.aggregates), start=1):
        mask = a.compartments.aggregates[place] == number
        outline = polygons(mask, window.part(place))
        name = f"lymphoid aggregate {number}"
        features.append(_feature(name, "lymphoid aggregates", outline, mask=mask, nuclei=int(cells[number]), a=a))
    features += _spots(a)
    with whole_file(path) as file:
        file.write(json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False).encode())


def _feature(
    name: str, kind: str, outline: Any, *, mask: NDArray[np.bool_], nuclei: int, a: Analysis
) -> dict[str, Any]:
    """An annotation, its ground cut to what is tissue."""
    area = float(mask.sum()) * a.sample.window.px_um**2 / 1e6
    return _annotation(name, kind, outline, {"tissue mm2": round(area, 6), "nuclei": nuclei}, a)


def _annotation(name: str, kind: str, outline: Any, numbers: dict[str, float], a: Analysis) -> dict[str, Any]:
    colour = _COLOURS.get(kind, (150, 150, 150))
    geometry = shapely.transform(_to_px(outline, a), lambda xy: np.round(xy, 1))
    return {
        "type": "Feature",
        "geometry": shapely.geometry.mapping(geometry),
        "properties": {
            "objectType": "annotation", "name": name, "classification": {"name": kind, "color": list(colour)},
            "isLocked": True, "measurements": numbers,
        },
    }  # fmt: skip


def _spots(a: Analysis) -> list[dict[str, Any]]:
    outlines = a.tiles.polygons()
    features = []
    for t, name in enumerate(a.roles.names):
        sure = a.spot_q[:, t] < FALSE_DISCOVERIES
        for kind, chosen in (("hot", sure & (a.spot_z[:, t] > 0)), ("cold", sure & (a.spot_z[:, t] < 0))):
            if chosen.any():
                area = float(a.tiles.tissue_um2[chosen].sum()) / 1e6
                numbers = {"tissue mm2": round(area, 6), "nuclei": int(a.tile_counts[chosen, t].sum())}
                joined = shapely.union_all(outlines[chosen])
                features.append(_annotation(f"{name}: {kind} spots", f"{name}: {kind} spots", joined, numbers, a))
    return features


def read_measures(folder: Path) -> dict[str, Any]:
    """Return a ``measures.json``; empty if there is none that can be read."""
    try:
        content = json.loads((folder / MEASURES_FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and content.get("format") == FORMAT else {}


def rows_in(content: dict[str, Any]) -> Sequence[dict[str, Any]]:
    """Return the measures of a ``measures.json`` as flat rows of `COLUMNS`."""
    return [
        {"measure": measure, "region": region, "types": types, **entry}
        for measure, regions in content["measures"].items()
        for region, kinds in regions.items()
        for types, entry in kinds.items()
    ]
