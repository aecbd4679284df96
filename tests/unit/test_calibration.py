import numpy as np
import pytest

from cytolite.metrics.calibration import BINS, bin_counts, expected_calibration_error, reliability_curve


def test_ece_is_that_of_torchmetrics():
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.full(7, 0.4), 800)
    truth = np.where(rng.random(800) < 0.7, probs.argmax(1), rng.integers(0, 7, 800))
    top = probs.max(1)[:, None]
    ours = expected_calibration_error(bin_counts(top, (probs.argmax(1) == truth)[:, None], np.ones((800, 1), bool)))
    theirs = functional.multiclass_calibration_error(
        torch.tensor(probs), torch.tensor(truth), num_classes=7, n_bins=BINS, norm="l1"
    )
    assert ours[0] == pytest.approx(float(theirs), abs=1e-6)


def test_probabilities_that_mean_what_they_say_have_no_error():
    confidence = np.repeat([0.5, 1.0], [100, 50])[:, None]
    right = np.concatenate([np.arange(100) % 2 == 0, np.ones(50, bool)])[:, None]
    bins = bin_counts(confidence, right, np.ones_like(right))
    assert expected_calibration_error(bins)[0] == pytest.approx(0)
    mean, share, n = reliability_curve(bins[0])
    assert n.sum() == 150
    np.testing.assert_allclose(mean[n > 0], share[n > 0])


def test_entries_that_are_not_judged_do_not_count():
    bins = bin_counts(np.full((4, 2), 0.9), np.ones((4, 2), bool), np.array([[1, 0], [1, 0], [0, 0], [1, 0]], bool))
    assert bins[:, 0].sum(1).tolist() == [3, 0]
    assert np.isnan(expected_calibration_error(bins)[1])
