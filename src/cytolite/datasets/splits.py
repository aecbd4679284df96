"""Seeded splits that keep a group (a patient, an image), and what duplicates it, on one side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from cytolite.errors import InputError, UsageError


def held_back(
    sources: Sequence[str],
    groups: Sequence[str],
    fraction: float,
    seed: int,
    duplicates: Iterable[tuple[int, int]] = (),
    *,
    fold: int = 0,
) -> NDArray[np.bool_]:
    """Choose the patches that validate: of every source, `fraction` of its groups, in fold 0 at least one.

    Parameters
    ----------
    sources, groups : sequence of str
        One entry a patch.
    fraction : float
        Between 0 and 1.
    seed : int
        Each source draws from a generator of its own, so that adding a source does not move another's split.
    duplicates : iterable of pairs of int
        Patches that show the same tissue (`cytolite.datasets.duplicates`). What a chosen group is linked to, in its
        source or another, is held back as well; so that more than `fraction` may be. Without pairs nothing changes.
    fold : int
        Which `fraction` of the groups: folds 0 to 1 / `fraction` - 1 hold each group back once. A source of few groups
        has none in some folds.

    Returns
    -------
    numpy.ndarray
        bool (n,), true where the patch is held back.

    Raises
    ------
    InputError
        If the fraction is out of range, a source has a single group, or duplicates leave a source nothing to train
        on.
    """
    if not 0 < fraction < 1:
        raise UsageError(f"A fraction of {fraction} cannot be held back; it must lie between 0 and 1.")
    if not 0 <= fold < round(1 / fraction):
        raise UsageError(f"There is no fold {fold} of {fraction}; allowed are 0 to {round(1 / fraction) - 1}.")
    source_of, group_of = np.asarray(sources), np.asarray(groups)
    chosen = np.zeros(len(source_of), bool)
    for source in np.unique(source_of):
        names = np.unique(group_of[source_of == source])
        if len(names) < 2:
            raise InputError(f"The source {str(source)!r} has one group alone ({str(names[0])!r}); it cannot be split.")
        rng = np.random.default_rng([seed, *source.encode()])
        # Fold 0 is never empty; where the others begin and end, the next and the one before end and begin.
        first, last = (max(min(k, 1), round(k * fraction * len(names))) for k in (fold, fold + 1))
        chosen |= (source_of == source) & np.isin(group_of, rng.permutation(names)[first:last])
    cluster = clusters(sources, groups, duplicates)
    chosen = np.isin(cluster, cluster[chosen])
    for source in np.unique(source_of):
        if chosen[source_of == source].all():
            raise InputError(
                f"All of the source {str(source)!r} is linked by duplicates to what is held back; train without it."
            )
    return chosen


def clusters(
    sources: Sequence[str], groups: Sequence[str], duplicates: Iterable[tuple[int, int]] = ()
) -> NDArray[np.intp]:
    """Number what must stay together: groups of a source, and groups that are linked by duplicates.

    Parameters
    ----------
    sources, groups : sequence of str
        One entry a patch.
    duplicates : iterable of pairs of int
        Indices of patches that show the same tissue.

    Returns
    -------
    numpy.ndarray
        int (n,), equal for patches that must stay together.
    """
    owner = np.unique([f"{s}\0{g}" for s, g in zip(sources, groups, strict=True)], return_inverse=True)[1]
    parent = list(range(len(owner)))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]
        return node

    for first, second in duplicates:
        parent[root(int(owner[first]))] = root(int(owner[second]))
    return np.array([root(int(node)) for node in owner], np.intp)
