"""Stand-ins for the parts of paquo, and of QuPath's Java classes under it, that `cytolite.qupath.objects` calls.

No QuPath is to be had where tests run. These keep objects as QuPath does, in a tree and in a file of the image's own,
and refuse what QuPath was seen to refuse; that the real ones take the same calls was read in paquo's and QuPath's
source.
"""

from __future__ import annotations

import json
import pickle
import sys
import types
import urllib.parse
from functools import cached_property
from pathlib import Path
from typing import Any

import shapely
from shapely.geometry import shape


class Roi:
    def __init__(self, geometry: Any) -> None:
        self.geometry = geometry

    def getCentroidX(self) -> float:  # noqa: N802 - Java's names
        return self.geometry.centroid.x

    def getCentroidY(self) -> float:  # noqa: N802
        return self.geometry.centroid.y


class PathObject:
    """A Java object of the hierarchy."""

    def __init__(self, kind: str, geometry: Any = None, name: str | None = None, path_class: str | None = None) -> None:
        self.kind, self.roi, self.name, self.path_class = kind, Roi(geometry), name, path_class
        self.measurements: dict[str, float] = {}
        self.children: list[PathObject] = []
        self.parent: PathObject | None = None

    def getName(self) -> str | None:  # noqa: N802
        return self.name

    def getROI(self) -> Roi:  # noqa: N802
        return self.roi

    def addChildObjects(self, objects: list[PathObject]) -> None:  # noqa: N802
        for child in objects:
            child.parent = self
        self.children.extend(objects)

    def descendants(self) -> list[PathObject]:
        return [found for child in self.children for found in (child, *child.descendants())]


class JavaHierarchy:
    def __init__(self) -> None:
        self.root = PathObject("root")
        self.changed = False

    def getRootObject(self) -> PathObject:  # noqa: N802
        return self.root

    def getDetectionObjects(self) -> list[PathObject]:  # noqa: N802
        return [found for found in self.root.descendants() if found.kind == "detection"]

    def removeObjects(self, objects: list[PathObject], keep_children: bool) -> None:  # noqa: N802
        assert keep_children
        for found in objects:
            found.parent.children.remove(found)
            found.parent.addChildObjects(found.children)

    def fireHierarchyChangedEvent(self, source: Any) -> None:  # noqa: N802
        self.changed = True


class PathIO:
    """Reads as strictly as QuPath does: one bad feature, and nothing is read."""

    largest = 0

    @classmethod
    def readObjects(cls, path: str) -> list[PathObject]:  # noqa: N802
        features = json.loads(Path(path).read_bytes())["features"]
        cls.largest = max(cls.largest, len(features))
        objects = []
        for feature in features:
            properties, geometry = feature["properties"], shape(feature["geometry"])
            assert geometry.is_valid
            assert properties["objectType"] == "detection"
            assert len(properties["classification"]["color"]) == 3
            assert "metadata" not in properties  # 0.5.1 logs a stack trace for each object that has it
            objects.append(PathObject("detection", geometry, properties["name"], properties["classification"]["name"]))
            objects[-1].measurements = {key: float(value) for key, value in properties["measurements"].items()}
        return objects


class PathClass:
    def __init__(self, name: str, color: tuple[int, int, int] | None = None) -> None:
        self.name, self.color = name, color


class Annotation:
    """paquo's view of a Java object."""

    def __init__(self, java_object: PathObject) -> None:
        self.java_object = java_object
        self.name, self.roi = java_object.name, java_object.roi.geometry
        self.path_class = PathClass(java_object.path_class) if java_object.path_class else None
        self.measurements = java_object.measurements


class Hierarchy:
    def __init__(self, java_object: JavaHierarchy) -> None:
        self.java_object = java_object

    @property
    def annotations(self) -> list[Annotation]:
        return [Annotation(found) for found in self.java_object.root.descendants() if found.kind == "annotation"]

    @property
    def root(self) -> Annotation:
        return Annotation(self.java_object.root)

    def flush(self, invalidate_proxy_cache: bool = False) -> None:
        self.java_object.fireHierarchyChangedEvent(None)


class Entry:
    """An image; its ``data.qpdata`` is a pickle here."""

    size = (0, 0)
    mpp: float | None = None

    def __init__(self, project: Path, content: dict[str, Any]) -> None:
        self.image_name, self.entry_id = content["imageName"], str(content["entryID"])
        self.uri = content["serverBuilder"]["uri"]
        self.entry_path = project.parent / "data" / self.entry_id
        self.width, self.height = self.size
        self._image_data = self

    @cached_property
    def hierarchy(self) -> Hierarchy:
        data = self.entry_path / "data.qpdata"
        return Hierarchy(pickle.loads(data.read_bytes()) if data.exists() else JavaHierarchy())

    def getServer(self) -> Entry:  # noqa: N802
        return self

    def getMetadata(self) -> Entry:  # noqa: N802
        return self

    def getPixelCalibration(self) -> Entry:  # noqa: N802
        return self

    def getAveragedPixelSizeMicrons(self) -> float:  # noqa: N802
        return self.mpp or float("nan")

    def hasPixelSizeMicrons(self) -> bool:  # noqa: N802
        return self.mpp is not None

    def save(self) -> None:
        if self.hierarchy.java_object.changed:
            self.hierarchy.java_object.changed = False
            (self.entry_path / "data.qpdata").write_bytes(pickle.dumps(self.hierarchy.java_object))


class Project:
    def __init__(self, path: Path, mode: str) -> None:
        assert mode == "r+"
        self.path = path
        self.images = [Entry(path, image) for image in json.loads(path.read_bytes())["images"]]

    @property
    def _classes(self) -> Path:
        return self.path.parent / "classifiers" / "classes.json"

    @property
    def path_classes(self) -> tuple[PathClass, ...]:
        known = json.loads(self._classes.read_bytes())["pathClasses"] if self._classes.exists() else []
        return tuple(PathClass(each["name"], each["color"]) for each in known)

    @path_classes.setter
    def path_classes(self, classes: tuple[PathClass, ...]) -> None:
        content = [{"name": each.name, "color": each.color} for each in classes]
        self._classes.write_text(json.dumps({"pathClasses": content}))


class ImageProvider:
    @staticmethod
    def path_from_uri(uri: str) -> Path:
        parts = urllib.parse.urlsplit(uri)
        if parts.scheme != "file":
            raise NotImplementedError
        return Path(urllib.parse.unquote(parts.path))


def install(monkeypatch: Any) -> None:
    """Put the stand-ins in paquo's place."""
    for name, members in {
        "paquo": {},
        "paquo.projects": {"QuPathProject": Project},
        "paquo.images": {"ImageProvider": ImageProvider},
        "paquo.classes": {"QuPathPathClass": PathClass},
        "paquo.java": {"PathIO": PathIO, "File": str},
    }.items():
        module = types.ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)


def box(x0: float, y0: float, x1: float, y1: float) -> Any:
    return shapely.box(x0, y0, x1, y1)
