"""Light decoder: from the encoder's coarsest maps back up to those of its first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name


def conv_bn(
    inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, groups: int = 1, act: bool = True
) -> nn.Sequential:
    """Convolution without bias, batch norm and, unless `act` is false, ReLU6 (which ONNX Runtime fuses).

    Parameters
    ----------
    inputs, outputs : int
        Channels before and after.
    kernel : int
        Side of the kernel, px; odd, so that padding by half of it keeps the size.
    stride : int
        px.
    groups : int
        Of the channels; as many as `inputs` make it depthwise.
    act : bool
        Whether ReLU6 follows.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, nn.ReLU6(inplace=True)) if act else nn.Sequential(*layers)


class SeparableBlock(nn.Module):
    """Two depthwise-separable convolutions with a residual connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv_bn(channels, channels, 3, groups=channels, act=False),
            conv_bn(channels, channels),
            conv_bn(channels, channels, 3, groups=channels, act=False),
            conv_bn(channels, channels, act=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu6(x + self.layers(x))


class DenseBlock(nn.Module):
    """Two full 3x3 convolutions with a residual connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(conv_bn(channels, channels, 3), conv_bn(channels, channels, 3, act=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu6(x + self.layers(x))


def _dense(channels: int, depth: int) -> nn.Module:
    """One block, whose weights have the names that older checkpoints give them, or several in a row."""
    return DenseBlock(channels) if depth == 1 else nn.Sequential(*(DenseBlock(channels) for _ in range(depth)))


class LightDecoder(nn.Module):
    """Top-down decoder over the maps of an encoder, ending at the finest of them.

    At each step the coarse map is narrowed, enlarged twofold and added to the narrowed skip connection. Kernels are
    full where nuclei are told apart, at strides 4 and 8 (a nucleus is some 8 pixels wide there); at the finest level,
    which costs most, there is one convolution, and at the coarsest, where channels are many, they are separable.

    Parameters
    ----------
    channels : sequence of int
        Channels of the encoder's maps, finest first, each of half the size of the one before.
    widths : sequence of int
        Channels of the decoder at the same levels.
    depth : int
        Residual blocks of full kernels at each of strides 4 and 8.
    """

    def __init__(self, channels: Sequence[int], widths: Sequence[int] = (24, 48, 80, 128), depth: int = 1) -> None:
        super().__init__()
        self.skips = nn.ModuleList(conv_bn(c, w, act=False) for c, w in zip(channels, widths, strict=True))
        self.narrow = nn.ModuleList(conv_bn(coarse, fine, act=False) for fine, coarse in pairwise(widths))
        finest, *middle, coarsest = widths
        self.blocks = nn.ModuleList(
            [conv_bn(finest, finest, 3), *(_dense(width, depth) for width in middle), SeparableBlock(coarsest)]
        )
        self.width = widths[0]

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Map the encoder's maps, finest first, to features (B, width, H, W) of the size of the first."""
        x = self.blocks[-1](F.relu6(self.skips[-1](features[-1])))
        for level in range(len(features) - 2, -1, -1):
            x = F.interpolate(self.narrow[level](x), scale_factor=2.0, mode="bilinear", align_corners=False)
            x = self.blocks[level](F.relu6(x + self.skips[level](features[level])))
        return x
