"""Every run's settings on one page: frozen models, filled from flags, keywords and a TOML file."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from cytolite.errors import UsageError, did_you_mean
from cytolite.files import read_toml
from cytolite.renamed import settings_of_today

# What a microscope can resolve and a slide may say; anything outside is a wrong header or a wrong unit.
MPP_MIN, MPP_MAX = 0.05, 5.0
# Tables of a settings file, one per verb; a verb reads its own and leaves the others alone.
TABLES = ("segment", "evaluate", "train", "distill", "relabel", "spatial")


def check_tta(value: int) -> int:
    """Return how often an image is shown, if that is all rotations, with or without their mirror images."""
    if value not in (1, 4, 8):
        raise ValueError("is out of range; allowed are 1, 4 and 8")
    return value


# The embedded bundles, as help names them (`cytolite models` says more); a test holds this to those that are there.
MODELS = "nuclei-light (the default), nuclei-light-int8, nuclei-base-int8, nuclei-ensemble-int8"
Decoder = Literal["light", "wide", "shuffle", "unetr", "unetpp"]
# What a network may be asked to run in, and what it does run in.
Precision = Literal["auto", "float32", "bf16", "int8"]
Arithmetic = Literal["float32", "bf16", "int8"]
Tta = Annotated[int, AfterValidator(check_tta)]


class Settings(BaseModel):
    """Base of all settings: nothing unknown is accepted, nothing changes after it was made."""

    # Built when they are first filled: a command needs one kind of many, and help none.
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), defer_build=True)


class SlideSettings(Settings):
    """How slides are worked on; ``None`` leaves the choice to the slide, the model or the machine."""

    model: str | None = Field(None, description=f"Model bundle: {MODELS}, or the folder of another.")
    mpp: float | None = Field(
        None,
        description="Level-0 resolution in µm per pixel; overrides what the file says, needed where it says nothing.",
    )
    scene: str | None = Field(
        None, description="Name, or number from 1, of one of several images in a file; default: the largest."
    )
    rgb: bool = Field(False, description="Take three grey channels for red, green and blue.")
    damaged: Literal["fail", "skip"] = Field(
        "fail", description="What a part that cannot be read does: fail the slide, or be left out, which is told."
    )
    tissue: Literal["auto", "all"] = Field("auto", description="Work on the tissue found, or on the whole slide.")
    tile: int | None = Field(None, description="Tile side in pixels of the model's maps; default: the bundle's.")
    halo: int | None = Field(None, description="Margin read around each tile, in pixels; default: the bundle's.")
    device: Literal["cpu", "cuda"] = Field("cpu", description="Where the network runs.")
    precision: Precision = Field(
        "auto",
        description="Arithmetic of the network; auto: the model's, or bf16 where the processor and OpenVINO have it.",
    )
    tta: Tta = Field(
        1, description="Test-time augmentation: 4 or 8 shows each tile rotated, and mirrored too; so many times slower."
    )
    batch: int = Field(1, description="Tiles per call of the network.")
    workers: int | None = Field(
        None, description="Threads that work on tiles; default: one per core, if memory allows."
    )
    embeddings: bool = Field(
        False, description="Keep a vector of each nucleus in cells.parquet: what the network makes of it, inside."
    )
    exclude_artefacts: bool = Field(
        False, description="Search no nuclei, and count no tissue, where it is out of focus, inked or covered."
    )
    exclude_folds: bool = Field(
        False, description="Nor where tissue may be folded; folds are less sure: look at the picture first."
    )
    sheet: bool = Field(
        False, description="Draw sheet.png, too: crops of each type, from the surest to the least sure."
    )
    overwrite: bool = Field(False, description="Replace results that are already there, instead of skipping them.")
    quiet: bool = Field(False, description="No progress, no summary; errors are still printed.")

    @field_validator("scene", mode="before")
    @classmethod
    def _name(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value

    @field_validator("mpp")
    @classmethod
    def _resolution(cls, value: float | None) -> float | None:
        if value is not None and not MPP_MIN <= value <= MPP_MAX:
            raise ValueError(f"is not a microscope's resolution; allowed are {MPP_MIN:g} to {MPP_MAX:g} µm per pixel")
        return value

    @field_validator("tile", "halo", "batch", "workers")
    @classmethod
    def _whole_number(cls, value: int | None, info: Any) -> int | None:
        low, high = {"tile": (64, 16384), "halo": (0, 1024), "batch": (1, 256), "workers": (1, 256)}[info.field_name]
        if value is not None and not low <= value <= high:
            raise ValueError(f"is out of range; allowed are {low} to {high}")
        return value


class SegmentSettings(SlideSettings):
    """Settings of `cytolite segment`: slides, and the regions on them."""

    roi: Path | None = Field(None, description="GeoJSON file of regions (QuPath annotations) to work on.")


# Share of crops drawn from each source: outlines are best in CoNSeP and MoNuSeg, types in PanNuke and MoNuSAC. Those
# that a run has count, in these proportions.
SOURCE_SHARES = {
    "consep": 0.38, "pannuke": 0.26, "monuseg": 0.18, "monusac": 0.12, "puma": 0.06,
    "monuseg_more": 0.20, "cpm17": 0.08, "cpm15": 0.04, "cpm15_test": 0.03, "gbm40": 0.08, "lgg_tcga": 0.05,
    "nuinsseg": 0.22, "brca_m2c_points": 0.12, "crchisto_points": 0.10, "brecahad_boxes": 0.05,
    "mitosis_amibr": 0.03, "mitosis_atnorm_md": 0.02, "monusac_macrophages": 0.02,
}  # fmt: skip


class TrainSettings(Settings):
    """What determines a trained network, beside the store."""

    encoder: str = Field("efficientnet_lite0", description="Row of the encoder table, or a CNN or ViT of timm.")
    decoder: Decoder | None = Field(
        None,
        description="light, wide, shuffle: fast students; unetr: teacher; unetpp: the paper's student; "
        "default: the encoder's.",
    )
    pretrained: bool = Field(True, description="Start the encoder from pretrained weights.")
    weights: Path | None = Field(None, description="File of the pretrained weights; default: a package or the hub.")
    frozen: bool | None = Field(None, description="Keep the encoder as it is; default: those trained on pathology.")
    start: str | None = Field(None, description="Bundle or run, by name or path, whose weights training starts from.")
    mpp: float = Field(0.25, description="Resolution of the images the network sees, µm per pixel.")
    crop_px: int = Field(256, description="Side of a training crop, a multiple of 32.")
    batch: int = Field(16, description="Crops per step.")
    steps_per_epoch: int = Field(500, description="An epoch ends with a validation and a checkpoint.")
    epochs: int = Field(15)
    learning_rate: float = Field(2e-3)
    encoder_rate: float = Field(0.3, description="Learning rate of the encoder, as a share of the rest's.")
    weight_decay: float = Field(0.02)
    warmup_steps: int = Field(100)
    ema_decay: float = Field(0.998, description="Of the averaged weights that are validated and exported.")
    loss: Literal["light", "paper"] = Field(
        "light",
        description="light: nucleus and type apart; paper: smoothed cross-entropy and focal loss of all classes.",
    )
    flow_weight: float = Field(3.0)
    nucleus_weight: float = Field(1.0, description="Nucleus against background, in the loss 'light'.")
    type_weight: float = Field(0.7, description="Types in the loss 'light', cross-entropy in the loss 'paper'.")
    focal_weight: float = Field(1.0, description="Focal loss, in the loss 'paper'.")
    focal_gamma: float = Field(2.0, ge=0)
    decoupling_weight: float = Field(0.01, description="Spectral decoupling, in the loss 'paper'.")
    smoothing_px: float = Field(1.0, ge=0.3, description="Sigma of the label smoothing, in the loss 'paper'.")
    rare_loss: Literal["weights", "adjusted", "focal"] = Field(
        "weights",
        description="Rare types in the loss 'light': weighted; logits adjusted by the prior; class-balanced focal.",
    )
    balanced_share: float = Field(0.25, description="Share of crops centred on a nucleus of a type drawn for it.")
    rare_power: float = Field(
        1.0,
        ge=0,
        le=2,
        description="How types are drawn for these crops: 1 all alike, 0 by their nuclei, 2 rare first.",
    )
    source_shares: dict[str, float] = Field(default_factory=lambda: dict(SOURCE_SHARES))
    source_power: float | None = Field(
        None, ge=0, le=1, description="In place of the shares: sources by their area to this power, 0 all alike."
    )
    stain_jitter: float = Field(0.2, ge=0, le=1, description="Strength of the random change of stain.")
    blur_share: float = Field(0.2, ge=0, le=1, description="Share of crops that are blurred.")
    blur_px: float = Field(1.0, ge=0.3, le=5, description="Largest sigma of that blur.")
    held_back: float = Field(0.2, description="Share of each source's groups that validate.")
    fold: int = Field(0, ge=0, description="Which of these shares, from 0; all of them once are a cross-validation.")
    duplicates: Path | None = Field(None, description="Pairs that must not be split, as `inspect --pairs` writes them.")
    types: Path | None = Field(
        None, description="TOML or JSON file of the types to learn, 2 to 64; default: those of the stores."
    )
    map: Path | None = Field(
        None, description='TOML or JSON file: what types of the stores are called, or "unknown", or "ignore".'
    )
    seed: int = Field(0)
    threads: int = Field(2, description="CPU threads of torch.")
    loaders: int = Field(1, description="Processes that prepare crops.")
    accumulate: int = Field(1, ge=1, description="Batches whose gradients make one step.")
    devices: str = Field("auto", description="How many GPUs, or which ('0,1'); Lightning's devices.")
    nodes: int = Field(1, ge=1, description="Machines.")
    strategy: str = Field("auto", description="Lightning's strategy for several devices, such as ddp.")
    precision: str = Field("32-true", description="Lightning's precision; 16-mixed or bf16-mixed on a GPU.")
    patience: int = Field(0, ge=0, description="Stop after so many epochs without a better score; 0: never.")
    fixed_crops: int = Field(
        0, ge=0, description="Draw so many crops once and use them again and again; 0: always new."
    )
    cache: Path | None = Field(
        None,
        description="Folder that keeps a frozen encoder's maps of fixed crops, or soft targets.",
    )


class DistillSettings(TrainSettings):
    """What determines a distilled network, beside the teacher and the stores."""

    temperature: float = Field(
        14.0, ge=1, description="Softens the teacher's and the student's classes (the paper's T)."
    )
    hard_weight: float = Field(0.3, ge=0, description="Weight of the losses against the truth (the paper's alpha).")
    soft_weight: float = Field(0.7, ge=0, description="Weight of the losses against the teacher (the paper's beta).")
    soft_on: Literal["known", "all"] = Field(
        "known", description="Pixels that learn from the teacher: where the truth is known, or all."
    )
    teacher_image: Literal["clean", "same"] = Field(
        "clean",
        description="What the teacher sees: training images as they are, once; or, at each step, the student's crops.",
    )
    teachers: tuple[str, ...] = Field((), description="More teachers; the student learns the mean of all.")
    teacher_tta: Tta = Field(1, description="Test-time augmentation of the teacher: 4 or 8, as of `segment`.")
    teacher_scales: tuple[float, ...] = Field(
        (1.0,), description="Ask at the teacher's µm per pixel times each of these, and take the mean."
    )

    @field_validator("teacher_scales")
    @classmethod
    def _scales(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or not all(0.25 <= scale <= 4 for scale in value):
            raise ValueError("is out of range; allowed are one or more numbers from 0.25 to 4")
        return value


class RelabelSettings(Settings):
    """Settings of `cytolite relabel`. Those in px are meant at 0.25 um/px and scaled to each patch's resolution."""

    recipe: Path | None = Field(None, description="TOML file: what is split by which classifier; default: the paper's.")
    margin_px: int = Field(15, ge=0, le=200, description="A cell's bounding box is widened by this on each side.")
    crop_px: int = Field(64, ge=32, le=512, description="Side that the widened box is resized to, bicubic.")
    border_px: int = Field(4, ge=0, le=100, description="Dropped on each side of a patch before it is mirrored.")
    min_area_px: int = Field(90, ge=1, description="Smaller cells neither train nor test a classifier.")
    stain: Literal["as_is", "macenko"] = Field("as_is", description="Normalise the stain of every patch, or do not.")
    architecture: str = Field("resnet50", description="Any classifier of timm, by name.")
    pretrained: bool = Field(True, description="Start from ImageNet weights, where a file or a package has them.")
    weights: Path | None = Field(None, description="File of ImageNet weights of the architecture.")
    dropout: float = Field(0.5, ge=0, lt=1, description="Before the last layer.")
    equalise: Literal["rarest", "resample", "none"] = Field(
        "rarest", description="Cut every class to the rarest, or draw classes equally often anew each epoch."
    )
    stain_jitter: float = Field(0.2, ge=0, le=1, description="Strength of the random change of stain in training.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Share of each target given to all types.")
    batch: int = Field(64, ge=2, le=4096, description="Crops per step.")
    epochs: int = Field(20, ge=1, description="At most; the best on validation is kept.")
    patience: int = Field(5, ge=1, description="Epochs without a better validation before training stops.")
    learning_rate: float = Field(3e-4, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    min_probability: float = Field(0.0, ge=0, le=1, description="A cell below it is not given a fine type.")
    below: Literal["coarse", "unknown"] = Field(
        "coarse", description="Such a cell keeps its coarse label (a set of types), or its type is ignored."
    )
    duplicates: Path | None = Field(
        None, description="Pairs that show the same tissue, as `inspect --pairs` writes them; kept on one side."
    )
    sheet_cells: int = Field(100, ge=1, le=2500, description="Crops on each sheet.")
    seed: int = Field(0, ge=0)
    threads: int = Field(2, ge=1, le=256, description="CPU threads of torch.")
    loaders: int = Field(0, ge=0, le=64, description="Processes that prepare crops for training.")
    device: Literal["cpu", "cuda"] = Field("cpu", description="Where the classifiers run.")
    overwrite: bool = Field(
        False, description="Replace the result that is there; its classifiers are used if they fit."
    )
    quiet: bool = Field(False, description="No progress and no tables; errors are still printed.")


AnySettings = TypeVar("AnySettings", bound=Settings)


class TeachSettings(Settings):
    """Settings of `cytolite teach`, beside results and labels."""

    model: str | None = Field(None, description="Bundle whose network found the nuclei, if not an embedded one.")
    unlabelled: Literal["drop", "keep"] = Field(
        "drop", description="The parent's types without labels are dropped, or keep the probability that it gave them."
    )
    embeddings: bool | None = Field(
        None, description="Use the embeddings of `segment --embeddings`; default: where all results have them."
    )
    version: str = Field("1", description="Version of the new model.")
    seed: int = Field(0, ge=0, description="Of the draws and resamples.")
    overwrite: bool = Field(False, description="Replace a bundle that is there.")
    quiet: bool = Field(False, description="No scores; errors and notes are still printed.")


class EvaluateSettings(Settings):
    """Settings of `cytolite evaluate`, beside what is compared with what."""

    types: Path | None = Field(None, description="TOML or JSON file: what the ids of type maps mean.")
    map: Path | None = Field(None, description="TOML or JSON file: what the truth calls types of the predictions.")
    images: Path | None = Field(None, description="CSV file with a column 'image', to add columns such as tissue.")
    by: tuple[str, ...] = Field((), description="Columns whose entries are scored apart; default: source, if several.")
    group: str = Field("image", description="Column whose entries are resampled as a whole, e.g. group or patient.")
    resamples: int = Field(1000, description="Bootstrap resamples.")
    seed: int = Field(0, description="Of the bootstrap, and of the choice of held-back images.")
    held_back: float | None = Field(None, description="Score only what `train` holds back with this share.")
    duplicates: Path | None = Field(None, description="The pairs that `train --duplicates` was given.")
    mpp: float | None = Field(None, description="Resolution of label folders, µm per pixel.")
    threads: int = Field(2, description="Threads of the network.")
    tta: Tta = Field(1, description="Test-time augmentation: 1, 4 or 8, as of `segment`.")
    protocol: str | None = Field(None, description="PanNuke's folds: paper, official or rotation; needs a column fold.")
    pictures: bool = Field(True, description="Show the best, median and worst images in report.html.")
    overwrite: bool = Field(False, description="Replace a report that is already there.")
    quiet: bool = Field(False, description="No progress, no summary; errors are still printed.")

    @field_validator("resamples", "threads")
    @classmethod
    def _count(cls, value: int, info: Any) -> int:
        high = {"resamples": 100_000, "threads": 256}[info.field_name]
        if not 1 <= value <= high:
            raise ValueError(f"is out of range; allowed are 1 to {high}")
        return value

    @field_validator("mpp")
    @classmethod
    def _resolution(cls, value: float | None) -> float | None:
        return SegmentSettings._resolution(value)

    @field_validator("held_back")
    @classmethod
    def _share(cls, value: float | None) -> float | None:
        if value is not None and not 0 < value < 1:
            raise ValueError("is out of range; a share lies between 0 and 1")
        return value


class SpatialSettings(Settings):
    """What determines the measures of `cytolite spatial`, beside the results."""

    window: Literal["tissue", "cells"] = Field(
        "tissue", description="Ground of all areas: the result's tissue, or what lies within 50 um of a cell."
    )
    roi: Path | None = Field(None, description="GeoJSON file of regions to measure by themselves, on old results too.")
    tumour: tuple[str, ...] = Field((), description="Types that are tumour; default: neoplastic.")
    lymphocytes: tuple[str, ...] = Field((), description="Types that are lymphocytes; default: lymphocyte.")
    stroma: tuple[str, ...] = Field((), description="Types that are stroma; default: connective.")
    scale_um: float = Field(100.0, ge=10, le=2000, description="Sigma of the density maps.")
    tile_um: float = Field(100.0, ge=20, le=5000, description="Width of the tiles that cells are counted in.")
    tile: Literal["hexagon", "square"] = Field("hexagon", description="Shape of the tiles.")
    edge_um: float = Field(40.0, ge=5, le=500, description="Longest edge of the graph of neighbours.")
    reach_um: float = Field(100.0, ge=20, le=300, description="How far K functions and co-occurrence reach.")
    bands_um: tuple[float, ...] = Field(
        (100.0, 250.0, 500.0), description="Ends of the bands on either side of the tumour's front; may be repeated."
    )
    resamples: int = Field(
        1000, ge=0, le=100_000, description="Bootstrap resamples of blocks of tissue; 0: no intervals."
    )
    draws: int = Field(20, ge=0, le=1000, description="Draws of the types from their probabilities.")
    permutations: int = Field(200, ge=0, le=10_000, description="Shuffles of the types for neighbourhood enrichment.")
    envelopes: int = Field(39, ge=0, le=999, description="Shuffles of the types for the envelopes of K functions.")
    seed: int = Field(0, description="Of all that is drawn.")
    cells: bool = Field(False, description="Write spatial/cells.parquet: the cells with what is around each.")
    anndata: bool = Field(False, description="Write spatial/cells.h5ad, with the graph where squidpy looks for it.")
    spatialdata: bool = Field(False, description="Write spatial/cells.zarr, as SpatialData.")
    report: bool = Field(True, description="Write report.html, report.pdf and pictures.")
    overwrite: bool = Field(False, description="Replace measures that are there and were made with other settings.")
    quiet: bool = Field(False, description="No progress, no summary; errors are still printed.")

    @field_validator("tumour", "lymphocytes", "stroma", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        given = (value,) if isinstance(value, str) else value
        return tuple(name.strip() for text in given for name in str(text).split(",") if name.strip())

    @field_validator("bands_um")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or value[0] <= 0 or any(a >= b for a, b in pairwise(value)) or value[-1] > 5000:
            raise ValueError("is out of range; allowed are rising distances above 0 and up to 5000 um")
        return value


def make_settings(kind: type[AnySettings], given: dict[str, Any], config: Path | None = None) -> AnySettings:
    """Return settings from what was `given`, then from a TOML file, then from the defaults.

    Parameters
    ----------
    kind : type
        A `Settings` class; its table in the file is its name without "Settings", in lower case.
    given : dict
        Flags or keywords, only those that were really given; they win over the file.
    config : pathlib.Path, optional
        TOML file with one table per command, e.g. ``[segment]``.

    Raises
    ------
    InputError
        In one sentence, if a name is unknown, a value is not allowed or the file cannot be read.
    """
    table = kind.__name__.removesuffix("Settings").lower()
    from_file = _read_table(config, table) if config is not None else {}
    try:
        return kind(**(settings_of_today(from_file) | settings_of_today(given)))
    except ValidationError as error:
        raise UsageError(explain(error, kind)) from None


def all_settings(kind: type[Settings] = Settings) -> list[type[Settings]]:
    """Return all kinds of settings, those that extend others included."""
    return [found for child in kind.__subclasses__() for found in (child, *all_settings(child))]


def explain(error: ValidationError, kind: type[Settings]) -> str:
    """Return the first complaint of pydantic as one sentence.

    Parameters
    ----------
    error : ValidationError
        Of the validation.
    kind : type
        The settings that were to be made, for the names that are allowed.
    """
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"]) or kind.__name__
    if first["type"] == "extra_forbidden":
        known = kind.model_fields
        return f"There is no setting {name!r}; known are {', '.join(known)}.{did_you_mean(name, known)}"
    message = first["msg"].removeprefix("Value error, ")
    message = message if message.startswith("is ") else f"is not allowed: {message[0].lower()}{message[1:]}"
    return f"{name} = {first['input']} {message.split(', unable')[0]}."


def _read_table(path: Path, table: str) -> dict[str, Any]:
    content = read_toml(path, "The settings file")
    for name, value in content.items():
        if name not in TABLES or not isinstance(value, dict):
            raise UsageError(
                f"The settings file {path} holds {name!r} outside the known tables "
                f"{', '.join(f'[{known}]' for known in TABLES)}.{did_you_mean(name, TABLES)}"
            )
    return dict(content.get(table, {}))
