"""Calibration: the fitted temperature makes confidence and share of right names meet."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="scoring on patches needs the extra `train`")
pytest.importorskip("cv2", reason="scoring on patches needs the extra `train`")

from cytolite.celltypes import INFLAMMATORY
from cytolite.decoding.instances import find_nuclei, vote_types
from cytolite.inference.image import locate
from cytolite.inference.predictor import Predictor
from cytolite.patches import Patch
from cytolite.release.temperature import TEMPERATURES, fit_temperature, temperature_over_sources
from fakes import fake_bundle, paint, random_nuclei


def patch(wrong: float, label: int | None = None) -> Patch:
    """Painted nuclei of which a share is painted as another type than they are."""
    rng = np.random.default_rng(0)
    instances, types = random_nuclei(rng, (512, 512), 250, gap=1)
    painted = types.copy()
    chosen = rng.permutation(np.arange(1, len(types)))[: round(wrong * (len(types) - 1))]
    painted[chosen] = (types[chosen] + rng.integers(0, 6, len(chosen))) % 7 + 1
    truth = types if label is None else np.where(types > 0, label, 0).astype(np.uint8)
    return Patch("p", paint(instances, painted), instances, truth[instances], 0.5, "s", "g")


def found_in(bundle, patches):
    """The patches, and what the bundle's network finds in each."""
    maps = Predictor(bundle).maps
    return patches, [locate(maps, bundle.spec, p.image, p.mpp) for p in patches]


@pytest.mark.parametrize("wrong", [0.1, 0.2])
def test_confidence_meets_the_share_that_is_right(tmp_path, wrong):
    """The painted network is always sure; a share of its names is wrong."""
    bundle, given = fake_bundle(tmp_path), patch(wrong)
    fit = fit_temperature(*found_in(bundle, [given]))
    assert fit.n > 100
    assert fit.after < fit.before
    flows, logits = Predictor(bundle).maps(given.image[None])
    instances = find_nuclei(flows[0], logits[0], bundle.spec, 0.5)
    probs = vote_types(instances, logits[0], int(instances.max()), fit.temperature)[1]
    assert probs.max(1).mean() == pytest.approx(1 - wrong, abs=0.03)


def test_a_network_that_is_always_right_may_be_sure(tmp_path):
    assert fit_temperature(*found_in(fake_bundle(tmp_path), [patch(0.0)])).temperature == pytest.approx(TEMPERATURES[0])


def test_a_label_that_leaves_all_types_open_fits_nothing(tmp_path):
    bundle = fake_bundle(tmp_path)
    assert fit_temperature(*found_in(bundle, [patch(0.0, label=10)])).n == 0
    assert fit_temperature(*found_in(bundle, [])).temperature == 1
    assert fit_temperature(*found_in(bundle, [patch(0.0, label=INFLAMMATORY)])).n > 100


def test_one_source_that_is_all_wrong_does_not_soften_the_others(tmp_path):
    """A common fit would be pulled far up by it."""
    bundle = fake_bundle(tmp_path)
    sources = {"a": 0.05, "b": 0.1, "c": 1.0}
    patches = [replace(patch(wrong), source=source) for source, wrong in sources.items()]
    alone = {p.source: fit_temperature(*found_in(bundle, [p])).temperature for p in patches}
    assert alone["a"] < alone["b"] < alone["c"]
    assert temperature_over_sources(*found_in(bundle, patches)) == alone["b"]
    assert fit_temperature(*found_in(bundle, patches)).temperature > alone["b"]
    assert temperature_over_sources(*found_in(bundle, [])) == 1
