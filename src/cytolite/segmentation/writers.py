"""The end of a run: stitched cells stream into all files of the result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from cytolite.bundle import Bundle, ModelSpec, model_identity
from cytolite.cells import CellTable
from cytolite.classifier import Unlike, before_columns
from cytolite.decoding.features import FEATURE_NAMES
from cytolite.drawing.overview import draw_overview
from cytolite.files import NOTICE
from cytolite.interop.geojson.writer import GeoJSONWriter
from cytolite.interop.parquet import CellsWriter, iter_cells
from cytolite.interop.result_folder import (
    ARTEFACTS_FILE,
    CELLS_FILE,
    GEOJSON_FILE,
    OVERVIEW_FILE,
    RUN_FILE,
    SUMMARY_FILE,
    TISSUE_FILE,
)
from cytolite.interop.summary import Area, SummaryCounter, write_summary_csv, write_summary_json
from cytolite.interop.tissue_outline import write_artefacts, write_tissue
from cytolite.names import as_text, one_line
from cytolite.segmentation.checks import SizeTally, Warned, check_result, check_taught, damage
from cytolite.segmentation.plan import Plan
from cytolite.slides.quality import KINDS
from cytolite.slides.reader import Slide
from cytolite.slides.tiles import Rectangle

# Cells are handed on in pieces of about this many: enough to be quick, few enough to be small.
_PIECE = 20_000
# Longer side of the slide in the overview.
_THUMBNAIL_PX = 2000


@dataclass(frozen=True)
class Written:
    """What was written: how many cells, on how much tissue, and all warnings."""

    cells: int
    tissue_mm2: float
    warnings: tuple[Warned, ...]


def write_results(
    folder: Path,
    tables: Iterable[CellTable],
    plan: Plan,
    *,
    slide: Slide,
    bundle: Bundle,
    areas: Sequence[Area],
    warnings: Sequence[Warned],
    record: dict[str, Any],
    damaged: Sequence[Rectangle] = (),
    channels: int = 0,
) -> Written:
    """Write the result's files; the number of cells at a time in memory does not grow with the slide.

    Parameters
    ----------
    folder : pathlib.Path
        Exists and is empty.
    tables : iterable of CellTable
        The cells of the slide in pixels of ``plan.mpp``, in their final order.
    plan : Plan
        What was done.
    slide, bundle
        With what.
    areas : sequence of Area
        From `Plan.areas_mm2`.
    warnings : sequence of Warned
        What is known already; those of the cells are added.
    record : dict
        What ``run.json`` says besides the results.
    damaged : sequence of tuple
        What could not be read and is no part of the plan's tissue: x, y, width, height, level-0 px.
    channels : int
        Numbers in the vectors of the cells.

    Raises
    ------
    OutputError, OSError
        If something cannot be written.
    """
    names = [region.name for region in plan.regions or []]
    area = Area(*(sum(column) for column in zip(*areas, strict=True)))
    about = _about(plan, slide, bundle)
    if channels and bundle.spec.embedding:
        about["embedding"] = bundle.spec.embedding.model_dump()
    sizes = SizeTally()
    found = _pieces(plan.wanted(plan.to_level0(table, slide)) for table in tables)
    summary, unusual = write_cells(
        folder, map(bundle.spec.named, found), bundle.spec, image=slide.path.stem, regions=names,
        features=FEATURE_NAMES, about=about, tally=sizes.add, channels=channels,
    )  # fmt: skip
    warnings = (*warnings, *check_result(area, sizes), *unusual)
    told = [asdict(warning) for warning in warnings]
    write_tissue(folder / TISSUE_FILE, plan.tissue_outline())
    if plan.quality is not None:
        artefacts = {kind: plan.quality.outline(kind) for kind in KINDS if plan.quality.artefacts[kind].any()}
        write_artefacts(folder / ARTEFACTS_FILE, artefacts)
    _draw(folder, plan, slide=slide, bundle=bundle, tissue_mm2=area.tissue_mm2, warnings=warnings)
    rows = summary.rows(area, areas if plan.regions is not None else ())
    write_summary_csv(folder / "summary.csv", rows)
    write_summary_json(
        folder / SUMMARY_FILE,
        rows,
        {**about, **_judged(plan, slide), **damage(damaged, slide.mpp), "warnings": told},
        bundle.spec.type_set,
    )
    results = {"cells": sizes.cells, **area._asdict(), "warnings": told}
    _write_record(folder, {**record, "plan": _described(plan), **results})
    return Written(sizes.cells, area.tissue_mm2, warnings)


def write_cells(
    folder: Path,
    tables: Iterable[CellTable],
    spec: ModelSpec,
    *,
    image: str,
    regions: Sequence[str],
    features: Sequence[str],
    about: Mapping[str, Any],
    tally: Callable[[CellTable], None] = lambda cells: None,
    channels: int = 0,
) -> tuple[SummaryCounter, list[Warned]]:
    """Write the two files of cells, table by table; return their counts, and what is unusual for a taught model.

    Parameters
    ----------
    folder : pathlib.Path
        Of the result.
    tables : iterable of CellTable
        With the types of `spec`.
    spec : ModelSpec
        Of the model that named them.
    image : str
        Name of the slide's file without its ending; ids in QuPath follow from it.
    regions : sequence of str
        Names that `CellTable.regions` points to.
    features : sequence of str
        Columns of measurements; those of what the network said are added where a classifier named the cells.
    about : mapping
        What the file says of where it comes from.
    tally : callable
        Is shown every table, too.
    channels : int
        Numbers in the vectors of the cells, if they have some.
    """
    types, classifier = spec.type_set, spec.classifier
    counter, unlike = SummaryCounter(regions, types), Unlike(classifier) if classifier else None
    columns = [*features, *before_columns(spec.network_types)] if classifier else features
    with ExitStack() as stack:
        parquet = stack.enter_context(
            CellsWriter(folder / CELLS_FILE, columns, regions, about, types, channels=channels)
        )
        path, name = folder / GEOJSON_FILE, as_text(image)
        geojson = stack.enter_context(GeoJSONWriter(path, name, spec.name, region_names=regions, type_set=types))
        for cells in tables:
            for take in (parquet.append, geojson.append, counter.add, tally, *([unlike.add] if unlike else [])):
                take(cells)
    return counter, list(check_taught(unlike))


def _pieces(tables: Iterable[CellTable]) -> Iterator[CellTable]:
    """Put small tables together."""
    waiting: list[CellTable] = []
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) >= _PIECE:
            yield CellTable.concatenate(waiting)
            waiting = []
    if waiting:
        yield CellTable.concatenate(waiting)


def _draw(
    folder: Path, plan: Plan, *, slide: Slide, bundle: Bundle, tissue_mm2: float, warnings: Sequence[Warned]
) -> None:
    draw_overview(
        folder / OVERVIEW_FILE,
        slide.thumbnail(_THUMBNAIL_PX),
        slide.thumbnail_scale(_THUMBNAIL_PX),
        iter_cells(folder / CELLS_FILE),
        mpp=slide.mpp,
        tissue=plan.searched.mask,
        tissue_scale_px=plan.searched.scale_px,
        tissue_mm2=tissue_mm2,
        regions=plan.regions or (),
        artefacts=plan.quality.artefacts if plan.quality else {},
        title=" - ".join(filter(None, (one_line(slide.path.name), slide.scene))),
        footer=f"{bundle.spec.name} {bundle.spec.version}",
        warnings=[warning.message for warning in warnings],
        type_set=bundle.spec.type_set,
    )


def _judged(plan: Plan, slide: Slide) -> dict[str, Any]:
    return {"qc": plan.quality.summary(slide.mpp)} if plan.quality else {}


def _about(plan: Plan, slide: Slide, bundle: Bundle) -> dict[str, Any]:
    """What the files say of where they come from: the same for the same work, so no times and no paths."""
    return {
        "notice": NOTICE,
        "slide": as_text(slide.path.name),
        **({"scene": slide.scene} if slide.scene else {}),
        "width_px": slide.width_px,
        "height_px": slide.height_px,
        "mpp": slide.mpp,
        "model": model_identity(bundle),
        "model_mpp": plan.mpp / plan.stride,
    }


def _described(plan: Plan) -> dict[str, Any]:
    return {
        "read_mpp": plan.mpp / plan.stride,
        "maps_mpp": plan.mpp,
        "tile": plan.tile,
        "halo": plan.halo,
        "tiles": len(plan.tiles),
    }


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    """Written last: a folder that has it is whole."""
    record = {**record, "finished": datetime.now(UTC).isoformat(timespec="seconds")}
    (folder / RUN_FILE).write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
