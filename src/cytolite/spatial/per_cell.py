"""What is around each cell: columns for ``cells.parquet``, and the graph where squidpy looks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cytolite.files import whole_file
from cytolite.interop.parquet import ROW_GROUP, read_cells
from cytolite.interop.result_folder import CELLS_FILE
from cytolite.spatial import distances, graph
from cytolite.spatial.analysis import RADII_UM, WHOLE, Analysis
from cytolite.spatial.files import table_of
from cytolite.spatial.pairs import neighbour_counts


def neighbourhood(a: Analysis) -> dict[str, NDArray[np.float32]]:
    """Columns for the cells of the sample, float32 (N,) each, by name.

    ``<type>_within_10um`` ... (other cells of a type around it), ``<type>_nearest_um`` (NaN where there is none),
    ``in_tumour``, ``in_stroma`` (1 or 0), ``lymphoid_aggregate`` (its number, 0 outside), ``front_um`` (distance to the
    tumour's front, negative inside), ``cluster`` (connected cells of one type; numbers from 1) and ``cluster_size``.
    """
    s, names = a.sample, a.roles.names
    columns: dict[str, NDArray[Any]] = {}
    counts = neighbour_counts(s.xy, s.types, len(names), np.array(RADII_UM))
    for t, name in enumerate(names):
        for r, radius in enumerate(RADII_UM):
            columns[f"{name}_within_{radius:g}um"] = counts[:, t, r]
    for t, name in enumerate(names):
        columns[f"{name}_nearest_um"] = _nearest(s.xy, s.types == t)
    at = s.window.at(s.xy)
    for name in ("tumour", "stroma"):
        mask = a.compartments.masks.get(name)
        columns[f"in_{name}"] = np.zeros(len(s)) if mask is None else mask[at]
    columns["lymphoid_aggregate"] = a.compartments.aggregates[at]
    columns["front_um"] = a.compartments.front_um[at]
    cluster = graph.clusters(a.edges, s.types)
    columns["cluster"] = cluster + 1
    columns["cluster_size"] = np.bincount(cluster)[cluster]
    return {name: np.asarray(column, np.float32) for name, column in columns.items()}


def _nearest(xy: NDArray[np.float64], is_type: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance from every cell to the nearest other that is `mine`."""
    found, tree = np.empty(len(xy)), distances.tree_of(xy[is_type])
    found[~is_type] = distances.nearest(xy[~is_type], tree, same=False)
    found[is_type] = distances.nearest(xy[is_type], tree, same=True)
    return np.where(np.isfinite(found), found, np.nan)


def _for_all(a: Analysis, columns: dict[str, NDArray[np.float32]], n: int) -> dict[str, NDArray[np.float32]]:
    """Columns for all rows of the result; NaN for cells outside of the window."""
    out = {}
    for name, column in columns.items():
        out[name] = np.full(n, np.nan, np.float32)
        out[name][a.sample.rows] = column
    return out


def write_cells(path: Path, a: Analysis, columns: dict[str, NDArray[np.float32]]) -> None:
    """Write ``cells.parquet`` once more, with the columns; the result's own file is left alone.

    Parameters
    ----------
    path : pathlib.Path
        Parquet to write.
    a : Analysis
    columns : dict of str to numpy.ndarray
        float32 (N,) each, of the sample's cells, from `neighbourhood`; other cells of the result get NaN.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    source = pq.read_table(a.sample.folder / CELLS_FILE)
    for name, column in _for_all(a, columns, source.num_rows).items():
        source = source.append_column(name, pa.array(column))
    with whole_file(path) as file:
        pq.write_table(source, file, compression="zstd", row_group_size=ROW_GROUP)


def write_annotated(folder: Path, a: Analysis, columns: dict[str, NDArray[np.float32]]) -> None:
    """Write ``cells.h5ad`` and ``cells.zarr``, as the settings ask.

    Parameters
    ----------
    folder : pathlib.Path
        Is there.
    a : Analysis
    columns : dict of str to numpy.ndarray
        float32 (N,) each, of the sample's cells, from `neighbourhood`; other cells of the result get NaN.

    Raises
    ------
    OutputError
        If one cannot be written.
    """
    cells = read_cells(a.sample.folder / CELLS_FILE)
    about = a.sample.about
    regions = list(about["regions"]) if about.get("regions") and isinstance(about["regions"][0], str) else []

    def extend(data: Any) -> None:
        _extend(data, a, _for_all(a, columns, len(cells)))

    if a.settings.anndata:
        from cytolite.interop.anndata_file import write_h5ad

        write_h5ad(folder / "cells.h5ad", cells, regions, about, extend)
    if a.settings.spatialdata:
        from cytolite.interop.spatialdata_store import write_zarr

        write_zarr(folder / "cells.zarr", cells, regions, about, extend)


def _extend(data: Any, a: Analysis, columns: dict[str, NDArray[np.float32]]) -> None:
    """Add columns, graph and measures under the names that squidpy reads."""
    from scipy.sparse import csr_matrix

    for name, column in columns.items():
        data.obs[name] = column
    s, n = a.sample, data.n_obs
    both = np.concatenate([a.edges, a.edges[:, ::-1]])
    rows, cols = s.rows[both[:, 0]], s.rows[both[:, 1]]
    length = np.hypot(*(s.xy[both[:, 0]] - s.xy[both[:, 1]]).T)
    data.obsp["spatial_connectivities"] = csr_matrix((np.ones(len(both)), (rows, cols)), shape=(n, n))
    data.obsp["spatial_distances"] = csr_matrix((length, (rows, cols)), shape=(n, n))
    data.uns["spatial_neighbors"] = {
        "connectivities_key": "spatial_connectivities",
        "distances_key": "spatial_distances",
        "params": {"delaunay": True, "radius_um": a.settings.edge_um, "coord_type": "generic"},
    }
    names = a.roles.names
    places = {f"{x} to {y}": (i, j) for i, x in enumerate(names) for j, y in enumerate(names)}
    z = np.full((len(names), len(names)), np.nan)
    for row in a.rows:
        if row.measure == "neighbourhood_z" and row.region == WHOLE:
            z[places[row.types]] = row.value
    one = np.zeros(len(s), np.int64)
    counts = graph.edge_counts(a.edges, s.types, len(names), one, 1)[0]
    data.uns["cell_type_nhood_enrichment"] = {"zscore": z, "count": counts}
    curves = [c for c in a.curves if c.measure == "co_occurrence" and c.region == WHOLE]
    if curves:
        occ = np.full((len(names), len(names), len(curves[0].x_um)), np.nan)
        for curve in curves:
            occ[places[curve.types]] = curve.value
        data.uns["cell_type_co_occurrence"] = {"occ": occ, "interval": np.concatenate([[0], curves[0].x_um])}
    data.uns["cytolite_measures"] = table_of(a).to_pandas()
