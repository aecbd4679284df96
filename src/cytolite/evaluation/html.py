"""report.html: one file that opens offline, tables in the paper's layout, charts and images.

A template of the standard library and `html.escape` make it, so that the report comes with the base install.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template

from cytolite.evaluation.report import NOTICE, Bootstrap, Section, interval_notes, readable, shown_classes
from cytolite.metrics.bootstrap import Score
from cytolite.metrics.classes import Classes

# Each table's metrics: a block a metric, a row a class, a column a section, as in the paper's Tables 2, 3 and S6.
PAPER_TABLES = (
    ("Counts and quality per type (as the paper's Tables 2 and 3)", ("r2_counts", "pq_pooled")),
    ("Segmentation and detection quality per type (as the paper's Table S6)", ("sq_pooled", "dq_pooled")),
    ("Other measures per type", ("pq_image", "f1_class_pooled", "type_recall_pooled", "type_precision_pooled")),
)
OVERALL = (
    "bpq_image", "bdq_image", "bsq_image", "bpq_pooled", "bpq_tissue", "mpq_image", "mpq_pooled", "mpq_tissue",
    "aji_image", "aji_plus_image", "dice_image", "f1_detection_pooled", "recall_image", "recall_pooled",
    "mr2_counts", "r2_all_counts", "ece_pooled",
)  # fmt: skip
CHART_TITLES = {
    "pq": "Panoptic, detection and segmentation quality",
    "r2": "Counts and class F1",
    "counts": "Nuclei per image, true and predicted",
    "confusion": "Matched nuclei: label against predicted type",
    "reliability": "Reliability of the probabilities of matched nuclei",
}


@dataclass(frozen=True)
class Picture:
    """An image of the report: why it is shown, its score, and the drawing (JPEG)."""

    title: str
    jpeg: bytes


def render(
    title: str,
    about: Mapping[str, str],
    found: Sequence[Section],
    bootstrap: Bootstrap,
    *,
    drawn: Mapping[str, Mapping[str, str]],
    pictures: Sequence[Picture],
    note: str = "",
    warnings: Sequence[str] = (),
) -> str:
    """Return the page.

    Parameters
    ----------
    title : str
        Of the page.
    about : mapping of str to str
        What was scored: rows of a table.
    found : sequence of Section
        From `cytolite.evaluation.report.sections`.
    bootstrap : Bootstrap
        How intervals were drawn.
    drawn : mapping
        Section's title to chart's name to SVG.
    pictures : sequence of Picture
        Images with truth and prediction.
    note : str
        A sentence that stands where charts are missing.
    warnings : sequence of str
        What may be wrong; shown at the top.
    """
    parts = [_head(title, about, found, bootstrap, warnings), _overall(found)]
    parts += [_paper_table(heading, names, found) for heading, names in PAPER_TABLES]
    if found[0].differences:
        parts.append(_differences(found))
    parts.append(_charts(found, drawn, note))
    parts.append(_pictures(pictures, found[0].counts.classes))
    body = "\n".join(part for part in parts if part)
    template = files("cytolite.evaluation").joinpath("report.html").read_text(encoding="utf-8")
    return Template(template).substitute(title=escape(title), body=body)


def _head(title: str, about: Mapping[str, str], found: Sequence[Section], b: Bootstrap, warnings: Sequence[str]) -> str:
    told = "".join(f'\n<p class="warning">Warning: {escape(warning)}.</p>' for warning in warnings)
    rows = "".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in about.items())
    sizes = "".join(_size_row(section) for section in found)
    notes = escape(" ".join(interval_notes(found, b)))
    unit = "images" if b.group == "image" else f"whole groups of one {b.group}"
    return f"""<h1>{escape(title)}</h1>
<p class="notice">{NOTICE}</p>{told}
<table class="about">{rows}</table>
<p class="note">In brackets: 95% intervals, percentiles of {b.resamples:,} bootstrap resamples of {escape(unit)}, seed
{b.seed}; n: how many of these enter. {notes} A match needs an IoU above 0.5. A dash: not defined there.</p>
<div class="scroll"><table><thead><tr><th>section</th><th>images</th><th>true nuclei</th><th>partly labelled images</th>
</tr></thead><tbody>{sizes}</tbody></table></div>"""


def _size_row(section: Section) -> str:
    nuclei = section.counts.values["n_true"][:, 0].sum()
    name = f"{section.column} {section.value}".strip() or section.title
    partly = int(section.counts.partly.sum())
    cells = "".join(f"<td>{cell}</td>" for cell in (f"{len(section.counts):,}", f"{nuclei:,.0f}", partly or "-"))
    return f"<tr><th>{escape(name)}</th>{cells}</tr>"


def _overall(found: Sequence[Section]) -> str:
    shown = [name for name in OVERALL if any(_over_all(section, name) for section in found)]
    rows = [f"<tr><th><code>{name}</code></th>{_cells(_over_all(s, name) for s in found)}</tr>" for name in shown]
    partly = any(section.counts.partly.any() for section in found)
    hint = (
        '<p class="note">Most of the ground of partly labelled images is not labelled: what is found there cannot be '
        "called wrong, so they enter recall alone.</p>"
        if partly
        else ""
    )
    return f"<h2>Overall</h2>{hint}{_table(found, rows)}"


def _over_all(section: Section, name: str) -> Score | None:
    return section.find(name, "all") or section.find(name, "mean")


def _paper_table(heading: str, names: Sequence[str], found: Sequence[Section]) -> str:
    labels = shown_classes(found[0].counts)
    rows = []
    for name in names:
        block = [label for label in labels if any(s.find(name, label) for s in found)]
        for i, label in enumerate(block):
            part = ' class="part"' if i == 0 else ""
            title = f"<code>{name}</code> {escape(readable(label))}"
            rows.append(f"<tr{part}><th>{title}</th>{_cells(s.find(name, label) for s in found)}</tr>")
    return f"<h2>{escape(heading)}</h2>{_table(found, rows)}" if rows else ""


def _table(found: Sequence[Section], rows: Sequence[str]) -> str:
    header = "".join(f"<th>{escape(section.title)}</th>" for section in found)
    return (
        f'<div class="scroll"><table><thead><tr><th>metric</th>{header}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cells(scores) -> str:  # type: ignore[no-untyped-def]
    return "".join('<td class="gone">-</td>' if s is None else _cell(s) for s in scores)


def _cell(s: Score) -> str:
    _, _, between = str(s).partition(" ")
    return f'<td title="n = {s.n} images">{s.value:.3f} <small>{between}</small></td>'


def _differences(found: Sequence[Section]) -> str:
    """Return ours, the baseline's and the difference of every metric over all images."""
    section, rows = found[0], []
    for ours, theirs, difference in zip(section.scores, section.baseline, section.differences, strict=True):
        if not difference.defined:
            continue
        clear = difference.bounded and not difference.low <= 0 <= difference.high
        label = "" if difference.type in ("all", "mean") else f" {escape(readable(difference.type))}"
        shown = f"<b>{difference.signed}</b>" if clear else difference.signed
        cells = f"<td>{ours}</td><td>{theirs}</td><td>{shown}</td>"
        rows.append(f"<tr><th><code>{difference.name}</code>{label}</th>{cells}</tr>")
    return (
        "<h2>Compared with the baseline</h2><p class='note'>Differences are computed on the same resamples of images; "
        "bold where the interval leaves out 0. Many metrics are compared at once: some leave it out by chance.</p>"
        '<div class="scroll"><table><thead><tr><th>metric, all images</th><th>this</th><th>baseline</th>'
        f"<th>difference</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _charts(found: Sequence[Section], drawn: Mapping[str, Mapping[str, str]], note: str) -> str:
    parts = [f"<p class='note'>{escape(note)}</p>"] if note else []
    for section in found:
        charts = drawn.get(section.title, {})
        if charts:
            parts.append(f"<h2>Charts: {escape(section.title)}</h2>")
        for name, svg in charts.items():
            parts.append(f"<figure><figcaption>{CHART_TITLES[name]}</figcaption>{svg}</figure>")
    return "\n".join(parts)


def _pictures(pictures: Sequence[Picture], classes: Classes) -> str:
    if not pictures:
        return ""
    key = "".join(
        f'<span><i style="background:rgb{colour}"></i>{escape(name)}</span>' for name, colour in classes.colours.items()
    )
    key += '<span><i style="background:rgb(90,90,90)"></i>type not known, or one of several</span>'
    hint = "By PQ with types left aside, among images of ten nuclei and more where there are such."
    parts = [f"<h2>Images</h2><p class='note'>{hint}</p><p class='key'>{key}</p>"]
    for picture in pictures:
        data = base64.b64encode(picture.jpeg).decode()
        parts.append(
            f"<h3>{escape(picture.title)}</h3><figure><div class='pair'><span>truth</span><span>prediction</span></div>"
            f'<img alt="{escape(picture.title)}" src="data:image/jpeg;base64,{data}"></figure>'
        )
    return "\n".join(parts)
