"""Warnings of an evaluation: masks in place of instances, types that mean something else."""

import json

import numpy as np
import pytest
from PIL import Image

from cytolite.config import EvaluateSettings
from cytolite.evaluation.doubts import InstanceCheck, count_pieces, type_doubts
from cytolite.pipeline import evaluate
from fakes import random_nuclei

RNG = np.random.default_rng(0)
INSTANCES, TYPES = random_nuclei(RNG, (200, 300), 90, radius=(4.0, 7.0))


@pytest.mark.parametrize("seed", range(8))
def test_pieces_are_parts_less_holes(seed):
    ndimage = pytest.importorskip("scipy.ndimage")
    m = np.random.default_rng(seed).integers(0, 3, (17, 23))
    expected = 0
    for i in (1, 2):
        # Background is connected over corners where the parts are not; what reaches the border is no hole.
        outside = np.pad(m != i, 1, constant_values=True)
        expected += ndimage.label(m == i)[1] - (ndimage.label(outside, np.ones((3, 3)))[1] - 1)
    assert count_pieces(m) == expected


def looked_at(*maps):
    check = InstanceCheck("truth")
    for i, m in enumerate(maps):
        check.look(f"{i}", m)
    return check.doubts()


def test_instances_pass_and_masks_do_not():
    assert looked_at(INSTANCES, np.zeros((9, 9), int), (INSTANCES == 5) * 255) == []
    classes = TYPES[INSTANCES]
    for mask in ((INSTANCES > 0) * 255, (INSTANCES > 0) * 1, classes):
        [doubt] = looked_at(INSTANCES, mask)
        assert doubt.code == "not_instances"
        assert "1 of 2 images of the truth" in doubt.message
    two = np.zeros((20, 20), np.uint8)
    two[2:5, 2:5] = two[10:14, 10:14] = 255
    assert "0 and 255" in looked_at(two)[0].message


def write(folder, instances, types):
    for kind, array in (("inst", instances.astype(np.uint16)), ("type", types.astype(np.uint8))):
        (folder / kind).mkdir(parents=True)
        Image.fromarray(array).save(folder / kind / "a.png")
    return folder


@pytest.mark.parametrize(
    ("change", "expected"),
    [(lambda t: t, []), (lambda t: np.where(t > 0, t % 7 + 1, 0), ["types_disagree"])],
    ids=["right", "shifted"],
)
def test_types_that_mean_something_else(tmp_path, change, expected):
    truth = write(tmp_path / "t", INSTANCES, TYPES[INSTANCES])
    predicted = write(tmp_path / "p", INSTANCES, change(TYPES)[INSTANCES])
    told = []
    settings = EvaluateSettings(pictures=False)
    found = evaluate([truth], tmp_path / "r", settings, [predicted], warn=told.append)
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    assert [warning["code"] for warning in report["warnings"]] == expected
    assert [warning["message"] for warning in report["warnings"]] == told
    assert [doubt.code for doubt in type_doubts(found[0].counts)] == expected
    page = (tmp_path / "r" / "report.html").read_text()
    assert ("--types" in page) == bool(expected)
    assert "Under 5 images there is no interval" in page
    entry = report["overall"]["scores"]["bpq"]["image"]["all"]
    assert (entry["low"], entry["groups"]) == (None, 1)


def test_the_mask_of_a_user(shared_data):
    mask = np.asarray(Image.open(shared_data / "cases" / "eval_binary_mask" / "inst" / "a.png"))
    assert [doubt.code for doubt in looked_at(mask)] == ["not_instances"]
