"""The run of one slide: done, skipped or failed, and the record of what it was made with."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cytolite import machine
from cytolite.config import SegmentSettings
from cytolite.errors import CytoliteError, SlideError
from cytolite.interop.result_folder import SHEET_FILE
from cytolite.names import as_text, one_line
from cytolite.progress import Display
from cytolite.provenance import fingerprint, versions_here
from cytolite.renamed import settings_of_today
from cytolite.segmentation.results import check_free, is_result, read_record
from cytolite.segmentation.slide_list import Entry

if TYPE_CHECKING:
    from cytolite.bundle import Bundle
    from cytolite.inference.predictor import Model
    from cytolite.segmentation.executors import Executor
    from cytolite.slides.reader import Slide

log = logging.getLogger("cytolite")
# Settings that decide, beside the model and the regions, which cells are found; the others only how fast.
DECISIVE_SETTINGS = ("mpp", "tissue", "precision", "tta", "exclude_artefacts", "exclude_folds")


@dataclass(frozen=True)
class Outcome:
    """What became of one slide of a run."""

    slide: Path
    folder: Path
    status: Literal["done", "skipped", "failed"]
    message: str = ""
    warnings: tuple[str, ...] = ()
    cells: int = 0
    tissue_mm2: float = 0.0
    seconds: float = 0.0


def load_model(settings: SegmentSettings) -> Model:
    """Return the model that the settings name, for one slide or many; its network is loaded when it is first used.

    Raises
    ------
    BundleError
        If there is no such bundle, or it is damaged.
    UsageError, InputError
        If it cannot run in the precision that is asked for, or gives no embeddings and they are asked for.
    """
    from cytolite.inference.arithmetic import load_variant
    from cytolite.inference.predictor import Model

    bundle = load_variant(settings.model, settings.precision)
    bundle.channels(settings.embeddings)  # told before any slide is looked at
    return Model.of(bundle, settings)


def segment_again(slide: Path, folder: Path, model: Model, settings: SegmentSettings, display: Display) -> Outcome:
    """Segment one slide into `folder`; a result there is replaced if anything decisive is different now.

    Parameters
    ----------
    slide, folder : pathlib.Path
        The slide, and the folder of its own results.
    model : Model
        From `load_model`.
    settings : SegmentSettings
        Everything else; `overwrite` is decided here.
    display : Display
        Shows progress. A `Stopped` raised by its `Update` ends the work and keeps the tiles done.

    Returns
    -------
    Outcome
        Also says what went wrong; nothing but `Stopped` or an interrupt is raised.
    """
    stale = is_result(folder) and bool(_differences(folder, model, settings))
    return try_slide(Entry(slide, settings.model_copy(update={"overwrite": stale})), folder, model, display)


def try_slide(entry: Entry, folder: Path, model: Model, display: Display, executor: Executor | None = None) -> Outcome:
    """Segment one slide; what goes wrong becomes part of the outcome. See `work_on` for `executor`.

    Parameters
    ----------
    entry : Entry
        The slide and its settings.
    folder : pathlib.Path
        Of its result.
    model : Model
        From `load_model`.
    display : Display
        Shows progress.
    executor : Executor, optional
        Where its tiles are done.
    """
    slide = entry.path
    try:
        return segment_or_skip(entry, folder, model, display, executor)
    except CytoliteError as error:
        message = str(error)
    except OSError as error:
        message = f"{slide}: {error.strerror or error} ({error.filename or folder})."
    except MemoryError:
        message = f"{slide}: there is not enough memory; use fewer --workers or a smaller --tile."
    except Exception as error:
        # A fault of ours must not cost the user the other slides of the night; the log gets all of it.
        log.exception("%s failed in a way that is a fault of cytolite", slide)
        message = f"{slide}: unexpected {type(error).__name__}; please report the lines above."
    return Outcome(slide, folder, "failed", message.replace(str(slide), one_line(slide)))


def segment_or_skip(
    entry: Entry, folder: Path, model: Model, display: Display, executor: Executor | None = None
) -> Outcome:
    """Segment one slide, unless its result is there already and may stay; what goes wrong is raised.

    Parameters
    ----------
    entry : Entry
        The slide and its settings.
    folder : pathlib.Path
        Of its result.
    model : Model
        From `load_model`.
    display : Display
        Shows progress.
    executor : Executor, optional
        Where its tiles are done.
    """
    if entry.settings.overwrite or not is_result(folder):
        return work_on(entry, folder, model, display, executor)
    other = _differences(folder, model, entry.settings)
    warning = f"the result that is there was made with another {' and another '.join(other)}; --overwrite makes it anew"
    warnings = [warning] if other else []
    if entry.settings.sheet and not (folder / SHEET_FILE).is_file():
        warnings.append(f"the result that is there has no {SHEET_FILE}; `cytolite sheet {folder}` draws it")
    record = read_record(folder)
    cells, area_mm2 = record.get("cells", 0), record.get("tissue_mm2", 0.0)
    return Outcome(entry.path, folder, "skipped", "", tuple(warnings), cells, area_mm2)


def _differences(folder: Path, model: Model, settings: SegmentSettings) -> list[str]:
    """Name what the result in `folder` was made with another of."""
    from cytolite.inference.arithmetic import own_arithmetic

    record = read_record(folder)
    before = SegmentSettings().model_dump(mode="json", include=set(DECISIVE_SETTINGS))  # of settings that came since
    before["precision"] = own_arithmetic(model.bundle)
    made_with = settings_of_today(record.get("settings", {}), silent=True)
    found = {**before, **made_with, "model": record.get("model"), "roi": record.get("roi_sha256")}
    wanted = {
        **model.as_set(settings).model_dump(mode="json", include=set(DECISIVE_SETTINGS)),
        "model": _model_record(model.bundle),
        "roi": _roi_sha256(settings),
    }
    other = [name for name, value in wanted.items() if found.get(name) != value]
    # Vectors that nobody asked for are no reason to do anything again.
    missing = settings.embeddings and not found.get("embeddings", False)
    return [*other, *(["setting of embeddings"] if missing else [])]


def work_on(entry: Entry, folder: Path, model: Model, display: Display, executor: Executor | None = None) -> Outcome:
    """Work on one slide, from opening it to the folder under its final name; `executor` is where its tiles are done.

    Parameters
    ----------
    entry : Entry
        The slide and its settings.
    folder : pathlib.Path
        Of its result.
    model : Model
        From `load_model`.
    display : Display
        Shows progress.
    executor : Executor, optional
        Where its tiles are done.
    """
    from cytolite.drawing.type_sheet import draw_sheet
    from cytolite.interop.result import Result
    from cytolite.segmentation.opening import open_as_set
    from cytolite.segmentation.slide import segment_slide

    slide, settings = entry.path, model.as_set(entry.settings)
    if not _can_exist(slide):
        raise SlideError(f"{slide} is no name that a file can have; check the path of the slide.")
    check_free(folder)
    start = time.perf_counter()
    with open_as_set(slide, settings) as opened, display(one_line(slide.name)) as update:
        record = run_record(opened, model.bundle, settings) | ({"columns": entry.columns} if entry.columns else {})
        result = segment_slide(
            opened, folder, model.bundle, settings, record=record, update=update, predictor=lambda: model.predictor,
            executor=executor,
        )  # fmt: skip
        if settings.sheet and result.n_cells:
            draw_sheet(Result(folder), opened, folder / SHEET_FILE)
    seconds = time.perf_counter() - start
    notes = tuple(warning.message for warning in result.warnings)
    return Outcome(slide, folder, "done", "", notes, result.n_cells, result.tissue_mm2, seconds)


def _can_exist(slide: Path) -> bool:
    """Say whether the system has names like this one; asked first, as its refusals differ from place to place."""
    try:
        return b"\0" not in os.fsencode(slide)
    except UnicodeEncodeError:
        return False


def run_record(slide: Slide, bundle: Bundle, settings: SegmentSettings) -> dict[str, Any]:
    """Return what ``run.json`` says of a run before it starts: inputs, settings, versions and hashes.

    Parameters
    ----------
    slide : Slide
        Open slide.
    bundle : Bundle
        Model of the run.
    settings : SegmentSettings
        Of the run, with everything chosen.
    """
    from cytolite.inference.arithmetic import runtime_of

    stat = slide.path.stat()
    return {
        "slide": {
            "path": as_text(slide.path.resolve()),
            "modified": datetime.fromtimestamp(stat.st_mtime, UTC).isoformat(timespec="seconds"),
            **fingerprint(slide.path),
            "format": slide.format,
            "width_px": slide.width_px,
            "height_px": slide.height_px,
            "mpp": slide.mpp,
        },
        "model": _model_record(bundle),
        "runtime": runtime_of(settings.precision),
        "settings": {k: as_text(v) if isinstance(v, str) else v for k, v in settings.model_dump(mode="json").items()},
        "roi_sha256": _roi_sha256(settings),
        "versions": versions_here(),
        "machine": {"system": platform.platform(), "processor": machine.processor(), "cores": machine.cores()},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _roi_sha256(settings: SegmentSettings) -> str | None:
    """Of the file's content: regions that were drawn anew under the same name are other regions."""
    return None if settings.roi is None else hashlib.sha256(settings.roi.read_bytes()).hexdigest()


def _model_record(bundle: Bundle) -> dict[str, str]:
    """Tell a bundle from another: the same network with other thresholds finds other cells."""
    from cytolite.bundle import model_identity

    return {**model_identity(bundle), "spec_sha256": bundle.spec_sha256}
