"""Splits, draws, temperature and accuracies: properties, and other ways to the same number."""

import numpy as np
import pytest

optimize = pytest.importorskip("scipy.optimize", reason="needs scipy")
special = pytest.importorskip("scipy.special", reason="needs scipy")

from cytolite.errors import InputError  # noqa: E402
from cytolite.relabel import calibration, samples  # noqa: E402
from cytolite.relabel.accuracy import fall, measure  # noqa: E402
from cytolite.relabel.report import score  # noqa: E402


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_whole_and_classes_are_shared_out(seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 120, 4000).astype(np.int32)
    labels = np.where(rng.random(4000) < 0.9, 1, 2).astype(np.uint8)
    sides = samples.split_groups(labels, groups, seed)
    for group in np.unique(groups):
        assert len(np.unique(sides[groups == group])) == 1
    for label in (1, 2):
        shares = np.bincount(sides[labels == label], minlength=3) / (labels == label).sum()
        np.testing.assert_allclose(shares, samples.SHARES, atol=0.03)
    np.testing.assert_array_equal(sides, samples.split_groups(labels, groups, seed))
    assert (sides != samples.split_groups(labels, groups, seed + 1)).any()


def test_names_of_groups_do_not_matter_to_what_holds_together():
    """A patient holds all neutrophils but one: training and validation get one patient of them each."""
    labels = np.array([3] * 90 + [5] * 10 + [3] * 80 + [5], np.uint8)
    groups = np.array([7] * 100 + [2] * 81, np.int32)
    sides = samples.split_groups(labels, groups, 0)
    assert set(sides[groups == 7]) == {samples.TRAINING}
    samples.check_sides(labels, sides, (3, 5), "somewhere")


def test_a_class_that_cannot_be_learnt_is_named():
    labels, groups = np.array([3, 3, 3, 5], np.uint8), np.array([0, 1, 2, 2], np.int32)
    sides = samples.split_groups(labels, groups, 0)
    with pytest.raises(InputError, match="no macrophage of monusac"):
        samples.check_classes(labels, (3, 4), "monusac")
    with pytest.raises(InputError, match="neutrophil cells of monusac come from too few"):
        samples.check_sides(labels, sides, (3, 5), "monusac")


def test_equalised_has_as_many_of_each_as_the_rarest_and_none_twice():
    labels = np.repeat([0, 1, 2], [50, 7, 20])
    drawn = samples.equalised(labels, np.random.default_rng(0))
    assert np.bincount(labels[drawn]).tolist() == [7, 7, 7]
    assert len(set(drawn.tolist())) == 21
    assert (drawn != samples.equalised(labels, np.random.default_rng(1))).any()


def test_resampled_keeps_the_size_and_repeats_the_rare_alone():
    labels = np.repeat([0, 1, 2], [60, 6, 24])
    drawn = samples.resampled(labels, np.random.default_rng(0))
    assert np.bincount(labels[drawn]).tolist() == [30, 30, 30]
    common = drawn[labels[drawn] == 0]
    assert len(set(common.tolist())) == 30


@pytest.mark.parametrize("true_temperature", [0.4, 1.0, 3.0])
def test_temperature_is_the_minimum_that_scipy_finds(true_temperature):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (3000, 3))
    probs = special.softmax(logits / true_temperature, axis=1)
    labels = (probs.cumsum(1) > rng.random((3000, 1))).argmax(1)
    weights = calibration.equal_weights(labels)

    def loss(temperature):
        log = special.log_softmax(logits / temperature, axis=1)
        return -weights @ log[np.arange(len(labels)), labels]

    best = optimize.minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-8}).x
    found = calibration.fit_temperature(logits, labels, weights)
    assert found == pytest.approx(best, abs=1e-5)
    assert found == pytest.approx(true_temperature, rel=0.15)


@pytest.mark.parametrize(("right", "bound"), [(True, 1 / 20), (False, 20.0)])
def test_temperature_stays_finite_where_all_are_right_or_all_are_wrong(right, bound):
    labels = np.array([0, 1, 0, 1])
    logits = np.eye(2)[labels if right else 1 - labels] * 3
    found = calibration.fit_temperature(logits, labels, calibration.equal_weights(labels))
    assert found == pytest.approx(bound)


def test_equal_weights_give_every_class_the_same_share():
    labels = np.array([5, 5, 5, 1])
    weights = calibration.equal_weights(labels)
    assert weights.sum() == pytest.approx(1)
    assert weights[3] == pytest.approx(0.5)


def test_calibration_error_of_known_cases():
    sure = np.array([[1.0, 0.0]] * 4)
    equal = np.full(4, 0.25)
    assert calibration.expected_calibration_error(sure, np.array([0, 0, 0, 1]), equal) == pytest.approx(0.25)
    assert calibration.expected_calibration_error(sure, np.zeros(4, int), equal) == 0
    half = np.array([[0.5, 0.5]] * 4)
    assert calibration.expected_calibration_error(half, np.array([0, 0, 1, 1]), equal) == pytest.approx(0)


def test_calibration_error_against_a_loop_over_bins():
    rng = np.random.default_rng(1)
    probs = rng.dirichlet([1, 1, 1], 500)
    labels, weights = rng.integers(0, 3, 500), rng.dirichlet(np.ones(500))
    wanted = 0.0
    for i in range(15):
        inside = (probs.max(1) >= i / 15) & (probs.max(1) < (i + 1) / 15)
        if inside.any():
            share = weights[inside].sum()
            accuracy = weights[inside] @ (probs.argmax(1) == labels)[inside] / share
            wanted += share * abs(accuracy - weights[inside] @ probs.max(1)[inside] / share)
    assert calibration.expected_calibration_error(probs, labels, weights) == pytest.approx(wanted)


def test_table_1_intervals_of_the_paper_come_out():
    """Of 126 neutrophils 108 right: the paper's 0.857 (0.796 to 0.918)."""
    truth, found = np.zeros(126, int), np.r_[np.zeros(108, int), np.ones(18, int)]
    neutrophil = measure(truth, found, np.arange(126), ("neutrophil", "other")).per_type[0].over_cells
    assert neutrophil.value == pytest.approx(0.857, abs=0.001)
    assert (neutrophil.low, neutrophil.high) == pytest.approx((0.796, 0.918), abs=0.012)


def test_accuracies_and_intervals_against_direct_resampling():
    rng = np.random.default_rng(0)
    truth = rng.choice(3, 600, p=[0.7, 0.2, 0.1])
    found = np.where(rng.random(600) < 0.8, truth, rng.integers(0, 3, 600))
    groups = rng.integers(0, 20, 600)
    result = measure(truth, found, groups, ("a", "b", "c"))
    assert result.average.over_cells.value == pytest.approx((truth == found).mean())
    recalls = [(found == t)[truth == t].mean() for t in range(3)]
    assert [m.over_cells.value for m in result.per_type] == pytest.approx(recalls)
    assert result.balanced.over_cells.value == pytest.approx(np.mean(recalls))
    assert result.confusion.tolist() == [[((truth == i) & (found == j)).sum() for j in range(3)] for i in range(3)]
    drawn = []
    for _ in range(1000):
        at = np.concatenate([np.flatnonzero(groups == g) for g in rng.integers(0, 20, 20)])
        drawn.append(np.mean([(found == t)[at][truth[at] == t].mean() for t in range(3)]))
    interval = result.balanced.over_groups
    assert (interval.low, interval.high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=0.012)
    assert (interval.n, result.balanced.over_cells.n) == (20, 600)


def test_cells_of_one_patient_are_not_many_patients():
    """Ten patients, each all right or all wrong: the interval over patients is the wide one."""
    groups = np.repeat(np.arange(10), 100)
    truth = np.zeros(1000, int)
    found = (groups < 3).astype(int)
    average = measure(truth, found, groups, ("a", "b")).average
    width = [i.high - i.low for i in (average.over_cells, average.over_groups)]
    assert width[1] > 5 * width[0]


def test_a_type_of_one_patient_has_no_interval_over_patients():
    truth, groups = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    result = measure(truth, truth, groups, ("a", "b"))
    assert not np.isnan(result.per_type[0].over_groups.low)
    assert np.isnan(result.per_type[1].over_groups.low)
    assert np.isnan(result.balanced.over_groups.low)
    assert result.as_json()["b"]["over_groups"] == [None, None]


def test_the_fall_counts_only_types_that_both_sides_hold():
    home = measure(np.array([0] * 50 + [1] * 50), np.array([0] * 50 + [1] * 25 + [0] * 25), np.arange(100), ("a", "b"))
    away = measure(np.array([0] * 40), np.array([0] * 30 + [1] * 10), np.arange(40), ("a", "b"))
    measured = fall(home, away).over_cells
    assert measured.value == pytest.approx(1.0 - 0.75)
    assert measured.low < 0.25 < measured.high
    assert np.isnan(fall(away, measure(np.ones(5, int), np.ones(5, int), np.arange(5), ("a", "b"))).over_cells.value)


def test_a_threshold_keeps_what_reaches_it():
    logits = np.log(np.array([[0.91, 0.09], [0.6, 0.4], [0.2, 0.8], [0.45, 0.55]]))
    scored = score(logits, np.array([0, 0, 0, 1]), np.arange(4), ("a", "b"))
    kept = {row[0]: row[1:] for row in scored.kept}
    assert kept[0.0] == pytest.approx((1.0, (2 / 3 + 1) / 2))
    assert kept[0.7] == pytest.approx((0.5, 0.5))
    assert kept[0.9] == pytest.approx((0.25, 1.0))
    assert np.isnan(kept[0.99][1])
    assert score(np.empty((0, 2)), np.empty(0, int), np.empty(0, int), ("a", "b")).as_json()["kept_at"] == []
