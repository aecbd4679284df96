"""What a frozen encoder's cached maps save: a training step of the decoder with and without running the encoder.

    python benchmarks/bench_cache.py [--quick] [--repeats 5] [--output results.json]

Both sides run in turns in one process, on crops of noise (the time does not depend on what they show). Seconds are of
the processor, so that other work on the machine counts little. For encoders too big to run here the floating-point
operations of a step are counted on the meta device instead.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from cytolite.networks.network import NucleusNetwork, build_network
from cytolite.training.cache import CropCache

SIDE_PX = 224


def step(network: NucleusNetwork, features: list[torch.Tensor], image: torch.Tensor) -> None:
    """Forward and backward through the decoder."""
    flows, logits = network.decode(features, image)
    (flows.square().mean() + logits.square().mean()).backward()


def timed(work: Callable[[], None], repeats: int) -> float:
    """Return the median of processor seconds."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)


def compare(encoder: str, batch: int, repeats: int) -> dict[str, Any]:
    """Time a step with the encoder, with its maps from disk, and what filling the cache costs."""
    torch.manual_seed(0)
    network = build_network(encoder, "unetr", frozen=True).train()
    images = torch.randint(0, 256, (batch, 3, SIDE_PX, SIDE_PX), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder:
        cache = CropCache(Path(folder), {"encoder": encoder}, batch)
        start = time.process_time()
        cache.fill(
            lambda n: {"image": images[n]},
            lambda taken: {f"maps_{i}": m for i, m in enumerate(network.encode(taken["image"]))},
            batch,
            0,
        )
        fill = time.process_time() - start

        def cached() -> None:
            crops = [cache.read(n) for n in range(batch)]
            step(network, [torch.stack([crop[name] for crop in crops]) for name in sorted(crops[0])], images)

        def plain() -> None:
            step(network, network.encode(images), images)

        cached(), plain()
        pairs = [(timed(plain, 1), timed(cached, 1)) for _ in range(repeats)]
        size = cache.size_bytes / batch
    with_encoder, without = (statistics.median(side) for side in zip(*pairs, strict=True))
    return {
        "encoder": encoder,
        "step_s": with_encoder,
        "cached_step_s": without,
        "gain": statistics.median(a / b for a, b in pairs),
        "fill_s_per_crop": fill / batch,
        "mb_per_crop": size / 1e6,
    }


def operations(encoder: str) -> dict[str, Any]:
    """Count the operations of a step, one crop, on the meta device."""
    with torch.device("meta"):
        network = build_network(encoder, "unetr", frozen=True).train()
        image = torch.empty(1, 3, SIDE_PX, SIDE_PX)
    with FlopCounterMode(display=False) as encoding:
        features = network.encode(image)
    with FlopCounterMode(display=False) as decoding:
        step(network, features, image)
    counts = [counter.get_total_flops() / 1e9 for counter in (encoding, decoding)]
    size = sum(f.numel() for f in features) * 2 / 1e6
    return {
        "encoder": encoder,
        "encoder_gflop": counts[0],
        "decoder_gflop": counts[1],
        "gain": sum(counts) / counts[1],
        "mb_per_crop": size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    run, counted, batch = ["efficientnet_lite2", "vit_tiny_patch16_224", "vit_base_patch16_224"], ["h_optimus_0"], 2
    if args.quick:
        run, counted, batch, args.repeats = ["vit_tiny_patch16_224"], ["vit_tiny_patch16_224"], 1, 1
    torch.set_num_threads(1)
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; torch {torch.__version__}")
    rows = []
    work = [
        *(partial(compare, name, batch, args.repeats) for name in run),
        *(partial(operations, name) for name in counted),
    ]
    for part in work:
        row = part()
        rows.append(row)
        print(", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
    if args.output:
        args.output.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
