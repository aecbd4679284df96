"""UNETR-like decoder, of the paper's teacher and its ResNet-50 baseline: from any encoder up to full resolution."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name

# Channels of the decoder, finest level first: with these the H-optimus-0 teacher has the paper's number of parameters.
WIDTHS = (128, 256, 512, 512, 512)
IMAGE_WIDTH = 32


def conv_block(inputs: int, outputs: int, convolutions: int = 2) -> nn.Sequential:
    """3x3 convolutions, each with batch norm and ReLU.

    Parameters
    ----------
    inputs, outputs : int
        Channels before and after.
    convolutions : int
        How many; the first goes from `inputs` to `outputs`.
    """
    layers: list[nn.Module] = []
    for n in range(convolutions):
        conv = nn.Conv2d(inputs if n == 0 else outputs, outputs, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def enlarge(inputs: int, outputs: int, doublings: int) -> nn.Sequential:
    """Enlarge a tap by transposed convolutions, narrowing it on the way; without a doubling a 1x1 convolution.

    Parameters
    ----------
    inputs, outputs : int
        Channels before and after.
    doublings : int
        How often height and width are doubled.
    """
    if doublings == 0:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
    layers: list[nn.Module] = []
    width = inputs
    for left in range(doublings - 1, -1, -1):
        narrower = outputs * 2**left
        layers += [
            nn.ConvTranspose2d(width, narrower, 2, 2, bias=False), nn.BatchNorm2d(narrower), nn.ReLU(inplace=True),
        ]  # fmt: skip
        width = narrower
    return nn.Sequential(*layers)


class UnetrDecoder(nn.Module):
    """From taps and the image itself to features at the image's resolution (after Hatamizadeh et al. 2022, UNETR).

    Parameters
    ----------
    channels : sequence of int
        Of the encoder's maps, finest (or shallowest) first.
    doublings : sequence of int
        How often each map is doubled to become a level of the pyramid, in which each level is half as wide as the one
        before.
    """

    def __init__(self, channels: Sequence[int], doublings: Sequence[int]) -> None:
        super().__init__()
        widths = WIDTHS[: len(channels)]
        self.taps = nn.ModuleList(enlarge(c, w, n) for c, w, n in zip(channels, widths, doublings, strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, 2) for fine, coarse in pairwise(widths))
        self.blocks = nn.ModuleList(conv_block(2 * width, width) for width in widths[:-1])
        self.image = conv_block(3, IMAGE_WIDTH, 1)
        self.last = conv_block(widths[0] + IMAGE_WIDTH, IMAGE_WIDTH)
        self.width = IMAGE_WIDTH

    def forward(self, features: Sequence[torch.Tensor], image: torch.Tensor) -> torch.Tensor:
        """Map the encoder's maps and the scaled image (B, 3, H, W) to features (B, width, H, W).

        Parameters
        ----------
        features : sequence of torch.Tensor
            float (B, C, h, w) each, finest (or shallowest) first.
        image : torch.Tensor
            float (B, 3, H, W), as the encoder saw it: scaled and padded.
        """
        levels = [tap(feature) for tap, feature in zip(self.taps, features, strict=True)]
        x = levels[-1]
        for level in range(len(levels) - 2, -1, -1):
            x = self.blocks[level](torch.cat([self.up[level](x), levels[level]], 1))
        x = F.interpolate(x, size=image.shape[2:], mode="bilinear", align_corners=False)
        return self.last(torch.cat([x, self.image(image)], 1))
