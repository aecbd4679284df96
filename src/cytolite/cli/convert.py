"""`cytolite convert`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cytolite.celltypes import read_mapping
from cytolite.cli.app import app, with_extra
from cytolite.errors import UsageError


@app.command
def convert(
    source: Annotated[Path, Parameter(help="Cells: a file, or a folder of results or of GeoJSON files.")],
    target: Annotated[Path, Parameter(help="File to write; a folder gets GeoJSON files of 50,000 cells for QuPath.")],
    /,
    *,
    classes: Annotated[
        tuple[str, ...],
        Parameter(name="--class", help="Type of a class that others named, as 'Tumor=neoplastic'; may be repeated."),
    ] = (),
    mpp: Annotated[float | None, Parameter(help="µm per pixel, for areas that the source does not say.")] = None,
    to: Annotated[
        str | None,
        Parameter(help="SOURCE is a folder of results: write each as TARGET/NAME of this ending, e.g. .csv."),
    ] = None,
    simplify: Annotated[
        float | None, Parameter(help="Outlines with fewer vertices, none further than this from where it was, µm.")
    ] = None,
    map_file: Annotated[
        Path | None,
        Parameter(name="--map", help="TOML or JSON file with other names of types; those of one name become one."),
    ] = None,
    outlines: Annotated[bool, Parameter(help="Write outlines into a .csv too.")] = False,
    metadata: Annotated[bool, Parameter(help="Write each cell's model and region into GeoJSON too.")] = False,
    overwrite: Annotated[bool, Parameter(help="Replace a file that is there.")] = False,
    quiet: Annotated[bool, Parameter(help="No progress; errors and warnings are still printed.")] = False,
) -> int:
    """Convert cells between .parquet, .geojson, .geojson.gz, .csv, .h5ad, .zarr and folders of files for QuPath.

    The formats follow from the names. .h5ad needs the extra `anndata`, .zarr the extra `spatialdata`.
    """
    from cytolite import pipeline, progress

    types = dict(_pair(text) for text in classes)
    mapping = read_mapping(map_file) if map_file else None

    def work() -> tuple[int, list[str]]:
        if to is not None:
            return pipeline.convert_cohort(
                source, target, to, display=progress.choose(quiet), classes=types, mpp=mpp, outlines=outlines,
                metadata=metadata, overwrite=overwrite, simplify_um=simplify,
            )  # fmt: skip
        with progress.choose(quiet)(source.name, "MB") as update:
            return pipeline.convert(
                source, target, classes=types, mpp=mpp, outlines=outlines, metadata=metadata, overwrite=overwrite,
                simplify_um=simplify, mapping=mapping,
                update=update,
            )  # fmt: skip

    extra = "spatialdata" if ".zarr" in (source.suffix, target.suffix, to) else "anndata"
    n, warnings = with_extra(work, extra)
    for warning in warnings:
        print(f"warning: {source}: {warning}", file=sys.stderr)
    if not quiet:
        print(f"{target}: {n:,} nuclei")
    return 0


def _pair(text: str) -> tuple[str, str]:
    name, equals, cell_type = text.rpartition("=")
    if not equals:
        raise UsageError(f"--class {text!r} has no '='; write the class, then the type, as 'Tumor=neoplastic'.")
    return name.strip(), cell_type.strip()
