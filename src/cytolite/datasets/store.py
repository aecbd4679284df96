"""The one on-disk form of patches, raw and refined alike: an HDF5 file that is read patch by patch.

Layout of format 3: a group per patch, named by its index, with the datasets ``image``, ``instance_map`` (16 bits where
that is enough), ``type_map`` and, of patches that have them, ``known_map`` and ``trust_map`` (gzip, chunks of 256 x 256
px); the group ``table`` with one dataset per column, so that what is known of all patches is read at once; the file's
attributes hold format, number, content hash, licences and, of a store made of others, the command that made it.
Format 4 is the same with other labels than the seven types', described in the attribute ``labels``.
Format 2, which had neither of the optional maps, and format 1, which kept the columns as attributes of each group, are
still read.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, overload

import h5py
import numpy as np
from numpy.typing import NDArray

from cytolite.celltypes import SEVEN, LabelSet
from cytolite.datasets.census import nuclei_per_label
from cytolite.errors import InputError, OutputError, UsageError
from cytolite.files import whole_path
from cytolite.patches import Patch

FORMAT, FORMAT_OF_SEVEN = 4, 3
ARRAYS = ("image", "instance_map", "type_map")
OPTIONAL_ARRAYS = ("known_map", "trust_map")
TEXTS = ("name", "source", "group", "tissue", "fold", "file", "file_sha256")
TEXTS_OF_FORMAT_1 = TEXTS[:4]
CHUNK_PX = 256


def write_store(
    path: Path,
    patches: Iterable[Patch],
    licences: Mapping[str, str] | None = None,
    made_with: str = "",
    *,
    labels: LabelSet = SEVEN,
) -> int:
    """Write patches to a new store; the file appears under its name only when whole.

    Parameters
    ----------
    path : Path
        File to write; one of that name is replaced, at the end.
    patches : iterable of Patch
        Gone through once; one is held in memory at a time.
    licences : mapping of str to str, optional
        Source to licence, for the record.
    made_with : str
        Command that makes the store of others, for the record.
    labels : LabelSet
        What the type maps hold.

    Returns
    -------
    int
        The number of patches written.

    Raises
    ------
    InputError
        If a patch is not valid, two patches of a source share a name, or there are none.
    OutputError
        If the file cannot be made.
    """
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: there is no such folder.")
    digest, columns = hashlib.sha256(), _Columns(labels)
    with whole_path(path) as part, h5py.File(part, "w", libver="latest") as file:
        for patch in patches:
            patch.validate(labels)
            columns.add(patch)
            _write_arrays(file.create_group(f"{len(columns) - 1:06d}"), patch)
            _update(digest, patch)
        if not len(columns):
            raise InputError(f"There are no patches to write to {path}.")
        columns.write(file.create_group("table"))
        described = "" if labels == SEVEN else json.dumps(labels.describe())
        digest.update(described.encode())
        if described:
            file.attrs["labels"] = described
        written = FORMAT if described else FORMAT_OF_SEVEN
        file.attrs.update({"cytolite_store": written, "n": len(columns), "sha256": digest.hexdigest()})
        file.attrs["licences"] = json.dumps(dict(licences or {}))
        file.attrs["made_with"] = made_with
    return len(columns)


def _write_arrays(group: h5py.Group, patch: Patch) -> None:
    for key, array in {"image": patch.image, **patch.label_maps}.items():
        small = key == "instance_map" and array.max(initial=0) <= np.iinfo(np.uint16).max
        data = array.astype(np.uint16) if small else array
        chunks = (*(min(side, CHUNK_PX) for side in data.shape[:2]), *data.shape[2:])
        group.create_dataset(
            key, data=data, chunks=chunks, compression="gzip", compression_opts=1, shuffle=data.itemsize > 1
        )


def _update(digest: hashlib._Hash, patch: Patch) -> None:
    """Hash what a patch is, but not where it was read from: the same content has the same hash wherever it lay."""
    for key in ARRAYS:
        digest.update(np.ascontiguousarray(getattr(patch, key)).tobytes())
    for key in TEXTS_OF_FORMAT_1:
        digest.update(getattr(patch, key).encode())
    for key in OPTIONAL_ARRAYS:
        # Of what a patch has not, nothing is hashed: as before there were these maps.
        if (array := getattr(patch, key)) is not None:
            digest.update(key.encode() + np.ascontiguousarray(array).tobytes())
    digest.update(repr(float(patch.mpp)).encode())
    # Empty before there were folds, and then no part of the hash.
    digest.update(patch.fold.encode())


class _Columns:
    """What is known of each patch beside its arrays, collected while they are written."""

    def __init__(self, labels: LabelSet) -> None:
        self.n_labels = labels.unknown + 1
        self.values: defaultdict[str, list[Any]] = defaultdict(list)
        self.seen: set[tuple[str, str]] = set()

    def __len__(self) -> int:
        return len(self.seen)

    def add(self, patch: Patch) -> None:
        if (patch.source, patch.name) in self.seen:
            raise InputError(f"{patch.source} has two patches called {patch.name!r}; names must be unique.")
        self.seen.add((patch.source, patch.name))
        for key in TEXTS:
            self.values[key].append(getattr(patch, key))
        counts = nuclei_per_label([patch])
        self.values["mpp"].append(float(patch.mpp))
        self.values["shape"].append(patch.image.shape[:2])
        self.values["nuclei"].append([counts[label] for label in range(self.n_labels)])

    def write(self, group: h5py.Group) -> None:
        for key in TEXTS:
            group.create_dataset(key, data=self.values[key], dtype=h5py.string_dtype())
        group.create_dataset("mpp", data=np.array(self.values["mpp"], np.float64))
        for key in ("shape", "nuclei"):
            group.create_dataset(key, data=np.array(self.values[key], np.int32))


class Store:
    """A store opened for reading: ``len(store)``, ``store[i]`` and iteration give `Patch` objects.

    Parameters
    ----------
    path : Path
        File written by `write_store`.

    Attributes
    ----------
    sha256 : str
        Hash of the content.
    format : int
        Of the file.
    licences : dict of str to str
        Source to licence, where it was written down.
    made_with : str
        Command that made it of other stores; "" of a data set as its authors publish it.
    labels : LabelSet
        What its type maps hold.

    Raises
    ------
    InputError
        If the file is missing, is not a store, or is of a newer format.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            self._file = h5py.File(self.path, "r")
        except FileNotFoundError:
            raise UsageError(f"There is no store {path}; make one with `cytolite prepare`.") from None
        except OSError as error:
            raise InputError(f"{path} is not a store, or is damaged: {error}.") from None
        found = self._file.attrs.get("cytolite_store")
        if found is None or found > FORMAT:
            self._file.close()
            raise InputError(f"{path} is not a store of format {FORMAT} or older; update cytolite or make it anew.")
        self.format = int(found)
        self.sha256 = str(self._file.attrs["sha256"])
        self.licences: dict[str, str] = json.loads(str(self._file.attrs.get("licences", "{}")))
        self.made_with = str(self._file.attrs.get("made_with", ""))
        described = self._file.attrs.get("labels")
        self.labels = SEVEN if described is None else LabelSet.from_description(json.loads(str(described)))
        self._columns: dict[str, Any] = {}

    def of_the_seven(self, what: str) -> Store:
        """Return the store, for what knows the seven types alone.

        Raises
        ------
        UsageError
            If its types are others.
        """
        if self.labels != SEVEN:
            raise UsageError(
                f"{self.path} is of the types {', '.join(self.labels.type_set.names)}, and {what} is for stores of "
                f"the seven types ({', '.join(SEVEN.type_set.names)})."
            )
        return self

    def __len__(self) -> int:
        return int(self._file.attrs["n"])

    def __getitem__(self, index: int) -> Patch:
        if not 0 <= index < len(self):
            raise IndexError(index)
        group = self._file[f"{index:06d}"]
        arrays = {key: group[key][()] for key in (*ARRAYS, *OPTIONAL_ARRAYS) if key in group}
        arrays["instance_map"] = arrays["instance_map"].astype(np.int32, copy=False)
        texts: dict[str, Any] = {key: self._text_column(key)[index] for key in TEXTS}
        return Patch(**arrays, **texts, mpp=float(self.mpp[index]))

    def __iter__(self) -> Iterator[Patch]:
        return (self[i] for i in range(len(self)))

    def texts(self, key: str) -> list[str]:
        """Return one text (name, source, group, tissue, fold, file, file_sha256) of every patch; no array is read."""
        return list(self._text_column(key))

    def _text_column(self, key: str) -> list[str]:
        if key not in self._columns:
            if self.format > 1:
                self._columns[key] = self._file["table"][key].asstr()[()].tolist()
            elif key in TEXTS_OF_FORMAT_1:
                self._columns[key] = [str(self._file[f"{i:06d}"].attrs[key]) for i in range(len(self))]
            else:
                self._columns[key] = [""] * len(self)
        column: list[str] = self._columns[key]
        return column

    @property
    def mpp(self) -> NDArray[np.float64]:
        """Resolution of every patch, um per px, float64 (n,)."""
        mpp: NDArray[np.float64] = self._numbers("mpp", lambda i: self._file[f"{i:06d}"].attrs["mpp"])
        return mpp

    @property
    def shapes(self) -> NDArray[np.int32]:
        """Rows and columns of every patch, int32 (n, 2)."""
        shapes: NDArray[np.int32] = self._numbers("shape", lambda i: self._file[f"{i:06d}/type_map"].shape)
        return shapes

    @property
    def nuclei(self) -> NDArray[np.int32]:
        """Nuclei per patch and label, int32 (n, labels + 1): column i is label i of `labels`."""
        nuclei: NDArray[np.int32] = self._numbers("nuclei", self._count)
        return nuclei

    def _count(self, index: int) -> list[int]:
        counts = nuclei_per_label([self[index]])
        return [counts[label] for label in range(self.labels.unknown + 1)]

    def _numbers(self, key: str, of_format_1: Any) -> Any:
        if key not in self._columns:
            table = self._file["table"][key][()] if self.format > 1 else [of_format_1(i) for i in range(len(self))]
            self._columns[key] = np.asarray(table)
        return self._columns[key]

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Stores(Sequence[Patch]):
    """Several stores, read as one: patches are numbered through, in the order of the paths.

    Parameters
    ----------
    paths : sequence of Path
        Files written by `write_store`.

    Raises
    ------
    InputError
        If one of them is no store.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.stores: list[Store] = []
        try:
            for path in paths:
                self.stores.append(Store(path))
        except InputError:
            self.close()
            raise
        self._ends = np.cumsum([len(store) for store in self.stores])

    def __len__(self) -> int:
        return int(self._ends[-1]) if self.stores else 0

    @overload
    def __getitem__(self, index: int) -> Patch: ...
    @overload
    def __getitem__(self, index: slice) -> list[Patch]: ...
    def __getitem__(self, index: int | slice) -> Patch | list[Patch]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        k = int(np.searchsorted(self._ends, index, side="right"))
        return self.stores[k][index - int(self._ends[k]) + len(self.stores[k])]

    @property
    def labels(self) -> LabelSet:
        """What the type maps of all stores hold.

        Raises
        ------
        UsageError
            If they are of different types.
        """
        first = self.stores[0].labels if self.stores else SEVEN
        if other := next((store for store in self.stores if store.labels != first), None):
            raise UsageError(
                f"{self.stores[0].path} and {other.path} are of different types; give one after the other."
            )
        return first

    def texts(self, key: str) -> list[str]:
        """Return one text of every patch, as `Store.texts`."""
        return [text for store in self.stores for text in store.texts(key)]

    def numbers(self, key: Literal["mpp", "shapes", "nuclei"]) -> NDArray[Any]:
        """Return what `Store` has as `mpp`, `shapes` or `nuclei`, of every patch."""
        return np.concatenate([getattr(store, key) for store in self.stores])

    def close(self) -> None:
        for store in self.stores:
            store.close()

    def __enter__(self) -> Stores:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
