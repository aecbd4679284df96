"""report.pdf of one slide: first page, a page a picture, and tables of what concerns tumour, lymphocytes and stroma."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cytolite.files import NOTICE, whole_file
from cytolite.spatial import pictures
from cytolite.spatial.analysis import WHOLE, Analysis
from cytolite.spatial.wording import (
    LIMITS,
    TABLES,
    about_of,
    caption_of,
    headlines,
    interval_text,
    large,
    number,
    span,
    title_of,
    words,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FAINT = "#5c636a"
_LINES = 62
# What the tables leave to the other files.
_NOT_PRINTED = {"type_fraction", "nearest_within", "neighbourhood_z", "ripley_k"}
_COLUMNS = (
    ("measure", 0.05), ("types", 0.43), ("region", 0.6), ("value", 0.7), ("95% of ground", 0.77), ("95% of types", 0.9),
)  # fmt: skip


def write_pdf(path: Path, a: Analysis, drawn: dict[str, Figure], slide: bytes) -> None:
    """Write the report; `slide` is JPEG or empty.

    Parameters
    ----------
    path : pathlib.Path
        PDF to write.
    a : Analysis
    drawn : dict of str to matplotlib.figure.Figure
        From `pictures.figures`; they get headings and captions.
    slide : bytes
        The result's overview; empty: it is left out.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_pdf import PdfPages

    about = {"CreationDate": None, "Title": title_of(a)}
    with mpl.rc_context(pictures.STYLE), whole_file(path) as file, PdfPages(file, metadata=about) as pdf:
        pdf.savefig(_first_page(a, slide))
        for name, figure in drawn.items():
            heading, caption = caption_of(name, a)
            figure.suptitle(f"{heading}\n", x=0.01, ha="left", fontsize=13, fontweight="bold")
            figure.supxlabel(_wrapped(caption, 150), x=0.01, ha="left", fontsize=8, color=_FAINT)
            pdf.savefig(figure, dpi=150)
        for page in _pages_of_rows(a):
            pdf.savefig(page)


def _page() -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(8.27, 11.69))


def _wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(" ".join(text.split()), width))


def _first_page(a: Analysis, slide: bytes) -> Figure:
    import matplotlib.image as mpimg

    page = _page()
    page.text(0.07, 0.95, _wrapped(title_of(a), 60), fontsize=15, fontweight="bold", va="top")
    page.text(0.07, 0.885, NOTICE, fontweight="bold")
    y = 0.86
    for r in headlines(a):
        page.text(0.07, y, large(r.value, r), fontsize=12, fontweight="bold", va="top")
        page.text(0.2, y, f"{r.definition.title} ({r.region}; {interval_text(r)})", va="top")
        y -= 0.024
    for key, value in about_of(a):
        text = _wrapped(value, 95)
        page.text(0.07, y - 0.01, key, color=_FAINT, va="top")
        page.text(0.2, y - 0.01, text, va="top")
        y -= 0.018 * (1 + text.count("\n"))
    for warning in a.warnings:
        text = _wrapped(warning, 115)
        page.text(0.07, y - 0.02, f"! {text}", fontsize=8, color="#8a5a00", va="top")
        y -= 0.015 * (1 + text.count("\n"))
    bottom = 0.16
    if slide and y - 0.05 > bottom + 0.1:
        axis = page.add_axes((0.07, bottom, 0.86, y - 0.05 - bottom))
        axis.imshow(mpimg.imread(io.BytesIO(slide), format="jpeg"), aspect="equal")
        axis.set_axis_off()
    page.text(0.07, 0.14, _wrapped(LIMITS, 125), fontsize=7.5, color=_FAINT, va="top")
    return page


def _pages_of_rows(a: Analysis) -> Iterator[Figure]:
    played = {name for role in a.roles.codes for name in (role, *a.roles.types(role))}
    regions = {WHOLE, "tumour", "stroma", *a.sample.regions}
    lines: list[tuple[str, ...]] = []
    for heading, names in TABLES:
        rows = [
            r
            for r in a.rows
            if r.measure in names
            and r.measure not in _NOT_PRINTED
            and r.region in regions
            and math.isfinite(r.value)
            and _about_parts(r.types, played)
        ]
        lines += [(heading,)] if rows else []
        lines += [
            (words(r), r.types, r.region, number(r.value), span(r.low, r.high), span(r.type_low, r.type_high))
            for r in rows
        ]
    for start in range(0, len(lines), _LINES):
        page = _page()
        _draw_lines(page, lines[start : start + _LINES])
        yield page


def _about_parts(types: str, played: set[str]) -> bool:
    return types == "all" or all(name in played for part in types.split(" to ") for name in part.split(" and "))


def _draw_lines(page: Figure, lines: Sequence[tuple[str, ...]]) -> None:
    for name, x in _COLUMNS:
        page.text(x, 0.965, name, fontsize=7, color=_FAINT)
    for i, line in enumerate(lines):
        y = 0.95 - i * 0.0145
        if len(line) == 1:
            page.text(0.05, y, line[0], fontsize=9, fontweight="bold", va="center")
        else:
            for (_, x), cell in zip(_COLUMNS, line, strict=True):
                page.text(x, y, cell, fontsize=6.3, va="center")
    page.text(0.05, 0.03, f"{NOTICE} All measures, definitions and sources: report.html, measures.csv.", fontsize=7)
