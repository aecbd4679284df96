"""Cell types: sets of them (id, name, colour, group, QuPath class), the seven of the embedded models, coarse labels.

Which types there are belongs to the model, and travels with its cells as a `TypeSet`. The seven are the default; their
ids, names and colours are written here once.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, count
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cytolite.errors import InputError, UsageError, did_you_mean
from cytolite.files import cell_text, read_toml

FEWEST_TYPES, MOST_TYPES, LONGEST_NAME = 2, 64, 40
# Words that mean something else where types are named: in files of labels, in tables, as rows of scores.
_RESERVED = {
    "all", "unknown", "ignore", "mean", "total", "background", "unclassified", "region", "cells", "cells_per_mm2",
    "searched_mm2", "tissue_mm2", "none",
}  # fmt: skip
# For types that were given no colour.
_PALETTE = (
    (220, 38, 38), (40, 95, 230), (22, 150, 70), (249, 145, 20), (160, 70, 220), (0, 185, 215), (240, 215, 30),
    (214, 51, 132), (124, 84, 46), (132, 204, 22), (20, 110, 110), (99, 102, 241), (148, 33, 33), (100, 116, 139),
    (251, 146, 172), (13, 60, 120),
)  # fmt: skip


@dataclass(frozen=True)
class CellType:
    """One of the types that a model tells apart.

    Attributes
    ----------
    id : int
        1 to n; 0 is background everywhere.
    name : str
        Lower-case name, used in tables (``p_<name>``) and settings.
    colour : tuple of int
        RGB, 0 to 255, used in every picture and in QuPath.
    parent : str, optional
        Group that the type belongs to, such as "immune"; summaries count it too.
    qupath : str, optional
        Name of the QuPath class, where it is not the type's name with a capital.
    """

    id: int
    name: str
    colour: tuple[int, int, int]
    parent: str | None = None
    qupath: str | None = None

    @property
    def qupath_class(self) -> str:
        """Name of the QuPath class: the type's name with a capital, unless another was given."""
        return self.qupath or self.name.capitalize()

    def describe(self) -> dict[str, Any]:
        """Return plain values, without the id and what it does not have, which `TypeSet.from_description` reads."""
        optional = {"parent": self.parent, "qupath": self.qupath}
        return {"name": self.name, "colour": [*self.colour], **{k: v for k, v in optional.items() if v}}


@dataclass(frozen=True)
class TypeSet:
    """The types that a model, or a table of cells, tells apart: 2 to 64, numbered from 1.

    Attributes
    ----------
    types : tuple of CellType
        In the order of their ids.

    Raises
    ------
    InputError
        If there are too few or too many, or two share a name, a column of a table or a QuPath class.

    Examples
    --------
    >>> TypeSet.named(["tumour", "other"]).by_name("Tumour").id
    1
    """

    types: tuple[CellType, ...]

    def __post_init__(self) -> None:
        if not FEWEST_TYPES <= len(self.types) <= MOST_TYPES:
            raise InputError(f"A set has {FEWEST_TYPES} to {MOST_TYPES} types; {len(self.types)} were given.")
        if [t.id for t in self.types] != [*range(1, len(self.types) + 1)]:
            raise InputError(f"Types are numbered 1, 2, ...; {[t.id for t in self.types]} were given.")
        groups = {t.parent for t in self.types if t.parent}
        for name in (*self.names, *groups):
            _check_name(name)
        if both := groups & set(self.names):
            raise InputError(f"{min(both)!r} names a type and a group of types; choose another name for one of them.")
        for colour in (t.colour for t in self.types):
            if len(colour) != 3 or not all(isinstance(c, int) and 0 <= c <= 255 for c in colour):
                raise InputError(f"The colour {colour} is none; red, green and blue are whole numbers from 0 to 255.")
        columns = Counter(f"{name}{end}" for name in (*self.names, *groups) for end in ("", "_fraction", "_per_mm2"))
        classes = Counter(t.qupath_class.casefold() for t in self.types)
        for what, counted in (("the name or column", columns), ("the QuPath class", classes)):
            if twice := [name for name, n in counted.items() if n > 1]:
                raise InputError(f"Two types share {what} {twice[0]!r}; names must differ.")

    def __len__(self) -> int:
        return len(self.types)

    def __iter__(self) -> Iterator[CellType]:
        return iter(self.types)

    def __getitem__(self, index: int) -> CellType:
        return self.types[index]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the types; entry i is that of type i + 1."""
        return tuple(t.name for t in self.types)

    @property
    def colours(self) -> tuple[tuple[int, int, int], ...]:
        """RGB of each type."""
        return tuple(t.colour for t in self.types)

    @cached_property
    def probs(self) -> tuple[str, ...]:
        """Names of the columns with the types' probabilities."""
        return tuple(f"p_{name}" for name in self.names)

    @cached_property
    def groups(self) -> dict[str, tuple[int, ...]]:
        """Ids of the types of each group, in the order in which the groups are first named."""
        found: dict[str, tuple[int, ...]] = {}
        for t in self.types:
            if t.parent:
                found[t.parent] = (*found.get(t.parent, ()), t.id)
        return found

    def by_name(self, name: str) -> CellType:
        """Return the type called `name` (any case).

        Raises
        ------
        UsageError
            If there is no such type.
        """
        for cell_type in self.types:
            if cell_type.name == name.strip().lower():
                return cell_type
        hint = did_you_mean(name.lower(), self.names)
        raise UsageError(f"There is no cell type {name!r}; known are {', '.join(self.names)}.{hint}")

    def describe(self) -> list[dict[str, Any]]:
        """Return plain values for JSON, which `from_description` reads."""
        return [t.describe() for t in self.types]

    @classmethod
    def from_description(cls, content: Any) -> TypeSet:
        """Return the set that `describe` gave; colours that are missing are chosen.

        Raises
        ------
        InputError
            If it is no list of types.
        """
        if not isinstance(content, list) or not all(isinstance(item, Mapping) for item in content):
            raise InputError("Types are a list; each has a name and, if wanted, colour, parent and qupath.")
        types = []
        for number, (item, chosen) in enumerate(zip(content, _colours(content), strict=True), 1):
            if others := set(item) - {"name", "colour", "parent", "qupath"}:
                known = ("name", "colour", "parent", "qupath")
                raise InputError(
                    f"A type has no {min(others)!r}; it has {', '.join(known)}.{did_you_mean(min(others), known)}"
                )
            texts = {key: item.get(key) for key in ("name", "parent", "qupath")}
            if not isinstance(texts["name"], str) or not all(v is None or isinstance(v, str) for v in texts.values()):
                raise InputError(f"Type {number} has no name that is text.")
            types.append(CellType(number, texts["name"], chosen, texts["parent"] or None, texts["qupath"] or None))
        return cls(tuple(types))

    @classmethod
    def named(cls, names: Sequence[str]) -> TypeSet:
        """Return a set with these names; types of the default set keep their colour, others are given one."""
        return DEFAULT if tuple(names) == TYPE_NAMES else cls.from_description([{"name": name} for name in names])

    def merged(self, mapping: Mapping[str, str], described: TypeSet | None = None) -> tuple[TypeSet, list[int]]:
        """Return the set after types were given other names, several the same one if so, and each type's new id.

        Parameters
        ----------
        mapping : mapping of str to str
            New name of a type; types that it does not name keep theirs.
        described : TypeSet, optional
            Colours and groups of new types, and their order.

        Raises
        ------
        UsageError
            If the mapping names a type that there is not.
        """
        for name in mapping:
            self.by_name(name)
        lower = {name.strip().lower(): new for name, new in mapping.items()}
        new = [lower.get(t.name, t.name) for t in self.types]
        if described is not None:
            return described, [described.by_name(name).id for name in new]
        names = list(dict.fromkeys(new))
        known = {t.name: t for t in reversed((*self.types, *DEFAULT.types))}
        content = [known[name].describe() if name in known else {"name": name} for name in names]
        merged = TypeSet.from_description(content)
        return (DEFAULT if merged == DEFAULT else merged), [names.index(name) + 1 for name in new]


def _check_name(name: str) -> None:
    if not name or len(name) > LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise InputError(
            f"{name!r} cannot be a type's name: it has 1 to {LONGEST_NAME} characters, and no space around it."
        )
    if name != name.lower() or any(c in name for c in '|,;=:"\\'):
        raise InputError(f"{name!r} cannot be a type's name: it is in lower case, without any of | , ; = : and quotes.")
    if cell_text(name) != name:
        raise InputError(f"{name!r} cannot be a type's name: a spreadsheet would take it for a formula.")
    if name in _RESERVED:
        raise InputError(f"{name!r} cannot be a type's name: it means something else in tables; choose another.")


def _colours(content: Sequence[Mapping[str, Any]]) -> list[tuple[int, int, int]]:
    """Return the colour of each described type: the one given, the default type's, or one that is not used yet."""
    given = [item.get("colour") for item in content]
    known = {t.name: t.colour for t in CELL_TYPES}
    chosen = [
        known.get(str(item.get("name"))) if colour is None else _rgb(colour)
        for item, colour in zip(content, given, strict=True)
    ]
    spare = (c for c in chain(_PALETTE, map(_hashed, count())) if c not in chosen)
    return [next(spare) if colour is None else colour for colour in chosen]


def colours_of(names: Sequence[str], given: Mapping[str, tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Return a colour for each name: the one given, the default type's, or the one that a set of these names has.

    Parameters
    ----------
    names : sequence of str
        Types, in their order; more than a set may have are fine.
    given : mapping of str to tuple of int
        RGB of those whose colour is known.
    """
    return _colours([{"name": name, "colour": given.get(name)} for name in names])


def _hashed(i: int) -> tuple[int, int, int]:
    """One of many colours, each unlike the one before."""
    return (37 + 71 * i % 190, 29 + 113 * i % 190, 61 + 157 * i % 190)


def _rgb(given: Any) -> tuple[int, int, int]:
    if isinstance(given, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", given):
        red, green, blue = bytes.fromhex(given[1:])
        return (red, green, blue)
    if isinstance(given, list | tuple) and len(given) == 3 and all(type(c) is int for c in given):
        return (given[0], given[1], given[2])
    raise InputError(f'The colour {given!r} is none; write [red, green, blue] from 0 to 255, or "#rrggbb".')


CELL_TYPES: tuple[CellType, ...] = (
    CellType(1, "neoplastic", (220, 38, 38)),
    CellType(2, "epithelial", (249, 145, 20)),
    CellType(3, "lymphocyte", (22, 150, 70)),
    CellType(4, "macrophage", (160, 70, 220)),
    CellType(5, "neutrophil", (0, 185, 215)),
    CellType(6, "connective", (40, 95, 230)),
    CellType(7, "dead", (240, 215, 30)),
)
DEFAULT = TypeSet(CELL_TYPES)
TYPE_NAMES: tuple[str, ...] = DEFAULT.names
N_TYPES = len(CELL_TYPES)
BACKGROUND = 0

# Labels that say "one of these": a dataset's class that is wider than one of the seven types. A type map
# may hold them; the type loss then asks only that the probability falls within the set.
INFLAMMATORY = 8
EPITHELIAL_OR_NEOPLASTIC = 9
UNKNOWN_NUCLEUS = 10
# A pixel about which nothing is known, not even whether it is a nucleus: no loss at all.
IGNORE = 255

COARSE_LABELS: MappingProxyType[int, tuple[str, ...]] = MappingProxyType(
    {
        INFLAMMATORY: ("lymphocyte", "macrophage", "neutrophil"),
        EPITHELIAL_OR_NEOPLASTIC: ("epithelial", "neoplastic"),
        UNKNOWN_NUCLEUS: TYPE_NAMES,
    }
)

# Every label of a type map by the name that it has in files and tables.
LABEL_NAMES: MappingProxyType[int, str] = MappingProxyType(
    {t.id: t.name for t in CELL_TYPES}
    | {
        INFLAMMATORY: "inflammatory",
        EPITHELIAL_OR_NEOPLASTIC: "epithelial or neoplastic",
        UNKNOWN_NUCLEUS: "unknown",
        IGNORE: "ignore",
    }
)
# Every label that is drawn by the colour of its outline; coarse labels have colours near those of their types.
LABEL_COLOURS: MappingProxyType[int, tuple[int, int, int]] = MappingProxyType(
    {t.id: t.colour for t in CELL_TYPES}
    | {INFLAMMATORY: (120, 225, 140), EPITHELIAL_OR_NEOPLASTIC: (255, 0, 190), UNKNOWN_NUCLEUS: (45, 45, 45)}
)


@dataclass(frozen=True)
class LabelSet:
    """What the numbers in type maps mean: 1 to n a type, then sets of types ("one of these"), 0 background.

    Attributes
    ----------
    type_set : TypeSet
        The n types.
    sets : tuple of tuple of int
        Ids of the types that labels n + 1, n + 2, ... leave open; the last leaves all open (an unknown nucleus).

    Raises
    ------
    InputError
        If there are more than type maps can tell apart.
    """

    type_set: TypeSet
    sets: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if self.unknown >= IGNORE:
            raise InputError(
                f"There are {self.unknown} types and sets of types; a type map can tell {IGNORE - 1} apart."
            )

    @classmethod
    def of(cls, type_set: TypeSet, sets: Iterable[Iterable[int]] = ()) -> LabelSet:
        """Return labels for these types and sets of them, and one for a nucleus of unknown type.

        Parameters
        ----------
        type_set : TypeSet
            The n types.
        sets : iterable of iterables of int
            Ids of types that a label leaves open, in any order; those of one type, or of all, need none of their own.
        """
        every = tuple(range(1, len(type_set) + 1))
        found = {some for given in sets if len(some := tuple(sorted(set(given)))) > 1} - {every}
        if type_set == DEFAULT and found <= {tuple(sorted(some)) for some in SEVEN.sets}:
            return SEVEN
        return cls(type_set, (*sorted(found), every))

    @property
    def unknown(self) -> int:
        """The label of a nucleus of unknown type, which is the largest but `IGNORE`."""
        return len(self.type_set) + len(self.sets)

    def allowed(self, label: int) -> tuple[int, ...]:
        """Ids of the types that a label leaves open; none for background and `IGNORE`."""
        n = len(self.type_set)
        if 1 <= label <= n:
            return (label,)
        return self.sets[label - n - 1] if n < label <= self.unknown else ()

    @cached_property
    def names(self) -> dict[int, str]:
        """Every label by the name that it has in tables."""
        if self.sets == SEVEN.sets and self.type_set == DEFAULT:
            return dict(LABEL_NAMES)
        names = {label: " or ".join(self.type_set.names[t - 1] for t in self.allowed(label)) for label in self}
        return names | {self.unknown: LABEL_NAMES[UNKNOWN_NUCLEUS], IGNORE: LABEL_NAMES[IGNORE]}

    @cached_property
    def colours(self) -> dict[int, tuple[int, int, int]]:
        """RGB of every label that is drawn: of a set of types their mean."""
        if self.sets == SEVEN.sets and self.type_set == DEFAULT:
            return dict(LABEL_COLOURS)
        of = self.type_set.colours
        means = {
            label: tuple(sum(of[t - 1][c] for t in self.allowed(label)) // len(self.allowed(label)) for c in range(3))
            for label in self
        }
        return {**means, self.unknown: LABEL_COLOURS[UNKNOWN_NUCLEUS]}  # type: ignore[dict-item]

    def __iter__(self) -> Iterator[int]:
        return iter(range(1, self.unknown + 1))

    def by_names(self, given: str | Sequence[str]) -> int:
        """Return the label of a type, of a list of types ("one of these"), of "unknown" or of "ignore" (any case).

        Raises
        ------
        UsageError
            If there is no such label.
        """
        names = [given] if isinstance(given, str) else [*given]
        if isinstance(given, str):
            if group := self.type_set.groups.get(given.lower()):
                names = [self.type_set[t - 1].name for t in group]
            for label, known in self.names.items():
                if known == given.lower():
                    return label
        wanted = tuple(sorted({self.type_set.by_name(str(name)).id for name in names}))
        return next(label for label in self if tuple(sorted(self.allowed(label))) == wanted)

    def describe(self) -> dict[str, Any]:
        """Return plain values for JSON, which `from_description` reads."""
        names = self.type_set.names
        return {"types": self.type_set.describe(), "sets": [[names[t - 1] for t in some] for some in self.sets]}

    @classmethod
    def from_description(cls, content: Mapping[str, Any]) -> LabelSet:
        """Return what `describe` gave.

        Raises
        ------
        InputError
            If it is no description of labels.
        """
        type_set = TypeSet.from_description(content.get("types"))
        sets = tuple(tuple(type_set.by_name(name).id for name in some) for some in content.get("sets", ()))
        found = cls(DEFAULT if type_set == DEFAULT else type_set, sets)
        return SEVEN if found == SEVEN else found


SEVEN = LabelSet(DEFAULT, tuple(tuple(DEFAULT.by_name(name).id for name in names) for names in COARSE_LABELS.values()))


def read_types(path: Path) -> TypeSet:
    """Read a file of types, TOML or JSON: a list ``types``, each with a name and, if wanted, colour, parent and qupath.

    Raises
    ------
    InputError
        If it cannot be read, or holds something else.
    """
    content = read_toml(path, "The file of types", or_json=True)
    if set(content) != {"types"}:
        raise UsageError(f"{path} holds {', '.join(content) or 'nothing'}; a file of types has one list, 'types'.")
    try:
        found = TypeSet.from_description(content["types"])
    except InputError as error:
        raise UsageError(f"{path}: {error}") from None
    return DEFAULT if found == DEFAULT else found


def read_mapping(path: Path) -> dict[str, str]:
    """Read a file that gives types other names, TOML or JSON: a line for each, as ``tumour = "neoplastic"``.

    Raises
    ------
    InputError
        If it cannot be read, or holds something else.
    """
    content = read_toml(path, "The mapping of types", or_json=True)
    if wrong := next((name for name, new in content.items() if not isinstance(new, str)), None):
        raise UsageError(
            f'{path}: {wrong!r} stands for {content[wrong]!r}; a type gets one name, as in: tumour = "neoplastic".'
        )
    if not content:
        raise UsageError(f'{path} is empty; it needs at least one line such as: tumour = "neoplastic".')
    return content


def by_name(name: str) -> CellType:
    """Return the default set's type called `name` (any case).

    Raises
    ------
    UsageError
        If there is no such type.
    """
    return DEFAULT.by_name(name)


def label_by_name(name: str) -> int:
    """Return the label called `name` (any case): a type, a coarse label, "unknown" or "ignore".

    Raises
    ------
    InputError
        If there is no such label.
    """
    for label, known in LABEL_NAMES.items():
        if known == name.lower():
            return label
    names = LABEL_NAMES.values()
    raise UsageError(f"There is no label {name!r}; known are {', '.join(names)}.{did_you_mean(name.lower(), names)}")


def allowed_types(label: int) -> tuple[int, ...]:
    """Ids of the types that a label of a type map leaves open: one for a type, several for a coarse label.

    Raises
    ------
    InputError
        If `label` is neither a type nor a coarse label.
    """
    if 1 <= label <= N_TYPES:
        return (label,)
    if label in COARSE_LABELS:
        return tuple(by_name(name).id for name in COARSE_LABELS[label])
    raise InputError(f"{label} is no label of a nucleus; allowed are 1 to {N_TYPES} and {sorted(COARSE_LABELS)}.")
