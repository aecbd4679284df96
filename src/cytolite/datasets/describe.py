"""What stores hold, as text: patches, resolution and licence of each source, nuclei of each type, duplicates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from cytolite.datasets.duplicates import Duplicate
from cytolite.datasets.store import Stores

PAIRS_SHOWN = 20


def describe(stores: Stores) -> str:
    """Return three tables: the files, their sources, and the nuclei of each label and source."""
    files = [("store", "format", "patches", "sha256")]
    files += [(str(s.path), str(s.format), f"{len(s):,}", s.sha256) for s in stores.stores]
    return "\n\n".join(_table(rows) for rows in (files, _sources(stores), _nuclei(stores)))


def _sources(stores: Stores) -> list[tuple[str, ...]]:
    source_of = np.array(stores.texts("source"))
    columns = {key: np.array(stores.texts(key)) for key in ("group", "fold", "tissue")}
    licences = {name: text for store in stores.stores for name, text in store.licences.items()}
    rows: list[tuple[str, ...]] = [("source", "patches", "groups", "µm/px", "sides, px", "folds", "tissues", "licence")]
    for name in np.unique(source_of).tolist():
        of_source = source_of == name
        mpp, sides = stores.numbers("mpp")[of_source], stores.numbers("shapes")[of_source]
        folds = Counter(fold for fold in columns["fold"][of_source].tolist() if fold)
        rows.append(
            (
                name,
                f"{of_source.sum():,}",
                f"{len(np.unique(columns['group'][of_source])):,}",
                _span(mpp.min(), mpp.max(), ".4g"),
                _span(sides.min(), sides.max(), "d"),
                ", ".join(f"{fold}: {n:,}" for fold, n in sorted(folds.items())) or "-",
                str(len(set(columns["tissue"][of_source].tolist()) - {""}) or "-"),
                licences.get(name, "not recorded"),
            )
        )
    return rows


def _nuclei(stores: Stores) -> list[tuple[str, ...]]:
    labels, source_of = stores.labels, np.array(stores.texts("source"))
    nuclei = stores.numbers("nuclei")
    names = np.unique(source_of).tolist()
    counts = np.stack([nuclei[source_of == name].sum(0) for name in names], axis=1)
    rows: list[tuple[str, ...]] = [("nuclei", *names, "all")]
    for label in labels:
        if counts[label].any():
            rows.append((labels.names[label], *(f"{n:,}" for n in counts[label]), f"{counts[label].sum():,}"))
    rows.append(("all", *(f"{n:,}" for n in counts.sum(0)), f"{counts.sum():,}"))
    return rows


def describe_duplicates(found: Sequence[Duplicate], sources: Sequence[str], names: Sequence[str]) -> str:
    """Return how many pairs there are between which sources, and the first of them.

    Parameters
    ----------
    found : sequence of Duplicate
        Pairs of patches.
    sources, names : sequence of str
        Of each patch.
    """
    if not found:
        return "near-duplicates: none between different groups"
    between = Counter(" and ".join(sorted((sources[d.first], sources[d.second]))) for d in found)
    lines = [f"near-duplicates: {len(found):,} pairs"]
    lines += [f"  {n:,} of {pair}" for pair, n in between.most_common()]
    rows: list[tuple[str, ...]] = [("", "", "correlation", "overlap, µm²")]
    for d in found[:PAIRS_SHOWN]:
        ends = [f"{sources[i]} {names[i]}" for i in (d.first, d.second)]
        rows.append((*ends, f"{d.correlation:.3f}", f"{d.overlap_um2:,.0f}"))
    more = [f"... and {len(found) - PAIRS_SHOWN:,} more; --pairs writes all"] if len(found) > PAIRS_SHOWN else []
    return "\n".join([*lines, _table(rows), *more])


def _span(low: float, high: float, form: str) -> str:
    return format(low, form) if low == high else f"{low:{form}} to {high:{form}}"


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    """Align columns: numbers to the right, words to the left."""
    aligned = []
    for header, *cells in zip(*rows, strict=True):
        width = max(map(len, (header, *cells)))
        numbers = all(cell[:1].isdigit() or cell == "-" for cell in cells)
        aligned.append([cell.rjust(width) if numbers else cell.ljust(width) for cell in (header, *cells)])
    return "\n".join("  ".join(line).rstrip() for line in zip(*aligned, strict=True))
