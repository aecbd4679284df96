"""Which crops a training step sees: sources by share, rare types lifted, every draw a function of seed and index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from cytolite.celltypes import IGNORE, N_TYPES, SEVEN, UNKNOWN_NUCLEUS, LabelSet
from cytolite.config import TrainSettings
from cytolite.errors import InputError
from cytolite.patches import FULL_TRUST, OUTLINE, PRESENCE, Patch
from cytolite.training.augment import Crop, crop, degrade, jitter_stain, rescale, warp_matrix
from cytolite.training.cache import CropCache
from cytolite.training.soft_targets import SoftTargets

POINTS_PER_PATCH = 64
# Nuclei weigh by the inverse root of their area, so that small and slender ones count; this area weighs 1.
REFERENCE_AREA_UM2 = 30.0
# Weight of background in the flow loss: its flows are 0, and most of an image is background.
BACKGROUND_FLOWS = 0.1


@dataclass(frozen=True)
class Points:
    """Pixels of one type over all patches: patch index, row and column; how many nuclei of it there are."""

    patch: NDArray[np.intp]
    row: NDArray[np.intp]
    col: NDArray[np.intp]
    nuclei: int


def points_of_types(patches: Sequence[Patch], rng: np.random.Generator, n_types: int = N_TYPES) -> list[Points]:
    """Draw up to 64 pixels per type and patch, for crops centred on a type; types that occur nowhere are left out.

    Parameters
    ----------
    patches : sequence of Patch
        That train.
    rng : numpy.random.Generator
        Of the draws.
    n_types : int
        Types of the set.
    """
    found = []
    for type_id in range(1, n_types + 1):
        parts, nuclei = [], 0
        for i, patch in enumerate(patches):
            flat = np.flatnonzero(patch.type_map == type_id)
            if len(flat):
                nuclei += len(np.unique(patch.instance_map.ravel()[flat]))
                flat = rng.choice(flat, min(len(flat), POINTS_PER_PATCH), replace=False)
                rows, cols = np.unravel_index(flat, patch.type_map.shape)
                parts.append((np.full(len(flat), i), rows, cols))
        if parts:
            columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
            found.append(Points(columns[0], columns[1], columns[2], nuclei))
    return found


def source_chances(patches: Sequence[Patch], settings: TrainSettings) -> NDArray[np.float64]:
    """Return the chance of each patch, float64 (n,), sum 1: sources by their share, patches of a source by their area.

    Parameters
    ----------
    patches : sequence of Patch
        That train.
    settings : TrainSettings
        Shares of the sources.

    Raises
    ------
    InputError
        If none of the patches' sources has a share.
    """
    area = np.array([p.image.shape[0] * p.image.shape[1] * p.mpp**2 for p in patches])
    source_of = np.array([p.source for p in patches])
    chance = np.zeros(len(patches))
    for source in np.unique(source_of).tolist():
        mine = source_of == source
        power = settings.source_power
        share = settings.source_shares.get(source, 0.0) if power is None else area[mine].sum() ** power
        chance[mine] = share * area[mine] / area[mine].sum()
    if not chance.any():
        raise InputError(
            f"None of the sources {', '.join(np.unique(source_of).tolist())} has a share; set source_shares, or "
            "source_power."
        )
    chances: NDArray[np.float64] = chance / chance.sum()
    return chances


def point_chances(points: Points, patches: Sequence[Patch], chance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the chance of each pixel of a type, not normalised: a source has its share, however many it has.

    Parameters
    ----------
    points : Points
        Of one type.
    patches : sequence of Patch
        That train.
    chance : numpy.ndarray
        float64 (n,), of each patch.
    """
    source_of = np.array([p.source for p in patches])
    found = np.zeros(len(points.patch))
    for source in np.unique(source_of[points.patch]):
        mine = source_of[points.patch] == source
        found[mine] = chance[source_of == source].sum() / mine.sum()
    return found


class CropDataset(Dataset[dict[str, torch.Tensor]]):
    """Random crops of patches; item `i` of epoch `e` is the same in every run of the same seed.

    Parameters
    ----------
    patches : sequence of Patch
        Training patches, held in memory.
    settings : TrainSettings
        Resolution, crop size, shares and seed.
    stride : int
        Of the network: pixels of the image per pixel of the truth.
    per_step : int
        Batches that make one step, over all devices.
    labels : LabelSet
        What the patches' type maps hold.

    Attributes
    ----------
    cache : CropCache or None
        What was computed of the fixed crops and comes with them.
    soft_targets : SoftTargets or None
        What a teacher said of the patches; a crop comes with its part.
    """

    def __init__(
        self,
        patches: Sequence[Patch],
        settings: TrainSettings,
        stride: int,
        per_step: int = 1,
        *,
        labels: LabelSet = SEVEN,
    ) -> None:
        self.patches = patches
        self.settings = settings
        self.stride = stride
        self.per_step = per_step
        self.labels = labels
        self.first = 0
        self.cache: CropCache | None = None
        self.soft_targets: SoftTargets | None = None
        self.chance = source_chances(patches, settings)
        found = points_of_types(patches, np.random.default_rng(settings.seed), len(labels.type_set))
        chances = [point_chances(points, patches, self.chance) for points in found]
        self.points = [points for points, chance in zip(found, chances, strict=True) if chance.any()]
        self.point_ends = [np.cumsum(chance) / chance.sum() for chance in chances if chance.any()]
        nuclei = np.array([max(points.nuclei, 1) for points in self.points], float)
        self.type_chance = nuclei ** (1 - settings.rare_power)
        self.type_chance /= self.type_chance.sum()

    def start_epoch(self, epoch: int) -> None:
        """Move to the stretch of the endless sequence of crops that belongs to an epoch."""
        self.first = epoch * len(self)

    def __len__(self) -> int:
        return self.settings.batch * self.settings.steps_per_epoch * self.per_step

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        number = self._number(self.first + index)
        item = self.draw(number)
        return item if self.cache is None else item | self.cache.read(number)

    def _number(self, i: int) -> int:
        """Which crop comes i-th: always another, or the fixed ones in an order of its own in each round."""
        if not self.settings.fixed_crops:
            return i
        turn, place = divmod(i, self.settings.fixed_crops)
        order = np.random.default_rng([self.settings.seed, turn, 1]).permutation(self.settings.fixed_crops)
        return int(order[place])

    def draw(self, number: int) -> dict[str, torch.Tensor]:
        """Return a crop, which is a function of the seed and its number alone."""
        rng = np.random.default_rng([self.settings.seed, number])
        i, x, y = self._place(rng)
        patch, side = self.patches[i], self.settings.crop_px // self.stride
        scale = self.settings.mpp / patch.mpp * np.exp(rng.uniform(-0.2, 0.2))
        matrix = warp_matrix((x, y), scale, rng.uniform(0, 2 * np.pi), rng.random() < 0.5, self.settings.crop_px)
        taken = crop(patch, matrix, self.settings.crop_px, self.stride)
        s = self.settings
        image = degrade(jitter_stain(taken.image, rng, s.stain_jitter), rng, s.blur_share, s.blur_px)
        item = as_tensors(taken, image, self.settings.mpp * self.stride, self.labels.unknown)
        if self.soft_targets is None:
            return item
        return item | self.soft_targets.read(i, patch.image.shape, rescale(matrix, self.stride), side)

    def _place(self, rng: np.random.Generator) -> tuple[int, float, float]:
        """Choose a patch, by its index, and the point, (x, y) in its pixels, that comes to lie at the crop's centre."""
        if self.points and rng.random() < self.settings.balanced_share:
            kind = int(rng.choice(len(self.points), p=self.type_chance))
            points = self.points[kind]
            i = int(np.searchsorted(self.point_ends[kind], rng.random(), side="right"))
            reach = self.settings.crop_px / 4
            x, y = points.col[i] + rng.uniform(-reach, reach), points.row[i] + rng.uniform(-reach, reach)
            return int(points.patch[i]), x, y
        chosen = int(rng.choice(len(self.patches), p=self.chance))
        patch = self.patches[chosen]
        half = self.settings.crop_px * self.settings.mpp / patch.mpp / 2
        y, x = (
            rng.uniform(min(half * 0.8, size / 2), max(size - half * 0.8, size / 2)) for size in patch.image.shape[:2]
        )
        return chosen, x, y


def as_tensors(
    taken: Crop, image: NDArray[np.uint8], mpp: float, unknown: int = UNKNOWN_NUCLEUS
) -> dict[str, torch.Tensor]:
    """Return what the losses need: image, flows, labels, and per-pixel weights of outline, presence and type.

    What is known of a pixel decides: flows are learnt where the outline is, nucleus or background where presence is, a
    type as much as it is trusted. Of a nucleus whose type is not trusted the label says no type; of a pixel of which
    nothing is known it is `IGNORE`. `mpp` is that of the labels, `unknown` the label of a nucleus of unknown type.

    Parameters
    ----------
    taken : Crop
        A crop.
    image : numpy.ndarray
        uint8 (H, W, 3), with its stain and blur varied.
    mpp : float
        Resolution of the maps, um per pixel.
    unknown : int
        Label of a nucleus of unknown type.
    """
    nucleus, typed = taken.instance_map > 0, (taken.trust_map > 0) & (taken.type_map > 0)
    present, outlined = (taken.known_map & bit > 0 for bit in (PRESENCE, OUTLINE))
    labels = np.where(typed, taken.type_map, np.where(present, np.where(nucleus, unknown, 0), IGNORE))
    area_um2 = np.bincount(taken.instance_map.ravel())[taken.instance_map] * mpp**2
    weight = np.where(nucleus, np.clip(np.sqrt(REFERENCE_AREA_UM2 / np.maximum(area_um2, 1)), 0.5, 2), 1)
    trust = taken.trust_map / FULL_TRUST
    maps = {
        "flow_weight": np.where(nucleus, weight, BACKGROUND_FLOWS) * outlined,
        "nucleus_weight": weight * present,
        "type_weight": weight * trust,
        # Of classes with background among them, as the paper's losses see them.
        "class_weight": np.where(typed, trust, present),
    }
    return {
        "image": channels_first(image),
        "flows": torch.from_numpy(taken.flows),
        "labels": torch.from_numpy(labels.astype(np.uint8)),
        "nucleus": torch.from_numpy(nucleus & present),
        **{name: torch.from_numpy(values.astype(np.float32)) for name, values in maps.items()},
    }


def channels_first(image: NDArray[np.uint8]) -> torch.Tensor:
    """Return an image (H, W, 3) as a tensor (3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
