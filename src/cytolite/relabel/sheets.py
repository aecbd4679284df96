"""Sheets of crops per new label, from the surest to the least sure, to look at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pyarrow import compute

from cytolite.config import RelabelSettings
from cytolite.datasets.store import Store
from cytolite.files import whole_folder
from cytolite.fonts import drawable, font
from cytolite.relabel.crops import find_cells
from cytolite.relabel.samples import crops_of

SHOWN_PX, GAP_PX, TEXT_PX = 72, 4, 13


def write_sheets(folder: Path, stores: Sequence[Store], table: pa.Table, settings: RelabelSettings) -> list[Path]:
    """Draw one PNG per dataset and likeliest type, ``<source>-<type>.png``; return their paths.

    Each holds up to `settings.sheet_cells` crops at equal steps of rank, the surest first, with their probabilities;
    those below `settings.min_probability`, which were not given the type, are written in red.

    Parameters
    ----------
    folder : pathlib.Path
        Of the PNG files; replaced as a whole.
    stores : sequence of Store
        Open stores that hold the cells.
    table : pyarrow.Table
        The audit.
    settings : RelabelSettings
        How crops are cut, cells on a sheet, and the probability that is high enough.
    """
    kinds = table.select(["source", "old_type", "likeliest_type"]).group_by(["source", "likeliest_type"]).aggregate([])
    wanted: dict[tuple[str, str, int], NDArray[np.uint8] | None] = {}
    sheets = []
    for source, kind in sorted(zip(kinds["source"].to_pylist(), kinds["likeliest_type"].to_pylist(), strict=True)):
        of_kind = table.filter((compute.field("source") == source) & (compute.field("likeliest_type") == kind))
        of_kind = of_kind.sort_by([("probability", "descending"), ("patch", "ascending"), ("id", "ascending")])
        ranks = np.unique(np.linspace(0, len(of_kind) - 1, min(settings.sheet_cells, len(of_kind))).round().astype(int))
        chosen = of_kind.take(ranks).to_pylist()
        wanted |= {(r["source"], r["patch"], r["id"]): None for r in chosen}
        sheets.append((source, kind, len(of_kind), chosen))
    _fill(wanted, stores, settings)
    with whole_folder(folder, replace=True) as part:
        for source, kind, n, chosen in sheets:
            crops = [wanted[r["source"], r["patch"], r["id"]] for r in chosen]
            title = f"{source}: {kind}, {len(chosen)} of {n:,} cells, surest first"
            probs = [r["probability"] for r in chosen]
            picture = draw_sheet(title, crops, probs, settings.min_probability)  # type: ignore[arg-type]
            picture.save(part / f"{source}-{kind}.png")
    return sorted(folder.iterdir())


def _fill(
    wanted: dict[tuple[str, str, int], NDArray[np.uint8] | None], stores: Sequence[Store], settings: RelabelSettings
) -> None:
    """Cut the wanted cells out of their patches, each of which is read once."""
    patches: dict[tuple[str, str], list[int]] = {}
    for source, name, cell_id in wanted:
        patches.setdefault((source, name), []).append(cell_id)
    for store in stores:
        for i, key in enumerate(zip(store.texts("source"), store.texts("name"), strict=True)):
            if key not in patches:
                continue
            patch = store[i]
            cells = find_cells(patch)
            at = [int(np.flatnonzero(cells.ids == cell_id)[0]) for cell_id in patches[key]]
            crops = crops_of(patch, cells.boxes[at], settings)
            wanted |= {(*key, cell_id): crop for cell_id, crop in zip(patches[key], crops, strict=True)}


def draw_sheet(title: str, crops: Sequence[NDArray[np.uint8]], probs: Sequence[float], low: float) -> Image.Image:
    """Lay crops out in rows, each with its probability below it, in red where it is under `low`.

    Parameters
    ----------
    title : str
        Written above.
    crops : sequence of numpy.ndarray
        uint8 (side, side, 3) each, one at least.
    probs : sequence of float
        One per crop.
    low : float
        Probability that is high enough.
    """
    columns = math.ceil(math.sqrt(len(crops)))
    rows = math.ceil(len(crops) / columns)
    width, height = SHOWN_PX + GAP_PX, SHOWN_PX + TEXT_PX + GAP_PX
    lettering, title = font(TEXT_PX), drawable(title)
    head = TEXT_PX + 3 * GAP_PX
    title_width = math.ceil(lettering.getlength(title)) + 2 * GAP_PX
    sheet = Image.new("RGB", (max(columns * width + GAP_PX, title_width), rows * height + head), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP_PX, GAP_PX), title, "black", lettering)
    for i, (crop, p) in enumerate(zip(crops, probs, strict=True)):
        x, y = GAP_PX + i % columns * width, head + i // columns * height
        sheet.paste(Image.fromarray(crop).resize((SHOWN_PX, SHOWN_PX), Image.Resampling.BICUBIC), (x, y))
        pen.text((x, y + SHOWN_PX - 1), f"{p:.3f}", "red" if p < low else "black", lettering)
    return sheet
