import numpy as np
import pytest

from cytolite.errors import InputError
from cytolite.evaluation.matching import match
from cytolite.evaluation.scoring import bootstrap_mean, enlarge


def random_map(rng: np.random.Generator, size: int = 60, n: int = 25) -> np.ndarray:
    labels = np.zeros((size, size), np.int32)
    for i in range(1, n + 1):
        y, x = rng.integers(0, size - 10, 2)
        h, w = rng.integers(3, 10, 2)
        labels[y : y + h, x : x + w] = i
    return labels


def pq_by_loops(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Panoptic quality by its definition, pair by pair (Kirillov et al. 2019)."""
    ids_t, ids_p = ([i for i in np.unique(m) if i] for m in (truth, predicted))
    total, hits = 0.0, 0
    for t in ids_t:
        for p in ids_p:
            a, b = truth == t, predicted == p
            iou = (a & b).sum() / (a | b).sum()
            if iou > 0.5:
                total, hits = total + iou, hits + 1
    return total / (hits + (len(ids_t) - hits) / 2 + (len(ids_p) - hits) / 2)


@pytest.mark.parametrize("seed", range(5))
def test_pq_is_what_its_definition_says(seed):
    rng = np.random.default_rng(seed)
    truth = random_map(rng)
    predicted = np.roll(truth, rng.integers(0, 3, 2), (0, 1))
    predicted[predicted == 3] = 0
    predicted[truth == 5] = 99
    found = match(truth, predicted)
    assert found.pq == pytest.approx(pq_by_loops(truth, predicted))
    assert 0 < found.pq < 1


def test_ids_do_not_matter_and_the_order_of_the_maps_does_not_either():
    rng = np.random.default_rng(9)
    truth, predicted = random_map(rng), random_map(rng)
    other = np.where(truth > 0, 7 * truth + 1000, 0)
    assert match(other, predicted).pq == match(truth, predicted).pq == match(predicted, truth).pq
    assert match(truth, truth).pq == 1


def test_half_is_not_a_match():
    truth, predicted = np.zeros((1, 4), np.int32), np.zeros((1, 4), np.int32)
    truth[0, :2] = 1
    predicted[0, 0] = 1
    assert len(match(truth, predicted).iou) == 0  # IoU exactly 0.5
    assert np.isnan(match(truth * 0, truth * 0).pq)
    assert match(truth, truth * 0).pq == 0


def test_maps_of_different_sizes_are_refused():
    with pytest.raises(InputError, match=r"sizes must agree"):
        match(np.zeros((2, 2), int), np.zeros((2, 3), int))


def test_enlarging_twofold_repeats_each_pixel():
    labels = np.arange(6, dtype=np.int32).reshape(2, 3)
    np.testing.assert_array_equal(enlarge(labels, (4, 6)), labels.repeat(2, 0).repeat(2, 1))


def test_bootstrap_agrees_with_scipy():
    from scipy.stats import bootstrap

    values = np.random.default_rng(3).beta(4, 3, 60)
    ours = bootstrap_mean(values, resamples=4000)
    theirs = bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=1).confidence_interval
    assert ours.value == values.mean()
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.004)
