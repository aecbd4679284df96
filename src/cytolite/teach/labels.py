"""Labels that people gave to nuclei, in the formats that they come in, and the nuclei of a result that they mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import shape

from cytolite.cells import CellTable
from cytolite.celltypes import TypeSet
from cytolite.errors import InputError, UsageError
from cytolite.files import require_regular, to_number
from cytolite.interop.convert import open_cells
from cytolite.interop.frames import polygons
from cytolite.interop.geojson.writer import TAG
from cytolite.interop.json_text import unwrapped
from cytolite.interop.roi import class_name, features_of
from cytolite.tables import open_csv

REACH_UM = 3.0  # a point that is this far from any outline means no nucleus
_NAMED = 3  # so many places are named in a message


@dataclass
class Labels:
    """Labels of one slide, not yet matched to nuclei.

    Attributes
    ----------
    points : list of tuple
        x and y, level-0 px, and the name of the type.
    areas : list of tuple
        Polygon and name: nuclei inside take it if they have no label of their own.
    detections : list of tuple
        x, y and name of objects that cytolite made: a label only where the name is not the one it gave.
    classes : dict of str to str
        QuPath class of each name.
    colours : dict of str to tuple of int
        Colour of each name, where it is given.
    left_out : collections.Counter
        What was seen and is no label, as the end of a sentence.
    about : dict
        What a table of cells says of its slide: ``slide``, ``width_px``, ``height_px``; empty where nothing is said.
    """

    points: list[tuple[float, float, str]] = field(default_factory=list)
    areas: list[tuple[Any, str]] = field(default_factory=list)
    detections: list[tuple[float, float, str]] = field(default_factory=list)
    classes: dict[str, str] = field(default_factory=dict)
    colours: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    about: dict[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.points or self.areas or self.detections)


@dataclass(frozen=True)
class Matched:
    """Labelled nuclei of a result.

    Attributes
    ----------
    rows : numpy.ndarray
        int64 (n,), rows of the table of cells, ascending.
    names : numpy.ndarray
        str (n,), what they are.
    notes : tuple of str
        What the user should know: labels without a nucleus, contradictions, what was left out.
    """

    rows: NDArray[np.int64]
    names: NDArray[np.str_]
    notes: tuple[str, ...] = ()


def read_labels(path: Path, type_set: TypeSet) -> Labels:
    """Read labels: GeoJSON as QuPath exports it, CSV (x, y, type), or a table of cells (each of its nuclei is one).

    Parameters
    ----------
    path : pathlib.Path
        The file.
    type_set : TypeSet
        Types of the result, whose QuPath classes are known.

    Raises
    ------
    InputError
        If it cannot be read, or holds no label.
    """
    require_regular(path)
    if not path.exists():
        raise UsageError(f"There is no file {path}; name a file of labels.")
    ending = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    if ending in {"geojson", "json"}:
        labels = _of_geojson(path, type_set)
    elif ending in {"csv", "tsv", "txt"}:
        labels = _of_csv(path, type_set)
    elif ending in {"parquet", "h5ad", "zarr"}:
        labels = Labels()
        with open_cells(path) as source:
            labels.about = {k: v for k, v in source.about.items() if k in {"slide", "width_px", "height_px"}}
            for cells in source.tables:
                labels.points += zip(*cells.centroids.T.tolist(), cells.type.tolist(), strict=True)
                labels.colours |= {t.name: t.colour for t in cells.type_set}
    else:
        raise UsageError(
            f"The format of {path} is not known: labels are .geojson of QuPath, .csv with columns x, y and type, or a "
            "corrected cells.parquet."
        )
    if not labels:
        told = "; ".join(f"{n:,} {what}" for what, n in labels.left_out.items())
        raise InputError(f"{path} holds no label{f' ({told})' if told else ''}: classified points, cells or areas.")
    return labels


def _of_geojson(path: Path, type_set: TypeSet) -> Labels:
    labels = Labels()
    for feature in features_of(path):
        properties = unwrapped(feature.get("properties")) if isinstance(feature, dict) else None
        if not isinstance(properties, dict):
            properties = {}
        given = class_name(properties)
        if not given or given.endswith("*") or given.lower() in {"unclassified", "tissue"}:
            labels.left_out["objects without a class of nuclei were left out"] += 1
            continue
        try:
            geometry = shapely.force_2d(shape(feature.get("nucleusGeometry") or feature.get("geometry")))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, shapely.errors.ShapelyError):
            labels.left_out["objects without a readable place were left out"] += 1
            continue
        if geometry.is_empty or not np.isfinite(shapely.get_coordinates(geometry)).all():
            labels.left_out["objects without a readable place were left out"] += 1
            continue
        name = _remember(labels, given, type_set, properties)
        if geometry.geom_type in {"Point", "MultiPoint"}:
            labels.points += [(x, y, name) for x, y in shapely.get_coordinates(geometry).tolist()]
        elif geometry.geom_type not in {"Polygon", "MultiPolygon"}:
            labels.left_out["lines were left out"] += 1
        elif str(properties.get("objectType") or properties.get("object_type") or "annotation").lower() == "annotation":
            labels.areas.append((shapely.make_valid(geometry), name))
        else:
            at = (geometry.centroid.x, geometry.centroid.y, name)
            (labels.detections if properties.get("name") == TAG else labels.points).append(at)
    return labels


def _remember(labels: Labels, given: str, type_set: TypeSet, properties: dict[str, Any]) -> str:
    """Return the type's name for a QuPath class, and keep its class and colour."""
    own = {t.qupath_class.casefold(): t.name for t in type_set}
    name = own.get(given.casefold()) or " ".join(given.replace(":", " ").split()).lower()
    if labels.classes.setdefault(name, given).casefold() != given.casefold():
        raise InputError(
            f"The classes {labels.classes[name]!r} and {given!r} would both be the type {name!r}; rename one in QuPath."
        )
    colour = (unwrapped(properties.get("classification")) or {}) if isinstance(properties, dict) else {}
    rgb = colour.get("color") if isinstance(colour, dict) else None
    if isinstance(rgb, list) and len(rgb) == 3 and all(type(c) is int and 0 <= c <= 255 for c in rgb):
        labels.colours.setdefault(name, (rgb[0], rgb[1], rgb[2]))
    return name


def _of_csv(path: Path, type_set: TypeSet) -> Labels:
    labels, rows = Labels(), open_csv(path)
    known = {name.strip().lower(): name for name in rows.fieldnames or ()}
    columns = [
        next((known[n] for n in names if n in known), None)
        for names in (("x", "x_px"), ("y", "y_px"), ("type", "class", "cell_type", "label"))
    ]
    if None in columns:
        raise InputError(
            f"{path} has the columns {', '.join(known) or 'none'}; labels need x, y (level-0 px) and type."
        )
    for number, row in enumerate(rows, 2):
        x, y, given = (str(row[name] or "").strip() for name in columns if name is not None)
        if not given:
            labels.left_out["rows without a type were left out"] += 1
            continue
        try:
            at = (to_number(x), to_number(y))
        except ValueError:
            at = (np.nan, np.nan)
        if not np.isfinite(at).all():
            raise InputError(f"{path}, line {number}: x {x!r} and y {y!r} are not both numbers.")
        labels.points.append((*at, _remember(labels, given, type_set, {})))
    return labels


def match(labels: Labels, cells: CellTable, mpp: float, size_px: tuple[int, int], where: str) -> Matched:
    """Return the nuclei that labels mean.

    A point means the nucleus around it, else the one whose outline is nearest within `REACH_UM`. Nuclei with points of
    different types are left out. An area gives its type to those inside that have no label of their own, the smallest
    area first.

    Parameters
    ----------
    labels : Labels
        Of this slide.
    cells : CellTable
        In level-0 px.
    mpp : float
        um per level-0 px.
    size_px : tuple of int
        Width and height of the slide.
    where : str
        The labels' file, for messages.

    Raises
    ------
    InputError
        If they are of another image, or mean no nucleus.
    """
    given = [*labels.points, *labels.detections]
    outside = sum(not (0 <= x <= size_px[0] and 0 <= y <= size_px[1]) for x, y, _ in given)
    if outside > len(given) / 2:
        raise InputError(
            f"{where}: {outside:,} of {len(given):,} labels lie outside of the slide, which is {size_px[0]} x "
            f"{size_px[1]} px; they are of another image, or not in pixels of its full resolution."
        )
    found = _nearest(cells, np.array([(x, y) for x, y, _ in given]).reshape(-1, 2), REACH_UM / mpp)
    notes = [f"{where}: {n:,} {what}" for what, n in labels.left_out.items()]
    said: dict[int, set[str]] = {}
    unchanged = 0
    lost = []
    for i, ((x, y, name), row) in enumerate(zip(given, found.tolist(), strict=True)):
        if i >= len(labels.points) and row >= 0 and cells.type_names[cells.types[row] - 1] == name:
            unchanged += 1
        elif row < 0:
            lost.append(f"{name} at x {x:.0f}, y {y:.0f}")
        else:
            said.setdefault(row, set()).add(name)
    if lost:
        notes.append(f"{where}: {_some(lost, 'labels have', 'label has', f'no nucleus within {REACH_UM:g} um')}")
    if unchanged:
        notes.append(f"{where}: {unchanged:,} detections have the class that cytolite gave them, so they are no labels")
    against = {row: names for row, names in said.items() if len(names) > 1}
    if against:
        told = [
            f"{' and '.join(sorted(names))} at x {cells.centroids[row, 0]:.0f}, y {cells.centroids[row, 1]:.0f}"
            for row, names in against.items()
        ]
        notes.append(f"{where}: {_some(told, 'nuclei were', 'nucleus was', 'given different types and left out')}")
    named = {row: next(iter(names)) for row, names in said.items() if len(names) == 1}
    for polygon, name in sorted(labels.areas, key=lambda area: area[0].area):
        shapely.prepare(polygon)
        for row in np.flatnonzero(shapely.intersects_xy(polygon, *cells.centroids.T)).tolist():
            if row not in against:
                named.setdefault(row, name)
    if not named:
        raise InputError(f"{where}: no label means a nucleus of the result; are they of this slide?")
    rows = np.array(sorted(named), np.int64)
    return Matched(rows, np.array([named[row] for row in rows.tolist()]), tuple(notes))


def _nearest(cells: CellTable, xy: NDArray[np.float64], reach_px: float) -> NDArray[np.int64]:
    """Return the row of the nucleus that holds each point, or is nearest within reach; -1 where there is none."""
    found = np.full(len(xy), -1, np.int64)
    if len(xy) and len(cells):
        tree, points = shapely.STRtree(polygons(cells)), shapely.points(xy)
        point, row = tree.query_nearest(points, max_distance=max(reach_px, 1e-9))
        # Of several that are as near, as where outlines overlap, the one whose centre is nearest.
        order = np.argsort(np.hypot(*(cells.centroids[row] - xy[point]).T), kind="stable")[::-1]
        found[point[order]] = row[order]
    return found


def _some(told: Sequence[str], many: str, one: str, what: str) -> str:
    more = f" and {len(told) - _NAMED:,} more" if len(told) > _NAMED else ""
    return f"{len(told):,} {one if len(told) == 1 else many} {what} ({'; '.join(told[:_NAMED])}{more})"
