"""Settings of a training run."""

from __future__ import annotations

from pydantic import Field

from cytolite.config import Settings

# Share of crops drawn from each source: outlines are best in CoNSeP and MoNuSeg, types in PanNuke and MoNuSAC.
SOURCE_SHARES = {"consep": 0.38, "pannuke": 0.26, "monuseg": 0.18, "monusac": 0.12, "puma": 0.06}


class TrainSettings(Settings):
    """What determines a trained network, beside the store."""

    encoder: str = Field("efficientnet_lite0", description="Row of the encoder table.")
    pretrained: bool = Field(True, description="Start the encoder from ImageNet weights.")
    mpp: float = Field(0.5, description="Resolution the network works at, um per pixel.")
    crop_px: int = Field(128, description="Side of a training crop, a multiple of 32.")
    batch: int = Field(32, description="Crops per step.")
    steps_per_epoch: int = Field(250, description="An epoch ends with a validation and a checkpoint.")
    epochs: int = Field(20)
    learning_rate: float = Field(2e-3)
    encoder_rate: float = Field(0.3, description="Learning rate of the encoder, as a share of the rest's.")
    weight_decay: float = Field(0.02)
    warmup_steps: int = Field(100)
    ema_decay: float = Field(0.998, description="Of the averaged weights that are validated and exported.")
    flow_weight: float = Field(2.0)
    nucleus_weight: float = Field(1.0)
    type_weight: float = Field(0.7)
    balanced_share: float = Field(0.25, description="Share of crops centred on a nucleus of a type drawn uniformly.")
    source_shares: dict[str, float] = Field(default_factory=lambda: dict(SOURCE_SHARES))
    held_back: float = Field(0.2, description="Share of each source's groups that validate.")
    seed: int = Field(0)
    threads: int = Field(2, description="CPU threads of torch.")
    loaders: int = Field(1, description="Processes that prepare crops.")
