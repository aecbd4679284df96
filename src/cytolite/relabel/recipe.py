"""The recipe: which classifier learns which types from which dataset, and which coarse label it splits where."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from cytolite.celltypes import LABEL_NAMES, allowed_types, by_name, label_by_name
from cytolite.config import AnySettings, Settings, explain
from cytolite.errors import UsageError, did_you_mean
from cytolite.files import read_toml


class ClassifierRecipe(Settings):
    """One classifier.

    Attributes
    ----------
    name : str
        Letters, digits, ``-`` and ``_``; names its folder and appears in the audit.
    trained_on : tuple of str
        Datasets whose cells it learns from.
    types : tuple of str
        What it tells apart, at least two of the seven types.
    """

    name: str
    trained_on: tuple[str, ...] = Field(min_length=1)
    types: tuple[str, ...] = Field(min_length=2)

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
            raise ValueError("is not a plain name; letters, digits, - and _ are allowed")
        return name

    @property
    def type_ids(self) -> tuple[int, ...]:
        """Ids of the types, in the order of the network's outputs."""
        return tuple(by_name(name).id for name in self.types)


class Split(Settings):
    """One coarse label of one dataset, and the classifier that splits it."""

    dataset: str
    label: str
    by: str

    @property
    def label_id(self) -> int:
        """The coarse label as type maps hold it."""
        return label_by_name(self.label)


class Recipe(Settings):
    """Classifiers and what they split; a classifier that splits nothing is trained and scored all the same."""

    classifier: tuple[ClassifierRecipe, ...] = Field(min_length=1)
    split: tuple[Split, ...] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        names = [c.name for c in self.classifier]
        if len(set(names)) < len(names):
            raise UsageError(f"The recipe has two classifiers of one name; names are {', '.join(names)}.")
        for classifier in self.classifier:
            if len(set(classifier.type_ids)) < len(classifier.types):
                raise UsageError(
                    f"The classifier {classifier.name!r} names a type twice: {', '.join(classifier.types)}."
                )
        seen = set()
        for split in self.split:
            self._check(split)
            if (split.dataset, split.label_id) in seen:
                raise UsageError(f"The recipe splits {split.label!r} of {split.dataset} twice; once is allowed.")
            seen.add((split.dataset, split.label_id))
        return self

    def _check(self, split: Split) -> None:
        classifier = self.by(split)
        allowed = allowed_types(split.label_id)
        if len(allowed) == 1:
            raise UsageError(f"{split.label!r} is one type already; only a coarse label can be split.")
        outside = [LABEL_NAMES[t] for t in classifier.type_ids if t not in allowed]
        if outside:
            raise UsageError(
                f"The classifier {split.by!r} knows {', '.join(outside)}, which {split.label!r} does not leave open; "
                f"allowed are {', '.join(LABEL_NAMES[t] for t in allowed)}."
            )

    def by(self, split: Split) -> ClassifierRecipe:
        """Return the classifier that a split names.

        Raises
        ------
        InputError
            If the recipe has none of that name.
        """
        for classifier in self.classifier:
            if classifier.name == split.by:
                return classifier
        names = [c.name for c in self.classifier]
        raise UsageError(
            f"The recipe splits {split.label!r} by {split.by!r}, but its classifiers are {', '.join(names)}."
            f"{did_you_mean(split.by, names)}"
        )


# Section 2 of the paper: each dataset's coarse label is split by what the other one teaches.
PAPER = Recipe(
    classifier=(
        ClassifierRecipe(name="epithelium", trained_on=("pannuke",), types=("neoplastic", "epithelial")),
        ClassifierRecipe(name="leukocytes", trained_on=("monusac",), types=("lymphocyte", "neutrophil", "macrophage")),
    ),
    split=(
        Split(dataset="monusac", label="epithelial or neoplastic", by="epithelium"),
        Split(dataset="pannuke", label="inflammatory", by="leukocytes"),
    ),
)


def read_recipe(path: Path | None) -> Recipe:
    """Read a recipe; the paper's where none is given.

    Raises
    ------
    InputError
        In one sentence, if the file is missing, is not TOML, or says something that cannot be done.
    """
    if path is None:
        return PAPER
    content = read_toml(path, "The recipe")
    tables = {
        "classifier": [
            _table(path, ClassifierRecipe, "[[classifier]]", t) for t in _listed(path, content, "classifier")
        ],
        "split": [_table(path, Split, "[[split]]", t) for t in _listed(path, content, "split")],
    }
    return _table(path, Recipe, "", content | tables)


def _listed(path: Path, content: dict[str, Any], name: str) -> list[Any]:
    listed = content.get(name, [])
    if not isinstance(listed, list):
        raise UsageError(f"In the recipe {path}, write [[{name}]] with double brackets: there may be several.")
    return listed


def _table(path: Path, kind: type[AnySettings], title: str, content: Any) -> AnySettings:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        where = f"{title} of the recipe" if title else "the recipe"
        raise UsageError(f"In {where} {path}: {explain(error, kind)}") from None
