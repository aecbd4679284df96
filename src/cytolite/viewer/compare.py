"""Two results of one slide: which nuclei both have, and what each calls them."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from cytolite.errors import UsageError
from cytolite.interop.result import Result
from cytolite.viewer.cell_index import CellIndex

REACH_UM = 3.0
MOST_LISTED = 5_000


def same_slide(a: Result, b: Result) -> None:
    """Check that two results are of one slide.

    Parameters
    ----------
    a, b : Result
        To be compared.

    Raises
    ------
    UsageError
        If they are not.
    """
    if a.size_px != b.size_px or a.slide != b.slide:
        raise UsageError(
            f"{a.folder.name} is of {a.slide} ({a.size_px[0]} x {a.size_px[1]} px) and {b.folder.name} of {b.slide} "
            f"({b.size_px[0]} x {b.size_px[1]} px); compare results of one slide."
        )


def pairs(
    a: NDArray[np.float64], b: NDArray[np.float64], reach_px: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Match points that are each other's nearest within reach.

    Parameters
    ----------
    a, b : numpy.ndarray
        float64 (N, 2) and (M, 2).
    reach_px : float
        The farthest that two may lie apart.

    Returns
    -------
    rows_a, rows_b : numpy.ndarray
        int64 (P,): rows that belong together, ascending in `a`.
    """
    if len(a) == len(b) and np.array_equal(a, b):  # the same nuclei, named by another model
        return np.arange(len(a)), np.arange(len(b))
    there, back = _nearest(a, b, reach_px), _nearest(b, a, reach_px)
    rows = np.flatnonzero(there >= 0)
    rows = rows[back[there[rows]] == rows]
    return rows, there[rows]


def _nearest(a: NDArray[np.float64], b: NDArray[np.float64], reach_px: float) -> NDArray[np.int64]:
    found = np.full(len(a), -1, np.int64)
    if len(a) and len(b):
        # all_matches=False: one of those that are as near, so that no point has two.
        one, other = shapely.STRtree(shapely.points(b)).query_nearest(
            shapely.points(a), max_distance=reach_px, all_matches=False
        )
        found[one] = other
    return found


def changes(a: CellIndex, b: CellIndex, mpp: float) -> dict[str, Any]:
    """Say what changed from one result to another.

    Parameters
    ----------
    a, b : CellIndex
        Before and after, of one slide.
    mpp : float
        um per level-0 px.

    Returns
    -------
    dict
        ``both``, ``only_a``, ``only_b`` and ``renamed``: numbers of nuclei; ``moves``: from, to and number of nuclei
        that both have, the most frequent first, the same name included; ``places``: up to `MOST_LISTED` places
        ``[x, y, from, to]``, level-0 px, of those that were renamed, the surest first, then of those that one result
        alone has, where from or to is None.
    """
    in_a, in_b = pairs(a.centroids, b.centroids, REACH_UM / mpp)
    names_a = np.array(["", *a.type_set.names])[a.types.astype(np.intp)]
    names_b = np.array(["", *b.type_set.names])[b.types.astype(np.intp)]
    from_, to = names_a[in_a], names_b[in_b]
    moved = np.flatnonzero(from_ != to)
    order = moved[np.argsort(-b.certainties[in_b[moved]], kind="stable")]
    lost = np.setdiff1d(np.arange(len(a)), in_a)
    new = np.setdiff1d(np.arange(len(b)), in_b)
    places = [
        *_places(b.centroids[in_b[order[:MOST_LISTED]]], from_[order], to[order]),
        *_places(a.centroids[lost[:MOST_LISTED]], names_a[lost], None),
        *_places(b.centroids[new[:MOST_LISTED]], None, names_b[new]),
    ]
    kinds, counts = np.unique(np.stack([from_, to]), axis=1, return_counts=True)
    moves = sorted(zip(*kinds.tolist(), counts.tolist(), strict=True), key=lambda move: -move[2])
    return {
        "both": len(in_a),
        "only_a": len(lost),
        "only_b": len(new),
        "renamed": len(moved),
        "moves": moves,
        "places": places[:MOST_LISTED],
    }


def _places(xy: NDArray[np.float64], from_: NDArray[np.str_] | None, to: NDArray[np.str_] | None) -> list[list[Any]]:
    n = len(xy)
    before = [None] * n if from_ is None else from_[:n].tolist()
    after = [None] * n if to is None else to[:n].tolist()
    return [[x, y, f, t] for (x, y), f, t in zip(xy.round(1).tolist(), before, after, strict=True)]
