"""QuPath projects: made, and worked on image by image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from cytolite.bundle import load_bundle
from cytolite.celltypes import DEFAULT, TypeSet
from cytolite.config import SegmentSettings
from cytolite.errors import CytoliteError, UsageError
from cytolite.interop.parquet import read_types
from cytolite.interop.result_folder import CELLS_FILE
from cytolite.progress import Display, silent
from cytolite.qupath.new_project import write_project
from cytolite.qupath.objects import ImageRegions, OpenProject, open_project
from cytolite.segmentation.results import find_slides, prepare_output, result_folders
from cytolite.segmentation.run import Outcome, load_model, segment_again
from cytolite.slides.reader import open_slide

if TYPE_CHECKING:
    from cytolite.inference.predictor import Model


def make_project(slides: Sequence[str | Path], output: Path, model: str | None = None) -> Path:
    """Make a QuPath project of slides, without QuPath; return the file to open.

    Parameters
    ----------
    slides : sequence of str or pathlib.Path
        Files or patterns.
    output : pathlib.Path
        Folder of the project; new, or empty.
    model : str, optional
        Bundle, or a result, whose types become classes of the project; the default types if not given.

    Raises
    ------
    CytoliteError
        If there is no slide or no such model, a slide cannot be read, or the folder is not empty.
    """
    return write_project(output, find_slides(slides), _write_thumbnail, _types_of(model))


def _types_of(model: str | None) -> TypeSet:
    if model is None:
        return DEFAULT
    if (cells := Path(model) / CELLS_FILE).is_file():
        return read_types(cells)
    return load_bundle(model).spec.type_set


def _write_thumbnail(slide: Path, target: Path) -> None:
    """Write a slide as QuPath's list of images shows it; one that cannot be read is told by this."""
    with open_slide(slide, mpp=1.0) as opened:  # any will do: the size in pixels is asked for
        Image.fromarray(opened.thumbnail(1000)).save(target, "JPEG", quality=85)


def run_project(
    project: Path,
    settings: SegmentSettings,
    *,
    images: Sequence[str] = (),
    classes: Sequence[str] = (),
    whole: bool = False,
    qupath: Path | None = None,
    other_project_open: bool = False,
    display: Display = silent,
    report: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Segment images of a QuPath project within their annotations, and add the cells to them.

    Parameters
    ----------
    project, qupath, other_project_open
        As for `cytolite.qupath.objects.open_project`.
    settings : SegmentSettings
        For all images; regions are the project's.
    images, classes, whole
        As for `OpenProject.images`.
    display, report
        As for `segment_slides`.

    Returns
    -------
    list of Outcome
        One per image; when one fails the others go on.

    Raises
    ------
    CytoliteError
        If nothing can be done at all.
    """
    if settings.roi is not None:
        raise UsageError("The regions are the project's annotations: leave out --roi, or choose a --class of them.")
    model = load_model(settings)
    outcomes = []
    with open_project(project, qupath, other_project_open) as opened:
        for image in opened.images(images, classes, whole):
            outcomes.append(_run_image(opened, image, model, settings, display))
            report(outcomes[-1])
    return outcomes


def _run_image(
    project: OpenProject, image: ImageRegions, model: Model, settings: SegmentSettings, display: Display
) -> Outcome:
    folder = project.path.parent / "cytolite" / image.folder_name
    try:
        slide = image.slide()
        prepare_output(folder)
        if image.regions:
            settings = settings.model_copy(update={"roi": folder / "regions.geojson"})
            image.write_regions(folder / "regions.geojson")
        settings = settings.model_copy(update={"mpp": settings.mpp or image.mpp()})
        [target] = result_folders([slide], folder)
        outcome = segment_again(slide, target, model, settings, display)
        if outcome.status == "failed":
            return outcome
        return replace(outcome, status="done", cells=project.add_result(image, target))
    except CytoliteError as error:
        return Outcome(Path(image.name), folder, "failed", str(error))
