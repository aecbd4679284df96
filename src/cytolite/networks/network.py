"""Networks: encoder, decoder, flow head and cell-type head; image in, flows and type logits out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name

from cytolite.celltypes import N_TYPES
from cytolite.config import Decoder
from cytolite.errors import UsageError
from cytolite.networks.backbones import Backbone, Encoder, PyramidEncoder, TokenEncoder, copy_tensors
from cytolite.networks.dense import DenseDecoder, DenseEncoder
from cytolite.networks.encoders import encoder_spec
from cytolite.networks.light_decoder import LightDecoder
from cytolite.networks.unetr_decoder import UnetrDecoder
from cytolite.networks.weights import load_weights

# The sides of every image are multiples of this; an encoder that needs other multiples gets a padded image.
ALIGN_PX = 32


class NucleusNetwork(nn.Module):
    """What all networks share: an encoder that may be frozen, and maps in two steps.

    A frozen encoder stays in evaluation mode, whatever the rest is in, and runs without gradients: its weights and its
    batch norms' statistics never change.

    Attributes
    ----------
    stride : int
        Pixels of the image per pixel of the maps, along each side.
    tile_px, halo_px : int
        Tile that suits the network on a slide, and the margin around what is kept of it, in pixels of the maps.
    """

    stride = 1
    # A network that sees its whole input has no halo that is enough; this one is 32 um at 0.25 um/px, as wide as
    # three nuclei.
    tile_px, halo_px = 768, 128
    encoder: Backbone
    decoder: nn.Module
    flow_head: nn.Module
    type_head: nn.Module
    frozen = False

    def freeze(self) -> Self:
        """Keep the encoder as it is from now on."""
        self.frozen = True
        self.encoder.requires_grad_(False)
        self.encoder.eval()
        return self

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Predict.

        Parameters
        ----------
        image : torch.Tensor
            uint8 or float (B, 3, H, W), 0..255, RGB; H and W multiples of 32.

        Returns
        -------
        flows : torch.Tensor
            float (B, 2, H / stride, W / stride), (dy, dx), of unit length inside nuclei.
        type_logits : torch.Tensor
            float (B, types + 1, H / stride, W / stride); class 0 is background.
        """
        return self.decode(self.encode(image), image)

    def encode(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Return the encoder's maps of an image, padded as `decode` expects."""
        padded = self.padded(image)
        maps: list[torch.Tensor]
        if self.frozen:
            with torch.no_grad():
                maps = self.encoder(padded)
        else:
            maps = self.encoder(padded)
        return maps

    def decode(self, features: Sequence[torch.Tensor], image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return flows and type logits from the encoder's maps of `image`.

        Parameters
        ----------
        features : sequence of torch.Tensor
            What `encode` returns, float (B, C, h, w) each.
        image : torch.Tensor
            uint8 or float (B, 3, H, W), 0..255, RGB; not padded.
        """
        x = self.decoder(features)
        return self.flow_head(x), self.type_head(x)

    def padded(self, image: torch.Tensor) -> torch.Tensor:
        """Scale an image, and repeat its last row and column up to multiples of what the encoder needs."""
        scaled = self.encoder.normalise(image)
        if ALIGN_PX % self.encoder.multiple == 0:
            return scaled
        below, right = (-side % self.encoder.multiple for side in image.shape[2:])
        return F.pad(scaled, (0, right, 0, below), mode="replicate")


class Student(NucleusNetwork):
    """What the fast networks share: they are convolutions alone and answer at half the resolution that they see.

    A bundle of one can be started from, and its graph needs no arithmetic on sizes.
    """

    stride = 2


class CellNetwork(Student):
    """The light student.

    Parameters
    ----------
    encoder : str
        Row of `cytolite.networks.encoders.ENCODERS`, a CNN.
    weights : Path or None
        The encoder's ImageNet weights, or None to start from scratch.
    """

    # What lies 80 px of the maps away moves the log odds by less than 0.001, what lies 104 px away by nothing
    # measurable; tiles of 768 px take a quarter less memory than those of 1,024, and no more time.
    tile_px, halo_px = 768, 96
    widths: tuple[int, ...] = (24, 48, 80, 128)
    depth = 1

    def __init__(self, encoder: str, weights: Path | None = None, n_types: int = N_TYPES) -> None:
        super().__init__()
        self.encoder = Encoder(encoder, weights)
        self.decoder = LightDecoder(self.encoder.channels, self.widths, self.depth)
        self.flow_head = nn.Conv2d(self.decoder.width, 2, 1)
        self.type_head = nn.Conv2d(self.decoder.width, n_types + 1, 1)


class WideCellNetwork(CellNetwork):
    """The light student with a wider and deeper decoder, twice as many parameters and, in int8, its time in float32."""

    # Its encoder is deeper: what lies 96 px away moves the log odds by 0.005, what lies 112 px away by 0.0003.
    halo_px = 112
    widths = (32, 64, 128, 192)
    depth = 2


class ShuffleNetwork(Student):
    """The fast student: full kernels at strides 4 to 16, and the maps' pixels of stride 2 told apart by the heads."""

    # It sees 74 px of the maps around a pixel and nothing beyond: with this halo cells do not depend on the tiles.
    tile_px, halo_px = 1024, 80

    def __init__(self, encoder: str, weights: Path | None = None, n_types: int = N_TYPES) -> None:
        super().__init__()
        self.encoder = DenseEncoder(encoder_spec(encoder))
        self.decoder = DenseDecoder(self.encoder.channels)
        # The 2 x 2 pixels of the maps that one pixel of the heads' input stands for have channels of their own.
        self.flow_head = nn.Conv2d(self.decoder.width, 2 * 4, 1)
        self.type_head = nn.Conv2d(self.decoder.width, (n_types + 1) * 4, 1)

    def decode(self, features: Sequence[torch.Tensor], image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return flows and type logits, whose 2 x 2 pixels the heads give as channels.

        Parameters
        ----------
        features, image
            As of `NucleusNetwork.decode`.
        """
        flows, type_logits = super().decode(features, image)
        return F.pixel_shuffle(flows, 2), F.pixel_shuffle(type_logits, 2)


class UnetrNetwork(NucleusNetwork):
    """The paper's teacher on a vision transformer, or its baseline on a CNN; answers at the resolution that it sees."""

    def __init__(self, encoder: str, weights: Path | None = None, n_types: int = N_TYPES) -> None:
        super().__init__()
        kind = TokenEncoder if encoder_spec(encoder).patch_px else PyramidEncoder
        self.encoder = kind(encoder, weights)
        self.decoder = UnetrDecoder(self.encoder.channels, self.encoder.enlarge)
        self.flow_head = nn.Conv2d(self.decoder.width, 2, 1)
        self.type_head = nn.Conv2d(self.decoder.width, n_types + 1, 1)

    def decode(self, features: Sequence[torch.Tensor], image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return flows and type logits; the decoder sees the image too, and what was padded is cut off.

        Parameters
        ----------
        features, image
            As of `NucleusNetwork.decode`.
        """
        height, width = image.shape[2:]
        x = self.decoder(features, self.padded(image))[:, :, :height, :width]
        return self.flow_head(x), self.type_head(x)


class SmpEncoder(Backbone):
    """An encoder of segmentation_models_pytorch: it hands on the image too, which its decoders count as a level."""

    # A mobile ViT enlarges maps of odd sides, and those at stride 32 would be too large for the decoder.
    multiple = 64

    def __init__(self, name: str, body: nn.Module, weights: Path | None) -> None:
        spec = encoder_spec(name)
        super().__init__(spec)
        if weights is not None:
            whole = spec.build()
            load_weights(whole, weights)
            copy_tensors(whole, body.model)
        self.body = body
        self.channels = list(body.out_channels)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        maps: list[torch.Tensor] = self.body(image)
        return maps


class UnetPlusPlusNetwork(NucleusNetwork):
    """The paper's student: UNet++ on a mobile vision transformer; answers at the resolution that it sees.

    The paper gives a "UNet with residual connections", 24,093,393 parameters and 15,935 MB: of the decoders that were
    compared UNet++ on `mobilevitv2_150` is the one that has both within 1%.
    """

    def __init__(self, encoder: str, weights: Path | None = None, n_types: int = N_TYPES) -> None:
        from segmentation_models_pytorch import UnetPlusPlus

        super().__init__()
        if encoder_spec(encoder).patch_px:
            raise UsageError(f"The decoder 'unetpp' needs a CNN or a mobile ViT; {encoder} is for 'unetr'.")
        made = UnetPlusPlus(f"tu-{encoder_spec(encoder).timm_name}", encoder_weights=None, classes=n_types + 3)
        width = made.segmentation_head[0].in_channels
        self.encoder = SmpEncoder(encoder, made.encoder, weights)
        self.decoder = made.decoder
        self.flow_head = nn.Conv2d(width, 2, 3, padding=1)
        self.type_head = nn.Conv2d(width, n_types + 1, 3, padding=1)

    def decode(self, features: Sequence[torch.Tensor], image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return flows and type logits; what was padded is cut off.

        Parameters
        ----------
        features, image
            As of `NucleusNetwork.decode`.
        """
        height, width = image.shape[2:]
        x = self.decoder(features)[:, :, :height, :width]
        return self.flow_head(x), self.type_head(x)


NETWORKS: dict[Decoder, type[CellNetwork] | type[ShuffleNetwork] | type[UnetrNetwork] | type[UnetPlusPlusNetwork]] = {
    "light": CellNetwork,
    "wide": WideCellNetwork,
    "shuffle": ShuffleNetwork,
    "unetr": UnetrNetwork,
    "unetpp": UnetPlusPlusNetwork,
}


def build_network(
    encoder: str,
    decoder: Decoder | None = None,
    weights: Path | None = None,
    frozen: bool | None = None,
    *,
    n_types: int = N_TYPES,
) -> NucleusNetwork:
    """Return a network.

    Parameters
    ----------
    encoder : str
        Row of the encoder table, or an architecture of timm.
    decoder : {"light", "wide", "shuffle", "unetr", "unetpp"}, optional
        By default the row's.
    weights : Path or None
        The encoder's pretrained weights, or None to start from scratch.
    frozen : bool, optional
        Whether the encoder stays as it is; by default as the row says.
    n_types : int
        Types that it tells apart.

    Raises
    ------
    InputError
        If there is no such encoder, or it does not go with the decoder.
    """
    spec = encoder_spec(encoder)
    decoder = decoder or spec.decoder
    if (spec.name == "dense") != (decoder == "shuffle"):
        raise UsageError(
            f"The encoder 'dense' and the decoder 'shuffle' go together; {encoder!r} with {decoder!r} do not."
        )
    if issubclass(NETWORKS[decoder], CellNetwork) and spec.patch_px:
        raise UsageError(f"The decoder {decoder!r} needs a CNN; {encoder} is a vision transformer: use 'unetr'.")
    network = NETWORKS[decoder](encoder, weights, n_types)
    return network.freeze() if (spec.frozen if frozen is None else frozen) else network
