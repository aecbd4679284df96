"""How long it takes to convert cells, and with how much memory: ``python benchmarks/bench_convert.py [--quick]``.

Writes polygons of real size at random places (1,000,000; 5,000 with ``--quick``) into ``cells.parquet``, and converts
it to GeoJSON and back, to chunks and to CSV, each in a process of its own, as the command does. Prints seconds of wall
clock and of processor, megabytes of the file, and the largest memory of the process. ``--formats`` adds others.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from bench_write import tables
from cytolite.decoding.features import FEATURE_NAMES
from cytolite.interop.parquet import CellsWriter

# Run in the process that is measured: peak memory and time of nothing but the conversion and its imports.
MEASURED = """
import resource, sys, time
from pathlib import Path
start = time.perf_counter()
from cytolite.pipeline import convert
n, warnings = convert(Path(sys.argv[1]), Path(sys.argv[2]), outlines=True)
wall = time.perf_counter() - start
used = resource.getrusage(resource.RUSAGE_SELF)
print(n, wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""


def measure(source: Path, target: Path, n: int) -> None:
    command = [sys.executable, "-c", MEASURED, str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    found, wall, cpu, memory = map(float, done.stdout.split())
    assert found == n, (found, n)
    files = [target] if target.is_file() else [path for path in target.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    title = f"{source.name} -> {target.name}"
    print(
        f"{title:<36}{wall:8.1f} s wall {cpu:8.1f} s cpu {size:9.1f} MB file {memory:8.0f} MB peak memory", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="5,000 nuclei, there and back: only to see that it works")
    parser.add_argument("-n", type=int, help="number of nuclei")
    parser.add_argument("--formats", nargs="*", default=(), help="others to convert to and back: h5ad, zarr")
    options = parser.parse_args()
    n = options.n or (5_000 if options.quick else 1_000_000)
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(f"{machine}; {n:,} nuclei")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with CellsWriter(folder / "cells.parquet", FEATURE_NAMES) as writer:
            for table in tables(n):
                writer.append(table)
        steps = [("cells.parquet", "c.geojson.gz"), ("c.geojson.gz", "back.parquet"), ("cells.parquet", "c.geojson"),
                 ("c.geojson", "back2.parquet"), ("cells.parquet", "chunks"), ("cells.parquet", "c.csv")]  # fmt: skip
        if options.quick:
            steps = steps[:2]
        for kind in options.formats:
            steps += [("cells.parquet", f"c.{kind}"), (f"c.{kind}", f"{kind}.parquet")]
        for source, target in steps:
            measure(folder / source, folder / target, n)


if __name__ == "__main__":
    main()
