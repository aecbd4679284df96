"""What is measured of each nucleus: area, place, shape and stain of exactly the pixels inside its outline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytolite.decoding.outlines import trace
from cytolite.errors import InputError
from cytolite.kernels import kernel

FEATURE_NAMES: tuple[str, ...] = (
    "perimeter_um",
    "major_axis_um",
    "minor_axis_um",
    "eccentricity",
    "circularity",
    "solidity",
    "haematoxylin_od_mean",
    "haematoxylin_od_std",
    "eosin_od_mean",
)

# Optical densities of the pure stains in red, green and blue: Ruifrok & Johnston, Quantification of histochemical
# staining by color deconvolution, Anal. Quant. Cytol. Histol. 23 (2001).
_HAEMATOXYLIN = (0.65, 0.70, 0.29)
_EOSIN = (0.07, 0.99, 0.11)


@dataclass(frozen=True)
class Measures:
    """What was measured of each nucleus, in the order of the ids.

    Attributes
    ----------
    area_px : numpy.ndarray
        int64 (N,), pixels inside the outline, so holes count; equals the polygon's area.
    centroids : numpy.ndarray
        float64 (N, 2), (x, y); the centre of pixel (r, c) is (c + 0.5, r + 0.5).
    boxes : numpy.ndarray
        int32 (N, 4), (x0, y0, x1, y1) of the pixels' edges.
    features : dict of str to numpy.ndarray
        float32 (N,) for each of `FEATURE_NAMES`: perimeter (Crofton's formula), axes of the ellipse with the
        same second moments and its eccentricity (0 to 1), circularity 4 pi area / perimeter^2 (at most 1),
        solidity (area / area of the convex hull), optical density (base 10) of the two stains.
    """

    area_px: NDArray[np.int64]
    centroids: NDArray[np.float64]
    boxes: NDArray[np.int32]
    features: dict[str, NDArray[np.float32]]


def measure(
    instance_map: NDArray[np.int32],
    image: NDArray[np.uint8],
    mpp: float,
    outlines: tuple[NDArray[np.int32], NDArray[np.int64]] | None = None,
) -> Measures:
    """Measure each nucleus over exactly the pixels inside its outline.

    A nucleus inside another's hole is counted in both, as it is in the polygons.

    Parameters
    ----------
    instance_map : numpy.ndarray
        int (H, W), as for `trace`.
    image : numpy.ndarray
        uint8 (H, W, 3), RGB of the same pixels; white is 255.
    mpp : float
        Resolution of the map, um per pixel.
    outlines : tuple of numpy.ndarray, optional
        What `trace` returned for this map; traced here if not given.

    Returns
    -------
    Measures
        One entry per id.

    Raises
    ------
    InputError
        If image and map differ in size or dtype is not uint8, and as `trace`.
    """
    if image.dtype != np.uint8 or image.shape != (*instance_map.shape, 3):
        raise InputError(
            f"The image is {image.dtype} {image.shape}; uint8 {(*instance_map.shape, 3)} is needed to fit the map."
        )
    vertices, offsets = trace(instance_map) if outlines is None else outlines
    area, centroids, boxes, columns = _measure(vertices, offsets, np.ascontiguousarray(image), _STAIN_TABLE)
    for column, name in enumerate(FEATURE_NAMES):
        if name.endswith("_um"):
            columns[:, column] *= mpp
    features = {name: np.ascontiguousarray(columns[:, i]) for i, name in enumerate(FEATURE_NAMES)}
    return Measures(area, centroids, boxes, features)


def _stain_table() -> NDArray[np.float64]:
    """Return what a byte of red, green or blue adds to the density of each stain: float64 (2, 3, 256).

    The third, residual stain is perpendicular to the two, so that they take up all they can explain.
    """
    stains = np.array([_HAEMATOXYLIN, _EOSIN, np.cross(_HAEMATOXYLIN, _EOSIN)])
    stains /= np.linalg.norm(stains, axis=1, keepdims=True)
    unmix = np.linalg.inv(stains)  # optical density of RGB @ unmix = density of each stain
    density = -np.log10(np.maximum(np.arange(256), 1) / 255.0)
    return unmix.T[:2, :, None] * density


_STAIN_TABLE = _stain_table()


@kernel
def _measure(vertices, offsets, image, stain_table):  # type: ignore[no-untyped-def]
    """Return areas, centroids, boxes and the columns `FEATURE_NAMES`, lengths in px."""
    n = len(offsets) - 1
    area = np.zeros(n, np.int64)
    centroids = np.empty((n, 2))
    boxes = np.empty((n, 4), np.int32)
    columns = np.empty((n, 9), np.float32)
    flips = np.zeros(4096, np.uint8)
    for index in range(n):
        ring = vertices[offsets[index] : offsets[index + 1]]
        x0 = x1 = np.int64(ring[0, 0])
        y0 = y1 = np.int64(ring[0, 1])
        for corner in range(1, len(ring)):
            x0, x1 = min(x0, ring[corner, 0]), max(x1, ring[corner, 0])
            y0, y1 = min(y0, ring[corner, 1]), max(y1, ring[corner, 1])
        boxes[index] = (x0, y0, x1, y1)
        needed = (x1 - x0 + 1) * (y1 - y0)
        if needed > len(flips):
            flips = np.zeros(2 * needed, np.uint8)
        box_flips = flips[:needed].reshape(y1 - y0, x1 - x0 + 1)
        length = _mark_edges(ring, x0, y0, box_flips)
        moments, stains, spans = _sum_inside(box_flips, image[y0:y1, x0:x1], stain_table)
        area[index] = moments[0]
        centroids[index, 0] = x0 + moments[1] / moments[0] + 0.5
        centroids[index, 1] = y0 + moments[2] / moments[0] + 0.5
        _describe_shape(moments, length, len(ring), columns[index])
        columns[index, 5] = 2 * moments[0] / _hull_area_twice(spans)
        columns[index, 6] = stains[0] / moments[0]
        columns[index, 7] = np.sqrt(max(stains[1] / moments[0] - (stains[0] / moments[0]) ** 2, 0.0))
        columns[index, 8] = stains[2] / moments[0]
    return area, centroids, boxes, columns


@kernel
def _mark_edges(ring, x0, y0, flips):  # type: ignore[no-untyped-def]
    """Flip where rows enter or leave the ring: at its vertical edges. Return the length of the ring."""
    length = 0
    before = len(ring) - 1
    for i in range(len(ring)):
        length += abs(ring[i, 0] - ring[before, 0]) + abs(ring[i, 1] - ring[before, 1])
        if ring[i, 0] == ring[before, 0]:
            for y in range(min(ring[i, 1], ring[before, 1]), max(ring[i, 1], ring[before, 1])):
                flips[y - y0, ring[i, 0] - x0] ^= 1
        before = i
    return length


@kernel
def _sum_inside(flips, image, stain_table):  # type: ignore[no-untyped-def]
    """Sum over the pixels inside; clears `flips` for the next nucleus.

    Returns int64 (6,) of 1, x, y, xx, yy, xy; float64 (3,) of haematoxylin, its square and eosin; and the first
    column inside and the column after the last, int64 (rows, 2).
    """
    high, wide = flips.shape
    spans = np.empty((high, 2), np.int64)
    count, sx, sy, sxx, syy, sxy = 0, 0, 0, 0, 0, 0
    h_sum, h_square, e_sum = 0.0, 0.0, 0.0
    for row in range(high):
        inside = np.uint8(0)
        first = wide
        last = 0
        for column in range(wide):
            inside ^= flips[row, column]
            flips[row, column] = 0
            if inside:
                first = min(first, column)
                last = column + 1
                count += 1
                sx += column
                sy += row
                sxx += column * column
                syy += row * row
                sxy += column * row
                haematoxylin = 0.0
                for channel in range(3):
                    haematoxylin += stain_table[0, channel, image[row, column, channel]]
                    e_sum += stain_table[1, channel, image[row, column, channel]]
                h_sum += haematoxylin
                h_square += haematoxylin * haematoxylin
        spans[row, 0] = first
        spans[row, 1] = last
    return np.array([count, sx, sy, sxx, syy, sxy]), np.array([h_sum, h_square, e_sum]), spans


@kernel
def _describe_shape(moments, length, corners, out):  # type: ignore[no-untyped-def]
    """Write perimeter, axes, eccentricity and circularity, in px, to out[0:5]."""
    count = moments[0]
    mean_x = moments[1] / count
    mean_y = moments[2] / count
    # Second central moments of the area: those of the pixels' centres plus a pixel's own, 1/12.
    uxx = moments[3] / count - mean_x * mean_x + 1 / 12
    uyy = moments[4] / count - mean_y * mean_y + 1 / 12
    uxy = moments[5] / count - mean_x * mean_y
    spread = np.sqrt((uxx - uyy) ** 2 + 4 * uxy * uxy)
    larger = (uxx + uyy + spread) / 2
    smaller = max((uxx + uyy - spread) / 2, 0.0)
    # Crofton's formula with four directions: lines along rows and columns cross the outline once per edge; lines along
    # the diagonals, which lie 1/sqrt(2) apart, twice at each point of a straight side and once at a corner.
    perimeter = np.pi / 8 * (length + (2 * length - corners) / np.sqrt(2.0))
    out[0] = perimeter
    out[1] = 4 * np.sqrt(larger)
    out[2] = 4 * np.sqrt(smaller)
    out[3] = np.sqrt(max(1 - smaller / larger, 0.0))
    out[4] = min(4 * np.pi * count / perimeter**2, 1.0)


@kernel
def _hull_area_twice(spans):  # type: ignore[no-untyped-def]
    """Return twice the area of the convex hull of the rows' spans, int64 (rows, 2) of x from and to.

    The corners come sorted by y, so the left and the right chain are built in one sweep each (Andrew's algorithm).
    """
    rows = len(spans)
    xs = np.empty(2 * rows, np.int64)
    ys = np.empty(2 * rows, np.int64)
    total = 0
    for side in range(2):
        sign = 1 - 2 * side
        top = 0
        for corner in range(2 * rows):
            x = spans[corner // 2, side]
            y = corner // 2 + corner % 2
            while top >= 2:
                ux = xs[top - 1] - xs[top - 2]
                uy = ys[top - 1] - ys[top - 2]
                if sign * (ux * (y - ys[top - 2]) - uy * (x - xs[top - 2])) < 0:
                    break  # the last corner sticks out: it is on the hull so far
                top -= 1
            xs[top] = x
            ys[top] = y
            top += 1
        for i in range(top - 1):  # area between the chain and the y axis
            total -= sign * (xs[i] + xs[i + 1]) * (ys[i + 1] - ys[i])
    return total
