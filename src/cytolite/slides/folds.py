"""Where tissue lies double: folds, wrinkles and edges that curled over, on a thumbnail of about 8 um/px.

A layer more adds its optical density: red, green and blue grow by the same factor, about 2, and at once. More of one
stain (keratin and red cells have eosin, follicles and crypts haematoxylin) changes the colour instead, and most of what
is dense by nature has no sharp border, or lies in surroundings that are as uneven as the step itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytolite.slides.tissue import glass_colour, grow, number_parts

# Part of the light that reaches the sensor around the tissue, not through it; without it two layers would seem less
# than twice as dense in green. With 5% the folds of a real slide have 1.9 to 2.1 times the density in all three.
_STRAY, _LEAST_LIGHT = 0.05, 0.02
# Parts are looked for at these densities, as multiples of the tissue's median, in means of 3 x 3 and 5 x 5 px.
_LEVELS, _RADII = tuple(1.1 * 1.1664**i for i in range(8)), (1, 2)
_LEAST_PX, _MOST_PX = 120, 16_000
# With less tissue than this, 0.3 mm2, nothing is known of what is usual in it.
_LEAST_TISSUE_PX = 4_700
# Surroundings begin and end so many px from a part's border, and count within a window of so many px around each pixel.
_NEAR, _FAR, _WINDOW = 2, 8, 10
_LEAST_AROUND, _LEAST_INSIDE, _FAINT = 20, 20, 0.03
_LAYERS, _COLOUR, _SOLID = 1.65, 1.2, 0.7
# Where glass is beside it, as beside an edge that curled over and beside keratin, more is asked for.
_CLOSED, _SHARP, _UNEVEN, _SHARP_OPEN, _UNEVEN_OPEN = 0.75, 0.6, 0.28, 0.72, 0.22


@dataclass(frozen=True)
class _Part:
    """A dense part of the tissue beside what is around it.

    Attributes
    ----------
    place : tuple of slice
        Rows and columns of `mask`.
    mask : numpy.ndarray
        bool, where it is.
    layers : float
        Density inside over that around, in the colour where it is least; medians.
    colour : float
        The same in the colour where it is most, over `layers`: 1 if the colour is that of the surroundings.
    sharp : float
        Of what is denser than the surroundings by 0.3 of the part's step, the share that is so by 0.6 of it.
    uneven : float
        Standard deviation of the surroundings over the step.
    closed : float
        Share of what is around it that is tissue: an edge that curled over has glass on one side.
    solid : float
        Share of it that a disc of 5 px can reach: 1 for a band, less for a net.
    """

    place: tuple[slice, slice]
    mask: NDArray[np.bool_]
    layers: float
    colour: float
    sharp: float
    uneven: float
    closed: float
    solid: float

    @property
    def is_fold(self) -> bool:
        sharp, uneven = (_SHARP, _UNEVEN) if self.closed > _CLOSED else (_SHARP_OPEN, _UNEVEN_OPEN)
        layered = self.layers > _LAYERS and self.colour < _COLOUR
        return layered and self.sharp > sharp and self.uneven < uneven and self.solid > _SOLID


def find_folds(image: NDArray[np.uint8], tissue: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where tissue lies double, bool (h, w).

    Parameters
    ----------
    image : numpy.ndarray
        uint8 (h, w, 3), RGB, of about 8 um/px.
    tissue : numpy.ndarray
        bool (h, w), tissue that ink and dirt do not cover.
    """
    found = np.zeros(tissue.shape, np.bool_)
    # Of parts within each other the one with the sharpest border is the fold.
    for part in sorted(_dense_parts(image, tissue), key=lambda part: -part.sharp):
        if part.is_fold and not (found[part.place] & part.mask).any():
            found[part.place] |= part.mask
    return grow(found, 1)


def _dense_parts(image: NDArray[np.uint8], tissue: NDArray[np.bool_]) -> Iterator[_Part]:
    """Yield what might be a fold, measured; parts of several densities lie within each other."""
    if tissue.sum() < _LEAST_TISSUE_PX:
        return
    density = _density(image)
    typical = np.maximum(np.median(density[tissue], axis=0), _FAINT)
    near = grow(tissue, 1)
    for radius in _RADII:
        # Least of the three colours: what is dense in one of them alone has more of one stain.
        dense = np.minimum.reduce([_mean(density[..., c], radius) / typical[c] for c in range(3)])
        for level in _LEVELS:
            for rows, cols, mask in _connected((dense > level) & near):
                part = _measured(density[rows, cols], tissue[rows, cols], near[rows, cols], mask, (rows, cols))
                if part is not None:
                    yield part


def _density(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Optical density per channel relative to the glass, stray light taken off; float32 (h, w, 3)."""
    light = (image / glass_colour(image) - _STRAY) / (1 - _STRAY)
    density: NDArray[np.float32] = -np.log(np.clip(light, _LEAST_LIGHT, 1)).astype(np.float32)
    return density


def _connected(mask: NDArray[np.bool_]) -> Iterator[tuple[slice, slice, NDArray[np.bool_]]]:
    """Yield rows, columns and mask, with what is around it, of each part that may be a fold by its size."""
    labels, count = number_parts(grow(~grow(~mask, 1), 1))
    size = np.bincount(labels.ravel(), minlength=count + 1)
    wanted = (size >= _LEAST_PX) & (size <= _MOST_PX)
    wanted[0] = False
    rows, cols = np.nonzero(wanted[labels])
    owners = labels[rows, cols]
    order = np.argsort(owners, kind="stable")
    margin = _FAR + 2
    for at in np.split(order, np.flatnonzero(np.diff(owners[order])) + 1) if len(order) else ():
        place = tuple(slice(max(0, int(i.min()) - margin), int(i.max()) + 1 + margin) for i in (rows[at], cols[at]))
        yield place[0], place[1], labels[place] == owners[at[0]]


def _measured(
    density: NDArray[np.float32],
    tissue: NDArray[np.bool_],
    near: NDArray[np.bool_],
    mask: NDArray[np.bool_],
    place: tuple[slice, slice],
) -> _Part | None:
    """Measure a part within its box; None if there is too little around it to compare with."""
    core = ~grow(~mask, 1)
    if core.sum() < _LEAST_INSIDE:
        core = mask
    belt = grow(mask, _FAR) & ~grow(mask, _NEAR)
    ring = belt & tissue
    if ring.sum() < _LEAST_AROUND:
        return None
    # Each pixel is compared with the surroundings beside it: a fold may run from one kind of tissue into another.
    beside = _sums(ring, _WINDOW)
    around = _sums(density * ring[..., None], _WINDOW) / np.maximum(beside, 1)[..., None]
    compared = core & (beside >= _LEAST_PX // 15)
    if compared.sum() < 0.3 * core.sum():
        return None
    smooth = np.dstack([_mean(density[..., c], 1) for c in range(3)])
    times = np.median(smooth[compared] / np.maximum(around[compared], _FAINT), axis=0)
    total = smooth.mean(axis=2) / np.maximum(around.mean(axis=2), _FAINT)
    step = max(float(np.median(total[compared])) - 1, 1e-3)
    height = (total - 1) / step
    zone = grow(mask, 3) & near & (beside > 0)
    opened = grow(~grow(~mask, 2), 2) & mask
    return _Part(
        place,
        # Smoothing widened it: what is hardly denser than the surroundings is beside it.
        mask & grow(height > 0.3, 1),
        layers=float(times.min()),
        colour=float(times.max() / times.min()),
        sharp=float((zone & (height > 0.6)).sum() / max(1, (zone & (height > 0.3)).sum())),
        uneven=float(total[ring].std() / step),
        closed=float(ring.sum() / belt.sum()),
        solid=float(opened.sum() / mask.sum()),
    )


def _mean(image: NDArray[np.float32], radius: int) -> NDArray[np.float32]:
    """Mean of (h, w) over squares of 2 x `radius` + 1 px; at the border of what is there of them."""
    mean: NDArray[np.float32] = (_sums(image, radius) / _sums(np.ones_like(image), radius)).astype(np.float32)
    return mean


def _sums(image: NDArray[np.generic], radius: int) -> NDArray[np.float64]:
    """Sums over squares of 2 x `radius` + 1 px of (h, w) or (h, w, c), 0 beyond the border."""
    sums = image.astype(np.float64)
    for axis in (0, 1):
        width = [(radius + 1, radius) if i == axis else (0, 0) for i in range(image.ndim)]
        total = np.moveaxis(np.pad(sums, width).cumsum(axis=axis), axis, 0)
        sums = np.moveaxis(total[2 * radius + 1 :] - total[: -2 * radius - 1], 0, axis)
    return sums
