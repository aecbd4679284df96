"""The network: encoder, decoder, flow head and cell-type head."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from cytolite.celltypes import N_TYPES
from cytolite.models.decoders import LightDecoder
from cytolite.models.encoders import Encoder

# Pixels of the image per pixel of the maps, along each side.
STRIDE = 2


class CellNetwork(nn.Module):
    """Image in, flows and type logits at half its resolution out.

    Parameters
    ----------
    encoder : str
        Row of `cytolite.models.encoders.ENCODERS`.
    weights : Path or None
        The encoder's ImageNet weights, or None to start from scratch.
    """

    def __init__(self, encoder: str, weights: Path | None = None) -> None:
        super().__init__()
        self.encoder = Encoder(encoder, weights)
        self.decoder = LightDecoder(self.encoder.channels)
        self.flow_head = nn.Conv2d(self.decoder.width, 2, 1)
        self.type_head = nn.Conv2d(self.decoder.width, N_TYPES + 1, 1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Predict.

        Parameters
        ----------
        image : torch.Tensor
            uint8 or float (B, 3, H, W), 0..255, RGB; H and W multiples of 32.

        Returns
        -------
        flows : torch.Tensor
            float32 (B, 2, H / 2, W / 2), (dy, dx), of unit length inside nuclei.
        type_logits : torch.Tensor
            float32 (B, 8, H / 2, W / 2); class 0 is background.
        """
        features = self.decoder(self.encoder(self.encoder.normalise(image)))
        return self.flow_head(features), self.type_head(features)
