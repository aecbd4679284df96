"""Augmentation: one random warp and stain change for a crop and its truth.

The maps are warped as labels and the flows are encoded afterwards, so the vectors turn with the image by construction.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cytolite.celltypes import IGNORE
from cytolite.decoding import flows
from cytolite.patches import Patch

# Optical densities of haematoxylin, eosin and the rest (Ruifrok & Johnston 2001), rows of unit length.
STAINS = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]], np.float32)
STAINS /= np.linalg.norm(STAINS, axis=1, keepdims=True)
UNSTAIN = np.linalg.inv(STAINS).astype(np.float32)
# Optical density of each intensity.
DENSITY = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)
# Nuclei cut by the crop's edge are encoded whole: this much more is warped than is kept.
MARGIN_PX = 16


@dataclass(frozen=True)
class Crop:
    """A training example at the model's resolution; truth is by `stride` coarser than the image, as the maps are.

    Attributes
    ----------
    image : numpy.ndarray
        uint8 (H * stride, W * stride, 3).
    flows : numpy.ndarray
        float32 (2, H, W), unit scale.
    instance_map : numpy.ndarray
        int32 (H, W).
    type_map, known_map, trust_map : numpy.ndarray
        uint8 (H, W), as of `Patch`.
    """

    image: NDArray[np.uint8]
    flows: NDArray[np.float32]
    instance_map: NDArray[np.int32]
    type_map: NDArray[np.uint8]
    known_map: NDArray[np.uint8]
    trust_map: NDArray[np.uint8]


def warp_matrix(centre: tuple[float, float], scale: float, angle: float, flip: bool, size: int) -> NDArray[np.float64]:
    """Return the 2x3 map from output pixel (x, y) to source pixel, both counted from pixel centres.

    Parameters
    ----------
    centre : tuple of float
        (x, y) in the source, in edge coordinates (pixel 0 spans 0..1), that comes to lie at the output's centre.
    scale : float
        Source pixels per output pixel.
    angle : float
        Radians.
    flip : bool
        Mirror the output left to right.
    size : int
        Side of the square output.
    """
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.array([[-cos if flip else cos, -sin], [-sin if flip else sin, cos]])
    offset = np.array(centre) - 0.5 - turn @ np.array([(size - 1) / 2] * 2)
    return np.column_stack([turn, offset])


def rescale(matrix: NDArray[np.float64], pixel: float) -> NDArray[np.float64]:
    """Return `matrix` for output pixels of `pixel` times the side, over the same square.

    Parameters
    ----------
    matrix : numpy.ndarray
        float64 (2, 3), from a pixel (x, y) of the crop to one of the image.
    pixel : float
        Side of the new pixels, in old ones.
    """
    scaled = matrix.copy()
    scaled[:, :2] *= pixel
    # The first new pixel's centre lies (pixel - 1) / 2 of an old one after the old one's centre.
    scaled[:, 2] += matrix[:, :2] @ np.full(2, (pixel - 1) / 2)
    return scaled


def warp_labels(
    labels: NDArray[np.integer], matrix: NDArray[np.float64], size: int, outside: int
) -> NDArray[np.uint16]:
    """Sample a label map by nearest pixel; `outside` where it has none; uint16 (size, size).

    Parameters
    ----------
    labels : numpy.ndarray
        (H, W).
    matrix : numpy.ndarray
        float64 (2, 3), from a pixel (x, y) of the crop to one of the image.
    size : int
        Side of the crop, px.
    outside : int
        Label beyond the map.
    """
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    warped: NDArray[np.uint16] = cv2.warpAffine(
        labels.astype(np.uint16), matrix, (size, size), flags=flags, borderValue=outside
    )
    return warped


def warp_image(image: NDArray[np.uint8], matrix: NDArray[np.float64], size: int, reduce: int) -> NDArray[np.uint8]:
    """Sample an image area-correctly: `reduce` times too fine, then averaged; uint8 (size, size, 3).

    Parameters
    ----------
    image : numpy.ndarray
        uint8 (H, W, 3).
    matrix : numpy.ndarray
        float64 (2, 3), from a pixel (x, y) of the crop to one of the image.
    size : int
        Side of the crop, px.
    reduce : int
        How many samples are averaged along each side of a pixel.
    """
    fine = rescale(matrix, 1 / reduce)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped: NDArray[np.uint8] = cv2.warpAffine(
        image, fine, (size * reduce,) * 2, flags=flags, borderMode=cv2.BORDER_REFLECT
    )
    if reduce > 1:
        warped = cv2.resize(warped, (size, size), interpolation=cv2.INTER_AREA)
    return warped


def crop(patch: Patch, matrix: NDArray[np.float64], size: int, stride: int = 1) -> Crop:
    """Cut a square of `size` px out of a patch by `matrix`, with the flows of its nuclei on a grid `stride` coarser.

    Beyond the patch the image is mirrored and nothing is known: a mirrored nucleus would carry the id of its
    original, and the two would be one nucleus in two parts.

    Parameters
    ----------
    patch : Patch
        To be cut from.
    matrix : numpy.ndarray
        float64 (2, 3), from a pixel (x, y) of the crop to one of the patch.
    size : int
        Side of the crop, px.
    stride : int
        Pixels of the crop per pixel of the flows.
    """
    scale = float(np.hypot(*matrix[:, 0]))
    side = size // stride
    coarse = rescale(matrix, stride)
    wide = coarse.copy()
    wide[:, 2] -= coarse[:, :2] @ np.full(2, MARGIN_PX)
    inner = (slice(MARGIN_PX, MARGIN_PX + side),) * 2
    instances = warp_labels(patch.instance_map, wide, side + 2 * MARGIN_PX, 0).astype(np.int32)
    return Crop(
        image=warp_image(patch.image, matrix, size, max(1, round(scale))),
        flows=np.ascontiguousarray(flows.encode(instances)[(slice(None), *inner)]),
        instance_map=np.ascontiguousarray(instances[inner]),
        type_map=warp_labels(patch.type_map, coarse, side, IGNORE).astype(np.uint8),
        known_map=warp_labels(patch.known, coarse, side, 0).astype(np.uint8),
        trust_map=warp_labels(patch.trust, coarse, side, 0).astype(np.uint8),
    )


def jitter_stain(image: NDArray[np.uint8], rng: np.random.Generator, strength: float = 0.2) -> NDArray[np.uint8]:
    """Scale and shift the amounts of haematoxylin and eosin (Tellez et al. 2018), then brightness and saturation.

    Both are affine, the first in optical density and the second in colour, so that each is one 3x4 matrix.

    Parameters
    ----------
    image : numpy.ndarray
        uint8 (H, W, 3).
    rng : numpy.random.Generator
        Of the draws.
    strength : float
        How far the amounts vary.
    """
    amounts = rng.uniform(1 - strength, 1 + strength, 3)
    more = rng.uniform(-strength / 8, strength / 8, 3)
    stain = np.column_stack([(UNSTAIN * amounts @ STAINS).T, more @ STAINS])
    saturation, contrast, light = rng.uniform(0.7, 1.3), rng.uniform(0.8, 1.2), rng.uniform(-8, 8)
    mixed = contrast * (saturation * np.eye(3) + (1 - saturation) / 3)
    # 256 exp(-density) - 1 is the intensity that a density stands for; white stays where it is but for `light`.
    colour = np.column_stack([256 * mixed, 255 * (1 - contrast) - mixed.sum(1) + light])
    density = cv2.transform(cv2.LUT(image, DENSITY), -stain)
    recoloured: NDArray[np.uint8] = cv2.transform(cv2.exp(density), colour).clip(0, 255).astype(np.uint8)
    return recoloured


def degrade(
    image: NDArray[np.uint8], rng: np.random.Generator, blur_share: float = 0.2, blur_px: float = 1.0
) -> NDArray[np.uint8]:
    """Now and then blur (by a sigma of 0.3 to `blur_px`), add noise or compress, as scanners do.

    Parameters
    ----------
    image : numpy.ndarray
        uint8 (H, W, 3).
    rng : numpy.random.Generator
        Of the draws.
    blur_share : float
        How often it is blurred.
    blur_px : float
        The strongest blur's sigma.
    """
    if rng.random() < blur_share:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, blur_px))
    if rng.random() < 0.15:
        noise = rng.normal(0, rng.uniform(1, 6), image.shape)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.15:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 90))]
        # OpenCV takes blue, green, red; with red and blue exchanged JPEG would mistake their brightness.
        coded = cv2.imencode(".jpg", image[..., ::-1], quality)[1]
        image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]
    return image
