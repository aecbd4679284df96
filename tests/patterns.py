"""Point patterns with known answers, and results made of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import shapely

from cytolite.cells import CellTable
from cytolite.celltypes import N_TYPES, by_name
from cytolite.interop.parquet import CellsWriter

MPP = 0.5


def strewn(n: int, width_um: float, height_um: float, seed: int = 0) -> np.ndarray:
    """Points by chance in a rectangle from (0, 0), um."""
    return np.random.default_rng(seed).uniform(0, 1, (n, 2)) * [width_um, height_um]


def lattice(side: int, spacing_um: float) -> tuple[np.ndarray, np.ndarray]:
    """A square lattice and its checkerboard of 0 and 1; moved by a thousandth, so that triangulation is unique."""
    row, col = np.indices((side, side)).reshape(2, -1)
    jitter = np.random.default_rng(0).uniform(-1, 1, (side * side, 2)) * 1e-3
    return (np.column_stack([col, row]) + 0.5 + jitter) * spacing_um, (row + col) % 2


def nest(radius_um: float = 300.0, ring_um: float = 400.0, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """A disk of tumour cells in a ring of lymphocytes in a square of stroma, 1,200 um wide; about 5,000 cells a mm2."""
    xy = strewn(7_000, 1_200, 1_200, seed)
    distance = np.hypot(*(xy - 600).T)
    names = np.where(distance < radius_um, "neoplastic", np.where(distance < ring_um, "lymphocyte", "connective"))
    return xy, names.tolist()


def table(xy_um: np.ndarray, names: Sequence[str], certainty: float = 1.0) -> CellTable:
    """Cells of 8 x 8 um around points, level-0 px at `MPP`."""
    n = len(xy_um)
    corners = np.array([(-4, -4), (4, -4), (4, 4), (-4, 4)]) / MPP
    types = np.array([by_name(name).id for name in names], np.uint8)
    probs = np.full((n, N_TYPES), (1 - certainty) / (N_TYPES - 1), np.float32)
    probs[np.arange(n), types.astype(int) - 1] = certainty
    return CellTable(
        vertices=((xy_um / MPP)[:, None] + corners).reshape(-1, 2),
        offsets=np.arange(n + 1, dtype=np.int64) * 4,
        centroids=xy_um / MPP,
        types=types,
        type_probs=probs,
        area_um2=np.linspace(40, 80, n, dtype=np.float32),
        regions=np.full(n, -1, np.int32),
        features={"eccentricity": np.full(n, 0.5, np.float32)},
    )


def write_result(
    folder: Path,
    cells: CellTable,
    tissue_um: shapely.Geometry | None,
    region_names: Sequence[str] = (),
    **about: object,
) -> Path:
    """Write what `cytolite spatial` reads of a result."""
    folder.mkdir(parents=True)
    known = {"mpp": MPP, "slide": f"{folder.name}.svs", "width_px": 4_000, "height_px": 4_000, **about}
    with CellsWriter(folder / "cells.parquet", tuple(cells.features), region_names, known) as writer:
        writer.append(cells)
    if tissue_um is not None:
        write_regions(folder / "tissue.geojson", {"tissue": tissue_um})
    return folder


def write_regions(path: Path, geometries_um: dict[str, shapely.Geometry]) -> Path:
    """Write geometries as annotations in level-0 px."""
    features = [
        {
            "type": "Feature",
            "properties": {"objectType": "annotation", "name": name},
            "geometry": shapely.geometry.mapping(shapely.transform(geometry, lambda xy: xy / MPP)),
        }
        for name, geometry in geometries_um.items()
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path
