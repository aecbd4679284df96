"""The datasets that cytolite reads, by name."""

from __future__ import annotations

from types import MappingProxyType

from cytolite.datasets.base import Dataset
from cytolite.datasets.consep import CONSEP
from cytolite.datasets.monusac import MONUSAC
from cytolite.datasets.monuseg import MONUSEG
from cytolite.datasets.pannuke import PANNUKE
from cytolite.datasets.puma import PUMA
from cytolite.errors import InputError, did_you_mean

DATASETS: MappingProxyType[str, Dataset] = MappingProxyType(
    {d.name: d for d in (CONSEP, MONUSAC, MONUSEG, PANNUKE, PUMA)}
)


def dataset(name: str) -> Dataset:
    """Return the dataset called `name`.

    Raises
    ------
    InputError
        If it is not in the catalogue.
    """
    if name not in DATASETS:
        raise InputError(
            f"There is no dataset {name!r}; known are {', '.join(DATASETS)}.{did_you_mean(name, DATASETS)}"
        )
    return DATASETS[name]
