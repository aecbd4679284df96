"""Cells as frames of pandas and geopandas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from cytolite.cells import CellTable

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
    from pandas import DataFrame


def to_pandas(cells: CellTable) -> DataFrame:
    """Return a frame with a row per nucleus and the columns of ``cells.parquet``, without outlines.

    Parameters
    ----------
    cells : CellTable

    Returns
    -------
    pandas.DataFrame
        Indexed by ``cell_id``, 1 to n: ``cell_type`` and ``region`` (categories), ``p_<type>``, ``x_px`` and ``y_px``
        (level 0), ``area_um2``, features.

    Raises
    ------
    ModuleNotFoundError
        If pandas is not installed.
    """
    import pandas as pd

    columns = {
        "cell_type": pd.Categorical.from_codes(cells.types.astype(np.int64) - 1, list(cells.type_names)),
        **{f"p_{name}": p for name, p in zip(cells.type_names, cells.type_probs.T, strict=True)},
        "x_px": cells.centroids[:, 0],
        "y_px": cells.centroids[:, 1],
        "area_um2": cells.area_um2,
        "region": pd.Categorical.from_codes(cells.regions, list(cells.region_names)),
        **cells.features,
    }
    return pd.DataFrame(columns, index=pd.RangeIndex(1, len(cells) + 1, name="cell_id"))


def to_geodataframe(cells: CellTable) -> GeoDataFrame:
    """Return `to_pandas` with the outlines as geometry, in level-0 px (x right, y down); there is no map projection.

    Parameters
    ----------
    cells : CellTable

    Returns
    -------
    geopandas.GeoDataFrame

    Raises
    ------
    ModuleNotFoundError
        If geopandas is not installed.
    """
    import geopandas as gpd

    return gpd.GeoDataFrame(to_pandas(cells), geometry=polygons(cells), crs=None)


def polygons(cells: CellTable) -> NDArray[np.object_]:
    """Return the outlines as shapely polygons, (N,)."""
    if not len(cells):
        return np.empty(0, object)
    index = np.repeat(np.arange(len(cells)), np.diff(cells.offsets))
    return np.asarray(shapely.polygons(shapely.linearrings(cells.vertices, indices=index)))
