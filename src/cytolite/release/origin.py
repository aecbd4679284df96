"""Which images a bundle's original run held back: only those tell what a variant of it, or an ensemble, is worth."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cytolite.bundle import Bundle, HeldBack
from cytolite.celltypes import LabelSet
from cytolite.config import TrainSettings
from cytolite.errors import InputError, UsageError
from cytolite.patches import Patch
from cytolite.training.run import split
from cytolite.training.vocabulary import Vocabulary, labels_of


@dataclass(frozen=True)
class Sides:
    """Patches on either side of the original's split.

    Attributes
    ----------
    training, held_back : sequence of Patch
    labels : LabelSet
        What their type maps hold.
    record : HeldBack or None
        How the original was split; None if it is not known.
    note : str
        A sentence for the user if it is not known of all; else empty.
    """

    training: Sequence[Patch]
    held_back: Sequence[Patch]
    labels: LabelSet
    record: HeldBack | None
    note: str


def record_split(held_back: Sequence[Patch], settings: TrainSettings, mapping: Mapping[str, str] = {}) -> HeldBack:
    """Return what a bundle says of the split of its run.

    Parameters
    ----------
    held_back : sequence of Patch
        The run's images held back.
    settings : TrainSettings
        Of the run.
    mapping : mapping of str to str
        Names of the stores' types to those of the run.
    """
    return HeldBack(
        share=settings.held_back,
        seed=settings.seed,
        duplicates=settings.duplicates is not None,
        mapping=dict(mapping),
        images_sha256=_hashes(held_back),
    )


def sides_of(members: Sequence[Bundle], stores: Sequence[Path], duplicates: Path | None = None) -> Sides:
    """Split stores as the runs did that the bundles came from.

    Parameters
    ----------
    members : sequence of Bundle
    stores : sequence of Path
        What they were trained on.
    duplicates : Path, optional
        The pairs that the runs were given with ``--duplicates``.

    Raises
    ------
    InputError
        If the members were split differently, or the stores do not hold back what a member's run did.
    UsageError
        If a run had a list of duplicates and none is given, or the other way round.
    """
    known = [(member.spec.name, member.spec.held_back) for member in members if member.spec.held_back is not None]
    if len({_rule(one) for _, one in known}) > 1:
        told = "; ".join(f"{name}: {_told(one)}" for name, one in known)
        raise InputError(
            f"These were trained on different parts of the data ({told}), so that what one held back has trained "
            "another, and nothing is left to measure on; train them with the same --seed, --held-back and --duplicates."
        )
    one = known[0][1] if known else None
    if one is not None and one.duplicates != (duplicates is not None):
        had = "had a list of duplicates" if one.duplicates else "had no list of duplicates"
        do = "give it with --duplicates" if one.duplicates else "leave out --duplicates"
        raise UsageError(f"The run that {known[0][0]} came from {had}, which decides what it held back; {do}.")
    share, seed = (TrainSettings().held_back, TrainSettings().seed) if one is None else (one.share, one.seed)
    mapping = {} if one is None else one.mapping
    vocabulary = Vocabulary.of(labels_of(stores), members[0].spec.network_types, mapping)
    training, held_back = split(stores, TrainSettings(held_back=share, seed=seed, duplicates=duplicates), vocabulary)
    hashes = _hashes(held_back)
    for name, record in known:
        differing = [s for s, sha256 in hashes.items() if record.images_sha256.get(s, sha256) != sha256]
        if differing:
            raise InputError(
                f"The stores do not hold back the images of {differing[0]} that the run of {name} did: it may have "
                "been trained on them. Give the stores, and the --duplicates, that it was trained with."
            )
    return Sides(
        training,
        held_back,
        vocabulary.labels,
        one,
        _note([member.spec.name for member in members if member.spec.held_back is None]),
    )


def _rule(record: HeldBack) -> tuple[float, int, bool]:
    return record.share, record.seed, record.duplicates


def _told(record: HeldBack) -> str:
    return f"share {record.share:g}, seed {record.seed}{', with duplicates' if record.duplicates else ''}"


def _note(unknown: Sequence[str]) -> str:
    if not unknown:
        return ""
    return (
        f"What {' and '.join(unknown)} held back in training is not recorded: the images below are those that training "
        "holds back by default, and may have been trained on."
    )


def _hashes(patches: Sequence[Patch]) -> dict[str, str]:
    """Return a hash of the names of each source's images: they can be compared, and nobody's names are told."""
    sources = sorted({p.source for p in patches})
    names = {source: sorted(p.name for p in patches if p.source == source) for source in sources}
    return {s: hashlib.sha256("\0".join([s, *names[s]]).encode()).hexdigest() for s in sources}
