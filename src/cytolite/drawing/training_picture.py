"""Pictures of what a network sees while it trains: image, truth and prediction side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cytolite.celltypes import DEFAULT, TypeSet
from cytolite.patches import Patch

SIDE_PX = 400
# Nuclei whose label is no single type, and ground of which nothing is known.
OTHER = (120, 120, 120)


def draw_patch(
    patch: Patch, instance_map: NDArray[np.int32], types: NDArray[np.integer], type_set: TypeSet = DEFAULT
) -> NDArray[np.uint8]:
    """Return the middle of a patch three times: as it is, with the true and with the predicted outlines.

    Parameters
    ----------
    patch : Patch
    instance_map : numpy.ndarray
        int32 (H, W), ids 1..n, the predicted nuclei.
    types : numpy.ndarray
        int (n,), the type of nucleus i + 1.
    type_set : TypeSet
        Of the patch and of what is predicted.

    Returns
    -------
    numpy.ndarray
        uint8 (side, 3 * side + 2 gaps, 3).
    """
    true_types = np.zeros(int(patch.instance_map.max(initial=0)) + 1, np.uint8)
    true_types[patch.instance_map] = patch.type_map
    window = tuple(slice(max(0, (s - SIDE_PX) // 2), max(0, (s - SIDE_PX) // 2) + SIDE_PX) for s in instance_map.shape)
    image = patch.image[window]
    panels = [
        image,
        outlined(image, patch.instance_map[window], true_types, type_set),
        outlined(image, instance_map[window], np.concatenate([[0], types]), type_set),
    ]
    gap = np.full((image.shape[0], 6, 3), 255, np.uint8)
    return np.concatenate([panels[0], gap, panels[1], gap, panels[2]], 1)


def outlined(
    image: NDArray[np.uint8],
    instance_map: NDArray[np.int32],
    types: NDArray[np.integer],
    type_set: TypeSet = DEFAULT,
) -> NDArray[np.uint8]:
    """Return an image with the rim of each nucleus in its type's colour; `types` by id, 0 for background.

    Parameters
    ----------
    image : numpy.ndarray
        uint8 (H, W, 3).
    instance_map : numpy.ndarray
        int32 (H, W), 0 = background.
    types : numpy.ndarray
        Of each id, 0 for background.
    type_set : TypeSet
        Names and colours of the types.
    """
    colours = np.array([OTHER, *(t.colour for t in type_set)], np.uint8)
    smooth = cv2.morphologyEx(instance_map.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    rim = (smooth > 0) & (instance_map > 0)
    drawn = image.copy()
    kinds = np.asarray(types)[instance_map[rim]]
    drawn[rim] = colours[np.where(kinds < len(colours), kinds, 0)]
    return drawn


def save_picture(path: Path, rows: Sequence[NDArray[np.uint8]]) -> None:
    """Write pictures below each other as a PNG.

    Parameters
    ----------
    path : pathlib.Path
        PNG file to write.
    rows : sequence of numpy.ndarra
        uint8 (h, W, 3) each, of one width.
    """
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 6), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(np.concatenate(padded), cv2.COLOR_RGB2BGR))
