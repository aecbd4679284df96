"""A classifier of cell crops: any of timm's networks with its types, its temperature and its hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import nn

from cytolite.classifier import softmax
from cytolite.config import RelabelSettings
from cytolite.errors import InputError, UsageError, did_you_mean
from cytolite.files import whole_file, write_text
from cytolite.networks.encoders import ENCODERS
from cytolite.networks.weights import find_weights, load_weights

WEIGHTS_NAME, RECORD_NAME = "classifier.pt", "classifier.json"
PREDICT_BATCH = 256


@dataclass(frozen=True)
class Classifier:
    """A trained network and what is needed to use it.

    Attributes
    ----------
    network : torch.nn.Module
        Takes normalised crops, gives a logit a type.
    types : tuple of str
        In the order of the logits.
    temperature : float
        Divides the logits.
    """

    network: nn.Module
    types: tuple[str, ...]
    temperature: float = 1.0

    @property
    def sha256(self) -> str:
        """Hash of all that decides an answer: weights, types and temperature."""
        digest = hashlib.sha256(json.dumps([list(self.types), repr(self.temperature)]).encode())
        for name, tensor in self.network.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()

    def logits(
        self, crops: NDArray[np.uint8], device: str = "cpu", chosen: NDArray[np.intp] | None = None
    ) -> NDArray[np.float32]:
        """Classify uint8 (n, side, side, 3), or those `chosen` by index; float32 (m, k), before the temperature.

        Parameters
        ----------
        crops : numpy.ndarray
            uint8 (n, side, side, 3), RGB.
        device : str
            Of torch; the network moves there.
        chosen : numpy.ndarray, optional
            intp (m,), indices of crops in the order wanted; by default all.
        """
        chosen = np.arange(len(crops)) if chosen is None else chosen
        self.network.to(device).eval()
        parts = [np.empty((0, len(self.types)), np.float32)]
        with torch.no_grad():
            for start in range(0, len(chosen), PREDICT_BATCH):
                batch = torch.from_numpy(np.ascontiguousarray(crops[chosen[start : start + PREDICT_BATCH]]))
                parts.append(self.network(as_input(batch.to(device), self.network)).float().cpu().numpy())
        return np.concatenate(parts)

    def probs(self, crops: NDArray[np.uint8], device: str = "cpu") -> NDArray[np.float64]:
        """Calibrated probabilities, float64 (n, k): those of a world where the types are equally frequent.

        Parameters
        ----------
        crops : numpy.ndarray
            uint8 (n, side, side, 3), RGB.
        device : str
            Of torch; the network moves there.
        """
        return softmax(self.logits(crops, device), self.temperature)


def as_input(crops: torch.Tensor, network: nn.Module) -> torch.Tensor:
    """Scale uint8 (B, H, W, 3) to what the network's weights expect, float32 (B, 3, H, W).

    Parameters
    ----------
    crops : torch.Tensor
        uint8 (B, H, W, 3), RGB.
    network : torch.nn.Module
        One of timm's, which says by what mean and standard deviation its input is scaled.
    """
    scaling = network.pretrained_cfg
    mean, std = (torch.tensor(scaling[key], device=crops.device).view(1, 3, 1, 1) for key in ("mean", "std"))
    return ((crops.permute(0, 3, 1, 2).float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def find_pretrained(settings: RelabelSettings) -> Path | None:
    """Return the file of ImageNet weights to start from: the given one, or a package's; None to start from scratch."""
    if not settings.pretrained:
        return None
    if settings.weights is not None:
        if not settings.weights.is_file():
            raise UsageError(f"There is no file of weights {settings.weights}; leave it out to start from scratch.")
        return settings.weights
    for spec in ENCODERS.values():
        if spec.timm_name == settings.architecture and spec.weights_package:
            return find_weights(spec)
    return None


def build_network(settings: RelabelSettings, n_types: int, weights: Path | None) -> nn.Module:
    """Build the architecture for crops of `settings.crop_px`, with dropout before its last layer.

    Parameters
    ----------
    settings : RelabelSettings
        Its architecture, dropout and `crop_px` matter.
    n_types : int
        Logits that it gives.
    weights : pathlib.Path or None
        ImageNet weights, or None to start from scratch.

    Raises
    ------
    InputError
        If timm knows no such architecture, it does not take crops of this size, or the weights do not fit it.
    """
    name = settings.architecture
    if not timm.is_model(name):
        raise UsageError(
            f"There is no architecture {name!r}; names are those of timm, such as resnet50."
            f"{did_you_mean(name, timm.list_models())}"
        )
    network = timm.create_model(name, pretrained=False, drop_rate=settings.dropout)
    if weights is not None:
        load_weights(network, weights)
    network.reset_classifier(n_types)
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, settings.crop_px, settings.crop_px))
    except (AssertionError, RuntimeError, ValueError):
        raise InputError(
            f"{name} does not take crops of {settings.crop_px} px; choose another architecture or crop_px."
        ) from None
    return network.to(memory_format=torch.channels_last)


def save(classifier: Classifier, folder: Path, record: dict[str, Any]) -> None:
    """Write weights, then the record that says they are whole.

    Parameters
    ----------
    classifier : Classifier
        What is written.
    folder : pathlib.Path
        Made if it is not there.
    record : dict
        What else the record shall say, as JSON can hold it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / WEIGHTS_NAME) as file:
        torch.save(classifier.network.state_dict(), file)
    record = {"types": classifier.types, "temperature": classifier.temperature, "sha256": classifier.sha256, **record}
    write_text(folder / RECORD_NAME, json.dumps(record, indent=1) + "\n")


def read_saved(folder: Path) -> dict[str, Any]:
    """Return the record of a folder that `save` wrote; empty where there is none."""
    path = folder / RECORD_NAME
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def load(folder: Path, settings: RelabelSettings) -> Classifier:
    """Load what `save` wrote.

    Parameters
    ----------
    folder : pathlib.Path
        Given to `save`.
    settings : RelabelSettings
        Those that it was trained with: its architecture, dropout and `crop_px` matter.

    Raises
    ------
    InputError
        If the weights are not those that the record names.
    """
    record = read_saved(folder)
    network = build_network(settings, len(record["types"]), None)
    network.load_state_dict(torch.load(folder / WEIGHTS_NAME, map_location="cpu", weights_only=True))
    classifier = Classifier(network.eval(), tuple(record["types"]), record["temperature"])
    if classifier.sha256 != record["sha256"]:
        raise InputError(f"{folder / WEIGHTS_NAME} is not what its record says; remove {folder} to train anew.")
    return classifier
