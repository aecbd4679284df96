"""How many cells of which type, per region and in all: counts, fractions, densities per mm2 of tissue."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from cytolite.cells import CellTable
from cytolite.celltypes import DEFAULT, TypeSet
from cytolite.errors import InputError
from cytolite.files import NOTICE, plain_refusal, whole_file
from cytolite.interop.roi import TOTAL
from cytolite.tables import write_csv


class Area(NamedTuple):
    """Of a region, or of all: where nuclei were searched, and the tissue there, which densities are counted on."""

    searched_mm2: float
    tissue_mm2: float


class SummaryCounter:
    """Counts cells table by table; what it holds does not grow with their number.

    Parameters
    ----------
    region_names : sequence of str
        Names that `CellTable.regions` points to.
    type_set : TypeSet
        Types of the cells.

    Attributes
    ----------
    counts : numpy.ndarray
        int64 (regions + 1, types): cells per region and type; the last row counts those outside of any region.
    """

    def __init__(self, region_names: Sequence[str] = (), type_set: TypeSet = DEFAULT) -> None:
        self.region_names, self.type_set = tuple(region_names), type_set
        self.counts: NDArray[np.int64] = np.zeros((len(self.region_names) + 1, len(type_set)), np.int64)

    def add(self, table: CellTable) -> None:
        """Count the rows of `table`.

        Raises
        ------
        InputError
            If a region or a type is not among those known.
        """
        highest, n_types = table.regions.max(initial=-1), len(self.type_set)
        if highest >= len(self.region_names) or table.types.min(initial=1) < 1 or table.types.max(initial=1) > n_types:
            raise InputError(
                f"The cells hold types {table.types.min()} to {table.types.max()} and regions up to {highest}; "
                f"known are types 1 to {n_types} and {len(self.region_names)} regions."
            )
        rows = np.where(table.regions < 0, len(self.region_names), table.regions)
        flat = np.bincount(rows * n_types + table.types - 1, minlength=self.counts.size)
        self.counts += flat.reshape(self.counts.shape)

    def rows(self, area: Area, region_areas: Sequence[Area] = ()) -> list[dict[str, Any]]:
        """Return the summary: see `summarise`.

        Parameters
        ----------
        area : Area
            Of the slide, or of all regions together, mm2.
        region_areas : sequence of Area
            Of each region, mm2.
        """
        return summarise(self.counts, self.region_names, area, region_areas, self.type_set)


def summarise(
    counts: NDArray[np.int64],
    region_names: Sequence[str],
    area: Area,
    region_areas: Sequence[Area] = (),
    type_set: TypeSet = DEFAULT,
) -> list[dict[str, Any]]:
    """Turn counts into one row per region, and one for all cells.

    Parameters
    ----------
    counts : numpy.ndarray
        int64 (R + 1, types), cells per region and type; the last row counts those outside of any region.
    region_names : sequence of str
        R names.
    area : Area
        Of all that was looked at.
    region_areas : sequence of Area
        Of each region.
    type_set : TypeSet
        What the columns of `counts` are.

    Returns
    -------
    list of dict
        R rows and, last, the row whose ``region`` is "total". Keys: ``region``, ``searched_mm2``,
        ``tissue_mm2``, ``cells``, ``cells_per_mm2``, and for each type, then for each group of types, ``<type>``
        (count), ``<type>_fraction`` (of the row's cells) and ``<type>_per_mm2``. ``None`` stands for what has no value:
        densities without tissue, fractions without cells.

    Raises
    ------
    InputError
        If names, areas and counts differ in number.
    """
    if len(counts) != len(region_names) + 1 or len(region_areas) != len(region_names):
        raise InputError(
            f"{len(region_names)} regions need as many areas and one row of counts more; "
            f"{len(region_areas)} areas and {len(counts)} rows were given."
        )
    rows = zip(region_names, counts, region_areas, strict=False)
    return [*(_row(*row, type_set) for row in rows), _row(TOTAL, counts.sum(axis=0), area, type_set)]


def _row(region: str, counts: NDArray[np.int64], area: Area, type_set: TypeSet) -> dict[str, Any]:
    n = int(counts.sum())
    row: dict[str, Any] = {
        "region": region,
        "searched_mm2": round(float(area.searched_mm2), 6),
        "tissue_mm2": round(float(area.tissue_mm2), 6),
        "cells": n,
        "cells_per_mm2": _ratio(n, area.tissue_mm2),
    }
    by_type = {name: int(count) for name, count in zip(type_set.names, counts, strict=True)}
    by_group = {name: int(sum(counts[i - 1] for i in ids)) for name, ids in type_set.groups.items()}
    for counted in (by_type, by_group):
        row |= counted
        row |= {f"{name}_fraction": _ratio(count, n) for name, count in counted.items()}
        row |= {f"{name}_per_mm2": _ratio(count, area.tissue_mm2) for name, count in counted.items()}
    return row


def _ratio(count: int, whole: float) -> float | None:
    """Return count / whole to six significant digits, ``None`` where there is no whole."""
    return float(f"{count / whole:.6g}") if whole > 0 and math.isfinite(whole) else None


def write_summary_csv(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows of `summarise` as comma-separated values for spreadsheets: with a byte order mark, names as text.

    What has no value stays empty.

    Parameters
    ----------
    path : str or pathlib.Path
        File to write.
    rows : sequence
        Of `summarise`.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    write_csv(Path(path), list(rows[0]), (row.values() for row in rows))


def write_summary_json(
    path: str | Path,
    rows: Sequence[Mapping[str, Any]],
    metadata: Mapping[str, Any] | None = None,
    type_set: TypeSet = DEFAULT,
) -> None:
    """Write the rows of `summarise` as JSON: ``notice``, the metadata's keys, ``total`` and ``regions``.

    Each row is nested: ``region``, ``searched_mm2``, ``tissue_mm2``, ``cells``, ``cells_per_mm2`` and ``types``, which
    holds ``count``, ``fraction`` and ``per_mm2`` by type; where types have groups, ``groups`` holds the same by group.

    Parameters
    ----------
    path : str or pathlib.Path
        File to write.
    rows : sequence
        Of `summarise`.
    metadata : mapping, optional
        Further keys of the file.
    type_set : TypeSet
        The types that are counted.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    *regions, total = (_nested(row, type_set) for row in rows)
    content = {"notice": NOTICE, **(metadata or {}), "total": total, "regions": regions}
    with whole_file(path) as file, plain_refusal(Path(path)):
        file.write(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def _nested(row: Mapping[str, Any], type_set: TypeSet) -> dict[str, Any]:
    def by(names: Iterable[str]) -> dict[str, Any]:
        return {
            name: {"count": row[name], "fraction": row[f"{name}_fraction"], "per_mm2": row[f"{name}_per_mm2"]}
            for name in names
        }

    nested = {key: row[key] for key in ("region", "searched_mm2", "tissue_mm2", "cells", "cells_per_mm2")}
    nested["types"] = by(type_set.names)
    return nested | ({"groups": by(type_set.groups)} if type_set.groups else {})
