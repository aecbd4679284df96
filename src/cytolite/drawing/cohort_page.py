"""cohort.html: the cohort's table to look at, in one file that opens offline."""

from __future__ import annotations

import base64
import io
import json
import os
import statistics
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from PIL import Image

from cytolite.files import NOTICE, write_text
from cytolite.interop.cohort import Cohort
from cytolite.interop.result_folder import OVERVIEW_FILE

PAGE_FILE = "cohort.html"
_THUMBNAIL_PX = (200, 100)
# More pictures would make the page too heavy to open.
_MOST_PICTURES = 2000
# Robust z: so many times the median distance to the median, scaled to a standard deviation.
_OUTLYING, _SCALE, _LEAST_SLIDES = 3.5, 1.4826, 8
# Columns that are of use in a table that people read; the rest is in cohort.csv.
_HIDDEN = {"path", "region", "model_sha256", "searched_mm2", "width_px", "height_px", "finished"}


def write_page(output: Path, cohort: Cohort) -> None:
    """Write ``cohort.html``: a sortable table with thumbnails, distributions by any column, outliers, failures.

    Parameters
    ----------
    output : pathlib.Path
        Folder of the results: their overviews are read, and the page is written there.
    cohort : Cohort
        What is shown.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    slides = [row for row in cohort.rows if row.get("region") == "total"]
    names = [name for name in (slides[0] if slides else {}) if name not in _HIDDEN]
    outlying = outliers(slides)
    data = {
        "names": names,
        "rows": [[row.get(name) for name in names] for row in slides],
        "pictures": [
            _thumbnail(output / os.fsdecode(row["id"].encode()) / OVERVIEW_FILE) for row in slides[:_MOST_PICTURES]
        ],
        "outliers": [outlying.get(row["id"], []) for row in slides],
        "groups": [name for name in cohort.columns if name in names],
        "measures": [name for name in names if any(isinstance(row.get(name), int | float) for row in slides)],
    }
    failures = "".join(
        f"<tr><td>{escape(f['id'])}</td><td>{escape(f['path'])}</td><td>{escape(f['message'])}</td></tr>"
        for f in cohort.failures
    )
    template = Template(files("cytolite").joinpath("assets", "cohort.html").read_text(encoding="utf-8"))
    nuclei, failed = sum(row["cells"] for row in slides), len(cohort.failures)
    page = template.substitute(
        notice=escape(NOTICE),
        summary=f"{len(slides):,} slides, {nuclei:,} nuclei, {failed:,} failed",
        # Within a script element only "<" could end it.
        data=json.dumps(data, ensure_ascii=False).replace("<", "\\u003c"),
        failures=f"<h2>Failed</h2><table><tr><th>id<th>path<th>what went wrong</tr>{failures}</table>"
        if failures
        else "",
    )
    write_text(output / PAGE_FILE, page)


def outliers(slides: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """Return, by slide, the measures that lie far from the cohort's median; nothing of fewer than 8 slides.

    Densities and fractions are judged, and what quality control measured: those do not depend on a slide's size.
    """
    found: dict[str, list[str]] = {}
    names = [n for n in (slides[0] if slides else {}) if n.endswith(("_per_mm2", "_fraction")) or n.startswith("qc_")]
    for name in names:
        values = [row[name] for row in slides if isinstance(row.get(name), int | float)]
        if len(values) < _LEAST_SLIDES:
            continue
        middle = statistics.median(values)
        spread = _SCALE * statistics.median(abs(value - middle) for value in values)
        for row in slides:
            value = row.get(name)
            if isinstance(value, int | float) and spread > 0 and abs(value - middle) > _OUTLYING * spread:
                found.setdefault(row["id"], []).append(name)
    return found


def _thumbnail(overview: Path) -> str:
    """Return a small JPEG as text; empty if there is no picture."""
    try:
        with Image.open(overview) as picture:
            small = picture.convert("RGB")
    except OSError:
        return ""
    small.thumbnail(_THUMBNAIL_PX)
    data = io.BytesIO()
    small.save(data, "JPEG", quality=75)
    return base64.b64encode(data.getvalue()).decode()
