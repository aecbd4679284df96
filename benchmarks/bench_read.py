"""Reading speed: tiles of 1024 px with their halo, at a slide's own um/px and at twice that, against OpenSlide.

Speeds are in Mpx of the level that is read, halos not counted, so that pyramids and plain slides compare. Without a
slide a made one is read (JPEG, 256 px tiles). ``python benchmarks/bench_read.py [SLIDE] [--quick]``
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import openslide
import tifffile
from PIL import Image

from cytolite.slides.openslide_reader import open_openslide
from cytolite.slides.reader import Slide, open_slide
from cytolite.slides.resample import Axis, resample
from cytolite.slides.tiles import Tile, plan_tiles
from cytolite.slides.tissue import find_tissue


def made_slide(folder: Path, side: int) -> Path:
    """Write a noisy pink slide as a tiled JPEG TIFF."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(90, 240, (side // 16, side // 16, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))
    path = folder / "made.tif"
    tifffile.imwrite(
        path, image, tile=(256, 256), photometric="ycbcr", compression="jpeg", compressionargs={"level": 85},
        resolution=(40_000, 40_000), resolutionunit="CENTIMETER", metadata=None,
    )  # fmt: skip
    return path


def mpx_per_second(run: Callable[[], float], repeats: int) -> float:
    """Median over `repeats` runs of the Mpx that `run` says it read, per second."""
    speeds = []
    for _ in range(repeats):
        start = time.perf_counter()
        mpx = run()
        speeds.append(mpx / (time.perf_counter() - start))
    return statistics.median(speeds)


def read_tiles(open_it: Callable[[], Slide], tiles: list[Tile], factor: int, threads: int) -> float:
    """Read all tiles at `factor` times the slide's um/px; return the Mpx of their cores in the level that is read."""
    with open_it() as slide:

        def read(tile: Tile) -> None:
            slide.read(factor * tile.read[0], factor * tile.read[1], tile.width, tile.height, factor * slide.mpp)

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(read, tiles))
        ratio = factor / max(d[0] for d in slide.downsamples if d[0] <= factor)
    return sum(ratio**2 * (t.core[2] - t.core[0]) * (t.core[3] - t.core[1]) for t in tiles) / 1e6


def resample_once(source: np.ndarray, axis: Axis) -> float:
    """Resample along both axes; return the Mpx of `source`."""
    resample(source, axis, axis)
    return source.shape[0] * source.shape[1] / 1e6


def resampling(repeats: int, side: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    for name, ratio in (("factor 2", 2.0), ("factor 4", 4.0), ("by 1.98", 1.98), ("by 0.8 (enlarging)", 0.8)):
        count = int((side - 8) / ratio)
        axis = Axis(2, 0.0, count, ratio)
        first, last = axis.span
        source = image[: last - first, : last - first]
        resample(source, axis, axis)

        speed = mpx_per_second(partial(resample_once, source, axis), repeats)
        print(f"  resample {name:22s} {speed:8.0f} Mpx of source per s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slide", nargs="?", type=Path)
    parser.add_argument("--quick", action="store_true", help="small and once, to see that it works")
    arguments = parser.parse_args()
    repeats, side = (1, 1024) if arguments.quick else (5, 8192)
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}")
    resampling(repeats, min(side, 2048))
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.slide or made_slide(Path(folder), side)
        with open_slide(path, mpp=0.25) as slide:
            print(slide)
            plans = {factor: plan_tiles(*slide.size_at(factor * 0.25), min(1024, side // 4), 64) for factor in (1, 2)}

        def ours() -> Slide:
            return open_slide(path, mpp=0.25)

        def through_openslide() -> Slide:
            return Slide(path, open_openslide(path), 0.25)

        readers = {"cytolite": ours}
        if openslide.OpenSlide.detect_format(str(path)):
            readers["through OpenSlide"] = through_openslide
        for factor, threads in ((1, 1), (1, 2), (2, 1), (2, 2)):
            tiles = plans[factor]
            speeds = []
            for name, open_it in readers.items():
                read_tiles(open_it, tiles[:1], factor, 1)
                speeds.append(mpx_per_second(partial(read_tiles, open_it, tiles, factor, threads), repeats))
                print(f"  read by {factor}, {threads} thread(s), {name:18s} {speeds[-1]:8.1f} Mpx/s")
            print(f"  ratio {speeds[0] / speeds[-1]:.2f}")
        with open_slide(path, mpp=0.25) as slide:
            find_tissue(slide)
            start = time.perf_counter()
            find_tissue(slide)
            print(f"  tissue mask {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
