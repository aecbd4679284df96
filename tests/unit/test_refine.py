"""Outlines between the network's pixels: level sets of known fields, and nothing lost."""

import numpy as np
import pytest

from cytolite.decoding.refine import refine


def logits_of(odds: np.ndarray) -> np.ndarray:
    """Maps whose log odds of nucleus are `odds`: one type carries them, the others are far below."""
    logits = np.full((8, *odds.shape), -40, np.float32)
    logits[0] = 0
    logits[3] = odds
    return logits


def disc(size: int, centre: tuple[float, float], radius: float, per_px: int) -> np.ndarray:
    """Signed distance to a circle, positive inside, at the centres of pixels of 1 / per_px."""
    y, x = (np.mgrid[: size * per_px, : size * per_px] + 0.5) / per_px
    return radius - np.hypot(y - centre[0], x - centre[1])


@pytest.mark.parametrize("centre", [(16.0, 16.0), (15.3, 16.8), (16.5, 15.5)])
def test_a_disc_is_rounder_than_its_pixels(centre):
    coarse = disc(32, centre, 6.2, 1)
    truth = disc(32, centre, 6.2, 2) > 0
    instance_map = (coarse > 0).astype(np.int32)
    fine = refine(instance_map, logits_of(coarse), 0.5) > 0
    stairs = instance_map.repeat(2, 0).repeat(2, 1) > 0
    wrong = (fine != truth).sum()
    assert wrong <= 8  # of 480 pixels: where the field is not linear
    assert wrong < (stairs != truth).sum() / 2


def test_the_threshold_is_that_of_decoding():
    coarse = disc(32, (16, 16), 6, 1)
    logit = np.log(0.8 / 0.2)
    fine = refine((coarse > logit).astype(np.int32), logits_of(coarse), 0.8) > 0
    assert (fine != (disc(32, (16, 16), 6, 2) > logit)).sum() <= 12  # of 270
    assert (fine != (disc(32, (16, 16), 6, 2) > 0)).sum() > 100


def test_touching_nuclei_keep_their_border_and_their_ids():
    instance_map = np.zeros((12, 12), np.int32)
    instance_map[3:9, 3:6], instance_map[3:9, 6:9] = 1, 2
    fine = refine(instance_map, logits_of(np.where(instance_map > 0, 5.0, -5.0)), 0.5)
    np.testing.assert_array_equal(fine, instance_map.repeat(2, 0).repeat(2, 1))


def test_a_nucleus_too_thin_for_the_threshold_keeps_its_pixels():
    instance_map = np.zeros((9, 9), np.int32)
    instance_map[4, 2:7] = 1
    fine = refine(instance_map, logits_of(np.where(instance_map > 0, 0.1, -9.0)), 0.5)
    np.testing.assert_array_equal(fine, instance_map.repeat(2, 0).repeat(2, 1))


def test_a_filled_hole_stays_filled():
    instance_map = np.ones((8, 8), np.int32)
    odds = np.full((8, 8), 4.0)
    odds[3:5, 3:5] = -6  # below the threshold, but decoding gave it to the nucleus
    assert (refine(instance_map, logits_of(odds), 0.5) == 1).all()


def test_nothing_grows_beyond_the_slide():
    instance_map = np.zeros((8, 8), np.int32)
    instance_map[:4] = 1
    odds = np.full((8, 8), 3.0)
    fine = refine(instance_map, logits_of(odds), 0.5, (slice(0, 4), slice(0, 8)))
    assert (fine[:8] == 1).all()
    assert not fine[8:].any()
