"""Crops of the nuclei of each type, from the surest to the least sure: the quickest look at whether types are right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cytolite.cells import CellTable
from cytolite.errors import InputError, UsageError, did_you_mean
from cytolite.files import NOTICE, plain_refusal, whole_file
from cytolite.fonts import drawable, font
from cytolite.interop.result import Result
from cytolite.slides.reader import Slide

CROP_UM, CROP_PX, GAP_PX, TEXT_PX, COLUMNS = 24.0, 96, 4, 13, 16
_PAPER, _INK, _FAINT = (255, 255, 255), (33, 37, 41), (108, 117, 125)
_UNSURE = (178, 34, 34)


def draw_result(
    result: Result, path: Path, *, slide: Path | None = None, region: str | None = None, columns: int = COLUMNS
) -> int:
    """Draw the sheet of a result; return how many crops it has.

    Parameters
    ----------
    result : Result
        Whose nuclei are shown.
    path : pathlib.Path
        PNG to write.
    slide : pathlib.Path, optional
        The slide, if it is not where it was when the result was made.
    region : str, optional
        Only nuclei of this region.
    columns : int
        Crops of each type, at equal steps of rank.

    Raises
    ------
    InputError
        If the slide is not there or is another one, or there is no such region or no nucleus.
    """
    cells = result.cells
    if region is not None:
        if region not in result.regions:
            raise UsageError(
                f"The result has no region {region!r}; it has {', '.join(result.regions) or 'none'}."
                f"{did_you_mean(region, result.regions)}"
            )
        cells = cells.select(cells.regions == result.regions.index(region))
    if not len(cells):
        raise InputError(f"{result.folder} has no nuclei to show.")
    with open_of(result, slide) as opened:
        return draw_sheet(result, opened, path, cells=cells, region=region, columns=columns)


def draw_sheet(
    result: Result,
    slide: Slide,
    path: Path,
    *,
    cells: CellTable | None = None,
    region: str | None = None,
    columns: int = COLUMNS,
) -> int:
    """Draw the sheet of some or all nuclei of a result, whose slide is open; return how many crops it has.

    Parameters
    ----------
    result : Result
        Whose names head the sheet.
    slide : Slide
        Of the result.
    path : pathlib.Path
        PNG to write.
    cells : CellTable, optional
        Nuclei to choose from, by default all of the result.
    region : str, optional
        What those are of, for the heading.
    columns : int
        Crops of each type, at equal steps of rank.
    """
    cells = result.cells if cells is None else cells
    rows = {kind.id: ranked(cells, kind.id, columns) for kind in cells.type_set}
    crops = {row: crop_of(slide, cells, row) for chosen in rows.values() for row in chosen.tolist()}
    model = f"{result.model['name']} {result.model['version']}"
    title = " - ".join([result.slide, *([region] if region else []), model])
    picture = _sheet(cells, rows, crops, title, columns)
    with whole_file(path) as file, plain_refusal(path):
        picture.save(file, "PNG", compress_level=6)
    return len(crops)


def draw_chosen(result: Result, rows: NDArray[np.int64], path: Path, slide: Path | None = None) -> None:
    """Draw the crops of chosen nuclei in their order, numbered from 1.

    Parameters
    ----------
    result : Result
        Whose nuclei are shown.
    rows : numpy.ndarray
        int64 (n,), rows of the result's cells, at least one.
    path : pathlib.Path
        PNG to write.
    slide : pathlib.Path, optional
        The slide, if it is not where it was when the result was made.

    Raises
    ------
    InputError
        If the slide is not there or is another one.
    """
    columns, lettering, pitch = min(10, len(rows)), font(TEXT_PX), CROP_PX + GAP_PX
    cells = result.cells
    with open_of(result, slide) as opened:
        crops = [crop_of(opened, cells, row) for row in rows.tolist()]
    height = pitch + TEXT_PX + GAP_PX
    size = (columns * pitch + GAP_PX, -(-len(rows) // columns) * height + 2 * TEXT_PX)
    sheet = Image.new("RGB", (max(size[0], 480), size[1]), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for i, (crop, row) in enumerate(zip(crops, rows.tolist(), strict=True)):
        x, y = GAP_PX + i % columns * pitch, GAP_PX + i // columns * height
        sheet.paste(crop, (x, y))
        text = f"{i + 1}: {cells.type_names[cells.types[row] - 1]}?"
        pen.text((x, y + CROP_PX), drawable(text)[:15], _INK, lettering)
    pen.text((GAP_PX, sheet.height - TEXT_PX - 6), NOTICE, _FAINT, lettering)
    with whole_file(path) as file, plain_refusal(path):
        sheet.save(file, "PNG")


def open_of(result: Result, slide: Path | None = None) -> Slide:
    """Open the slide of a result.

    Parameters
    ----------
    result : Result
        Whose slide is opened.
    slide : pathlib.Path, optional
        The slide, if it is not where it was when the result was made.

    Raises
    ------
    InputError
        If it is not there, or of another size.
    """
    path = slide or Path(result.run["slide"]["path"])
    if not path.exists():
        raise InputError(f"The slide {path} is not there; name the slide with --slide.")
    return result.open_slide(path)


def ranked(cells: CellTable, kind: int, n: int) -> NDArray[np.int64]:
    """Return up to `n` rows of a type at equal steps of rank, the surest first.

    Parameters
    ----------
    cells : CellTable
        To choose from.
    kind : int
        Id of the type, from 1.
    n : int
        How many.
    """
    of_kind = np.flatnonzero(cells.types == kind)
    order = of_kind[np.argsort(-cells.type_probs[of_kind, kind - 1], kind="stable")]
    if not len(order):
        return order
    steps: NDArray[np.int64] = order[np.unique(np.linspace(0, len(order) - 1, min(n, len(order))).round().astype(int))]
    return steps


def crop_of(slide: Slide, cells: CellTable, row: int) -> Image.Image:
    """Return the slide around a nucleus, with its outline as a thin line of its type's colour.

    Parameters
    ----------
    slide : Slide
        That the cells are of.
    cells : CellTable
        In level-0 px.
    row : int
        Of the nucleus.
    """
    side_px = CROP_UM / slide.mpp
    x, y = cells.centroids[row] - side_px / 2
    finer = CROP_UM / CROP_PX
    crop = Image.fromarray(slide.read(float(x), float(y), CROP_PX, CROP_PX, max(finer, slide.mpp)))
    if finer < slide.mpp:  # the slide is coarser than the crop: enlarge what it has
        have = round(CROP_UM / slide.mpp)
        crop = crop.crop((0, 0, have, have)).resize((CROP_PX, CROP_PX), Image.Resampling.BICUBIC)
    scale = CROP_PX / side_px
    ring = ((cells.outline(row) - [x, y]) * scale).tolist()
    ImageDraw.Draw(crop).line([*map(tuple, [*ring, ring[0]])], cells.type_set[cells.types[row] - 1].colour, 1)
    return crop


def _sheet(
    cells: CellTable,
    rows: dict[int, NDArray[np.int64]],
    crops: dict[int, Image.Image],
    title: str,
    columns: int,
) -> Image.Image:
    lettering, pitch = font(TEXT_PX), CROP_PX + GAP_PX
    height = CROP_PX + 3 * TEXT_PX + 2 * GAP_PX
    shown = [kind for kind in cells.type_set if len(rows[kind.id])]
    width = max(columns * pitch, 560) + 3 * GAP_PX
    head = 3 * TEXT_PX
    sheet = Image.new("RGB", (width, head + len(shown) * height + 2 * TEXT_PX), _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((2 * GAP_PX, GAP_PX + 2), drawable(title), _INK, font(TEXT_PX + 4))
    counts = cells.counts()
    for line, kind in enumerate(shown):
        top = head + line * height
        chosen: Sequence[int] = rows[kind.id].tolist()
        pen.rounded_rectangle((2 * GAP_PX, top + 3, 2 * GAP_PX + TEXT_PX, top + 3 + TEXT_PX), 3, kind.colour)
        text = f"{kind.qupath_class}: {len(chosen)} of {counts[kind.name]:,}, from the surest to the least sure"
        pen.text((4 * GAP_PX + TEXT_PX, top + 2), drawable(text), _INK, lettering)
        for place, row in enumerate(chosen):
            x, y = 2 * GAP_PX + place * pitch, top + TEXT_PX + 2 * GAP_PX
            sheet.paste(crops[row], (x, y))
            p = float(cells.type_probs[row, kind.id - 1])
            pen.text((x, y + CROP_PX), f"{p:.2f}", _UNSURE if p < 0.5 else _INK, lettering)
    pen.text((2 * GAP_PX, sheet.height - TEXT_PX - 8), f"Crops of {CROP_UM:g} µm. {NOTICE}", _FAINT, lettering)
    return sheet
