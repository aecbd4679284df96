"""`cytolite qupath run` and `cytolite qupath project`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cytolite.cli.app import Config, with_extra
from cytolite.cli.qupath_app import qupath as group
from cytolite.cli.segment import print_outcomes
from cytolite.config import SegmentSettings, SlideSettings, make_settings

if TYPE_CHECKING:
    from cytolite.segmentation.run import Outcome


@group.command(usage="Usage: cytolite qupath run PROJECT [OPTIONS]")
def run(
    project: Annotated[Path, Parameter(help="Folder of a QuPath project, or its project.qpproj.")],
    /,
    *,
    image: Annotated[tuple[str, ...], Parameter(help="Name of an image, or a pattern; default: all images.")] = (),
    classes: Annotated[
        tuple[str, ...], Parameter(name="--class", help="Class of the annotations to work on; default: all of them.")
    ] = (),
    whole_image: Annotated[bool, Parameter(help="Work on all of an image that has no such annotation.")] = False,
    qupath: Annotated[Path | None, Parameter(help="Folder where QuPath is installed; default: searched for.")] = None,
    other_project_open: Annotated[bool, Parameter(help="A QuPath that runs has another project open.")] = False,
    config: Config = None,
    settings: Annotated[SlideSettings | None, Parameter(name="*")] = None,
) -> int:
    """Find the nuclei of a project's images, and add them under their annotations, without opening QuPath.

    Each image's data are copied first. What is replaced is what cytolite added before within the same regions.
    Close the project in QuPath before. Needs the extra `qupath`, and QuPath 0.5 to 0.7.
    """
    given = settings.model_dump(exclude_unset=True) if settings else {}
    resolved = make_settings(SegmentSettings, given, config)
    from cytolite import progress
    from cytolite.qupath import run as projects

    def work(report: Callable[[Outcome], None]) -> list[Outcome]:
        return with_extra(
            lambda: projects.run_project(
                project, resolved, images=image, classes=classes, whole=whole_image, qupath=qupath,
                other_project_open=other_project_open, display=progress.choose(resolved.quiet), report=report,
            ),
            "qupath",
        )  # fmt: skip

    return print_outcomes(resolved.quiet, work)


@group.command(name="project", usage="Usage: cytolite qupath project SLIDE... -o DIR [OPTIONS]")
def make_project(
    *slides: Annotated[str, Parameter(name="SLIDE", help="Slides or images, or patterns such as 'slides/*.svs'.")],
    output: Annotated[Path, Parameter(name=["--output", "-o"], help="Folder of the project; must be new or empty.")],
    model: Annotated[
        str | None, Parameter(help="Model, or result, whose types become classes; default: the embedded models' types.")
    ] = None,
) -> int:
    """Make a QuPath project with slides and with a model's classes and colours; neither QuPath nor Java is needed."""
    from cytolite.qupath import run as projects

    print(projects.make_project(slides, output, model))
    return 0
