"""Types that a person gives to the nuclei of a result, kept beside it as labels that `cytolite teach` reads."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import shapely
from numpy.typing import NDArray

from cytolite.errors import InputError
from cytolite.files import NOTICE, plain_refusal, whole_file
from cytolite.interop.json_text import unwrapped
from cytolite.interop.roi import class_name, features_of
from cytolite.teach.labels import REACH_UM
from cytolite.viewer.cell_index import CellIndex

# What is no nucleus: QuPath's class for what does not count, of which `teach` takes no label.
DELETED = "ignore*"
LONGEST_NAME = 60
MOST_CHANGES = 100_000
_SEARCH_UM = 15.0  # a nucleus whose middle is farther away does not reach so far
# Colours of types that are not the result's own, one after the other.
_NEW_COLOURS = ((204, 0, 153), (0, 153, 204), (153, 102, 0), (102, 102, 255), (0, 153, 102), (204, 102, 102))

Change = tuple[int, str | None]


class Corrections:
    """The labels of one result: what was said of each nucleus, in ``RESULT.labels.geojson`` beside its folder.

    The file is read again where another program changed it. What is in it and is no point on a nucleus of this result
    (areas, notes, points on nothing) stays as it is.

    Parameters
    ----------
    path : pathlib.Path
        The file, there or not yet.
    cells : CellIndex
        Of the result.
    mpp : float
        um per level-0 px.
    """

    def __init__(self, path: Path, cells: CellIndex, mpp: float) -> None:
        self.path, self._cells, self._mpp = path, cells, mpp
        self._lock = threading.Lock()
        self._read: tuple[int, int] | None = None
        self._names: dict[int, str] = {}
        self._others: list[Any] = []

    @classmethod
    def beside(cls, result: Path, cells: CellIndex, mpp: float) -> Corrections:
        """Return those of a result's folder.

        Parameters
        ----------
        result : pathlib.Path
            Folder of the result.
        cells : CellIndex
            Of the result.
        mpp : float
            um per level-0 px.
        """
        return cls(labels_file(result), cells, mpp)

    def names(self) -> dict[int, str]:
        """Return the type of each labelled nucleus by its row, `DELETED` for what is none.

        Raises
        ------
        InputError
            If the file is there and cannot be read.
        """
        with self._lock:
            self._refresh()
            return dict(self._names)

    def others(self) -> int:
        """Return how many objects of the file are no point on a nucleus of this result."""
        return len(self._others)

    def new_types(self, names: Iterable[str]) -> dict[str, tuple[int, int, int]]:
        """Return those of some names that are not the result's types, and their colours."""
        new = sorted(set(names) - set(self._cells.type_set.names) - {DELETED})
        return {name: _NEW_COLOURS[i % len(_NEW_COLOURS)] for i, name in enumerate(new)}

    def change(self, changes: Sequence[Change]) -> list[Change]:
        """Label nuclei, and write the file; return what takes it back: the same rows as they were, in reverse.

        Parameters
        ----------
        changes : sequence of tuple
            Row of a nucleus, and its type, `DELETED`, or None for no label.

        Raises
        ------
        InputError
            If there is no such nucleus, or a name is none.
        OutputError
            If the file cannot be written; nothing is changed then.
        """
        checked = [(row, _checked(name)) for row, name in changes]
        for row, _ in checked:
            if not 0 <= row < len(self._cells):
                raise InputError(f"There is no nucleus in row {row}; the result has {len(self._cells):,}.")
        with self._lock:
            self._refresh()
            names, before = dict(self._names), list[Change]()
            for row, name in checked:
                before.append((row, names.pop(row, None)))
                if name is not None:
                    names[row] = name
            self._write(names)
            self._names = names
            return before[::-1]

    def _refresh(self) -> None:
        now = _stamp(self.path)
        if now == self._read:
            return
        names, others = dict[int, str](), []
        found = _points_of(features_of(self.path)) if now else []
        rows = self._rows_of(found)
        for (feature, _, given, _), row in zip(found, rows, strict=True):
            if row < 0 or (given.endswith("*") and given.casefold() != DELETED):
                others.append(feature)
            else:
                names[row] = self._name_of(given)
        self._names, self._others, self._read = names, others, now

    def _name_of(self, given: str) -> str:
        own = {kind.qupath_class.casefold(): kind.name for kind in self._cells.type_set}
        return own.get(given.casefold()) or " ".join(given.replace(":", " ").split()).lower()

    def _rows_of(self, found: Sequence[tuple[Any, NDArray[np.float64] | None, str, int]]) -> list[int]:
        """Return the row that each object means, -1 where it is none; the one that was written is tried first."""
        rows = []
        for _, at, given, hint in found:
            if at is None or not given:
                rows.append(-1)
            elif 0 <= hint < len(self._cells) and np.abs(self._point(hint) - at).max() < 0.05:
                rows.append(hint)
            else:
                rows.append(self._nearest(at))
        return rows

    def _nearest(self, at: NDArray[np.float64]) -> int:
        """Return the nucleus around a point, or the nearest within reach: as `cytolite.teach.labels.match`."""
        far = np.abs(self._cells.centroids - at).max(axis=1)
        best = (REACH_UM / self._mpp, np.inf, -1)
        for row in np.flatnonzero(far <= _SEARCH_UM / self._mpp).tolist():
            away = shapely.distance(shapely.Polygon(self._cells.outline(row)), shapely.Point(at))
            best = min(best, (away, float(np.hypot(*(self._cells.centroids[row] - at))), row))
        return best[2]

    def _point(self, row: int) -> NDArray[np.float64]:
        """Return the middle of a nucleus or, where that lies outside of it, a point inside: to 0.01 px."""
        outline, at = shapely.Polygon(self._cells.outline(row)), self._cells.centroids[row]
        if not shapely.intersects_xy(outline, *at):
            at = shapely.get_coordinates(shapely.point_on_surface(shapely.make_valid(outline)))[0]
        return np.asarray(np.round(at, 2), np.float64)

    def _write(self, names: dict[int, str]) -> None:
        if not (names or self._others):
            with plain_refusal(self.path):
                self.path.unlink(missing_ok=True)
            self._read = None
            return
        own, new = {kind.name: kind for kind in self._cells.type_set}, self.new_types(names.values())
        features = list(self._others)
        for row, name in sorted(names.items()):
            kind = own.get(name)
            colour = kind.colour if kind else new.get(name, (120, 120, 120))
            classification = {"name": kind.qupath_class if kind else name.capitalize(), "color": list(colour)}
            features.append(
                {
                    "type": "Feature",
                    "geometry": {"type": "Point", "coordinates": self._point(row).tolist()},
                    "properties": {
                        "objectType": "annotation",
                        "classification": classification,
                        "metadata": {"cytolite row": str(row)},
                    },
                }
            )
        content = {"type": "FeatureCollection", "notice": NOTICE, "features": features}
        with plain_refusal(self.path), whole_file(self.path) as file:
            file.write(orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE))
        self._read = _stamp(self.path)


def labels_file(result: Path) -> Path:
    """Return where the labels of a result's folder are kept."""
    return result.parent / f"{result.name}.labels.geojson"


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        known = path.stat()
    except FileNotFoundError:
        return None
    return known.st_mtime_ns, known.st_size


def _checked(name: str | None) -> str | None:
    if name is None or name == DELETED:
        return name
    plain = " ".join(name.replace(":", " ").split()).lower()
    if not plain or len(plain) > LONGEST_NAME or plain.endswith("*") or not plain.isprintable():
        raise InputError(
            f"{name[:LONGEST_NAME]!r} is no name of a type: it has 1 to {LONGEST_NAME} characters, and no * at its end."
        )
    return plain


def _points_of(features: Iterable[Any]) -> list[tuple[Any, NDArray[np.float64] | None, str, int]]:
    """Return each feature with its point, class and the row that was written into it, None, "" and -1 without."""
    found = []
    for feature in features:
        properties = unwrapped(feature.get("properties")) if isinstance(feature, dict) else None
        geometry = feature.get("geometry") if isinstance(feature, dict) else None
        at, given, hint = None, "", -1
        if isinstance(properties, dict):
            given = class_name(properties)
            metadata = properties.get("metadata")
            said = metadata.get("cytolite row") if isinstance(metadata, dict) else None
            hint = int(said) if isinstance(said, str) and said.isdecimal() and len(said) < 12 else -1
        if isinstance(geometry, dict) and geometry.get("type") == "Point":
            try:
                xy = np.asarray(geometry.get("coordinates"), np.float64)[:2]
            except (TypeError, ValueError, IndexError):
                xy = np.empty(0)
            at = xy if xy.shape == (2,) and np.isfinite(xy).all() else None
        found.append((feature, at, given, hint))
    return found
