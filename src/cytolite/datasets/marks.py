"""Nuclei that an expert marked without outlining them, by points or boxes: what such a mark teaches, pixel by pixel.

A mark is an instance without the bit `OUTLINE`. A point is a disc, which mostly surely lies in its nucleus. A box is
the ellipse in it, whose inner part surely does. `cytolite.relabel.outlining` finds outlines for both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytolite.datasets.base import read_numbers, read_rgb
from cytolite.errors import InputError
from cytolite.files import sha256_of
from cytolite.patches import FULL_TRUST, OUTLINE, PRESENCE, Patch

DISC_UM = 1.0
# No nucleus reaches farther from its point: beyond, exhaustive points leave background.
REACH_UM = 10.0
# Of a box's ellipse this share of each half axis surely is nucleus.
INNER = 0.5


@dataclass(frozen=True)
class Maps:
    """Label maps of marks, as the fields of `Patch` of these names."""

    instance_map: NDArray[np.int32]
    type_map: NDArray[np.uint8]
    known_map: NDArray[np.uint8]
    trust_map: NDArray[np.uint8]


def mark_points(
    points: NDArray[np.float64],
    labels: NDArray[np.uint8],
    shape: tuple[int, int],
    mpp: float,
    *,
    exhaustive: bool = False,
    within: bool = True,
) -> Maps:
    """Draw points as discs of 1 um.

    Parameters
    ----------
    points : numpy.ndarray
        float64 (n, 2), (x, y) in px.
    labels : numpy.ndarray
        uint8 (n,), labels of `cytolite.celltypes`.
    shape : tuple of int
        (H, W).
    mpp : float
        um per px.
    exhaustive : bool
        Whether every nucleus has its point: what lies more than 10 um from all of them is background then.
    within : bool
        Whether a point surely lies in its nucleus; else its disc has a type, and perhaps is no nucleus.
    """
    radius_px = max(DISC_UM / mpp, 1.0)
    distance, nearest = np.full(shape, np.inf), np.zeros(shape, np.intp)
    reach = int(np.ceil(max(REACH_UM / mpp, radius_px))) + 1
    for i, (x, y) in enumerate(points.tolist()):
        rows = slice(max(0, int(y) - reach), max(0, int(y) + reach + 1))
        cols = slice(max(0, int(x) - reach), max(0, int(x) + reach + 1))
        window = distance[rows, cols]
        top, left = np.arange(shape[0])[rows, None], np.arange(shape[1])[None, cols]
        away = np.hypot(top + 0.5 - y, left + 0.5 - x)
        nearest[rows, cols] = np.where(away < window, i, nearest[rows, cols])
        distance[rows, cols] = np.minimum(away, window)
    disc = distance <= radius_px
    background = distance > REACH_UM / mpp if exhaustive else np.zeros(shape, bool)
    return Maps(
        np.where(disc, nearest + 1, 0).astype(np.int32),
        np.where(disc, labels[nearest] if len(labels) else 0, 0).astype(np.uint8),
        np.where(disc, PRESENCE if within else 0, np.where(background, PRESENCE | OUTLINE, 0)).astype(np.uint8),
        np.where(disc, FULL_TRUST, 0).astype(np.uint8),
    )


def mark_boxes(boxes: NDArray[np.float64], labels: NDArray[np.uint8], shape: tuple[int, int]) -> Maps:
    """Draw the ellipse in each box; where ellipses overlap, the pixel belongs to that in which it lies deeper.

    Parameters
    ----------
    boxes : numpy.ndarray
        float64 (n, 4): centre x, centre y, width, height, px.
    labels : numpy.ndarray
        uint8 (n,).
    shape : tuple of int
        (H, W).
    """
    depth, nearest = np.full(shape, np.inf), np.zeros(shape, np.intp)
    for i, (x, y, width, height) in enumerate(boxes.tolist()):
        rows = slice(max(0, int(y - height / 2)), max(0, int(y + height / 2) + 1))
        cols = slice(max(0, int(x - width / 2)), max(0, int(x + width / 2) + 1))
        top, left = np.arange(shape[0])[rows, None], np.arange(shape[1])[None, cols]
        away = np.hypot((top + 0.5 - y) / (height / 2), (left + 0.5 - x) / (width / 2))
        nearest[rows, cols] = np.where(away < depth[rows, cols], i, nearest[rows, cols])
        depth[rows, cols] = np.minimum(away, depth[rows, cols])
    ellipse = depth <= 1
    return Maps(
        np.where(ellipse, nearest + 1, 0).astype(np.int32),
        np.where(ellipse, labels[nearest] if len(labels) else 0, 0).astype(np.uint8),
        np.where(depth <= INNER, PRESENCE, 0).astype(np.uint8),
        np.where(ellipse, FULL_TRUST, 0).astype(np.uint8),
    )


def read_marks(
    path: Path, columns: tuple[str, ...], types: dict[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Read marks of a CSV file: the given columns, float64 (n, columns), and the label of each, uint8 (n,).

    Marks whose ``type`` is mapped to 0 are left out.

    Parameters
    ----------
    path : pathlib.Path
        CSV file.
    columns : tuple of str
        Of numbers.
    types : dict
        Labels of the file to types.

    Raises
    ------
    InputError
        If the file is missing or damaged, or holds a type that is not known.
    """
    numbers = read_numbers(path, (*columns, "type"))
    kinds = numbers[:, -1]
    unknown = sorted(set(kinds.tolist()) - set(map(float, types)))
    if unknown:
        raise InputError(f"{path} holds the type {unknown[0]:g}; known are {', '.join(map(str, types))}.")
    labels = np.array([types[int(kind)] for kind in kinds], np.uint8)
    kept = labels > 0
    return numbers[kept, :-1], labels[kept]


def marked_patch(
    image_file: Path, folder: Path, marks_file: Path, maps: Callable[[tuple[int, int]], Maps], **about: object
) -> Patch:
    """Return the patch of an image and its marks; `about` are the rest of the fields of `Patch`.

    Parameters
    ----------
    image_file : pathlib.Path
        RGB image; its stem is the patch's name.
    folder : pathlib.Path
        Of the dataset: the patch keeps the image's path from here.
    marks_file : pathlib.Path
        Where its marks are from; hashed together with the image.
    maps : callable
        Draws the marks as `Maps` of a shape, (H, W).
    **about
        Fields of `Patch` by name: `mpp`, `source` and `group` at least.
    """
    image = read_rgb(image_file)
    drawn = maps((image.shape[0], image.shape[1]))
    return Patch(
        name=image_file.stem,
        image=image,
        **vars(drawn),
        file=str(image_file.relative_to(folder)),
        file_sha256=sha256_of(image_file, marks_file),
        **about,  # type: ignore[arg-type]
    )
