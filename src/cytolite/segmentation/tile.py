"""One tile: from the network's maps to nuclei with outlines, types and measures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytolite.bundle import ModelSpec
from cytolite.cells import CellTable
from cytolite.decoding import features, outlines
from cytolite.decoding.maps import decode_maps
from cytolite.decoding.pooling import vectors
from cytolite.decoding.refine import FACTOR
from cytolite.slides.tiles import Tile

# Centroids are whole multiples of 1 / _GRID px, so that moving them by whole pixels is exact and tiles agree on them.
_GRID = 2.0**20


def tile_cells(
    tile: Tile,
    image: NDArray[np.uint8],
    flows: NDArray[np.float32],
    type_logits: NDArray[np.float32],
    *,
    spec: ModelSpec,
    mpp: float,
    size: tuple[int, int],
    embedding: NDArray[np.float32] | None = None,
) -> CellTable:
    """Return the nuclei seen in a tile, without those that its read rectangle cuts.

    Parameters
    ----------
    tile : Tile
        Where the maps lie.
    image : numpy.ndarray
        uint8 (H * stride, W * stride, 3), what the network saw.
    flows, type_logits : numpy.ndarray
        float32 (2, H, W) and (types + 1, H, W).
    spec : ModelSpec
        Thresholds.
    mpp : float
        Resolution of the maps, um per pixel.
    size : tuple of int
        Width and height of the slide, in pixels of the maps.
    embedding : numpy.ndarray, optional
        float32 (C, h, w), if nuclei shall have vectors.

    Returns
    -------
    CellTable
        In pixels of the maps, counted from the slide's corner, in halves: tiles can be compared exactly.
    """
    x0, y0, x1, y1 = tile.read
    width, height = size
    on_slide = (slice(max(0, -y0), max(0, height - y0)), slice(max(0, -x0), max(0, width - x0)))
    decoded = decode_maps(flows, type_logits, spec, mpp, on_slide)
    rings = outlines.trace(decoded.fine)
    enlarge = FACTOR // spec.stride
    if enlarge > 1:
        image = image.repeat(enlarge, 0).repeat(enlarge, 1)
    measures = features.measure(decoded.fine, image, mpp / FACTOR, rings)
    types, type_probs = decoded.names(spec.type_temperature)
    vertices, offsets = rings
    corner = np.array([x0, y0], np.float64)
    cells = CellTable(
        vertices=vertices / FACTOR + corner,
        offsets=offsets,
        centroids=np.rint(measures.centroids / FACTOR * _GRID) / _GRID + corner,
        types=types,
        type_probs=type_probs,
        area_um2=(measures.area_px * (mpp / FACTOR) ** 2).astype(np.float32),
        regions=np.full(len(types), -1, np.int32),
        features=measures.features,
        type_set=spec.network_types,
        embeddings=None if embedding is None else vectors(decoded.instances, embedding),
    )
    left, top, right, bottom = measures.boxes.T / FACTOR
    cut = ((left == 0) & (x0 > 0)) | ((top == 0) & (y0 > 0))
    cut |= ((right == x1 - x0) & (x1 < width)) | ((bottom == y1 - y0) & (y1 < height))
    return cells.select(~cut) if cut.any() else cells
