"""Metrics equal published code: stored values (golden/evaluation/README.md) and packages that can be installed."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytolite.metrics.bootstrap import score
from cytolite.metrics.classes import Classes
from cytolite.metrics.counts import Counts, collect, count_image
from cytolite.metrics.matching import match
from cytolite.metrics.truth import predicted_nuclei, true_nuclei
from disturb import disturbed

GOLDEN = Path(__file__).parents[1] / "golden" / "evaluation"
VALUES = json.loads((GOLDEN / "values.json").read_text())
FIVE = Classes(tuple("abcde"), {i: (i,) for i in range(1, 6)})
PUMA = [name for name in VALUES["images"] if name.startswith("puma")]
CONSEP = [name for name in VALUES["images"] if name.startswith("consep")]
Maps = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def stored() -> dict[str, Maps]:
    with np.load(GOLDEN / "inputs.npz") as file:
        keys = ("instances", "types", "predicted_instances", "predicted_types")
        return {name: tuple(file[f"{name}/{key}"] for key in keys) for name in VALUES["images"] if name not in CONSEP}


@pytest.fixture(scope="module")
def consep(shared_data) -> dict[str, Maps]:
    found = {}
    for name in CONSEP:
        file = f"{name.removeprefix('consep_')}.png"
        instances, types = (
            np.asarray(Image.open(shared_data / "consep" / k / file)).astype(int) for k in ("inst", "type")
        )
        types = np.minimum(types, 5)
        found[name] = (instances, types, *disturbed(instances, types))
    return found


def counted(cases: dict[str, Maps], tissues: list[str] | None = None) -> Counts:
    rows, counts = [], []
    for i, (name, (instances, types, found, found_types)) in enumerate(cases.items()):
        truth = true_nuclei(instances, types, FIVE, name)
        counts.append(count_image(truth, predicted_nuclei(found, found_types, FIVE, name), FIVE))
        rows.append({"image": name, "source": "", "tissue": tissues[i] if tissues else ""})
    return collect(rows, counts, FIVE)


def values(counts: Counts, name: str) -> list[float]:
    return [s.value for s in score(counts, resamples=1) if s.name == name]


def agrees_on_image(name: str, maps: Maps) -> None:
    wanted = VALUES["images"][name]
    counts = counted({name: maps})
    found = np.stack([counts.values[key][0, 1:] for key in ("tp", "fp", "fn", "iou_sum")], 1)
    np.testing.assert_allclose(found.ravel(), wanted["conic_tp_fp_fn_iou"], atol=1e-6)
    names = ("bdq_image", "bsq_image", "bpq_image", "dice_image", "aji_image", "aji_plus_image")
    found = [values(counts, key)[0] for key in names]
    theirs = [*wanted["hovernet_dq_sq_pq"], *(wanted[f"hovernet_{key}"] for key in ("dice", "aji", "aji_plus"))]
    for key, ours, other in zip(names, found, theirs, strict=True):
        if isinstance(other, str):
            assert "argmax of an empty sequence" in other  # the reference fails without predictions
            assert ours == 0
        else:
            assert ours == pytest.approx(other, abs=1e-6), key
    # stardist divides in float32 and takes an IoU of exactly 0.5 as a match.
    tp = counts.values["tp"][0, 0]
    theirs = wanted["stardist"]
    if theirs["tp"] == tp:
        assert (counts.values["fp"][0, 0], counts.values["fn"][0, 0]) == (theirs["fp"], theirs["fn"])
        assert found[2] == pytest.approx(theirs["panoptic_quality"], abs=1e-6)
    else:
        assert theirs["tp"] > tp


@pytest.mark.parametrize("name", [name for name in VALUES["images"] if name not in CONSEP])
def test_an_image_scores_as_in_published_code(name, stored):
    agrees_on_image(name, stored[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", CONSEP)
def test_a_real_image_scores_as_in_published_code(name, consep):
    agrees_on_image(name, consep[name])


def agrees_on_set(cases: dict[str, Maps], wanted: dict) -> None:
    counts = counted(cases, wanted["tissues"])
    for name, theirs in (
        ("f1_detection_pooled", [wanted["hovernet_f1_detection"]]),
        ("f1_class_pooled", wanted["hovernet_f1_class"]),
        ("pq_pooled", wanted["conic_pq_pooled"]),
        ("bpq_image", [wanted["conic_bpq_image"]]),
        ("pq_image", wanted["pannuke_pq_image"]),
        ("mpq_tissue", [wanted["pannuke_mpq_tissue"]]),
        ("bpq_tissue", [wanted["pannuke_bpq_tissue"]]),
    ):
        ours = np.array(values(counts, name))
        absent = counts.values["n_true"][:, 1:].sum(0) == 0 if len(ours) == 5 else np.zeros(len(ours), bool)
        # A class that the truth does not hold has no score here; some codes give it 0.
        assert np.isnan(ours[absent]).all()
        np.testing.assert_allclose(ours[~absent], np.array(theirs)[~absent], atol=1e-6, err_msg=name)
    matched = counts.values["near_tp"][:, 1:].sum() / counts.values["near_tp"][:, 0].sum()
    assert matched == pytest.approx(wanted["hovernet_type_accuracy"], abs=1e-6)


def test_a_set_scores_as_in_published_code(stored):
    agrees_on_set({name: stored[name] for name in PUMA}, VALUES["sets"]["puma"])


def test_a_set_of_real_images_scores_as_in_published_code(consep):
    agrees_on_set(consep, VALUES["sets"]["consep"])


@pytest.mark.parametrize("name", [*PUMA, "touching", "half", "equal"])
def test_quality_is_that_of_cellseg_metrics(name, stored):
    package = pytest.importorskip("cellseg_metrics")
    instances, _, found, _ = stored[name]
    theirs, ours = package.panoptic_quality(instances, found), match(instances, found)
    assert (ours.pq, ours.dq) == pytest.approx((theirs["pq"], theirs["dq"]), abs=1e-6)


def test_quality_per_class_is_that_of_torchmetrics(stored):
    torch = pytest.importorskip("torch")
    detection = pytest.importorskip("torchmetrics.detection")
    theirs = detection.PanopticQuality(things=set(range(1, 6)), stuffs={0}, return_per_class=True)
    cases = {name: stored[name] for name in PUMA}
    for instances, types, found, found_types in cases.values():
        theirs.update(
            torch.tensor(np.stack([found_types.astype(int), found], -1)[None]),
            torch.tensor(np.stack([types.astype(int), instances], -1)[None]),
        )
    ours = values(counted(cases), "pq_pooled")
    known = ~np.isnan(ours)
    order = [theirs.cat_id_to_continuous_id[c] for c in range(1, 6)]
    np.testing.assert_allclose(np.array(ours)[known], theirs.compute()[0].numpy()[order][known], atol=1e-6)


def test_r2_is_that_of_scikit_learn(stored):
    metrics = pytest.importorskip("sklearn.metrics")
    counts = counted({name: stored[name] for name in PUMA})
    ours = values(counts, "r2_counts")
    for k, value in enumerate(ours, 1):
        true, given = counts.values["n_true"][:, k], counts.values["n_predicted"][:, k]
        if len(set(true.tolist())) > 1:
            assert value == pytest.approx(metrics.r2_score(true, given), abs=1e-9)
        else:
            assert np.isnan(value)
    assert not np.isnan(ours).all()
