"""Encoders as modules: an image in, feature maps out, finest or shallowest first."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from cytolite.networks.encoders import EncoderSpec, encoder_spec
from cytolite.networks.weights import load_weights


class Backbone(nn.Module):
    """What all encoders share: their row of the table and the scaling of their input.

    Attributes
    ----------
    spec : EncoderSpec
    channels : list of int
        Of each map.
    multiple : int
        The sides of an image must be multiples of it.
    """

    channels: list[int]
    multiple: int

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1) * 255)

    def normalise(self, image: torch.Tensor) -> torch.Tensor:
        """Scale uint8 or float (B, 3, H, W) of 0..255 to what the weights expect."""
        return (image.float() - self.mean) / self.std


class Encoder(Backbone):
    """A timm CNN, cut after stride 16, that returns its feature maps at strides 2, 4, 8 and 16.

    Deeper layers would see further than a tile's halo reaches, and cells would come to depend on the tiles.

    Parameters
    ----------
    name : str
        Row of `ENCODERS`, or a CNN of timm.
    weights : Path or None
        ImageNet weights, or None to start from scratch.
    """

    multiple = 32

    def __init__(self, name: str, weights: Path | None = None) -> None:
        spec = encoder_spec(name)
        super().__init__(spec)
        self.body = staged(spec, weights, (0, 1, 2, 3))
        # timm keeps the stages that no output asks for; they would be computed in training and counted in the card.
        if spec.timm_name.startswith("tf_efficientnet_lite"):
            self.body.blocks = self.body.blocks[:5]
        self.channels: list[int] = self.body.feature_info.channels()

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Map an image, float (B, 3, H, W) scaled by `normalise`, to four feature maps, finest first."""
        maps: list[torch.Tensor] = self.body(image)
        return maps


class PyramidEncoder(Backbone):
    """A whole timm CNN: feature maps down to stride 32, each half the size of the one before, finest first."""

    multiple = 32

    def __init__(self, name: str, weights: Path | None = None) -> None:
        spec = encoder_spec(name)
        super().__init__(spec)
        self.body = staged(spec, weights, None)
        self.channels = self.body.feature_info.channels()
        # Doublings of each map before the decoder joins it: none, the CNN's maps have the decoder's sizes.
        self.enlarge = (0,) * len(self.channels)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        maps: list[torch.Tensor] = self.body(image)
        return maps


class TokenEncoder(Backbone):
    """A vision transformer whose tapped blocks give maps of one size, shallow to deep: (B, width, H / p, W / p).

    Class and register tokens are left out; the position embedding is resampled to the image's size. Blocks above the
    last tap are kept, as the paper counts them, and never run.
    """

    # Shallow taps are enlarged most: they become the fine maps of the decoder's pyramid (Hatamizadeh et al. 2022).
    enlarge = (3, 2, 1, 0)

    def __init__(self, name: str, weights: Path | None = None) -> None:
        spec = encoder_spec(name)
        super().__init__(spec)
        self.body = spec.build()
        if weights is not None:
            load_weights(self.body, weights)
        self.channels = [spec.width] * len(spec.taps)
        self.multiple = spec.patch_px

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        maps: list[torch.Tensor] = self.body.forward_intermediates(
            image, indices=list(self.spec.taps), intermediates_only=True, stop_early=True, output_fmt="NCHW"
        )
        return maps


def staged(spec: EncoderSpec, weights: Path | None, stages: tuple[int, ...] | None) -> nn.Module:
    """Return a timm CNN that gives the maps of some of its stages, or of all.

    Parameters
    ----------
    spec : EncoderSpec
        Row of a CNN.
    weights : pathlib.Path or None
        ImageNet weights of the whole network, or None to start from scratch.
    stages : tuple of int or None
        Stages whose maps are wanted, counted from 0; None for all.
    """
    body = spec.build(features_only=True, **({} if stages is None else {"out_indices": stages}))
    if weights is not None:
        whole = spec.build()
        load_weights(whole, weights)
        copy_tensors(whole, body)
    return body


def copy_tensors(source: nn.Module, target: nn.Module) -> None:
    """Copy weights and buffers into a part of the same architecture; timm joins "stages.0" to "stages_0" there.

    Parameters
    ----------
    source : nn.Module
        Whose tensors are taken.
    target : nn.Module
        Changed in place.
    """
    given = {name.replace("_", "."): tensor for name, tensor in source.state_dict().items()}
    target.load_state_dict({name: given[name.replace("_", ".")] for name in target.state_dict()})
