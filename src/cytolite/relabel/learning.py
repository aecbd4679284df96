"""One classifier of a run: trained, or found trained, and scored at home and on the other datasets."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cytolite.relabel import classifier, samples
from cytolite.relabel.classifier import Classifier
from cytolite.relabel.fit import fit
from cytolite.relabel.job import Job
from cytolite.relabel.recipe import ClassifierRecipe
from cytolite.relabel.report import ClassifierReport, Scored, score
from cytolite.relabel.samples import CROP_SETTINGS, CROP_VERSION, TEST, TRAINING, VALIDATION, Samples

# What decides a trained classifier, beside its crops, its types and its data.
FIT_SETTINGS = (
    "architecture", "dropout", "equalise", "stain_jitter", "label_smoothing", "batch", "epochs", "patience",
    "learning_rate", "weight_decay", "seed",
)  # fmt: skip


def learn(job: Job, recipe: ClassifierRecipe) -> tuple[Classifier, ClassifierReport]:
    """Train one classifier, or load it if it was trained from the same data in the same way; then score it.

    Parameters
    ----------
    job : Job
        The run, in whose folder the classifier is kept.
    recipe : ClassifierRecipe
        Which classifier.

    Raises
    ------
    InputError
        If a type has too few cells, or the architecture or its weights cannot be used.
    """
    folder = job.out / "classifiers" / recipe.name
    learned = job.cells(recipe.trained_on, recipe)
    where = " and ".join(recipe.trained_on)
    samples.check_classes(learned.labels, recipe.type_ids, where)
    sides = samples.split_groups(learned.labels, learned.groups, job.settings.seed)
    samples.check_sides(learned.labels, sides, recipe.type_ids, where)
    weights = classifier.find_pretrained(job.settings)
    made_from = _made_from(job, recipe, weights)
    if classifier.read_saved(folder).get("made_from") != made_from:
        record = {"weights": weights.name if weights else "", "made_from": made_from}
        _train(job, recipe, learned, sides, record)
    trained = classifier.load(folder, job.settings)
    elsewhere, left_out = {}, {}
    for source in sorted(set(job.sources) - set(recipe.trained_on)):
        other = job.cells([source], recipe)
        # Tissue that the classifier's own data show too is no test of another data set.
        unseen = ~np.isin(other.groups, learned.groups)
        left_out[source] = int((~unseen).sum())
        if unseen.any():
            elsewhere[source] = _scored(job, trained, other, recipe, np.flatnonzero(unseen))
    test = _scored(job, trained, learned, recipe, np.flatnonzero(sides == TEST))
    return trained, ClassifierReport(recipe, classifier.read_saved(folder), test, elsewhere, left_out)


def _made_from(job: Job, recipe: ClassifierRecipe, weights: Path | None) -> dict[str, Any]:
    pairs = job.settings.duplicates
    return {
        "crop_version": CROP_VERSION,
        "trained_on": sorted(recipe.trained_on),
        "types": list(recipe.types),
        "stores": [store.sha256 for store in job.stores if set(store.texts("source")) & set(recipe.trained_on)],
        "duplicates": hashlib.sha256(pairs.read_bytes()).hexdigest() if pairs else None,
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest() if weights else None,
        **job.settings.model_dump(mode="json", include={*FIT_SETTINGS, *CROP_SETTINGS}),
    }


def _positions(labels: NDArray[np.uint8], recipe: ClassifierRecipe) -> NDArray[np.int64]:
    """Place of each label among the classifier's types."""
    place = np.zeros(256, np.int64)
    place[list(recipe.type_ids)] = np.arange(len(recipe.types))
    return place[labels]


def _train(
    job: Job, recipe: ClassifierRecipe, learned: Samples, sides: NDArray[np.int8], record: dict[str, Any]
) -> None:
    labels = _positions(learned.labels, recipe)
    at = [np.flatnonzero(sides == side) for side in (TRAINING, VALIDATION)]
    training, validation = ((side, labels[side]) for side in at)
    torch.manual_seed(job.settings.seed)
    network = classifier.build_network(job.settings, len(recipe.types), classifier.find_pretrained(job.settings))
    with job.display(f"training {recipe.name}", "steps") as update:
        fitted = fit(
            Classifier(network, recipe.types), learned.images, training, validation, job.settings, update=update
        )
    names = {TRAINING: "training", VALIDATION: "validation", TEST: "test"}
    record |= {
        "cells": {n: np.bincount(labels[sides == s], minlength=len(recipe.types)).tolist() for s, n in names.items()},
        "groups": {n: len(np.unique(learned.groups[sides == s])) for s, n in names.items()},
        "crops_per_epoch": fitted.trained_on,
        "history": fitted.history,
    }
    classifier.save(fitted.classifier, job.out / "classifiers" / recipe.name, record)


def _scored(
    job: Job,
    trained: Classifier,
    cells: Samples,
    recipe: ClassifierRecipe,
    chosen: NDArray[np.intp],
) -> Scored:
    logits = trained.logits(cells.images, job.settings.device, chosen)
    truth = _positions(cells.labels[chosen], recipe)
    return score(logits, truth, cells.groups[chosen], recipe.types, temperature=trained.temperature)
