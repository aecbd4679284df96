"""`cytolite spatial`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cytolite.cli.app import FAILED, RESEARCH_USE, Config, app, print_error, with_extra
from cytolite.config import SpatialSettings, make_settings

if TYPE_CHECKING:
    from cytolite.spatial.run import Measured

Results = Annotated[Path, Parameter(name="RESULT", help="Results of `segment`, or folders that hold such.")]
Cohort = Annotated[Path | None, Parameter(name=["--output", "-o"], help="Folder for what several slides say together.")]
Slides = Annotated[Path | None, Parameter(help="CSV file with a column 'slide', and more to compare slides by.")]
By = Annotated[str | None, Parameter(help="Column of --slides whose entries are compared.")]


@app.command(usage="Usage: cytolite spatial RESULT... [OPTIONS]")
def spatial(
    *results: Results,
    output: Cohort = None,
    slides: Slides = None,
    by: By = None,
    config: Config = None,
    settings: Annotated[SpatialSettings | None, Parameter(name="*")] = None,
) -> int:
    """Measure the surroundings of tumours: densities, regions, distances, neighbourhoods, with intervals and a report.

    Each result gets a folder spatial/ with measures.json, .csv and .parquet, density.ome.tif, tiles.parquet,
    regions.geojson (QuPath), report.html and report.pdf. No slide is read. Needs the extra `spatial`.
    """
    given = settings.model_dump(exclude_unset=True) if settings else {}
    resolved = make_settings(SpatialSettings, given, config)
    from cytolite import pipeline, progress

    display = progress.choose(resolved.quiet)
    outcomes, page = with_extra(
        lambda: pipeline.spatial(results, resolved, output=output, slides=slides, by=by, display=display), "spatial"
    )
    for outcome in outcomes:
        _print(outcome, resolved.quiet)
    if not resolved.quiet and not all(outcome.message for outcome in outcomes):
        if page is not None:
            print(page)
        print(RESEARCH_USE)
    return FAILED if any(outcome.message for outcome in outcomes) else 0


def _print(outcome: Measured, quiet: bool) -> None:
    if outcome.message:
        print_error(outcome.message)
        return
    for warning in outcome.measures["warnings"]:
        print(f"warning: {outcome.result}: {warning}", file=sys.stderr)
    if not quiet:
        words = ", there already" if outcome.kept else ""
        area = outcome.measures["window"]["tissue_mm2"]
        print(f"{outcome.folder}: {outcome.measures['nuclei']:,} nuclei in {area:.2f} mm2{words}")
