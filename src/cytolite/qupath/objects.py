"""A QuPath project's images and objects, through paquo and QuPath's own Java classes. Needs the extra `qupath`.

paquo is under GPL-3: it is imported here alone, and only when a project is worked on.

The rules are those of the scripts inside QuPath: cells lie under their annotation; what is replaced is what this
program added before within these regions, known by its name; other objects, classes and measurements stay.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from shapely.geometry import mapping

from cytolite.cells import CellTable
from cytolite.celltypes import TypeSet
from cytolite.errors import InputError, OutputError, UsageError, did_you_mean
from cytolite.files import plain_refusal
from cytolite.interop.convert import CHUNK
from cytolite.interop.geojson.writer import TAG, GeoJSONWriter
from cytolite.interop.parquet import iter_cells, read_metadata, read_types
from cytolite.interop.result_folder import CELLS_FILE, SUMMARY_FILE
from cytolite.interop.roi import Region
from cytolite.qupath.closed import Unchanged, require_closed
from cytolite.qupath.new_project import PROJECT_FILE

# Measurements of an annotation that begin with this are ours.
PREFIX = "cytolite: "


@dataclass(frozen=True)
class ImageRegions:
    """One image of a project, and where in it cells are wanted.

    Attributes
    ----------
    entry : paquo.images.QuPathProjectImageEntry
        The image.
    regions : list of Region
        Named as they are in the result; empty for the whole image.
    parents : list
        paquo's annotation for each region; for the whole image the root alone.
    """

    entry: Any
    regions: list[Region]
    parents: list[Any]

    @property
    def name(self) -> str:
        return str(self.entry.image_name)

    @property
    def folder_name(self) -> str:
        """Name of its results, unique in the project."""
        return str(self.entry.entry_id)

    def slide(self) -> Path:
        """Return the image's file.

        Raises
        ------
        InputError
            If it is none, or is not there.
        """
        from paquo.images import ImageProvider

        try:
            path = Path(ImageProvider.path_from_uri(self.entry.uri))
        except NotImplementedError:
            raise InputError(f"The image {self.name} is not a file ({self.entry.uri}).") from None
        if not path.exists():
            raise InputError(
                f"The file {path} of the image {self.name} is not there; open the project in QuPath to find it."
            )
        return path

    def mpp(self) -> float | None:
        """Return the um/px that QuPath has for the image, which may have been set by hand; None if it has none."""
        # Not by ImageData.getServerMetadata, which is new in 0.6.
        calibration = self.entry._image_data.getServer().getMetadata().getPixelCalibration()
        size = float(calibration.getAveragedPixelSizeMicrons())
        return size if calibration.hasPixelSizeMicrons() and np.isfinite(size) else None

    def release(self) -> None:
        """Let go of the image's objects, which paquo would keep."""
        for name in ("hierarchy", "_image_data", "_image_server"):
            vars(self.entry).pop(name, None)

    def write_regions(self, path: Path) -> None:
        """Write the regions as GeoJSON."""
        features = [
            {"type": "Feature", "geometry": mapping(region.polygon), "properties": {"name": region.name}}
            for region in self.regions
        ]
        with plain_refusal(path):
            path.write_bytes(orjson.dumps({"type": "FeatureCollection", "features": features}))


@dataclass
class OpenProject:
    """A project that nobody else is working on."""

    path: Path
    project: Any
    unchanged: Unchanged = field(default_factory=Unchanged)

    def images(
        self, names: Sequence[str] = (), classes: Sequence[str] = (), whole: bool = False
    ) -> Iterator[ImageRegions]:
        """Yield the images called so, each with its annotations of the classes; one image is in memory at a time.

        Parameters
        ----------
        names : sequence of str
            Names or patterns; all images if there are none.
        classes : sequence of str
            All annotations if there are none.
        whole : bool
            Take an image without such annotations as a whole; else it is left out.

        Raises
        ------
        InputError
            If there is no image of a name; at the end, if there was no annotation of a class, or nothing to work on.
        """
        entries = list(self.project.images)
        known = [str(entry.image_name) for entry in entries]
        for name in names:
            if not any(fnmatchcase(other, name) for other in known):
                raise UsageError(
                    f"The project has no image {name!r}; it has {_some(known)}.{did_you_mean(name, known)}"
                )
        seen: set[str] = set()
        n_images = 0
        for entry, own in zip(entries, known, strict=True):
            if names and not any(fnmatchcase(own, name) for name in names):
                continue
            self.unchanged.remember(Path(entry.entry_path) / "data.qpdata")  # before it is read
            image = _regions(entry, classes)
            seen |= {_class_of(annotation) for annotation in entry.hierarchy.annotations}
            if image.regions or whole:
                n_images += 1
                yield image if image.regions else _whole(entry)
            image.release()
        if missing := sorted(set(classes) - seen):
            present = sorted(seen - {""})
            raise UsageError(
                f"No annotation of the images has the class {missing[0]!r}; there are {_some(present)}."
                f"{did_you_mean(missing[0], present)}"
            )
        if not n_images:
            raise UsageError("No image has an annotation to work on: draw some, or say --whole-image.")

    def add_result(self, image: ImageRegions, result: Path) -> int:
        """Put a result's cells into an image, in place of those that were put there before; return how many.

        The image's data are copied beside themselves first. Everything is read before anything is changed.

        Parameters
        ----------
        image : ImageRegions
            As it was when the work began.
        result : pathlib.Path
            Folder of a result that was made for its regions.

        Raises
        ------
        InputError
            If the result is of another image, or the image was changed meanwhile.
        OutputError
            If the image's data cannot be copied or written.
        """
        data = self._data(image)
        summary = orjson.loads((result / SUMMARY_FILE).read_bytes())
        size = (summary["width_px"], summary["height_px"])
        if size != (int(image.entry.width), int(image.entry.height)):
            raise InputError(
                f"cytolite read {image.name} as {size[0]} x {size[1]} px, but it is {image.entry.width} x "
                f"{image.entry.height} px in QuPath; cropped, turned and multi-series images cannot be used."
            )
        with _java_refusal(data):
            return self._replace(image, result, summary)

    def _replace(self, image: ImageRegions, result: Path, summary: dict[str, Any]) -> int:
        data = self._data(image)
        objects = [
            list(_read_objects(result, i, image)) for i in (range(len(image.regions)) if image.regions else [-1])
        ]
        self.unchanged.require(data, image.name)
        _back_up(data)
        hierarchy = image.entry.hierarchy.java_object
        hierarchy.removeObjects(_ours(hierarchy, image.regions), True)
        rows = summary["regions"] if image.regions else [summary["total"]]
        n = 0
        for parent, row, parts in zip(image.parents, rows, objects, strict=True):
            for part in parts:
                parent.java_object.addChildObjects(part)
                n += len(part)
            _measure(parent, row)
        image.entry.hierarchy.flush(invalidate_proxy_cache=True)
        self._add_classes(read_types(result / CELLS_FILE))
        with plain_refusal(data):
            image.entry.save()
        self.unchanged.remember(data)
        return n

    def _data(self, image: ImageRegions) -> Path:
        return Path(image.entry.entry_path) / "data.qpdata"

    def _add_classes(self, type_set: TypeSet) -> None:
        """Add the types' classes to the project's list, after those that are there."""
        from paquo.classes import QuPathPathClass

        classes = tuple(self.project.path_classes)
        names = {str(known.name) for known in classes}
        new = [QuPathPathClass(t.qupath_class, color=t.colour) for t in type_set if t.qupath_class not in names]
        if new:
            self.project.path_classes = (*classes, *new)


@contextmanager
def open_project(path: Path, qupath: Path | None = None, other_project_open: bool = False) -> Iterator[OpenProject]:
    """Open a project to change it.

    Parameters
    ----------
    path : pathlib.Path
        ``project.qpproj``, or its folder.
    qupath : pathlib.Path, optional
        Where QuPath is installed; searched for if not given.
    other_project_open : bool
        Whether the user says that a QuPath that runs has another project open.

    Raises
    ------
    InputError
        If there is no such project, it may be open in QuPath, or QuPath cannot be found.
    """
    file = path / PROJECT_FILE if path.is_dir() else path
    if file.suffix != ".qpproj" or not file.is_file():
        raise UsageError(f"There is no project {file}; name a folder with {PROJECT_FILE} in it.")
    require_closed(file, other_project_open)
    if qupath is not None:
        os.environ["PAQUO_QUPATH_DIR"] = str(qupath)
    try:
        from paquo.projects import QuPathProject
    except (ValueError, OSError, RuntimeError) as error:
        raise InputError(
            f"QuPath cannot be started ({error}); say where it is installed, for example --qupath /opt/QuPath."
        ) from None
    # The project itself is not saved at the end: images and classes are, one by one, and nothing else is changed.
    yield OpenProject(file, QuPathProject(file, mode="r+"))


@contextmanager
def _java_refusal(data: Path) -> Iterator[None]:
    """Turn what Java throws into a sentence."""
    from jpype import JException

    try:
        yield
    except JException as error:
        raise OutputError(f"QuPath cannot add the cells to {data}: {error}.") from error


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "") if names else "none"


def _class_of(annotation: Any) -> str:
    return str(annotation.path_class.name) if annotation.path_class is not None else ""


def _regions(entry: Any, classes: Sequence[str]) -> ImageRegions:
    """Return the annotations with an area, named as `read_regions` names them."""
    regions: list[Region] = []
    parents = []
    for annotation in entry.hierarchy.annotations:
        if classes and _class_of(annotation) not in classes:
            continue
        polygon = annotation.roi
        if polygon.geom_type not in {"Polygon", "MultiPolygon"} or polygon.area == 0:
            continue
        name = (annotation.name or "").strip() or _class_of(annotation) or f"region {len(regions) + 1}"
        taken = {region.name for region in regions}
        unique = name if name not in taken else next(n for i in range(2, 10**6) if (n := f"{name} {i}") not in taken)
        regions.append(Region(unique, polygon))
        parents.append(annotation)
    return ImageRegions(entry, regions, parents)


def _whole(entry: Any) -> ImageRegions:
    return ImageRegions(entry, [], [entry.hierarchy.root])


def _read_objects(result: Path, region: int, image: ImageRegions) -> Iterator[Any]:
    """Yield Java lists of the objects of one region, made by QuPath itself from GeoJSON of at most `CHUNK` cells.

    One by one through paquo some 800 are made in a second; so, about as many as QuPath reads.
    """
    from paquo.java import File, PathIO

    model = read_metadata(result / CELLS_FILE).get("model", {}).get("name", "")
    with tempfile.TemporaryDirectory(prefix="cytolite-") as folder:
        for number, (first_id, cells) in enumerate(_chunks(result / CELLS_FILE, region)):
            path = Path(folder) / f"{number}.geojson"
            with GeoJSONWriter(
                path, image.name, model, first_id=first_id, metadata=False, type_set=cells.type_set
            ) as writer:
                writer.append(cells)
            yield PathIO.readObjects(File(str(path)))
            path.unlink()


def _chunks(path: Path, region: int) -> Iterator[tuple[int, CellTable]]:
    """Yield the cells of one region, at most `CHUNK` at a time, with a first id that no other region has."""
    first_id = 1
    for table in iter_cells(path, CHUNK):
        cells = table.select(table.regions == region)
        if len(cells):
            yield first_id, _without_region(cells)
        first_id += len(table)


def _without_region(cells: CellTable) -> CellTable:
    return CellTable(**{**vars(cells), "regions": np.full(len(cells), -1, np.int32)})


def _ours(hierarchy: Any, regions: Sequence[Region]) -> list[Any]:
    """Return what was added before within the regions; everything of ours for a whole image."""
    tagged = [found for found in hierarchy.getDetectionObjects() if str(found.getName()) == TAG]
    if not regions or not tagged:
        return tagged
    places = [(float(roi.getCentroidX()), float(roi.getCentroidY())) for roi in (found.getROI() for found in tagged)]
    inside = np.any([region.contains(np.array(places)) for region in regions], axis=0)
    return [found for found, is_inside in zip(tagged, inside, strict=True) if is_inside]


def _measure(parent: Any, row: Mapping[str, Any]) -> None:
    """Replace our measurements of an annotation by counts and densities."""
    measurements = parent.measurements
    for name in [str(name) for name in measurements if str(name).startswith(PREFIX)]:
        del measurements[name]
    values = {"nuclei": row["cells"], "nuclei per mm^2": row["cells_per_mm2"]}
    for name, counted in row["types"].items():
        values |= {name: counted["count"], f"{name} per mm^2": counted["per_mm2"]}
    for name, value in (values | {"tissue mm^2": row["tissue_mm2"]}).items():
        measurements[PREFIX + name] = float("nan") if value is None else float(value)


def _back_up(data: Path) -> None:
    """Copy an image's data beside themselves, with the time in the name."""
    if not data.is_file():
        return
    copy = data.with_name(f"{data.name}.before-cytolite-{datetime.now():%Y%m%d-%H%M%S}")
    try:
        shutil.copy2(data, copy)
    except OSError as error:
        raise OutputError(f"The backup {copy} cannot be written ({error.strerror}); nothing was changed.") from None
