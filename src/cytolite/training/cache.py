"""What is computed of the fixed crops once and kept on disk: a frozen encoder's maps, or soft targets.

A folder of ``.npy`` files, one per array, float16, crop after crop, so that a crop is one read. It is named by the hash
of all that decides its content. While it is filled it ends in ``.part`` and counts what is done: a run that was killed
goes on there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from cytolite.errors import OutputError

FORMAT = 1
COUNT = "done"
HALF_MAX = float(np.finfo(np.float16).max)
Batch = dict[str, torch.Tensor]


def named_by_content(root: Path, decisive: Mapping[str, Any]) -> Path:
    """Return the folder in `root` for what depends on `decisive`, and on nothing else.

    Parameters
    ----------
    root : pathlib.Path
        Folder of caches.
    decisive : mapping
        All that the content depends on, as JSON can hold it.
    """
    return root / hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


class CropCache:
    """Arrays of each of `n` crops.

    Parameters
    ----------
    root : Path
        Folder of caches.
    decisive : mapping
        Everything that the content depends on, as JSON can hold it; another content has another name.
    n : int
        Number of crops.
    """

    def __init__(self, root: Path, decisive: Mapping[str, Any], n: int) -> None:
        self.path = named_by_content(root, {"format": FORMAT, "n": n, **decisive})
        self.n = n
        self._arrays: dict[str, NDArray[np.float16]] | None = None

    def fill(
        self,
        crops: Callable[[int], Batch],
        compute: Callable[[Batch], Mapping[str, torch.Tensor]],
        batch: int,
        loaders: int,
    ) -> None:
        """Compute what is missing.

        Parameters
        ----------
        crops : callable
            Number of a crop to its tensors.
        compute : callable
            A batch of crops to the arrays that are kept, (B, ...) each.
        batch : int
            Crops per call.
        loaders : int
            Processes that prepare crops.

        Raises
        ------
        OutputError
            If the disk has no room.
        """
        if self.path.is_dir():
            return
        part = self.path.with_name(self.path.name + ".part")
        part.mkdir(parents=True, exist_ok=True)
        count = part / COUNT
        done = int(count.read_text()) if count.exists() else 0
        arrays = _open(part, "r+") if done else {}
        loader = DataLoader(_Numbered(crops, done, self.n), batch, num_workers=loaders)
        with tqdm(total=self.n, initial=done, unit="crop", desc=f"caching in {self.path.name}") as bar:
            for taken in loader:
                given = {name: to_half(tensor) for name, tensor in compute(taken).items()}
                size = len(next(iter(given.values())))
                arrays = arrays or _create(part, given, self.n)
                for name, values in given.items():
                    arrays[name][done : done + size] = values
                    arrays[name].flush()  # type: ignore[attr-defined]
                done += size
                _write_count(count, done)
                bar.update(size)
        count.unlink()
        os.replace(part, self.path)

    def read(self, number: int) -> Batch:
        """Return the arrays of a crop, float32."""
        if self._arrays is None:
            self._arrays = _open(self.path, "r")
        return {name: torch.from_numpy(array[number].astype(np.float32)) for name, array in self._arrays.items()}

    @property
    def size_bytes(self) -> int:
        """Size on disk."""
        return sum(file.stat().st_size for file in self.path.glob("*.npy"))

    def __getstate__(self) -> dict[str, Any]:
        """Loader processes open the files themselves."""
        return {**self.__dict__, "_arrays": None}


class _Numbered(Dataset[Batch]):
    def __init__(self, crops: Callable[[int], Batch], start: int, stop: int) -> None:
        self.crops, self.numbers = crops, range(start, stop)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Batch:
        return self.crops(self.numbers[index])


def to_half(tensor: torch.Tensor) -> NDArray[np.float16]:
    """Return float16; what that cannot hold is held at its largest."""
    half: NDArray[np.float16] = tensor.detach().float().clamp(-HALF_MAX, HALF_MAX).half().cpu().numpy()
    return half


def _create(part: Path, given: Mapping[str, NDArray[np.float16]], n: int) -> dict[str, NDArray[np.float16]]:
    needed = sum(values.nbytes // len(values) * n for values in given.values())
    free = shutil.disk_usage(part).free
    if needed > free:
        raise OutputError(
            f"The cache {part} needs {needed / 1e9:.1f} GB and the disk has {free / 1e9:.1f} GB; use fewer fixed "
            "crops, or no cache."
        )
    return {
        name: np.lib.format.open_memmap(part / f"{name}.npy", "w+", np.float16, (n, *values.shape[1:]))
        for name, values in given.items()
    }


def _open(folder: Path, mode: Literal["r", "r+"]) -> dict[str, NDArray[np.float16]]:
    return {file.stem: np.load(file, mmap_mode=mode) for file in sorted(folder.glob("*.npy"))}


def _write_count(path: Path, done: int) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(str(done))
    os.replace(beside, path)
