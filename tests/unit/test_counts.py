"""What is counted where labels are wide, unknown or missing: small images whose counts can be read off."""

import numpy as np
import pytest

from cytolite.celltypes import EPITHELIAL_OR_NEOPLASTIC, IGNORE, INFLAMMATORY, UNKNOWN_NUCLEUS, by_name
from cytolite.errors import InputError
from cytolite.metrics.bootstrap import headline, score
from cytolite.metrics.classes import own_classes
from cytolite.metrics.counts import Counts, collect, count_image
from cytolite.metrics.truth import Prediction, predicted_nuclei, true_nuclei

OWN = own_classes()
NEOPLASTIC, EPITHELIAL, LYMPHOCYTE, MACROPHAGE, CONNECTIVE = (
    by_name(name).id for name in ("neoplastic", "epithelial", "lymphocyte", "macrophage", "connective")
)
INFLAMED = "lymphocyte|macrophage|neutrophil"


def squares(labels: list[int], side: int = 6, gap: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """A row of squares, one a label: instance map and type map; 0 leaves the place empty."""
    width = side + gap
    instances = np.zeros((side + 2 * gap, width * max(len(labels), 1) + gap), np.int32)
    types = np.zeros(instances.shape, np.uint8)
    for i, label in enumerate(labels):
        place = np.s_[gap : gap + side, gap + i * width : gap + i * width + side]
        if label:
            instances[place], types[place] = i + 1, label
    return instances, types


def counted(images: list[tuple[list[int], list[int]]], source: str = "", void: bool = False) -> Counts:
    rows, counts = [], []
    for i, (true, given) in enumerate(images):
        instances, types = squares(true)
        if void:
            types = np.where(types == 0, IGNORE, types)
        truth = true_nuclei(instances, types, OWN, "truth")
        counts.append(count_image(truth, predicted_nuclei(*squares(given), OWN, "prediction"), OWN))
        rows.append({"image": str(i), "source": source})
    return collect(rows, counts, OWN)


def numbers(counts: Counts, name: str) -> tuple[int, ...]:
    """tp, fp, fn, n_true, n_predicted of a class, over all images."""
    k = OWN.names.index(name)
    return tuple(int(counts.values[key][:, k].sum()) for key in ("tp", "fp", "fn", "n_true", "n_predicted"))


def judged(counts: Counts) -> set[str]:
    return {name for k, name in enumerate(OWN.names) if counts.measured[:, k].all()}


def test_types_that_agree_and_that_do_not():
    counts = counted([([NEOPLASTIC, NEOPLASTIC, CONNECTIVE, 0], [NEOPLASTIC, CONNECTIVE, 0, CONNECTIVE])])
    assert numbers(counts, "all") == (2, 1, 1, 3, 3)
    assert numbers(counts, "neoplastic") == (1, 0, 1, 2, 1)
    assert numbers(counts, "connective") == (0, 2, 1, 1, 2)
    k = OWN.names.index("connective")
    # One was matched to another type, one stands alone: HoVer-Net's F1 weighs them differently.
    assert counts.values["fp_type"][0, k] == counts.values["near_fp_type"][0, k] == counts.values["near_fp"][0, k] == 1
    assert counts.confusion[0, 1, [NEOPLASTIC - 1, CONNECTIVE - 1]].tolist() == [1, 1]


def test_a_wide_label_is_right_within_its_set_and_takes_its_types_out():
    given = [LYMPHOCYTE, MACROPHAGE, NEOPLASTIC, LYMPHOCYTE]
    counts = counted([([INFLAMMATORY, INFLAMMATORY, INFLAMMATORY, NEOPLASTIC], given)])
    assert numbers(counts, INFLAMED) == (2, 1, 1, 3, 3)
    assert numbers(counts, "neoplastic") == (0, 1, 1, 1, 1)
    # Matched to a nucleus that may well be one: neither right nor wrong. Named so where the label excludes it: wrong.
    assert numbers(counts, "lymphocyte") == (0, 1, 0, 0, 1)
    assert numbers(counts, "macrophage") == (0, 0, 0, 0, 0)
    assert {"neoplastic", "connective", INFLAMED} <= judged(counts)
    assert not {"lymphocyte", "macrophage", "neutrophil", "neoplastic|epithelial"} & judged(counts)


def test_a_fine_label_counts_for_the_wider_one_of_its_source():
    counts = counted([([INFLAMMATORY, LYMPHOCYTE], [LYMPHOCYTE, MACROPHAGE])])
    assert numbers(counts, INFLAMED) == (2, 0, 0, 2, 2)
    assert numbers(counts, "lymphocyte")[:3] == (0, 0, 1)


def test_sources_are_told_apart_each_by_its_own_labels():
    rows, images = [], []
    for source, label in (("wide", EPITHELIAL_OR_NEOPLASTIC), ("fine", NEOPLASTIC)):
        maps = squares([label, CONNECTIVE])
        prediction = predicted_nuclei(*squares([NEOPLASTIC, CONNECTIVE]), OWN, "")
        images.append(count_image(true_nuclei(*maps, OWN, ""), prediction, OWN))
        rows.append({"image": "x", "source": source})
    counts = collect(rows, images, OWN)
    neoplastic, both = OWN.names.index("neoplastic"), OWN.names.index("neoplastic|epithelial")
    assert counts.measured[:, neoplastic].tolist() == [False, True]
    assert counts.measured[:, both].tolist() == [True, False]
    fine = counts.select(np.array([False, True]))
    assert fine.measured[0, neoplastic]  # a selection does not change what was judged


def test_an_unknown_nucleus_counts_for_no_type():
    counts = counted([([UNKNOWN_NUCLEUS, NEOPLASTIC, NEOPLASTIC], [LYMPHOCYTE, NEOPLASTIC, LYMPHOCYTE])])
    assert numbers(counts, "all") == (3, 0, 0, 3, 3)
    assert numbers(counts, "lymphocyte") == (0, 1, 0, 0, 1)
    assert counts.values["labelled"][0, 0] == 1
    assert "lymphocyte" in judged(counts)
    mostly = counted([([UNKNOWN_NUCLEUS, UNKNOWN_NUCLEUS, NEOPLASTIC], [LYMPHOCYTE, 0, NEOPLASTIC])])
    assert judged(mostly) == {"all"}


def test_a_bad_outline_on_an_unknown_nucleus_is_no_wrong_type():
    instances, types = squares([UNKNOWN_NUCLEUS, NEOPLASTIC, NEOPLASTIC])
    truth = true_nuclei(instances, types, OWN, "")
    part = np.where(np.cumsum(instances > 0, 0) > 3, instances, 0)  # half of each: matches nothing
    found = predicted_nuclei(part, np.where(part > 0, LYMPHOCYTE, 0), OWN, "")
    counts = collect([{"image": "", "source": ""}], [count_image(truth, found, OWN)], OWN)
    assert numbers(counts, "all") == (0, 3, 3, 3, 3)
    assert numbers(counts, "lymphocyte") == (0, 2, 0, 0, 2)


def test_what_lies_on_void_ground_is_left_out_unless_it_matches():
    truth = ([NEOPLASTIC, IGNORE, 0], [NEOPLASTIC, CONNECTIVE, CONNECTIVE])
    counts = counted([truth])
    assert numbers(counts, "all") == (1, 1, 0, 1, 2)  # what lies on the ignored nucleus is gone, on plain ground not
    counts = counted([truth], void=True)
    assert numbers(counts, "all") == (1, 0, 0, 1, 1)
    assert counts.pixels["aji_union"] == counts.pixels["aji_intersection"]


def test_partly_labelled_sources_give_recall_alone():
    counts = counted([([LYMPHOCYTE, LYMPHOCYTE, 0], [LYMPHOCYTE, 0, CONNECTIVE])] * 3, source="part", void=True)
    assert counts.partly.all()
    defined = {s.name for s in score(counts, resamples=5) if s.defined}
    assert defined == {"recall_image", "recall_pooled", "type_recall_pooled", "type_precision_pooled"}
    [(name, found)] = headline(counts).items()
    assert (name, found.value) == ("part_recall_image", 0.5)


def test_a_typed_cell_without_outline_is_void():
    instances, types = squares([NEOPLASTIC, MACROPHAGE])
    truth = true_nuclei(np.where(types == MACROPHAGE, 0, instances), types, OWN, "")
    found = predicted_nuclei(*squares([NEOPLASTIC, LYMPHOCYTE]), OWN, "")
    counts = collect([{"image": "", "source": ""}], [count_image(truth, found, OWN)], OWN)
    assert numbers(counts, "all") == (1, 0, 0, 1, 1)


def test_probabilities_are_compared_with_what_the_truth_tells_apart():
    instances, _ = squares([1, 1, 1])
    truth = true_nuclei(*squares([INFLAMMATORY, NEOPLASTIC, UNKNOWN_NUCLEUS]), OWN, "")
    probs = np.zeros((3, 7))
    probs[0, [LYMPHOCYTE - 1, MACROPHAGE - 1, NEOPLASTIC - 1]] = 0.5, 0.3, 0.2
    probs[1, [LYMPHOCYTE - 1, NEOPLASTIC - 1]] = 0.6, 0.4
    probs[2, NEOPLASTIC - 1] = 1
    found = Prediction(instances, np.array([1, 2, 3]), np.array([LYMPHOCYTE, LYMPHOCYTE, NEOPLASTIC]), probs)
    counts = collect([{"image": "", "source": ""}], [count_image(truth, found, OWN)], OWN)
    [ece] = [s for s in score(counts, resamples=1) if s.name == "ece_pooled"]
    # "Inflammatory" with 0.8, right; with 0.6, wrong; the unknown one says nothing.
    assert ece.value == pytest.approx((abs(0.8 - 1) + 0.6) / 2)


def test_nuclei_far_apart_are_paired_by_distance_in_um():
    a, b = (np.zeros((40, 40), np.int32) for _ in range(2))
    a[5:9, 5:9], b[5:9, 15:19] = 1, 1  # 10 px apart
    truth, found = true_nuclei(a, a, OWN, ""), predicted_nuclei(b, b, OWN, "")
    assert count_image(truth, found, OWN).values["near_tp"][0] == 1
    assert count_image(truth, found, OWN, mpp=0.25).values["near_tp"][0] == 1
    assert count_image(truth, found, OWN, mpp=0.5).values["near_tp"][0] == 0


def test_truth_and_prediction_without_types_are_matched_alone():
    instances, _ = squares([1, 1])
    truth = true_nuclei(instances, None, OWN, "")
    for found in (predicted_nuclei(instances, None, OWN, ""), predicted_nuclei(instances, np.sign(instances), OWN, "")):
        counts = collect([{"image": "", "source": ""}], [count_image(truth, found, OWN)], OWN)
        assert numbers(counts, "all") == (2, 0, 0, 2, 2)
        assert judged(counts) == {"all"}


def test_a_nucleus_has_the_label_of_most_of_its_pixels():
    instances, types = squares([NEOPLASTIC])
    types[9, :] = CONNECTIVE
    types[instances == 0] = 0
    truth = true_nuclei(instances, types, OWN, "")
    assert truth.label.tolist() == [NEOPLASTIC]


@pytest.mark.parametrize(
    ("true", "given", "part"),
    [
        ([NEOPLASTIC, 99], [NEOPLASTIC], "t.png holds the types 99; known are 0, 1, 2"),
        ([NEOPLASTIC], [INFLAMMATORY], "p.png holds the types 8"),
    ],
)
def test_types_out_of_range_are_named_with_their_file(true, given, part):
    def read() -> None:
        true_nuclei(*squares(true), OWN, "t.png")
        predicted_nuclei(*squares(given), OWN, "p.png")

    with pytest.raises(InputError, match=part):
        read()


def test_nuclei_without_a_type_are_named_with_their_file():
    instances, types = squares([NEOPLASTIC, NEOPLASTIC])
    with pytest.raises(InputError, match=r"t\.png gives no type to 1 of 2 nuclei \(the first has the id 2\)"):
        true_nuclei(instances, np.where(instances == 2, 0, types), OWN, "t.png")


@pytest.mark.parametrize(("true", "given"), [([], []), ([NEOPLASTIC], []), ([], [NEOPLASTIC])])
def test_empty_images_are_counted(true, given):
    truth = true_nuclei(*squares([*true, 0][:1]), OWN, "")
    counts = collect(
        [{"image": "", "source": ""}],
        [count_image(truth, predicted_nuclei(*squares([*given, 0][:1]), OWN, ""), OWN)],
        OWN,
    )
    assert numbers(counts, "all")[3:] == (len(true), len(given))
    [bpq] = [s for s in score(counts, resamples=2) if s.name == "bpq_image"]
    assert np.isnan(bpq.value) if not true + given else bpq.value == 0
    assert np.isnan(bpq.low)
