"""Count nuclei per label, for model cards and class tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import cv2
import numpy as np

from cytolite.celltypes import IGNORE
from cytolite.patches import Patch


def nuclei_per_label(patches: Sequence[Patch]) -> Counter[int]:
    """Count the nuclei of each label (types and coarse labels) over patches.

    Cells with a known type but no known outline (macrophages of MoNuSAC) are counted as connected areas.
    """
    counts: Counter[int] = Counter()
    for patch in patches:
        ids, first = np.unique(patch.instance_map, return_index=True)
        counts.update(patch.type_map.ravel()[first][ids > 0].tolist())
        whole_cells = np.where((patch.instance_map == 0) & (patch.type_map != IGNORE), patch.type_map, 0)
        for label in set(np.unique(whole_cells).tolist()) - {0}:
            counts[label] += cv2.connectedComponents((whole_cells == label).astype(np.uint8))[0] - 1
    return counts
