"""Many slides: `info` before a run, `status` during it, `collect` after it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cytolite.cli.app import FAILED, RESEARCH_USE, Config, app
from cytolite.cli.segment import SlideList, Slides
from cytolite.config import SegmentSettings, make_settings
from cytolite.errors import UsageError
from cytolite.names import one_line
from cytolite.tables import csv_text

if TYPE_CHECKING:
    from cytolite.segmentation.info import SlideInfo

Output = Annotated[Path, Parameter(name="OUTPUT", help="Folder that was the --output of `segment`.")]


@app.command(usage="Usage: cytolite info SLIDE... [OPTIONS]")
def info(
    *slides: Slides,
    slide_list: SlideList = None,
    json_: Annotated[bool, Parameter(name="--json", help="Print a list of objects, for programs.")] = False,
    csv_: Annotated[bool, Parameter(name="--csv", help="Print a table, for spreadsheets.")] = False,
    picture: Annotated[
        Path | None, Parameter(help="Folder for a picture of each slide, with tissue and artefacts.")
    ] = None,
    time: Annotated[bool, Parameter(help="Measure on a tile how long a run would take here.")] = True,
    config: Config = None,
    settings: Annotated[SegmentSettings | None, Parameter(name="*")] = None,
) -> int:
    """Say what is known of slides before a run: format, resolution, scanner, tissue, quality, tiles, expected time."""
    if json_ and csv_:
        raise UsageError("--json and --csv do not go together: choose one.")
    resolved = make_settings(SegmentSettings, settings.model_dump(exclude_unset=True) if settings else {}, config)
    style = "json" if json_ else "csv" if csv_ else "text"
    return show_infos(slides, resolved, slide_list=slide_list, style=style, pictures=picture, expect=time)


def show_infos(
    slides: Sequence[str],
    settings: SegmentSettings,
    *,
    slide_list: Path | None,
    style: str = "text",
    pictures: Path | None = None,
    expect: bool,
) -> int:
    """Print what is known of slides; the exit code says whether all can be used.

    Parameters
    ----------
    slides : sequence of str
        Files and patterns.
    settings : SegmentSettings
        For all slides, where the list says nothing else.
    slide_list : pathlib.Path, optional
        CSV file of more slides.
    style : {"text", "json", "csv"}
        How it is printed.
    pictures : pathlib.Path, optional
        Folder that gets a picture of each slide.
    expect : bool
        Whether to measure on a tile how long a run would take.
    """
    from cytolite import pipeline

    show = _print if style == "text" else lambda found: None
    infos = pipeline.slide_infos(slides, settings, slide_list=slide_list, pictures=pictures, timed=expect, report=show)
    if style == "json":
        print(json.dumps([asdict(found) for found in infos], indent=1, ensure_ascii=False))
    elif style == "csv":
        rows = [found.row() for found in infos]
        names = dict.fromkeys(name for row in rows for name in row)
        sys.stdout.write(csv_text(list(names), ([row.get(name) for name in names] for row in rows)))
    elif len(infos) > 1:
        _print_sum(infos)
    return FAILED if any(found.error for found in infos) else 0


def _print(found: SlideInfo) -> None:
    print(one_line(found.slide) + (f"   id {one_line(found.id)}" if found.id else ""))
    if found.error:
        print(f"  cannot be used: {found.error}")
        return
    magnification = "" if found.magnification is None else f", {found.magnification:g}x"
    print(f"  format     {found.format}, {found.width_px:,} x {found.height_px:,} px, {len(found.levels)} levels")
    origin = "as given" if found.mpp_from == "given" else "from the file"
    print(f"  resolution {found.mpp:.4g} µm/px ({origin}){magnification}")
    print(f"  scanner    {one_line(found.scanner) or 'not told'}")
    expected = "" if found.expected_s is None else f", about {_time(found.expected_s)} here"
    print(f"  tissue     {found.tissue_mm2:.2f} mm², {found.tiles:,} tiles{expected}")
    shares = {kind: part["share_of_tissue"] for kind, part in found.qc["artefacts"].items()}
    named = {"fold": "perhaps fold"}
    told = ", ".join(f"{named.get(k, k)} {share:.1%}" for k, share in shares.items() if share) or "no artefacts found"
    values = [f"tissue on {found.qc['tissue_share']:.0%} of the slide"]
    values += [
        f"{name} {found.qc[key]:.2g}"
        for name, key in (("focus", "focus"), ("stain", "stain_od"))
        if found.qc[key] is not None
    ]
    if found.qc["saturated_share"]:
        values.append(f"saturated {found.qc['saturated_share']:.1%}")
    print(f"  quality    {'; '.join([told, *values])}")
    for warning in found.warnings:
        print(f"  warning    {warning}")


def _print_sum(infos: Sequence[SlideInfo]) -> None:
    good = [found for found in infos if not found.error]
    times = [found.expected_s for found in good if found.expected_s is not None]
    total = f", about {_time(sum(times))} here" if times else ""
    failed = f"; {len(infos) - len(good)} cannot be used" if len(good) < len(infos) else ""
    print(f"{len(good)} slides, {sum(found.tissue_mm2 for found in good):,.2f} mm² of tissue{total}{failed}")


def _time(seconds: float) -> str:
    return (
        f"{seconds:.2g} s"
        if seconds < 100
        else f"{seconds / 60:,.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:,.1f} h"
    )


@app.command(usage="Usage: cytolite status OUTPUT")
def status(output: Output, /) -> int:
    """Say how far a run over several slides is, from any terminal that sees its output."""
    from cytolite import pipeline

    print(pipeline.status(output), end="")
    return 0


@app.command(usage="Usage: cytolite collect OUTPUT")
def collect(output: Output, /) -> int:
    """Make the tables of a cohort again from its results: cohort.csv, cohort.parquet, failures.csv, cohort.html."""
    from cytolite import pipeline

    found = pipeline.collect(output)
    slides = sum(row["region"] == "total" for row in found.rows)
    print(f"{output}: {slides:,} slides, {len(found.failures):,} failed")
    print(RESEARCH_USE)
    return 0
