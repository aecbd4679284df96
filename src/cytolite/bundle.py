"""Bundle: a folder with a model's ONNX weights, what is needed to use them, and its card."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from cytolite.cells import CellTable
from cytolite.celltypes import DEFAULT, TYPE_NAMES, TypeSet
from cytolite.classifier import Classifier
from cytolite.config import MPP_MAX, MPP_MIN
from cytolite.errors import BundleError, InputError, UnknownModelError, did_you_mean
from cytolite.files import sha256_of, whole_folder
from cytolite.renamed import MODELS, of_today

FORMAT = 3  # 2: says what was held back in training; 3: any types, taught classifiers, embeddings
ONNX_NAME, SPEC_NAME, CARD_NAME, REPORT_NAME = "model.onnx", "model.json", "CARD.md", "report.json"
EMBEDDING_NAME, MOST_CHANNELS = "embedding.onnx", 32
WEIGHTS_NAME = "weights.safetensors"  # of a bundle that was exported of a run: what further training starts from
ASSETS = Path(__file__).parent / "assets"


class HeldBack(BaseModel):
    """What the run that a bundle came from held back: by what rule, and a hash of the images."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: float = Field(gt=0, lt=1, description="Share of each source's groups.")
    seed: int = Field(description="Of the draw.")
    duplicates: bool = Field(False, description="Whether a list of near-duplicates kept images on one side.")
    mapping: dict[str, str] = Field({}, description="What types of the stores were called, where otherwise.")
    images_sha256: dict[str, str] = Field({}, description="Of each source: SHA-256 of the names of its images.")


class Embedding(BaseModel):
    """What makes a vector of each nucleus: a third output of the graph, in a file of its own beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: int = Field(ge=1, le=MOST_CHANNELS, description="Numbers in a vector.")
    source: str = Field(description="Inner maps of the network that it is made of.")
    sha256: str = Field(description="SHA-256 of embedding.onnx.")


def described(type_set: TypeSet) -> dict[str, Any]:
    """Return the fields of `ModelSpec` that say which types there are."""
    return {
        "types": type_set.names,
        "colours": type_set.colours,
        "groups": {t.name: t.parent for t in type_set if t.parent} or None,
        "qupath_classes": {t.name: t.qupath for t in type_set if t.qupath} or None,
    }


class ModelSpec(BaseModel):
    """What a bundle says about its model (``model.json``)."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    format: int = Field(FORMAT, description="Version of this file's format.")
    name: str = Field(description="Name of the model; the bundle's folder is called the same.")
    version: str = Field(description="Version of the weights.")
    types: tuple[str, ...] = Field(TYPE_NAMES, description="Cell types in the order of the network's classes 1, 2, ...")
    colours: tuple[tuple[int, int, int], ...] = Field((), description="RGB of each type.")
    groups: dict[str, str] | None = Field(None, description="Group of each type that is in one.")
    qupath_classes: dict[str, str] | None = Field(None, description="QuPath class of types that are called otherwise.")
    classifier: Classifier | None = Field(None, description="What names nuclei in place of the network, if taught.")
    mpp: float = Field(ge=MPP_MIN, le=MPP_MAX, description="Resolution of the images it was trained on, um/px.")
    mean: tuple[float, float, float] = Field(description="Subtracted inside the graph, RGB in 0 to 1.")
    std: tuple[float, float, float] = Field(description="Divided by inside the graph, RGB in 0 to 1.")
    stride: int = Field(1, ge=1, le=2, description="Pixels of the image per pixel of the maps: 1 or 2.")
    tile: int = Field(1024, ge=64, le=16384, description="Side of a tile's core, px of the maps.")
    halo: int = Field(64, ge=0, le=1024, description="Margin read around the core, px of the maps.")
    foreground_threshold: float = Field(0.5, gt=0, lt=1, description="A pixel is nucleus where P(nucleus) is above it.")
    flow_threshold: float = Field(0.4, ge=0, description="Largest mean squared flow error of a nucleus; 0 = no check.")
    type_temperature: float = Field(1.0, gt=0, description="Type logits are divided by it for probabilities.")
    min_area_um2: float = Field(4.0, ge=0, description="Smaller nuclei are dropped.")
    licence: str = Field(description="Licence of the weights.")
    data: tuple[str, ...] = Field((), description="Data it was trained on.")
    parameters: int = Field(0, ge=0, description="Number of weights.")
    validation: dict[str, float] = Field({}, description="Numbers measured on held-back images.")
    held_back: HeldBack | None = Field(None, description="What was held back in training; None: not recorded.")
    few_examples: dict[str, tuple[int, int]] = Field(
        {}, description="Types not to be relied on: how many of each trained and tested it."
    )
    made_with: tuple[str, ...] = Field((), description="Commands that made it, one after the other.")
    onnx_sha256: str = Field("", description="SHA-256 of model.onnx.")
    embedding: Embedding | None = Field(None, description="Vectors that it gives of each nucleus, if it does.")

    @model_serializer(mode="wrap")
    def _without_what_is_not_recorded(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A bundle of format 1 stays the same text, by whose hash results know what they were made with."""
        told = handler(self)
        return {n: v for n, v in told.items() if v is not None and (v or n not in {"made_with", "few_examples"})}

    @cached_property
    def type_set(self) -> TypeSet:
        """The types of the cells that the model finds."""
        if self.types == TYPE_NAMES and not self.groups and not self.qupath_classes:
            return DEFAULT
        colours = self.colours or (None,) * len(self.types)
        if len(colours) != len(self.types):
            raise InputError(f"There are {len(self.types)} types and {len(colours)} colours.")
        for name in (*(self.groups or ()), *(self.qupath_classes or ())):
            if name not in self.types:
                raise InputError(f"{name!r} is none of the types.{did_you_mean(name, self.types)}")
        named = {"parent": self.groups or {}, "qupath": self.qupath_classes or {}}
        return TypeSet.from_description(
            [
                {"name": name, "colour": colour, **{key: of.get(name) for key, of in named.items()}}
                for name, colour in zip(self.types, colours, strict=True)
            ]
        )

    @property
    def network_types(self) -> TypeSet:
        """The types that the network tells apart: others than the cells' where a classifier names them anew."""
        return self.classifier.network_types if self.classifier else self.type_set

    def named(self, cells: CellTable) -> CellTable:
        """Return cells that the network found under the names of this model: of its classifier, where it has one."""
        return self.classifier.name(cells, self.type_set) if self.classifier else cells


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose weights were checked against its spec.

    Attributes
    ----------
    path : pathlib.Path
        Its folder.
    spec : ModelSpec
        What it says of itself.
    sha256 : str
        Of the weights.
    network : pathlib.Path, optional
        Folder of the bundle whose network this one uses, where it has none of its own.
    """

    path: Path
    spec: ModelSpec
    sha256: str
    network: Path | None = None

    @property
    def spec_sha256(self) -> str:
        """Of all in the spec but how it was made and tested: other thresholds find other cells, embeddings do not."""
        others: dict[str, Any] = {"made_with": (), "held_back": None, "few_examples": {}, "embedding": None}
        decisive = self.spec.model_copy(update=others)
        return hashlib.sha256(decisive.model_dump_json().encode()).hexdigest()

    @property
    def onnx_path(self) -> Path:
        """The network's weights and graph."""
        return (self.network or self.path) / ONNX_NAME

    @property
    def embedding_path(self) -> Path:
        """What makes the graph give an embedding too, when it is read behind it."""
        return self.path / EMBEDDING_NAME

    def channels(self, asked: bool) -> int:
        """Return how many numbers the vector of a nucleus shall have: none if not `asked` and no classifier needs it.

        Raises
        ------
        InputError
            If the model gives none.
        """
        needed = self.spec.classifier is not None and self.spec.classifier.uses_embeddings
        if not asked and not needed:
            return 0
        if self.spec.embedding is None:
            having = [name for name in embedded_names() if _read_spec(ASSETS / name).embedding]
            raise InputError(
                f"The model {self.spec.name!r} gives no embeddings; of the embedded ones {', '.join(having)} do, and "
                "`cytolite export MODEL --kind embedding --stores ...` makes a bundle that does."
            )
        return self.spec.embedding.channels


def load_bundle(name_or_path: str | Path | None = None) -> Bundle:
    """Return the bundle called so, or in that folder; ``None`` is the embedded default.

    Raises
    ------
    BundleError
        If there is none, or it is damaged, of a newer format, or uses the network of a bundle that is not here.
    """
    folder = _find(name_or_path)
    spec = _read_spec(folder)
    network = None if spec.classifier is None or (folder / ONNX_NAME).is_file() else _network_of(folder, spec)
    weights = (network or folder) / ONNX_NAME
    digest = _sha256(weights)
    if digest != spec.onnx_sha256:
        raise BundleError(
            f"The weights {weights} are damaged or were changed: their SHA-256 is {digest[:12]}..., "
            f"{SPEC_NAME} says {spec.onnx_sha256[:12] or 'none'}...; copy or download the bundle again."
        )
    bundle = Bundle(folder, spec, digest, network)
    if spec.embedding and _sha256(bundle.embedding_path) != spec.embedding.sha256:
        raise BundleError(
            f"{bundle.embedding_path} is damaged or was changed: its SHA-256 is not the one that {SPEC_NAME} says; "
            "copy or download the bundle again."
        )
    return bundle


def model_identity(bundle: Bundle) -> dict[str, str]:
    """Return what results say of their model: name, version, hash of the weights; of a taught one parent and slides.

    Slides that it was taught on are told by their hashes, so that results of these are not scored.
    """
    spec = bundle.spec
    taught = spec.classifier
    parent = {"parent": taught.parent, "taught_on": " ".join(taught.slides)} if taught else {}
    return {"name": spec.name, "version": spec.version, "onnx_sha256": bundle.sha256, **parent}


def _network_of(folder: Path, spec: ModelSpec) -> Path:
    """Return the embedded bundle whose network a taught one uses."""
    for name in embedded_names():
        if _read_spec(ASSETS / name).onnx_sha256 == spec.onnx_sha256:
            return ASSETS / name
    raise BundleError(
        f"The model {folder} uses the network of {spec.classifier.parent if spec.classifier else 'another'} "
        f"(SHA-256 {spec.onnx_sha256[:12]}...), which is not in this installation; copy that model's {ONNX_NAME} into "
        "the folder, or install the version of cytolite that it was taught with."
    )


def write_taught(
    folder: Path, parent: Bundle, spec: ModelSpec, card: str, report: str, *, replace: bool = False
) -> Bundle:
    """Write a bundle of a classifier: with the parent's weights only if they are not in the package.

    Parameters
    ----------
    folder : pathlib.Path
        Where the bundle shall be.
    parent : Bundle
        Whose network it uses.
    spec : ModelSpec
        Its description, classifier included.
    card : str
        Markdown.
    report : str
        What the card says, as JSON for programs such as QuPath's extension.
    replace : bool
        Take the place of a bundle that is there.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with whole_folder(folder, replace=replace) as part:
        if parent.onnx_path.parent.parent != ASSETS:
            shutil.copyfile(parent.onnx_path, part / ONNX_NAME)
        if spec.embedding:  # small, and that of another version would make other vectors
            shutil.copyfile(parent.embedding_path, part / EMBEDDING_NAME)
        (part / SPEC_NAME).write_text(spec.model_dump_json(indent=2) + "\n", encoding="utf-8")
        (part / CARD_NAME).write_text(card, encoding="utf-8")
        (part / REPORT_NAME).write_text(report, encoding="utf-8")
    return load_bundle(folder)


def write_bundle(
    folder: Path, onnx_path: Path, spec: ModelSpec, card: str, weights: Path | None = None, *, embedding: bytes = b""
) -> Bundle:
    """Write a bundle beside `folder`, then rename it into place; an older one there is replaced.

    Parameters
    ----------
    folder : pathlib.Path
        Where the bundle shall be.
    onnx_path : pathlib.Path
        Weights to copy; their hash is put into the spec.
    spec : ModelSpec
        Everything else; `spec.onnx_sha256` is ignored.
    card : str
        Markdown.
    weights : pathlib.Path, optional
        The network's tensors, to train on from.
    embedding : bytes
        What makes the graph give an embedding too, which the spec then describes; an embedding of another graph does
        not fit this one.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with whole_folder(folder, replace=True) as part:
        shutil.copyfile(onnx_path, part / ONNX_NAME)
        if weights is not None:
            shutil.copyfile(weights, part / WEIGHTS_NAME)
        spec = spec.model_copy(update={"onnx_sha256": sha256_of(part / ONNX_NAME)})
        if embedding:
            (part / EMBEDDING_NAME).write_bytes(embedding)
        else:
            spec = spec.model_copy(update={"embedding": None})
        (part / SPEC_NAME).write_text(spec.model_dump_json(indent=2) + "\n", encoding="utf-8")
        (part / CARD_NAME).write_text(card, encoding="utf-8")
    return load_bundle(folder)


def embedded_names() -> list[str]:
    """Names of the bundles inside the package."""
    return sorted(path.parent.name for path in ASSETS.glob(f"*/{SPEC_NAME}"))


def purpose(name: str) -> str:
    """Return what an embedded bundle is good for, in a few words."""
    purposes: dict[str, str] = json.loads((ASSETS / "purposes.json").read_text(encoding="utf-8"))
    return purposes[name]


def disk_bytes(bundle: Bundle) -> int:
    """Return the size of all files of a bundle but what only training needs."""
    return sum(path.stat().st_size for path in bundle.path.iterdir() if path.name != WEIGHTS_NAME)


def _find(name_or_path: str | Path | None) -> Path:
    names = embedded_names()
    if name_or_path is None:
        return ASSETS / _default_name(names)
    folder = Path(name_or_path)
    if not folder.is_dir():
        name_or_path = of_today(MODELS, str(name_or_path))
    if str(name_or_path) in names:
        return ASSETS / str(name_or_path)
    if folder.name in (SPEC_NAME, ONNX_NAME):
        folder = folder.parent
    if not folder.is_dir():
        raise UnknownModelError(
            f"There is no model {str(name_or_path)!r}: neither an embedded one ({', '.join(names) or 'none here'}) "
            f"nor a folder with {SPEC_NAME} and {ONNX_NAME}.{did_you_mean(str(name_or_path), names)}"
        )
    return folder


def _default_name(names: list[str]) -> str:
    default = ASSETS / "default.txt"
    if default.is_file():
        return default.read_text(encoding="utf-8").strip()
    if len(names) == 1:
        return names[0]
    raise BundleError(
        f"This installation has no default model (embedded: {', '.join(names) or 'none'}); "
        "name a model or the folder of a bundle with --model."
    )


def _read_spec(folder: Path) -> ModelSpec:
    path = folder / SPEC_NAME
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(
            f"The bundle {folder} cannot be used: its {SPEC_NAME} cannot be read ({error.strerror or error}); "
            f"a bundle is a folder with {ONNX_NAME}, {SPEC_NAME} and {CARD_NAME}."
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is not valid JSON ({error}); copy or download the bundle again.") from None
    # Looked at before anything else: a newer format may have fields and meanings that are unknown here.
    version = content.get("format") if isinstance(content, dict) else None
    if not isinstance(version, int) or version < 1:
        raise BundleError(f"{path} is not the description of a cytolite model: its 'format' must be 1 to {FORMAT}.")
    if version > FORMAT:
        raise BundleError(
            f"The bundle {folder} has format {version}; this cytolite reads up to {FORMAT}: install a newer cytolite."
        )
    try:
        spec = ModelSpec(**content)
    except ValidationError as error:
        raise BundleError(f"{path} is not valid: {_first_complaint(error)}.") from None
    try:
        n_types, n_inputs = len(spec.type_set), len(spec.classifier.inputs) if spec.classifier else 0
        _ = spec.network_types
    except InputError as error:
        raise BundleError(f"{path} is not valid: {error}") from None
    if spec.classifier and not _fits(spec.classifier, n_types, n_inputs):
        raise BundleError(
            f"{path} is not valid: its classifier needs {n_inputs} numbers for each of {n_types} types; "
            "copy the bundle again."
        )
    return spec


def _fits(classifier: Classifier, n_types: int, n_inputs: int) -> bool:
    """Whether all numbers of a classifier are there, and are numbers."""
    rows = [classifier.mean, classifier.scale, *classifier.coefficients]
    return (
        len(classifier.coefficients) == len(classifier.intercepts) == n_types
        and all(len(row) == n_inputs and all(map(math.isfinite, row)) for row in rows)
        and all(map(math.isfinite, classifier.intercepts))
        and all(scale > 0 for scale in classifier.scale)
        and all(1 <= i <= n_types and 1 <= j <= len(classifier.network_types) for i, j in classifier.kept.items())
    )


def _first_complaint(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{name!r} is no field of it, known are {', '.join(ModelSpec.model_fields)}"
    return f"{name!r}: {first['msg'][0].lower()}{first['msg'][1:]}"


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise BundleError(
            f"The weights {path} cannot be read ({error.strerror or error}); copy or download the bundle again."
        ) from None
