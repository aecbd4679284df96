"""Parts of the tissue that the cells themselves draw: tumour, stroma, lymphoid aggregates, and bands along the front.

The rules are written down here and nowhere else; `docs/concepts/spatial.md` says them in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon

from cytolite.spatial.roles import Roles
from cytolite.spatial.window import Window

# Nuclei of tumour, stroma and other epithelium are smoothed with this sigma; the most frequent kind owns the pixel.
SIGMA_UM = 30.0
# Where they are thinner than this there is neither tumour nor stroma: fat, necrosis, mucus, blood.
LEAST_PER_MM2 = 150.0
# Where lymphocytes outnumber them so often, the ground is lymphoid: stroma, however near the tumour is.
CROWD = 3.0
# Smaller islands and holes are noise of single nuclei.
SMALLEST_UM2 = 10_000.0
# A lymphoid aggregate: lymphocytes as dense as this (smoothed with its sigma), at least so many, on so much ground.
AGGREGATE_SIGMA_UM, AGGREGATE_PER_MM2, AGGREGATE_UM2, AGGREGATE_CELLS = 20.0, 4_000.0, 10_000.0, 50


@dataclass(frozen=True)
class Compartments:
    """Masks on the window's grid.

    Attributes
    ----------
    masks : dict of str to numpy.ndarray
        bool (h, w) by name: "tumour", "stroma", "other epithelium", "lymphoid aggregates" (which may lie in any of
        them), and bands such as "front, inside 0-100 um".
    aggregates : numpy.ndarray
        int32 (h, w): number of the lymphoid aggregate, 0 where there is none.
    front_um : numpy.ndarray
        float32 (h, w): distance to the tumour's front, negative inside; NaN where there is no front or no tissue.
    """

    masks: dict[str, NDArray[np.bool_]]
    aggregates: NDArray[np.int32]
    front_um: NDArray[np.float32]


def find_compartments(
    window: Window, xy: NDArray[np.float64], types: NDArray[np.integer], roles: Roles, bands_um: Sequence[float]
) -> Compartments:
    """Draw the compartments of a window from its cells.

    Immune cells and dead cells do not move the borders, unless they are a crowd: an infiltrated nest stays tumour.

    Parameters
    ----------
    window : Window
    xy : numpy.ndarray
        float64 (N, 2), um.
    types : numpy.ndarray
        Integers (N,), codes.
    roles : Roles
    bands_um : sequence of float
        Rising distances from the front, e.g. (100, 250, 500).
    """
    kinds = ("tumour", "stroma", "epithelium")
    dense = [smooth_density(window, xy[np.isin(types, roles.codes[kind])], SIGMA_UM) for kind in kinds]
    winner = np.argmax(dense, axis=0)
    lymphocytes = xy[np.isin(types, roles.codes["lymphocytes"])]
    immune, tissue = smooth_density(window, lymphocytes, SIGMA_UM), np.sum(dense, axis=0)
    crowd = window.mask & (immune >= LEAST_PER_MM2) & (immune >= CROWD * tissue)
    ground = window.mask & (tissue >= LEAST_PER_MM2) & ~crowd
    tumour = clean(ground & (winner == 0), window.mask, window.px_um) if roles.codes["tumour"] else ground & False
    stroma = ~tumour & (crowd | (ground & (winner == 1)))
    aggregates = find_aggregates(window, lymphocytes)
    front = front_distance(tumour, window)
    epithelium = ground & ~tumour & (winner == 2)
    masks = {
        "tumour": tumour, "stroma": stroma, "other epithelium": epithelium, "lymphoid aggregates": aggregates > 0
    }  # fmt: skip
    if np.isfinite(front).any():
        for near, far in pairwise((0.0, *bands_um)):
            masks[f"front, inside {near:g}-{far:g} um"] = (front < -near) & (front >= -far)
            masks[f"front, outside {near:g}-{far:g} um"] = (front > near) & (front <= far)
    return Compartments({name: mask for name, mask in masks.items() if mask.any()}, aggregates, front)


def smooth_density(window: Window, xy: NDArray[np.float64], sigma_um: float) -> NDArray[np.float32]:
    """Gaussian density of points per mm2, float32 (h, w), divided by the share of the kernel that is in the window.

    The uniform edge correction of Diggle (Applied Statistics 34, 1985): without it density falls along every border of
    the tissue. 0 outside of the window.

    Parameters
    ----------
    window : Window
    xy : numpy.ndarray
        float64 (N, 2), um; points outside of the window do not count.
    sigma_um : float
        Of the Gaussian.
    """
    from scipy.ndimage import gaussian_filter

    counts = np.zeros(window.mask.shape, np.float32)
    inside = xy[window.contains(xy)]
    np.add.at(counts, window.at(inside), 1)
    sigma = sigma_um / window.px_um
    mass = gaussian_filter(window.mask.astype(np.float32), sigma, mode="constant")
    smooth = gaussian_filter(counts, sigma, mode="constant") / np.maximum(mass, 1e-3) / window.px_um**2 * 1e6
    return np.where(window.mask, smooth, 0).astype(np.float32)


def clean(mask: NDArray[np.bool_], within: NDArray[np.bool_], px_um: float) -> NDArray[np.bool_]:
    """Drop islands below `SMALLEST_UM2`, then fill holes of the same size that are tissue.

    Parameters
    ----------
    mask : numpy.ndarray
        bool (h, w).
    within : numpy.ndarray
        bool (h, w), the tissue: holes are filled in it alone.
    px_um : float
        Side of a pixel.
    """
    least = SMALLEST_UM2 / px_um**2
    kept = _large_parts(mask, least)
    return kept | (within & ~kept & ~_large_parts(~kept, least))


def _large_parts(mask: NDArray[np.bool_], least_px: float) -> NDArray[np.bool_]:
    from scipy.ndimage import label

    labels, _ = label(mask)
    large = np.bincount(labels.ravel()) >= least_px
    large[0] = False
    kept: NDArray[np.bool_] = large[labels]
    return kept


def find_aggregates(window: Window, lymphocytes: NDArray[np.float64]) -> NDArray[np.int32]:
    """Number lymphoid aggregates, candidates for tertiary lymphoid structures: int32 (h, w), 0 where there is none.

    Density and size alone: nuclei do not show germinal centres, T and B zones or high endothelial venules.

    Parameters
    ----------
    window : Window
    lymphocytes : numpy.ndarray
        float64 (N, 2), um.
    """
    from scipy.ndimage import label

    dense = smooth_density(window, lymphocytes, AGGREGATE_SIGMA_UM) >= AGGREGATE_PER_MM2
    labels, n = label(dense, np.ones((3, 3)))
    inside = lymphocytes[window.contains(lymphocytes)]
    cells = np.bincount(labels[window.at(inside)], minlength=n + 1)
    large = (np.bincount(labels.ravel()) * window.px_um**2 >= AGGREGATE_UM2) & (cells >= AGGREGATE_CELLS)
    large[0] = False
    numbers: NDArray[np.int32] = (np.cumsum(large) * large).astype(np.int32)[labels]
    return numbers


def front_distance(tumour: NDArray[np.bool_], window: Window) -> NDArray[np.float32]:
    """Distance of each pixel's centre to the border between tumour and other tissue, um, negative in the tumour.

    Where the tumour ends at glass there is no front. Distances are straight, also across a gap. NaN outside of the
    window, and everywhere if tumour or other tissue is missing.

    Parameters
    ----------
    tumour : numpy.ndarray
        bool (h, w), on the window's grid and within it.
    window : Window
    """
    from scipy.ndimage import distance_transform_edt

    other = window.mask & ~tumour
    out = np.full(tumour.shape, np.nan, np.float32)
    if tumour.any() and other.any():
        # Between the centres of two pixels on either side lies half a pixel each.
        out[other] = (distance_transform_edt(~tumour)[other] - 0.5) * window.px_um
        out[tumour] = -(distance_transform_edt(~other)[tumour] - 0.5) * window.px_um
    return out


def polygons(mask: NDArray[np.bool_], window: Window) -> MultiPolygon:
    """Return a mask's outlines in um, smoothed by about a pixel; holes kept.

    Parameters
    ----------
    mask : numpy.ndarray
        bool (h, w).
    window : Window
        On whose grid the mask is.
    """
    from contourpy import FillType, contour_generator
    from scipy.ndimage import gaussian_filter

    field = gaussian_filter(np.pad(mask, 2).astype(np.float32), 0.7)
    x, y = ((np.arange(n) - 1.5) * window.px_um + o for n, o in zip(field.shape[::-1], window.origin_um, strict=True))
    filled: Any = contour_generator(x, y, field, fill_type=FillType.OuterOffset).filled(0.5, np.inf)
    points, offsets = filled
    parts = []
    for vertices, ends in zip(points, offsets, strict=True):
        rings = [vertices[a:b] for a, b in pairwise(ends.tolist())]
        parts.append(Polygon(rings[0], rings[1:]))
    return MultiPolygon(parts)
