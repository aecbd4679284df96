"""From a training run to a bundle: export, score the exported graph on held-back images, write the card."""

from __future__ import annotations

import dataclasses
import shlex
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cytolite.bundle import ONNX_NAME, WEIGHTS_NAME, Bundle, ModelSpec, described, write_bundle
from cytolite.celltypes import SEVEN, LabelSet
from cytolite.config import DistillSettings, TrainSettings
from cytolite.datasets.catalogue import DATASETS
from cytolite.datasets.census import nuclei_per_label
from cytolite.datasets.store import Store
from cytolite.decoding.instances import DEFAULTS
from cytolite.errors import InputError
from cytolite.evaluation import markdown as page
from cytolite.evaluation.images import (
    Case,
    Labelled,
    as_prediction,
    cases_of_patches,
    count_cases,
    model_predictions,
)
from cytolite.evaluation.report import Bootstrap, Section, sections
from cytolite.inference.image import Located, locate, model_input
from cytolite.inference.predictor import Predictor
from cytolite.metrics.bootstrap import headline
from cytolite.metrics.classes import own_classes
from cytolite.metrics.counts import Counts
from cytolite.metrics.truth import Prediction
from cytolite.networks.encoders import encoder_spec
from cytolite.patches import Patch
from cytolite.provenance import option, options
from cytolite.release.card import CardFacts, SourceRow, TypeRow, few_examples, render
from cytolite.release.embedding import with_embedding
from cytolite.release.onnx_export import export_onnx
from cytolite.release.origin import record_split
from cytolite.release.temperature import temperature_over_sources
from cytolite.training.record import PLACES, read_record
from cytolite.training.run import split, trained_network
from cytolite.training.vocabulary import Vocabulary
from cytolite.training.warm_start import write_weights

# Share-alike: weights that saw such data carry it, whatever else they saw.
SHARE_ALIKE = "CC-BY-NC-SA-4.0"


@dataclass(frozen=True)
class Origin:
    """What a run was made of.

    Attributes
    ----------
    stores : sequence of Path
        It was trained on them, in this order, which decides the draw of crops.
    truth : sequence of Path
        Stores of the same images whose labels it is scored on; empty if those that trained it have them.
    teacher : str
        Bundle or run that it was distilled from, if it was.
    """

    stores: Sequence[Path]
    truth: Sequence[Path] = ()
    teacher: str = ""


@dataclass(frozen=True)
class Making:
    """What a card tells of how a bundle was made.

    Attributes
    ----------
    training, held_back : sequence of Patch
        What it was trained on, and what it is scored on.
    network : str
        What the network consists of.
    note : str
        A sentence on what is not known of the images held back; empty if all is.
    labels : LabelSet
        What the patches' type maps hold.
    """

    training: Sequence[Patch]
    held_back: Sequence[Patch]
    network: str
    note: str = ""
    labels: LabelSet = SEVEN


def release(run: Path, out: Path, version: str, stores: Sequence[Path] = (), truth: Sequence[Path] = ()) -> Bundle:
    """Make a bundle of a training run; see `cytolite.pipeline.export`.

    Parameters
    ----------
    run : pathlib.Path
        Folder that `train` or `distill` wrote.
    out : pathlib.Path
        Folder of the bundle; names it.
    version : str
        Of the bundle.
    stores : sequence of pathlib.Path
        Where the run's stores lie now, if they have moved.
    truth : sequence of pathlib.Path
        Stores with the labels to score on, if others.
    """
    network, settings, trained_on = trained_network(run)
    origin = Origin(list(stores) or trained_on, truth, teacher_of(run))
    vocabulary = Vocabulary.recorded(read_record(run))
    training, held_back = split(origin.stores, settings, vocabulary)
    if truth:
        held_back = true_labels(held_back, truth, settings, vocabulary)
    encoder = encoder_spec(settings.encoder)
    spec = ModelSpec(
        name=out.name,
        version=version,
        **described(vocabulary.labels.type_set),
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
        held_back=record_split(held_back, settings, vocabulary.mapping),
    )
    with tempfile.TemporaryDirectory() as folder:
        onnx_path, weights = Path(folder) / ONNX_NAME, Path(folder) / WEIGHTS_NAME
        write_weights(network, weights)
        # The check runs on a real image of every source.
        samples = [next(p for p in held_back if p.source == source) for source in spec.data]
        export_onnx(network, onnx_path, [model_input(p.image, p.mpp, spec.mpp).image[None] for p in samples])
        decoder = settings.decoder or encoder.decoder
        text = f"{settings.encoder} encoder, {decoder} decoder, flow head and cell-type head"
        spec = spec.model_copy(update={"made_with": tuple(commands(settings, spec, origin))})
        judged = [patch for patch in held_back if patch.judged]
        making = Making(training, judged, text, labels=vocabulary.labels)
        return with_embedding(write_scored(out, onnx_path, spec, making, weights)[0], training)


def write_scored(
    out: Path, onnx_path: Path, spec: ModelSpec, making: Making, weights: Path | None = None
) -> tuple[Bundle, Counts]:
    """Write a bundle with the temperature fitted to the images held back, its scores on them, and its card.

    Parameters
    ----------
    out : Path
        Folder of the bundle.
    onnx_path : Path
        Its graph.
    spec : ModelSpec
        Without temperature and scores.
    making : Making
    weights : Path, optional
        The network's tensors, which the bundle shall hold too.

    Returns
    -------
    bundle : Bundle
    counts : Counts
        Of what it finds in the images held back.
    """
    predictor, patches = Predictor(write_bundle(out, onnx_path, spec, ""), threads=2), making.held_back
    located = [locate(predictor.maps, spec, patch.image, patch.mpp) for patch in patches]
    temperature = temperature_over_sources(patches, located, making.labels)
    counts = count_located(patches, located, temperature, making.labels)
    numbers = {name: round(score.value, 4) for name, score in headline(counts).items() if score.defined}
    facts = facts_of(spec, counts, making)
    told = {"validation": numbers, "few_examples": few_examples(facts.types)}
    spec = spec.model_copy(update={"type_temperature": temperature, **told})
    return write_bundle(out, onnx_path, spec, render(spec, facts), weights), counts


def teacher_of(run: Path) -> str:
    """Return the name of the bundle or run that a run was distilled from; "" if it had no teacher.

    Where it lies on this machine is nobody else's business.
    """
    given = read_record(run).get("teacher")
    if not given:
        return ""
    # Older runs have one text, of all teachers.
    first = given["paths"][0] if "paths" in given else given["path"].split(", ")[0]
    return Path(first).name


def true_labels(
    held_back: Sequence[Patch], truth: Sequence[Path], settings: TrainSettings, vocabulary: Vocabulary
) -> list[Patch]:
    """Return the images held back as other stores label them.

    Parameters
    ----------
    held_back : sequence of Patch
        As the run's stores label them.
    truth : sequence of pathlib.Path
        Other stores of the same images.
    settings : TrainSettings
        Of the run, which decide the split.
    vocabulary : Vocabulary
        The types of the run, and what the stores' labels are in it.

    Raises
    ------
    InputError
        If those stores hold other images back.
    """
    labelled = split(truth, settings, vocabulary)[1]
    wanted, found = ({(p.source, p.name) for p in patches} for patches in (held_back, labelled))
    if wanted != found:
        source, name = min(wanted ^ found)
        raise InputError(
            f"The stores given as truth do not hold back the images that the run did: {name!r} of {source} is only in "
            f"one of the two. Give stores of all of {', '.join(sorted({p.source for p in held_back}))}."
        )
    return labelled


def facts_of(spec: ModelSpec, counts: Counts, making: Making) -> CardFacts:
    """What a card states, scored by the functions of `cytolite evaluate` on images held back.

    Parameters
    ----------
    spec : ModelSpec
        Of the bundle.
    counts : Counts
        Of what it finds in the images held back.
    making : Making
        What it was made of.
    """
    training, held_back = making.training, making.held_back
    bootstrap = Bootstrap()
    found = sections(counts, ["source"], bootstrap)
    return CardFacts(
        network=making.network,
        sources=source_rows(training, held_back),
        types=type_rows(found[0], making),
        coarse=coarse_counts(making),
        scores=page.overall_table(found[1:]),
        type_scores={section.title: page.type_table(section) for section in found[1:]},
        intervals=f"{page.interval_text(bootstrap)} {making.note}".strip(),
        commands=spec.made_with,
    )


def count_bundle(bundle: Bundle, patches: Sequence[Patch], labels: LabelSet = SEVEN) -> Counts:
    """Predict patches with a bundle, as `segment` does, and count what it found.

    Parameters
    ----------
    bundle : Bundle
        The model.
    patches : sequence of Patch
        Images with their truth.
    labels : LabelSet
        The set of types, and what labels mean in it.
    """
    classes = own_classes(labels)
    return count_cases(cases_of_patches(patches), model_predictions(bundle, classes), classes)


def count_located(
    patches: Sequence[Patch], located: Sequence[Located], temperature: float, labels: LabelSet = SEVEN
) -> Counts:
    """Count nuclei that were found in patches, named with a temperature.

    Parameters
    ----------
    patches : sequence of Patch
        Images with their truth.
    located : sequence of Located
        The nuclei found in each.
    temperature : float
        Of the type logits.
    labels : LabelSet
        The set of types, and what labels mean in it.
    """
    found = {(patch.source, patch.name): nuclei for patch, nuclei in zip(patches, located, strict=True)}

    def predict(case: Case, labelled: Labelled) -> Prediction:
        return as_prediction(found[case.columns["source"], case.name].named(temperature))

    return count_cases(cases_of_patches(patches), predict, own_classes(labels))


def licence_of(source: str) -> str:
    """Return a dataset's licence; of label folders of the user's only that it is theirs to know."""
    return DATASETS[source].licence if source in DATASETS else f"as of {source}"


def licence_of_weights(sources: Iterable[str]) -> str:
    """Return the licence that the data leave to the weights."""
    licences = sorted({licence_of(source) for source in sources})
    return SHARE_ALIKE if SHARE_ALIKE in licences else " and ".join(licences)


def source_rows(training: Sequence[Patch], held_back: Sequence[Patch]) -> list[SourceRow]:
    """Count patches and nuclei of each source.

    Parameters
    ----------
    training, held_back : sequence of Patch
        Images with their truth.
    """
    rows = []
    for name in sorted({p.source for p in training}):
        sides = [[p for p in side if p.source == name] for side in (training, held_back)]
        trained, tested = (sum(nuclei_per_label(side).values()) for side in sides)
        citation = DATASETS[name].citation if name in DATASETS else "-"
        rows.append(SourceRow(name, (len(sides[0]), len(sides[1])), (trained, tested), licence_of(name), citation))
    return rows


def type_rows(section: Section, making: Making) -> list[TypeRow]:
    """Count nuclei of each type, and how often matched ones were named right.

    Parameters
    ----------
    section : Section
        Scores over all sources.
    making : Making
        Images with their truth, and the set of their labels.
    """
    trained, tested = nuclei_per_label(making.training), nuclei_per_label(making.held_back)
    rows = []
    for t in making.labels.type_set:
        shares = (page.cell(section.find(f"type_{what}_pooled", t.name)) for what in ("recall", "precision"))
        rows.append(TypeRow(t.name, trained[t.id], tested[t.id], *shares))
    return rows


def coarse_counts(making: Making) -> dict[str, tuple[int, int]]:
    """Count nuclei of each set of types ("one of these") on either side, by the names of its types.

    Parameters
    ----------
    making : Making
        Images with their truth, and the set of their labels.
    """
    trained, tested = nuclei_per_label(making.training), nuclei_per_label(making.held_back)
    labels = making.labels
    names = {
        label: " or ".join(labels.type_set.names[t - 1] for t in labels.allowed(label))
        for label in range(len(labels.type_set) + 1, labels.unknown)
    }
    return {name: (trained[label], tested[label]) for label, name in names.items()}


def commands(settings: TrainSettings, spec: ModelSpec, origin: Origin) -> list[str]:
    """Return the commands that make this bundle again.

    Parameters
    ----------
    settings : TrainSettings
        Of the run.
    spec : ModelSpec
        Of the bundle.
    origin : Origin
        What the run was made of.
    """
    stores, truth = ([_as_made(path) for path in paths] for paths in (origin.stores, origin.truth))
    made = [line for lines, _ in (*stores, *truth) for line in lines]
    verb = ["distill", origin.teacher] if isinstance(settings, DistillSettings) else ["train"]
    flags = options(settings, without=PLACES, places=("start", "teachers"))
    train = [shlex.join(["cytolite", *verb, *_names(stores), "-o", f"runs/{spec.name}"]), *flags]
    export = [shlex.join(["cytolite", "export", f"runs/{spec.name}", "-o", spec.name, "--model-version", spec.version])]
    export += option("--truth", tuple(_names(truth)))
    return [*dict.fromkeys(made), " ".join(train), " ".join(export)]


def _as_made(path: Path) -> tuple[list[str], list[str]]:
    """Return the commands that make a store, and what they call it: one name, or one for each of its sources."""
    with Store(path) as store:
        sources = list(dict.fromkeys(store.texts("source")))
        names = store_names(sources)
        prepare = [
            shlex.join(["cytolite", "prepare", source, f"data/{source}", "-o", name])
            for source, name in zip(sources, names, strict=True)
        ]
        if not store.made_with:
            return prepare, names
        return [*prepare, store.made_with], ["/".join(path.absolute().parts[-2:])]


def _names(stores: Sequence[tuple[list[str], list[str]]]) -> list[str]:
    return [name for _, names in stores for name in names]


def store_names(sources: Iterable[str]) -> list[str]:
    """Return what the commands on cards call the stores of `sources`."""
    return [f"{source}.h5" for source in sources]
