"""`cytolite apply`: a model's names on the nuclei of results that are there already."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from shapely.geometry import shape as shape_of

from cytolite.bundle import Bundle, load_bundle, model_identity
from cytolite.classifier import as_before, before_columns, inputs_of
from cytolite.drawing.overview import draw_overview
from cytolite.errors import CytoliteError, InputError, OutputError, UsageError
from cytolite.files import sha256_of, write_text
from cytolite.interop.parquet import iter_cells, read_metadata
from cytolite.interop.result import Result
from cytolite.interop.result_folder import (
    ARTEFACTS_FILE,
    CELLS_FILE,
    OVERVIEW_FILE,
    RUN_FILE,
    SUMMARY_FILE,
    TISSUE_FILE,
)
from cytolite.interop.roi import Region, read_regions
from cytolite.interop.summary import Area, write_summary_csv, write_summary_json
from cytolite.segmentation.checkpoint import WorkFolder
from cytolite.segmentation.writers import write_cells
from cytolite.slides.quality import KINDS, excluded_kinds
from cytolite.slides.tissue import TissueMask, find_tissue

_THUMBNAIL_PX = 2000


def name_results(
    model: str | Path,
    results: Sequence[Path],
    out: Path,
    *,
    overwrite: bool = False,
    done: Callable[[Path, int, tuple[str, ...]], None] = lambda folder, n, warnings: None,
) -> list[Path]:
    """Write results again with the names of a taught model, each into a folder of its own in `out`.

    Parameters
    ----------
    model : str or pathlib.Path
        Taught bundle, or one whose network found the nuclei: then the network's names come back.
    results : sequence of pathlib.Path
        Folders.
    out : pathlib.Path
        Gets a folder for each.
    overwrite : bool
        Replace results that are there.
    done : callable
        Called with each new folder, the number of nuclei and warnings.

    Raises
    ------
    InputError
        If a result was found by another network, or lacks what the classifier needs.
    OutputError
        If something is there already, or cannot be written.
    """
    bundle = load_bundle(model)
    opened = [Result(path) for path in results]
    for result in opened:  # before anything is written
        if result.model["onnx_sha256"] != bundle.sha256:
            wanted = bundle.spec.classifier.parent if bundle.spec.classifier else bundle.spec.name
            raise InputError(
                f"{result.folder} was made with the network of {result.model['name']} {result.model['version']}, and "
                f"{bundle.spec.name} needs that of {wanted}; segment the slide with it."
            )
        _check_embeddings(result, bundle)
        _check_inputs(result, bundle)
    folders = [out / result.folder.name for result in opened]
    if len({str(folder).casefold() for folder in folders}) < len(folders):
        raise UsageError("Two of the results have the same name; name them one after the other, into other folders.")
    for result, folder in zip(opened, folders, strict=True):
        if folder.exists() and folder.resolve() == result.folder.resolve():
            raise UsageError(f"{folder} is the result itself; name another output, so that the first names are kept.")
        if folder.exists() and not overwrite:
            raise OutputError(f"{folder} is there already; --overwrite replaces it.")
    for result, folder in zip(opened, folders, strict=True):
        n, warnings = _name(result, folder, bundle)
        done(folder, n, warnings)
    return folders


def _check_embeddings(result: Result, bundle: Bundle) -> None:
    """A classifier that was taught on embeddings needs the same ones."""
    if bundle.channels(asked=False) and bundle.spec.embedding:
        said = result.about.get("embedding")
        if said is None or said["sha256"] != bundle.spec.embedding.sha256:
            raise InputError(
                f"{bundle.spec.name} was taught on embeddings, and {result.folder} has "
                f"{'none' if said is None else 'others'}; segment the slide with --embeddings, or teach again with "
                "--no-embeddings."
            )


def _check_inputs(result: Result, bundle: Bundle) -> None:
    """Refuse a result whose cells lack what the classifier needs."""
    for first in islice(iter_cells(result.folder / CELLS_FILE, 1), 1):
        before = as_before(first, bundle.spec.network_types)
        if bundle.spec.classifier is not None:
            inputs_of(before, bundle.spec.classifier.inputs)


def _name(result: Result, folder: Path, bundle: Bundle) -> tuple[int, tuple[str, ...]]:
    work = WorkFolder(folder)
    with work.alone():
        work.open({"apply": bundle.spec.name})
        with work.result_folder() as part:
            return _write(part, result, bundle)


def _write(part: Path, result: Result, bundle: Bundle) -> tuple[int, tuple[str, ...]]:
    spec, source, regions = bundle.spec, result.folder / CELLS_FILE, list(result.regions)
    about = {k: v for k, v in read_metadata(source).items() if k not in {"regions", "types"}}
    about["model"] = model_identity(bundle)
    before = before_columns(spec.network_types)
    first = next(iter(iter_cells(source, 1)))
    features = [name for name in first.features if name not in before]
    channels = 0 if first.embeddings is None else first.embeddings.shape[1]
    named = (spec.named(t) if spec.classifier else as_before(t, spec.network_types) for t in iter_cells(source))
    counter, unusual = write_cells(
        part, named, spec, image=Path(result.slide).stem, regions=regions, features=features, about=about,
        channels=channels,
    )  # fmt: skip
    # Whether the slide is unlike those of another taught model says nothing of this one.
    known = [warning for warning in result.run.get("warnings", []) if warning.get("code") != "unlike_taught"]
    warnings = [*known, *map(asdict, unusual)]
    total, areas = _areas(result)
    rows = counter.rows(total, areas if regions else ())
    write_summary_csv(part / "summary.csv", rows)
    kept = {k: v for k, v in result.summary.items() if k not in {"total", "regions", "notice", "model"}}
    write_summary_json(part / SUMMARY_FILE, rows, {**kept, **about, "warnings": warnings}, spec.type_set)
    for name in (TISSUE_FILE, ARTEFACTS_FILE):
        if (result.folder / name).is_file():
            shutil.copyfile(result.folder / name, part / name)
    _draw(part, result, bundle, total, [warning["message"] for warning in warnings if "message" in warning])
    record = {
        **result.run,
        "model": {**model_identity(bundle), "spec_sha256": bundle.spec_sha256},
        "named_before_by": result.run.get("model"),
        "named": datetime.now(UTC).isoformat(timespec="seconds"),
        "named_with": version("cytolite"),
        "warnings": warnings,
    }
    write_text(part / RUN_FILE, json.dumps(record, indent=2, ensure_ascii=False) + "\n")  # last: it is whole now
    return int(counter.counts.sum()), tuple(warning.message for warning in unusual)


def _areas(result: Result) -> tuple[Area, list[Area]]:
    def area(row: dict[str, Any]) -> Area:
        return Area(float(row["searched_mm2"]), float(row["tissue_mm2"]))

    return area(result.summary["total"]), [area(row) for row in result.summary["regions"]]


def _draw(folder: Path, result: Result, bundle: Bundle, area: Area, warnings: Sequence[str]) -> None:
    """Draw the overview anew: over the slide if it is where it was, else on white."""
    width, height = result.size_px
    scale = max(1.0, max(width, height) / _THUMBNAIL_PX)
    thumbnail = np.full((int(np.ceil(height / scale)), int(np.ceil(width / scale)), 3), 255, np.uint8)
    title, searched = result.slide, None
    try:
        with result.open_slide() as slide:
            thumbnail, scale = slide.thumbnail(_THUMBNAIL_PX), slide.thumbnail_scale(_THUMBNAIL_PX)
            searched = TissueMask.whole(slide) if _of_settings(result, "tissue") == "all" else find_tissue(slide)[0]
    except (CytoliteError, KeyError, OSError):
        title += " (the slide is not where it was)"
    mask, mask_scale = (searched.mask, searched.scale_px) if searched else (_painted(result, scale, TISSUE_FILE), scale)
    artefacts = {kind: _painted(result, mask_scale, ARTEFACTS_FILE, kind, mask.shape) for kind in KINDS}
    for kind in excluded_kinds(*(bool(_of_settings(result, f"exclude_{what}")) for what in ("artefacts", "folds"))):
        mask = mask & ~artefacts[kind]
    draw_overview(
        folder / OVERVIEW_FILE,
        thumbnail,
        scale,
        iter_cells(folder / CELLS_FILE),
        mpp=result.mpp,
        tissue=mask,
        tissue_scale_px=mask_scale,
        artefacts=artefacts,
        regions=_regions(result),
        tissue_mm2=area.tissue_mm2,
        title=title,
        footer=f"{bundle.spec.name} {bundle.spec.version}",
        warnings=warnings,
        type_set=bundle.spec.type_set,
    )


def _of_settings(result: Result, name: str) -> Any:
    return result.run.get("settings", {}).get(name)


def _regions(result: Result) -> Sequence[Region]:
    """Return the regions that were worked on, if their file is where it was, and as it was."""
    path = _of_settings(result, "roi")
    if not path or not Path(path).is_file() or sha256_of(Path(path)) != result.run.get("roi_sha256"):
        return ()
    return read_regions(Path(path))


def _painted(
    result: Result, scale: float, name: str, kind: str = "", shape: tuple[int, ...] | None = None
) -> NDArray[np.bool_]:
    """Return the areas of one of a result's outlines as a mask, bool (h, w): all of them, or those of a kind."""
    height, width = shape or (int(np.ceil(side / scale)) for side in result.size_px[::-1])
    mask = Image.new("1", (width, height))
    pen, path = ImageDraw.Draw(mask), result.folder / name
    features = orjson.loads(path.read_bytes())["features"] if path.is_file() else []
    for feature in features:
        if not kind or feature["properties"]["name"].endswith(f": {kind}"):
            for part in shapely.get_parts(shape_of(feature["geometry"])):
                for ring, value in ((part.exterior, 1), *((hole, 0) for hole in part.interiors)):
                    pen.polygon([(x / scale, y / scale) for x, y in ring.coords], fill=value)
    return np.asarray(mask)
