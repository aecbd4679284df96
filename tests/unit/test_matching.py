import numpy as np
import pytest

from cytolite.errors import InputError
from cytolite.metrics import matching
from cytolite.metrics.matching import aggregated_jaccard, aggregated_jaccard_plus, centroids, match, overlaps
from fakes import random_nuclei


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
    assert found.pq == pytest.approx(found.dq * found.iou.mean())


def test_ids_do_not_matter_and_the_order_of_the_maps_does_not_either():
    rng = np.random.default_rng(9)
    truth, predicted = random_map(rng), random_map(rng)
    other = np.where(truth > 0, 7 * truth + 1000, 0)
    huge = np.where(truth > 0, truth.astype(np.int64) * 10**12, 0)
    assert match(other, predicted).pq == match(truth, predicted).pq == match(predicted, truth).pq
    assert match(huge, predicted).pq == match(truth, predicted).pq
    assert set(match(huge, truth).true_ids) == set(huge[huge > 0])
    for jaccard in (aggregated_jaccard, aggregated_jaccard_plus):
        assert jaccard(overlaps(huge, predicted)) == jaccard(overlaps(truth, predicted))
    assert match(truth, truth).pq == 1


def test_counting_by_sorting_is_counting_by_table(monkeypatch):
    rng = np.random.default_rng(2)
    truth, predicted = random_map(rng), random_map(rng)
    dense = overlaps(truth, predicted)
    monkeypatch.setattr(matching, "_DENSE_CELLS", 0)
    sparse = overlaps(truth, predicted)
    for name in ("true_index", "predicted_index", "pixels", "iou"):
        np.testing.assert_array_equal(getattr(dense, name), getattr(sparse, name))


def test_half_is_not_a_match():
    truth, predicted = np.zeros((1, 4), np.int32), np.zeros((1, 4), np.int32)
    truth[0, :2] = 1
    predicted[0, 0] = 1
    assert len(match(truth, predicted).iou) == 0  # IoU exactly 0.5
    assert np.isnan(match(truth * 0, truth * 0).pq)
    assert match(truth, truth * 0).pq == 0


@pytest.mark.parametrize(
    ("truth", "part"),
    [
        (np.zeros((2, 3), int), "sizes must agree"),
        (np.full((2, 2), -1), "must not be negative"),
        (np.zeros((2, 2)), "must be whole numbers"),
    ],
)
def test_maps_that_cannot_be_compared_are_refused(truth, part):
    with pytest.raises(InputError, match=part):
        match(truth, np.zeros((2, 2), int))


def test_centroids_are_centres_of_mass():
    instances, _ = random_nuclei(np.random.default_rng(0), (120, 90), 25)
    instances = np.where(instances > 0, instances * 3, 0)
    ids = np.unique(instances)[1:]
    wanted = [np.argwhere(instances == i).mean(0) for i in ids]
    np.testing.assert_allclose(centroids(instances, ids[::2]), wanted[::2])


def test_leaving_predictions_out_is_as_if_they_had_not_been_there():
    rng = np.random.default_rng(4)
    truth, predicted = random_map(rng), random_map(rng)
    found = overlaps(truth, predicted)
    keep = rng.random(len(found.predicted_ids)) < 0.5
    wanted = overlaps(truth, np.where(np.isin(predicted, found.predicted_ids[keep]), predicted, 0))
    kept = found.keep(keep)
    for name in ("true_ids", "predicted_ids", "predicted_area", "true_index", "predicted_index", "pixels"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(wanted, name))
