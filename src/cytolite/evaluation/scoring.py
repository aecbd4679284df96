"""Score predictions on patches: counts per image first, then means with intervals and types of matched nuclei."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytolite.evaluation.matching import match
from cytolite.patches import Patch

# In these sources most of the ground is not labelled: what is found there beside the truth may well be a nucleus, so
# precision means nothing and recall alone is given.
PARTLY_LABELLED = frozenset({"monusac"})


@dataclass(frozen=True)
class ImageScore:
    """What was found on one image.

    Attributes
    ----------
    source, name : str
        Of the patch.
    n_true, n_predicted : int
        Nuclei.
    iou : numpy.ndarray
        float64 (m,), of the matched pairs.
    labels : numpy.ndarray
        uint8 (m,), the truth's label of each pair, types and coarse labels alike.
    types : numpy.ndarray
        uint8 (m,), the predicted type of each pair.
    """

    source: str
    name: str
    n_true: int
    n_predicted: int
    iou: NDArray[np.float64]
    labels: NDArray[np.uint8]
    types: NDArray[np.uint8]

    @property
    def pq(self) -> float:
        """Class-agnostic panoptic quality of the image; NaN where neither truth nor prediction holds a nucleus."""
        total = self.n_true + self.n_predicted
        return 2 * float(self.iou.sum()) / total if total else float("nan")

    @property
    def recall(self) -> float:
        """Share of the true nuclei that were matched; NaN where there are none."""
        return len(self.iou) / self.n_true if self.n_true else float("nan")


@dataclass(frozen=True)
class Interval:
    """A mean over images with its 95% bootstrap interval."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def enlarge(labels: NDArray[np.int32], shape: tuple[int, int]) -> NDArray[np.int32]:
    """Return the label map at another size by nearest pixel centre."""
    rows, cols = (
        np.minimum(((np.arange(wanted) + 0.5) * given / wanted).astype(int), given - 1)
        for wanted, given in zip(shape, labels.shape, strict=True)
    )
    return labels[rows[:, None], cols]


def score_image(patch: Patch, instance_map: NDArray[np.int32], types: NDArray[np.integer]) -> ImageScore:
    """Match a prediction, at any resolution, to a patch's truth at the truth's resolution.

    Parameters
    ----------
    patch : Patch
        The truth.
    instance_map : numpy.ndarray
        int32 (h, w), ids 1..n, over the same field.
    types : numpy.ndarray
        int (n,), the type of nucleus i + 1.
    """
    found = match(patch.instance_map, enlarge(instance_map, patch.instance_map.shape))
    ids, first = np.unique(patch.instance_map, return_index=True)
    labels = patch.type_map.ravel()[first][np.searchsorted(ids, found.true_ids)]
    return ImageScore(
        source=patch.source,
        name=patch.name,
        n_true=found.n_true,
        n_predicted=found.n_predicted,
        iou=found.iou,
        labels=labels.astype(np.uint8),
        types=np.asarray(types)[found.predicted_ids - 1].astype(np.uint8),
    )


def headline(scores: Sequence[ImageScore], resamples: int = 1000, seed: int = 0) -> dict[str, Interval]:
    """Return each source's mean over images: ``<source>_bpq_image``, or ``<source>_recall`` where partly labelled."""
    result = {}
    for source in sorted({s.source for s in scores}):
        mine = [s for s in scores if s.source == source]
        partly = source in PARTLY_LABELLED
        values = np.array([s.recall if partly else s.pq for s in mine])
        name = f"{source}_{'recall' if partly else 'bpq_image'}"
        result[name] = bootstrap_mean(values[~np.isnan(values)], resamples, seed)
    return result


def bootstrap_mean(values: NDArray[np.float64], resamples: int = 1000, seed: int = 0) -> Interval:
    """Mean with the 2.5 and 97.5 percentiles of the means of resampled images (the paper's S5)."""
    if not len(values):
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    drawn = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high), len(values))
