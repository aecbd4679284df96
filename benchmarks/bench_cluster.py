"""What a cluster costs, and whether it may be shot at.

    python benchmarks/bench_cluster.py [--workers 1 2 16 64 256] [--seconds 0.5]
    python benchmarks/bench_cluster.py --sent [--workers ...]
    python benchmarks/bench_cluster.py --slides 200 [--processes 2]
    python benchmarks/bench_cluster.py --giant [--side 100000] [--processes 2]
    python benchmarks/bench_cluster.py --kills 20 [--seed 0]
    python benchmarks/bench_cluster.py --quick

The first has tiles that sleep instead of computing, so that one machine can stand for many: workers are threads, up to
32 in a process, with Dask's own scheduler and connections. It prints the engine's milliseconds a tile (tiles that take
no time) and the efficiency: seconds slept over seconds that all workers were there. The second is the same where
workers share no storage, and send 0.5 MB a tile, which this process writes. The third compares a cohort of
small slides on a cluster with one process; the fourth segments one very large slide (a TIFF whose tiles are all alike)
and watches the memory of every process. The fifth kills a worker, the scheduler or the client at random moments,
starts what died again, and compares the cells with those of one process. All networks but the sleeping one read the
answer off the pixels.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import dask
import numpy as np
import tifffile
from distributed import Client, LocalCluster

from cytolite.segmentation.dask_tiles import DistantWorkers, Workers
from cytolite.segmentation.tile_work import Parcel
from cytolite.slides.tiles import Tile, plan_tiles

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
THREADS = 32  # in a process
SENT_BYTES = 500_000  # a tile with a thousand nuclei
COMPARED = ("cells.parquet", "cells.geojson.gz", "summary.json", "tissue.geojson")


@dataclass(frozen=True)
class Sleep:
    """A run of tiles that takes its time."""

    folder: Path
    seconds: float

    def __call__(self, tiles: Sequence[Tile]) -> None:
        time.sleep(self.seconds * len(tiles))

    def fetch(self, tiles: Sequence[Tile]) -> Parcel:
        self(tiles)
        return Parcel(dict.fromkeys(tiles, bytes(SENT_BYTES)))


def slept(folder: Path, n: int, seconds: float, workers: Workers | None = None) -> float:
    """Do n tiles on all workers, as a slide does; return the seconds that took. Runs on a worker if none are given."""
    tiles = plan_tiles(n * 128, 128, 128, 16)
    start = time.perf_counter()
    (workers or Workers()).run(Sleep(folder, seconds), [[tile] for tile in tiles], lambda left: None)
    return time.perf_counter() - start


def engine(workers: Sequence[int], seconds: float, tiles_a_worker: int, folder: Path, *, sent: bool = False) -> None:
    (folder / ".slide.partial" / "tiles").mkdir(parents=True)
    # A task beside the one in work for each thread: what Dask gives processes of one thread, as clusters have them.
    dask.config.set({"distributed.scheduler.worker-saturation": 2.0, "distributed.worker.profile.enabled": False})
    for n in workers:
        processes = -(-n // THREADS)
        options = {
            "n_workers": processes,
            "threads_per_worker": -(-n // processes),
            "dashboard_address": "127.0.0.1:0",
            "silence_logs": 50,
        }
        with LocalCluster(processes=True, **options) as cluster, Client(cluster) as client:

            def timed(tiles: int, seconds: float, client: Client = client) -> float:
                if sent:
                    return slept(folder / "slide", tiles, seconds, DistantWorkers(client))
                return client.submit(slept, folder / "slide", tiles, seconds, pure=False).result()

            timed(4 * n, 0.0)  # imports, connections
            idle = timed(max(200, 4 * n), 0.0)
            tiles = tiles_a_worker * n
            wall = timed(tiles, seconds)
        overhead = 1e3 * idle / max(200, 4 * n)
        share = tiles * seconds / (n * wall)
        print(
            f"{n:4} workers: {overhead:5.1f} ms a tile, {share:6.1%} efficiency ({tiles} tiles of {seconds:g} s)",
            flush=True,
        )


def command(slides: Sequence[Path], output: Path, *more: str) -> list[str]:
    model = slides[0].parent / "fake"
    options = ("--model", str(model), "--tissue", "all", "--workers", "1", "--quiet")
    return [sys.executable, "-m", "cytolite", "segment", *map(str, slides), "-o", str(output), *options, *more]


def painted(folder: Path, n: int, side: int) -> list[Path]:
    from fakes import fake_bundle, paint, random_nuclei, write_slide

    fake_bundle(folder)
    images = [
        paint(*random_nuclei(np.random.default_rng(seed), (side, side), side * side // 1200)) for seed in range(4)
    ]
    return [write_slide(folder / f"{i:03}.tif", images[i % 4]) for i in range(n)]


def cohort(n: int, side: int, processes: int, folder: Path) -> None:
    slides = painted(folder, n, side)
    for title, more in (("one process", ()), (f"{processes} processes", ("--cluster", f"local:{processes}"))):
        start = time.perf_counter()
        subprocess.run(command(slides, folder / title, *more), check=True, stderr=subprocess.DEVNULL)
        wall = time.perf_counter() - start
        print(f"{n} slides of {side} x {side} px, {title}: {wall:.1f} s, {1e3 * wall / n:.1f} ms a slide", flush=True)


def giant(side: int, processes: int, folder: Path) -> None:
    from fakes import fake_bundle, paint, random_nuclei

    fake_bundle(folder)
    instances, types = random_nuclei(np.random.default_rng(0), (512, 512), 28, radius=(8, 11))
    for edge in (instances[:1], instances[-1:], instances[:, :1], instances[:, -1:]):
        instances[np.isin(instances, edge[edge > 0])] = 0
    tifffile.imwrite(
        folder / "tile.tif", paint(instances, types), tile=(512, 512), photometric="rgb", compression="deflate"
    )
    with tifffile.TiffFile(folder / "tile.tif") as one, (folder / "tile.tif").open("rb") as file:
        file.seek(one.pages[0].dataoffsets[0])
        encoded = file.read(one.pages[0].databytecounts[0])
    across = -(-side // 512)
    tifffile.imwrite(
        folder / "giant.tif", (encoded for _ in range(across**2)), shape=(side, side, 3), dtype=np.uint8, bigtiff=True,
        tile=(512, 512), photometric="rgb", compression="deflate", resolution=(2e4, 2e4), resolutionunit="CENTIMETER",
    )  # fmt: skip
    start = time.perf_counter()
    run = subprocess.Popen(command([folder / "giant.tif"], folder / "out", "--cluster", f"local:{processes}"))
    watch = Memory(run.pid)
    code = run.wait()
    wall = time.perf_counter() - start
    cells = rows(folder / "out" / "giant" / "cells.parquet") if code == 0 else 0
    peaks = ", ".join(f"{peak:.2f}" for peak in sorted(watch.peaks.values(), reverse=True)[: processes + 1])
    print(f"{side:,} x {side:,} px: {cells:,} nuclei, {wall:.0f} s; peaks of its processes {peaks} GB (exit {code})")


def rows(path: Path) -> int:
    import pyarrow.parquet as pq

    return pq.read_metadata(path).num_rows


class Memory:
    """Watches the peak of resident memory of a process and of all below it (Linux), GB."""

    def __init__(self, pid: int) -> None:
        self.peaks: dict[int, float] = {}
        threading.Thread(target=self._watch, args=(pid,), daemon=True).start()

    def _watch(self, pid: int) -> None:
        while Path(f"/proc/{pid}").exists():
            for one in [pid, *below(pid)]:
                try:
                    lines = Path(f"/proc/{one}/status").read_text().splitlines()
                except OSError:
                    continue
                peak = next((int(line.split()[1]) / 1e6 for line in lines if line.startswith("VmHWM")), 0.0)
                self.peaks[one] = max(peak, self.peaks.get(one, 0.0))
            time.sleep(0.5)


def below(pid: int) -> list[int]:
    """Processes that a process started, and those that they did."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in task.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *below(child)]
    return found


class Shooting:
    """A scheduler, two workers and a client, each started again when it has died."""

    def __init__(self, folder: Path, port: int, side: int) -> None:
        self._slides, self._output = painted(folder, 3, side), folder / "shot"
        subprocess.run(self._command("whole"), check=True, stderr=subprocess.DEVNULL)
        self._whole, self._port = folder / "whole", port
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def _command(self, output: str, *more: str) -> list[str]:
        return command(self._slides, self._output.with_name(output), "--tile", "128", "--halo", "32", *more)

    def start(self) -> None:
        address = f"tcp://127.0.0.1:{self._port}"
        dask = [sys.executable, "-m", "dask"]
        worker = [*dask, "worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        commands = {
            "scheduler": [*dask, "scheduler", "--host", "127.0.0.1", "--port", str(self._port), "--no-dashboard"],
            "worker": worker, "other worker": worker, "client": self._command("shot", "--cluster", address),
        }  # fmt: skip
        for name, given in commands.items():
            if name not in self._processes or self._processes[name].poll() is not None:
                self._processes[name] = subprocess.Popen(given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def parts(self) -> int:
        done = len(list(self._output.glob("*/cells.parquet")))
        return len(list(self._output.glob(".*.partial/tiles/*.npz"))) + 10_000 * done

    def wait(self, goal: int, timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        while self.parts() < goal and time.monotonic() < until:
            self.start()
            time.sleep(0.02)

    def kill(self, name: str) -> None:
        self._processes[name].kill()
        self._processes[name].wait()

    def end(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()

    def same(self) -> bool:
        pairs = [(self._whole / s.stem / f, self._output / s.stem / f) for s in self._slides for f in COMPARED]
        return all(one.read_bytes() == other.read_bytes() for one, other in pairs)


def kills(n: int, seed: int, side: int, folder: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    rng = np.random.default_rng(seed)
    shooting = Shooting(folder, port, side)
    try:
        for number in range(1, n + 1):
            shooting.wait(shooting.parts() + int(rng.integers(1, 7)), 120)
            time.sleep(rng.uniform(0, 0.5))
            name = str(rng.choice(["scheduler", "worker", "other worker", "client"]))
            print(f"{number}: kill -9 of the {name} at {shooting.parts()} parts", flush=True)
            shooting.kill(name)
        shooting.wait(30_000, 600)
    finally:
        shooting.end()
    print(f"{n} kills, seed {seed}: " + ("the same bytes" if shooting.same() else "OTHER BYTES"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 16, 64, 256])
    parser.add_argument("--seconds", type=float, default=0.5, help="that a tile sleeps")
    parser.add_argument("--sent", action="store_true", help="as if workers did not see the output")
    parser.add_argument("--slides", type=int)
    parser.add_argument("--giant", action="store_true")
    parser.add_argument("--side", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--kills", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a little of the first, to see that this file works")
    given = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        if given.quick:
            engine([2], 0.1, 10, Path(folder))
        elif given.slides:
            cohort(given.slides, 300, given.processes, Path(folder))
        elif given.giant:
            giant(given.side, given.processes, Path(folder))
        elif given.kills:
            kills(given.kills, given.seed, 900, Path(folder))
        else:
            engine(given.workers, given.seconds, 20, Path(folder), sent=given.sent)


if __name__ == "__main__":
    main()
