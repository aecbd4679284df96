"""How long PanNuke takes to prepare, and in how much memory: ``python benchmarks/bench_prepare.py [--quick]``.

Writes folds of random tissue-like patches, or of real ones repeated (``--patches FOLDER``, a label folder), as they are
published, prepares a store of them, and reads it back at random. ``--dtype float64`` is what the authors publish: 37 GB
of disk for all 7,901 patches; the default, uint8 images and uint16 masks, takes 7 GB and the same time but for the
reading of the disk.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from cytolite import pipeline
from cytolite.datasets.catalogue import dataset
from cytolite.datasets.pannuke import CHANNEL_LABELS, PATCHES_PER_FOLD
from cytolite.datasets.store import Store

Arrays = tuple[np.ndarray, np.ndarray]


def drawn(n: int) -> list[Arrays]:
    """Return images and masks (six channels) of random discs on noise, as many nuclei as PanNuke has on average."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:256, :256]
    made = []
    for _ in range(n):
        image = rng.integers(150, 230, (256, 256, 3))
        masks = np.zeros((256, 256, 6), np.uint16)
        for number in range(1, 25):
            row, col, radius = *rng.integers(0, 256, 2), rng.integers(8, 16)
            disc = (y - row) ** 2 + (x - col) ** 2 < radius**2
            masks[disc, rng.integers(5)] = number
            image[disc] -= 80
        made.append((image.astype(np.uint8), masks))
    return made


def real(folder: Path) -> list[Arrays]:
    """Return images and masks of a label folder of PanNuke patches."""
    made = []
    for patch in dataset("pannuke").read(folder):
        masks = np.zeros((256, 256, 6), np.uint16)
        for channel, label in enumerate(CHANNEL_LABELS.tolist()):
            masks[..., channel] = np.where(patch.type_map == label, patch.instance_map, 0)
        made.append((patch.image, masks))
    return made


def write_folds(root: Path, sizes: dict[int, int], given: list[Arrays], dtypes: tuple[str, str]) -> None:
    """Write folds of the given sizes, repeating what is given; no more than a patch is in memory."""
    k = 0
    for number, n in sizes.items():
        parts = [root / f"Fold {number}" / kind / f"fold{number}" for kind in ("images", "masks")]
        for part in parts:
            part.mkdir(parents=True)
        images = open_memmap(parts[0] / "images.npy", "w+", dtypes[0], (n, 256, 256, 3))
        masks = open_memmap(parts[1] / "masks.npy", "w+", dtypes[1], (n, 256, 256, 6))
        np.save(parts[0] / "types.npy", np.array(["Colon", "Breast"] * n)[:n])
        for i in range(n):
            images[i], masks[i] = given[k % len(given)]
            k += 1
            if i % 64 == 63:  # what was written leaves the memory when the map is closed
                del images, masks
                images, masks = (np.load(p / f, "r+") for p, f in zip(parts, ("images.npy", "masks.npy"), strict=True))


def memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def prepare(root: Path, store: Path) -> None:
    """Prepare, and print what it took."""
    start = time.perf_counter()
    made = pipeline.prepare("pannuke", root, store)
    wall, cpu = time.perf_counter() - start, time.process_time()
    print(f"prepare   {made.n:,} patches: {wall:.1f} s wall, {cpu:.1f} s of one core, {memory_mb():,.0f} MB at most")
    print(f"          {1e3 * cpu / made.n:.1f} ms per patch, store of {store.stat().st_size / 1e6:,.0f} MB", flush=True)


def read_back(path: Path) -> None:
    """Time what a training run does: open, look at a column, read patches at random."""
    start = time.perf_counter()
    store = Store(path)
    opened = time.perf_counter() - start
    start = time.perf_counter()
    tissues = store.texts("tissue")
    column = time.perf_counter() - start
    times = []
    for i in np.random.default_rng(0).integers(0, len(store), 200).tolist():
        start = time.perf_counter()
        store[i]
        times.append(time.perf_counter() - start)
    print(f"open      {1e3 * opened:.1f} ms; a column of {len(tissues):,} texts {1e3 * column:.1f} ms")
    print(f"read      {1e3 * statistics.median(times):.2f} ms a patch at random, median of {len(times)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="30 patches: only to see that it works")
    parser.add_argument("--patches", type=Path, help="label folder of real PanNuke patches to repeat")
    parser.add_argument("--dtype", choices=("small", "float64"), default="small")
    parser.add_argument("--fold", type=int, choices=(1, 2, 3), help="one fold alone")
    options = parser.parse_args()
    sizes = {1: 10, 2: 10, 3: 10} if options.quick else dict(PATCHES_PER_FOLD)
    if options.fold:
        sizes = {options.fold: sizes[options.fold]}
    dtypes = ("float64", "float64") if options.dtype == "float64" else ("uint8", "uint16")
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    given = real(options.patches) if options.patches else drawn(8)
    print(f"{machine}; {sum(sizes.values()):,} patches from {len(given)}, {dtypes[0]} images and {dtypes[1]} masks")
    with tempfile.TemporaryDirectory() as folder:
        root, store = Path(folder) / "pannuke", Path(folder) / "pannuke.h5"
        write_folds(root, sizes, given, dtypes)
        size = sum(p.stat().st_size for p in root.rglob("*.npy"))
        print(f"          {size / 1e9:.2f} GB of .npy files", flush=True)
        # In a process of its own, so that its memory is its own.
        process = multiprocessing.get_context("spawn").Process(target=prepare, args=(root, store))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit("prepare failed")
        read_back(store)


if __name__ == "__main__":
    main()
