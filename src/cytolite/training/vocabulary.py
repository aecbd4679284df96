"""Which types a run learns: those of its stores, or a file's, and what the stores call them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolite.celltypes import IGNORE, LABEL_NAMES, SEVEN, UNKNOWN_NUCLEUS, LabelSet, TypeSet, read_mapping, read_types
from cytolite.config import TrainSettings
from cytolite.datasets.store import Store
from cytolite.errors import UsageError, did_you_mean
from cytolite.patches import Patch

_UNKNOWN, _IGNORED = LABEL_NAMES[UNKNOWN_NUCLEUS], LABEL_NAMES[IGNORE]


@dataclass(frozen=True)
class Vocabulary:
    """The labels that a run learns, and how it translates those of its stores.

    Attributes
    ----------
    labels : LabelSet
        Of the run.
    mapping : mapping of str to str
        What the run calls a type of the stores, for those that it calls otherwise; "unknown" and "ignore" as well.
    """

    labels: LabelSet = SEVEN
    mapping: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, stores: Sequence[LabelSet], type_set: TypeSet | None = None, mapping: Mapping[str, str] = {}
    ) -> Vocabulary:
        """Return what a run learns of stores with these labels.

        Parameters
        ----------
        stores : sequence of LabelSet
            Of each store.
        type_set : TypeSet, optional
            What shall be learnt; by default the stores' types, after the mapping.
        mapping : mapping of str to str, optional
            New names of the stores' types.

        Raises
        ------
        UsageError
            If the stores are of different types and no types are given, or the mapping names a type that there is not.
        """
        known = [name for labels in stores for name in labels.type_set.names]
        for name in mapping:
            if name.strip().lower() not in known:
                hint = did_you_mean(name, known)
                raise UsageError(
                    f"The stores have no type {name!r}; they have {', '.join(dict.fromkeys(known))}.{hint}"
                )
        named = {name.strip().lower(): new for name, new in mapping.items()}
        if type_set is None:
            if len({labels.type_set.names for labels in stores}) > 1:
                told = "; ".join(dict.fromkeys(", ".join(labels.type_set.names) for labels in stores))
                raise UsageError(f"The stores are of different types ({told}); say with --types FILE which to learn.")
            own = stores[0].type_set
            kept = {name: new for name, new in named.items() if new not in (_UNKNOWN, _IGNORED)}
            type_set = _without(own, set(named) - set(kept)).merged(kept)[0] if named else own
        for name, new in named.items():
            if new not in (*type_set.names, _UNKNOWN, _IGNORED):
                hint = did_you_mean(new, type_set.names)
                raise UsageError(f"{name!r} is mapped to {new!r}; types are {', '.join(type_set.names)}.{hint}")
        found = cls(LabelSet.of(type_set), named)
        sets = [found.ids(labels, label) for labels in stores for label in labels]
        return replace(found, labels=LabelSet.of(type_set, [some for some in sets if some]))

    def ids(self, labels: LabelSet, label: int) -> tuple[int, ...] | None:
        """Return the run's types that a store's label leaves open; none for "ignore", None if the run has not all.

        Parameters
        ----------
        labels : LabelSet
            Of the store.
        label : int
            One of them, as its type maps hold it.
        """
        names = {self._called(labels.type_set.names[t - 1]) for t in labels.allowed(label)}
        own = self.labels.type_set.names
        if label == labels.unknown or _UNKNOWN in names:
            return tuple(range(1, len(own) + 1))
        named = names - {_IGNORED}
        return tuple(sorted(own.index(name) + 1 for name in named)) if named <= set(own) else None

    def _called(self, name: str) -> str:
        return self.mapping.get(name, name)

    def translated(self, patches: Iterable[Patch], labels: LabelSet, where: str) -> list[Patch]:
        """Return patches of a store with the run's labels.

        Parameters
        ----------
        patches : iterable of Patch
            Of the store.
        labels : LabelSet
            What their type maps hold.
        where : str
            Names the store in the error.

        Raises
        ------
        UsageError
            If a type occurs that the run does not have.
        """
        if labels == self.labels and not self.mapping:
            return list(patches)
        table: NDArray[np.int64] = np.full(256, -1)
        table[0], table[IGNORE] = 0, IGNORE
        of = {tuple(sorted(self.labels.allowed(label))): label for label in self.labels}
        for label in labels:
            ids = self.ids(labels, label)
            if ids is not None:
                table[label] = of[ids] if ids else IGNORE
        return [self._translate(patch, table, labels, where) for patch in patches]

    def _translate(self, patch: Patch, table: NDArray[np.int64], labels: LabelSet, where: str) -> Patch:
        types = table[patch.type_map]
        if types.min(initial=0) < 0:
            label = int(patch.type_map[types < 0][0])
            own = self.labels.type_set.names
            lacking = [n for t in labels.allowed(label) if (n := labels.type_set.names[t - 1]) not in self.mapping]
            name = next((n for n in lacking if n not in own), labels.names[label])
            raise UsageError(
                f"{where} has nuclei of the type {name!r}, and {', '.join(own)} are learnt; say with --map what they "
                f'are, as in: "{name}" = "{own[0]}", or "unknown", or "ignore".{did_you_mean(name, own)}'
            )
        return replace(patch, type_map=types.astype(np.uint8))

    def record(self) -> dict[str, Any] | None:
        """Return what a run keeps of this, with a hash; None for the seven types as they are."""
        if self == Vocabulary():
            return None
        content = {**self.labels.describe(), "mapping": dict(self.mapping)}
        return {**content, "sha256": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}

    @classmethod
    def recorded(cls, record: Mapping[str, Any]) -> Vocabulary:
        """Return the vocabulary of a run's record."""
        content = record.get("types")
        return cls(LabelSet.from_description(content), content["mapping"]) if content else cls()


def _without(type_set: TypeSet, names: set[str]) -> TypeSet:
    return TypeSet.from_description([t.describe() for t in type_set if t.name not in names])


def vocabulary_of(stores: Sequence[Path], settings: TrainSettings) -> Vocabulary:
    """Return what a run of these settings learns of stores.

    Parameters
    ----------
    stores : sequence of pathlib.Path
        What `prepare` wrote.
    settings : TrainSettings
        Its `types` and `map` matter, files or None.

    Raises
    ------
    InputError
        If a file cannot be read, or names types that there are not.
    """
    return Vocabulary.of(
        labels_of(stores),
        read_types(settings.types) if settings.types else None,
        read_mapping(settings.map) if settings.map else {},
    )


def labels_of(stores: Sequence[Path]) -> list[LabelSet]:
    """Return the labels of each store."""
    found = []
    for path in stores:
        with Store(path) as store:
            found.append(store.labels)
    return found
