"""Cells as SpatialData (a ``.zarr`` folder): polygons as shapes, and the AnnData table that annotates them.

Needs the extra `spatialdata`. Coordinates are level-0 pixels, in the coordinate system ``global``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from cytolite.cells import CellTable
from cytolite.errors import InputError
from cytolite.files import whole_folder
from cytolite.interop.anndata_file import from_anndata, to_anndata
from cytolite.interop.frames import polygons

SHAPES, TABLE = "nuclei", "cells"


def write_zarr(
    path: Path,
    cells: CellTable,
    region_names: Sequence[str],
    about: dict[str, Any],
    extend: Callable[[Any], None] = lambda table: None,
) -> None:
    """Write a SpatialData store; it gets its name when it is whole. `extend` may add to its table before.

    Parameters
    ----------
    path : pathlib.Path
        Folder to write.
    cells : CellTable
        A row each.
    region_names : sequence of str
        What ``cells.regions`` points to.
    about : dict
        Of the slide and the model.
    extend : callable
        May add to the table before it is written.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    import geopandas as gpd
    import spatialdata
    from spatialdata.models import ShapesModel, TableModel

    table = to_anndata(cells, region_names, about)
    extend(table)
    frame = gpd.GeoDataFrame({"geometry": polygons(cells)}, index=table.obs["cell_id"].to_numpy())
    del table.uns["outlines"]
    table.obs["shapes"] = SHAPES
    table.obs["shapes"] = table.obs["shapes"].astype("category")
    store = spatialdata.SpatialData(
        shapes={SHAPES: ShapesModel.parse(frame)},
        tables={TABLE: TableModel.parse(table, region=SHAPES, region_key="shapes", instance_key="cell_id")},
    )
    with whole_folder(path) as part:
        part.rmdir()  # it makes the folder itself
        store.write(part)


def read_zarr(path: Path) -> tuple[CellTable, list[str]]:
    """Read a store that `write_zarr` wrote.

    Raises
    ------
    InputError
        If it cannot be read, or is of something else.
    """
    import spatialdata

    try:
        store = spatialdata.read_zarr(path)
        shapes, table = store.shapes[SHAPES], store.tables[TABLE]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} is not a readable SpatialData store of cells ({error}).") from None
    rings = shapely.get_exterior_ring(shapes.geometry.to_numpy())
    lengths = shapely.get_num_points(rings)
    vertices = np.delete(shapely.get_coordinates(rings), np.cumsum(lengths) - 1, axis=0)
    table.uns["outlines"] = {
        "cell_id": shapes.index.to_numpy(),
        "offsets": np.concatenate([[0], np.cumsum(lengths - 1)]),
        "vertices": vertices,
    }
    return from_anndata(table, str(path))
