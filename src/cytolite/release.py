"""From a training run to a bundle: export, score the exported graph on held-back images, write the card."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytolite.celltypes import CELL_TYPES, COARSE_LABELS, N_TYPES
from cytolite.config import DistillSettings, TrainSettings
from cytolite.datasets.catalogue import DATASETS
from cytolite.datasets.census import nuclei_per_label
from cytolite.evaluation.scoring import ImageScore, headline, score_image
from cytolite.export import export_onnx
from cytolite.inference.predict import Predictor
from cytolite.inference.refine import FACTOR, refine
from cytolite.inference.tile import find_nuclei, vote_types
from cytolite.models.bundle import Bundle, ModelSpec, load_bundle, write_bundle
from cytolite.models.card import CardFacts, SourceRow, TypeRow, render
from cytolite.models.encoders import encoder_spec
from cytolite.patches import Patch
from cytolite.temperature import fit_temperature
from cytolite.training.losses import allowed_table
from cytolite.training.run import split, trained_network
from cytolite.training.validate import pad_to_stride, resize

# All data but CoNSeP and PUMA are share-alike and non-commercial, and their union binds the weights.
LICENCE = "CC-BY-NC-SA-4.0"
# What lies 80 px of the maps away moves the log odds by less than 0.001, what lies 104 px away by nothing measurable:
TILE_PX, HALO_PX, MIN_AREA_UM2 = 1024, 96, 5.0


def release(run: Path, out: Path, version: str, stores: Sequence[Path] = ()) -> Bundle:
    """Make a bundle of a training run; see `cytolite.pipeline.export`."""
    network, settings, trained_on = trained_network(run)
    training, held_back = split(list(stores) or trained_on, settings)
    encoder = encoder_spec(settings.encoder)
    spec = ModelSpec(
        name=out.name,
        version=version,
        colours=tuple(t.colour for t in CELL_TYPES),
        mpp=settings.mpp,
        stride=network.stride,
        mean=encoder.mean,
        std=encoder.std,
        tile=TILE_PX,
        halo=HALO_PX,
        min_area_um2=MIN_AREA_UM2,
        licence=LICENCE,
        data=tuple(sorted({p.source for p in training})),
        parameters=sum(p.numel() for p in network.parameters()),
    )
    with tempfile.TemporaryDirectory() as folder:
        onnx_path = Path(folder) / "model.onnx"
        # The check runs on a real image of every source.
        for source in spec.data:
            patch = next(p for p in held_back if p.source == source)
            export_onnx(network, onnx_path, pad_to_stride(resize(patch.image, patch.mpp / spec.mpp))[None])
        bundle = write_bundle(out, onnx_path, spec, "")
        spec = spec.model_copy(update={"type_temperature": fit_temperature(bundle, held_back).temperature})
        scores = score_bundle(bundle, held_back)
        intervals = headline(scores)
        spec = spec.model_copy(update={"validation": {name: round(i.value, 4) for name, i in intervals.items()}})
        facts = CardFacts(
            encoder=settings.encoder,
            sources=source_rows(training, held_back),
            types=type_rows(scores, training, held_back),
            coarse=coarse_counts(training, held_back),
            scores={name: f"{i}, n = {i.n}" for name, i in intervals.items()},
            commands=commands(settings, spec),
        )
        write_bundle(out, onnx_path, spec, render(spec, facts))
    return load_bundle(out)


def score_bundle(bundle: Bundle, patches: Sequence[Patch]) -> list[ImageScore]:
    """Predict each patch with the bundle, as `segment` does, and match it to its truth."""
    predictor, spec = Predictor(bundle, threads=2), bundle.spec
    scores = []
    for patch in patches:
        image = resize(patch.image, patch.mpp / spec.mpp)
        map_mpp = spec.mpp * spec.stride
        height, width = (-(-side // spec.stride) for side in image.shape[:2])
        inside = (slice(0, height), slice(0, width))
        flows, logits = predictor.maps(pad_to_stride(image)[None])
        instances = find_nuclei(flows[0], logits[0], spec, map_mpp, inside)
        types, _ = vote_types(instances, logits[0], int(instances.max()))
        fine = refine(instances, logits[0], spec.foreground_threshold, inside)
        rows, cols = (slice(side * FACTOR // spec.stride) for side in image.shape[:2])
        scores.append(score_image(patch, fine[rows, cols], types))
    return scores


def source_rows(training: Sequence[Patch], held_back: Sequence[Patch]) -> list[SourceRow]:
    """Count patches and nuclei of each source."""
    rows = []
    for name in sorted({p.source for p in training}):
        sides = [[p for p in side if p.source == name] for side in (training, held_back)]
        trained, tested = (sum(nuclei_per_label(side).values()) for side in sides)
        dataset = DATASETS[name]
        rows.append(
            SourceRow(name, (len(sides[0]), len(sides[1])), (trained, tested), dataset.licence, dataset.citation)
        )
    return rows


def type_rows(scores: Sequence[ImageScore], training: Sequence[Patch], held_back: Sequence[Patch]) -> list[TypeRow]:
    """Count nuclei of each type, and how often matched ones were named right."""
    labels = np.concatenate([s.labels for s in scores])
    given = np.concatenate([s.types for s in scores])
    allowed = allowed_table().numpy()
    # A nucleus of unknown type says nothing of the name it was given.
    known = allowed[labels].any(1) & ~allowed[labels].all(1)
    right = allowed[labels, given.astype(int) - 1]
    trained, tested = nuclei_per_label(training), nuclei_per_label(held_back)
    return [
        TypeRow(trained[t], tested[t], share(right[labels == t]), share(right[known & (given == t)]))
        for t in range(1, N_TYPES + 1)
    ]


def share(right: NDArray[np.bool_]) -> str:
    """Return a share with what it is a share of, or a dash."""
    return f"{right.mean():.2f} (n = {len(right):,})" if len(right) else "-"


def coarse_counts(training: Sequence[Patch], held_back: Sequence[Patch]) -> dict[int, tuple[int, int]]:
    """Count nuclei of each coarse label on either side."""
    trained, tested = nuclei_per_label(training), nuclei_per_label(held_back)
    return {label: (trained[label], tested[label]) for label in COARSE_LABELS}


def commands(settings: TrainSettings, spec: ModelSpec) -> list[str]:
    """Return the commands that make this bundle again."""
    changed = {
        k: v
        for k, v in settings.model_dump().items()
        if v != type(settings).model_fields[k].get_default(call_default_factory=True)
    }
    flags = "".join(f" --{name.replace('_', '-')} {value}" for name, value in changed.items())
    stores = [f"{source}.h5" for source in spec.data]
    prepare = [f"cytolite prepare {source} data/{source} -o {source}.h5" for source in spec.data]
    verb = "distill TEACHER" if isinstance(settings, DistillSettings) else "train"
    train = f"cytolite {verb} {' '.join(stores)} -o runs/{spec.name}{flags}"
    return [*prepare, train, f"cytolite export runs/{spec.name} -o {spec.name} --model-version {spec.version}"]
