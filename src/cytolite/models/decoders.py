"""Light decoder: depthwise-separable blocks that climb from stride 32 to full resolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name


def conv_bn(inputs: int, outputs: int, kernel: int = 1, *, groups: int = 1, act: bool = True) -> nn.Sequential:
    """Convolution without bias, batch norm and, unless `act` is false, ReLU6 (which ONNX Runtime fuses)."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False),
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


class LightDecoder(nn.Module):
    """Top-down decoder over the five maps of an encoder, ending at full resolution.

    At each step the coarse map is narrowed, enlarged twofold and added to the narrowed skip connection: additions
    and depthwise kernels keep it a fraction of the encoder's cost. A stem of its own sees the image at full
    resolution, where thin gaps between nuclei are decided.

    Parameters
    ----------
    channels : sequence of int
        Channels of the encoder's maps, finest (stride 2) first.
    widths : sequence of int
        Channels of the decoder at strides 1, 2, 4, 8, 16, 32.
    """

    def __init__(self, channels: Sequence[int], widths: Sequence[int] = (24, 40, 64, 96, 128, 160)) -> None:
        super().__init__()
        self.stem = conv_bn(3, widths[0], 3, act=False)
        self.skips = nn.ModuleList(conv_bn(c, w, act=False) for c, w in zip(channels, widths[1:], strict=True))
        self.narrow = nn.ModuleList(conv_bn(widths[i + 1], widths[i], act=False) for i in range(len(widths) - 1))
        self.blocks = nn.ModuleList(SeparableBlock(w) for w in widths[1:])
        self.last = nn.Sequential(
            conv_bn(widths[0], widths[0], 3, groups=widths[0], act=False), conv_bn(widths[0], widths[0])
        )
        self.width = widths[0]

    def forward(self, image: torch.Tensor, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Map the scaled image (B, 3, H, W) and the encoder's maps to features (B, width, H, W)."""
        skips = [skip(f) for skip, f in zip(self.skips, features, strict=True)]
        x = self.blocks[-1](F.relu6(skips[-1]))
        for level in range(len(skips) - 2, -1, -1):
            x = F.interpolate(self.narrow[level + 1](x), scale_factor=2.0, mode="bilinear", align_corners=False)
            x = self.blocks[level](F.relu6(x + skips[level]))
        x = F.interpolate(self.narrow[0](x), scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.last(F.relu6(x + self.stem(image)))
