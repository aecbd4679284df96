"""A training run: from stores to checkpoints, resumable; a network alone, or a student under a teacher."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader, TensorDataset

from cytolite.bundle import load_bundle
from cytolite.celltypes import TypeSet
from cytolite.config import DistillSettings, TrainSettings
from cytolite.datasets.duplicates import read_pairs
from cytolite.datasets.splits import held_back
from cytolite.datasets.store import Store
from cytolite.errors import InputError, UsageError
from cytolite.files import sha256_of
from cytolite.networks.encoders import encoder_spec
from cytolite.networks.network import NucleusNetwork, build_network
from cytolite.networks.weights import find_weights, tensors_hash
from cytolite.patches import Patch
from cytolite.training.cache import CropCache
from cytolite.training.objectives import objective
from cytolite.training.record import (
    RECORD,
    make_record,
    read_record,
    recorded_settings,
    store_hashes,
    write_record,
)
from cytolite.training.sampling import CropDataset
from cytolite.training.soft_targets import SoftTargets
from cytolite.training.tasks import FROZEN_KEYS, DistillationTask, SupervisedTask
from cytolite.training.teacher import Ensemble, Teacher, ensemble, network_teacher
from cytolite.training.vocabulary import Vocabulary, vocabulary_of
from cytolite.training.warm_start import is_head, start_from, type_rows

CHECKPOINT = "checkpoints/last.ckpt"
PICTURES = "pictures"
SOFT_TARGETS, CALLED_BEFORE = "soft_targets", "answers"
# Crops that show a bundle's network what its inner activations look like.
CALIBRATION_CROPS = 64
# Settings that decide which crops there are, and so what is cached of them.
CROP_SETTINGS = {
    "seed", "mpp", "crop_px", "balanced_share", "rare_power", "source_shares", "source_power", "stain_jitter",
    "blur_share", "blur_px", "held_back", "fold", "duplicates",
}  # fmt: skip


def split(
    stores: Sequence[Path], settings: TrainSettings, vocabulary: Vocabulary | None = None
) -> tuple[list[Patch], list[Patch]]:
    """Return the patches that train and those held back, in the order of the stores, with the run's labels.

    Without a vocabulary it is the one that the settings ask for.

    Parameters
    ----------
    stores : sequence of pathlib.Path
        What `prepare` wrote, in their order.
    settings : TrainSettings
        Share, seed, fold and near-duplicates.
    vocabulary : Vocabulary, optional
        The one that the settings ask for by default.
    """
    chosen = vocabulary or vocabulary_of(stores, settings)
    patches = []
    for path in stores:
        with Store(path) as store:
            patches += chosen.translated(store, store.labels, str(path))
    sources, groups = [p.source for p in patches], [p.group for p in patches]
    pairs = read_pairs(settings.duplicates, sources, [p.name for p in patches]) if settings.duplicates else []
    out = held_back(sources, groups, settings.held_back, settings.seed, pairs, fold=settings.fold)
    return [p for p, o in zip(patches, out, strict=True) if not o], [p for p, o in zip(patches, out, strict=True) if o]


class Crops(lightning.LightningDataModule):
    """Hands Lightning the crops of each epoch, so that a resumed run sees what an uninterrupted one would."""

    def __init__(self, crops: CropDataset, settings: TrainSettings) -> None:
        super().__init__()
        self.crops, self.settings = crops, settings

    def train_dataloader(self) -> DataLoader[dict[str, torch.Tensor]]:
        if self.trainer:
            self.crops.per_step = self.settings.accumulate * self.trainer.world_size
            self.crops.start_epoch(self.trainer.current_epoch)
        workers = self.settings.loaders
        return DataLoader(self.crops, self.settings.batch, num_workers=workers, prefetch_factor=4 if workers else None)

    def val_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        """One empty batch: the task scores whole images by itself."""
        return DataLoader(TensorDataset(torch.zeros(1)))


def train(stores: Sequence[Path], out: Path, settings: TrainSettings) -> Path:
    """Train a network and return its last checkpoint.

    Run again with the same folder and settings, it goes on where it stopped. Logs (CSV, TensorBoard), checkpoints, a
    picture of predictions per epoch and ``settings.json`` lie in `out`.

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
        If `out` holds a run of other settings, types or stores, or the encoder's weights cannot be had.
    """
    _check_cache(settings)
    if settings.cache is not None and not _is_frozen(settings):
        raise UsageError(
            f"The encoder {settings.encoder} is trained, so its maps cannot be cached: set frozen or no cache."
        )
    vocabulary = vocabulary_of(stores, settings)
    record = make_record(out, stores, settings, encoder=_encoder_record(settings), types=vocabulary.record())
    training, validation, crops = _prepare(stores, settings, vocabulary)
    network = first_network(settings, crops)
    if settings.cache is not None:
        crops.cache = _cache(settings, stores, network.stride, encoder=tensors_hash(network.encoder))
        _fill(crops, settings, lambda batch: _maps(network, batch))
    losses = objective(settings, training, vocabulary.labels)
    task = SupervisedTask(network, settings, losses, validation, out / PICTURES, labels=vocabulary.labels)
    return fit(task, crops, out, settings, record)


def distill(teachers: Sequence[Teacher], stores: Sequence[Path], out: Path, settings: DistillSettings) -> Path:
    """Train a student on stores and on the teachers' soft targets for the same crops; return its last checkpoint.

    Parameters
    ----------
    teachers : sequence of Teacher
        Of any resolution and stride; the student learns the mean of what they say.
    stores : sequence of Path
        Written by `cytolite.datasets.store.write_store`; their order matters to the draw of crops.
    out : Path
        Folder of the run.
    settings : DistillSettings
        What else determines the result.

    Raises
    ------
    InputError
        As `train`, or if `out` holds a run with another teacher.
    """
    asked = ensemble(teachers, settings.teacher_scales, settings.teacher_tta)
    source = {"paths": asked.names, "sha256": asked.sha256}
    vocabulary = vocabulary_of(stores, settings)
    _check_types(teachers, vocabulary.labels.type_set)
    encoder, types = _encoder_record(settings), vocabulary.record()
    record = make_record(out, stores, settings, teacher=source, encoder=encoder, types=types)
    training, validation, crops = _prepare(stores, settings, vocabulary)
    network = first_network(settings, crops)
    if settings.teacher_image == "clean":
        crops.soft_targets = _soft_targets(asked, stores, out, settings, network.stride)
        crops.soft_targets.fill(training, asked, _fastest_device())
    losses = objective(settings, training, vocabulary.labels)
    task = DistillationTask(asked, network, settings, losses, validation, out / PICTURES, labels=vocabulary.labels)
    return fit(task, crops, out, settings, record)


def _check_types(teachers: Sequence[Teacher], type_set: TypeSet) -> None:
    for teacher in teachers:
        if teacher.types != type_set.names:
            raise UsageError(
                f"The teacher {teacher.name} tells apart {', '.join(teacher.types)}, and the student shall learn "
                f"{', '.join(type_set.names)}; take a teacher of these types, or give its own with --types and --map."
            )


class RecordAtFirstStep(Callback):
    """Writes a run's record once a step was made: what fails before leaves no folder that refuses the next try."""

    def __init__(self, out: Path, record: Mapping[str, Any]) -> None:
        self.out, self.record, self.written = out, record, False

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Write the record, once, from the first process.

        Parameters
        ----------
        trainer : lightning.Trainer
            Knows whether this is the first process.
        *_
            What Lightning gives besides; not used.
        """
        if not self.written and trainer.is_global_zero:
            write_record(self.out, self.record)
        self.written = True


def fit(
    task: SupervisedTask, crops: CropDataset, out: Path, settings: TrainSettings, record: Mapping[str, Any]
) -> Path:
    """Let Lightning train a task, from its last checkpoint if there is one.

    The record is written into `out` with the first step; what fails before that leaves nothing of its own there.

    Parameters
    ----------
    task : SupervisedTask
        What is learnt, with its network.
    crops : CropDataset
        What it is learnt from.
    out : pathlib.Path
        Folder of the run.
    settings : TrainSettings
        Everything else.
    record : mapping
        Of the run, written with the first step.

    Raises
    ------
    InputError
        If Lightning does not know, or does not have, the devices, the strategy or the precision.
    """
    last = out / CHECKPOINT
    was_there = out.exists()
    callbacks: list[Callback] = [
        ModelCheckpoint(last.parent, save_last=True, save_on_train_epoch_end=False),
        RecordAtFirstStep(out, record),
    ]
    if settings.patience:
        callbacks.append(
            EarlyStopping("val/score", mode="max", patience=settings.patience, check_on_train_epoch_end=False)
        )
    try:
        trainer = lightning.Trainer(
            accelerator="auto",
            devices=settings.devices,
            num_nodes=settings.nodes,
            strategy=settings.strategy,
            precision=settings.precision,
            accumulate_grad_batches=settings.accumulate,
            max_epochs=settings.epochs,
            reload_dataloaders_every_n_epochs=1,
            gradient_clip_val=1.0,
            log_every_n_steps=min(25, settings.steps_per_epoch),
            num_sanity_val_steps=0,
            # Each start logs into a version of its own, so that a resumed run keeps what was logged before.
            logger=[CSVLogger(out / "csv", name=""), TensorBoardLogger(out / "tensorboard", name="")],
            callbacks=callbacks,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        given = f"devices = {settings.devices}, strategy = {settings.strategy}, precision = {settings.precision}"
        reason = " ".join(str(error).split()).rstrip(".")
        raise UsageError(f"This machine cannot train with {given}: {reason}.") from None
    try:
        with _stopped_plainly():
            trainer.fit(task, Crops(crops, settings), ckpt_path=last if last.exists() else None, weights_only=False)
    finally:
        if not was_there and not (out / RECORD).exists():
            shutil.rmtree(out, ignore_errors=True)
    return last


@contextmanager
def _stopped_plainly() -> Iterator[None]:
    """Raise the interrupt that Lightning makes an exit of, with what the user can do."""
    try:
        yield
    except SystemExit as left:
        stop = left.__context__
        if not isinstance(stop, KeyboardInterrupt):
            raise
        stop.args = ("Training was stopped; run the same command again to go on from the last whole epoch.",)
        raise stop from None


def first_network(settings: TrainSettings, crops: CropDataset) -> NucleusNetwork:
    """Return the network as it is before the first step: a bundle's or a run's, or with pretrained weights, or random.

    Channels last: oneDNN's depthwise kernels train 2.5 times as fast on it (measured on two AVX2 cores).

    Parameters
    ----------
    settings : TrainSettings
        Encoder, decoder and what to start from.
    crops : CropDataset
        Gets the network's stride, and gives images to a start from a bundle's graph.
    """
    weights, types = encoder_weights(settings), crops.labels.type_set.names
    network = build_network(settings.encoder, settings.decoder, weights, settings.frozen, n_types=len(types))
    crops.stride = network.stride
    if settings.start is not None and (Path(settings.start) / RECORD).exists():
        start = Path(settings.start)
        given = trained_network(start)[0].state_dict()
        were = Vocabulary.recorded(read_record(start)).labels.type_set.names
        given |= {name: type_rows(network, name, given[name], were, types) for name in given if is_head(name)}
        if {k: v.shape for k, v in given.items()} != {k: v.shape for k, v in network.state_dict().items()}:
            raise UsageError(
                f"The run {settings.start} cannot be started from: its network is another; use the encoder and the "
                "decoder that it was made with."
            )
        network.load_state_dict(given)
    elif settings.start is not None:
        bundle = load_bundle(settings.start)
        images = lambda: torch.stack([crops.draw(i)["image"] for i in range(CALIBRATION_CROPS)])  # noqa: E731
        start_from(network, bundle, images, types)
    placed: NucleusNetwork = network.to(memory_format=torch.channels_last)
    return placed


def encoder_weights(settings: TrainSettings) -> Path | None:
    """Return the file of the encoder's pretrained weights, if the run needs one.

    Raises
    ------
    InputError
        If it cannot be had.
    """
    spec = encoder_spec(settings.encoder)
    if not settings.pretrained or settings.start is not None or not spec.timm_name:
        return None
    return find_weights(spec, settings.weights)


def trained_network(out: Path) -> tuple[NucleusNetwork, TrainSettings, list[Path]]:
    """Return a run's averaged network, its settings and the stores that it was trained on.

    Raises
    ------
    InputError
        If `out` holds no run, or one without a checkpoint yet, or a frozen encoder's weights are not where they were.
    """
    record = read_record(out)
    if not (out / CHECKPOINT).exists():
        raise UsageError(f"{out} holds no finished epoch of a run; let `cytolite train` go on.")
    settings = recorded_settings(record)
    weights = _recorded_weights(record.get("encoder"), settings)
    n_types = len(Vocabulary.recorded(record).labels.type_set)
    network = build_network(settings.encoder, settings.decoder, weights, settings.frozen, n_types=n_types)
    state = torch.load(out / CHECKPOINT, map_location="cpu", weights_only=False)["state_dict"]
    average = FROZEN_KEYS[1].removesuffix("encoder.")
    given = {k.removeprefix(average): v for k, v in state.items() if k.startswith(average)}
    if weights is not None:  # the frozen encoder is not in the checkpoint
        given |= {k: v for k, v in network.state_dict().items() if k.startswith("encoder.")}
    network.load_state_dict(given)
    return network.eval(), settings, [Path(store["path"]) for store in record["stores"]]


def run_teacher(out: Path) -> Teacher:
    """Return a run's averaged network as a teacher."""
    network, settings, _ = trained_network(out)
    types = Vocabulary.recorded(read_record(out)).labels.type_set.names
    return network_teacher(str(out), tensors_hash(network), settings.mpp, network, types)


def _check_cache(settings: TrainSettings) -> None:
    if settings.cache is not None and not settings.fixed_crops:
        raise UsageError("A cache needs crops that come again: set fixed_crops to their number, 10000 for example.")


def _prepare(
    stores: Sequence[Path], settings: TrainSettings, vocabulary: Vocabulary
) -> tuple[list[Patch], list[Patch], CropDataset]:
    training, held_out = split(stores, settings, vocabulary)
    validation = [patch for patch in held_out if patch.judged]
    lightning.seed_everything(settings.seed, workers=True, verbose=False)
    torch.set_num_threads(settings.threads)
    return training, validation, CropDataset(training, settings, stride=1, labels=vocabulary.labels)


def _cache(settings: TrainSettings, stores: Sequence[Path], stride: int, **others: Any) -> CropCache:
    decisive = {
        **settings.model_dump(mode="json", include=CROP_SETTINGS),
        "stores": [store["sha256"] for store in store_hashes(stores)],
        "stride": stride,
        **others,
    }
    assert settings.cache is not None
    return CropCache(settings.cache, decisive, settings.fixed_crops)


def _soft_targets(
    asked: Ensemble, stores: Sequence[Path], out: Path, settings: DistillSettings, stride: int
) -> SoftTargets:
    decisive = {
        **settings.model_dump(mode="json", include={"seed", "held_back", "fold", "duplicates"}),
        "stores": [store["sha256"] for store in store_hashes(stores)],
        "teacher": asked.sha256,
    }
    folder = CALLED_BEFORE if (out / CALLED_BEFORE).is_dir() else SOFT_TARGETS
    return SoftTargets(settings.cache or out / folder, decisive, settings.mpp * stride)


def _fastest_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _fill(
    crops: CropDataset, settings: TrainSettings, compute: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> None:
    assert crops.cache is not None
    device = _fastest_device()

    def on_device(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return compute({name: tensor.to(device) for name, tensor in batch.items()})

    crops.cache.fill(crops.draw, on_device, settings.batch, settings.loaders)


def _maps(network: NucleusNetwork, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    image = batch["image"]
    network.encoder.to(image.device)
    return {f"maps_{n}": feature for n, feature in enumerate(network.encode(image))}


def _is_frozen(settings: TrainSettings) -> bool:
    return encoder_spec(settings.encoder).frozen if settings.frozen is None else settings.frozen


def _encoder_record(settings: TrainSettings) -> dict[str, str] | None:
    """Where a frozen encoder's weights are, which checkpoints leave out."""
    weights = encoder_weights(settings)
    if weights is None or not _is_frozen(settings):
        return None
    return {"path": str(weights), "sha256": sha256_of(weights)}


def _recorded_weights(source: dict[str, str] | None, settings: TrainSettings) -> Path | None:
    if source is None:
        return None
    path = Path(source["path"]) if Path(source["path"]).exists() else find_weights(encoder_spec(settings.encoder))
    if sha256_of(path) != source["sha256"]:
        raise InputError(
            f"The run was trained on other weights of {settings.encoder} than those in {path}; put back the file "
            f"{source['path']} with SHA-256 {source['sha256'][:12]}...."
        )
    return path
