"""Every metric under its full name, each a pure function of the table of counts and of a weight per image.

The weight says how often an image was drawn: ones give the metric itself, the rows of `bootstrap.draw` its resamples.
PQ, DQ and SQ: Kirillov et al. 2019. What the names mean, who reports them and how they differ is in
docs/concepts/metrics.md.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cytolite.metrics.calibration import expected_calibration_error
from cytolite.metrics.counts import Counts

Weights = NDArray[np.float64]
Values = NDArray[np.float64]
# Values (resamples, classes), and which images enter, bool (images, classes); the first class is "all".
Computed = tuple[Values, NDArray[np.bool_]]
Compute = Callable[[Counts, Weights], Computed]
# Weights of HoVer-Net's class F1: wrongly typed nuclei count twice, missed and invented ones once.
WRONG_TYPE = 2.0


@dataclass(frozen=True)
class Metric:
    """A metric and how it is aggregated.

    Attributes
    ----------
    name : str
        Field's name: pq, dq, sq (b: types left aside, m: mean over types), aji, dice, f1_..., r2, ece, recall.
    aggregation : str
        "image": mean over images; "pooled": nuclei of all images together; "tissue": mean of the tissues' means.
    over : str
        "classes": a value per class; "all": types left aside; "mean": mean over the classes that have a value.
    compute : callable
        Counts and weights (resamples, images) to `Computed`.
    """

    name: str
    aggregation: str
    over: Literal["classes", "all", "mean"]
    compute: Callable[[Counts, Weights], tuple[Values, NDArray[np.bool_]]]

    @property
    def full_name(self) -> str:
        """Name and aggregation: no metric is named without."""
        return f"{self.name}_{self.aggregation}"

    def __call__(self, counts: Counts, weights: Weights) -> Computed:
        """Return the values (resamples, k) of the k classes that the metric is over, and the images that enter."""
        values, used = self.compute(counts, weights)
        if self.over == "all":
            return values[:, :1], used[:, :1]
        if self.over == "classes":
            return values[:, 1:], used[:, 1:]
        return nanmean(values[:, 1:], 1)[:, None], np.any(used[:, 1:], axis=1, keepdims=True)

    def labels(self, counts: Counts) -> tuple[str, ...]:
        """Names of the classes that the metric is over."""
        return counts.classes.names[1:] if self.over == "classes" else (self.over,)


def ratio(above: Values, below: Values) -> Values:
    """Return above / below, NaN where below is 0.

    Parameters
    ----------
    above, below : Values
        Of one shape.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(below > 0, np.divide(above, below), np.nan)


def quality(what: str, iou_sum: Values, tp: Values, fp: Values, fn: Values) -> Values:
    """Return pq, dq or sq of counts, NaN where there is no nucleus; sq is 0 where nothing matched, as in HoVer-Net.

    Parameters
    ----------
    what : str
        "pq", "dq" or "sq".
    iou_sum : Values
        Sum of the IoU of matched nuclei.
    tp, fp, fn : Values
        Counts of matched, of predicted alone and of true alone.
    """
    nuclei = tp + 0.5 * (fp + fn)
    if what == "pq":
        return ratio(iou_sum, nuclei)
    if what == "dq":
        return ratio(tp, nuclei)
    return np.where(nuclei > 0, np.where(tp > 0, iou_sum / np.maximum(tp, 1e-300), 0.0), np.nan)


def weighted_mean(values: Values, weights: Weights) -> Values:
    """Mean over images, (resamples, ...), of values (images, ...) that are not NaN; NaN where there are none.

    Parameters
    ----------
    values : Values
        (images, ...), NaN where an image does not enter.
    weights : Weights
        (resamples, images).
    """
    known = ~np.isnan(values)
    return ratio(weights @ np.where(known, values, 0.0), weights @ known.astype(float))


def nanmean(values: Values, axis: int) -> Values:
    """Mean without NaN, NaN where all are.

    Parameters
    ----------
    values : Values
        Any shape.
    axis : int
        Which one goes.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # "mean of empty slice" is what NaN says
        mean: Values = np.nanmean(values, axis=axis)
        return mean


def judged(counts: Counts, precision: bool = True) -> NDArray[np.bool_]:
    """Where a class can be judged, bool (images, classes); what needs precision leaves partly labelled images out.

    Parameters
    ----------
    counts : Counts
        Of all images.
    precision : bool
        Whether what was predicted wrongly counts too.
    """
    return counts.measured & ~(counts.partly[:, None] & precision)


def _per_image(counts: Counts, what: str, need_truth: bool = True) -> Values:
    v = counts.values
    values = quality(what, v["iou_sum"], v["tp"], v["fp"], v["fn"])
    usable = judged(counts) & ((v["n_true"] > 0) | (not need_truth))
    return np.where(usable, values, np.nan)


def image_quality(what: str, need_truth: bool = True) -> Compute:
    """Mean over images whose truth holds the class (CellViT's and PanNuke's class tables).

    Without `need_truth` also images where the class was predicted alone, as 0 (HoVer-Net's mean, types left aside).

    Parameters
    ----------
    what : str
        "pq", "dq" or "sq".
    need_truth : bool
        Leave out images whose truth lacks the class.
    """

    def compute(counts: Counts, weights: Weights) -> Computed:
        values = _per_image(counts, what, need_truth)
        return weighted_mean(values, weights), ~np.isnan(values)

    return compute


def pooled_quality(what: str) -> Compute:
    """Counts summed over all images, then the quality (CoNIC; the paper's tables behave so); NaN without truth."""

    def compute(counts: Counts, weights: Weights) -> Computed:
        iou_sum, tp, fp, fn, n_true = _sums(counts, weights, "iou_sum", "tp", "fp", "fn", "n_true")
        return np.where(n_true > 0, quality(what, iou_sum, tp, fp, fn), np.nan), _holding(counts, "n_true")

    return compute


def tissue_quality(what: str) -> Compute:
    """Mean of the tissues' means over images (PanNuke): types left aside, then of an image's mean over classes."""

    def compute(counts: Counts, weights: Weights) -> Computed:
        values = _per_image(counts, what)
        values = np.stack([values[:, 0], nanmean(values[:, 1:], 1)], 1)
        tissues = counts.images.get("tissue", np.full(len(counts), ""))
        values[tissues == ""] = np.nan
        # One product of matrices for all tissues: each has columns of its own, 0 for images of the others.
        member = tissues[:, None] == np.unique(tissues[tissues != ""])
        known = ~np.isnan(values)
        sums, numbers = (
            weights @ (member[:, :, None] * part[:, None]).reshape(len(counts), -1)
            for part in (np.where(known, values, 0.0), known.astype(float))
        )
        of_all = nanmean(ratio(sums, numbers).reshape(len(weights), -1, 2), 1)
        return of_all, ~np.isnan(values)

    return compute


def recall(counts: Counts, weights: Weights) -> Computed:
    """Share of the true nuclei that were found (and, for a class, named so), all images together.

    Parameters
    ----------
    counts : Counts
        Of all images.
    weights : Weights
        float64 (resamples, images).
    """
    tp, n_true = _sums(counts, weights, "tp", "n_true", precision=False)
    return ratio(tp, n_true), _holding(counts, "n_true", precision=False)


def recall_of_image(counts: Counts, weights: Weights) -> Computed:
    """Share of the true nuclei that were found (and, for a class, named so), mean over images that hold any.

    Parameters
    ----------
    counts : Counts
        Of all images.
    weights : Weights
        float64 (resamples, images).
    """
    usable = judged(counts, precision=False)
    values = np.where(usable, ratio(counts.values["tp"], counts.values["n_true"]), np.nan)
    return weighted_mean(values, weights), ~np.isnan(values)


def f1_class(counts: Counts, weights: Weights) -> Computed:
    """F1 of a class among nuclei paired within 12 px, all images together (HoVer-Net's F_c).

    Parameters
    ----------
    counts : Counts
        Of all images.
    weights : Weights
        float64 (resamples, images).
    """
    names = ("near_tp", "near_fp", "near_fn", "near_fp_type", "near_fn_type", "n_true")
    tp, fp, fn, fp_type, fn_type, n_true = _sums(counts, weights, *names)
    values = ratio(2 * tp, 2 * tp + fp + fn + WRONG_TYPE * (fp_type + fn_type))
    return np.where(n_true > 0, values, np.nan), _holding(counts, "n_true")


def f1_detection(counts: Counts, weights: Weights) -> Computed:
    """F1 of nuclei paired within 12 px, types left aside, all images together (HoVer-Net's F_d).

    Parameters
    ----------
    counts : Counts
        Of all images.
    weights : Weights
        float64 (resamples, images).
    """
    tp, fp, fn = _sums(counts, weights, "near_tp", "near_fp", "near_fn")
    return ratio(2 * tp, 2 * tp + fp + fn), judged(counts)


def r2_counts(counts: Counts, weights: Weights) -> Computed:
    """Coefficient of determination of the nuclei per image (the paper's S5.1); NaN where true counts do not vary.

    Parameters
    ----------
    counts : Counts
        Of all images.
    weights : Weights
        float64 (resamples, images).
    """
    usable = judged(counts)
    true, given = (np.where(usable, counts.values[name], 0.0) for name in ("n_true", "n_predicted"))
    n = weights @ usable.astype(float)
    sums, squares = weights @ true, weights @ true**2
    residual = weights @ (true - given) ** 2
    spread = squares - np.nan_to_num(ratio(sums**2, n))
    # Sums of whole numbers are exact; only the rounding of their mean's square has to be allowed for.
    return np.where(spread > 1e-9 * np.maximum(squares, 1), 1 - ratio(residual, spread), np.nan), usable


def type_recall(counts: Counts, weights: Weights) -> Computed:
    """Of the class's true nuclei that were matched, the share that was named so, all images together.

    Parameters
    ----------
    counts : Counts
        Of all images.
    weights : Weights
        float64 (resamples, images).
    """
    tp, wrong = _sums(counts, weights, "tp", "fn_type", precision=False)
    return ratio(tp, tp + wrong), _holding(counts, "tp", "fn_type", precision=False)


def type_precision(counts: Counts, weights: Weights) -> Computed:
    """Of the matched nuclei that were named so and whose label can tell, the share that is, all images together.

    Parameters
    ----------
    counts : Counts
        Of all images.
    weights : Weights
        float64 (resamples, images).
    """
    tp, wrong = _sums(counts, weights, "tp", "fp_type", precision=False)
    return ratio(tp, tp + wrong), _holding(counts, "tp", "fp_type", precision=False)


def ece(counts: Counts, weights: Weights) -> Computed:
    """Expected calibration error of the given class's probability among matched nuclei, all images together.

    Parameters
    ----------
    counts : Counts
        Of all images.
    weights : Weights
        float64 (resamples, images).
    """
    bins = judged_bins(counts)
    summed = (weights @ bins.reshape(len(counts), -1)).reshape(len(weights), *bins.shape[1:])
    return expected_calibration_error(summed)[:, None], bins[:, 0].sum(-1)[:, None] > 0


def judged_bins(counts: Counts) -> NDArray[np.float64]:
    """Return the calibration counts over the classes that can be judged, float64 (images, 3, BINS)."""
    bins: NDArray[np.float64] = np.einsum("ic,icsb->isb", judged(counts, precision=False).astype(float), counts.bins)
    return bins


def pixel_ratio(above: str, below: str, factor: float = 1.0) -> Compute:
    """Mean over images of a ratio of pixels; NaN where neither truth nor prediction holds a nucleus.

    Parameters
    ----------
    above, below : str
        Counts of pixels, names of `PIXELS` in `cytolite.metrics.counts`.
    factor : float
        Multiplies the ratio.
    """

    def compute(counts: Counts, weights: Weights) -> Computed:
        values = factor * ratio(counts.pixels[above], counts.pixels[below])[:, None]
        values = np.where(judged(counts)[:, :1], values, np.nan)
        return weighted_mean(values, weights), ~np.isnan(values)

    return compute


def _sums(counts: Counts, weights: Weights, *names: str, precision: bool = True) -> list[Values]:
    usable = judged(counts, precision)
    return [weights @ np.where(usable, np.nan_to_num(counts.values[name]), 0.0) for name in names]


def _holding(counts: Counts, *names: str, precision: bool = True) -> NDArray[np.bool_]:
    """Where a class can be judged and one of the counts is not 0."""
    return judged(counts, precision) & (sum(counts.values[name] for name in names) > 0)


def _qualities(prefix: str, aggregation: str, over: Literal["classes", "all", "mean"], make: Callable[[str], Compute]):  # type: ignore[no-untyped-def]
    return tuple(Metric(prefix + what, aggregation, over, make(what)) for what in ("pq", "dq", "sq"))


METRICS: tuple[Metric, ...] = (
    *_qualities("", "image", "classes", image_quality),
    *_qualities("", "pooled", "classes", pooled_quality),
    *_qualities("m", "image", "mean", image_quality),
    *_qualities("m", "pooled", "mean", pooled_quality),
    *_qualities("m", "tissue", "mean", tissue_quality),
    *_qualities("b", "image", "all", lambda what: image_quality(what, need_truth=False)),
    *_qualities("b", "pooled", "all", pooled_quality),
    *_qualities("b", "tissue", "all", tissue_quality),
    Metric("aji", "image", "all", pixel_ratio("aji_intersection", "aji_union")),
    Metric("aji_plus", "image", "all", pixel_ratio("aji_plus_intersection", "aji_plus_union")),
    Metric("dice", "image", "all", pixel_ratio("overlap_px", "nucleus_px", 2.0)),
    Metric("f1_detection", "pooled", "all", f1_detection),
    Metric("f1_class", "pooled", "classes", f1_class),
    Metric("r2", "counts", "classes", r2_counts),
    Metric("mr2", "counts", "mean", r2_counts),
    Metric("r2_all", "counts", "all", r2_counts),
    Metric("recall", "image", "all", recall_of_image),
    Metric("recall", "pooled", "all", recall),
    Metric("type_recall", "pooled", "classes", type_recall),
    Metric("type_precision", "pooled", "classes", type_precision),
    Metric("ece", "pooled", "all", ece),
)
