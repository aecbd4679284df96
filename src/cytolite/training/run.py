"""A training run: from stores to checkpoints, resumable."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader, TensorDataset

from cytolite.datasets.splits import held_back
from cytolite.datasets.store import Store
from cytolite.errors import InputError
from cytolite.models.encoders import encoder_spec, find_weights
from cytolite.models.network import CellNetwork
from cytolite.patches import Patch
from cytolite.training.losses import allowed_table
from cytolite.training.sampling import CropDataset
from cytolite.training.settings import TrainSettings
from cytolite.training.tasks import SupervisedTask, class_weights


def split(store: Store, settings: TrainSettings) -> tuple[list[Patch], list[Patch]]:
    """Return the patches that train and those held back."""
    out = held_back(store.texts("source"), store.texts("group"), settings.held_back, settings.seed)
    patches = list(store)
    return [p for p, o in zip(patches, out, strict=True) if not o], [p for p, o in zip(patches, out, strict=True) if o]


class Crops(lightning.LightningDataModule):
    """Hands Lightning the crops of each epoch, so that a resumed run sees what an uninterrupted one would."""

    def __init__(self, patches: Sequence[Patch], settings: TrainSettings) -> None:
        super().__init__()
        self.patches, self.settings = patches, settings

    def train_dataloader(self) -> DataLoader[dict[str, torch.Tensor]]:
        epoch = self.trainer.current_epoch if self.trainer else 0
        crops = CropDataset(self.patches, self.settings, epoch)
        return DataLoader(crops, self.settings.batch, num_workers=self.settings.loaders, prefetch_factor=4 if self.settings.loaders else None)

    def val_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        """One empty batch: the task scores whole images by itself."""
        return DataLoader(TensorDataset(torch.zeros(1)))


def train(store_path: Path, out: Path, settings: TrainSettings) -> Path:
    """Train a student and return its last checkpoint.

    Run again with the same folder and settings, it goes on where it stopped. Logs (CSV and TensorBoard), checkpoints and
    ``settings.json`` lie in `out`.

    Raises
    ------
    InputError
        If `out` holds a run of other settings or of another store.
    """
    with Store(store_path) as store:
        record = {"settings": settings.model_dump(), "store_sha256": store.sha256}
        _claim(out, record)
        train_patches, validation = split(store, settings)
    lightning.seed_everything(settings.seed, workers=True, verbose=False)
    torch.set_num_threads(settings.threads)
    weights = find_weights(encoder_spec(settings.encoder)) if settings.pretrained else None
    task = SupervisedTask(
        CellNetwork(settings.encoder, weights).to(memory_format=torch.channels_last), settings, class_weights(train_patches, allowed_table()), validation
    )
    last = out / "checkpoints" / "last.ckpt"
    trainer = lightning.Trainer(
        accelerator="auto",
        max_epochs=settings.epochs,
        reload_dataloaders_every_n_epochs=1,
        gradient_clip_val=1.0,
        log_every_n_steps=25,
        num_sanity_val_steps=0,
        logger=[CSVLogger(out, name="", version="csv"), TensorBoardLogger(out, name="", version="tensorboard")],
        callbacks=[ModelCheckpoint(out / "checkpoints", save_last=True, save_top_k=0, save_on_train_epoch_end=False)],
        enable_model_summary=False,
    )
    trainer.fit(task, Crops(train_patches, settings), ckpt_path=last if last.exists() else None)
    return last


def _claim(out: Path, record: dict[str, object]) -> None:
    """Write the run's settings into its folder, or check that they are those it was begun with."""
    path = out / "settings.json"
    if path.exists() and json.loads(path.read_text()) != json.loads(json.dumps(record)):
        raise InputError(f"{out} holds a run of other settings or of another store; choose another folder or remove it.")
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1))


