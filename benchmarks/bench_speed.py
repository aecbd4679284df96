"""How fast our networks and decoding are beside those of other programs, in turns, as ratios that hold elsewhere.

    python benchmarks/bench_speed.py [SLIDE] [--repeats 7] [--output results.json] [--quick]

Networks run on one thread; their processor seconds are those of a tile with its halo, over the area that is kept of it.
The peers' have random weights (`peer_networks.py`), which cost what trained ones do; what they do for each cell is not
counted. ``dense`` is our fast student with random weights. With SLIDE, our stages on it follow (`bench_segment`).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from cytolite import machine
from cytolite.bundle import embedded_names, load_bundle
from cytolite.decoding.cellpose import decode_like_cellpose as decode
from cytolite.inference.arithmetic import NATIVE_BF16, OpenVinoSession, is_int8
from cytolite.runtime import onnx_runtime

sys.path.insert(0, str(Path(__file__).parent))
import bench_decode
import bench_segment

PACKAGES = ("cytolite", "onnxruntime", "openvino", "torch", "numpy", "numba", "cellpose", "histomicstk")
# What the networks and their runtimes make use of, as Linux calls it.
INSTRUCTIONS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
)
HAS_BF16 = bool(NATIVE_BF16 & machine.instruction_sets()) and importlib.util.find_spec("openvino") is not None


@dataclass(frozen=True)
class Side:
    """One of those that are compared: a call, and the area in mm2 that it is for."""

    name: str
    call: Callable[[], Any]
    mm2: float
    note: str = ""


def here() -> dict[str, Any]:
    """Return what the numbers depend on."""
    caches = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        caches[f"L{level} {kind.lower()}"] = size
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "processor": machine.processor(),
        "cores": machine.cores(),
        "instructions": [name for name in INSTRUCTIONS if name in machine.instruction_sets()],
        "caches": caches,
        "system": platform.platform(),
        "load": bench_segment.os.getloadavg()[0],
        "versions": versions,
    }


def session(path: Path) -> Any:
    """Return a session of one thread, as `Predictor` makes it."""
    ort = onnx_runtime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def tile_of(*, tile_px: int, halo_px: int, stride: int, mpp: float, shrink: int) -> tuple[int, float]:
    """Return the side of a tile's image, and the mm2 kept of it; `shrink` makes both smaller, at the same share."""
    side = (tile_px + 2 * halo_px) // shrink // 16 * 16
    kept_px = side * tile_px / (tile_px + 2 * halo_px)
    return side * stride, (kept_px * mpp * stride / 1000) ** 2


def ours(name: str, path: Path, image: np.ndarray, mm2: float, halo: str) -> list[Side]:
    """Return one of our networks in ONNX Runtime and, if it is float32 and bf16 can be had, in OpenVINO."""
    feeds, outputs = {"image": image}, ["flows", "type_logits"]
    plain = session(path)
    sides = [Side(name, lambda: plain.run(outputs, feeds), mm2, halo)]
    if HAS_BF16 and b"QuantizeLinear" not in path.read_bytes():
        native = OpenVinoSession(str(path))
        sides.append(Side(f"{name}, bf16 in OpenVINO", lambda: native.run(outputs, feeds), mm2, halo))
    return sides


def networks(folder: Path, shrink: int, names: tuple[str, ...]) -> list[Side]:
    """Return our networks and, where PyTorch is installed to build them, the peers' and our fast student."""
    rng, sides = np.random.default_rng(0), []

    def image(side: int) -> np.ndarray:
        return rng.integers(0, 256, (1, side, side, 3), dtype=np.uint8)

    for name in names:
        bundle = load_bundle(name)
        spec = bundle.spec
        px, mm2 = tile_of(tile_px=spec.tile, halo_px=spec.halo, stride=spec.stride, mpp=spec.mpp, shrink=shrink)
        kind = "int8" if is_int8(bundle) else "float32"
        sides += ours(name, bundle.onnx_path, image(px), mm2, f"{spec.parameters:,} parameters, {kind}, {px} px")
    if importlib.util.find_spec("torch") is None:
        return sides
    import peer_networks
    from cytolite.networks.network import build_network
    from cytolite.release.onnx_export import export_onnx

    network = build_network("dense").eval()
    px, mm2 = tile_of(tile_px=network.tile_px, halo_px=network.halo_px, stride=network.stride, mpp=0.25, shrink=shrink)
    path = folder / "dense.onnx"
    export_onnx(network, path, [image(64)])
    n = sum(p.numel() for p in network.parameters())
    sides += ours("dense", path, image(px), mm2, f"{n:,} parameters, random, {px} px")
    for name, made in peer_networks.PEERS.items():
        path = folder / f"{name}.onnx"
        n = peer_networks.export(name, path)
        px, mm2 = tile_of(tile_px=made.tile_px, halo_px=made.halo_px, stride=1, mpp=peer_networks.MPP, shrink=shrink)
        run, scaled = session(path), image(px).astype(np.float32) / 255
        call = lambda run=run, scaled=scaled: run.run(None, {"image": scaled})  # noqa: E731 - one of a list
        sides.append(Side(f"{name}'s architecture", call, mm2, f"{n:,} parameters, random, {px} px"))
    return sides


def decoders(size: int) -> list[Side]:
    """Return our decoding and cellpose's of the same smooth maps, at 0.5 um per pixel."""
    flows, foreground = bench_decode.maps(bench_decode.synthetic(size), "smooth")
    mm2, note = (size * 0.5 / 1000) ** 2, f"{size} px, one thread"
    sides = [Side("decode", lambda: decode(flows, foreground), mm2, note)]
    if other := bench_decode.cellpose_side(1):
        sides.append(Side("cellpose's post-processing", lambda: other[0](flows, foreground), mm2, note))
    return sides


def classical(size: int) -> list[Side]:
    """Return HistomicsTK's segmentation of a tile, if it is installed, as its examples call it."""
    if importlib.util.find_spec("histomicstk") is None:
        return []
    from histomicstk.segmentation.nuclear import detect_nuclei_kofahi

    labels = bench_decode.synthetic(size)
    stain = np.where(labels > 0, 90.0, 220.0) + np.random.default_rng(0).normal(0, 8, labels.shape)
    call = lambda: detect_nuclei_kofahi(stain, np.ones_like(labels, bool), 160, 4, 8, 10, 20)  # noqa: E731
    return [Side("HistomicsTK, Kofahi", call, (size * 0.5 / 1000) ** 2, f"{size} px")]


def in_turns(sides: list[Side], repeats: int) -> list[list[float]]:
    """Return the processor seconds per mm2 of each side, round by round, after one round that is not counted."""
    seconds: list[list[float]] = [[] for _ in sides]
    for number in range(repeats + 1):
        for side, kept in zip(sides, seconds, strict=True):
            start = time.process_time()
            side.call()
            if number:
                kept.append((time.process_time() - start) / side.mm2)
    return seconds


def compare(title: str, sides: list[Side], repeats: int, reference: str) -> list[dict[str, Any]]:
    """Measure the sides and print them beside the one called `reference`."""
    seconds = in_turns(sides, repeats)
    names = [side.name for side in sides]
    base = seconds[names.index(reference) if reference in names else 0]
    print(f"{title}: core-seconds per mm2, least and median of {repeats}; ratio to {reference}, median of rounds")
    rows = []
    for side, found in zip(sides, seconds, strict=True):
        ratio = statistics.median(a / b for a, b in zip(found, base, strict=True))
        row = {"name": side.name, "note": side.note, "least": min(found), "median": statistics.median(found)}
        rows.append(row | {"ratio": ratio, "ratio_of_least": min(found) / min(base)})
        print(f"  {side.name:40}{min(found):8.2f}{row['median']:8.2f}{ratio:8.2f}   {side.note}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", type=Path, nargs="?", help="our stages on it, too")
    parser.add_argument("--mpp", type=float, help="of the slide, if it does not say")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="small images, once: only to see that it works")
    parser.add_argument("--output", type=Path, help="write the numbers to this JSON file")
    args = parser.parse_args()
    shrink, size, repeats = (8, 128, 1) if args.quick else (1, 1024, args.repeats)
    names = ("nuclei-light",) if args.quick else tuple(sorted(embedded_names()))
    report: dict[str, Any] = {"machine": here(), "repeats": repeats}
    print(*(f"{key}: {value}" for key, value in report["machine"].items()), sep="\n")
    with tempfile.TemporaryDirectory() as folder:
        sides = networks(Path(folder), shrink, names)
        report["networks"] = compare("Networks", sides, repeats, "stardist's architecture")
    report["decoding"] = compare("Decoding", decoders(size), repeats, "decode")
    if tiles := classical(size):
        report["classical"] = compare("Classical", tiles, repeats, tiles[0].name)
    if args.slide:
        from cytolite.config import SegmentSettings
        from cytolite.segmentation.opening import open_as_set

        settings = SegmentSettings(mpp=args.mpp, workers=1, overwrite=True, precision="float32")
        with open_as_set(args.slide, settings) as slide:
            bench_segment.measure(slide, load_bundle(), settings, repeats)
    if args.output:
        args.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
