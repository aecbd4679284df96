"""How long and how much memory the extension for QuPath needs: ``python benchmarks/bench_qupath.py [--quick]``.

Writes a million cells of real size (5,000 with ``--quick``) as ``cells.geojson.gz``, and lets the extension import them
into an open image, twice: the second time in place of the first. QuPath is a stand-in: small classes with the names
of those that the extension calls, which hold what QuPath's hold (float outlines, float measurements
with shared names, a parent). With QuPath's own qupath-core in ``CYTOLITE_QUPATH_CLASSPATH`` they are the real ones.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from bench_write import tables
from cytolite.interop.geojson.writer import GeoJSONWriter

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from qupath_session import NoGroovyError, QuPath, groovy_literal, qupath

SIDE_PX = 100_000


def bench(app: QuPath, n: int, heap: str, folder: Path) -> None:
    cells = folder / "cells.geojson.gz"
    with GeoJSONWriter(cells, "slide", "model") as writer:
        for table in tables(n):
            writer.append(table)
    print(f"{n:,} cells, {cells.stat().st_size / 1e6:.1f} MB of cells.geojson.gz, at most {heap} of heap")
    step = {"script": f"qupath.ext.cytolite.Cytolite.importResult({groovy_literal(str(cells))})", "memory": True}
    image = {"uri": (folder / "slide.svs").as_uri(), "width": SIDE_PX, "height": SIDE_PX, "mpp": 0.25}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    answers = app.play({"window": True, "image": image, "steps": [step, step]}, folder, f"-Xmx{heap}", timeout_s=3600)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    for name, answer in zip(("first", "in place of the first"), answers, strict=True):
        assert answer["root"] == {"cytolite": n}, answer["dialogs"]
        print(f"{name:<24}{answer['seconds']:8.1f} s wall, {answer['used_mb']:8.0f} MB in use afterwards")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{'both':<24}{cpu:8.1f} s of processor, {after.ru_maxrss / 1024:8.0f} MB at most in the process")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5,000 cells, to see that it works")
    parser.add_argument("--heap", default="4g", help="largest heap of Java")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        app = replace(qupath(Path(folder)), archive=None)  # to keep classes would be measured too
        java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr.splitlines()[0]
        kind = "real qupath-core" if os.environ.get("CYTOLITE_QUPATH_CLASSPATH") else "stand-ins for QuPath's classes"
        print(f"{platform.machine()}, {os.cpu_count()} cores, {java}, {kind}")
        bench(app, 5000 if arguments.quick else 1_000_000, arguments.heap, Path(folder))


if __name__ == "__main__":
    try:
        main()
    except NoGroovyError as reason:
        sys.exit(f"error: this benchmark {reason}.")
