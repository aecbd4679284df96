"""Cells drawn for people at work in Python: over an image with matplotlib, and as a small picture in a notebook."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cytolite.cells import CellTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALL_PX = 360
MOST_DOTS = 20_000


def plot_cells(
    cells: CellTable,
    image: NDArray[np.uint8] | None = None,
    *,
    ax: Axes | None = None,
    fill: bool = False,
    linewidth: float = 1.0,
    legend: bool = True,
) -> Axes:
    """Draw outlines in the colours of their types.

    Parameters
    ----------
    cells : CellTable
        In level-0 px.
    image : numpy.ndarray, optional
        uint8 (H, W, 3), level 0 from its top left corner; drawn below.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure without it.
    fill : bool
        Fill the outlines, half transparent.
    linewidth : float
        Of the outlines, in points.
    legend : bool
        Name the types that are there, with their numbers.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ModuleNotFoundError
        If matplotlib is not installed.
    """
    from matplotlib import pyplot
    from matplotlib.collections import PolyCollection

    if ax is None:
        ax = pyplot.subplots(figsize=(8, 8))[1]
    if image is not None:
        ax.imshow(image)
    for kind, (name, n) in zip(cells.type_set, cells.counts().items(), strict=True):
        if n:
            rows = np.flatnonzero(cells.types == kind.id).tolist()
            colour = tuple(c / 255 for c in kind.colour)
            face = (*colour, 0.4) if fill else "none"
            rings = [cells.outline(i) for i in rows]
            ax.add_collection(
                PolyCollection(rings, facecolors=face, edgecolors=[colour], linewidths=linewidth, label=f"{name} {n:,}")
            )
    if image is None:
        ax.autoscale_view()
        if not ax.yaxis_inverted():
            ax.invert_yaxis()
    ax.set_aspect("equal")
    if legend and len(cells):
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return ax


def describe_html(cells: CellTable) -> str:
    """Return what a notebook shows of cells: three lines and a small picture of where they lie, by type."""
    return (
        f"<pre>{escape(repr(cells))}</pre>"
        f"<img alt='Where the nuclei lie, coloured by type' src='data:image/png;base64,{_small_picture(cells)}'>"
    )


def _small_picture(cells: CellTable) -> str:
    """Return a PNG in base64: a dot for each nucleus, or for so many of them at equal steps."""
    picture = Image.new("RGB", (SMALL_PX, SMALL_PX), "white")
    if len(cells):
        pen = ImageDraw.Draw(picture)
        corner = cells.centroids.min(axis=0)
        scale = (SMALL_PX - 5) / max(float((cells.centroids.max(axis=0) - corner).max()), 1.0)
        rows = np.unique(np.linspace(0, len(cells) - 1, min(len(cells), MOST_DOTS)).astype(int))
        for (x, y), kind in zip((cells.centroids[rows] - corner) * scale + 2, cells.types[rows], strict=True):
            pen.rectangle((x - 1, y - 1, x + 1, y + 1), fill=cells.type_set[kind - 1].colour)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
