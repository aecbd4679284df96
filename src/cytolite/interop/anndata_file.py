"""Cells as AnnData (``.h5ad``), for scanpy and squidpy. Needs the extra `anndata`.

One observation per cell: shape and stain are the matrix, everything else is in ``obs``, centroids are in
``obsm["spatial"]``, where squidpy looks for them, probabilities in ``obsm["type_probs"]``. Outlines are in
``uns["outlines"]``, by cell id, so that they are found again after rows were dropped. Embeddings, where there are some,
are in ``obsm["X_embedding"]``, as float32: neighbours are not computed of float16.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cytolite.cells import CellTable
from cytolite.celltypes import DEFAULT, TypeSet
from cytolite.errors import InputError
from cytolite.files import NOTICE, whole_path

EMBEDDING = "X_embedding"


def to_anndata(cells: CellTable, region_names: Sequence[str] = (), about: dict[str, Any] | None = None) -> Any:
    """Return an `anndata.AnnData` of the cells.

    Parameters
    ----------
    cells : CellTable
        A row each.
    region_names : sequence of str
        What ``cells.regions`` points to.
    about : dict, optional
        Of the slide and the model, for ``uns``.
    """
    import anndata
    import pandas as pd

    ids = np.arange(1, len(cells) + 1)
    obs = pd.DataFrame(
        {
            "cell_id": ids,
            "cell_type": pd.Categorical.from_codes(cells.types.astype(np.int64) - 1, list(cells.type_names)),
            "area_um2": cells.area_um2,
            "region": pd.Categorical.from_codes(cells.regions, list(region_names)),
        },
        index=ids.astype(str),
    )
    columns = [cells.features[name] for name in cells.features]
    matrix = np.column_stack(columns) if columns else np.empty((len(cells), 0), np.float32)
    return anndata.AnnData(
        X=matrix,
        obs=obs,
        var=pd.DataFrame(index=list(cells.features)),
        obsm={
            "spatial": cells.centroids,
            "type_probs": cells.type_probs,
            **({} if cells.embeddings is None else {EMBEDDING: cells.embeddings.astype(np.float32)}),
        },
        uns={
            "outlines": {"cell_id": ids, "offsets": cells.offsets, "vertices": cells.vertices},
            "cell_type_colors": ["#{:02x}{:02x}{:02x}".format(*t.colour) for t in cells.type_set],
            "type_probs": list(cells.type_names),
            "cytolite": {
                "notice": NOTICE,
                **({} if cells.type_set == DEFAULT else {"types": json.dumps(cells.type_set.describe())}),
                **{key: value for key, value in (about or {}).items() if isinstance(value, str | int | float)},
            },
        },
    )


def from_anndata(data: Any, where: str) -> tuple[CellTable, list[str]]:
    """Return the cells of what `to_anndata` made, also if rows were dropped or put in another order, and their regions.

    Parameters
    ----------
    data : Any
        An `anndata.AnnData`.
    where : str
        What it is, for errors.

    Raises
    ------
    InputError
        If it has no outlines, or cells without one.
    """
    try:
        stored = data.uns["outlines"]
        known, offsets, vertices = (np.asarray(stored[name]) for name in ("cell_id", "offsets", "vertices"))
        wanted, names = data.obs["cell_id"].to_numpy(), [str(name) for name in data.obs["cell_type"]]
        spatial, probs = np.asarray(data.obsm["spatial"], np.float64), np.asarray(data.obsm["type_probs"], np.float32)
    except (KeyError, AttributeError) as error:
        raise InputError(f"{where} holds no cells of cytolite: it lacks {error}.") from None
    type_set = _types_of(data)
    place = np.searchsorted(known, wanted)
    if len(wanted) and (
        place.max(initial=0) >= len(known) or (known[np.minimum(place, len(known) - 1)] != wanted).any()
    ):
        raise InputError(f"{where} has cells whose outline is not in it.")
    region = data.obs["region"].astype("category") if "region" in data.obs else None
    n = len(known)
    every = CellTable(
        vertices=vertices.astype(np.float64),
        offsets=offsets.astype(np.int64),
        centroids=np.zeros((n, 2)),
        types=np.zeros(n, np.uint8),
        type_probs=np.zeros((n, len(type_set)), np.float32),
        area_um2=np.zeros(n, np.float32),
        regions=np.full(n, -1, np.int32),
    ).select(place)
    matrix = np.asarray(data.X, np.float32)
    cells = CellTable(
        vertices=every.vertices,
        offsets=every.offsets,
        centroids=spatial,
        types=np.array([type_set.by_name(name).id for name in names], np.uint8),
        type_probs=probs,
        area_um2=data.obs["area_um2"].to_numpy(np.float32),
        regions=every.regions if region is None else region.cat.codes.to_numpy(np.int32),
        features={str(name): np.ascontiguousarray(matrix[:, i]) for i, name in enumerate(data.var_names)},
        type_set=type_set,
        embeddings=np.asarray(data.obsm[EMBEDDING], np.float16) if EMBEDDING in data.obsm else None,
    )
    return cells, [] if region is None else [str(name) for name in region.cat.categories]


def _types_of(data: Any) -> TypeSet:
    """Return the types that the cells are of: as described, else as ``uns["type_probs"]`` names them."""
    if described := data.uns.get("cytolite", {}).get("types"):
        return TypeSet.from_description(json.loads(described))
    named = [str(name) for name in data.uns.get("type_probs", ())]
    return TypeSet.named(named) if named else DEFAULT


def write_h5ad(
    path: Path,
    cells: CellTable,
    region_names: Sequence[str],
    about: dict[str, Any],
    extend: Callable[[Any], None] = lambda data: None,
) -> None:
    """Write an ``.h5ad``; it gets its name when it is whole. `extend` may add to the AnnData before.

    Parameters
    ----------
    path : pathlib.Path
        File to write.
    cells : CellTable
        A row each.
    region_names : sequence of str
        What ``cells.regions`` points to.
    about : dict
        Of the slide and the model, for ``uns``.
    extend : callable
        May add to the AnnData before it is written.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    data = to_anndata(cells, region_names, about)
    extend(data)
    with whole_path(path) as part:
        data.write_h5ad(part, compression="gzip")


def read_h5ad(path: Path) -> tuple[CellTable, list[str]]:
    """Read an ``.h5ad`` that `write_h5ad` wrote.

    Raises
    ------
    InputError
        If it cannot be read, or is of something else.
    """
    import anndata

    try:
        data = anndata.read_h5ad(path)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path} is not a readable .h5ad file ({error}).") from None
    return from_anndata(data, str(path))
