"""The fast student: full kernels only, most of its work at stride 4, and maps of stride 2 by pixel shuffle.

What a processor waits for is memory: wide maps at stride 2, which the light student writes and reads back several
times, cost it more than arithmetic does. Here the only map at stride 2 has 16 channels; widths are multiples of 16, the
blocks that runtimes lay channels out in; and full kernels are what int8 and bfloat16 speed up.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name

from cytolite.networks.backbones import Backbone
from cytolite.networks.encoders import EncoderSpec
from cytolite.networks.light_decoder import DenseBlock, conv_bn

STEM = 16
# Channels at strides 4, 8 and 16.
WIDTHS = (48, 64, 128)
# Residual blocks of two convolutions at each of these strides, on the way down and on the way up.
DOWN, UP = (0, 2, 2), (1, 1)


def patchify(inputs: int, outputs: int) -> nn.Sequential:
    """Make one pixel of each 2 x 2; no padding, so that what is before it may be folded into it.

    Parameters
    ----------
    inputs, outputs : int
        Channels before and after.
    """
    return nn.Sequential(nn.Conv2d(inputs, outputs, 2, 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True))


class DenseEncoder(Backbone):
    """Feature maps of an image at strides 4, 8 and 16, finest first.

    Parameters
    ----------
    spec : EncoderSpec
        How its input is scaled; there are no pretrained weights.
    """

    multiple = 32
    # The layer that `fold` changes, as it is called in a network.
    FIRST = "encoder.stem.0"

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__(spec)
        self.channels = list(WIDTHS)
        self.stem = patchify(3, STEM)
        self.widen = conv_bn(STEM, WIDTHS[0], 3, stride=2)
        self.down = nn.ModuleList(patchify(fine, coarse) for fine, coarse in pairwise(WIDTHS))
        self.blocks = nn.ModuleList(
            nn.Sequential(*(DenseBlock(width) for _ in range(depth))) for width, depth in zip(WIDTHS, DOWN, strict=True)
        )
        self.folded = False

    def normalise(self, image: torch.Tensor) -> torch.Tensor:
        """Scale uint8 or float (B, 3, H, W) of 0..255 to what the weights expect, unless they do so themselves."""
        return image.float() if self.folded else super().normalise(image)

    @torch.no_grad()
    def fold(self) -> None:
        """Let the first layer do the scaling of its input: it then takes 0..255, and two passes over it are saved."""
        convolution, norm = self.stem[0], self.stem[1]
        scaled = convolution.weight / self.std
        norm.running_mean += (scaled * self.mean).sum((1, 2, 3))
        convolution.weight.copy_(scaled)
        self.folded = True

    def unfolded(
        self, weight: NDArray[np.float32], bias: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return weight and bias of the first layer of a folded network as they are for an image that is scaled.

        Parameters
        ----------
        weight : numpy.ndarray
            float32 (16, 3, 2, 2), for an image of 0..255.
        bias : numpy.ndarray
            float32 (16,), for an image of 0..255.
        """
        mean, std = self.mean.cpu().numpy(), self.std.cpu().numpy()
        return weight * std, bias + (weight * mean).sum((1, 2, 3))

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Map an image, float (B, 3, H, W) scaled by `normalise`, to three feature maps, finest first."""
        x = self.widen(self.stem(image))
        features = [self.blocks[0](x)]
        for down, blocks in zip(self.down, self.blocks[1:], strict=True):
            features.append(blocks(down(features[-1])))
        return features


class DenseDecoder(nn.Module):
    """From the coarsest of the encoder's maps back up to the finest: narrowed, enlarged twofold, added, convolved."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.narrow = nn.ModuleList(conv_bn(coarse, fine, act=False) for fine, coarse in pairwise(channels))
        self.blocks = nn.ModuleList(
            nn.Sequential(*(DenseBlock(width) for _ in range(depth)))
            for width, depth in zip(channels, UP, strict=False)
        )
        self.width = channels[0]

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Map the encoder's maps, finest first, to features (B, width, H, W) of the size of the first."""
        x = features[-1]
        for level in range(len(features) - 2, -1, -1):
            x = F.interpolate(self.narrow[level](x), scale_factor=2.0, mode="bilinear", align_corners=False)
            x = self.blocks[level](F.relu6(x + features[level]))
        return x
