"""report.html of one slide: pictures, tables with intervals, what each number means; one file that opens offline."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files as resources
from pathlib import Path
from string import Template

from cytolite.files import NOTICE, whole_file
from cytolite.interop.result_folder import OVERVIEW_FILE
from cytolite.spatial import pictures
from cytolite.spatial.analysis import WHOLE, Analysis
from cytolite.spatial.definition import MEASURES
from cytolite.spatial.estimate import Row
from cytolite.spatial.files import unit_of
from cytolite.spatial.report_pdf import write_pdf
from cytolite.spatial.wording import (
    LIMITS,
    RULES,
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


def write_report(folder: Path, a: Analysis) -> None:
    """Write ``report.html``, ``report.pdf`` and the pictures as PNG.

    Parameters
    ----------
    folder : pathlib.Path
        Is there.
    a : Analysis

    Raises
    ------
    OutputError
        If something cannot be written.
    """
    drawn = pictures.figures(a)
    images = {name: pictures.png(figure) for name, figure in drawn.items()}
    for name, data in images.items():
        with whole_file(folder / f"{name}.png") as file:
            file.write(data)
    slide = _overview(a.sample.folder / OVERVIEW_FILE)
    with whole_file(folder / "report.html") as file:
        file.write(render(a, images, slide).encode())
    write_pdf(folder / "report.pdf", a, drawn, slide)


def _overview(path: Path) -> bytes:
    """The result's overview as JPEG, small enough for a page that is sent around; empty if there is none."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            picture = image.convert("RGB")
    except (OSError, UnidentifiedImageError):
        return b""
    picture.thumbnail((1800, 1800))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=88)
    return out.getvalue()


def render(a: Analysis, images: dict[str, bytes], slide: bytes) -> str:
    """Return the page; `images` are PNG files, `slide` is JPEG or empty.

    Parameters
    ----------
    a : Analysis
    images : dict of str to bytes
        By the picture's name, a key of `wording.CAPTIONS`, in the order of the page.
    slide : bytes
        The result's overview; empty: it is left out.
    """
    title = title_of(a)
    rows = "".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in about_of(a))
    parts = [f"<h1>{escape(title)}</h1>", f"<p class='notice'>{NOTICE}</p>", _headline(a), f"<table>{rows}</table>"]
    if a.warnings:
        parts.append("<ul class='warnings'>" + "".join(f"<li>{escape(w)}</li>" for w in a.warnings) + "</ul>")
    if slide:
        parts.append("<h2>Slide, tissue and nuclei</h2>" + _image(slide, "the slide and its nuclei", "jpeg"))
    for name, data in images.items():
        heading, caption = caption_of(name, a)
        parts.append(f"<h2>{escape(heading)}</h2>{_note(caption)}{_image(data, heading)}")
        if name == "regions":
            parts.append(_note(RULES) + _areas(a))
    parts += [*_tables(a), _comparisons(a.comparisons), _definitions(a)]
    parts.append(f"<h2>Limits</h2>{_note(LIMITS)}<p class='notice'>{NOTICE}</p>")
    template = resources("cytolite.spatial").joinpath("report.html").read_text(encoding="utf-8")
    return Template(template).substitute(title=escape(title), body="\n".join(parts))


def _note(text: str) -> str:
    return f"<p class='note'>{escape(text)}</p>"


def _image(data: bytes, alt: str, kind: str = "png") -> str:
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return f"<figure><img alt='{escape(alt)}' src='{source}'></figure>"


def _table_of(head: Sequence[str], lines: Sequence[str]) -> str:
    heads = "".join(f"<th>{h}</th>" for h in head)
    body = "".join(lines)
    return f"<div class='scroll'><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"


def _headline(a: Analysis) -> str:
    boxes = "".join(
        f"<div><b>{large(r.value, r)}</b>{escape(r.definition.title)}<br>"
        f"<small>{escape(r.region)}; {interval_text(r)}</small></div>"
        for r in headlines(a)
    )
    return f"<div class='headline'>{boxes}</div>"


def _areas(a: Analysis) -> str:
    lines = [f"<tr><th>{escape(n)}</th><td>{area:.3f}</td></tr>" for n, area in a.areas_mm2.items()]
    return f"<details><summary>Areas</summary>{_table_of(('region', 'tissue, mm²'), lines)}</details>"


def _tables(a: Analysis) -> Iterator[str]:
    """One table a family and region, open for the whole tissue."""
    for heading, names in TABLES:
        rows = [r for r in a.rows if r.measure in names and math.isfinite(r.value)]
        if not rows:
            continue
        yield f"<h2>{heading}</h2>"
        for region in dict.fromkeys(r.region for r in rows):
            of_region = [r for r in rows if r.region == region]
            state = " open" if region == WHOLE and heading == "Composition" else ""
            summary = f"<summary>{escape(region)} ({len(of_region)} values)</summary>"
            yield f"<details{state}>{summary}{_table(of_region)}</details>"


def _table(rows: Sequence[Row]) -> str:
    lines = []
    for r in rows:
        cells = (r.types, number(r.value), span(r.low, r.high), span(r.type_low, r.type_high), f"{r.n:,}", unit_of(r))
        rest = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        lines.append(f"<tr><td><a href='#{r.measure}'>{escape(words(r))}</a></td>{rest}</tr>")
    return _table_of(("measure", "types", "value", "95% of ground", "95% of types", "n", "unit"), lines)


def _comparisons(rows: Sequence[Row]) -> str:
    lines = []
    for r in rows:
        if math.isfinite(r.value):
            clear = math.isfinite(r.low) and not r.low <= 0 <= r.high
            bounds = f"<b>{span(r.low, r.high)}</b>" if clear else span(r.low, r.high)
            named = "".join(f"<td>{escape(cell)}</td>" for cell in (words(r), r.types, r.region))
            numbers = f"<td>{number(r.value)}</td><td>{bounds}</td><td>{escape(unit_of(r))}</td>"
            lines.append(f"<tr>{named}{numbers}</tr>")
    if not lines:
        return ""
    note = _note(
        "On the same draws of blocks; an interval that leaves out 0 is bold. Many are looked at: some leave it out by "
        "chance."
    )
    table = _table_of(("measure", "types", "regions", "difference", "95%", "unit"), lines)
    return (
        f"<h2>Differences between regions</h2>{note}"
        f"<details><summary>{len(lines)} differences</summary>{table}</details>"
    )


def _definitions(a: Analysis) -> str:
    lines = []
    for name in dict.fromkeys([r.measure for r in a.rows] + [c.measure for c in a.curves]):
        d = MEASURES[name]
        first = f"<td>{escape(d.title)}<br><small><code>{name}</code>, {escape(d.unit)}</small></td>"
        rest = "".join(f"<td>{escape(text)}</td>" for text in (d.formula, d.edge, d.caution, d.source))
        lines.append(f"<tr id='{name}'>{first}{rest}</tr>")
    head = ("measure", "formula", "at edges", "when it misleads", "source")
    return f"<h2>What the numbers mean</h2>{_table_of(head, lines)}"
