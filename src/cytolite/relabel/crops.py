"""Cells of a patch, and the square pictures of them that classifiers see (the paper's section 2 and S1)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytolite.celltypes import IGNORE
from cytolite.patches import Patch

# Settings in pixels are meant at this resolution, that of the paper's data.
PAPER_MPP = 0.25


@dataclass(frozen=True)
class Cells:
    """The cells of one patch, those with an outline first.

    Attributes
    ----------
    ids : numpy.ndarray
        int32 (n,): the instance's id; or -1, -2, ... for areas that carry a type and no instance, in the order of their
        labels and then of the areas' first pixels (whole-cell outlines, see `cytolite.datasets.monusac`).
    labels : numpy.ndarray
        uint8 (n,): label of the type map that most of the cell's pixels carry; 0 where none of them has one.
    boxes : numpy.ndarray
        int32 (n, 4): first row, last row + 1, first column, last column + 1.
    areas, inner_areas : numpy.ndarray
        int64 (n,): pixels, and how many of them do not lie in the patch's border.
    regions : numpy.ndarray
        int32 (H, W): 1 + the cell's index in these arrays; 0 = no cell.
    """

    ids: NDArray[np.int32]
    labels: NDArray[np.uint8]
    boxes: NDArray[np.int32]
    areas: NDArray[np.int64]
    inner_areas: NDArray[np.int64]
    regions: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.ids)


def scaled(pixels: int, mpp: float) -> int:
    """Return a length that is meant at 0.25 um/px in pixels of `mpp`, rounded.

    Parameters
    ----------
    pixels : int
        Length in px of 0.25 um.
    mpp : float
        Resolution of the pixels wanted, um per pixel.
    """
    return round(pixels * PAPER_MPP / mpp)


def find_cells(patch: Patch, border_px: int = 0) -> Cells:
    """List the cells of a patch; `border_px` (of the patch) is what `inner_areas` leave out on each side.

    Nuclei that are marked and not outlined are none: their size is not known.

    Parameters
    ----------
    patch : Patch
        Image with its label maps.
    border_px : int
        Width of the border, in pixels of the patch.
    """
    instance_map = np.where(np.isin(patch.instance_map, patch.marks), 0, patch.instance_map)
    ids, inverse = np.unique(instance_map, return_inverse=True)
    regions: NDArray[np.int32] = inverse.reshape(patch.instance_map.shape).astype(np.int32)
    if ids[0] != 0:  # not a pixel of background
        ids, regions = np.concatenate([[0], ids]), regions + np.int32(1)
    numbers = ids[1:].astype(np.int32)
    whole_cells = np.where(patch.instance_map == 0, patch.type_map, 0)
    n_areas = 0
    for label in sorted(set(np.unique(whole_cells).tolist()) - {0, IGNORE}):
        n, areas = cv2.connectedComponents((whole_cells == label).astype(np.uint8))
        regions += np.where(areas > 0, areas + len(numbers) + n_areas, 0)
        n_areas += n - 1
    numbers = np.concatenate([numbers, -np.arange(1, n_areas + 1, dtype=np.int32)])
    return _measure(numbers, regions, patch.type_map, border_px)


def _measure(ids: NDArray[np.int32], regions: NDArray[np.int32], type_map: NDArray[np.uint8], border_px: int) -> Cells:
    n = len(ids) + 1
    rows, cols = np.nonzero(regions)
    region = regions[rows, cols]
    votes = np.bincount(region * 256 + type_map[rows, cols], minlength=n * 256).reshape(n, 256)
    areas = votes.sum(1)
    votes[:, 0] = 0
    boxes = np.zeros((n, 4), np.int32)
    boxes[:, [0, 2]] = max(regions.shape)
    for column, extreme, at in ((0, np.minimum, rows), (1, np.maximum, rows + 1), (2, np.minimum, cols),
                                (3, np.maximum, cols + 1)):  # fmt: skip
        extreme.at(boxes[:, column], region, at)
    height, width = regions.shape
    inner = regions[border_px : height - border_px, border_px : width - border_px]
    return Cells(
        ids=ids,
        labels=votes[1:].argmax(1).astype(np.uint8),
        boxes=boxes[1:],
        areas=areas[1:],
        inner_areas=np.bincount(inner.ravel(), minlength=n)[1:],
        regions=regions,
    )


def cut(
    image: NDArray[np.uint8], boxes: NDArray[np.int32], margin_px: int, size: int, border_px: int = 0
) -> NDArray[np.uint8]:
    """Cut cells out of an image.

    The image's border is dropped and each box is cut to what is left (a cell that lies in the border alone becomes the
    nearest pixel). The box is widened by `margin_px` on every side, the image being mirrored beyond its new edge, and
    resized to a square with Pillow's bicubic filter; its aspect is not kept, as in the paper.

    Parameters
    ----------
    image : numpy.ndarray
        uint8 (H, W, 3).
    boxes : numpy.ndarray
        int (n, 4), as in `Cells`.
    margin_px, border_px : int
        In pixels of the image. At least one pixel of the image is left, whatever the border.
    size : int
        Side of the crops.

    Returns
    -------
    numpy.ndarray
        uint8 (n, size, size, 3).
    """
    sides = np.array(image.shape[:2])
    border = np.minimum(border_px, (sides - 1) // 2)
    last = sides - border
    inner = image[border[0] : last[0], border[1] : last[1]]
    padded = np.pad(inner, ((margin_px, margin_px), (margin_px, margin_px), (0, 0)), mode="reflect")
    first = np.clip(boxes[:, ::2], border, last - 1) - border
    end = np.maximum(np.clip(boxes[:, 1::2], border, last) - border, first + 1)
    crops = np.empty((len(boxes), size, size, 3), np.uint8)
    for crop, (top, left), (bottom, right) in zip(crops, first, end, strict=True):
        # In the padded image the box begins `margin_px` further down and right, which is where the margin ends.
        window = padded[top : bottom + 2 * margin_px, left : right + 2 * margin_px]
        crop[:] = np.asarray(Image.fromarray(window).resize((size, size), Image.Resampling.BICUBIC))
    return crops
