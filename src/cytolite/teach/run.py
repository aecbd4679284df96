"""`cytolite teach`: from labels on results to a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolite.bundle import FORMAT, Bundle, described, load_bundle, write_taught
from cytolite.celltypes import TypeSet
from cytolite.classifier import Classifier, as_before, inputs_of, slide_hash, vector_names
from cytolite.config import TeachSettings
from cytolite.decoding.features import FEATURE_NAMES
from cytolite.errors import InputError, OutputError, UsageError
from cytolite.interop.result import Result
from cytolite.teach import fit as fitting
from cytolite.teach.labels import Labels, Matched, match, read_labels
from cytolite.teach.report import as_json, card, report_of

FEWEST_LABELS = 5  # of a type


@dataclass(frozen=True)
class Taught:
    """A new bundle, what it is worth (for ``report.json``), and what the user should know."""

    bundle: Bundle
    report: dict[str, Any]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Sample:
    """Labelled nuclei of one result."""

    result: Result
    inputs: NDArray[np.float64]
    names: NDArray[np.str_]
    parent_names: NDArray[np.str_]
    places: NDArray[np.float64]
    regions: NDArray[np.int64]
    mean: NDArray[np.float64]
    square: NDArray[np.float64]
    n: int


def teach(results: Sequence[Path], labels: Sequence[Path], out: Path, settings: TeachSettings) -> Taught:
    """Fit a classifier to labelled nuclei and write a bundle of it.

    Parameters
    ----------
    results : sequence of pathlib.Path
        Folders of results of one network.
    labels : sequence of pathlib.Path
        A file of labels for each, in the same order.
    out : pathlib.Path
        Folder of the bundle; its name is the model's.
    settings : TeachSettings
        Everything else.

    Raises
    ------
    InputError
        If labels and results do not go together, or there are too few.
    OutputError
        If `out` is there already, or cannot be written.
    """
    if len(results) != len(labels):
        raise UsageError(
            f"{len(results)} results and {len(labels)} files of labels were given; each result needs one, in the same "
            "order."
        )
    if out.exists() and not settings.overwrite:
        raise OutputError(f"{out} is there already; --overwrite replaces it.")
    opened = [Result(path) for path in results]
    parent = _parent(opened, settings.model)
    channels, notes = _channels(opened, parent, settings.embeddings)
    inputs = (*parent.spec.network_types.probs, "area_um2", *FEATURE_NAMES, *vector_names(channels))
    read, samples = [], []
    for result, path in zip(opened, labels, strict=True):
        given = read_labels(path, parent.spec.network_types)
        _check_image(given, result, path)
        matched = match(given, result.cells, result.mpp, result.size_px, str(path))
        notes += matched.notes
        read.append(given)
        samples.append(_sample(result, matched, parent.spec.network_types, inputs))
    names = np.concatenate([sample.names for sample in samples])
    type_set, kept = _types(names, read, parent.spec.network_types, settings.unlabelled == "keep")
    _check_counts(names, type_set, kept)
    mean, scale = _moments(samples)
    z = np.where(np.isfinite(x := (np.concatenate([s.inputs for s in samples]) - mean) / scale), x, 0.0)
    taught_names = [t.name for t in type_set if t.id not in kept]
    y = np.array([taught_names.index(name) for name in names.tolist()])
    groups, by = _groups(samples)
    fitted, worth = fitting.fit(z, y, groups, len(taught_names), settings.seed)
    rows = np.array([type_set.by_name(name).id - 1 for name in taught_names])
    coefficients = np.zeros((len(type_set), len(inputs)))
    intercepts = np.full(len(type_set), -1e3)
    coefficients[rows], intercepts[rows] = fitted.coefficients, fitted.intercepts
    classifier = Classifier(
        parent=f"{parent.spec.name} {parent.spec.version}",
        parent_types=tuple(parent.spec.network_types.describe()),
        inputs=inputs,
        mean=tuple(mean.tolist()),
        scale=tuple(scale.tolist()),
        coefficients=tuple(map(tuple, coefficients.round(9).tolist())),
        intercepts=tuple(intercepts.round(9).tolist()),
        temperature=fitted.temperature,
        kept=kept,
        labels={name: int((names == name).sum()) for name in taught_names},
        slides=tuple(sorted({slide_hash(result.slide) for result in opened})),
    )
    spec = parent.spec.model_copy(
        update={
            "format": FORMAT,
            "name": out.name,
            "version": settings.version,
            "validation": {},
            "held_back": None,
            "classifier": classifier,
            **described(type_set),
        }
    )
    # A copy of a frozen model keeps what was worked out for the parent.
    spec = type(spec)(**spec.model_dump())
    parent_called = np.concatenate([sample.parent_names for sample in samples])
    report = report_of(taught_names, worth, fitted, names=names, parent_names=parent_called, groups=groups, by=by)
    bundle = write_taught(
        out, parent, spec, card(spec, report, notes), as_json(report, notes), replace=settings.overwrite
    )
    return Taught(bundle, report, tuple(notes))


def _check_image(labels: Labels, result: Result, path: Path) -> None:
    """Refuse labels that say themselves that they are of another image, or of it at another resolution."""
    said, (width, height) = labels.about, result.size_px
    if "slide" in said and slide_hash(str(said["slide"])) != slide_hash(result.slide):
        raise InputError(
            f"{path} has cells of {said['slide']}, and the result {result.folder} is of {result.slide}; give each "
            "result the labels of its slide, in the same order."
        )
    size = (said.get("width_px", width), said.get("height_px", height))
    if size != (width, height):
        raise InputError(
            f"{path} has cells of an image of {size[0]} x {size[1]} px, and the slide of the result {result.folder} "
            f"has {width} x {height} px; labels are in pixels of its full resolution."
        )


def _parent(results: Sequence[Result], model: str | None) -> Bundle:
    """Return the bundle whose network found the nuclei of all results."""
    hashes = {result.model["onnx_sha256"]: result.model for result in results}
    if len(hashes) > 1:
        told = " and ".join(f"{m['name']} {m['version']}" for m in hashes.values())
        raise InputError(f"The results are of different networks ({told}); teach on results of one.")
    [said] = hashes.values()
    parent = load_bundle(model or said.get("parent", "").rpartition(" ")[0] or said["name"])
    if parent.sha256 != said["onnx_sha256"]:
        raise InputError(
            f"The results were made with the network of {said['name']} {said['version']} (SHA-256 "
            f"{said['onnx_sha256'][:12]}...), and {parent.path.name} here has another; name the folder of that bundle "
            "with --model."
        )
    if parent.spec.classifier is None:
        return parent
    network = load_bundle(parent.network or parent.path)
    return network if network.spec.classifier is None else _untaught(network)


def _channels(results: Sequence[Result], parent: Bundle, wanted: bool | None) -> tuple[int, list[str]]:
    """Return how many numbers of the results' embeddings are used: of all, if all have them; and what to tell."""
    said = parent.spec.embedding
    lacking = [r for r in results if said is None or r.about.get("embedding", {}).get("sha256") != said.sha256]
    if said is not None and not lacking and wanted is not False:
        return said.channels, []
    if wanted:
        raise InputError(
            f"{lacking[0].folder} has no embeddings of {parent.spec.name}, which --embeddings asks for; segment the "
            "slide with --embeddings, too."
        )
    some = wanted is None and len(lacking) < len(results)
    return 0, [f"embeddings are not used: {lacking[0].folder} has none"] if some else []


def _untaught(bundle: Bundle) -> Bundle:
    """Return a taught bundle as the network alone would be: with the types that the network tells apart."""
    spec = bundle.spec.model_dump() | {"classifier": None, **described(bundle.spec.network_types)}
    return Bundle(bundle.path, type(bundle.spec)(**spec), bundle.sha256)


def _sample(result: Result, matched: Matched, network_types: TypeSet, inputs: Sequence[str]) -> _Sample:
    before = as_before(result.cells, network_types)
    every = inputs_of(before, inputs)
    finite = np.where(np.isfinite(every), every, np.nan)
    return _Sample(
        result,
        every[matched.rows],
        matched.names,
        before.type[matched.rows],
        before.centroids[matched.rows] * result.mpp,
        before.regions[matched.rows].astype(np.int64),
        np.nansum(finite, axis=0),
        np.nansum(finite**2, axis=0),
        len(every),
    )


def _moments(samples: Sequence[_Sample]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each input over all nuclei of all results."""
    n = sum(s.n for s in samples)
    mean = sum(s.mean for s in samples) / n
    square = sum(s.square for s in samples) / n
    scale = np.sqrt(np.maximum(square - mean**2, 0))
    return np.asarray(mean), np.where(scale > 1e-9, scale, 1.0)


def _types(
    names: NDArray[np.str_], labels: Sequence[Labels], parent: TypeSet, keep: bool
) -> tuple[TypeSet, dict[int, int]]:
    """Return the types of the new bundle, in the parent's order, then new ones; and those that keep its probability."""
    present = set(names.tolist())
    content = [t.describe() for t in parent if keep or t.name in present]
    for name in sorted(present - set(parent.names)):
        classes = {read.classes[name].casefold(): read.classes[name] for read in labels if name in read.classes}
        if len(classes) > 1:
            told = " and ".join(map(repr, classes.values()))
            raise InputError(f"The classes {told} would all be the type {name!r}; rename all but one of them.")
        given = next(iter(classes.values()), None)
        colour = next((list(read.colours[name]) for read in labels if name in read.colours), None)
        # What QuPath shows for a class that it was given no colour, or one that another type has, tells nothing apart.
        colour = None if colour in [t["colour"] for t in content] else colour
        odd = given if given and given != name.capitalize() else None
        content.append({"name": name, "colour": colour, "qupath": odd})
    if len(present) < 2:
        raise InputError(
            f"All labels are {next(iter(present))!r}; a classifier needs two types at least: label nuclei that are not."
        )
    type_set = TypeSet.from_description(content)
    return type_set, {t.id: parent.by_name(t.name).id for t in type_set if t.name not in present}


def _check_counts(names: NDArray[np.str_], type_set: TypeSet, kept: dict[int, int]) -> None:
    counts = {t.name: int((names == t.name).sum()) for t in type_set if t.id not in kept}
    if few := {name: n for name, n in counts.items() if n < FEWEST_LABELS}:
        told = ", ".join(f"{n} of {name}" for name, n in few.items())
        raise InputError(f"There are too few labels ({told}); at least {FEWEST_LABELS} nuclei of each type are needed.")


def _groups(samples: Sequence[_Sample]) -> tuple[NDArray[np.int64], str]:
    """Return what is kept on one side in cross-validation, and what it is: slides, regions, or parts of the area."""
    slide = np.concatenate([np.full(len(s.names), i) for i, s in enumerate(samples)])
    region = np.concatenate([s.regions for s in samples])
    by_region = np.unique(np.stack([slide, region], axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    for groups, what in ((slide, "slides"), (by_region, "regions")):
        if len(np.unique(groups)) >= fitting.FEWEST_GROUPS:
            return groups.astype(np.int64), what
    parts, start = [], 0
    for sample in samples:
        found = fitting.blocks(sample.places) + start
        start = int(found.max()) + 1
        parts.append(found)
    return np.concatenate(parts), "parts of the labelled area"
