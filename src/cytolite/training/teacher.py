"""The teacher: networks or bundles whose maps are soft targets, at any resolution, on the student's grid."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F  # noqa: N812 - the field's name

from cytolite.celltypes import TYPE_NAMES
from cytolite.decoding.tta import mean_over_orientations
from cytolite.networks.network import ALIGN_PX, NucleusNetwork

Maps = tuple[torch.Tensor, torch.Tensor]
# Soft targets for a batch of images of a resolution, on a grid of a height and width; see `Teacher.__call__`.
Asked = Callable[[torch.Tensor, float, tuple[int, int]], Maps]


@dataclass(frozen=True)
class Teacher:
    """A network or a bundle that is asked.

    Attributes
    ----------
    name : str
        Where it came from.
    sha256 : str
        Of its weights.
    mpp : float
        Resolution of the images it sees, um per pixel.
    predict : callable
        uint8 (B, 3, H, W), sides multiples of 32, to flows and type logits, at whatever stride.
    types : tuple of str
        That it tells apart.
    """

    name: str
    sha256: str
    mpp: float
    predict: Callable[[torch.Tensor], Maps]
    types: tuple[str, ...] = TYPE_NAMES

    @torch.no_grad()
    def __call__(self, image: torch.Tensor, mpp: float, size: tuple[int, int]) -> Maps:
        """Return soft targets for a batch of the student's crops.

        The crop is resampled to the teacher's resolution and the maps to the student's grid; flows are of unit
        length, so that their values do not change with the scale.

        Parameters
        ----------
        image : torch.Tensor
            uint8 (B, 3, H, W).
        mpp : float
            Resolution of `image`.
        size : tuple of int
            Height and width of the student's maps.

        Returns
        -------
        flows, type_logits : torch.Tensor
            float (B, 2, h, w) and (B, types + 1, h, w).
        """
        seen, (height, width) = self._seen(image, mpp)
        flows, type_logits = self.predict(seen)
        stride = seen.shape[2] / flows.shape[2]
        rows, cols = round(height / stride), round(width / stride)
        return tuple(_resize(maps[:, :, :rows, :cols].float(), size) for maps in (flows, type_logits))

    def _seen(self, image: torch.Tensor, mpp: float) -> tuple[torch.Tensor, tuple[int, int]]:
        """Return the image at the teacher's resolution, padded to multiples of 32, and its size before padding.

        Not by `cytolite.inference.image.model_input`: a crop's edge is no slide's edge, where white begins, and its
        pixels end where the student's do. By that road an edge of crops at 0.25 um for a teacher of 0.3 um is off by
        48 of 255 grey levels, by this one by less than 3; and this one runs where the student trains.
        """
        height, width = (max(1, round(side * mpp / self.mpp)) for side in image.shape[2:])
        scaled = _resize(image.float(), (height, width))
        padded = F.pad(scaled, (0, -width % ALIGN_PX, 0, -height % ALIGN_PX), mode="replicate")
        return padded.round().clamp(0, 255).to(torch.uint8), (height, width)


@dataclass(frozen=True)
class Ensemble:
    """Several teachers, or one that is asked in several ways; the soft targets are the mean of their maps.

    Attributes
    ----------
    members : tuple of Teacher
        Each is asked alike.
    tta : int
        Test-time augmentation, 1, 4 or 8: an image is shown in all rotations by right angles, and mirrored.
    """

    members: tuple[Teacher, ...]
    tta: int = 1

    @property
    def names(self) -> list[str]:
        """Where the members came from."""
        return list(dict.fromkeys(member.name for member in self.members))

    @property
    def sha256(self) -> str:
        """Of all that decides the soft targets: the members' weights and resolutions, and the augmentation."""
        said = [self.tta, *((member.sha256, member.mpp) for member in self.members)]
        return hashlib.sha256(repr(said).encode()).hexdigest()

    @torch.no_grad()
    def __call__(self, image: torch.Tensor, mpp: float, size: tuple[int, int]) -> Maps:
        """Return soft targets as a `Teacher` does."""

        def upright(member: Teacher) -> Maps:
            def ask(seen: torch.Tensor, way: int) -> Maps:
                maps: Maps = member(seen, mpp, size if way % 2 == 0 else size[::-1])
                return maps

            return mean_over_orientations(torch, ask, image, self.tta)

        flows, logits = zip(*map(upright, self.members), strict=True)
        return torch.stack(flows).mean(0), torch.stack(logits).mean(0)


def ensemble(teachers: Sequence[Teacher], scales: Sequence[float] = (1.0,), tta: int = 1) -> Ensemble:
    """Return teachers that are asked together, each at its resolution times each of `scales`.

    Parameters
    ----------
    teachers : sequence of Teacher
        To be asked together.
    scales : sequence of float
        Of each teacher's resolution, um per pixel.
    tta : int
        1, 4 or 8 orientations.
    """
    members = (replace(teacher, mpp=teacher.mpp * scale) for teacher in teachers for scale in scales)
    return Ensemble(tuple(members), tta)


def _resize(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False, antialias=size[0] < maps.shape[2])


def network_teacher(
    name: str, sha256: str, mpp: float, network: NucleusNetwork, types: tuple[str, ...] = TYPE_NAMES
) -> Teacher:
    """Return a network as a teacher; it goes to the device of the images that it is shown.

    Parameters
    ----------
    name : str
        Where it came from.
    sha256 : str
        Of its weights.
    mpp : float
        Resolution of the images that it sees, um per pixel.
    network : NucleusNetwork
        In evaluation from now on.
    types : tuple of str
        Names of the types of its logits, in their order.
    """
    network.eval().requires_grad_(False)

    def predict(image: torch.Tensor) -> Maps:
        maps: Maps = network.to(image.device)(image)
        return maps

    return Teacher(name, sha256, mpp, predict, types)


def maps_teacher(
    name: str,
    sha256: str,
    mpp: float,
    maps: Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32]]],
    types: tuple[str, ...] = TYPE_NAMES,
) -> Teacher:
    """Return a bundle as a teacher; `maps` is that of its `Predictor`: uint8 (B, H, W, 3) to flows and type logits.

    Parameters
    ----------
    name : str
        Where it came from.
    sha256 : str
        Of its weights.
    mpp : float
        Resolution of the images that it sees, um per pixel.
    maps : callable
        Of its `Predictor`.
    types : tuple of str
        Names of the types of its logits, in their order.
    """

    def predict(image: torch.Tensor) -> Maps:
        given = np.ascontiguousarray(image.permute(0, 2, 3, 1).cpu().numpy())
        flows, type_logits = (torch.from_numpy(found).to(image.device) for found in maps(given))
        return flows, type_logits

    return Teacher(name, sha256, mpp, predict, types)
