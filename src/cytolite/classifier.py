"""A taught classifier: plain numbers that name nuclei by a network's probabilities and what was measured of them.

It is part of a bundle and needs neither scikit-learn nor torch: a product with a matrix, and a softmax. Each nucleus is
named by itself, so neither tiles nor the order of nuclei change a name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from cytolite.cells import CellTable
from cytolite.celltypes import DEFAULT, TypeSet
from cytolite.errors import InputError

# What the network said stays with the cells under these names: so they can be named again, and compared.
BEFORE, TYPE_BEFORE = "parent_", "parent_type"
_VECTOR = "embedding_"  # and the number of a channel, from 0
_LEAST_P = 1e-4  # a probability is not told from a smaller one
# A slide is unlike those that the classifier was taught on where the mean of an input is so many standard deviations
# (of single nuclei there) away; of fewer nuclei a mean says little. Numbers of an embedding count together, by the root
# of the mean of their squares, each as `_FARTHEST` at most: where a number hardly varies, a little is many deviations.
FAR, _FARTHEST, _LEAST_NUCLEI = 1.5, 3.0, 50


class Classifier(BaseModel):
    """Multinomial logistic regression on what a network and the measurements say of a nucleus.

    Columns of inputs: ``p_<type>`` stands for the logarithm of the network's probability, ``area_um2`` and names of
    features for themselves, ``embedding_<n>`` for a number of the embedding; all are standardised with `mean` and
    `scale`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    parent: str = Field(description="Name and version of the bundle that the network is from.")
    parent_types: tuple[dict[str, Any], ...] = Field(description="The types that the network tells apart.")
    inputs: tuple[str, ...] = Field(min_length=1, description="Names of the inputs.")
    mean: tuple[float, ...] = Field(description="Of each input, on the nuclei of the results it was taught on.")
    scale: tuple[float, ...] = Field(description="Standard deviation there.")
    coefficients: tuple[tuple[float, ...], ...] = Field(description="A row for each type, a number for each input.")
    intercepts: tuple[float, ...] = Field(description="One for each type.")
    temperature: float = Field(1.0, gt=0, description="Scores are divided by it, so that probabilities are calibrated.")
    kept: dict[int, int] = Field({}, description="Types that keep the parent's probability: id here to the parent's.")
    labels: dict[str, int] = Field({}, description="Labelled nuclei of each type.")
    slides: tuple[str, ...] = Field((), description="SHA-256 (first 16 digits) of the slides' names it was taught on.")

    @cached_property
    def network_types(self) -> TypeSet:
        """The types that the network tells apart."""
        found = TypeSet.from_description([*self.parent_types])
        return DEFAULT if found == DEFAULT else found

    @property
    def uses_embeddings(self) -> bool:
        """Whether it needs the vectors that `segment --embeddings` keeps."""
        return any(name.startswith(_VECTOR) for name in self.inputs)

    def name(self, cells: CellTable, type_set: TypeSet) -> CellTable:
        """Return cells with the types of `type_set`; what the network said becomes the features ``parent_...``.

        Parameters
        ----------
        cells : CellTable
            As the network named them, or as `name` of this or another classifier left them.
        type_set : TypeSet
            Of the taught bundle.

        Raises
        ------
        InputError
            If the cells are not those of such a network, or lack a feature.
        """
        before = as_before(cells, self.network_types)
        probs = self.probabilities(before)
        said = [*map(np.ascontiguousarray, before.type_probs.T), before.types.astype(np.float32)]
        return replace(
            before,
            types=(np.argmax(probs, axis=1) + 1).astype(np.uint8),
            type_probs=probs.astype(np.float32),
            features={**before.features, **dict(zip(before_columns(self.network_types), said, strict=True))},
            type_set=type_set,
        )

    def probabilities(self, before: CellTable) -> NDArray[np.float64]:
        """Return the probability of each type, float64 (N, types), of cells as the network named them."""
        return self.of_inputs(inputs_of(before, self.inputs), before.type_probs)

    def of_inputs(self, inputs: NDArray[np.float64], type_probs: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return probabilities, float64 (N, types), of inputs (N, inputs) and what the network said (N, parent's).

        Parameters
        ----------
        inputs : numpy.ndarray
            float64 (N, inputs), in the order of the classifier's names.
        type_probs : numpy.ndarray
            float32 (N, parent's types), what the network said.
        """
        z = self.standardised(inputs)
        # Not a product of matrices: a library's result would depend on how many nuclei it is given at once.
        scores = np.stack([(z * row).sum(axis=1) for row in np.asarray(self.coefficients)], axis=1)
        probs = softmax(scores + np.asarray(self.intercepts), self.temperature)
        if self.kept:
            said = type_probs.astype(np.float64)[:, [i - 1 for i in self.kept.values()]]
            probs *= 1 - np.minimum(said.sum(axis=1, keepdims=True), 1)
            probs[:, [i - 1 for i in self.kept]] = said
        normalised: NDArray[np.float64] = probs / probs.sum(axis=1, keepdims=True)
        return normalised

    def standardised(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return inputs in standard deviations from the mean; 0 where one is no number."""
        z = (inputs - np.asarray(self.mean)) / np.asarray(self.scale)
        return np.where(np.isfinite(z), z, 0.0)

    def was_taught_on(self, slide: str) -> bool:
        """Say whether labels came from a slide of this name, whatever its ending."""
        return slide_hash(slide) in self.slides


@dataclass
class Unlike:
    """How far the nuclei of a slide are from those that a classifier was taught on; gathered table by table."""

    classifier: Classifier
    n: int = 0
    total: float | NDArray[np.float64] = 0.0

    def add(self, named: CellTable) -> None:
        """Take the rows of what `Classifier.name` returned."""
        before = as_before(named, self.classifier.network_types)
        self.n += len(named)
        self.total = self.total + self.classifier.standardised(inputs_of(before, self.classifier.inputs)).sum(axis=0)

    def sentence(self) -> str | None:
        """Return what to warn of, if anything."""
        if self.n < _LEAST_NUCLEI:
            return None
        shifts = dict(zip(self.classifier.inputs, np.asarray(self.total) / self.n, strict=True))
        vector = [shifts.pop(name) for name in self.classifier.inputs if name.startswith(_VECTOR)]
        distance = float(np.sqrt(np.mean(np.minimum(np.abs(vector), _FARTHEST) ** 2))) if vector else 0.0
        worst = max(shifts, key=lambda name: abs(shifts[name]), default=None)
        if worst is not None and abs(shifts[worst]) >= max(FAR, distance):
            side = "above" if shifts[worst] > 0 else "below"
            what = f"the mean of {worst} is {abs(shifts[worst]):.1f} standard deviations {side} theirs"
        elif distance >= FAR:
            what = f"the mean of the embeddings is {distance:.1f} standard deviations from theirs"
        else:
            return None
        return (
            f"this slide is unlike those that the model was taught on: {what}; check the types by eye (`cytolite "
            "sheet`), and teach with labels of this slide too"
        )


def before_columns(network_types: TypeSet) -> tuple[str, ...]:
    """Return the names of the features that hold what the network said: a probability of each type, and the type."""
    return (*(f"{BEFORE}{p}" for p in network_types.probs), TYPE_BEFORE)


def as_before(cells: CellTable, network_types: TypeSet) -> CellTable:
    """Return cells as the network named them, of whatever classifier they are now.

    Parameters
    ----------
    cells : CellTable
        With the columns of what the network said.
    network_types : TypeSet
        The types that it tells apart.

    Raises
    ------
    InputError
        If that is not known, or the network's types were others.
    """
    columns = before_columns(network_types)
    if all(name in cells.features for name in columns):
        said = np.stack([cells.features[name] for name in columns[:-1]], axis=1)
        types = cells.features[TYPE_BEFORE].astype(np.uint8)
        others = {k: v for k, v in cells.features.items() if not k.startswith(BEFORE)}
        return replace(cells, types=types, type_probs=said, features=others, type_set=network_types)
    if cells.type_set.names != network_types.names:
        raise InputError(
            f"The cells are of the types {', '.join(cells.type_names)}, and the classifier starts from "
            f"{', '.join(network_types.names)}; take a result of the model that it was taught from."
        )
    return cells


def inputs_of(before: CellTable, names: Sequence[str]) -> NDArray[np.float64]:
    """Return the inputs of a classifier, float64 (N, inputs).

    Parameters
    ----------
    before : CellTable
        Cells as the network named them.
    names : sequence of str
        Which numbers of a nucleus, in the classifier's order.

    Raises
    ------
    InputError
        If the cells lack one.
    """
    probs = dict(zip(before.type_set.probs, before.type_probs.T, strict=True))
    columns: dict[str, NDArray[Any]] = {**before.features, "area_um2": before.area_um2}
    if before.embeddings is not None:
        columns |= dict(zip(vector_names(before.embeddings.shape[1]), before.embeddings.T, strict=True))
    elif any(name.startswith(_VECTOR) for name in names):
        raise InputError(
            "The classifier uses embeddings, which these cells do not have: segment the slide with --embeddings, or "
            "teach with --no-embeddings."
        )
    if missing := [name for name in names if name not in probs and name not in columns]:
        raise InputError(
            f"The cells lack {', '.join(missing)}, which the classifier needs; cells.parquet of `cytolite segment` has "
            "all measurements."
        )
    values = [
        np.log(np.maximum(probs[name].astype(np.float64), _LEAST_P))
        if name in probs
        else columns[name].astype(np.float64)
        for name in names
    ]
    return np.stack(values, axis=1) if len(before) else np.empty((0, len(names)))


def vector_names(channels: int) -> tuple[str, ...]:
    """Return the names of the inputs that the numbers of an embedding are."""
    return tuple(f"{_VECTOR}{channel}" for channel in range(channels))


def softmax(scores: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """Return probabilities of scores, row by row: float64 (n, k).

    Parameters
    ----------
    scores : numpy.ndarray
        (n, k).
    temperature : float
        What scores are divided by.
    """
    scaled = np.asarray(scores, np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True, initial=-np.inf))
    probs: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return probs


def slide_hash(name: str) -> str:
    """Return what a classifier remembers of a slide that its labels came from: no name, and the same without ending."""
    return hashlib.sha256(PurePath(name).stem.encode("utf-8", "surrogatepass")).hexdigest()[:16]
