"""Tasks: a network, its losses, its optimiser and its running average, as Lightning trains them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch import nn

from cytolite.celltypes import IGNORE, SEVEN, LabelSet
from cytolite.config import DistillSettings, TrainSettings
from cytolite.drawing.training_picture import draw_patch, save_picture
from cytolite.metrics.bootstrap import headline
from cytolite.networks.network import NucleusNetwork
from cytolite.patches import Patch
from cytolite.training.average import Average
from cytolite.training.losses import distillation_loss, flow_loss
from cytolite.training.objectives import LightObjective, PaperObjective
from cytolite.training.teacher import Asked
from cytolite.training.validate import score_network

Batch = dict[str, torch.Tensor]


class SupervisedTask(lightning.LightningModule):
    """Learn flows, nuclei and types from patches.

    Parameters
    ----------
    network : NucleusNetwork
        Trained in place; its exponential moving average is what is validated and exported.
    settings : TrainSettings
        Rates and weights.
    objective : LightObjective or PaperObjective
        The losses against the truth.
    validation : sequence of Patch
        Whole held-back images.
    pictures : Path or None
        Folder for a picture of predictions per epoch.
    labels : LabelSet
        What the patches' type maps hold.
    """

    def __init__(
        self,
        network: NucleusNetwork,
        settings: TrainSettings,
        objective: LightObjective | PaperObjective,
        validation: Sequence[Patch],
        pictures: Path | None = None,
        *,
        labels: LabelSet = SEVEN,
    ) -> None:
        super().__init__()
        self.network = network
        self.average = Average(network, settings.ema_decay)
        self.settings = settings
        self.objective = objective
        self.validation = validation
        self.pictures = pictures
        self.labels = labels

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        """Return the weighted sum of a batch's losses, and log each.

        Parameters
        ----------
        batch : dict of str to torch.Tensor
            Crops, by the names of `cytolite.training.sampling.as_tensors`; with ``maps_...`` of a frozen encoder where
            they are kept.
        index : int
            Of the batch; not used.
        """
        flows, type_logits = self.predict(batch)
        losses, weights = self.losses(flows.float(), type_logits.float(), batch)
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()}, on_step=True)
        return sum((weights[name] * value for name, value in losses.items()), torch.zeros((), device=self.device))

    def predict(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the network; where a frozen encoder's maps were computed before, its decoder alone."""
        image = batch["image"].contiguous(memory_format=torch.channels_last)
        maps = [batch[name] for name in sorted(batch) if name.startswith("maps_")]
        return self.network.decode(maps, image) if maps else self.network(image)

    def losses(
        self, flows: torch.Tensor, type_logits: torch.Tensor, batch: Batch
    ) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """Return the losses by name, and their weights.

        Parameters
        ----------
        flows : torch.Tensor
            float32 (B, 2, H, W), (dy, dx), unit scale.
        type_logits : torch.Tensor
            float32 (B, types + 1, H, W); class 0 is background.
        batch : dict of str to torch.Tensor
            As of `training_step`.
        """
        return self.objective(flows, type_logits, batch), self.objective.weights

    def on_before_zero_grad(self, *_: object) -> None:
        """Average after every optimiser step."""
        self.average.update_parameters(self.network)

    def configure_optimizers(self) -> dict[str, object]:
        s = self.settings
        groups = []
        for module, rate in ((self.network.encoder, s.learning_rate * s.encoder_rate), (None, s.learning_rate)):
            inside = set(self.network.encoder.parameters())
            chosen = [p for p in self.network.parameters() if (p in inside) == (module is not None)]
            chosen = [p for p in chosen if p.requires_grad]
            groups += [
                {"params": [p for p in chosen if p.ndim > 1], "lr": rate, "weight_decay": s.weight_decay},
                {"params": [p for p in chosen if p.ndim <= 1], "lr": rate, "weight_decay": 0.0},
            ]
        optimiser = torch.optim.AdamW([group for group in groups if group["params"]])
        total = s.epochs * s.steps_per_epoch

        def rate_at(step: int) -> float:
            warm = min(1.0, (step + 1) / s.warmup_steps)
            return warm * (0.01 + 0.99 * (1 + math.cos(math.pi * min(1.0, step / total))) / 2)

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, rate_at)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def validation_step(self, batch: object, index: int) -> None:
        """Nothing per batch: whole images are scored at the end of the epoch.

        Parameters
        ----------
        batch : object
            Empty; not used.
        index : int
            Of the batch; not used.
        """

    def on_validation_epoch_end(self) -> None:
        rows: dict[str, Any] = {}

        def keep(patch: Patch, instances: Any, types: Any) -> None:
            """The first image of each source is drawn."""
            if patch.source not in rows:
                rows[patch.source] = draw_patch(patch, instances, types, self.labels.type_set)

        found = headline(score_network(self.exported(), self.validation, self.settings.mpp, self.labels, keep))
        self.log_dict({f"val/{name}": score.value for name, score in found.items()})
        # What early stopping watches: the mean over sources.
        self.log("val/score", float(np.nanmean([score.value for score in found.values()])))
        self.print(f"epoch {self.current_epoch}:", ", ".join(f"{name} {score}" for name, score in found.items()))
        if self.pictures is not None and self.global_rank == 0:
            save_picture(self.pictures / f"epoch_{self.current_epoch:03d}.png", list(rows.values()))

    def exported(self) -> nn.Module:
        """The averaged network, in evaluation mode."""
        return self.average.module.eval()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out a frozen encoder that is on disk already: its file's hash is in the run's record."""
        if self._encoder_is_on_disk():
            kept = {k: v for k, v in checkpoint["state_dict"].items() if not k.startswith(FROZEN_KEYS)}
            checkpoint["state_dict"] = kept

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the frozen encoder back, so that what is loaded is checked to be whole."""
        if self._encoder_is_on_disk():
            mine = self.state_dict()
            checkpoint["state_dict"].update({k: v for k, v in mine.items() if k.startswith(FROZEN_KEYS)})

    def _encoder_is_on_disk(self) -> bool:
        """Not so if it came from another run, which may have trained it."""
        return self.network.frozen and self.settings.pretrained and self.settings.start is None


FROZEN_KEYS = ("network.encoder.", "average.module.encoder.")


class DistillationTask(SupervisedTask):
    """Learn from patches and from a teacher's soft targets for the same crops.

    ``hard_weight * L(truth) + soft_weight * (flow_weight * L_flow(teacher) + T^2 KL(teacher || student))``; see
    `cytolite.training.losses.distillation_loss`.

    Parameters
    ----------
    teacher : callable
        Asked at every step, unless a batch brings its soft targets along.
    network, settings, objective, validation, pictures, labels
        As of `SupervisedTask`.
    """

    settings: DistillSettings

    def __init__(
        self, teacher: Asked, network: NucleusNetwork, settings: DistillSettings, *args: Any, **options: Any
    ) -> None:
        super().__init__(network, settings, *args, **options)
        self.teacher = teacher

    def losses(
        self, flows: torch.Tensor, type_logits: torch.Tensor, batch: Batch
    ) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """Return the losses against truth and teacher by name, and their weights.

        Parameters
        ----------
        flows, type_logits
            As of `SupervisedTask.losses`.
        batch : dict of str to torch.Tensor
            The same, with the teacher's soft targets where they are kept; without them the teacher is asked.
        """
        s = self.settings
        hard, weights = super().losses(flows, type_logits, batch)
        targets = batch if "teacher_flows" in batch else self.ask(batch, tuple(flows.shape[2:]))
        known = targets.get("teacher_weight", torch.ones_like(batch["flow_weight"]))
        if s.soft_on == "known":
            known = known * (batch["labels"] != IGNORE)
        soft = {
            "soft_flow": flow_loss(flows, targets["teacher_flows"], known),
            "soft_type": distillation_loss(type_logits, targets["teacher_logits"], known, s.temperature),
        }
        soft_weights = {"soft_flow": s.soft_weight * s.flow_weight, "soft_type": s.soft_weight}
        return hard | soft, {name: s.hard_weight * weight for name, weight in weights.items()} | soft_weights

    def ask(self, batch: Batch, size: tuple[int, ...]) -> Batch:
        """Return the teacher's soft targets for a batch of crops, on a grid of `size`.

        Parameters
        ----------
        batch : Batch
            Crops.
        size : tuple of int
            Height and width of the maps.
        """
        flows, type_logits = self.teacher(batch["image"], self.settings.mpp, (size[0], size[1]))
        return {"teacher_flows": flows, "teacher_logits": type_logits}
