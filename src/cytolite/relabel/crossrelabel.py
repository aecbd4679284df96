"""Look at every cell with a coarse label, then write the refined store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cytolite.celltypes import by_name
from cytolite.config import RelabelSettings
from cytolite.datasets.store import Store
from cytolite.patches import Patch
from cytolite.relabel import audit
from cytolite.relabel.classifier import PREDICT_BATCH, Classifier
from cytolite.relabel.crops import Cells
from cytolite.relabel.recipe import Split
from cytolite.relabel.samples import cells_of, crops_of, wanted_patches


def classify(
    stores: Sequence[Store],
    split: Split,
    classifier: Classifier,
    settings: RelabelSettings,
    tick: Callable[[], None] = lambda: None,
) -> pa.Table:
    """Look at every cell of one dataset that carries the coarse label; return the audit's rows, in the stores' order.

    All of them are looked at, those too that are too small or too near the border to have trained a classifier: the
    audit's ``as_trained`` tells them apart.

    Parameters
    ----------
    stores : sequence of Store
        Open stores; other datasets in them are passed over.
    split : Split
        The dataset, its coarse label, and the name that the audit gives the classifier.
    classifier : Classifier
        Trained on the types that the label leaves open.
    settings : RelabelSettings
        How crops are cut, what probability is high enough, and the device.
    tick : callable
        Called once a patch.
    """
    parts = [audit.SCHEMA.empty_table()]
    sha256 = classifier.sha256
    waiting: list[tuple[NDArray[np.uint8], dict[str, Any]]] = []

    def flush() -> None:
        if waiting:
            columns: dict[str, Any] = {key: np.concatenate([of[key] for _, of in waiting]) for key in waiting[0][1]}
            probs = classifier.probs(np.concatenate([crops for crops, _ in waiting]), settings.device)
            columns |= {"classifier": [split.by] * len(probs), "classifier_sha256": [sha256] * len(probs)}
            type_ids = [by_name(name).id for name in classifier.types]
            parts.append(audit.rows(columns, probs, type_ids, split.label_id, settings))
        waiting.clear()

    for store, i in wanted_patches(stores, [split.dataset]):
        patch = store[i]
        cells, large = cells_of(patch, settings)
        chosen = np.flatnonzero(cells.labels == split.label_id)
        if len(chosen):
            crops = crops_of(patch, cells.boxes[chosen], settings)
            waiting.append((crops, _columns(patch, cells, chosen, large)))
        if sum(len(crops) for crops, _ in waiting) >= PREDICT_BATCH:
            flush()
        tick()
    flush()
    return pa.concat_tables(parts)


def _columns(patch: Patch, cells: Cells, chosen: NDArray[np.intp], large: NDArray[np.bool_]) -> dict[str, Any]:
    top, bottom, left, right = cells.boxes[chosen].T
    return {
        "source": np.full(len(chosen), patch.source, object),
        "patch": np.full(len(chosen), patch.name, object),
        "id": cells.ids[chosen],
        "x_px": (left + right) / 2,
        "y_px": (top + bottom) / 2,
        "area_px": cells.areas[chosen],
        "as_trained": large[chosen],
    }


def relabelled(patch: Patch, cells: Cells, labels: NDArray[np.uint8]) -> Patch:
    """Return the patch with new labels for its cells; where a cell keeps its label, nothing changes.

    Parameters
    ----------
    patch : Patch
    cells : Cells
        All of the patch.
    labels : numpy.ndarray
        uint8 (n,), the label of each from now on.
    """
    old, new = (np.concatenate([[0], column]).astype(np.uint8)[cells.regions] for column in (cells.labels, labels))
    # Only pixels that carry the cell's own label: a stray pixel of another type stays what it is.
    return replace(patch, type_map=np.where((old != new) & (patch.type_map == old), new, patch.type_map))


@dataclass
class Census:
    """Cells per dataset and label: as they came, as a classifier may learn from them, as they are now."""

    before: Counter[tuple[str, int]] = field(default_factory=Counter)
    learnable: Counter[tuple[str, int]] = field(default_factory=Counter)
    after: Counter[tuple[str, int]] = field(default_factory=Counter)
    patches: Counter[str] = field(default_factory=Counter)


def refined(
    stores: Sequence[Store],
    changes: Mapping[tuple[str, str], tuple[NDArray[np.int32], NDArray[np.uint8]]],
    settings: RelabelSettings,
    census: Census,
    tick: Callable[[], None] = lambda: None,
) -> Iterator[Patch]:
    """Yield all patches of all stores, with the new labels of `audit.changes`, and count their cells into `census`.

    Parameters
    ----------
    stores : sequence of Store
        Open stores.
    changes : mapping of tuple of str to tuple of numpy.ndarray
        For (source, patch name): ids of cells, int32 (n,), and their new labels, uint8 (n,).
    settings : RelabelSettings
        Those that the cells were looked at with: the border and the smallest area matter.
    census : Census
        Counted on.
    tick : callable
        Called once a patch.
    """
    for store in stores:
        for patch in store:
            cells, large = cells_of(patch, settings)
            labels = cells.labels.copy()
            if (patch.source, patch.name) in changes:
                ids, new = changes[patch.source, patch.name]
                number = {cell_id: i for i, cell_id in enumerate(cells.ids.tolist())}
                labels[[number[cell_id] for cell_id in ids.tolist()]] = new
            census.patches[patch.source] += 1
            for counter, of in ((census.before, cells.labels), (census.learnable, cells.labels[large]),
                                (census.after, labels)):  # fmt: skip
                counter.update((patch.source, label) for label in of.tolist())
            yield relabelled(patch, cells, labels)
            tick()
