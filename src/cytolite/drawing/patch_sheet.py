"""A contact sheet: windows of patches with their truth drawn in, to be looked at before anything is trained on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from PIL.ImageFont import FreeTypeFont

from cytolite.celltypes import SEVEN, LabelSet
from cytolite.fonts import drawable, font
from cytolite.patches import OUTLINE, Patch

WINDOW_PX, ZOOM, COLUMNS, ROWS, GAP_PX = 160, 2, 6, 5, 8
CAPTION_PX, LEGEND_PX = 18, 26
PAPER, INK = (255, 255, 255), (33, 37, 41)
# Laid thinly over what is known to be a nucleus, or background, but whose outline is not to be learnt.
DOUBTFUL = (255, 230, 0)


def draw_sheet(
    patches: Sequence[Patch],
    sources: Sequence[str],
    nuclei: NDArray[np.int32],
    seed: int = 0,
    *,
    labels: LabelSet = SEVEN,
) -> Image.Image:
    """Draw windows of up to 30 patches, from each source about as many, each around a nucleus where there is one.

    Parameters
    ----------
    patches : sequence of Patch
        Read one at a time.
    sources : sequence of str
        One entry a patch.
    nuclei : numpy.ndarray
        int32 (n, labels), nuclei per patch and label: a window's nucleus is of a label drawn uniformly.
    seed : int
        The same seed draws the same windows.
    labels : LabelSet
        What the type maps hold.

    Returns
    -------
    PIL.Image.Image
        Outlines have the colours of the labels; ground of which nothing is known is pale, and what has no outline to
        learn is yellowish.
    """
    rng = np.random.default_rng(seed)
    chosen = choose(sources, nuclei, rng)
    side = WINDOW_PX * ZOOM
    columns = min(COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    pitch = (side + GAP_PX, side + GAP_PX + CAPTION_PX)
    sheet = Image.new("RGB", (columns * pitch[0] + GAP_PX, rows * pitch[1] + GAP_PX + LEGEND_PX), PAPER)
    pen, lettering = ImageDraw.Draw(sheet), font(14)
    for k, (index, label) in enumerate(chosen):
        patch = patches[index]
        x, y = GAP_PX + k % columns * pitch[0], GAP_PX + k // columns * pitch[1]
        sheet.paste(Image.fromarray(paint(window(patch, label, rng), labels)), (x, y + CAPTION_PX))
        pen.text((x, y), drawable(f"{patch.source}  {patch.name}  {patch.tissue}")[:44], INK, lettering)
    _draw_legend(pen, lettering, sheet.height - LEGEND_PX, nuclei.sum(0), labels)
    return sheet


def choose(sources: Sequence[str], nuclei: NDArray[np.int32], rng: np.random.Generator) -> list[tuple[int, int]]:
    """Choose patches and for each a label that occurs in it (0 where none does), source by source.

    Parameters
    ----------
    sources : sequence of str
        Of each patch.
    nuclei : numpy.ndarray
        int32 (patches, labels), how many of each label.
    rng : numpy.random.Generator
        Of the draws.
    """
    source_of, names = np.asarray(sources), sorted(set(sources))
    share = max(1, COLUMNS * ROWS // len(names))
    chosen: list[tuple[int, int]] = []
    for name in names:
        of_source = np.flatnonzero(source_of == name)
        labels = np.flatnonzero(nuclei[of_source].any(0))
        taken: set[int] = set()
        for k in range(min(share, len(of_source))):
            label = int(labels[k % len(labels)]) if len(labels) else 0
            free = np.array([i for i in of_source.tolist() if i not in taken])
            holding = free[nuclei[free, label] > 0]
            index = int(rng.choice(holding if len(holding) else free))
            taken.add(index)
            chosen.append((index, label if len(holding) else 0))
    return chosen[: COLUMNS * ROWS]


def window(patch: Patch, label: int, rng: np.random.Generator) -> Patch:
    """Cut the window out: around a pixel of the label, or anywhere; a small patch is shown whole, on white.

    Parameters
    ----------
    patch : Patch
        To be shown.
    label : int
        Of the nucleus in the middle; 0 for anywhere.
    rng : numpy.random.Generator
        Of the draws.
    """
    rows, cols = patch.type_map.shape
    places = np.flatnonzero(patch.type_map == label)
    row, col = np.unravel_index(
        int(rng.choice(places)) if len(places) else int(rng.integers(rows * cols)), (rows, cols)
    )
    top, left = (
        max(0, min(at - WINDOW_PX // 2, side - WINDOW_PX)) for at, side in ((int(row), rows), (int(col), cols))
    )
    cut = np.s_[top : top + WINDOW_PX, left : left + WINDOW_PX]
    below, right = (max(0, WINDOW_PX - side) for side in (rows, cols))
    image = np.pad(patch.image[cut], ((0, below), (0, right), (0, 0)), constant_values=255)
    maps: dict[str, Any] = {
        key: np.pad(labels[cut], ((0, below), (0, right))) for key, labels in patch.label_maps.items()
    }
    return replace(patch, image=image, **maps)


def paint(patch: Patch, labels: LabelSet = SEVEN) -> NDArray[np.uint8]:
    """Enlarge a window and draw its truth in: uint8 (H * ZOOM, W * ZOOM, 3).

    Parameters
    ----------
    patch : Patch
        A window of (H, W) pixels.
    labels : LabelSet
        What its type map holds, and their colours.
    """
    size = [side * ZOOM for side in patch.type_map.shape[::-1]]
    picture = np.array(Image.fromarray(patch.image).resize(size, Image.Resampling.BICUBIC))
    instances, types = (a.repeat(ZOOM, 0).repeat(ZOOM, 1) for a in (patch.instance_map, patch.type_map))
    known, trust = (a.repeat(ZOOM, 0).repeat(ZOOM, 1) for a in (patch.known, patch.trust))
    ignored = (known == 0) & (trust == 0)
    picture[ignored] = picture[ignored] // 2 + 127
    unoutlined = (known > 0) & (known & OUTLINE == 0)
    picture[unoutlined] = picture[unoutlined] // 4 * 3 + np.array(DOUBTFUL, np.uint8) // 4
    # A typed area without an instance (a cell whose nucleus is not outlined) is outlined as an area.
    areas = np.where(instances > 0, instances, -types.astype(np.int32))
    edge = np.zeros(areas.shape, bool)
    for axis in (0, 1):
        differs = np.diff(areas, axis=axis) != 0
        before, after = (np.s_[:-1], np.s_[1:]) if axis == 0 else (np.s_[:, :-1], np.s_[:, 1:])
        edge[before] |= differs
        edge[after] |= differs
    for label, colour in labels.colours.items():
        picture[edge & (types == label)] = colour
    picture[edge & (instances > 0) & ((types == 0) | ignored)] = 0
    return picture


def _draw_legend(
    pen: ImageDraw.ImageDraw, lettering: FreeTypeFont, y: int, counts: NDArray[np.int64], labels: LabelSet
) -> None:
    x = float(GAP_PX)
    for label, colour in labels.colours.items():
        if counts[label]:
            pen.rectangle((x, y + 4, x + 12, y + 16), colour)
            text = f"{labels.names[label]} {counts[label]:,}"
            pen.text((x + 17, y + 3), text, INK, lettering)
            x += 17 + pen.textlength(text, lettering) + 18
