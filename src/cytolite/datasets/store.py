"""The one on-disk form of patches, raw and refined alike: an HDF5 file that is read patch by patch.

Layout: a group per patch, named by its index, with the datasets ``image``, ``instance_map`` and ``type_map`` (gzip)
and the attributes name, source, group, tissue, mpp; the file's attributes hold the format and a content hash.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np

from cytolite.errors import InputError
from cytolite.patches import Patch

FORMAT = 1
ARRAYS = ("image", "instance_map", "type_map")
TEXTS = ("name", "source", "group", "tissue")


def write_store(path: Path, patches: Iterable[Patch]) -> int:
    """Write patches to a new store; the file appears under its name only when whole.

    Returns
    -------
    int
        The number of patches written.

    Raises
    ------
    InputError
        If a patch is not valid, two patches of a source share a name, or there are none.
    """
    part = path.with_name(path.name + ".part")
    digest, seen, n = hashlib.sha256(), set(), 0
    try:
        with h5py.File(part, "w") as file:
            for patch in patches:
                patch.validate()
                if (patch.source, patch.name) in seen:
                    raise InputError(f"{patch.source} has two patches called {patch.name!r}; names must be unique.")
                seen.add((patch.source, patch.name))
                _write_patch(file.create_group(f"{n:06d}"), patch, digest)
                n += 1
            if not n:
                raise InputError(f"There are no patches to write to {path}.")
            file.attrs.update({"cytolite_store": FORMAT, "n": n, "sha256": digest.hexdigest()})
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return n


def _write_patch(group: h5py.Group, patch: Patch, digest: hashlib._Hash) -> None:
    for key in ARRAYS:
        array = getattr(patch, key)
        group.create_dataset(key, data=array, compression="gzip", compression_opts=1, shuffle=array.itemsize > 1)
        digest.update(np.ascontiguousarray(array).tobytes())
    for key in TEXTS:
        group.attrs[key] = getattr(patch, key)
        digest.update(getattr(patch, key).encode())
    group.attrs["mpp"] = patch.mpp
    digest.update(repr(float(patch.mpp)).encode())


class Store:
    """A store opened for reading: ``len(store)``, ``store[i]`` and iteration give `Patch` objects.

    Parameters
    ----------
    path : Path
        File written by `write_store`.

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
            raise InputError(f"There is no store {path}; make one with `cytolite prepare`.") from None
        except OSError as error:
            raise InputError(f"{path} is not a store, or is damaged: {error}.") from None
        found = self._file.attrs.get("cytolite_store")
        if found is None or found > FORMAT:
            self._file.close()
            raise InputError(f"{path} is not a store of format {FORMAT} or older; update cytolite or make it anew.")
        self.sha256 = str(self._file.attrs["sha256"])

    def __len__(self) -> int:
        return int(self._file.attrs["n"])

    def __getitem__(self, index: int) -> Patch:
        if not 0 <= index < len(self):
            raise IndexError(index)
        group = self._file[f"{index:06d}"]
        return Patch(
            **{key: group[key][()] for key in ARRAYS},
            **{key: str(group.attrs[key]) for key in TEXTS},  # type: ignore[arg-type]
            mpp=float(group.attrs["mpp"]),
        )

    def __iter__(self) -> Iterator[Patch]:
        return (self[i] for i in range(len(self)))

    def texts(self, key: str) -> list[str]:
        """Return one text attribute (name, source, group or tissue) of every patch, without reading arrays."""
        return [str(self._file[f"{i:06d}"].attrs[key]) for i in range(len(self))]

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
