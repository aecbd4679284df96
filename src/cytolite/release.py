"""From a training run to a bundle: export, score the exported graph on held-back images, write the card."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from cytolite.cases import cases_of_patches, count_cases, model_predictions
from cytolite.celltypes import CELL_TYPES, COARSE_LABELS
from cytolite.config import DistillSettings, TrainSettings
from cytolite.datasets.catalogue import DATASETS
from cytolite.datasets.census import nuclei_per_label
from cytolite.decoding.nuclei import DEFAULTS
from cytolite.evaluation import page
from cytolite.evaluation.bootstrap import headline
from cytolite.evaluation.classes import own_classes
from cytolite.evaluation.counts import Counts
from cytolite.evaluation.report import Bootstrap, Section, sections
from cytolite.export import export_onnx
from cytolite.models.bundle import Bundle, ModelSpec, load_bundle, write_bundle
from cytolite.models.card import CardFacts, SourceRow, TypeRow, render
from cytolite.models.encoders import encoder_spec
from cytolite.patches import Patch
from cytolite.temperature import temperature_over_sources
from cytolite.training.record import PLACES, read_record
from cytolite.training.run import split, trained_network
from cytolite.training.validate import pad_to_stride, resize

# Share-alike: weights that saw such data carry it, whatever else they saw.
SHARE_ALIKE = "CC-BY-NC-SA-4.0"
# Settings that name a file or a folder of this machine: a card names it without saying where it lies.
ELSEWHERE = {"start", "teachers", "duplicates"}


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
        tile=network.tile_px,
        halo=network.halo_px,
        **dataclasses.asdict(DEFAULTS),
        licence=licence_of_weights({p.source for p in training}),
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
        temperature = temperature_over_sources(bundle, held_back)
        bundle = write_bundle(out, onnx_path, spec.model_copy(update={"type_temperature": temperature}), "")
        spec, card = describe(bundle, settings, training, held_back, teacher_of(run))
        write_bundle(out, onnx_path, spec, card)
    return load_bundle(out)


def teacher_of(run: Path) -> str:
    """Return the name of the bundle or run that a run was distilled from; "" if it had no teacher.

    Where it lies on this machine is nobody else's business.
    """
    given = read_record(run).get("teacher")
    return Path(given["path"].split(", ")[0]).name if given else ""


def describe(
    bundle: Bundle, settings: TrainSettings, training: Sequence[Patch], held_back: Sequence[Patch], teacher: str = ""
) -> tuple[ModelSpec, str]:
    """Score a bundle on held-back images, by the functions of `cytolite evaluate`; return its spec with the numbers,
    and its card, which names the `teacher` that it was distilled from.
    """
    bootstrap = Bootstrap()
    counts = count_bundle(bundle, held_back)
    found = sections(counts, ["source"], bootstrap)
    numbers = {name: round(score.value, 4) for name, score in headline(counts).items() if score.defined}
    spec = bundle.spec.model_copy(update={"validation": numbers})
    facts = CardFacts(
        network=f"{settings.encoder} encoder, {settings.decoder or encoder_spec(settings.encoder).decoder} decoder",
        sources=source_rows(training, held_back),
        types=type_rows(found[0], training, held_back),
        coarse=coarse_counts(training, held_back),
        scores=page.overall_table(found[1:]),
        type_scores={section.title: page.type_table(section) for section in found[1:]},
        intervals=page.interval_text(bootstrap),
        commands=commands(settings, spec, list(dict.fromkeys(p.source for p in training)), teacher),
    )
    return spec, render(spec, facts)


def count_bundle(bundle: Bundle, patches: Sequence[Patch]) -> Counts:
    """Predict patches with a bundle, as `segment` does, and count what it found."""
    classes = own_classes()
    return count_cases(cases_of_patches(patches), model_predictions(bundle, classes), classes)


def licence_of(source: str) -> str:
    """Return a dataset's licence; of label folders of the user's only that it is theirs to know."""
    return DATASETS[source].licence if source in DATASETS else f"as of {source}"


def licence_of_weights(sources: Iterable[str]) -> str:
    """Return the licence that the data leave to the weights."""
    licences = sorted({licence_of(source) for source in sources})
    return SHARE_ALIKE if SHARE_ALIKE in licences else " and ".join(licences)


def source_rows(training: Sequence[Patch], held_back: Sequence[Patch]) -> list[SourceRow]:
    """Count patches and nuclei of each source."""
    rows = []
    for name in sorted({p.source for p in training}):
        sides = [[p for p in side if p.source == name] for side in (training, held_back)]
        trained, tested = (sum(nuclei_per_label(side).values()) for side in sides)
        citation = DATASETS[name].citation if name in DATASETS else "-"
        rows.append(SourceRow(name, (len(sides[0]), len(sides[1])), (trained, tested), licence_of(name), citation))
    return rows


def type_rows(section: Section, training: Sequence[Patch], held_back: Sequence[Patch]) -> list[TypeRow]:
    """Count nuclei of each type, and how often matched ones were named right."""
    trained, tested = nuclei_per_label(training), nuclei_per_label(held_back)
    rows = []
    for t in CELL_TYPES:
        shares = (page.cell(section.find(f"type_{what}_pooled", t.name)) for what in ("recall", "precision"))
        rows.append(TypeRow(trained[t.id], tested[t.id], *shares))
    return rows


def coarse_counts(training: Sequence[Patch], held_back: Sequence[Patch]) -> dict[int, tuple[int, int]]:
    """Count nuclei of each coarse label on either side."""
    trained, tested = nuclei_per_label(training), nuclei_per_label(held_back)
    return {label: (trained[label], tested[label]) for label in COARSE_LABELS}


def commands(settings: TrainSettings, spec: ModelSpec, sources: Sequence[str], teacher: str = "") -> list[str]:
    """Return the commands that make this bundle again.

    Parameters
    ----------
    settings : TrainSettings
    spec : ModelSpec
    sources : sequence of str
        In the order in which the stores were given, which decides the draw of crops.
    teacher : str
        What the network was distilled from, if it was.
    """
    defaults = {n: f.get_default(call_default_factory=True) for n, f in type(settings).model_fields.items()}
    flags = [
        _flag(name, value)
        for name, values in settings
        if name not in PLACES and values != defaults[name]
        for value in (values if isinstance(values, tuple) else [values])
    ]
    prepare = [f"cytolite prepare {source} data/{source} -o {source}.h5" for source in sources]
    verb = f"distill {teacher}" if isinstance(settings, DistillSettings) else "train"
    stores = " ".join(f"{source}.h5" for source in sources)
    made = " ".join([f"cytolite {verb} {stores} -o runs/{spec.name}", *flags])
    return [*prepare, made, f"cytolite export runs/{spec.name} -o {spec.name} --model-version {spec.version}"]


def _flag(name: str, value: object) -> str:
    flag = name.replace("_", "-")
    if name in ELSEWHERE:
        value = Path(str(value)).name
    return f"--{flag} {value}" if not isinstance(value, bool) else f"--{flag}" if value else f"--no-{flag}"
