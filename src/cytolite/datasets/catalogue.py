"""The datasets that cytolite reads, by name."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

from cytolite.datasets import labels
from cytolite.datasets.base import Dataset, Reading
from cytolite.datasets.brecahad import BRECAHAD
from cytolite.datasets.consep import CONSEP
from cytolite.datasets.mitoses import MITOSES
from cytolite.datasets.monusac import MONUSAC, MONUSAC_MACROPHAGES
from cytolite.datasets.monuseg import MONUSEG
from cytolite.datasets.nuinsseg import NUINSSEG
from cytolite.datasets.pannuke import PANNUKE
from cytolite.datasets.points import POINTS
from cytolite.datasets.puma import PUMA
from cytolite.datasets.untyped import UNTYPED
from cytolite.errors import UsageError, did_you_mean

DATASETS: MappingProxyType[str, Dataset] = MappingProxyType(
    {
        d.name: d
        for d in (
            *(CONSEP, MONUSAC, MONUSEG, PANNUKE, PUMA),
            *(*UNTYPED, NUINSSEG, *POINTS, BRECAHAD, *MITOSES, MONUSAC_MACROPHAGES),
        )
    }
)
# Stands for any other dataset, as label images with a file of types.
LABELS = "labels"


def dataset(name: str) -> Dataset:
    """Return the dataset called `name`.

    Raises
    ------
    InputError
        If it is not in the catalogue.
    """
    if name not in DATASETS:
        known = [*DATASETS, LABELS]
        raise UsageError(f"There is no dataset {name!r}; known are {', '.join(known)}.{did_you_mean(name, known)}")
    return DATASETS[name]


def open_dataset(name: str, folder: Path, types: Path | None, mpp: float | None) -> tuple[Reading, dict[str, str]]:
    """Look into a dataset's folder; return what there is to read, and the licence of its source.

    Parameters
    ----------
    name : str
        Of the catalogue, or "labels".
    folder : Path
        Where it lies.
    types, mpp : Path or None, float or None
        Of "labels", and of no other: what its type ids mean (see `cytolite.datasets.labels`), and its resolution.

    Raises
    ------
    InputError
        If the name is not known, the folder is not what it should be, or `types` and `mpp` do not fit the name.
    """
    if name == LABELS:
        if types is None or mpp is None:
            raise UsageError("A label folder does not say what it holds: --types FILE and --mpp are needed.")
        declared = labels.read_types(types)
        return labels.read(folder, declared, mpp), {declared.name: declared.licence}
    found = dataset(name)
    if types is not None or mpp is not None:
        raise UsageError(f"The reader of {name} knows its types and resolution; --types and --mpp are for `labels`.")
    return found.read(folder), {name: found.licence}
