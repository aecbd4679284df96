"""Networks of other programs, built from their published configuration, with random weights: for timing alone."""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name

# Published numbers of parameters; `export` holds the networks to them.
PARAMETERS = {"stardist": 1_425_761, "instanseg": 3_800_000}
MPP = 0.5


def conv(inputs: int, outputs: int, kernel: int = 3, norm: bool = False) -> nn.Sequential:
    """Convolution, batch norm if asked for, ReLU."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)]
    return nn.Sequential(*layers, *([nn.BatchNorm2d(outputs)] if norm else []), nn.ReLU())


def pair(inputs: int, middle: int, outputs: int) -> nn.Sequential:
    """Two convolutions of 3 x 3."""
    return nn.Sequential(conv(inputs, middle), conv(middle, outputs))


class StarDist(nn.Module):
    """StarDist's H&E model: grid 2, U-Net of depth 3 from 32 channels, 128 features, 32 rays (Schmidt et al. 2018)."""

    # What it sees around a pixel, and a tile of its input.
    halo_px, tile_px = 96, 1024

    def __init__(self) -> None:
        super().__init__()
        self.before = pair(3, 32, 32)
        self.down = nn.ModuleList([pair(32, 32, 32), pair(32, 64, 64), pair(64, 128, 128)])
        self.middle = pair(128, 256, 128)
        self.up = nn.ModuleList([pair(64, 32, 32), pair(128, 64, 32), pair(256, 128, 64)])
        self.features = conv(32, 128)
        self.probability, self.distances = nn.Conv2d(128, 1, 1), nn.Conv2d(128, 32, 1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map float (B, H, W, 3) to probabilities and distances at half the size."""
        x = F.max_pool2d(self.before(image.permute(0, 3, 1, 2)), 2)
        skips = []
        for block in self.down:
            skips.append(block(x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.middle(x)
        for block, skip in zip(reversed(self.up), reversed(skips), strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0), skip], 1))
        x = self.features(x)
        return torch.sigmoid(self.probability(x)), self.distances(x)


class Residual(nn.Module):
    """A level of InstanSeg's U-Net: four convolutions with two residual connections; a decoder's takes a skip."""

    def __init__(self, inputs: int, outputs: int, skip: int = 0) -> None:
        super().__init__()
        self.project, self.first = conv(inputs, outputs, 1, True), conv(inputs, outputs, 3, True)
        self.skip = conv(skip, outputs, 1, True) if skip else None
        self.second, self.third, self.fourth = (conv(outputs, outputs, 3, True) for _ in range(3))

    def forward(self, x: torch.Tensor, skip: torch.Tensor | None = None) -> torch.Tensor:
        y = self.first(x)
        y = y if self.skip is None else y + self.skip(skip)
        y = self.project(x) + self.second(y)
        return y + self.fourth(self.third(y))


class InstanSeg(nn.Module):
    """InstanSeg's brightfield U-Net of 32 to 256 channels, but not what it does for each cell (Goldsborough 2024)."""

    halo_px, tile_px = 96, 1024

    def __init__(self) -> None:
        super().__init__()
        widths = (32, 64, 128, 256)
        self.down = nn.ModuleList(Residual(a, b) for a, b in zip((3, *widths), widths, strict=False))
        self.up = nn.ModuleList(Residual(b, a, a) for a, b in itertools.pairwise(widths))
        self.last = nn.ModuleList(conv(32, n, 1, True)[:2] for n in (2, 2, 1))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map float (B, H, W, 3) to coordinates with spreads, and seeds, of the same size."""
        x, skips = image.permute(0, 3, 1, 2), []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for block, skip in zip(reversed(self.up), reversed(skips[:-1]), strict=True):
            x = block(F.interpolate(x, scale_factor=2.0), skip)
        return torch.cat([self.last[0](x), self.last[1](x)], 1), self.last[2](x)


PEERS: dict[str, type[StarDist | InstanSeg]] = {"stardist": StarDist, "instanseg": InstanSeg}


def export(name: str, path: Path) -> int:
    """Write a peer's network as ONNX and return its number of parameters, which must be the published one."""
    torch.manual_seed(0)
    network = PEERS[name]().eval()
    n = sum(p.numel() for p in network.parameters())
    assert abs(n / PARAMETERS[name] - 1) < 0.02, n
    torch.onnx.export(
        network, (torch.zeros(1, 64, 64, 3),), str(path), input_names=["image"], output_names=["a", "b"], dynamo=False,
        opset_version=17, dynamic_axes={"image": {0: "batch", 1: "height", 2: "width"}},
    )  # fmt: skip
    return n
