"""Truth and prediction of an image side by side."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytolite.metrics.classes import Classes
from cytolite.metrics.truth import Prediction, Truth

_UNKNOWN, _VOID = (90, 90, 90), (255, 255, 255)
_PANEL_PX, _GAP_PX = 620, 8


def side_by_side(image: NDArray[np.uint8] | None, truth: Truth, predicted: Prediction, classes: Classes) -> bytes:
    """Draw outlines of the truth on the left and of the prediction on the right, coloured by type, as a JPEG.

    Parameters
    ----------
    image : numpy.ndarray, optional
        uint8 (H, W, 3); white where there is none.
    truth, predicted : Truth, Prediction
        Of the same size. Nuclei of no known single type are dark grey; ground that is not judged is paler.
    classes : Classes
        Their types.
    """
    ground = np.full((*truth.instance_map.shape, 3), 255, np.uint8) if image is None else image
    palette = np.array([_UNKNOWN, *classes.colours.values()], np.uint8)
    single = truth.allowed.sum(1) == 1
    true_types = np.where(single, truth.allowed.argmax(1) + 1, 0)
    left = ground
    if truth.void is not None:
        left = np.where(truth.void[..., None], (ground.astype(np.uint16) + 2 * 255) // 3, ground).astype(np.uint8)
    panels = [
        _outlined(left, truth.instance_map, truth.ids, true_types, palette),
        _outlined(ground, predicted.instance_map, predicted.ids, predicted.types, palette),
    ]
    width, height = panels[0].size
    sheet = Image.new("RGB", (2 * width + _GAP_PX, height), "white")
    for i, panel in enumerate(panels):
        sheet.paste(panel, (i * (width + _GAP_PX), 0))
    data = io.BytesIO()
    sheet.save(data, "JPEG", quality=88)
    return data.getvalue()


def _outlined(
    ground: NDArray[np.uint8],
    labels: NDArray[np.integer],
    ids: NDArray[np.int64],
    types: NDArray[np.int64],
    palette: NDArray[np.uint8],
) -> Image.Image:
    """Enlarge by a whole number (or reduce afterwards), then colour the pixels at which a nucleus ends."""
    zoom = max(1, round(_PANEL_PX / max(labels.shape)))
    fine, canvas = (array.repeat(zoom, 0).repeat(zoom, 1) for array in (labels, ground))
    edge = np.zeros(fine.shape, bool)
    for axis in (0, 1):
        for step in (-1, 1):
            edge |= np.roll(fine, step, axis) != fine
    edge &= fine > 0
    if zoom > 1 or max(labels.shape) > _PANEL_PX:  # a line of one pixel is hard to see, or fades when it is reduced
        edge |= (np.roll(edge, 1, 0) | np.roll(edge, 1, 1)) & (fine > 0)
    canvas = canvas.copy()
    canvas[edge] = palette[types[np.searchsorted(ids, fine[edge])]]
    panel = Image.fromarray(canvas)
    panel.thumbnail((_PANEL_PX, _PANEL_PX), Image.Resampling.LANCZOS)
    return panel
