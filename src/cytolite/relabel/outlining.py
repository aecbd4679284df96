"""Outlines for nuclei that experts marked by points or boxes: a model's, kept as such, with an audit of every mark.

A mark (see `cytolite.datasets.marks`) takes the nucleus that the model finds under it: its pixels carry the expert's
type, weighted by the model's own probability that they are nucleus, and teach that there is one. They teach no flows:
the outline is the model's own. A mark under which the model finds no nucleus, or one that another mark claims too, or
that does not fit its box, stays what it was. Where marks were exhaustive, ground on which the model sees a nucleus
without a mark is no longer background: one of the two is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cytolite.celltypes import LABEL_NAMES, TYPE_NAMES, allowed_types
from cytolite.datasets.store import Store
from cytolite.patches import FULL_TRUST, PRESENCE, PSEUDO, Patch

# A mark's nucleus covers this share of its core at least; of a box's ellipse intersection over union is this.
LEAST_COVER, LEAST_IOU = 0.5, 0.5
OUTLINED, NOT_FOUND, SHARED, UNFIT = "outlined", "not found", "shared with another mark", "does not fit the box"

SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("patch", pa.string()),
        ("id", pa.int32()),
        ("x_px", pa.float32()),
        ("y_px", pa.float32()),
        ("label", pa.string()),
        ("outcome", pa.string()),
        ("area_um2", pa.float32()),
        ("p_nucleus", pa.float32()),
        ("p_label", pa.float32()),
        ("likeliest_type", pa.string()),
        ("model", pa.string()),
        ("model_sha256", pa.string()),
    ]
)


@dataclass(frozen=True)
class Seen:
    """What a model finds in a patch.

    Attributes
    ----------
    instance_map : numpy.ndarray
        int32 (H, W) of the patch's size; 0 = background, 1..n = nuclei.
    nucleus_probs : numpy.ndarray
        float (n,), mean probability of the nucleus's pixels not to be background.
    type_probs : numpy.ndarray
        float (n, 7).
    """

    instance_map: NDArray[np.int32]
    nucleus_probs: NDArray[np.floating]
    type_probs: NDArray[np.floating]


@dataclass(frozen=True)
class Model:
    """Who outlines: a name and a hash for the audit, and what it finds in a patch."""

    name: str
    sha256: str
    look: Callable[[Patch], Seen]


@dataclass(frozen=True)
class _Mark:
    """One mark: its id, its pixels (flat indices), those that surely are nucleus, and what becomes of it."""

    number: int
    pixels: NDArray[np.intp]
    core: NDArray[np.intp]
    nucleus: int
    outcome: str


def outline_stores(
    stores: Sequence[Store], model: Model, rows: list[pa.Table], tick: Callable[[], None] = lambda: None
) -> Iterator[Patch]:
    """Yield all patches of the stores with their marks outlined; append the audit of each to `rows`.

    Parameters
    ----------
    stores : sequence of Store
        Open stores.
    model : Model
        What outlines.
    rows : list of pyarrow.Table
        Gets a table for each patch that has marks.
    tick : callable
        Called once a patch.
    """
    for store in stores:
        for patch in store:
            if len(patch.marks):
                outlined, audit = outline(patch, model)
                rows.append(audit)
                yield outlined
            else:
                yield patch
            tick()


def outline(patch: Patch, model: Model) -> tuple[Patch, pa.Table]:
    """Return a patch with its marks outlined where `model` can, and a row of the audit for each mark.

    Parameters
    ----------
    patch : Patch
        With marks; it stays as it is.
    model : Model
        What outlines.
    """
    seen = model.look(patch)
    marks = _match(patch, seen.instance_map)
    given_maps = (patch.instance_map, patch.type_map, patch.known, patch.trust)
    instances, types, known, trust = (array.ravel().copy() for array in given_maps)
    found, given, cores = seen.instance_map.ravel(), instances.copy(), np.zeros(instances.size, bool)
    for mark in marks:
        cores[mark.core] = True
    chosen = [mark for mark in marks if mark.outcome == OUTLINED]
    for mark in chosen:
        for array in (instances, types, known, trust):
            array[mark.pixels[~cores[mark.pixels]]] = 0
    for mark in chosen:
        new = np.flatnonzero((found == mark.nucleus) & (~cores | (given == mark.number)))
        pixels = np.union1d(new, mark.core)
        instances[pixels], types[pixels] = mark.number, patch.type_map.ravel()[mark.core[0]]
        known[pixels] = PRESENCE | PSEUDO
        trust[pixels] = round(FULL_TRUST * float(seen.nucleus_probs[mark.nucleus - 1]))
    # Ground that marks left as background, and on which the model sees a nucleus.
    known[(instances == 0) & (types == 0) & (found > 0)] = 0
    shape = patch.instance_map.shape
    maps = {"instance_map": instances, "type_map": types, "known_map": known, "trust_map": trust}
    outlined = replace(patch, **{name: array.reshape(shape) for name, array in maps.items()})  # type: ignore[arg-type]
    return outlined, _audit(patch, seen, marks, model)


def _match(patch: Patch, found: NDArray[np.int32]) -> list[_Mark]:
    given, seen, known = patch.instance_map.ravel(), found.ravel(), patch.known.ravel()
    order = np.argsort(given, kind="stable")
    starts = np.searchsorted(given[order], np.arange(given.max(initial=0) + 2))
    areas = np.bincount(seen)
    marks = []
    for number in patch.marks.tolist():
        pixels = order[starts[number] : starts[number + 1]]
        core = pixels[known[pixels] & PRESENCE > 0]
        core = core if len(core) else pixels
        votes = np.bincount(seen[core])
        votes[0] = 0
        nucleus = int(votes.argmax())
        outcome = OUTLINED if votes[nucleus] >= LEAST_COVER * len(core) and nucleus else NOT_FOUND
        if outcome == OUTLINED and len(core) < len(pixels):
            common = np.count_nonzero(seen[pixels] == nucleus)
            if common < LEAST_IOU * (len(pixels) + areas[nucleus] - common):
                outcome = UNFIT
        marks.append(_Mark(number, pixels, core, nucleus if outcome != NOT_FOUND else 0, outcome))
    claims = np.bincount([m.nucleus for m in marks], minlength=1)
    return [replace(m, outcome=SHARED) if m.outcome == OUTLINED and claims[m.nucleus] > 1 else m for m in marks]


def _audit(patch: Patch, seen: Seen, marks: Sequence[_Mark], model: Model) -> pa.Table:
    n = len(marks)
    width = patch.type_map.shape[1]
    labels = [int(patch.type_map.ravel()[m.core[0]]) for m in marks]
    areas = np.bincount(seen.instance_map.ravel()) * patch.mpp**2
    has = [m.nucleus > 0 for m in marks]
    probs = [seen.type_probs[m.nucleus - 1] if m.nucleus else None for m in marks]
    columns = {
        "source": [patch.source] * n,
        "patch": [patch.name] * n,
        "id": [m.number for m in marks],
        "x_px": [float((m.core % width).mean() + 0.5) for m in marks],
        "y_px": [float((m.core // width).mean() + 0.5) for m in marks],
        "label": [LABEL_NAMES[label] for label in labels],
        "outcome": [m.outcome for m in marks],
        "area_um2": [float(areas[m.nucleus]) if h else None for m, h in zip(marks, has, strict=True)],
        "p_nucleus": [float(seen.nucleus_probs[m.nucleus - 1]) if h else None for m, h in zip(marks, has, strict=True)],
        "p_label": [
            None if p is None else float(sum(p[t - 1] for t in allowed_types(label)))
            for p, label in zip(probs, labels, strict=True)
        ],
        "likeliest_type": [None if p is None else TYPE_NAMES[int(np.argmax(p))] for p in probs],
        "model": [model.name] * n,
        "model_sha256": [model.sha256] * n,
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)


def summary(table: pa.Table) -> str:
    """Return, as lines, how many marks of each data set and label came to what."""
    counts = table.group_by(["source", "label", "outcome"]).aggregate([("id", "count"), ("p_label", "mean")])
    lines = []
    for row in sorted(counts.to_pylist(), key=lambda r: (r["source"], r["label"], r["outcome"])):
        mean = row["p_label_mean"]
        said = "" if mean is None else f", the model's mean probability of it {mean:.2f}"
        lines.append(f"{row['source']}, {row['label']}: {row['id_count']:,} {row['outcome']}{said}")
    return "\n".join(lines)
