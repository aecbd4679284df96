"""How long it takes to trace, measure and write nuclei: ``python benchmarks/bench_write.py [--quick]``.

Writes polygons of real size at random places (1,000,000; 5,000 with ``--quick``) in tables of 20,000, as a run does,
and prints seconds of wall clock and of processor, megabytes, and the growth of the process's memory.
"""

from __future__ import annotations

import argparse
import gzip
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from cytolite.cells import CellTable
from cytolite.decoding.features import FEATURE_NAMES, measure
from cytolite.decoding.outlines import trace
from cytolite.interop.geojson.writer import GeoJSONWriter
from cytolite.interop.parquet import CellsWriter, iter_cells
from cytolite.interop.summary import SummaryCounter

TABLE_ROWS = 20_000
SHAPES = 500


def blobs(rng: np.random.Generator) -> list[np.ndarray]:
    """Outlines of random ellipses of nuclear size (4 to 10 um at 0.25 um/px)."""
    y, x = np.mgrid[:44, :44] - 22
    rings = []
    for a, b, turn in zip(*rng.uniform(8, 20, (2, SHAPES)), rng.uniform(0, np.pi, SHAPES), strict=True):
        u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        rings.append(trace(((u / a) ** 2 + (v / b) ** 2 <= 1).astype(np.int32))[0])
    return rings


def tables(n: int) -> Iterator[CellTable]:
    """`n` nuclei at random places of a slide of 100,000 px, in tables of `TABLE_ROWS`."""
    rng = np.random.default_rng(0)
    rings = blobs(rng)
    lengths = np.array([len(ring) for ring in rings])
    starts, vertices = np.cumsum([0, *lengths]), np.concatenate(rings)
    for start in range(0, n, TABLE_ROWS):
        rows = min(TABLE_ROWS, n - start)
        shape = rng.integers(0, SHAPES, rows)
        offsets = np.cumsum([0, *lengths[shape]])
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths[shape])
        place = rng.integers(0, 50_000, (rows, 2))
        outlines = vertices[np.repeat(starts[shape], lengths[shape]) + within] + np.repeat(
            place, lengths[shape], axis=0
        )
        yield CellTable(
            vertices=outlines * 1.9873,  # a slide whose pixels are not the model's
            offsets=offsets,
            centroids=(place + 22) * 1.9873,
            types=rng.integers(1, 8, rows).astype(np.uint8),
            type_probs=rng.dirichlet(np.full(7, 0.2), rows).astype(np.float32),
            area_um2=rng.uniform(15, 90, rows).astype(np.float32),
            regions=np.full(rows, -1, np.int32),
            features={name: rng.uniform(0, 9, rows).astype(np.float32) for name in FEATURE_NAMES},
        )


def memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(name: str, n: int, path: Path, consume: Callable[[Iterator[CellTable]], None]) -> None:
    """Run `consume` over the tables and print what it took, without the making of the tables."""
    making_wall, making_cpu, memory = 0.0, 0.0, memory_mb()

    def watched() -> Iterator[CellTable]:
        nonlocal making_wall, making_cpu
        source = tables(n)
        while True:
            since = time.perf_counter(), time.process_time()
            table = next(source, None)
            making_wall += time.perf_counter() - since[0]
            making_cpu += time.process_time() - since[1]
            if table is None:
                return
            yield table

    since = time.perf_counter(), time.process_time()
    consume(watched())
    wall, cpu = time.perf_counter() - since[0] - making_wall, time.process_time() - since[1] - making_cpu
    size = path.stat().st_size / 1e6 if path.exists() else 0.0
    grown = memory_mb() - memory
    print(f"{name:<28}{wall:8.2f} s wall {cpu:8.2f} s cpu {size:9.1f} MB {grown:8.0f} MB more memory", flush=True)


def bench_writers(n: int, folder: Path) -> None:
    parquet, geojson = folder / "cells.parquet", folder / "cells.geojson.gz"

    def write_parquet(source: Iterator[CellTable]) -> None:
        with CellsWriter(parquet, FEATURE_NAMES) as writer:
            for table in source:
                writer.append(table)

    def write_geojson(source: Iterator[CellTable]) -> None:
        with GeoJSONWriter(geojson, "slide", "model") as writer:
            for table in source:
                writer.append(table)

    def count(source: Iterator[CellTable]) -> None:
        counter = SummaryCounter()
        for table in source:
            counter.add(table)

    write_parquet(tables(100)), write_geojson(tables(100))  # compile
    timed("cells.parquet", n, parquet, write_parquet)
    timed("cells.geojson.gz", n, geojson, write_geojson)
    timed("summary", n, folder / "none", count)
    start = time.perf_counter()
    found = sum(len(table) for table in iter_cells(parquet))
    print(f"{'read cells.parquet':<28}{time.perf_counter() - start:8.2f} s wall")
    assert found == n
    with gzip.open(geojson) as file:
        assert sum(line.startswith(b'{"type":"Feature",') for line in file) == n


def bench_outlines(side: int, repeats: int) -> None:
    """Trace and measure a map filled with nuclei."""
    rng = np.random.default_rng(1)
    labels, n = np.zeros((side, side), np.int32), 0
    y, x = np.mgrid[:32, :32] - 16
    for row in range(0, side - 32, 32):
        for column in range(0, side - 32, 32):
            a, b = rng.uniform(6, 15, 2)
            n += 1
            labels[row : row + 32, column : column + 32][(x / a) ** 2 + (y / b) ** 2 <= 1] = n
    image = rng.integers(0, 256, (side, side, 3)).astype(np.uint8)
    outlines = trace(labels)
    measure(labels, image, 0.5, outlines)  # compile
    for name, call in (("trace", lambda: trace(labels)), ("measure", lambda: measure(labels, image, 0.5, outlines))):
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        label = f"{name}, {side} x {side}, {n} nuclei"
        print(f"{label:<40}{1e3 * statistics.median(times):8.1f} ms median of {repeats}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="5,000 nuclei: only to see that it works")
    parser.add_argument("-n", type=int, help="number of nuclei")
    options = parser.parse_args()
    n = options.n or (5_000 if options.quick else 1_000_000)
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(f"{machine}; {n:,} nuclei")
    bench_outlines(256 if options.quick else 2048, 3 if options.quick else 11)
    with tempfile.TemporaryDirectory() as folder:
        bench_writers(n, Path(folder))


if __name__ == "__main__":
    main()
