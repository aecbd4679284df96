"""Table 4 of the paper for our networks: parameters, size on disk, estimated memory at batch 32.

    python benchmarks/bench_models.py [--quick] [--output results.json]

Nothing is run: networks are built on the meta device and sizes are added up. The paper's "Estimated Total Size" is
taken for that of `torchinfo`: the input, twice the outputs of all layers that have parameters (forward and backward)
and the parameters, float32.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from cytolite.networks.network import build_network

BATCH = 32
# Encoder, side of its images in px, the paper's parameters and estimated total size in MB.
ROWS: list[tuple[str, int, int | None, int | None]] = [
    ("h_optimus_0", 224, 1_158_917_906, 87_912),
    ("h_optimus_0", 256, 1_158_917_906, 87_912),
    ("mobilevitv2_150", 256, 24_093_393, 15_935),
    ("resnet50", 256, None, None),
    ("efficientnet_lite0", 256, None, None),
]


def sizes(encoder: str, side: int) -> dict[str, Any]:
    """Add up a network's sizes at a batch of 32."""
    with torch.device("meta"):
        network = build_network(encoder).eval()
        image = torch.empty(BATCH, 3, side, side)
    values = 0

    def count(module: torch.nn.Module, inputs: object, output: object) -> None:
        nonlocal values
        values += output.numel() if isinstance(output, torch.Tensor) else 0

    for module in network.modules():
        if not list(module.children()) and list(module.parameters()):
            module.register_forward_hook(count)
    network(image)
    parameters = sum(p.numel() for p in network.parameters())
    stored = sum(t.numel() * t.element_size() for t in network.state_dict().values())
    total = 4 * (image.numel() + 2 * values + parameters)
    return {
        "encoder": encoder,
        "side_px": side,
        "parameters": parameters,
        "on_disk_mb": stored / 1e6,
        "estimated_total_mb": total / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    found = []
    for encoder, side, paper_parameters, paper_mb in ROWS[-1:] if args.quick else ROWS:
        row = sizes(encoder, side)
        found.append(row)
        text = f"{encoder} at {side} px: {row['parameters']:,} parameters, {row['on_disk_mb']:,.1f} MB on disk"
        text += f", {row['estimated_total_mb']:,.1f} MB estimated at batch {BATCH}"
        if paper_parameters and paper_mb:
            text += f"; paper: {paper_parameters:,} ({row['parameters'] / paper_parameters - 1:+.2%}), {paper_mb:,} MB"
        print(text, flush=True)
    if args.output:
        args.output.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
