"""Scores as Markdown: for model cards and for the documentation."""

from __future__ import annotations

from collections.abc import Sequence

from cytolite.evaluation.report import NOTICE, Bootstrap, Section, readable, shown_classes
from cytolite.metrics.bootstrap import LEAST_GROUPS, ROUGH_BELOW, Score

# A row each, in this order, where there is a value.
OVERALL = (
    "bpq_image", "bdq_image", "bsq_image", "aji_image", "dice_image", "f1_detection_pooled", "recall_image",
    "mpq_pooled", "mr2_counts", "ece_pooled",
)  # fmt: skip
PER_TYPE = ("pq_pooled", "dq_pooled", "sq_pooled", "f1_class_pooled", "r2_counts")
NAMING = ("type_recall_pooled", "type_precision_pooled")


# For pages that may lie anywhere: no link leads from there to the documentation.
NAMES = (
    "What the names mean: PQ, DQ and SQ are panoptic, detection and segmentation quality at IoU > 0.5; `b` leaves "
    "types aside, `m` is the mean over types; `_image` is a mean over images, `_pooled` takes the nuclei of all images "
    "together, `_counts` compares numbers of nuclei per image. `docs/concepts/metrics.md` of cytolite has the formulas."
)


def overall_table(found: Sequence[Section]) -> str:
    """Return one table: a row a metric, a column a section, types left aside or averaged."""
    rows = []
    for name in OVERALL:
        scores = [section.find(name, "all") or section.find(name, "mean") for section in found]
        if any(scores):
            rows.append([f"`{name}`", *map(cell, scores)])
    return markdown_table(["", *(_heading(section) for section in found)], rows)


def type_table(section: Section, names: Sequence[str] = PER_TYPE) -> str:
    """Return one table: a row a class that can be judged, a column a metric; empty if there is none.

    Parameters
    ----------
    section : Section
        The scores.
    names : sequence of str
        Metrics, a column each.
    """
    rows = []
    for label in shown_classes(section.counts):
        k = section.counts.classes.names.index(label)
        scores = [section.find(name, label) for name in names]
        if any(scores):
            nuclei = section.counts.values["n_true"][section.counts.measured[:, k], k].sum()
            rows.append([readable(label), f"{nuclei:,.0f}", *map(cell, scores)])
    return markdown_table(["", "nuclei", *(f"`{name}`" for name in names)], rows) if rows else ""


def page(title: str, command: str, about: Sequence[str], found: Sequence[Section], bootstrap: Bootstrap) -> str:
    """Return a page of scores.

    Parameters
    ----------
    title : str
        Heading.
    command : str
        That makes it again.
    about : sequence of str
        Sentences on what was scored.
    found : sequence of Section
        All images first; then groups, each of which gets a table of its types.
    bootstrap : Bootstrap
        How intervals were drawn.
    """
    groups = found[1:] or found
    parts = [
        f"# {title}",
        f"**{NOTICE}** Written by the command below. {NAMES}",
        f"```bash\n{command}\n```",
        " ".join([*about, interval_text(bootstrap)]),
        "## Overall",
        overall_table(groups),
    ]
    for section in groups:
        tables = [table for table in (type_table(section), type_table(section, NAMING)) if table]
        if tables:
            parts += [f"## Types: {section.title}", *tables]
    return "\n\n".join(parts) + "\n"


def interval_text(bootstrap: Bootstrap) -> str:
    """Return how the intervals were made, as a sentence."""
    unit = "images" if bootstrap.group == "image" else f"groups of one {bootstrap.group}"
    return (
        f"In brackets: 95% intervals from {bootstrap.resamples:,} bootstrap resamples of {unit}, seed "
        f"{bootstrap.seed}, and how many of these enter (n): no interval of under {LEAST_GROUPS}, a rough one of under "
        f"{ROUGH_BELOW}."
    )


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table.

    Parameters
    ----------
    header : sequence of str
        Of the columns.
    rows : sequence
        Texts.
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(score: Score | None) -> str:
    """Return a score as text, a dash where there is none."""
    return "-" if score is None else str(score)


def _heading(section: Section) -> str:
    nuclei = section.counts.values["n_true"][:, 0].sum()
    images = "1 image" if len(section.counts) == 1 else f"{len(section.counts):,} images"
    return f"{section.title}<br>{images}, {nuclei:,.0f} nuclei"
