"""Which nuclei to label next: those that the model is least sure of, unlike each other and spread over the slide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from cytolite.cells import CellTable
from cytolite.classifier import inputs_of
from cytolite.decoding.features import FEATURE_NAMES
from cytolite.errors import InputError
from cytolite.files import NOTICE, plain_refusal, whole_file

_POOL = 40  # so many of the least sure are looked at for each that is wanted
POOL_MOST = 20_000


def suggest(cells: CellTable, n: int) -> NDArray[np.int64]:
    """Return up to `n` rows, the first the most useful.

    Of the least sure nuclei (smallest distance between the two likeliest types), each next one is the farthest from
    those chosen before, in measurements and in place.

    Parameters
    ----------
    cells : CellTable
        To choose from.
    n : int
        How many.

    Raises
    ------
    InputError
        If there are no nuclei.
    """
    if not len(cells):
        raise InputError("There are no nuclei to label.")
    top = np.sort(cells.type_probs, axis=1)
    margin = top[:, -1] - top[:, -2]
    pool = np.sort(np.argsort(margin, kind="stable")[: min(max(_POOL * n, 500), POOL_MOST)])
    names = [*cells.type_set.probs, "area_um2", *(name for name in FEATURE_NAMES if name in cells.features)]
    looks = _standardised(inputs_of(cells.select(pool), names))
    places = _standardised(cells.centroids[pool])
    # Both count alike, whatever the number of measurements.
    points = np.concatenate([looks / np.sqrt(looks.shape[1]), places / np.sqrt(2)], axis=1)
    chosen = [int(np.argmin(margin[pool]))]
    nearest = ((points - points[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < min(n, len(pool)):
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    return pool[chosen]


def _standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = values - np.nanmean(values, axis=0)
    scaled = centred / np.maximum(np.nanstd(values, axis=0), 1e-9)
    # One odd measurement must not decide alone.
    return np.clip(np.where(np.isfinite(scaled), scaled, 0.0), -3, 3)


def write_suggestions(path: Path, cells: CellTable, rows: NDArray[np.int64]) -> None:
    """Write the nuclei as annotations without a class, for QuPath: give each one and export them as labels.

    Parameters
    ----------
    path : pathlib.Path
        GeoJSON to write.
    cells : CellTable
        Outlines in level-0 px.
    rows : numpy.ndarray
        int64 (n,), rows of `cells`; numbered from 1 in this order.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    features = [_feature(cells, row, number) for number, row in enumerate(rows.tolist(), 1)]
    content = {"type": "FeatureCollection", "notice": NOTICE, "features": features}
    with whole_file(path) as file, plain_refusal(path):
        file.write(orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE))


def _feature(cells: CellTable, row: int, number: int) -> dict[str, Any]:
    ring = cells.outline(row).round(2).tolist()
    p = float(cells.type_probs[row].max())
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
        "properties": {
            "objectType": "annotation",
            "name": f"{number}: {cells.type_names[cells.types[row] - 1]}? ({p:.2f})",
        },
    }
