"""What labels mean: which ids stand for which types, for one of several, for any, or for nothing that can be judged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolite.celltypes import DEFAULT, IGNORE, SEVEN, TYPE_NAMES, LabelSet, TypeSet, colours_of
from cytolite.errors import InputError, UsageError, did_you_mean
from cytolite.files import read_toml

ALL = "all"
# What a file of types may say instead of a name.
UNKNOWN, IGNORED = "unknown", "ignore"
MAX_LABEL = 255


@dataclass(frozen=True)
class Classes:
    """The types that are told apart, and what each id of a type map says about them.

    Attributes
    ----------
    types : tuple of str
        Names; a type's number is its position here plus 1.
    labels : mapping of int to tuple of int
        Id in a type map to the numbers of the types that it leaves open: one, several (a coarse label) or all (a
        nucleus of unknown type).
    ignored : frozenset of int
        Ids under which nothing is judged, not even whether there is a nucleus.
    given_colours : mapping of str to tuple of int
        RGB of types whose set gives them a colour.
    """

    types: tuple[str, ...]
    labels: Mapping[int, tuple[int, ...]]
    ignored: frozenset[int] = frozenset()
    given_colours: Mapping[str, tuple[int, int, int]] = field(default_factory=dict, compare=False)

    @cached_property
    def colours(self) -> dict[str, tuple[int, int, int]]:
        """RGB of each type: its set's, or one that depends on the names alone."""
        return dict(zip(self.types, colours_of(self.types, self.given_colours), strict=True))

    def coloured(self, type_set: TypeSet) -> Classes:
        """Return these with the colours of a set, for its types that have no given one yet.

        Parameters
        ----------
        type_set : TypeSet
            May have types that these do not, and lack some.
        """
        known = {t.name: t.colour for t in type_set if t.name in self.types}
        return replace(self, given_colours={**known, **self.given_colours})

    @cached_property
    def wider(self) -> tuple[tuple[int, ...], ...]:
        """The sets of types that coarse labels name, without "any"."""
        sets = {tuple(sorted(s)) for s in self.labels.values() if 1 < len(s) < len(self.types)}
        return tuple(sorted(sets))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of all classes that are counted: "all", the types, the coarse labels ("a|b")."""
        return (ALL, *self.types, *("|".join(self.types[t - 1] for t in s) for s in self.wider))

    @cached_property
    def members(self) -> NDArray[np.bool_]:
        """Which types each class holds, bool (classes, types)."""
        table = np.zeros((len(self.names), len(self.types)), bool)
        table[0] = True
        for row, types in enumerate([*((t + 1,) for t in range(len(self.types))), *self.wider], 1):
            table[row, [t - 1 for t in types]] = True
        return table

    @cached_property
    def allowed(self) -> NDArray[np.bool_]:
        """Which types each label leaves open, bool (256, types)."""
        table = np.zeros((MAX_LABEL + 1, len(self.types)), bool)
        for label, types in self.labels.items():
            table[label, [t - 1 for t in types]] = True
        return table

    @cached_property
    def class_of_label(self) -> NDArray[np.int64]:
        """The class that says exactly what each label says, int64 (256,); 0 where it is "any" or nothing."""
        of = np.zeros(MAX_LABEL + 1, np.int64)
        for label, types in self.labels.items():
            if len(types) < len(self.types) or len(self.types) == 1:
                of[label] = int(np.flatnonzero((self.members[1:] == self.allowed[label]).all(1))[0]) + 1
        return of

    @cached_property
    def type_of_label(self) -> NDArray[np.int64]:
        """The one type that a prediction's label names, int64 (256,); 0 where it names none, or several."""
        of = np.zeros(MAX_LABEL + 1, np.int64)
        for label, types in self.labels.items():
            if len(types) == 1:
                of[label] = types[0]
        return of

    def describe(self) -> str:
        """Return this as JSON, which `from_description` reads."""
        content = {
            "types": self.types,
            "labels": {str(k): v for k, v in self.labels.items()},
            "ignored": [*self.ignored],
        }
        return json.dumps(content | ({"colours": dict(self.given_colours)} if self.given_colours else {}))

    @classmethod
    def from_description(cls, text: str) -> Classes:
        """Return what `describe` wrote."""
        content = json.loads(text)
        labels = {int(k): tuple(v) for k, v in content["labels"].items()}
        colours = {name: tuple(rgb) for name, rgb in content.get("colours", {}).items()}
        return cls(tuple(content["types"]), labels, frozenset(content["ignored"]), colours)


def own_classes(labels: LabelSet = SEVEN) -> Classes:
    """Return the types and coarse labels of stores: without `labels` those of the seven."""
    types = labels.type_set
    classes = Classes(types.names, {label: labels.allowed(label) for label in labels}, frozenset({IGNORE}))
    return classes if types == DEFAULT else classes.coloured(types)


def read_classes(path: Path) -> Classes:
    """Read a file that says what the ids of type maps mean: TOML or JSON, one id a line.

    A value is a type's name, a list of names ("one of these"), "unknown" (a nucleus of any type) or "ignore". If all
    names are cytolite's own, its seven types are told apart; else those that the file names, in order of their ids.

    Raises
    ------
    InputError
        If the file cannot be read, or an entry is none of these.
    """
    entries: dict[int, Any] = {}
    for key, value in read_toml(path, "The file of types", or_json=True).items():
        names = [value] if isinstance(value, str) else value
        if not key.isdigit() or not 1 <= int(key) <= MAX_LABEL:
            raise UsageError(f"{path}: the id {key!r} is not allowed; ids are whole numbers from 1 to {MAX_LABEL}.")
        if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
            raise UsageError(
                f'{path}: the id {key} stands for {value!r}; allowed are a name, a list of names, "{UNKNOWN}" and '
                f'"{IGNORED}".'
            )
        entries[int(key)] = value if value in (UNKNOWN, IGNORED) else names
    named = [name for names in dict(sorted(entries.items())).values() if isinstance(names, list) for name in names]
    if not named:
        raise UsageError(f'{path} names no type; it needs at least one line such as: 1 = "neoplastic".')
    reserved = next((name for name in named if name in (ALL, UNKNOWN, IGNORED, "mean") or "|" in name), None)
    if reserved:
        raise UsageError(f"{path}: {reserved!r} cannot be a type's name, alone or in a list; choose another.")
    types = TYPE_NAMES if set(named) <= set(TYPE_NAMES) else tuple(dict.fromkeys(named))
    number = {name: i for i, name in enumerate(types, 1)}
    labels: dict[int, tuple[int, ...]] = {}
    for label, names in entries.items():
        if names == UNKNOWN:
            labels[label] = tuple(number.values())
        elif names != IGNORED:
            labels[label] = tuple(sorted({number[name] for name in names}))
    return Classes(types, labels, frozenset(label for label, names in entries.items() if names == IGNORED))


def numbers_of(type_set: TypeSet, classes: Classes, what: str, mapping: Mapping[str, str] | None = None) -> list[int]:
    """Return the number among the classes of each type that predictions are of.

    Parameters
    ----------
    type_set : TypeSet
        Of the predictions.
    classes : Classes
        Of the truth.
    what : str
        Whose predictions they are, for messages.
    mapping : mapping of str to str, optional
        What the truth calls a type, for those that it calls otherwise.

    Raises
    ------
    InputError
        If the truth has no such type.
    """
    merged, ids = type_set.merged(mapping or {})
    if other := next((name for name in merged.names if name not in classes.types), None):
        raise InputError(
            f"{what} names the type {other!r}, which the truth has not: it has {', '.join(classes.types)}; say with "
            f"--map FILE what the truth calls it.{did_you_mean(other, classes.types)}"
        )
    return [classes.types.index(merged.names[i - 1]) + 1 for i in ids]
