"""What may be wrong with an evaluation although nothing failed: types that mean something else, masks for instances."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cytolite.metrics.counts import Counts

# Agreement beyond chance (Cohen's kappa) under which types say nothing of each other, and how many pairs tell.
_LEAST_KAPPA, _LEAST_PAIRS = 0.1, 50
# Nuclei in several pieces occur; so many pieces for an id do not.
_PIECES_PER_ID, _LEAST_SURPLUS = 3, 5


@dataclass(frozen=True)
class Doubt:
    """A warning of an evaluation: a code for programs, and a sentence."""

    code: str
    message: str


@dataclass
class InstanceCheck:
    """Looks at instance maps, one after the other, for those that cannot be instances.

    Parameters
    ----------
    what : str
        "truth" or "prediction".
    """

    what: str
    odd: dict[str, str] = field(default_factory=dict)
    seen: int = 0

    def look(self, name: str, instance_map: NDArray[np.integer]) -> None:
        """Look at the map of an image.

        Parameters
        ----------
        name : str
            Of the image.
        instance_map : numpy.ndarray
            int (H, W), 0 = background.
        """
        self.seen += 1
        ids, pieces = np.unique(instance_map[instance_map > 0]), count_pieces(instance_map)
        if ids.tolist() == [255] and pieces > 1:
            self.odd[name] = f"0 and 255 alone, for at least {pieces:,} pieces"
        elif pieces >= _PIECES_PER_ID * len(ids) and pieces - len(ids) >= _LEAST_SURPLUS:
            self.odd[name] = f"{len(ids):,} {'id' if len(ids) == 1 else 'ids'} for at least {pieces:,} pieces"

    def doubts(self) -> list[Doubt]:
        """Return the warning, if there is one."""
        if not self.odd:
            return []
        name, why = next(iter(self.odd.items()))
        return [
            Doubt(
                "not_instances",
                f"{len(self.odd):,} of {self.seen:,} images of the {self.what} hold no instances ({name!r}: {why}): "
                "each nucleus needs an id of its own; number the pieces of a mask first (scikit-image's measure.label)",
            )
        ]


def count_pieces(instance_map: NDArray[np.integer]) -> int:
    """Return Euler's number of the 4-connected parts of all ids: how many there are, less their holes."""
    m = instance_map
    right, down = (m[:, 1:] == m[:, :-1]) & (m[:, 1:] > 0), (m[1:] == m[:-1]) & (m[1:] > 0)
    squares = right[1:] & right[:-1] & down[:, 1:]
    return int(np.count_nonzero(m) - right.sum() - down.sum() + squares.sum())


def type_doubts(counts: Counts) -> list[Doubt]:
    """Warn where the types of matched nuclei agree with the truth hardly more than by chance."""
    table, members = counts.confusion.sum(0)[1:], counts.classes.members[1:]
    n = table.sum()
    if n < _LEAST_PAIRS or not len(counts.classes.types) > 1:
        return []
    right = table[members].sum() / n
    chance = (table.sum(1) @ members * table.sum(0)).sum() / n**2
    if right >= chance + _LEAST_KAPPA * (1 - chance):
        return []
    if (table.sum(1) > 0).sum() == 1 and right >= 0.5:  # of one class alone, chance is as good as anything
        return []
    return [
        Doubt(
            "types_disagree",
            f"{right:.0%} of {n:,.0f} matched nuclei have the type of the truth, hardly more than by chance "
            f"({chance:.0%}): do the ids of the types mean the same in both? Say what they mean with --types",
        )
    ]
