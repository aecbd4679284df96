"""Charts of a report, with matplotlib (extra `report`)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cytolite.evaluation.report import Section, confusion, shown_classes
from cytolite.evaluation.report import readable as readable_label
from cytolite.fonts import drawable, matplotlib_style
from cytolite.metrics.calibration import reliability_curve
from cytolite.metrics.scores import judged, judged_bins

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OTHER, _INK, _FAINT = (0.45, 0.5, 0.55), "#212529", "#adb5bd"
_STYLE: dict[Any, Any] = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": _FAINT,
    "text.color": _INK, "axes.labelcolor": _INK, "xtick.color": _INK, "ytick.color": _INK, "svg.fonttype": "path",
    "svg.hashsalt": "cytolite",
}  # fmt: skip


def charts(section: Section) -> dict[str, Figure]:
    """Return the charts of a section by name; those without anything to show are left out.

    Raises
    ------
    ModuleNotFoundError
        If matplotlib is not installed.
    """
    with _style():
        found = {
            "pq": _bars(section, ("pq_pooled", "dq_pooled", "sq_pooled"), "pooled over images"),
            "r2": _bars(section, ("r2_counts", "f1_class_pooled"), "of counts; at 12 px"),
            "counts": _scatter(section),
            "confusion": _confusion(section),
            "reliability": _reliability(section),
        }
    return {name: figure for name, figure in found.items() if figure is not None}


def svg(figure: Figure) -> str:
    """Return a chart as an SVG element, to put into HTML."""
    text = io.StringIO()
    with _style():
        figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
    return text.getvalue().partition("<svg")[1] + text.getvalue().partition("<svg")[2]


def png(figure: Figure) -> bytes:
    """Return a chart as a PNG file."""
    data = io.BytesIO()
    with _style():
        figure.savefig(data, format="png", dpi=150, bbox_inches="tight", metadata={"Software": None})
    return data.getvalue()


def _style() -> AbstractContextManager[None]:
    """Return the style of all charts; ticks are made when a chart is saved, so that it is needed there too."""
    import matplotlib as mpl

    return mpl.rc_context(_STYLE | matplotlib_style())


def _figure(width: float, height: float, columns: int = 1, rows: int = 1) -> tuple[Figure, NDArray[Any]]:
    """Return a figure and its panels, row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()


def _colour(section: Section, label: str) -> tuple[float, float, float]:
    """Return the colour of a class: its type's; one grey for all nuclei and for wider labels."""
    rgb = section.counts.classes.colours.get(label)
    return _OTHER if rgb is None else (rgb[0] / 255, rgb[1] / 255, rgb[2] / 255)


def _bars(section: Section, names: Sequence[str], note: str) -> Figure | None:
    """Horizontal bars with intervals, a panel a metric, a bar a class."""
    labels = shown_classes(section.counts)
    panels = [(name, [section.find(name, label) for label in labels]) for name in names]
    panels = [(name, scores) for name, scores in panels if any(scores)]
    if not panels:
        return None
    figure, axes = _figure(3.1 * len(panels) + 1.2, 0.34 * len(labels) + 0.9, len(panels))
    for axis, (name, scores) in zip(axes, panels, strict=True):
        for row, (label, s) in enumerate(zip(labels, scores, strict=True)):
            if s is None:
                axis.text(0.02, row, "not defined", va="center", color=_FAINT)
                continue
            shown = max(s.value, 0.0)
            axis.barh(row, shown, color=_colour(section, label), height=0.62)
            if np.isfinite(s.low):
                axis.plot([max(s.low, 0), max(s.high, 0)], [row, row], color=_INK, linewidth=1.2, solid_capstyle="butt")
            text = f" {s.value:.2f}" if s.value >= 0 else f" {s.value:.2f} (below 0)"
            axis.text(
                min(max(s.high, shown) if np.isfinite(s.high) else shown, 1.0), row, text, va="center", fontsize=8
            )
        axis.set(yticks=range(len(labels)), xlim=(0, 1.0), title=name)
        axis.set_yticklabels([_readable(label) for label in labels] if axis is axes[0] else [])
        axis.invert_yaxis()
        axis.margins(y=0.02)
    figure.supxlabel(f"{note}; lines: 95% intervals", fontsize=8)
    return figure


def _scatter(section: Section) -> Figure | None:
    """True against predicted nuclei per image, a panel a class, with R²."""
    labels = [label for label in shown_classes(section.counts) if section.find("r2_counts", label)]
    if not labels:
        return None
    columns = min(4, len(labels))
    rows = -(-len(labels) // columns)
    figure, axes = _figure(2.5 * columns, 2.5 * rows, columns, rows)
    usable = judged(section.counts)
    for axis, label in zip(axes, labels, strict=False):
        k = section.counts.classes.names.index(label)
        true, given = (section.counts.values[n][usable[:, k], k] for n in ("n_true", "n_predicted"))
        top = max(true.max(), given.max(), 1) * 1.05
        axis.plot([0, top], [0, top], color=_FAINT, linewidth=1)
        axis.scatter(true, given, s=9, alpha=0.55, color=_colour(section, label), linewidths=0, rasterized=True)
        r2 = section.find("r2_counts", label)
        axis.set(xlim=(-0.03 * top, top), ylim=(-0.03 * top, top), aspect="equal")
        axis.set_title(f"{_wrapped(label)}\nR² {r2.value:.2f}" if r2 else _wrapped(label), fontsize=9)
    for axis in axes[len(labels) :]:
        axis.set_visible(False)
    figure.supxlabel("true nuclei in an image", fontsize=9)
    figure.supylabel("predicted nuclei", fontsize=9)
    return figure


def _confusion(section: Section) -> Figure | None:
    labels, table = confusion(section.counts)
    if not labels:
        return None
    types = section.counts.classes.types
    share = table / table.sum(1, keepdims=True)
    figure, [axis] = _figure(0.85 * len(types) + 2.6, 0.42 * len(labels) + 1.3)
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for r, c in np.ndindex(*table.shape):
        if table[r, c]:
            colour = "white" if share[r, c] > 0.55 else _INK
            axis.text(c, r, f"{table[r, c]:,.0f}", ha="center", va="center", fontsize=8, color=colour)
    axis.set_xticks(range(len(types)), [drawable(name) for name in types], rotation=30, ha="right")
    axis.set_yticks(range(len(labels)), [_readable(label) for label in labels])
    axis.set(xlabel="predicted type", ylabel="label")
    axis.spines[:].set_visible(False)
    return figure


def _reliability(section: Section) -> Figure | None:
    confidence, right, n = reliability_curve(judged_bins(section.counts).sum(0))
    if not n.sum():
        return None
    figure, [axis] = _figure(4.2, 3.6)
    filled = n > 0
    axis.plot([0, 1], [0, 1], color=_FAINT, linewidth=1)
    axis.plot(confidence[filled], right[filled], color=_INK, linewidth=1)
    axis.scatter(confidence[filled], right[filled], s=12 + 150 * n[filled] / n.max(), color="#2f6fb0", zorder=3)
    error = section.find("ece_pooled", "all")
    axis.set(
        xlim=(0, 1), ylim=(0, 1), xlabel="probability of the given type", ylabel="share named right", aspect="equal"
    )
    axis.set_title(f"ECE {error.value:.3f}; a dot's size: nuclei" if error else "", fontsize=9)
    return figure


def _wrapped(label: str) -> str:
    return drawable(label).replace("|", "\nor ")


def _readable(label: str) -> str:
    return drawable(readable_label(label))
