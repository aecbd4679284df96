"""One image to its nuclei, at the image's own size: what `segment` does with a slide, for images in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cytolite.cells import CellTable
from cytolite.decoding import features, outlines
from cytolite.decoding.instances import Thresholds
from cytolite.decoding.maps import DecodedMaps, decode_maps
from cytolite.decoding.pooling import vectors
from cytolite.decoding.refine import FACTOR
from cytolite.inference.predictor import Predictor
from cytolite.slides.reader import slide_of
from cytolite.slides.tiles import ALIGN_PX

# uint8 (B, H, W, 3) to flows, float32 (B, 2, h, w), type logits, float32 (B, types + 1, h, w), and an embedding, if it
# is asked for.
Maps = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], ...]]


class Reading(Thresholds, Protocol):
    """How a network reads images and how its maps are read: a bundle's spec is one."""

    @property
    def mpp(self) -> float:
        """Resolution of the images that it sees, um per pixel."""

    @property
    def stride(self) -> int:
        """Pixels of the image per pixel of its maps."""


@dataclass(frozen=True)
class ModelInput:
    """An image as the network sees it.

    Attributes
    ----------
    image : numpy.ndarray
        uint8 (H, W, 3), at `read_mpp`, white beyond the image's edges; H and W are multiples of 32.
    size : tuple of int
        Columns and rows that show the image.
    read_mpp : float
        um per pixel.
    """

    image: NDArray[np.uint8]
    size: tuple[int, int]
    read_mpp: float


@dataclass(frozen=True)
class ImageNuclei:
    """The nuclei found in an image.

    Attributes
    ----------
    instance_map : numpy.ndarray
        int32 (H, W) of the image's size; 0 = background, 1..n = nuclei, of which the smallest may have no pixel.
    types : numpy.ndarray
        uint8 (n,), ids of the model's types, from 1.
    type_probs : numpy.ndarray
        float32 (n, types); rows sum to 1.
    """

    instance_map: NDArray[np.int32]
    types: NDArray[np.uint8]
    type_probs: NDArray[np.float32]


@dataclass(frozen=True)
class Located:
    """The nuclei of an image before they are named.

    Attributes
    ----------
    decoded : DecodedMaps
        On the grid of the network's maps.
    instance_map : numpy.ndarray
        int32 (H, W), the same nuclei at the image's size.
    seen : ModelInput
        The image as the network saw it.
    embedding : numpy.ndarray, optional
        float32 (C, h, w), if the network gave one.
    """

    decoded: DecodedMaps
    instance_map: NDArray[np.int32]
    seen: ModelInput
    embedding: NDArray[np.float32] | None = None

    def named(self, temperature: float = 1.0) -> ImageNuclei:
        """Name the nuclei, with probabilities of logits divided by `temperature`."""
        return ImageNuclei(self.instance_map, *self.decoded.names(temperature))


def predict_image(predictor: Predictor, image: NDArray[np.uint8], mpp: float) -> ImageNuclei:
    """Find and name the nuclei of an image; parameters as of `locate`.

    Parameters
    ----------
    predictor : Predictor
        The network.
    image : numpy.ndarray
        uint8 (H, W, 3), RGB.
    mpp : float
        Resolution of the image, um per pixel.
    """
    spec = predictor.spec
    uses = spec.classifier is not None and spec.classifier.uses_embeddings
    found = locate(predictor.maps_with_embedding if uses else predictor.maps, spec, image, mpp)
    nuclei = found.named(spec.type_temperature)
    if spec.classifier is None:
        return nuclei
    named = spec.named(replace(measured(found, nuclei, spec.stride), type_set=spec.network_types))
    return replace(nuclei, types=named.types, type_probs=named.type_probs)


def measured(found: Located, nuclei: ImageNuclei, stride: int) -> CellTable:
    """Return the nuclei with what `segment` measures of them, in pixels of the image as the network saw it.

    Parameters
    ----------
    found : Located
        The nuclei before they were named.
    nuclei : ImageNuclei
        The same nuclei, named.
    stride : int
        Pixels of the image, as the network saw it, per pixel of the maps: 1 or 2.
    """
    fine, enlarge = found.decoded.fine, FACTOR // stride
    rings = outlines.trace(fine)
    image = found.seen.image.repeat(enlarge, 0).repeat(enlarge, 1)
    mpp = found.seen.read_mpp / enlarge
    measures = features.measure(fine, image, mpp, rings)
    return CellTable(
        vertices=rings[0] / enlarge,
        offsets=rings[1],
        centroids=measures.centroids / enlarge,
        types=nuclei.types,
        type_probs=nuclei.type_probs,
        area_um2=(measures.area_px * mpp**2).astype(np.float32),
        regions=np.full(len(nuclei.types), -1, np.int32),
        features=measures.features,
        embeddings=None if found.embedding is None else vectors(found.decoded.instances, found.embedding),
    )


def locate(maps: Maps, reading: Reading, image: NDArray[np.uint8], mpp: float) -> Located:
    """Find the nuclei of an image in one piece and do not name them yet.

    Parameters
    ----------
    maps : callable
        The network: a `Predictor`'s ``maps``, or one that is still being trained.
    reading : Reading
        A bundle's spec.
    image : numpy.ndarray
        uint8 (H, W, 3), RGB.
    mpp : float
        Resolution of the image, um per pixel.
    """
    seen = model_input(image, mpp, reading.mpp)
    flows, logits, *more = maps(seen.image[None])
    columns, rows = (-(-side // reading.stride) for side in seen.size)
    map_mpp = seen.read_mpp * reading.stride
    decoded = decode_maps(flows[0], logits[0], reading, map_mpp, (slice(0, rows), slice(0, columns)))
    r, c = (
        np.minimum(_nearest(n, mpp * FACTOR / map_mpp), m - 1)
        for n, m in zip(image.shape, decoded.fine.shape, strict=False)
    )
    return Located(decoded, decoded.fine[r[:, None], c], seen, more[0][0] if more else None)


def model_input(image: NDArray[np.uint8], mpp: float, model_mpp: float) -> ModelInput:
    """Return an image as a network of `model_mpp` sees it, read and resampled as a slide is.

    Parameters
    ----------
    image : numpy.ndarray
        uint8 (H, W, 3), RGB.
    mpp, model_mpp : float
        Resolution of the image, and the one that the network was trained at, um per pixel.
    """
    slide = slide_of(image, mpp)
    read_mpp = slide.working_mpp(model_mpp)
    size = slide.size_at(read_mpp)
    width, height = (-(-side // ALIGN_PX) * ALIGN_PX for side in size)
    return ModelInput(slide.read(0, 0, width, height, read_mpp), size, read_mpp)


def _nearest(count: int, scale: float) -> NDArray[np.int64]:
    """Pixels of a map, `scale` of them a pixel of the image, that hold the centres of the image's first `count`."""
    pixels: NDArray[np.int64] = np.floor((np.arange(count) + 0.5) * scale).astype(np.int64)
    return pixels
