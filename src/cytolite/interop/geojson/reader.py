"""Cells from GeoJSON, block by block: files of this program, of QuPath, and of others that outline nuclei."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson
from numpy.typing import NDArray

from cytolite.cells import CellTable, with_known_types
from cytolite.celltypes import DEFAULT, TypeSet
from cytolite.errors import InputError
from cytolite.files import encoding_of_mark, require_regular, to_number
from cytolite.interop.geojson.rings import Outlines, outlines_of
from cytolite.interop.geojson.scan import ENDED, WRONG, Scanned, find_features, scan_features
from cytolite.interop.json_text import parse, unwrapped
from cytolite.interop.parquet import types_of_names
from cytolite.interop.roi import class_name

UNCLASSIFIED = "unclassified"
_FIRST_BLOCK, _BLOCK = 2**20, 16 * 2**20
# One feature larger than this is no nucleus, and a file without any is not what it seems.
_LARGEST_FEATURE = 256 * 2**20
# Objects that are no cells, and other names of the area, in QuPath's words.
_NOT_CELLS = {"annotation", "tile", "tma_core", "tmacore", "root", "pathannotationobject", "pathtileobject"}
_AREAS = ("area_um2", "Nucleus: Area µm^2", "Area µm^2")
_NO_OUTLINE = "objects that are no polygons (points, lines, nothing) were left out"
_NO_NUMBERS = "objects whose coordinates are not all numbers were left out"
_NO_PROPERTIES = "objects whose properties are not an object were left out"
_REDUCED = "outlines in several parts or with holes were reduced to the largest part, filled"
_COLUMNS = {*_AREAS, "cell_id", "geometry", "cell_type", "region", "x_px", "y_px"}


class GeoJSONReader:
    """Reads cells out of a ``.geojson`` or ``.geojson.gz`` in tables of some ten thousand; a context manager.

    Cells and detections are read, with the nucleus where a cell has both outlines; annotations and tiles are passed
    over, and so is what has no outline (points, lines, nothing). Of an outline in several parts the largest is taken,
    holes are filled, what crosses itself is repaired. Where there are no probabilities, that of the class is 1. Bare
    NaN and Infinity are read, and classes, properties and measurements that are JSON within a text.

    Parameters
    ----------
    path : pathlib.Path
        The file: a FeatureCollection, an array of features, or one feature.
    classes : mapping of str to str
        Type for each class that is not called like one; ``unclassified`` stands for none.
    mpp : float, optional
        Level-0 resolution, um/px, for the area of cells that say none.
    features : sequence of str, optional
        Measurements to take as features; those of the first table's cells if not given.
    type_set : TypeSet, optional
        Types of the cells; if not given, what the file describes, else what its cells have probabilities of
        (``p_<type>``), else the default.

    Attributes
    ----------
    n_read : int
        Bytes of the file taken so far.
    left_out : collections.Counter
        What was seen that is not in the tables, or not as it was: a sentence's end, and how often.

    Raises
    ------
    InputError
        If the file is missing.
    """

    def __init__(
        self,
        path: Path,
        classes: Mapping[str, str] | None = None,
        mpp: float | None = None,
        features: Sequence[str] | None = None,
        type_set: TypeSet | None = None,
    ) -> None:
        self.path, self.mpp = path, mpp
        self._type_set, self._given_classes = type_set, dict(classes or {})
        self.left_out: Counter[str] = Counter()
        self._types: dict[str, int] = {}  # by class; known with the type set
        self._features = None if features is None else list(features)
        self._expected: dict[str, int] = {}  # the first cell's measurements, in order: most others have the same
        self._n_features = self._n_cells = 0
        require_regular(path)
        try:
            self._raw = path.open("rb")
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror or error}).") from None
        packed = self._raw.read(2) == b"\x1f\x8b"
        self._raw.seek(0)
        self._file: BinaryIO = gzip.GzipFile(fileobj=self._raw) if packed else self._raw  # type: ignore[assignment]
        self._decoder: codecs.IncrementalDecoder | None = None  # of what is not UTF-8

    def __enter__(self) -> GeoJSONReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.close()

    @property
    def n_read(self) -> int:
        return 0 if self._raw.closed else self._raw.tell()

    def tables(self) -> Iterator[CellTable]:
        """Yield the cells in the file's order; features that the first table lacks are left out of later ones.

        Raises
        ------
        InputError
            If the text is no GeoJSON of cells, was cut off, or has a class of unknown type.
        """
        rest, first, state = self._head(), True, 0
        while True:
            scanned = scan_features(
                np.frombuffer(rest, np.uint8), first, [orjson.dumps(name) for name in self._expected]
            )
            rest, state = rest[scanned.used :], scanned.state
            if scanned.text:
                first = False
                yield self._table(self._parse(scanned.text), scanned)
            if state == WRONG:
                raise self._wrong(f"after feature {self._n_features} comes {rest[:20].decode('utf-8', 'replace')!r}")
            if state == ENDED:
                break
            if len(rest) > _LARGEST_FEATURE:
                raise self._wrong(f"feature {self._n_features + 1} has more than {_LARGEST_FEATURE >> 20} MiB")
            block = self._read()
            if not block:
                raise self._wrong("it ends in the middle")
            rest += block
        unusable = {what: n for what in (_NO_OUTLINE, _NO_NUMBERS, _NO_PROPERTIES) if (n := self.left_out[what])}
        if unusable and not self._n_cells:
            raise self._wrong(
                "none of its features is one: " + ", ".join(f"{n:,} {what}" for what, n in unusable.items())
            )
        while block := self._read():  # a damaged end is found by reading it
            rest = block
        if not rest.rstrip().endswith((b"}", b"]")) and rest.strip():
            raise self._wrong("it ends in the middle")

    def _read(self, size: int = 0) -> bytes:
        try:
            block = self._file.read(size or _BLOCK)
            return self._decoder.decode(block, final=not block).encode() if self._decoder else block
        except UnicodeDecodeError as error:
            raise self._wrong(f"it is no whole UTF-16 text, which it begins as ({error})") from None
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(f"{self.path} is a damaged gzip file ({error}); copy or export it again.") from None
        except OSError as error:
            raise InputError(f"{self.path} cannot be read ({error.strerror or error}).") from None

    def _head(self) -> bytes:
        """Return text that begins with the first feature."""
        text = self._read(_FIRST_BLOCK)
        if encoding := encoding_of_mark(text):
            self._decoder = codecs.getincrementaldecoder(encoding)()
            text = self._decoder.decode(text).encode()
        text = text.lstrip()
        if text[:1] == b"[":
            return text[1:]
        while text[:1] == b"{" and len(text) <= _LARGEST_FEATURE:
            at = find_features(np.frombuffer(text, np.uint8))
            if at >= 0:
                self._type_set = self._type_set or _described(text[:at])
                return text[at:]
            if at == -2:
                [content] = self._parse(text)
                if isinstance(content, dict) and content.get("type") == "Feature":
                    return text + b"]"
                break
            block = self._read()
            if not block:
                raise self._wrong("it ends in the middle")
            text += block
        raise self._wrong("it is no FeatureCollection and no array of features")

    def _wrong(self, what: str) -> InputError:
        return InputError(f"{self.path} is no GeoJSON of cells: {what}.")

    def _parse(self, text: bytes) -> list[Any]:
        try:
            return list(orjson.loads(b"[" + text + b"]"))
        except orjson.JSONDecodeError as error:
            try:
                return list(parse(b"[" + text + b"]", self.path, "GeoJSON"))
            except InputError:
                raise self._wrong(f"near feature {self._n_features + 1} it is not valid JSON ({error})") from None

    def _table(self, features: list[dict[str, Any]], scanned: Scanned) -> CellTable:
        """Return the cells among `features`."""
        if not np.isfinite(scanned.points).all():
            raise self._wrong(f"up to feature {self._n_features + len(features)} a coordinate is no finite number")
        if not self._types:
            self._know_types(features)
        outlines = outlines_of(scanned)
        area = outlines.area_px.tolist()
        values: list[int] = []
        types: list[int] = []
        measured: list[dict[str, Any] | int] = []
        for number, feature in enumerate(features, start=self._n_features + 1):
            properties = unwrapped(feature.get("properties")) or {}
            if not isinstance(properties, dict):
                self.left_out[_NO_PROPERTIES] += 1
                continue
            kind = properties.get("objectType") or properties.get("object_type")
            if isinstance(kind, str) and kind.lower() in _NOT_CELLS:
                self.left_out["annotations or tiles were left out"] += 1
                continue
            found = _polygons(feature.get("nucleusGeometry") or feature.get("geometry"))
            if not found:
                self.left_out[_NO_OUTLINE] += 1
                continue
            if not all(isinstance(value, int) for value in found):
                self.left_out[_NO_NUMBERS] += 1
                continue
            value = max(found, key=area.__getitem__)
            if not area[value] > 0:
                self.left_out["outlines without an area were left out"] += 1
                continue
            self.left_out[_REDUCED] += len(found) > 1
            values.append(value)
            types.append(self._type(properties, number))
            measured.append(self._numbers_only(_measurements(properties)))
        self._n_features += len(features)
        self._n_cells += len(values)
        self.left_out[_REDUCED] += outlines.n_reduced
        self.left_out["outlines that crossed themselves were repaired"] += outlines.n_repaired
        return self._assemble(outlines.take(values), np.array(types, np.uint8), measured, scanned.measured)

    def _know_types(self, features: list[dict[str, Any]]) -> None:
        """Decide which types there are, by the first cells if nothing has said so yet."""
        if self._type_set is None:
            every = (unwrapped(feature.get("properties")) or {} for feature in features)
            measured = (_measurements(properties) for properties in every if isinstance(properties, dict))
            cells = (cell for cell in measured if not isinstance(cell, int))
            named = ([name[2:] for name in cell if name.startswith("p_")] for cell in cells)
            self._type_set = types_of_names(next(filter(None, named), []))
        self._types = {t.qupath_class: t.id for t in self._type_set} | {t.name: t.id for t in self._type_set}
        self._types |= {name: self._type_set.by_name(kind).id for name, kind in self._given_classes.items()}

    @property
    def type_set(self) -> TypeSet:
        """The types that the cells are of; the default until the first table is read."""
        return self._type_set or DEFAULT

    def _numbers_only(self, measurements: dict[str, Any] | int) -> dict[str, Any] | int:
        """Return measurements without those that are no numbers: names, comments."""
        if isinstance(measurements, int) or not any(isinstance(v, str | list | dict) for v in measurements.values()):
            return measurements
        values = {name: _value(value) for name, value in measurements.items()}
        kept = {name: value for name, value in values.items() if not isinstance(value, str | list | dict)}
        self.left_out["measurements that are no numbers were left out"] += len(values) - len(kept)
        return kept

    def _type(self, properties: dict[str, Any], number: int) -> int:
        name = class_name(properties) or UNCLASSIFIED
        found = self._types.get(name)
        if found is None:
            found = self._types.get(name.lower())
            if found is None:
                raise InputError(
                    f"{self.path}, feature {number}: the class {name!r} is none of "
                    f"{', '.join(self.type_set.names)}; say which it is with --class '{name}={self.type_set[0].name}', "
                    "for example."
                )
            self._types[name] = found
        return found

    def _assemble(
        self,
        outlines: Outlines,
        types: NDArray[np.uint8],
        measured: list[dict[str, Any] | int],
        rows: NDArray[np.float64],
    ) -> CellTable:
        """Put a table together; features are what the first cells have been measured."""
        if not self._expected and measured:
            known = [cell for cell in measured if isinstance(cell, dict)]
            self._expected = {name: column for column, name in enumerate(known[0])}
            if self._features is None:
                every = dict.fromkeys(name for cell in known for name in cell)
                self._features = [name for name in every if name not in {*_COLUMNS, *self.type_set.probs}]
        n_types = len(self.type_set)
        names = [*self.type_set.probs, *_AREAS, *(self._features or [])]
        numbers = self._numbers(names, measured, rows)
        probs = with_known_types(numbers[:, :n_types].astype(np.float32), types)
        area_um2 = numbers[:, n_types].copy()
        for column in range(n_types + 1, n_types + len(_AREAS)):
            area_um2 = np.where(np.isnan(area_um2), numbers[:, column], area_um2)
        if self.mpp is not None:
            area_um2 = np.where(np.isnan(area_um2), outlines.area_px * self.mpp**2, area_um2)
        self.left_out["cells have no area in µm², which needs --mpp"] += int(np.isnan(area_um2).sum())
        features = numbers[:, n_types + len(_AREAS) :].astype(np.float32)
        return CellTable(
            vertices=outlines.vertices,
            offsets=outlines.offsets,
            centroids=outlines.centroids,
            types=types,
            type_probs=probs,
            area_um2=area_um2.astype(np.float32),
            regions=np.full(len(types), -1, np.int32),
            features={name: np.ascontiguousarray(features[:, i]) for i, name in enumerate(self._features or [])},
            type_set=self.type_set,
        )

    def _numbers(
        self, names: Sequence[str], measured: list[dict[str, Any] | int], rows: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return float64 (cells, names), NaN where there is none; a cell is an object, or a row of `rows`."""
        numbers = np.full((len(measured), len(names)), np.nan)
        given = np.array([-1 if isinstance(cell, dict) else cell for cell in measured], np.intp)
        for column, name in enumerate(names if (given >= 0).any() else ()):
            if name in self._expected:
                numbers[given >= 0, column] = rows[given[given >= 0], self._expected[name]]
        objects = [[cell.get(name) for name in names] for cell in measured if isinstance(cell, dict)]
        if objects:
            numbers[given < 0] = np.array(objects, np.float64)  # None becomes NaN
        return numbers


def _described(head: bytes) -> TypeSet | None:
    """Return the types that the head of a file of this program describes, where it does."""
    at = head.rfind(b'"features"')
    try:
        content = orjson.loads(head[:at].rstrip().rstrip(b",") + b"}")
    except orjson.JSONDecodeError:
        return None
    own = content.get("cytolite")
    return TypeSet.from_description(own["types"]) if isinstance(own, dict) and "types" in own else None


def _polygons(geometry: Any) -> list[Any]:
    """Return the coordinates of a geometry's polygons: numbers of arrays that the scanner took, else what it left."""
    if not isinstance(geometry, dict):
        return []
    if geometry.get("type") == "GeometryCollection":
        return [value for part in geometry.get("geometries") or [] for value in _polygons(part)]
    return [geometry.get("coordinates")] if geometry.get("type") in {"Polygon", "MultiPolygon"} else []


def _measurements(properties: Mapping[str, Any]) -> dict[str, Any] | int:
    """Return an object's measurements, which older QuPaths wrote as an array, or the number that stands for them."""
    measurements = unwrapped(properties.get("measurements"))
    if isinstance(measurements, list):
        measurements = {str(item.get("name")): item.get("value") for item in measurements if isinstance(item, dict)}
    return measurements if isinstance(measurements, dict | int) else {}


def _value(value: Any) -> Any:
    """Return a measurement as a number or None, and words as they are."""
    if isinstance(value, str):
        with suppress(ValueError):
            return to_number(value)
    return value
