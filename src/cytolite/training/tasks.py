"""SupervisedTask: the network, its losses, its optimiser and its running average, as Lightning trains them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import lightning
import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from cytolite.config import TrainSettings
from cytolite.evaluation.bootstrap import headline
from cytolite.models.network import CellNetwork
from cytolite.patches import Patch
from cytolite.training.losses import allowed_table, flow_loss, nucleus_loss, type_loss
from cytolite.training.validate import score_network


class SupervisedTask(lightning.LightningModule):
    """Learn flows, nuclei and types from patches.

    Parameters
    ----------
    network : CellNetwork
        Trained in place; its exponential moving average is what is validated and exported.
    settings : TrainSettings
        Rates and weights.
    class_weights : torch.Tensor
        float (7,), of the types in the type loss.
    validation : sequence of Patch
        Whole held-back images.
    """

    def __init__(
        self, network: CellNetwork, settings: TrainSettings, class_weights: torch.Tensor, validation: Sequence[Patch]
    ) -> None:
        super().__init__()
        self.network = network
        self.average = AveragedModel(network, avg_fn=moving_average(settings.ema_decay), use_buffers=True)
        self.settings = settings
        self.validation = validation
        allowed = allowed_table()
        self.register_buffer("allowed", allowed, persistent=False)
        # A coarse label weighs as the mean of its types.
        label_weights = (allowed * class_weights).sum(1) / allowed.sum(1).clamp_min(1)
        self.register_buffer("label_weights", label_weights, persistent=False)

    def training_step(self, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
        flows, type_logits = self.network(batch["image"].contiguous(memory_format=torch.channels_last))
        labels = batch["labels"].long()
        parts = {
            "flow": flow_loss(flows, batch["flows"], batch["flow_weight"]),
            "nucleus": nucleus_loss(type_logits, batch["nucleus"], batch["nucleus_weight"]),
            "type": type_loss(type_logits, labels, self.allowed, batch["type_weight"] * self.label_weights[labels]),
        }
        self.log_dict({f"train/{name}": value.detach() for name, value in parts.items()}, on_step=True)
        s = self.settings
        return s.flow_weight * parts["flow"] + s.nucleus_weight * parts["nucleus"] + s.type_weight * parts["type"]

    def on_before_zero_grad(self, *_: object) -> None:
        """Average after every optimiser step."""
        self.average.update_parameters(self.network)

    def configure_optimizers(self) -> dict[str, object]:
        s = self.settings
        groups = []
        for module, rate in ((self.network.encoder, s.learning_rate * s.encoder_rate), (None, s.learning_rate)):
            inside = set(self.network.encoder.parameters())
            chosen = [p for p in self.network.parameters() if (p in inside) == (module is not None)]
            groups += [
                {"params": [p for p in chosen if p.ndim > 1], "lr": rate, "weight_decay": s.weight_decay},
                {"params": [p for p in chosen if p.ndim <= 1], "lr": rate, "weight_decay": 0.0},
            ]
        optimiser = torch.optim.AdamW(groups)
        total = s.epochs * s.steps_per_epoch

        def rate_at(step: int) -> float:
            warm = min(1.0, (step + 1) / s.warmup_steps)
            return warm * (0.01 + 0.99 * (1 + math.cos(math.pi * min(1.0, step / total))) / 2)

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, rate_at)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def validation_step(self, batch: object, index: int) -> None:
        """Nothing per batch: whole images are scored at the end of the epoch."""

    def on_validation_epoch_end(self) -> None:
        found = headline(score_network(self.exported(), self.validation, self.settings.mpp))
        self.log_dict({f"val/{name}": score.value for name, score in found.items()})
        self.print(f"epoch {self.current_epoch}:", ", ".join(f"{name} {score}" for name, score in found.items()))

    def exported(self) -> nn.Module:
        """The averaged network, in evaluation mode."""
        return self.average.module.eval()


def moving_average(decay: float) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    """Exponential moving average whose memory grows with the steps done, so that the random start is forgotten."""

    def update(average: torch.Tensor, value: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        n = float(steps)
        keep = min(decay, (1 + n) / (10 + n))
        return average * keep + value * (1 - keep)

    return update


def class_weights(patches: Sequence[Patch], allowed: torch.Tensor) -> torch.Tensor:
    """Weights of the seven types, float (7,): fourth root of the inverse share of typed pixels, mean 1, at most 3."""
    pixels = np.zeros(256)
    for patch in patches:
        pixels += np.bincount(patch.type_map.ravel(), minlength=256) * patch.mpp**2
    table = allowed.numpy()
    fine = (table * (table.sum(1, keepdims=True) == 1) * pixels[:, None]).sum(0)
    weights = (np.maximum(fine, 1).mean() / np.maximum(fine, 1)) ** 0.25
    return torch.tensor(np.clip(weights / weights.mean(), 0.3, 3), dtype=torch.float32)
