"""A prediction made from a truth by faults of every kind, the same each time: golden values depend on it."""

from __future__ import annotations

import numpy as np


def disturbed(instances: np.ndarray, types: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return instance and type maps with nuclei moved, lost, merged, split, shrunk, invented and named wrongly.

    Parameters
    ----------
    instances, types : numpy.ndarray
        int (H, W); types are 1 to 5 or 0, one a nucleus.
    """
    near, far = (np.roll(instances, (step, step + 1), (0, 1)) for step in (0, 3))
    found = np.where(far % 4 == 0, far, 0)
    found = np.where((near % 4 != 0) & (found == 0), near, found)
    found[found % 11 == 3] = 0
    found = np.where(found % 13 == 5, found + 1, found)  # merged with the next, where that is near
    rows = np.arange(len(found))[:, None]
    found = np.where((found % 7 == 2) & (rows % 16 < 6), found + 5000, found)  # split in bands
    edge = np.roll(found, 1, 0) != found
    found[(found % 5 == 1) & edge] = 0
    found[2:9, 2:9] = 9001
    ids = np.unique(instances)
    type_of = np.zeros(10000, int)
    for i in ids[ids > 0]:
        type_of[i] = np.bincount(types[instances == i]).argmax()
    of_found = np.where(found >= 5000, type_of[found % 5000], type_of[found])
    of_found = np.where(found % 6 == 4, of_found % 5 + 1, of_found)
    of_found[(found > 0) & (of_found == 0)] = 1
    # One type a nucleus, also where two were merged.
    for i in np.unique(found[found > 0]):
        of_found[found == i] = np.bincount(of_found[found == i]).argmax()
    return found.astype(np.int32), np.where(found > 0, of_found, 0).astype(np.uint8)
