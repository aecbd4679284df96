"""Several slides: one table of all measures, and whether groups of slides differ."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files as resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cytolite.errors import InputError, did_you_mean
from cytolite.files import NOTICE, plain_refusal, whole_file
from cytolite.spatial import pictures
from cytolite.spatial.definition import MEASURES
from cytolite.spatial.files import COLUMNS, NUMBERS, rows_in
from cytolite.spatial.wording import number
from cytolite.tables import open_csv, write_csv

if TYPE_CHECKING:
    from cytolite.spatial.run import Measured

# With fewer slides in a group a test says nothing.
LEAST_SLIDES = 3
# Drawn in the page, at most so many, in order of q.
_DRAWN = 12


@dataclass(frozen=True)
class Groups:
    """A list of slides: its columns by slide, and the one to compare by.

    Attributes
    ----------
    columns : tuple of str
        Beside ``slide``.
    rows : dict of str to dict
        Slide's name to its entries.
    by : str or None
    """

    columns: tuple[str, ...] = ()
    rows: Mapping[str, dict[str, str]] | None = None
    by: str | None = None

    def of(self, slide: str, folder: str) -> dict[str, str]:
        """Entries of a slide, found by its file's name, with or without ending, or by its result's folder.

        Parameters
        ----------
        slide : str
            Name of the slide's file.
        folder : str
            Name of its result's folder.
        """
        known = self.rows or {}
        names = (slide, Path(slide).stem, folder)
        return next((known[name] for name in names if name in known), dict.fromkeys(self.columns, ""))


@dataclass(frozen=True)
class Comparison:
    """A measure in groups of slides.

    Attributes
    ----------
    measure, region, types : str
    groups : dict of str to numpy.ndarray
        The slides' values by group.
    effect : float
        Cliff's delta of two groups (first above second: positive), epsilon squared of more.
    p, q : float
        Mann-Whitney's or Kruskal-Wallis' p, and adjusted over all measures (Benjamini-Hochberg).
    """

    measure: str
    region: str
    types: str
    groups: dict[str, NDArray[np.float64]]
    effect: float
    p: float
    q: float = math.nan


def read_groups(path: Path | None, by: str | None, output: Path | None) -> Groups:
    """Read a list of slides.

    Parameters
    ----------
    path : pathlib.Path or None
        CSV file with a column ``slide``; None: there is no list.
    by : str or None
        Column to compare by; None: nothing is compared.
    output : pathlib.Path or None
        Folder that the comparison goes to; required with either of the others.

    Raises
    ------
    InputError
        If it cannot be read, lacks a column, names a slide twice, or there is nowhere to write the comparison.
    """
    if (path is not None or by is not None) and output is None:
        raise InputError("Slides are compared in a folder of their own; name one with --output.")
    if path is None:
        if by is not None:
            raise InputError("--by names a column of --slides; name that file too.")
        return Groups()
    try:
        entries = list(open_csv(path))
    except (OSError, csv.Error) as error:
        raise InputError(f"The list of slides {path} cannot be read ({error}).") from None
    columns = tuple(entries[0]) if entries else ()
    for column in ("slide", *([by] if by else [])):
        if column not in columns:
            raise InputError(
                f"The list of slides {path} has no column {column!r}; it has {', '.join(columns) or 'none'}."
                f"{did_you_mean(column, columns)}"
            )
    if taken := set(columns) & {"folder", *COLUMNS}:
        raise InputError(
            f"The column {min(taken)!r} of {path} has the name of one of the table's own; call it otherwise."
        )
    rows = {entry["slide"]: {c: entry[c] or "" for c in columns if c != "slide"} for entry in entries}
    if len(rows) < len(entries):
        raise InputError(f"The list {path} names a slide twice.")
    return Groups(tuple(c for c in columns if c != "slide"), rows, by)


def write_cohort(folder: Path, measured: Sequence[Measured], groups: Groups) -> Path:
    """Write ``spatial.parquet`` and, to compare slides, ``comparisons.csv`` and ``cohort.html``; return the last.

    Parameters
    ----------
    folder : pathlib.Path
        Is made if it is not there.
    measured : sequence of Measured
        Results that were measured.
    groups : Groups
        Their entries in the list of slides.

    Raises
    ------
    InputError
        If none of the slides has an entry in the column to compare by.
    OutputError
        If the folder cannot be written.
    """
    rows = []
    for outcome in measured:
        slide = outcome.measures["slide"]
        own = groups.of(slide, outcome.result.name)
        rows += [{"slide": slide, "folder": outcome.result.name, **own, **row} for row in rows_in(outcome.measures)]
    if groups.by and not any(row[groups.by] for row in rows):
        raise InputError(
            f"No measured slide has an entry in the column {groups.by!r}; names are files, stems or folders."
        )
    with plain_refusal(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / "spatial.parquet") as file:
        pq.write_table(pa.Table.from_pylist(rows, _schema(groups.columns)), file, compression="zstd")
    if not groups.by:
        return folder / "spatial.parquet"
    found = compare(rows, groups.by)
    _write_comparisons(folder / "comparisons.csv", found)
    with whole_file(folder / "cohort.html") as file:
        file.write(_page(found, groups.by, len(measured)).encode())
    return folder / "cohort.html"


def _schema(columns: Sequence[str]) -> pa.Schema:
    kinds = dict.fromkeys(NUMBERS, pa.float64()) | {"n": pa.int64()}
    return pa.schema([(name, kinds.get(name, pa.string())) for name in ("slide", "folder", *columns, *COLUMNS)])


def compare(rows: Sequence[Mapping[str, Any]], by: str) -> list[Comparison]:
    """Compare groups of slides in every measure that has a value on three slides of each of two groups, by q.

    Parameters
    ----------
    rows : sequence of mapping
        Of the cohort's table: ``measure``, ``region``, ``types``, ``value`` (None where there is none) and the column
        `by`.
    by : str
        Column that names a slide's group; slides where it is empty are left out.
    """
    from scipy.stats import false_discovery_control

    values: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for row in rows:
        if row[by] and row["value"] is not None:
            key = (row["measure"], row["region"], row["types"])
            values.setdefault(key, {}).setdefault(row[by], []).append(row["value"])
    found = []
    for key, of_group in values.items():
        large = {name: np.array(v) for name, v in sorted(of_group.items()) if len(v) >= LEAST_SLIDES}
        if len(large) > 1 and np.ptp(np.concatenate(list(large.values()))) > 0:
            found.append(Comparison(*key, large, *_test(list(large.values()))))
    adjusted = false_discovery_control([c.p for c in found]) if found else []
    found = [
        Comparison(c.measure, c.region, c.types, c.groups, c.effect, c.p, q)
        for c, q in zip(found, adjusted, strict=True)
    ]
    return sorted(found, key=lambda c: (c.q, -abs(c.effect)))


def _test(groups: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Effect and p."""
    from scipy.stats import kruskal, mannwhitneyu

    if len(groups) == 2:
        return cliffs_delta(*groups), float(mannwhitneyu(*groups).pvalue)
    h, p = kruskal(*groups)
    n = sum(map(len, groups))
    return float(h) / (n - 1), float(p)  # epsilon squared: Tomczak & Tomczak, Trends in Sport Sciences 21 (2014)


def cliffs_delta(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """P(a > b) - P(a < b): Cliff, Psychological Bulletin 114 (1993).

    Parameters
    ----------
    a, b : numpy.ndarray
        float64 (n,) and (m,), a value a slide.
    """
    return float(np.sign(a[:, None] - b[None]).mean())


def _write_comparisons(path: Path, found: Sequence[Comparison]) -> None:
    rows = []
    for c in found:
        medians = "; ".join(f"{name}: {np.median(v):.6g}" for name, v in c.groups.items())
        slides = "; ".join(f"{name}: {len(v)}" for name, v in c.groups.items())
        rows.append((c.measure, c.region, c.types, medians, slides, f"{c.effect:.4g}", f"{c.p:.4g}", f"{c.q:.4g}"))
    write_csv(path, ("measure", "region", "types", "medians", "slides", "effect", "p", "q"), rows)


def _page(found: Sequence[Comparison], by: str, slides: int) -> str:
    title = f"Slides compared by {by}"
    parts = [f"<h1>{escape(title)}</h1><p class='notice'>{NOTICE}</p>"]
    if not found:
        parts.append(f"<p>No measure has values on {LEAST_SLIDES} slides of each of two groups: nothing is tested.</p>")
    else:
        parts.append(
            f"<p class='note'>{slides} slides; {len(found):,} measures tested: Mann-Whitney for two groups (effect: "
            "Cliff's delta, positive where the first is higher), Kruskal-Wallis for more (epsilon squared). q is p "
            "adjusted over all of them (Benjamini-Hochberg). Slides of one patient are not independent: take one a "
            "patient. Survival is left to you: see the notebook in the documentation.</p>"
        )
        parts.append(_drawing(found[:_DRAWN]) + _table(found))
    template = resources("cytolite.spatial").joinpath("report.html").read_text(encoding="utf-8")
    return Template(template).substitute(title=escape(title), body="\n".join(parts))


def _words(c: Comparison) -> str:
    base = max((name for name in MEASURES if c.measure.startswith(name)), key=len, default="")
    title = MEASURES[base].title if base else c.measure
    variant = c.measure.removeprefix(base).strip("_").replace("_", " ")
    return f"{title}{f': {variant}' if variant else ''}"


def _table(found: Sequence[Comparison]) -> str:
    names = sorted({name for c in found for name in c.groups})
    head = "".join(
        f"<th>{escape(h)}</th>"
        for h in ("measure", "types", "region", *(f"median, {n}" for n in names), "effect", "p", "q")
    )
    lines = []
    for c in found:
        medians = "".join(
            f"<td>{number(float(np.median(c.groups[n])))} <small>n = {len(c.groups[n])}</small></td>"
            if n in c.groups
            else "<td>-</td>"
            for n in names
        )
        q = f"<b>{c.q:.3g}</b>" if c.q < 0.05 else f"{c.q:.3g}"
        lines.append(
            f"<tr><td>{escape(_words(c))}</td><td>{escape(c.types)}</td><td>{escape(c.region)}</td>{medians}"
            f"<td>{c.effect:+.2f}</td><td>{c.p:.3g}</td><td>{q}</td></tr>"
        )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f"<h2>All measures, by q</h2><div class='scroll'>{table}</div>"


def _drawing(found: Sequence[Comparison]) -> str:
    """A panel a measure: every slide a dot, the median a line."""
    import base64

    import matplotlib as mpl
    from matplotlib.figure import Figure

    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    rng = np.random.default_rng(0)
    with mpl.rc_context(pictures.STYLE):
        figure = Figure(figsize=(11, 2.7 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
        for axis in axes[len(found) :]:
            axis.set_axis_off()
        for axis, c in zip(axes, found, strict=False):
            for i, values in enumerate(c.groups.values()):
                axis.scatter(i + rng.uniform(-0.12, 0.12, len(values)), values, s=16, color="#285fe6", alpha=0.7, lw=0)
                axis.plot([i - 0.25, i + 0.25], [np.median(values)] * 2, color="#212529", lw=2)
            axis.set_xticks(range(len(c.groups)), list(c.groups))
            axis.set_xlim(-0.6, len(c.groups) - 0.4)
            axis.set_title(f"{_words(c)}\n{c.types}; {c.region} (q = {c.q:.2g})", fontsize=8)
        data = base64.b64encode(pictures.png(figure)).decode()
    return f"<h2>Smallest q</h2><figure><img alt='values by group' src='data:image/png;base64,{data}'></figure>"
