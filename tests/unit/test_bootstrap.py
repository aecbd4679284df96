"""Intervals agree with scipy, are the same for the same seed, and resample what belongs together."""

import numpy as np
import pytest

from cytolite.errors import InputError
from cytolite.metrics.bootstrap import compare, draw, headline, headline_differences, score
from cytolite.metrics.classes import own_classes
from cytolite.metrics.counts import FIELDS, PIXELS, Counts
from cytolite.metrics.protocols import PROTOCOLS, in_fold, protocol, score_splits
from cytolite.metrics.scores import METRICS

OWN = own_classes()
BY_NAME = {m.full_name: m for m in METRICS}


def random_counts(n: int, seed: int = 0, tissues: int = 3) -> Counts:
    """A table of counts such as a data set would give."""
    rng = np.random.default_rng(seed)
    shape = (n, len(OWN.names))
    tp, fp_type, fn_type, fp, fn = (rng.poisson(lam, shape).astype(float) for lam in (6, 1, 1, 2, 2))
    iou = tp * rng.uniform(0.6, 0.9, shape)
    values = {"tp": tp, "fp": fp + fp_type, "fn": fn + fn_type, "fp_type": fp_type, "fn_type": fn_type, "iou_sum": iou}
    values |= {"n_true": tp + values["fn"], "n_predicted": tp + values["fp"], "labelled": tp}
    values |= {
        f"near_{k}": v for k, v in (("tp", tp), ("fp", fp), ("fn", fn), ("fp_type", fp_type), ("fn_type", fn_type))
    }
    pixels = {name: rng.uniform(50, 100, n) for name in PIXELS}
    bins = rng.poisson(3, (*shape, 3, 15)).astype(float)
    measured = np.ones(shape, bool)
    measured[:, 8:] = False
    images = {
        "image": np.array([f"{i:05d}" for i in range(n)]),
        "source": np.full(n, "s"),
        "tissue": np.array([f"t{i % tissues}" for i in range(n)]),
        "patient": np.array([f"p{i // 4}" for i in range(n)]),
    }
    confusion = np.zeros((*shape, 7))
    return Counts(OWN, images, np.zeros(n, bool), measured, {k: values[k] for k in FIELDS}, pixels, confusion, bins)


def one(counts: Counts, name: str, label: str, **options):
    return next(s for s in score(counts, [BY_NAME[name]], **options) if s.type == label)


@pytest.mark.parametrize("name", ["bpq_image", "pq_pooled", "r2_counts"])
def test_intervals_agree_with_scipy(name):
    stats = pytest.importorskip("scipy.stats")
    counts = random_counts(60)
    label = "all" if name == "bpq_image" else "connective"

    def statistic(rows: np.ndarray) -> float:
        return one(counts.select(rows.astype(int)), name, label, resamples=1).value

    ours = one(counts, name, label, resamples=4000)
    theirs = stats.bootstrap(
        (np.arange(60),), statistic, n_resamples=800, method="percentile", vectorized=False, rng=1
    ).confidence_interval
    width = ours.high - ours.low
    assert ours.value == statistic(np.arange(60))
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.15 * width)


@pytest.mark.parametrize("metric", METRICS, ids=lambda m: f"{m.full_name}-{m.over}")
def test_weights_are_repetitions(metric):
    """Weighting an image by two is having it twice: what makes resampling by weights right."""
    counts = random_counts(12)
    times = np.array([0, 1, 2, 3, 1, 1, 0, 0, 2, 1, 1, 0])
    weighted, _ = metric(counts, times[None].astype(float))
    repeated, _ = metric(counts.select(np.repeat(np.arange(12), times)), np.ones((1, times.sum())))
    np.testing.assert_allclose(weighted, repeated, rtol=1e-12)


def test_the_same_seed_gives_the_same_interval_and_another_does_not():
    counts = random_counts(30)
    first, again, other = (one(counts, "bpq_image", "all", seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)
    assert first.low < first.value < first.high


def test_groups_are_drawn_whole():
    counts = random_counts(40)
    weights = draw(counts.images["patient"], 200, 0)
    assert (weights.reshape(200, 10, 4) == weights.reshape(200, 10, 4)[..., :1]).all()
    assert (weights.sum(1) == 40).all()
    # Images of a patient that are alike make the interval of whole patients wider.
    alike = counts.select(np.repeat(np.arange(0, 40, 4), 4))
    alike.images["patient"][:] = counts.images["patient"]
    alike.images["image"][:] = counts.images["image"]
    by_image, by_patient = (one(alike, "bpq_image", "all", group=group) for group in ("image", "patient"))
    assert by_patient.high - by_patient.low > 1.5 * (by_image.high - by_image.low)
    assert by_patient.value == by_image.value


def test_one_image_has_no_interval():
    single = one(random_counts(1), "bpq_image", "all")
    assert np.isfinite(single.value)
    assert np.isnan(single.low)
    assert str(single) == f"{single.value:.3f} (n = 1)"


@pytest.mark.parametrize("n", [2, 4, 5])
def test_under_five_groups_nothing_is_bounded(n):
    """Two images make an interval of width zero, or one that leaves out 0, from nothing."""
    counts, other = random_counts(4 * n, 0), random_counts(4 * n, 1)
    found = [*score(counts, group="patient"), *compare(counts, other, group="patient")]
    assert {s.groups for s in found if s.defined} == {n}
    assert any(s.bounded for s in found) == (n >= 5)
    assert all(s.rough for s in found if s.bounded)
    by_image = one(random_counts(20), "bpq_image", "all")
    assert by_image.groups == 20
    assert not by_image.rough


def test_a_paired_difference_is_narrower_than_two_intervals():
    counts = random_counts(50)
    better = {**counts.values, "iou_sum": counts.values["iou_sum"] * 1.02}
    other = Counts(
        OWN, counts.images, counts.partly, counts.measured, better, counts.pixels, counts.confusion, counts.bins
    )
    [difference] = compare(other, counts, [BY_NAME["bpq_image"]])
    alone = one(counts, "bpq_image", "all")
    assert 0 < difference.low < difference.value < difference.high
    assert difference.value == pytest.approx(0.02 * alone.value)
    assert difference.high - difference.low < 0.1 * (alone.high - alone.low)
    [same] = compare(counts, counts, [BY_NAME["bpq_image"]])
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_headline_differences_are_those_of_each_source_alone():
    counts, baseline = (random_counts(40, seed) for seed in (0, 1))
    for table in (counts, baseline):
        table.images["source"] = np.where(np.arange(40) < 15, "s", "t")
    found = headline_differences(counts, baseline)
    ours, theirs = headline(counts), headline(baseline)
    assert list(found) == list(ours) == ["s_bpq_image", "t_bpq_image"]
    for name, difference in found.items():
        assert difference.value == pytest.approx(ours[name].value - theirs[name].value)
        assert difference.low <= difference.value <= difference.high
        sign = "-" if difference.value < 0 else "+"
        assert difference.signed.startswith(f"{sign}{abs(difference.value):.3f} (")


def test_only_the_same_images_are_compared():
    counts = random_counts(6)
    with pytest.raises(InputError, match="same images"):
        compare(counts, counts.select(np.arange(5)))


def test_an_unknown_column_is_named():
    with pytest.raises(InputError, match="no column 'fold'; it has image, source"):
        score(random_counts(3), group="fold")
    with pytest.raises(InputError, match="0 resamples"):
        draw(["a"], 0)


@pytest.mark.parametrize("seed", range(3))
def test_values_lie_within_their_bounds_and_quality_is_a_product(seed):
    counts = random_counts(8, seed)
    found = {(s.name, s.type): s.value for s in score(counts, resamples=1)}
    for (name, label), value in found.items():
        if np.isfinite(value) and not name.startswith(("r2", "mr2")):
            assert 0 <= value <= 1.0001 or name in ("dice_image", "aji_image", "aji_plus_image"), name
        if name == "pq_pooled" and np.isfinite(value):
            assert value == pytest.approx(found["dq_pooled", label] * found["sq_pooled", label])
    single = counts.select(np.array([0]))
    found = {(s.name, s.type): s.value for s in score(single, resamples=1)}
    for label in OWN.types:
        if np.isfinite(found["pq_image", label]):
            assert found["pq_image", label] == pytest.approx(found["pq_pooled", label])
            assert found["pq_image", label] == pytest.approx(found["dq_image", label] * found["sq_image", label])


def test_protocols_say_what_they_test():
    tests = {name: sorted(split.test for split in p.splits) for name, p in PROTOCOLS.items()}
    assert tests == {"paper": [3], "official": [1, 3, 3], "rotation": [1, 2, 3]}
    for p in PROTOCOLS.values():
        assert all(split.test not in (*split.train, *split.validate) for split in p.splits)
    assert "fold 3 is tested twice" in PROTOCOLS["official"].note
    with pytest.raises(InputError, match="Did you mean 'official'"):
        protocol("oficial")


def test_folds_are_found_however_they_are_written():
    assert in_fold(np.array(["1", "fold3", "Fold 3", "fold_3", "2"]), 3).tolist() == [False, True, True, True, False]
    with pytest.raises(InputError, match="No image is in fold 2"):
        in_fold(np.array(["1", "3"]), 2)


def test_the_mean_of_splits_is_the_mean():
    tables = [random_counts(20, seed) for seed in (1, 2, 3)]
    found = {(s.name, s.type): s for s in score_splits(tables, [3, 3, 1])}
    for key in (("bpq_image", "all"), ("mpq_tissue", "mean"), ("pq_pooled", "dead")):
        wanted = np.mean([one(t, *key).value for t in tables])
        assert found[key].value == pytest.approx(wanted)
        assert found[key].low < wanted < found[key].high
    # The same model tested twice on a fold says nothing new: the interval is that of one test.
    twice, once = (score_splits([tables[0]] * n, [3] * n) for n in (2, 1))
    for bound in ("low", "high"):
        assert [getattr(s, bound) for s in twice] == pytest.approx([getattr(s, bound) for s in once], nan_ok=True)
