"""Flows against cellpose: how fast, and whether the masks agree. Both sides run in turns in one process.

    python benchmarks/bench_decode.py [--quick] [--repeats 5] [--threads 2] [--output results.json]

Needs `cellpose` for the comparison (``pip install "cellpose>=4.2,<4.3"``); without it only our own times are printed.
Read ratios, not seconds: other work on the machine slows both sides, and torch's threads more than ours. Where a
machine is never idle, read `cpu_ratio`: processor seconds of all threads, whoever else had the cores meanwhile.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from cytolite.decoding.cellpose import decode_like_cellpose as decode
from cytolite.decoding.flows import encode

NUCLEI_PER_MPX = 800  # 3,300 at 2048 x 2048
COMPILE = """
import time; start = time.perf_counter(), time.process_time()
import numpy as np
from cytolite.decoding.cellpose import decode_like_cellpose as decode
from cytolite.decoding.flows import encode
instance_map = np.pad(np.ones((12, 12), np.int32), 9)
decode(encode(instance_map), instance_map > 0)
print(time.perf_counter() - start[0], time.process_time() - start[1])
"""


def synthetic(size: int, seed: int = 0) -> np.ndarray:
    """Return int32 (size, size): ellipses with semi-axes of 3 to 14 px at random, touching, cut by the border."""
    rng = np.random.default_rng(seed)
    instance_map, n = np.zeros((size, size), np.int32), 0
    while n < NUCLEI_PER_MPX * size * size / 1e6:
        (cy, cx), turn, a = rng.uniform(0, size, 2), rng.uniform(0, np.pi), rng.uniform(6, 14)
        b = a * rng.uniform(0.5, 1)
        top, left = max(0, int(cy - a)), max(0, int(cx - a))
        window = instance_map[top : int(cy + a) + 2, left : int(cx + a) + 2]
        rows, cols = np.mgrid[: window.shape[0], : window.shape[1]].astype(float)
        rows, cols = rows + top - cy, cols + left - cx
        u, v = cols * np.cos(turn) + rows * np.sin(turn), rows * np.cos(turn) - cols * np.sin(turn)
        ellipse = (u / a) ** 2 + (v / b) ** 2 <= 1
        if ellipse.sum() > 20 and (window[ellipse] > 0).mean() <= 0.15:
            n += 1
            window[ellipse & (window == 0)] = n
    return instance_map


def maps(instance_map: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return flows and foreground: 'clean', 'smooth' (3x3 means twice, as networks give them) or 'noisy' (sd 0.2)."""
    rng = np.random.default_rng(0)
    flows, foreground = encode(instance_map), instance_map > 0
    if kind == "smooth":
        for axis in (1, 2, 1, 2):
            flows = (np.roll(flows, 1, axis) + flows + np.roll(flows, -1, axis)) / np.float32(3)
    if kind == "noisy":
        flows = flows + np.float32(0.2) * rng.standard_normal(flows.shape, dtype=np.float32)
        foreground = foreground & (rng.random(foreground.shape) > 0.01)
    return flows, foreground


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Return the share of masks that have a partner at IoU > 0.9, of the side that has fewer such."""
    ids, both = np.unique(np.stack([a.ravel(), b.ravel()]).astype(np.int64), axis=1, return_counts=True)
    sizes_a, sizes_b = np.bincount(a.ravel()), np.bincount(b.ravel())
    iou = both / (sizes_a[ids[0]] + sizes_b[ids[1]] - both)
    matched = int(((iou > 0.9) & (ids[0] > 0) & (ids[1] > 0)).sum())
    return matched / max(int(a.max()), int(b.max()), 1)


def in_turns(repeats: int, *sides: Callable[[], Any]) -> tuple[list[list[tuple[float, float]]], list[Any]]:
    """Run the sides one after the other, `repeats` times; return (wall, processor) seconds and the last results."""
    results: list[Any] = [None] * len(sides)
    seconds: list[list[tuple[float, float]]] = [[] for _ in sides]
    for _ in range(repeats):
        for i, side in enumerate(sides):
            start, start_cpu = time.perf_counter(), time.process_time()
            results[i] = side()
            seconds[i].append((time.perf_counter() - start, time.process_time() - start_cpu))
    return seconds, results


def median(seconds: list[tuple[float, float]], which: int = 0) -> float:
    """Return the median of the wall seconds (0) or the processor seconds (1)."""
    return statistics.median(s[which] for s in seconds)


def compile_seconds() -> list[str]:
    """Return wall and processor seconds to import, compile and run once: with an empty cache, then with a full one."""
    with tempfile.TemporaryDirectory() as cache:
        command, settings = [sys.executable, "-c", COMPILE], {**os.environ, "NUMBA_CACHE_DIR": cache}
        return [
            subprocess.run(command, env=settings, capture_output=True, check=True, text=True).stdout.strip()
            for _ in range(2)
        ]


def cellpose_side(threads: int) -> tuple[Callable[..., Any], Callable[..., Any]] | None:
    """Return cellpose's decode and encode on `threads` CPU threads, or None where it is not installed."""
    try:
        import torch
        from cellpose import dynamics
    except ImportError:
        return None
    torch.set_num_threads(threads)
    logging.disable(logging.CRITICAL)
    warnings.filterwarnings("ignore")

    def masks(flows: np.ndarray, foreground: np.ndarray) -> np.ndarray:
        probs = foreground.astype(np.float32)
        return dynamics.resize_and_compute_masks(5 * flows, probs, max_size_fraction=1).astype(np.int32)

    return masks, lambda instance_map: dynamics.masks_to_flows_gpu(instance_map)[0]


def compare(size: int, kind: str, repeats: int, threads: int) -> dict[str, Any]:
    """Measure one size and kind of map."""
    instance_map = np.unique(synthetic(size), return_inverse=True)[1].reshape(size, size).astype(np.int32)
    flows, foreground = maps(instance_map, kind)
    other = cellpose_side(threads)
    sides = [lambda: decode(flows, foreground, threads=threads), lambda: decode(flows, foreground)]
    if other:
        sides.append(lambda: other[0](flows, foreground))
    seconds, results = in_turns(repeats, *sides)
    n = int(results[0].max())
    row: dict[str, Any] = {"size": size, "kind": kind, "nuclei": n, "repeats": repeats}
    row["decode_s"], row["one_thread_s"], row["one_thread_cpu_s"] = (
        median(seconds[0]),
        median(seconds[1]),
        median(seconds[1], 1),
    )
    row["one_thread_cpu_s_per_mpx"] = row["one_thread_cpu_s"] / size**2 * 1e6
    row["one_thread_cpu_s_per_1000_nuclei"] = row["one_thread_cpu_s"] / max(n, 1) * 1e3
    if other:
        row["cellpose_s"], row["cellpose_cpu_s"] = median(seconds[2]), median(seconds[2], 1)
        row["ratio"] = statistics.median(b[0] / a[0] for a, b in zip(seconds[0], seconds[2], strict=True))
        row["cpu_ratio"] = statistics.median(b[1] / a[1] for a, b in zip(seconds[0], seconds[2], strict=True))
        row["agreement"] = agreement(results[0], results[2])
        if kind == "clean" and size <= 1024:
            (ours, theirs), (a, b) = in_turns(1, lambda: encode(instance_map), lambda: other[1](instance_map))
            row["encode_ratio"], row["encode_cpu_ratio"] = (median(theirs, i) / median(ours, i) for i in range(2))
            row["encode_difference"] = float(np.abs(a - b).max())
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small image, once: only to see that it works")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="for decode and for torch")
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024, 2048])
    parser.add_argument("--kinds", nargs="+", default=["clean", "smooth", "noisy"])
    parser.add_argument("--output", type=Path, help="write the numbers to this JSON file")
    args = parser.parse_args()
    if args.quick:
        args.sizes, args.kinds, args.repeats = [256], ["clean", "smooth"], 1

    names = ("cellpose", "torch", "numba", "numpy")
    report: dict[str, Any] = {"machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"}
    for name in names:
        try:
            report[name] = version(name)
        except PackageNotFoundError:
            report[name] = None
    print(*(f"{key}: {value}" for key, value in report.items()), f"threads: {args.threads}", sep="; ")
    if not args.quick:
        report["compile_cold_s"], report["compile_cached_s"] = compile_seconds()
        print("import, compile and first call, wall and processor seconds:", report["compile_cold_s"])
        print("the same from the cache:", report["compile_cached_s"])
    warm_up = synthetic(128)
    decode(encode(warm_up), warm_up > 0)
    if other := cellpose_side(args.threads):
        other[0](encode(warm_up), warm_up > 0)
    report["rows"] = []
    for size in args.sizes:
        for kind in args.kinds:
            row = compare(size, kind, args.repeats, args.threads)
            report["rows"].append(row)
            print(", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
    if args.output:
        args.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
