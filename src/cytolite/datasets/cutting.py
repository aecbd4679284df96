"""Cut images of any size into patches of one size, by the rules of appendix S1 of Shvetsov et al. (2025).

An image with a side below half a patch is dropped. One with a side below a patch is enlarged until that side fits,
in both directions alike, so that nuclei keep their shape; its resolution is finer then. What is larger is cut from the
upper left, and the rest at the right and at the bottom is filled up with its mirror image. The paper says nothing of
patches about which nothing is known (all `IGNORE`, for instance): they are dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytolite.errors import UsageError
from cytolite.patches import Patch

SMALLEST_PX, LARGEST_PX = 64, 4096


@dataclass
class Tally:
    """How many patches each rule made, and how many images and patches it dropped."""

    images: int = 0
    whole: int = 0
    cut: int = 0
    mirrored: int = 0
    enlarged: int = 0
    too_small: int = 0
    nothing_known: int = 0

    def lines(self) -> list[str]:
        """Return one line per rule."""
        return [
            f"{self.images:6,} images read",
            f"{self.whole:6,} patches that were images of this size",
            f"{self.cut:6,} patches cut from larger images",
            f"{self.mirrored:6,} patches at an edge, filled up with their mirror image",
            f"{self.enlarged:6,} of all patches are of images that were enlarged",
            f"{self.too_small:6,} images dropped: a side is below half a patch",
            f"{self.nothing_known:6,} patches dropped: nothing in them is known",
        ]


def cut(patches: Iterable[Patch], side_px: int, tally: Tally) -> Iterator[Patch]:
    """Cut images into patches of ``side_px`` x ``side_px``; see the module's text.

    Parameters
    ----------
    patches : iterable of Patch
        Images of any size.
    side_px : int
        Side of the patches, 64 to 4096.
    tally : Tally
        Counts what happens.

    Yields
    ------
    Patch
        Named after its image and its place: ``NAME_ROW_COLUMN``; an image of the right size keeps its name.

    Raises
    ------
    InputError
        If the side is out of range.
    """
    if not SMALLEST_PX <= side_px <= LARGEST_PX:
        raise UsageError(f"Patches of {side_px} px cannot be made; allowed are {SMALLEST_PX} to {LARGEST_PX}.")
    for image in patches:
        tally.images += 1
        if 2 * min(image.instance_map.shape) < side_px:
            tally.too_small += 1
            continue
        for patch, made_by in _cut_one(image, side_px):
            if not (patch.known.any() or patch.trust.any()):
                tally.nothing_known += 1
                continue
            setattr(tally, made_by, getattr(tally, made_by) + 1)
            tally.enlarged += min(image.instance_map.shape) < side_px
            yield patch


def _cut_one(image: Patch, side_px: int) -> Iterator[tuple[Patch, str]]:
    fitting = enlarge(image, side_px) if min(image.instance_map.shape) < side_px else image
    rows, cols = fitting.instance_map.shape
    if rows == cols == side_px:
        yield fitting, "whole"
        return
    full = fill_up(fitting, side_px)
    for row in range(0, rows, side_px):
        for col in range(0, cols, side_px):
            window = np.s_[row : row + side_px, col : col + side_px]
            edge = row + side_px > rows or col + side_px > cols
            patch = replace(
                full,
                name=f"{image.name}_{row // side_px}_{col // side_px}",
                image=full.image[window].copy(),
                **{key: labels[window].copy() for key, labels in full.label_maps.items()},
            )
            yield patch, "mirrored" if edge else "cut"


def enlarge(patch: Patch, side_px: int) -> Patch:
    """Enlarge an image until its shorter side is `side_px`: bicubic, its maps by the nearest pixel.

    Parameters
    ----------
    patch : Patch
        To be enlarged.
    side_px : int
        Of the result's shorter side.
    """
    shape = patch.instance_map.shape
    scale = side_px / min(shape)
    rows, cols = (round(side * scale) for side in shape)
    nearest = np.ix_(
        *(((np.arange(n) + 0.5) / n * side).astype(int) for n, side in zip((rows, cols), shape, strict=True))
    )
    return replace(
        patch,
        image=np.asarray(Image.fromarray(patch.image).resize((cols, rows), Image.Resampling.BICUBIC)),
        **{key: labels[nearest] for key, labels in patch.label_maps.items()},
        mpp=patch.mpp / scale,
    )


def fill_up(patch: Patch, side_px: int) -> Patch:
    """Mirror an image at its bottom and right edges until its sides are multiples of `side_px`.

    The mirror image of a nucleus is a nucleus of its own, unless the two touch at the edge.

    Parameters
    ----------
    patch : Patch
        To be filled up.
    side_px : int
        Of which the result's sides are multiples.
    """
    below, right = (-side % side_px for side in patch.instance_map.shape)
    instances = _mirror_ids(_mirror_ids(patch.instance_map, below).T, right).T
    mirrored: dict[str, Any] = {
        key: np.pad(labels, ((0, below), (0, right)), mode="reflect") for key, labels in patch.label_maps.items()
    }
    return replace(
        patch,
        image=np.pad(patch.image, ((0, below), (0, right), (0, 0)), mode="reflect"),
        **mirrored | {"instance_map": np.ascontiguousarray(instances)},
    )


def _mirror_ids(instances: NDArray[np.int32], n: int) -> NDArray[np.int32]:
    """Append `n` rows, the mirror image of the last but without it, with ids of their own but for what meets there."""
    copies = instances[-n - 1 : -1][::-1] if n else instances[:0]
    apart = ~np.isin(copies, instances[-1]) & (copies > 0)
    return np.concatenate([instances, np.where(apart, copies + instances.max(), copies)]).astype(np.int32)
