"""Cutting cells out of patches: how fast and in how much memory, on a set as large as PanNuke.

    python benchmarks/bench_relabel.py [--quick] [--cells 190000] [--store pannuke.h5] [--output results.json]

The set is made by repeating the patches of a store (or painted ones, without it) under new names until it holds as many
cells as wanted. Three steps are timed, each on all patches: cutting every cell into a file, as for training a
classifier; writing the refined store; both read the store patch by patch. The peak of the process's memory is printed
at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from cytolite.celltypes import N_TYPES
from cytolite.config import RelabelSettings
from cytolite.datasets.store import Store, write_store
from cytolite.patches import Patch
from cytolite.relabel.crops import find_cells
from cytolite.relabel.crossrelabel import Census, refined
from cytolite.relabel.samples import Wanted, collect


def painted(rng: np.random.Generator, name: str) -> Patch:
    """Return a patch of 256 px with 36 square cells of 18 px in noise."""
    instance_map = np.zeros((256, 256), np.int32)
    for i in range(36):
        row, col = 10 + 40 * (i // 6), 10 + 40 * (i % 6)
        instance_map[row : row + 18, col : col + 18] = i + 1
    types = np.concatenate([[0], rng.integers(1, N_TYPES + 1, 36)]).astype(np.uint8)
    image = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    return Patch(name, image, instance_map, types[instance_map], 0.25, "painted", name)


def repeated(patches: list[Patch], n_cells: int) -> Iterator[Patch]:
    """Repeat patches under new names until there are `n_cells` cells."""
    counts = [len(find_cells(patch)) for patch in patches]
    done = turn = 0
    while done < n_cells:
        for patch, count in zip(patches, counts, strict=True):
            if done >= n_cells:
                return
            yield replace(patch, name=f"{patch.name}-{turn}", group=f"{patch.group}-{turn}")
            done += count
        turn += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few painted patches: only to see that it works")
    parser.add_argument("--cells", type=int, default=190_000)
    parser.add_argument("--store", type=Path, help="store whose patches are repeated")
    parser.add_argument("--output", type=Path, help="write the numbers to this JSON file")
    args = parser.parse_args()
    n_cells = 500 if args.quick else args.cells
    if args.store:
        with Store(args.store) as store:
            patches = list(store)
    else:
        rng = np.random.default_rng(0)
        patches = [painted(rng, f"p{i}") for i in range(4)]
    report: dict[str, object] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.h5"
        report["patches"] = write_store(path, repeated(patches, n_cells))
        del patches
        settings = RelabelSettings(min_area_px=1)
        with Store(path) as store:
            sources = tuple(set(store.texts("source")))
            start = time.perf_counter(), time.process_time()
            cells = collect([store], Wanted(sources, tuple(range(1, 256))), settings, Path(folder))
            report["cells"] = len(cells)
            report["crops_s"], report["crops_cpu_s"] = time.perf_counter() - start[0], time.process_time() - start[1]
            report["crops_gb"] = cells.images.nbytes / 1e9
            start = time.perf_counter(), time.process_time()
            write_store(Path(folder) / "refined.h5", refined([store], {}, settings, Census()))
            report["store_s"], report["store_cpu_s"] = time.perf_counter() - start[0], time.process_time() - start[1]
    report["peak_memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(", ".join(f"{k} {v:.2f}" if isinstance(v, float) else f"{k} {v}" for k, v in report.items()))
    if args.output:
        args.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
