"""How long a slide takes, stage by stage, and how much memory.

    python benchmarks/bench_segment.py SLIDE... [--model M] [--mpp X] [--tissue all] [--tile N] [--workers N]
    python benchmarks/bench_segment.py --big [--side 100000] [--cells 1000000]
    python benchmarks/bench_segment.py --quick

The first prints seconds per mm2 of tissue of whole runs, and the CPU seconds of each stage within them (thread time,
so that other programs on the machine count little). ``--big`` segments a synthetic slide that takes no disk, with a
network that reads its answer off the pixels: it shows that time grows with area and memory does not.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
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
from cytolite.decoding import outlines
from cytolite.inference.predictor import Predictor
from cytolite.segmentation import slide as run
from cytolite.segmentation import tile as tile_module
from cytolite.segmentation.checkpoint import WorkFolder
from cytolite.slides.reader import Slide, open_slide

STAGES: dict[str, tuple[tuple[Any, str], ...]] = {
    "plan (tissue, tiles)": ((run, "plan_slide"),),
    "read": ((run.TileJob, "_read"),),
    "network": ((Predictor, "maps"),),
    "decode": ((tile_module, "find_nuclei"),),
    "outlines, measures, types": ((outlines, "trace"), (outlines, "measure"), (tile_module, "vote_types")),
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
    parser.add_argument("--quick", action="store_true", help="a small --big, to see that this file works")
    given = parser.parse_args()
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
        with open_slide(path, given.mpp) as slide:
            measure(slide, bundle, settings, given.repeat)
    print(f"peak memory {peak_memory_gb():.2f} GB")


if __name__ == "__main__":
    main()
