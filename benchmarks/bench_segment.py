"""How long a slide takes, stage by stage, and how much memory.

    python benchmarks/bench_segment.py SLIDE... [--model M] [--mpp X] [--tissue all] [--tile N] [--workers N]
    python benchmarks/bench_segment.py --big [--side 100000] [--cells 1000000]
    python benchmarks/bench_segment.py SLIDE --area 1 4 20 100 400 [--workers N] [--output FILE]
    python benchmarks/bench_segment.py --quick

The first prints seconds per mm2 of tissue of whole runs, and the CPU seconds of each stage within them (thread time,
so that other programs on the machine count little). ``--big`` segments a synthetic slide that takes no disk, with a
network that reads its answer off the pixels: it shows that time grows with area and memory does not. ``--area`` shows
it with a real slide and a real network: the slide is repeated until it has about so many mm2 of tissue, each area in a
process of its own, so that its memory is its own. A line is added to FILE after each: areas may be run one at a time.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cytolite.bundle import Bundle, load_bundle
from cytolite.config import SegmentSettings
from cytolite.decoding import features, outlines
from cytolite.decoding.maps import DecodedMaps
from cytolite.inference.predictor import Predictor
from cytolite.segmentation import slide as run
from cytolite.segmentation import tile as tile_module
from cytolite.segmentation.checkpoint import WorkFolder
from cytolite.slides.levels import Level, Pyramid
from cytolite.slides.reader import Slide, open_slide
from cytolite.slides.tissue import find_tissue

STAGES: dict[str, tuple[tuple[Any, str], ...]] = {
    "plan (tissue, tiles)": ((run, "plan_slide"),),
    "read": ((run.TileJob, "_read"),),
    "network": ((Predictor, "maps"),),
    "decode": ((tile_module, "decode_maps"),),
    "outlines, measures, types": ((outlines, "trace"), (features, "measure"), (DecodedMaps, "names")),
    "keep (part files)": ((WorkFolder, "save"),),
    "stitch and write": ((run, "write_results"),),
}


@contextmanager
def stopwatches() -> Iterator[dict[str, float]]:
    """Measure the CPU seconds of each stage, over all threads, while the block runs."""
    spent: dict[str, float] = defaultdict(float)
    originals = [(owner, name, getattr(owner, name)) for places in STAGES.values() for owner, name in places]
    for stage, places in STAGES.items():
        for owner, name in places:
            setattr(owner, name, _timed(getattr(owner, name), stage, spent))
    try:
        yield spent
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def _timed(function: Callable[..., Any], stage: str, spent: dict[str, float]) -> Callable[..., Any]:
    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.thread_time()
        try:
            return function(*args, **kwargs)
        finally:
            spent[stage] += time.thread_time() - start

    return timed


def measure(slide: Slide, bundle: Bundle, settings: SegmentSettings, repeat: int) -> None:
    """Run `repeat` times after one run that compiles and fills caches; print medians."""
    walls, stages, cpu = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(repeat + 1):
            out = Path(folder) / str(number)
            with stopwatches() as spent:
                wall, cpu_start = time.perf_counter(), time.process_time()
                result = run.segment_slide(slide, out, bundle, settings)
                walls.append(time.perf_counter() - wall)
                cpu.append(time.process_time() - cpu_start)
            stages.append(dict(spent))
            shutil.rmtree(out)
    area = max(result.tissue_mm2, 1e-9)
    wall = statistics.median(walls[1:] or walls)
    print(f"{slide.path.name}: {result.n_cells:,} nuclei in {area:.3f} mm2, first run {walls[0]:.1f} s")
    print(f"  {'whole run':28}{wall:9.2f} s wall   {wall / area:7.2f} s/mm2")
    print(f"  {'':28}{statistics.median(cpu[1:] or cpu):9.2f} s CPU")
    for stage in STAGES:
        seconds = statistics.median(spent.get(stage, 0.0) for spent in stages[1:] or stages)
        print(f"  {stage:28}{seconds:9.2f} s CPU    {seconds / area:7.2f} s/mm2")


def big(side: int, n_cells: int, workers: int | None, bundle_folder: Path) -> None:
    """Segment a synthetic slide of `side` x `side` px at 0.25 um/px with about `n_cells` nuclei."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from fakes import EndlessSlide, fake_bundle, paint, random_nuclei

    bundle = fake_bundle(bundle_folder, tile=1024)
    period = 1000
    # Some fall onto others and are left out.
    per_period = round(1.3 * n_cells / (side / 2 / period) ** 2)
    instance_map, types = random_nuclei(np.random.default_rng(0), (period, period), per_period, gap=2)
    for edge in (instance_map[:2], instance_map[-2:], instance_map[:, :2], instance_map[:, -2:]):
        instance_map[np.isin(instance_map, edge[edge > 0])] = 0
    # The pattern is in pixels of the model; the slide has twice as many along each side.
    slide = EndlessSlide(bundle.path / "model.json", paint(instance_map, types), side, side, mpp=0.25, read_mpp=0.5)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        settings = SegmentSettings(tissue="all", workers=workers)
        with stopwatches() as spent:
            result = run.segment_slide(slide, Path(folder) / "big", bundle, settings)
        sizes = {path.name: path.stat().st_size / 1e6 for path in (Path(folder) / "big").iterdir()}
    wall = time.perf_counter() - start
    print(f"{side:,} x {side:,} px: {result.n_cells:,} nuclei, {wall:.0f} s, {wall / result.tissue_mm2:.2f} s/mm2")
    print(f"  peak memory {peak_memory_gb():.2f} GB, result " + ", ".join(f"{n} {s:.0f} MB" for n, s in sizes.items()))
    for stage in STAGES:
        print(f"  {stage:28}{spent.get(stage, 0.0):9.1f} s CPU")


@dataclasses.dataclass(frozen=True)
class Repeated:
    """A level of a slide, so many pixels wide and high, that shows another again and again."""

    level: Level
    width: int
    height: int

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        out = np.empty((height, width, 3), np.uint8)
        for top, row, high in self._pieces(y, height, self.level.height):
            for left, column, wide in self._pieces(x, width, self.level.width):
                out[top : top + high, left : left + wide] = self.level.read(column, row, wide, high)
        return out

    @staticmethod
    def _pieces(start: int, length: int, period: int) -> Iterator[tuple[int, int, int]]:
        """Where each piece lies in what is read and in the level, and its length."""
        done = 0
        while done < length:
            at = (start + done) % period
            piece = min(period - at, length - done)
            yield done, at, piece
            done += piece


def repeated(slide: Slide, mm2: float) -> Slide:
    """Return a slide repeated until it has `mm2` of tissue: as wide as high in copies, the last row cut off."""
    copies = mm2 / find_tissue(slide)[1].area_mm2(slide.mpp)
    columns = max(1, round(math.sqrt(copies)))
    coarsest = slide._levels[-1]
    rows = max(1, round(copies / columns * coarsest.height))
    levels = [Repeated(level, columns * level.width, rows * level.height // coarsest.height) for level in slide._levels]
    return Slide(slide.path, Pyramid(slide.format, levels, None, close=lambda: None), slide.mpp)


def grow(path: str, bundle: Bundle, settings: SegmentSettings, mm2: float, output: Path | None) -> None:
    """Segment a slide repeated to an area; print and keep what it cost."""
    with open_slide(path, settings.mpp) as slide, tempfile.TemporaryDirectory() as folder, stopwatches() as spent:
        wall, cpu = time.perf_counter(), time.process_time()
        result = run.segment_slide(repeated(slide, mm2), Path(folder) / "out", bundle, settings)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    area = result.tissue_mm2
    row = {
        "mm2": area, "cells": result.n_cells, "wall_s_per_mm2": wall / area, "core_s_per_mm2": cpu / area,
        "peak_gb": peak_memory_gb(), "workers": settings.workers, "model": bundle.spec.name, "load": os.getloadavg()[0],
        "stages_core_s_per_mm2": {stage: spent.get(stage, 0.0) / area for stage in STAGES},
    }  # fmt: skip
    print(
        f"{area:8.2f} mm2 {result.n_cells:10,} nuclei {wall / area:8.2f} s/mm2 {cpu / area:8.2f} core-s/mm2 "
        f"{row['peak_gb']:6.2f} GB   "
        + ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in row["stages_core_s_per_mm2"].items()),
        flush=True,
    )
    if output:
        with output.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def peak_memory_gb() -> float:
    """Highest resident memory of this process so far, GB (Linux)."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1e6 for line in lines if line.startswith("VmHWM")), float("nan"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slides", nargs="*")
    parser.add_argument("--model")
    parser.add_argument("--mpp", type=float)
    parser.add_argument("--tissue", choices=("auto", "all"), default="auto")
    parser.add_argument("--tile", type=int)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--big", action="store_true")
    parser.add_argument("--side", type=int, default=100_000)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--area", type=float, nargs="+", default=[], help="mm2 of tissue of the one slide, repeated")
    parser.add_argument("--output", type=Path, help="JSON lines, of --area")
    parser.add_argument("--quick", action="store_true", help="a small --big, to see that this file works")
    given = parser.parse_args()
    if len(given.area) > 1:
        at = sys.argv.index("--area")
        others = [*sys.argv[:at], *sys.argv[at + 1 + len(given.area) :]]
        for area in given.area:
            subprocess.run([sys.executable, *others, "--area", str(area)], check=True)
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    if given.quick or given.big:
        side, cells = (4000, 1600) if given.quick else (given.side, given.cells)
        with tempfile.TemporaryDirectory() as folder:
            big(side, cells, given.workers, Path(folder))
    for path in given.slides:
        bundle = load_bundle(given.model)
        settings = SegmentSettings(
            model=given.model, mpp=given.mpp, tissue=given.tissue, tile=given.tile, batch=given.batch,
            workers=given.workers,
        )  # fmt: skip
        if given.area:
            grow(path, bundle, settings, given.area[0], given.output)
            continue
        with open_slide(path, given.mpp) as slide:
            measure(slide, bundle, settings, given.repeat)
    print(f"peak memory {peak_memory_gb():.2f} GB")


if __name__ == "__main__":
    main()
