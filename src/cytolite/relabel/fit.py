"""Train a classifier: equal classes, turned and restained crops, AdamW, the best epoch on validation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader, Dataset

from cytolite.classifier import softmax
from cytolite.config import RelabelSettings
from cytolite.relabel.calibration import equal_weights, fit_temperature
from cytolite.relabel.classifier import Classifier, as_input
from cytolite.relabel.samples import equalised, resampled
from cytolite.training.augment import jitter_stain, warp_matrix


def turn(crop: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Rotate by any angle and mirror at random; what comes in from outside is the crop, mirrored.

    Parameters
    ----------
    crop : numpy.ndarray
        uint8 (side, side, 3).
    rng : numpy.random.Generator
        Draws angle and mirror.
    """
    size = crop.shape[0]
    matrix = warp_matrix((size / 2, size / 2), 1.0, rng.uniform(0, 2 * np.pi), rng.random() < 0.5, size)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    turned: NDArray[np.uint8] = cv2.warpAffine(
        crop, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REFLECT_101
    )
    return turned


class AugmentedCrops(Dataset[tuple[torch.Tensor, int]]):
    """Training crops; item `i` of epoch `e` is a function of the seed, whichever process prepares it.

    Parameters
    ----------
    images : numpy.ndarray
        uint8 (n, side, side, 3), all crops.
    labels : numpy.ndarray
        int64 (m,), 0 to k - 1, of those that train.
    chosen : numpy.ndarray
        int (m,), where they are in `images`.
    settings : RelabelSettings
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        chosen: NDArray[np.intp],
        settings: RelabelSettings,
    ) -> None:
        self.images, self.labels, self.chosen, self.settings = images, labels, chosen, settings
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Draw the epoch's cells; those of "rarest" are the same in all epochs, in another order."""
        self.epoch, seed = epoch, self.settings.seed
        if self.settings.equalise == "none":
            self.order = np.arange(len(self.labels))
        elif self.settings.equalise == "resample":
            self.order = resampled(self.labels, np.random.default_rng([seed, epoch]))
        else:
            self.order = equalised(self.labels, np.random.default_rng(seed))

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        i = self.order[index]
        rng = np.random.default_rng([self.settings.seed, self.epoch, index])
        crop = turn(np.asarray(self.images[self.chosen[i]]), rng)
        if self.settings.stain_jitter:
            crop = jitter_stain(crop, rng, self.settings.stain_jitter)
        return torch.from_numpy(crop), int(self.labels[i])


@dataclass(frozen=True)
class Fitted:
    """What training gave.

    Attributes
    ----------
    classifier : Classifier
        The best epoch's, with its temperature.
    trained_on : int
        Crops an epoch, after equalising.
    history : list of dict
        A row an epoch: mean training loss, validation loss and accuracy, with every class weighing the same.
    """

    classifier: Classifier
    trained_on: int
    history: list[dict[str, float]]


def fit(
    classifier: Classifier,
    images: NDArray[np.uint8],
    training: tuple[NDArray[np.intp], NDArray[np.int64]],
    validation: tuple[NDArray[np.intp], NDArray[np.int64]],
    settings: RelabelSettings,
    *,
    update: Callable[[float, float], None] = lambda done, total: None,
) -> Fitted:
    """Train until validation gets no better, then fit the temperature on validation.

    Parameters
    ----------
    classifier : Classifier
        With a network of `classifier.build_network`, which is changed in place.
    images : numpy.ndarray
        uint8 (n, side, side, 3).
    training, validation : tuple of numpy.ndarray
        Indices into `images`, and labels 0 to k - 1.
    settings : RelabelSettings
    update : callable
        Called with the steps done and to do.
    """
    torch.manual_seed(settings.seed)
    network = classifier.network.to(settings.device)
    crops = AugmentedCrops(images, training[1], training[0], settings)
    # A last batch of one crop would break batch normalisation.
    whole = len(crops) > settings.batch
    loader = DataLoader(crops, settings.batch, shuffle=True, num_workers=settings.loaders, drop_last=whole)
    optimiser = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.epochs * len(loader))
    history: list[dict[str, float]] = []
    held_back, labels, weights = *validation, equal_weights(validation[1])
    best, best_state, waited = float("inf"), copy.deepcopy(network.state_dict()), 0
    for epoch in range(settings.epochs):
        crops.start_epoch(epoch)
        report = partial(_report, update, epoch, settings.epochs)
        training_loss = _epoch(network, loader, optimiser, schedule, settings.label_smoothing, report=report)
        probs = softmax(classifier.logits(images, settings.device, held_back))
        loss = float(-weights @ np.log(np.maximum(probs[np.arange(len(probs)), labels], 1e-12)))
        accuracy = float(weights @ (probs.argmax(1) == labels))
        history.append({"training_loss": training_loss, "validation_loss": loss, "validation_accuracy": accuracy})
        waited += 1
        if loss < best:
            best, best_state, waited = loss, copy.deepcopy(network.state_dict()), 0
        if waited >= settings.patience:
            break
    network.load_state_dict(best_state)
    temperature = fit_temperature(classifier.logits(images, settings.device, held_back), labels, weights)
    return Fitted(replace(classifier, network=network.cpu().eval(), temperature=temperature), len(crops), history)


def _report(update: Callable[[float, float], None], epoch: int, epochs: int, done: int, size: int) -> None:
    update(epoch * size + done, epochs * size)


def _epoch(
    network: nn.Module,
    loader: DataLoader[tuple[torch.Tensor, int]],
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    label_smoothing: float,
    *,
    report: Callable[[int, int], None],
) -> float:
    """Take one step a batch; return the mean loss."""
    loss_of = nn.CrossEntropyLoss(label_smoothing=label_smoothing)
    device = next(network.parameters()).device
    network.train()
    total, seen = 0.0, 0
    for step, (batch, labels) in enumerate(loader, start=1):
        optimiser.zero_grad(set_to_none=True)
        loss = loss_of(network(as_input(batch.to(device), network)), labels.to(device))
        loss.backward()
        optimiser.step()
        schedule.step()
        total, seen = total + loss.item() * len(labels), seen + len(labels)
        report(step, len(loader))
    return total / seen
