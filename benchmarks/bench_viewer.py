"""How smoothly does the viewer show a million nuclei, and in how much memory: frames, times and peaks in Chromium.

    python benchmarks/bench_viewer.py --nuclei hgsc_nuclei_wsi.parquet

The file is GeoParquet of typed polygons in pixels, as the wheel `histolytics` carries it (592,349 nuclei); fetch it
alone (`pip download --no-deps histolytics`) and unzip it. It is laid twice, side by side. Without it, nuclei are strewn
by chance. There is no slide: its pixels are other programs' work. Needs playwright, and Chromium or Chrome.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from bench_spatial import read, table
from cytolite.cells import CellTable
from cytolite.interop.parquet import CellsWriter

SOFTWARE = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
MPP, GAP_PX = 0.5, 500
# Times of frames while something moves: the page draws in each, so that a gap is what a person sees.
RECORD = """() => { window.frames_ = []; let last = performance.now();
  const tick = (now) => { window.frames_.push(now - last); last = now; window.timer_ = requestAnimationFrame(tick); };
  window.timer_ = requestAnimationFrame(tick); }"""
STOP = "() => { cancelAnimationFrame(window.timer_); return window.frames_.slice(1); }"


def strewn(n: int) -> CellTable:
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, 90 * np.sqrt(n), (n, 2))
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    rings = xy[:, None] + 8 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    outlines = shapely.polygons(rings)
    return table(
        rings.reshape(-1, 2), np.arange(0, 12 * n + 1, 12), rng.integers(1, 8, n), shapely.area(outlines), outlines
    )


def twice(cells: CellTable) -> CellTable:
    shift = np.array([np.ptp(cells.vertices[:, 0]) + GAP_PX, 0])
    other = replace(cells, vertices=cells.vertices + shift, centroids=cells.centroids + shift)
    return CellTable.concatenate([cells, other])


def write_result(folder: Path, cells: CellTable) -> None:
    """Write what the viewer needs of a result."""
    folder.mkdir(parents=True)
    width, height = np.ceil(cells.vertices.max(axis=0)).astype(int).tolist()
    slide = {"path": str(folder / "none.svs"), "mpp": MPP, "width_px": width, "height_px": height}
    model = {"name": "none", "version": "1", "onnx_sha256": ""}
    about = {"slide": "none.svs", "mpp": MPP, "width_px": width, "height_px": height, "model": model, "regions": []}
    with CellsWriter(folder / "cells.parquet", list(cells.features), metadata=about) as writer:
        for start in range(0, len(cells), 50_000):
            writer.append(cells[start : start + 50_000])
    types = {name: {"count": n} for name, n in cells.counts().items()}
    total = {"cells": len(cells), "tissue_mm2": 1.0, "cells_per_mm2": float(len(cells)), "types": types}
    tissue = {"type": "Feature", "geometry": shapely.box(0, 0, width, height).__geo_interface__, "properties": {}}
    (folder / "tissue.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [tissue]}))
    (folder / "summary.json").write_text(json.dumps({"total": total}))
    (folder / "run.json").write_text(json.dumps({"slide": slide, "model": model}))


def memory_mb(pid: int) -> float:
    """Most resident memory that a process had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")


def renderers(pid: int) -> dict[str, float]:
    """Most memory of the browser's page and graphics processes, by kind."""
    found: dict[str, float] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            line = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if f"bench-{pid}" not in line:
                continue
            kind = next((k for k in ("renderer", "gpu-process") if f"--type={k}" in line), "")
            if kind:
                found[kind] = max(found.get(kind, 0), memory_mb(int(path.name)))
        except OSError:
            continue
    return found


def frames(page: Any, work: Any) -> dict[str, float]:
    page.evaluate(RECORD)
    work()
    times = np.array(page.evaluate(STOP))
    median, late = np.percentile(times, (50, 95)).tolist()
    return {"frames": len(times), "median_ms": median, "p95_ms": late, "slowest_ms": float(times.max())}


def settle(page: Any) -> None:
    page.wait_for_timeout(400)
    page.wait_for_selector("html[data-busy=false]", state="attached", timeout=60_000)
    page.wait_for_timeout(400)


def drag(page: Any, steps: int) -> None:
    page.mouse.move(700, 425)
    page.mouse.down()
    for i in range(steps):
        angle = 2 * np.pi * i / steps
        page.mouse.move(700 + 250 * np.sin(angle), 425 + 150 * (1 - np.cos(angle)))
        page.wait_for_timeout(8)
    page.mouse.up()


def zoom(page: Any, steps: int) -> None:
    for _ in range(steps):
        page.mouse.wheel(0, -60)
        page.wait_for_timeout(40)


def timed(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_browser(link: str, n_px: int, folder: Path) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    found: dict[str, Any] = {}
    profile = folder / f"bench-{os.getpid()}"
    with sync_playwright() as playwright:
        program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
        context = playwright.chromium.launch_persistent_context(
            str(profile), executable_path=program, args=SOFTWARE, viewport={"width": 1400, "height": 850}
        )
        page = context.pages[0]
        page.goto(link)
        home = page.url.partition("#")[0]

        def shown(rest: str = "") -> None:
            page.goto("about:blank")
            page.goto(f"{home}#/0{rest}")

        def first() -> None:
            shown()
            page.wait_for_selector("canvas.over")

        found["page_s"] = timed(first)
        found["all_nuclei_s"] = found["page_s"] + timed(lambda: settle(page)) - 0.8  # what `settle` only waits
        found["pan_far"] = frames(page, lambda: drag(page, n_px))
        found["zoom"] = frames(page, lambda: zoom(page, n_px // 3))
        found["pan_near"] = frames(page, lambda: drag(page, n_px))
        shown()
        settle(page)

        def colour() -> None:
            page.select_option("#measure", "area_um2")
            page.wait_for_selector(".ramp:visible")

        found["colour_by_area_s"] = timed(colour)

        def region() -> None:
            page.locator("canvas.over").focus()
            page.keyboard.press("w")
            page.wait_for_selector(".region td", timeout=60_000)

        found["count_all_in_a_region_s"] = timed(region)

        def suggestions() -> None:
            page.keyboard.press("n")
            page.wait_for_selector("text=1 of 50", timeout=60_000)

        found["fifty_suggestions_s"] = timed(suggestions)
        settle(page)
        found["label_s"] = timed(
            lambda: (page.keyboard.press("3"), page.wait_for_selector("text=Labels: 1 lymphocyte"))
        )
        found["memory_mb"] = renderers(os.getpid())
        context.close()
    return found


def main(nuclei: Path | None, quick: bool = False) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cells = twice(read(nuclei) if nuclei else strewn(500 if quick else 500_000))
        write_result(folder / "out" / "twice", cells)
        report: dict[str, Any] = {"nuclei": len(cells), "machine": platform.machine(), "cores": os.cpu_count()}
        del cells
        command = [sys.executable, "-m", "cytolite", "view", str(folder / "out"), "--no-browser"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            assert server.stdout is not None
            link = server.stdout.readline().split()[-1]
            report["load_average"] = os.getloadavg()[0]
            report |= in_browser(link, 12 if quick else 120, folder)
            report["memory_mb"]["server"] = memory_mb(server.pid)
        finally:
            server.terminate()
            server.wait(60)
    print(json.dumps(report, indent=1))
    return report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nuclei", type=Path, help="GeoParquet of typed polygons")
    parser.add_argument("--quick", action="store_true", help="see whether it runs")
    given = parser.parse_args()
    main(given.nuclei, given.quick)
