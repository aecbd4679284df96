"""Which types play which part: the one table that measures ask, whatever set of types a model has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cytolite.errors import InputError, did_you_mean

# Types that play each part unless told otherwise; those that a result does not have are passed over.
ROLES: dict[str, tuple[str, ...]] = {
    "tumour": ("neoplastic",),
    "lymphocytes": ("lymphocyte",),
    "stroma": ("connective",),
    "epithelium": ("epithelial",),
}


@dataclass(frozen=True)
class Roles:
    """Types by part.

    Attributes
    ----------
    names : tuple of str
        Of all types, in the order of their codes.
    codes : dict of str to tuple of int
        Part to the codes of its types; empty where no type plays it.
    """

    names: tuple[str, ...]
    codes: Mapping[str, tuple[int, ...]]

    def types(self, role: str) -> tuple[str, ...]:
        """Names of the types that play a part."""
        return tuple(self.names[code] for code in self.codes[role])


def choose_roles(names: Sequence[str], given: Mapping[str, Sequence[str]]) -> Roles:
    """Return which of the types in `names` play which part.

    Parameters
    ----------
    names : sequence of str
        The types of the result.
    given : mapping of str to sequence of str
        Part to names that replace the table's; parts that are missing or empty keep them.

    Raises
    ------
    InputError
        If a given type does not exist, or plays two parts.
    """
    codes: dict[str, tuple[int, ...]] = {}
    owner: dict[str, str] = {}
    for role, usual in ROLES.items():
        wanted = given.get(role) or [name for name in usual if name in names]
        if unknown := [name for name in wanted if name not in names]:
            raise InputError(
                f"--{role} names the type {unknown[0]!r}, which these cells do not have; they have "
                f"{', '.join(names)}.{did_you_mean(unknown[0], names)}"
            )
        if not given.get(role):  # what is given elsewhere plays that part alone
            wanted = [name for name in wanted if not any(name in others for others in given.values())]
        for name in wanted:
            if owner.setdefault(name, role) != role:
                raise InputError(f"The type {name!r} is given as {owner[name]} and as {role}; it plays one part.")
        codes[role] = tuple(names.index(name) for name in wanted)
    return Roles(tuple(names), codes)
