"""Seeded splits that keep a group (a patient, an image) on one side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cytolite.errors import InputError


def held_back(sources: Sequence[str], groups: Sequence[str], fraction: float, seed: int) -> NDArray[np.bool_]:
    """Choose the patches that validate: of every source, `fraction` of its groups, at least one.

    Parameters
    ----------
    sources, groups : sequence of str
        One entry a patch.
    fraction : float
        Between 0 and 1.
    seed : int
        Each source draws from a generator of its own, so that adding a source does not move another's split.

    Returns
    -------
    numpy.ndarray
        bool (n,), true where the patch is held back.

    Raises
    ------
    InputError
        If the fraction is out of range, or a source has a single group.
    """
    if not 0 < fraction < 1:
        raise InputError(f"A fraction of {fraction} cannot be held back; it must lie between 0 and 1.")
    source_of, group_of = np.asarray(sources), np.asarray(groups)
    chosen = np.zeros(len(source_of), bool)
    for source in np.unique(source_of):
        names = np.unique(group_of[source_of == source])
        if len(names) < 2:
            raise InputError(f"The source {source!r} has one group alone ({names[0]!r}); it cannot be split.")
        rng = np.random.default_rng([seed, *source.encode()])
        n = max(1, round(fraction * len(names)))
        chosen |= (source_of == source) & np.isin(group_of, rng.permutation(names)[:n])
    return chosen
