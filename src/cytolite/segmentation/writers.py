"""The end of a run: stitched cells stream into all files of the result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from cytolite.bundle import ModelSpec, model_identity
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
    plan: Plan,
    tables: Iterable[CellTable],
    record: dict[str, Any],
    *,
    picture: Slide,
    warnings: Sequence[Warned],
) -> Written:
    """Write the result's files; the number of cells at a time in memory does not grow with the slide.

    Parameters
    ----------
    folder : pathlib.Path
        Exists and is empty.
    plan : Plan
        What was done, on what and with what.
    tables : iterable of CellTable
        The cells of the slide in pixels of ``plan.map_mpp``, in their final order.
    record : dict
        What ``run.json`` says besides the results.
    picture : Slide
        The slide, open, for the overview.
    warnings : sequence of Warned
        What is known already; those of the cells are added.

    Raises
    ------
    OutputError, OSError
        If something cannot be written.
    """
    names, areas, spec = [region.name for region in plan.regions or []], plan.areas_mm2(), plan.bundle.spec
    area = Area(*(sum(column) for column in zip(*areas, strict=True)))
    about = _about(plan)
    if plan.channels and spec.embedding:
        about["embedding"] = spec.embedding.model_dump()
    sizes = SizeTally()
    found = _pieces(plan.wanted(plan.to_level0(table)) for table in tables)
    summary, unusual = write_cells(
        folder, map(spec.named, found), spec, image=Path(plan.slide.name).stem, regions=names,
        features=FEATURE_NAMES, about=about, tally=sizes.add, channels=plan.channels,
    )  # fmt: skip
    warnings = (*warnings, *check_result(area, sizes), *unusual)
    told = [asdict(warning) for warning in warnings]
    write_tissue(folder / TISSUE_FILE, plan.tissue_outline())
    if plan.quality is not None:
        artefacts = {kind: plan.quality.outline(kind) for kind in KINDS if plan.quality.artefacts[kind].any()}
        write_artefacts(folder / ARTEFACTS_FILE, artefacts)
    _draw(folder, plan, picture, tissue_mm2=area.tissue_mm2, warnings=warnings)
    rows = summary.rows(area, areas if plan.regions is not None else ())
    write_summary_csv(folder / "summary.csv", rows)
    write_summary_json(
        folder / SUMMARY_FILE,
        rows,
        {**about, **_judged(plan), **damage(plan.damaged, plan.slide.mpp), "warnings": told},
        spec.type_set,
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
    # A slide that gave labels was looked at; it may differ from the mean of all that did.
    judged = classifier is not None and not classifier.was_taught_on(str(about.get("slide", image)))
    counter, unlike = SummaryCounter(regions, types), Unlike(classifier) if classifier and judged else None
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


def _draw(folder: Path, plan: Plan, picture: Slide, *, tissue_mm2: float, warnings: Sequence[Warned]) -> None:
    spec = plan.bundle.spec
    draw_overview(
        folder / OVERVIEW_FILE,
        picture.thumbnail(_THUMBNAIL_PX),
        picture.thumbnail_scale(_THUMBNAIL_PX),
        iter_cells(folder / CELLS_FILE),
        mpp=plan.slide.mpp,
        tissue=plan.searched.mask,
        tissue_scale_px=plan.searched.scale_px,
        tissue_mm2=tissue_mm2,
        regions=plan.regions or (),
        artefacts=plan.quality.artefacts if plan.quality else {},
        title=" - ".join(filter(None, (one_line(plan.slide.name), plan.slide.scene))),
        footer=f"{spec.name} {spec.version}",
        warnings=[warning.message for warning in warnings],
        type_set=spec.type_set,
    )


def _judged(plan: Plan) -> dict[str, Any]:
    return {"qc": plan.quality.summary(plan.slide.mpp)} if plan.quality else {}


def _about(plan: Plan) -> dict[str, Any]:
    """What the files say of where they come from: the same for the same work, so no times and no paths."""
    slide = plan.slide
    return {
        "notice": NOTICE,
        "slide": as_text(slide.name),
        **({"scene": slide.scene} if slide.scene else {}),
        "width_px": slide.width_px,
        "height_px": slide.height_px,
        "mpp": slide.mpp,
        "model": model_identity(plan.bundle),
        "model_mpp": plan.read_mpp,
    }


def _described(plan: Plan) -> dict[str, Any]:
    return {
        "read_mpp": plan.read_mpp,
        "map_mpp": plan.map_mpp,
        "tile": plan.tile,
        "halo": plan.halo,
        "tiles": len(plan.tiles),
    }


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    """Written last: a folder that has it is whole."""
    record = {**record, "finished": datetime.now(UTC).isoformat(timespec="seconds")}
    (folder / RUN_FILE).write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
