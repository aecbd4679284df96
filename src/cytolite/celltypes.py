"""The seven cell types: id, name, colour and QuPath class, and the coarse labels that datasets use.

Ids, names and colours are written here once; everything else asks this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from cytolite.errors import InputError, UsageError, did_you_mean


@dataclass(frozen=True)
class CellType:
    """One of the types that cytolite tells apart.

    Attributes
    ----------
    id : int
        1 to 7; 0 is background everywhere.
    name : str
        Lower-case name, used in tables (``p_<name>``) and settings.
    colour : tuple of int
        RGB, 0 to 255, used in every picture and in QuPath.
    """

    id: int
    name: str
    colour: tuple[int, int, int]

    @property
    def qupath_class(self) -> str:
        """Name of the QuPath class: the type's name with a capital."""
        return self.name.capitalize()


CELL_TYPES: tuple[CellType, ...] = (
    CellType(1, "neoplastic", (220, 38, 38)),
    CellType(2, "epithelial", (249, 145, 20)),
    CellType(3, "lymphocyte", (22, 150, 70)),
    CellType(4, "macrophage", (160, 70, 220)),
    CellType(5, "neutrophil", (0, 185, 215)),
    CellType(6, "connective", (40, 95, 230)),
    CellType(7, "dead", (240, 215, 30)),
)
TYPE_NAMES: tuple[str, ...] = tuple(t.name for t in CELL_TYPES)
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


def by_name(name: str) -> CellType:
    """Return the type called `name` (any case).

    Raises
    ------
    InputError
        If there is no such type.
    """
    for cell_type in CELL_TYPES:
        if cell_type.name == name.lower():
            return cell_type
    raise UsageError(
        f"There is no cell type {name!r}; known are {', '.join(TYPE_NAMES)}.{did_you_mean(name.lower(), TYPE_NAMES)}"
    )


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
