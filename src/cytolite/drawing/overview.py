"""Pictures to look at: the whole slide with its cells coloured by type, and crops with every outline."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import imagecodecs
import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from cytolite.cells import CellTable
from cytolite.celltypes import DEFAULT, TypeSet
from cytolite.files import NOTICE, plain_refusal, whole_file
from cytolite.fonts import drawable, font
from cytolite.interop.roi import Region

_INK, _FAINT, _PAPER = (33, 37, 41), (108, 117, 125), (255, 255, 255)
_WARNING_INK = (178, 34, 34)
_OUTLINES_BELOW_UM = 1.5  # um per pixel: finer, nuclei are drawn as they are; coarser, as a map of dots
_DOTS_BELOW_UM = 5.0  # finer, a nucleus is a dot of several pixels
_SMALLEST_PANEL_PX = 900  # a small image is enlarged to this, so that there is something to see
_NUCLEUS_UM = 20.0  # no nucleus reaches further from its centre
ARTEFACT_COLOURS = {
    "blur": ("orange", (255, 150, 0)),
    "pen": ("blue", (0, 90, 255)),
    "fold": ("purple", (220, 0, 160)),
    "dark": ("red", (255, 0, 0)),
}
_BAND_PX = 256  # rows that are coloured at a time
_FINER = 3  # lines are drawn this much larger and averaged: that makes them smooth


def draw_overview(
    path: str | Path,
    thumbnail: NDArray[np.uint8],
    scale_px: float,
    cells: Iterable[CellTable],
    *,
    mpp: float,
    tissue: NDArray[np.bool_] | None = None,
    tissue_scale_px: float = 1.0,
    tissue_mm2: float | None = None,
    regions: Sequence[Region] = (),
    artefacts: Mapping[str, NDArray[np.bool_]] = MappingProxyType({}),
    title: str = "",
    footer: str = "",
    warnings: Sequence[str] = (),
    type_set: TypeSet = DEFAULT,
) -> None:
    """Draw a slide twice, beside or above each other: its stain, and its cells coloured by type.

    The first shows the outlines of tissue and regions. In the second, nuclei are outlined where the picture is fine
    enough (small images), else each pixel has the colour of its most frequent type, the stronger the more cells
    there are. Below: counts, a legend and a notice.

    Parameters
    ----------
    path : str or pathlib.Path
        PNG to write.
    thumbnail : numpy.ndarray
        uint8 (h, w, 3), the whole slide.
    scale_px : float
        Level-0 px per pixel of the thumbnail.
    cells : iterable of CellTable
        In level-0 px; gone through once, one table at a time.
    mpp : float
        um per level-0 px.
    tissue : numpy.ndarray, optional
        bool (h, w), where nuclei were searched: the tissue and what is around it.
    tissue_scale_px : float
        Level-0 px per pixel of `tissue`.
    tissue_mm2 : float, optional
        Area of the tissue itself, for the density.
    regions : sequence of Region
        Outlined and named.
    artefacts : mapping of str to numpy.ndarray
        bool (h, w) on the grid of `tissue`, for each kind: shaded in the first picture, and named below it.
    title, footer : str
        Text above and below; the notice "research use only" always follows the footer.
    warnings : sequence of str
        Written below the count, in red.
    type_set : TypeSet
        Types of the cells.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    zoom = max(1.0, _SMALLEST_PANEL_PX / max(thumbnail.shape[:2]))
    size = (round(thumbnail.shape[1] * zoom), round(thumbnail.shape[0] * zoom))
    view = _View((0.0, 0.0), scale_px / zoom, mpp, size)
    stain = Image.fromarray(thumbnail).resize(size, Image.Resampling.LANCZOS)
    if view.um_per_px < _OUTLINES_BELOW_UM:
        types, counts = _draw_outlines(stain, view, cells, type_set)
    else:
        types, counts = _draw_dots(stain, view, cells, type_set)
    if tissue is not None:
        stain = _draw_tissue(stain, view, tissue, tissue_scale_px)
    stain, shaded = _draw_artefacts(stain, view, artefacts, tissue_scale_px)
    footer = "   |   ".join(filter(None, (footer, shaded)))
    for panel in (stain, types):
        _draw_regions(panel, view, regions)
        _draw_scale_bar(panel, view)
    below = size[0] > 1.3 * size[1]
    gap = max(12, size[0] // 100)
    panels = Image.new("RGB", (size[0], 2 * size[1] + gap) if below else (2 * size[0] + gap, size[1]), _PAPER)
    panels.paste(stain, (0, 0))
    panels.paste(types, (0, size[1] + gap) if below else (size[0] + gap, 0))
    _save(
        path,
        _frame(panels, title, _count_line(counts, tissue_mm2), counts, footer, type_set=type_set, warnings=warnings),
    )


def draw_slide(
    path: str | Path,
    thumbnail: NDArray[np.uint8],
    scale_px: float,
    *,
    mpp: float,
    tissue: NDArray[np.bool_],
    tissue_scale_px: float,
    artefacts: Mapping[str, NDArray[np.bool_]],
    title: str = "",
    line: str = "",
) -> None:
    """Draw a slide with the outline of its tissue and its artefacts shaded, before any cells are known.

    Parameters
    ----------
    path, thumbnail, scale_px, mpp, tissue, tissue_scale_px, artefacts, title
        As for `draw_overview`; there is always a tissue.
    line : str
        Text below the title.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    view = _View((0.0, 0.0), scale_px, mpp, (thumbnail.shape[1], thumbnail.shape[0]))
    picture = _draw_tissue(Image.fromarray(thumbnail), view, tissue, tissue_scale_px)
    picture, shaded = _draw_artefacts(picture, view, artefacts, tissue_scale_px)
    _draw_scale_bar(picture, view)
    base = max(15, min(34, picture.width // 75))
    paper = Image.new("RGB", (max(picture.width, 40 * base) + 4 * base, picture.height + 10 * base), _PAPER)
    draw = ImageDraw.Draw(paper)
    draw.text((2 * base, 2 * base), drawable(title), _INK, font(round(base * 1.6)), anchor="lt")
    draw.text((2 * base, 4 * base), drawable(line), _FAINT, font(base), anchor="lt")
    paper.paste(picture, (2 * base, 6 * base))
    words = "   |   ".join(filter(None, (shaded, NOTICE)))
    draw.text((2 * base, 7 * base + picture.height), words, _FAINT, font(round(base * 0.8)), anchor="lt")
    _save(path, paper)


def draw_crop(
    path: str | Path,
    image: NDArray[np.uint8],
    cells: CellTable,
    origin: tuple[float, float],
    scale_px: float,
    *,
    mpp: float,
    zoom: float = 2.0,
    title: str = "",
    footer: str = "",
) -> None:
    """Draw a part of a slide with the outline of every nucleus in it, coloured by type.

    Parameters
    ----------
    path : str or pathlib.Path
        PNG to write.
    image : numpy.ndarray
        uint8 (h, w, 3).
    cells : CellTable
        In level-0 px; those outside of the crop do no harm.
    origin : tuple of float
        (x, y) of the image's corner in level-0 px.
    scale_px : float
        Level-0 px per pixel of the image.
    mpp : float
        um per level-0 px.
    zoom : float
        Pixels of the picture per pixel of the image.
    title, footer : str
        Text above and below.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    size = (round(image.shape[1] * zoom), round(image.shape[0] * zoom))
    view = _View(origin, scale_px / zoom, mpp, size)
    stain = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    near = cells.select(view.holds(cells.centroids, _NUCLEUS_UM))
    picture, counts = _draw_outlines(stain, view, [near], cells.type_set)
    _draw_scale_bar(picture, view)
    _save(path, _frame(picture, title, _count_line(counts, None), counts, footer, type_set=cells.type_set))


@dataclass(frozen=True)
class _View:
    """What part of the slide a picture shows: corner in level-0 px, level-0 px per pixel, um per level-0 px, size."""

    origin: tuple[float, float]
    scale_px: float
    mpp: float
    size: tuple[int, int]

    @property
    def um_per_px(self) -> float:
        return self.scale_px * self.mpp

    def to_picture(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        placed: NDArray[np.float64] = (xy - np.array(self.origin)) / self.scale_px
        return placed

    def holds(self, xy: NDArray[np.float64], beyond_um: float = 0.0) -> NDArray[np.bool_]:
        """Say which points lie in the picture, or at most `beyond_um` outside of it: bool (N,)."""
        x, y = self.to_picture(xy).T
        beyond = beyond_um / self.um_per_px
        width, height = self.size
        held: NDArray[np.bool_] = (x >= -beyond) & (y >= -beyond) & (x < width + beyond) & (y < height + beyond)
        return held


# ---- cells ----------------------------------------------------------------------------------------------------------


def _count(view: _View, table: CellTable) -> NDArray[np.int64]:
    """Count the cells of each type whose centre is in the picture."""
    return np.bincount(table.types[view.holds(table.centroids)], minlength=len(table.type_set) + 1)[1:]


def _draw_outlines(
    picture: Image.Image, view: _View, cells: Iterable[CellTable], type_set: TypeSet
) -> tuple[Image.Image, NDArray[np.int64]]:
    """Return a copy with each nucleus outlined in its type's colour, and the cells per type.

    A pale seam under the line keeps blue and violet apart from stained nuclei.
    """
    counts = np.zeros(len(type_set), np.int64)
    finer = _FINER if max(picture.size) < 3000 else 2
    width = max(1.0, min(3.0, 0.55 / view.um_per_px))
    size = (picture.width * finer, picture.height * finer)
    lines, strength, seam = Image.new("RGB", size), Image.new("L", size), Image.new("L", size)
    draw_lines, draw_strength, draw_seam = map(ImageDraw.Draw, (lines, strength, seam))
    for table in cells:
        counts += _count(view, table)
        for i in range(len(table)):
            ring = view.to_picture(_bevel(table.outline(i))) * finer
            points = [*map(tuple, ring.tolist()), tuple(ring[0].tolist()), tuple(ring[1].tolist())]
            draw_lines.line(points, type_set[table.types[i] - 1].colour, round(width * finer))
            draw_strength.line(points, 255, round(width * finer))
            draw_seam.line(points, 115, round((width + 1) * finer))
    lines, strength, seam = (layer.reduce(finer) for layer in (lines, strength, seam))
    picture = Image.composite(Image.new("RGB", picture.size, _PAPER), picture, seam)
    # The lines lie on black, so averaging has multiplied their colour by their strength already.
    picture = ImageChops.composite(Image.new("RGB", picture.size), picture, strength)
    return ImageChops.add(picture, lines), counts


def _bevel(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cut the corners of a ring by half of its shortest side: stairs along pixel edges become slanted lines.

    For the eye only; the polygons in the files follow the pixels.
    """
    steps = np.roll(ring, -1, axis=0) - ring
    lengths = np.hypot(*steps.T)
    cut = np.minimum(lengths.min() / 2, lengths / 2) / np.maximum(lengths, 1e-9)
    return np.stack([ring + steps * cut[:, None], ring + steps * (1 - cut[:, None])], axis=1).reshape(-1, 2)


def _draw_dots(
    picture: Image.Image, view: _View, cells: Iterable[CellTable], type_set: TypeSet
) -> tuple[Image.Image, NDArray[np.int64]]:
    """Return a pale copy with each pixel in the colour of its most frequent type, and the cells per type."""
    counts = np.zeros(len(type_set), np.int64)
    width, height = picture.size
    weights = np.zeros((len(type_set), height + 2, width + 2), np.float32)  # a margin of one pixel on each side
    for table in cells:
        counts += _count(view, table)
        seen = view.holds(table.centroids)
        rows = table.types[seen].astype(np.int64) - 1
        # Each cell counts in the four pixels around it, by how near they are.
        at = view.to_picture(table.centroids[seen]) + 0.5
        corner = np.floor(at).astype(np.int64)
        fx, fy = (at - corner).T.astype(np.float32)
        for dx, dy, share in (
            (0, 0, (1 - fx) * (1 - fy)),
            (1, 0, fx * (1 - fy)),
            (0, 1, (1 - fx) * fy),
            (1, 1, fx * fy),
        ):
            np.add.at(weights, (rows, corner[:, 1] + dy, corner[:, 0] + dx), share)
    if view.um_per_px < _DOTS_BELOW_UM:  # a nucleus covers several pixels: spread each over its neighbours
        for layer in weights:
            for axis in (0, 1):
                layer += (np.roll(layer, 1, axis) + np.roll(layer, -1, axis)) / 2  # noqa: PLW2901 - in place
    weights = weights[:, 1:-1, 1:-1]
    total = weights.sum(axis=0)
    # One cell alone is to be seen; where many share a pixel, their number is to be seen.
    half = max(0.25, float(np.quantile(total[total > 0], 0.9)) / 2) if total.any() else 1.0
    grey, out = np.asarray(picture.convert("L"), np.float32), np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _BAND_PX):  # all at once would take more memory than the network still holds
        band = slice(top, top + _BAND_PX)
        out[band] = _coloured(weights[:, band], total[band] / half, grey[band], type_set)
    return Image.fromarray(out), counts


def _coloured(
    weights: NDArray[np.float32], strength: NDArray[np.float32], grey: NDArray[np.float32], type_set: TypeSet
) -> NDArray[np.uint8]:
    """Return pixels, uint8 (h, w, 3): the colour of the type of most weight, the stronger the more, over pale grey."""
    alpha = (1 - np.exp(-strength))[..., None]
    most, winner = weights[0].copy(), np.zeros(grey.shape, np.uint8)
    for kind in range(1, len(type_set)):
        winner[weights[kind] > most] = kind
        np.maximum(most, weights[kind], out=most)
    colours = np.array(type_set.colours, np.float32)[winner]
    pale = 255 - (255 - grey[..., None]) * 0.45
    blended: NDArray[np.float32] = np.rint(pale * (1 - alpha) + colours * alpha)
    return np.clip(blended, 0, 255).astype(np.uint8)


# ---- what is drawn around them --------------------------------------------------------------------------------------


def _draw_tissue(picture: Image.Image, view: _View, tissue: NDArray[np.bool_], tissue_scale_px: float) -> Image.Image:
    """Return a copy with the border of the tissue as a smooth line; what is not tissue is a little paler."""
    if tissue.all():  # as in most small images: there is no border
        return picture.copy()
    width, height = picture.size
    reach = [side * view.scale_px / tissue_scale_px for side in picture.size]
    box = (0, 0, min(reach[0], tissue.shape[1]), min(reach[1], tissue.shape[0]))
    mask = Image.fromarray(tissue.astype(np.uint8) * 255).resize(
        (2 * width, 2 * height), Image.Resampling.BILINEAR, box
    )
    mask = mask.point(lambda v: 255 if v >= 128 else 0)
    radius = max(2, max(width, height) // 400)
    # Blurred over a square, the mask is above 0 as far as its maximum over that square: at a hundredth of the time.
    grown = mask.filter(ImageFilter.BoxBlur(radius)).point(lambda v: 255 if v else 0)
    line = ImageChops.difference(grown, mask)
    outside = ImageChops.invert(mask).reduce(2).point(lambda v: v * 0.35)
    picture = Image.composite(Image.new("RGB", picture.size, _PAPER), picture, outside)
    line = line.reduce(2)
    return Image.composite(Image.new("RGB", picture.size, (0, 121, 107)), picture, line)


# Of more regions than this the names would cover the picture, and wide lines the tissue.
_MOST_NAMED = 60


def _draw_artefacts(
    picture: Image.Image, view: _View, artefacts: Mapping[str, NDArray[np.bool_]], scale_px: float
) -> tuple[Image.Image, str]:
    """Return a copy with artefacts shaded, each kind in its colour, and the words that say so; empty without any."""
    named = []
    for kind, mask in artefacts.items():
        if mask.any():
            name, colour = ARTEFACT_COLOURS.get(kind, ("grey", _FAINT))
            box = (0, 0, picture.width * view.scale_px / scale_px, picture.height * view.scale_px / scale_px)
            box = (0, 0, min(box[2], mask.shape[1]), min(box[3], mask.shape[0]))
            shade = Image.fromarray(mask.astype(np.uint8) * 120).resize(picture.size, Image.Resampling.NEAREST, box)
            picture = Image.composite(Image.new("RGB", picture.size, colour), picture, shade)
            named.append(f"{kind} ({name})")
    return picture, f"Shaded: {', '.join(named)}" if named else ""


def _draw_regions(picture: Image.Image, view: _View, regions: Sequence[Region]) -> None:
    draw = ImageDraw.Draw(picture)
    many = len(regions) > _MOST_NAMED
    width = 1 if many else max(2, max(picture.size) // 500)
    lettering = font(max(14, max(picture.size) // 70))
    for region in regions:
        for polygon in shapely.get_parts(region.polygon):
            for ring in (polygon.exterior, *polygon.interiors):
                points = [*map(tuple, view.to_picture(shapely.get_coordinates(ring)).tolist())]
                if not many:
                    draw.line(points, _PAPER, width + 2, joint="curve")
                draw.line(points, _INK, width, joint="curve")
    for region in () if many else regions:
        left, top, _, _ = region.polygon.bounds
        x, y = view.to_picture(np.array([left, top])).tolist()
        at = (min(max(x, 0), picture.width - 20) + 2 * width, min(max(y, 0), picture.height - 20) + width)
        draw.text(at, drawable(region.name), _INK, lettering, stroke_width=3, stroke_fill=_PAPER)


def _draw_scale_bar(picture: Image.Image, view: _View) -> None:
    """Draw a bar of a round length, about a sixth of the picture's width, at its lower left."""
    wanted_um = picture.width * view.um_per_px / 6
    decade = 10 ** math.floor(math.log10(wanted_um))
    length_um = decade * max(step for step in (1, 2, 5) if step * decade <= wanted_um)
    text = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} µm"
    length = length_um / view.um_per_px
    thick = max(4, picture.width // 250)
    left, bottom = max(12, picture.width // 50), picture.height - max(12, picture.width // 50)
    top = bottom - thick
    draw = ImageDraw.Draw(picture)
    draw.rectangle((left - 2, top - 2, left + length + 2, bottom + 2), _PAPER)
    draw.rectangle((left, top, left + length, bottom), _INK)
    middle = (left + length / 2, top - thick)
    draw.text(middle, text, _INK, font(max(14, picture.width // 60)), anchor="mb", stroke_width=3, stroke_fill=_PAPER)


def _count_line(counts: NDArray[np.int64], tissue_mm2: float | None) -> str:
    n = int(counts.sum())
    line = f"{n:,} " + ("nucleus" if n == 1 else "nuclei")
    if tissue_mm2:
        line += f"   |   {tissue_mm2:,.2f} mm² of tissue   |   {n / tissue_mm2:,.0f} per mm²"
    return line


def _frame(
    picture: Image.Image,
    title: str,
    line: str,
    counts: NDArray[np.int64],
    footer: str,
    *,
    type_set: TypeSet,
    warnings: Sequence[str] = (),
) -> Image.Image:
    """Return the picture on paper: title, count and warnings above, legend and notice below."""
    base = max(15, min(34, picture.width // 75))
    margin, spacing = 2 * base, round(base * 1.6)
    width = max(picture.width, 40 * base)
    items = [
        (
            cell_type.colour,
            f"{cell_type.qupath_class}  {count:,}" + (f"  ({count / counts.sum():.0%})" if count else ""),
        )
        for cell_type, count in zip(type_set, counts.tolist(), strict=True)
    ]
    rows = _flow([font(base).getlength(text) + 3.2 * base for _, text in items], width)
    told = [row for text in warnings for row in _wrapped(f"Warning: {text}", base, width)]
    count_line = margin + (round(2.2 * base) if title else 0) + spacing - base // 2
    top = count_line + base // 2 + len(told) * spacing
    legend = top + picture.height + base
    notice = legend + len(rows) * spacing + base // 2
    paper = Image.new("RGB", (width + 2 * margin, notice + spacing + margin // 2), _PAPER)
    draw = ImageDraw.Draw(paper)
    if title:
        draw.text((margin, margin), drawable(title), _INK, font(round(base * 1.6)), anchor="lt")
    draw.text((margin, count_line), line, _FAINT, font(base), anchor="ls")
    for row, text in enumerate(told, 1):
        draw.text((margin, count_line + row * spacing), drawable(text), _WARNING_INK, font(base), anchor="ls")
    paper.paste(picture, (margin + (width - picture.width) // 2, top))
    for row, (first, last, step) in enumerate(rows):
        for place, (colour, text) in enumerate(items[first:last]):
            x, y = margin + place * step, legend + row * spacing
            draw.rounded_rectangle((x, y, x + base, y + base), base // 4, colour)
            draw.text((x + 1.5 * base, y + base // 2), drawable(text), _INK, font(base), anchor="lm")
    words = f"{drawable(footer)}   |   {NOTICE}" if footer else NOTICE
    draw.text((margin, notice), words, _FAINT, font(round(base * 0.8)), anchor="lt")
    return paper


def _wrapped(text: str, size: int, room: float) -> list[str]:
    """Break a text into lines that fit."""
    lines: list[str] = []
    for word in text.split():
        if lines and font(size).getlength(drawable(f"{lines[-1]} {word}")) <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _flow(widths: Sequence[float], room: float) -> list[tuple[int, int, float]]:
    """Put items into as few equal columns as fit: (first, last + 1, width of a column) for each row."""
    columns = max(1, min(len(widths), int(room // max(widths))))
    lines = math.ceil(len(widths) / columns)
    columns = math.ceil(len(widths) / lines)
    return [(i, min(i + columns, len(widths)), room / columns) for i in range(0, len(widths), columns)]


def _save(path: str | Path, picture: Image.Image) -> None:
    with whole_file(path) as file, plain_refusal(Path(path)):
        # At a quarter of what Pillow takes to try all filters on each row, in files 5% larger.
        file.write(imagecodecs.png_encode(np.asarray(picture), level=1, filter=imagecodecs.PNG.FILTER.UP))
