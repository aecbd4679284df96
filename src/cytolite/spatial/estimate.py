"""A measure's value with its intervals, and the curves that are measures over a distance."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytolite.spatial.definition import MEASURES, Definition
from cytolite.spatial.intervals import interval

Key = tuple[str, str, str]


@dataclass(frozen=True)
class Estimate:
    """A measure of one region, computed on the sample and on its resamples.

    Attributes
    ----------
    measure : str
        A name of `MEASURES`.
    region : str
    types : str
        Types or parts, such as "lymphocyte" or "neoplastic to lymphocyte".
    values : numpy.ndarray
        float64 (1 + R,): of the sample, then of the resamples; R may be 0.
    n : int
        Cells that it is about.
    variant : str
        What tells this one from others of the same measure, such as "20um"; part of its name in files.
    """

    measure: str
    region: str
    types: str
    values: NDArray[np.float64]
    n: int
    variant: str = ""

    @property
    def name(self) -> str:
        """Name in files."""
        return f"{self.measure}_{self.variant}" if self.variant else self.measure

    @property
    def key(self) -> Key:
        """What tells it from all others."""
        return self.name, self.region, self.types


@dataclass(frozen=True)
class Row:
    """A value to be written: `low` to `high` from blocks of ground, `type_low` to `type_high` from drawn types.

    Numbers are NaN where there is none.
    """

    measure: str
    name: str
    region: str
    types: str
    value: float
    low: float
    high: float
    type_low: float
    type_high: float
    n: int

    @property
    def definition(self) -> Definition:
        """What it means."""
        return MEASURES[self.measure]


@dataclass(frozen=True)
class Curve:
    """A measure over a distance; bounds are NaN where there are none.

    Attributes
    ----------
    x_um, value, low, high, null_low, null_high : numpy.ndarray
        float64 (K,); `null_low` to `null_high` is what random labels give.
    """

    measure: str
    region: str
    types: str
    x_um: NDArray[np.float64]
    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    null_low: NDArray[np.float64]
    null_high: NDArray[np.float64]


def rows_of(estimates: Iterable[Estimate], drawn: dict[Key, list[float]]) -> list[Row]:
    """Turn estimates into rows; `drawn` holds the values under drawn types.

    Parameters
    ----------
    estimates : iterable of Estimate
        Each makes a row.
    drawn : dict of tuple to list of float
        Values by `Estimate.key`, one a draw; an estimate that is not in it has no interval of types.
    """
    rows = []
    for e in estimates:
        low, high = interval(e.values[1:])
        type_low, type_high = interval(np.array(drawn.get(e.key, [])))
        value = float(e.values[0])
        if not math.isfinite(value):
            low = high = type_low = type_high = math.nan
        rows.append(Row(e.measure, e.name, e.region, e.types, value, low, high, type_low, type_high, e.n))
    return rows


def band(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Percentiles 2.5 and 97.5 over the first axis, (R, K) -> (K,) each."""
    bounds = np.array([interval(column) for column in values.T]).reshape(-1, 2)
    return bounds[:, 0], bounds[:, 1]


def difference(a: Estimate, b: Estimate) -> Estimate:
    """A - b on the same resamples.

    Parameters
    ----------
    a, b : Estimate
        Of one measure and types in two regions, float64 (1 + R,) both.
    """
    return Estimate(a.measure, f"{a.region} - {b.region}", a.types, a.values - b.values, a.n + b.n, a.variant)
