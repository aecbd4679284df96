"""CoNSeP: colorectal nuclei in seven classes (Graham et al. 2019).

Published as ``Train`` and ``Test``, each with ``Images/*.png`` and ``Labels/*.mat``; a label file holds ``inst_map``
and ``type_map`` (H, W), and ``inst_type``, one per id.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolite import celltypes
from cytolite.celltypes import by_name
from cytolite.datasets.base import (
    Dataset,
    Reading,
    below,
    map_labels,
    read_label_folder,
    read_rgb,
    whole_numbers,
)
from cytolite.errors import InputError
from cytolite.files import sha256_of
from cytolite.patches import Patch

MPP = 0.25
# 1 other, 2 inflammatory, 3 healthy epithelium, 4 malignant epithelium, 5 fibroblast, 6 muscle, 7 endothelial.
TYPES = {
    1: celltypes.UNKNOWN_NUCLEUS,
    2: celltypes.INFLAMMATORY,
    3: by_name("epithelial").id,
    4: by_name("neoplastic").id,
    5: by_name("connective").id,
    6: by_name("connective").id,
    7: by_name("connective").id,
}
IMAGES_PER_FOLD = {"train": 27, "test": 14}
PUBLISHED = "Train/Images/*.png with Train/Labels/*.mat, and Test likewise"


def read(folder: Path) -> Reading:
    """Read CoNSeP from its PNG and MATLAB files, or from a label folder; each image (0.25 um/px) is a group.

    Raises
    ------
    InputError
        If the folder is neither, or a file is missing or damaged.
    """
    images = [
        path
        for images in below(folder, "Images", depth=2)
        if (images.parent / "Labels").is_dir()
        for path in sorted(images.glob("*.png"))
    ]
    if not images:
        return read_label_folder(folder, TYPES, source="consep", mpp=MPP, published=PUBLISHED)
    reading = Reading(len(images), (_read_image(folder, path) for path in images))
    folds = [_fold(path) for path in images]
    for fold, wanted in IMAGES_PER_FOLD.items():
        if folds.count(fold) not in (0, wanted):
            reading.notes.append(f"{folds.count(fold)} images in {fold}; as it is published it has {wanted}")
    return reading


def _fold(path: Path) -> str:
    return path.parent.resolve().parent.name.lower()


def _read_image(folder: Path, path: Path) -> Patch:
    labels = path.parent.parent / "Labels" / f"{path.stem}.mat"
    image, maps = read_rgb(path), read_mat(labels)
    for key, array in maps.items():
        if array.shape != image.shape[:2]:
            raise InputError(
                f"{key} of {labels} has the shape {array.shape}; {image.shape[:2]} is needed, as its image."
            )
    return Patch(
        name=path.stem,
        image=image,
        instance_map=maps["inst_map"],
        type_map=map_labels(np.where(maps["inst_map"] > 0, maps["type_map"], 0), TYPES, str(labels)),
        mpp=MPP,
        source="consep",
        group=path.stem,
        fold=_fold(path),
        file=str(path.relative_to(folder)),
        file_sha256=sha256_of(path, labels),
    )


def read_mat(path: Path) -> dict[str, NDArray[np.int32]]:
    """Read ``inst_map`` and ``type_map`` of a MATLAB file, int32 (H, W) each.

    Raises
    ------
    InputError
        If the file is missing or damaged, lacks one of them, or holds what are no whole numbers.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    if not path.is_file():
        raise InputError(f"There is no label file {path}; every image of Images/ needs one of its name.")
    try:
        content: dict[str, Any] = loadmat(path)
    except (MatReadError, ValueError, TypeError, OSError, EOFError, NotImplementedError, zlib.error) as error:
        raise InputError(f"{path} is not a whole MATLAB file of version 5 to 7: {error}.") from None
    missing = [key for key in ("inst_map", "type_map") if key not in content]
    if missing:
        raise InputError(f"{path} holds no {missing[0]}; CoNSeP's label files hold inst_map and type_map.")
    return {key: whole_numbers(content[key], f"{key} of {path}", 2**31 - 1) for key in ("inst_map", "type_map")}


CONSEP = Dataset(
    name="consep",
    licence="Apache-2.0 as listed by two toolkits",
    citation="Graham et al., HoVer-Net, Medical Image Analysis 58 (2019)",
    read=read,
)
