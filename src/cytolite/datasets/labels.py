"""Any other dataset: a label folder with a file that says what its type ids mean."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from cytolite.celltypes import SEVEN, LabelSet
from cytolite.celltypes import read_types as read_set
from cytolite.datasets.base import Reading, read_label_folder
from cytolite.errors import InputError, UsageError, did_you_mean
from cytolite.files import read_toml

KEYS = ("name", "licence", "types", "set")


@dataclass(frozen=True)
class TypesFile:
    """What a types file says.

    Attributes
    ----------
    name : str
        Of the dataset.
    licence : str
        Its licence, or "unknown".
    types : dict of int to int
        The dataset's type ids to labels.
    labels : LabelSet
        What these mean.
    """

    name: str
    licence: str
    types: dict[int, int]
    labels: LabelSet = SEVEN


def read_types(path: Path) -> TypesFile:
    """Read a types file, TOML or JSON: a table ``types`` of ids and names, perhaps ``name``, ``licence`` and ``set``.

    A name is a type's, or a group's or a list of types ("one of these"), "unknown" or "ignore". Types are the seven, or
    those of the file of types that ``set`` names, beside this file.

    Raises
    ------
    InputError
        If it is not such a file, or a name is no label that cytolite knows.
    """
    content = read_toml(path, "The types file", or_json=True)
    unknown = sorted(set(content) - set(KEYS))
    if unknown or not isinstance(content.get("types"), dict):
        what = f"holds {unknown[0]!r}" if unknown else "has no table 'types' of ids and names"
        hint = did_you_mean(unknown[0], KEYS) if unknown else ""
        raise UsageError(f"The types file {path} {what}; known are {', '.join(KEYS)}.{hint}")
    labels, given = SEVEN, content.get("set")
    if given is not None:
        # Lists and groups of types become labels of their own.
        type_set = read_set(path.parent / str(given))
        lists = [names for names in content["types"].values() if isinstance(names, list)]
        ids = [[type_set.by_name(str(name)).id for name in names] for names in lists]
        labels = LabelSet.of(type_set, [*ids, *type_set.groups.values()])
    types = {}
    for key, name in content["types"].items():
        if not key.isdecimal() or not 1 <= int(key) <= 255:
            raise UsageError(f"The types file {path} has the id {key!r}; ids are whole numbers of 1 to 255.")
        try:
            types[int(key)] = labels.by_names(name if isinstance(name, list) else str(name))
        except InputError as error:
            raise UsageError(f"The types file {path}, id {key}: {error}") from None
    return TypesFile(str(content.get("name", path.stem)), str(content.get("licence", "unknown")), types, labels)


def read(folder: Path, types: TypesFile, mpp: float) -> Reading:
    """Read a label folder of any dataset; each image is a group of its own.

    Parameters
    ----------
    folder : pathlib.Path
        With ``image/``, ``inst/`` and ``type/``.
    types : TypesFile
        What its ids mean.
    mpp : float
        Resolution of the images, um per pixel.

    Raises
    ------
    InputError
        If it is no label folder, or an id occurs that the types file does not name.
    """
    found = read_label_folder(folder, types.types, source=types.name, mpp=mpp)
    return replace(found, labels=types.labels)
