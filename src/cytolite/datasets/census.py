"""Count nuclei per label, for stores, model cards and class tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from cytolite.celltypes import IGNORE
from cytolite.patches import Patch


def labels_of_instances(patch: Patch) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
    """Return the ids of a patch's instances, in order, and the label of each: that of its first pixel."""
    ids, labels = patch.instance_map.ravel(), np.zeros(int(patch.instance_map.max(initial=0)) + 1, np.uint8)
    # Of several values for one place NumPy keeps the last: backwards, that is the first pixel's.
    labels[ids[::-1]] = patch.type_map.ravel()[::-1]
    present = np.flatnonzero(np.bincount(ids, minlength=len(labels))[1:]) + 1
    return present, labels[present]


def nuclei_per_label(patches: Iterable[Patch]) -> Counter[int]:
    """Count the nuclei of each label (types and coarse labels) over patches.

    Cells with a known type but no known outline (macrophages of MoNuSAC) are counted as connected areas.
    """
    counts: Counter[int] = Counter()
    for patch in patches:
        counts.update(labels_of_instances(patch)[1].tolist())
        whole_cells = (patch.instance_map == 0) & (patch.type_map != 0) & (patch.type_map != IGNORE)
        if whole_cells.any():
            import cv2

            for label in np.unique(patch.type_map[whole_cells]).tolist():
                area = (whole_cells & (patch.type_map == label)).astype(np.uint8)
                counts[label] += cv2.connectedComponents(area)[0] - 1
    return counts
