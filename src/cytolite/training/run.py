"""A training run: from stores to checkpoints, resumable."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader, TensorDataset

from cytolite.config import TrainSettings
from cytolite.datasets.duplicates import read_pairs
from cytolite.datasets.splits import held_back
from cytolite.datasets.store import Store
from cytolite.errors import InputError
from cytolite.models.bundle import load_bundle
from cytolite.models.encoders import encoder_spec, find_weights
from cytolite.models.network import CellNetwork
from cytolite.models.warm_start import start_from
from cytolite.patches import Patch
from cytolite.training.losses import allowed_table
from cytolite.training.sampling import CropDataset
from cytolite.training.tasks import SupervisedTask, class_weights

CHECKPOINT = "checkpoints/last.ckpt"
RECORD = "settings.json"
# Crops that show a bundle's network what its inner activations look like.
CALIBRATION_CROPS = 64


def split(stores: Sequence[Path], settings: TrainSettings) -> tuple[list[Patch], list[Patch]]:
    """Return the patches that train and those held back, in the order of the stores."""
    patches = []
    for path in stores:
        with Store(path) as store:
            patches += list(store)
    sources, groups = [p.source for p in patches], [p.group for p in patches]
    pairs = read_pairs(settings.duplicates, sources, [p.name for p in patches]) if settings.duplicates else []
    out = held_back(sources, groups, settings.held_back, settings.seed, pairs)
    return [p for p, o in zip(patches, out, strict=True) if not o], [p for p, o in zip(patches, out, strict=True) if o]


class Crops(lightning.LightningDataModule):
    """Hands Lightning the crops of each epoch, so that a resumed run sees what an uninterrupted one would."""

    def __init__(self, patches: Sequence[Patch], settings: TrainSettings) -> None:
        super().__init__()
        self.crops, self.settings = CropDataset(patches, settings), settings

    def train_dataloader(self) -> DataLoader[dict[str, torch.Tensor]]:
        self.crops.start_epoch(self.trainer.current_epoch if self.trainer else 0)
        workers = self.settings.loaders
        return DataLoader(self.crops, self.settings.batch, num_workers=workers, prefetch_factor=4 if workers else None)

    def val_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        """One empty batch: the task scores whole images by itself."""
        return DataLoader(TensorDataset(torch.zeros(1)))


def train(stores: Sequence[Path], out: Path, settings: TrainSettings) -> Path:
    """Train a student and return its last checkpoint.

    Run again with the same folder and settings, it goes on where it stopped. Logs (CSV, TensorBoard), checkpoints and
    ``settings.json`` lie in `out`.

    Parameters
    ----------
    stores : sequence of Path
        Written by `cytolite.datasets.store.write_store`; their order matters to the draw of crops.
    out : Path
        Folder of the run.
    settings : TrainSettings
        What determines the result.

    Raises
    ------
    InputError
        If `out` holds a run of other settings or of other stores.
    """
    _claim(out, stores, settings)
    training, validation = split(stores, settings)
    lightning.seed_everything(settings.seed, workers=True, verbose=False)
    torch.set_num_threads(settings.threads)
    crops = Crops(training, settings)
    # Channels last: oneDNN's depthwise kernels train 2.5 times as fast on it (measured on two AVX2 cores).
    network = first_network(settings, crops).to(memory_format=torch.channels_last)
    task = SupervisedTask(network, settings, class_weights(training, allowed_table()), validation)
    last = out / CHECKPOINT
    trainer = lightning.Trainer(
        accelerator="auto",
        max_epochs=settings.epochs,
        reload_dataloaders_every_n_epochs=1,
        gradient_clip_val=1.0,
        log_every_n_steps=min(25, settings.steps_per_epoch),
        num_sanity_val_steps=0,
        # Each start logs into a version of its own, so that a resumed run keeps what was logged before.
        logger=[CSVLogger(out / "csv", name=""), TensorBoardLogger(out / "tensorboard", name="")],
        callbacks=[ModelCheckpoint(last.parent, save_last=True, save_on_train_epoch_end=False)],
        enable_model_summary=False,
    )
    trainer.fit(task, crops, ckpt_path=last if last.exists() else None, weights_only=False)
    return last


def first_network(settings: TrainSettings, crops: Crops) -> CellNetwork:
    """Return the network as it is before the first step: a bundle's, or with ImageNet weights, or random."""
    from_imagenet = settings.pretrained and settings.start is None
    network = CellNetwork(settings.encoder, find_weights(encoder_spec(settings.encoder)) if from_imagenet else None)
    if settings.start is not None:
        images = torch.stack([crops.crops[i]["image"] for i in range(CALIBRATION_CROPS)])
        start_from(network, load_bundle(settings.start), images)
    return network


def trained_network(out: Path) -> tuple[CellNetwork, TrainSettings, list[Path]]:
    """Return a run's averaged network, its settings and the stores that it was trained on.

    Raises
    ------
    InputError
        If `out` holds no run, or one without a checkpoint yet.
    """
    if not (out / RECORD).exists() or not (out / CHECKPOINT).exists():
        raise InputError(f"{out} holds no finished epoch of a run; give the folder that `cytolite train` wrote.")
    record = json.loads((out / RECORD).read_text())
    settings = TrainSettings(**record["settings"])
    network = CellNetwork(settings.encoder)
    state = torch.load(out / CHECKPOINT, map_location="cpu", weights_only=False)["state_dict"]
    average = "average.module."
    network.load_state_dict({k.removeprefix(average): v for k, v in state.items() if k.startswith(average)})
    return network.eval(), settings, [Path(store["path"]) for store in record["stores"]]


def _claim(out: Path, stores: Sequence[Path], settings: TrainSettings) -> None:
    """Write the run's settings into its folder, or check that they are those it was begun with."""
    hashes = []
    for path in stores:
        with Store(path) as store:
            hashes.append({"path": str(path), "sha256": store.sha256})
    record = {"settings": settings.model_dump(mode="json"), "stores": hashes}
    path = out / RECORD
    if path.exists() and _identity(json.loads(path.read_text())) != _identity(record):
        raise InputError(f"{out} holds a run of other settings or of other stores; choose another folder or remove it.")
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1))


def _identity(record: dict[str, Any]) -> tuple[Any, list[str]]:
    """Return what must not change when a run is taken up again: stores may have moved, their content may not."""
    # Settings that are newer than the record had their default.
    settings = TrainSettings(**record["settings"]).model_dump(mode="json")
    return settings, [store["sha256"] for store in record["stores"]]
