"""Marks and what a model finds under them, by hand."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from cytolite import pipeline
from cytolite.celltypes import INFLAMMATORY, TypeSet
from cytolite.datasets.store import Stores, write_store
from cytolite.errors import UsageError
from cytolite.patches import OUTLINE, PRESENCE, PSEUDO, Patch
from cytolite.relabel.outlining import NOT_FOUND, OUTLINED, SHARED, UNFIT, Model, Seen, outline, summary
from fakes import fake_bundle, paint, random_nuclei

SIDE = 40


def patch_of(marks: dict[int, tuple[slice, slice, int]], background: bool = False) -> Patch:
    """Square marks of 2 x 2 px by id: rows, columns, label; the rest is unknown, or background."""
    instances, types = np.zeros((SIDE, SIDE), np.int32), np.zeros((SIDE, SIDE), np.uint8)
    known = np.full((SIDE, SIDE), PRESENCE | OUTLINE if background else 0, np.uint8)
    for number, (rows, cols, label) in marks.items():
        instances[rows, cols], types[rows, cols], known[rows, cols] = number, label, PRESENCE
    trust = np.where(types > 0, 100, 0).astype(np.uint8)
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    return Patch("p", image, instances, types, 0.5, "s", "g", known_map=known, trust_map=trust)


def model_of(*nuclei: tuple[slice, slice], probs: float = 0.8) -> Model:
    found = np.zeros((SIDE, SIDE), np.int32)
    for number, (rows, cols) in enumerate(nuclei, 1):
        found[rows, cols] = number
    types = np.tile([0.1, 0.1, 0.3, 0.2, 0.1, 0.1, 0.1], (len(nuclei), 1))
    return Model("m", "hash", lambda patch: Seen(found, np.full(len(nuclei), probs), types))


def at(y: int, x: int, size: int = 2) -> tuple[slice, slice]:
    return slice(y, y + size), slice(x, x + size)


def test_a_point_takes_the_nucleus_under_it_as_it_is_and_weighs_by_its_probability():
    patch = patch_of({3: (*at(12, 12), INFLAMMATORY)})
    outlined, audit = outline(patch, model_of(at(10, 10, 8)))
    outlined.validate()
    nucleus = np.zeros((SIDE, SIDE), bool)
    nucleus[at(10, 10, 8)] = True
    np.testing.assert_array_equal(outlined.instance_map, nucleus * 3)
    np.testing.assert_array_equal(outlined.type_map, nucleus * INFLAMMATORY)
    np.testing.assert_array_equal(outlined.known, nucleus * (PRESENCE | PSEUDO))
    np.testing.assert_array_equal(outlined.trust, nucleus * 80)
    [row] = audit.to_pylist()
    assert (row["outcome"], row["id"], row["label"], row["model_sha256"]) == (OUTLINED, 3, "inflammatory", "hash")
    assert (row["x_px"], row["y_px"], row["area_um2"]) == (13, 13, 16)
    assert row["p_label"] == pytest.approx(0.3 + 0.2 + 0.1)
    assert row["likeliest_type"] == "lymphocyte"
    # What has an outline is no mark any more.
    assert list(patch.marks) == [3]
    assert not len(outlined.marks)


def test_what_the_model_does_not_see_or_cannot_tell_apart_stays_as_it_was():
    patch = patch_of({1: (*at(2, 2), 1), 2: (*at(20, 20), 1), 3: (*at(20, 26), 2)})
    outlined, audit = outline(patch, model_of(at(18, 18, 12), at(30, 2, 6)))
    assert [row["outcome"] for row in audit.to_pylist()] == [NOT_FOUND, SHARED, SHARED]
    for name, labels in outlined.label_maps.items():
        np.testing.assert_array_equal(labels, getattr(patch, name))
    assert "1 not found" in summary(audit)


def test_a_nucleus_that_covers_less_than_half_of_a_point_is_not_its():
    _, audit = outline(patch_of({1: (*at(10, 10, 4), 1)}), model_of((slice(10, 14), slice(13, 20))))
    assert audit["outcome"].to_pylist() == [NOT_FOUND]


@pytest.mark.parametrize(("size", "outcome"), [(8, OUTLINED), (9, OUTLINED), (20, UNFIT), (4, UNFIT)])
def test_a_box_bounds_its_nucleus(size, outcome):
    """A mark of 8 x 8 px whose inner 4 x 4 surely are nucleus; intersection over union decides."""
    patch = patch_of({1: (*at(10, 10, 8), 7)})
    known = np.zeros((SIDE, SIDE), np.uint8)
    known[at(12, 12, 4)] = PRESENCE
    patch = replace(patch, known_map=known)
    start = 12 if size == 4 else 10
    outlined, audit = outline(patch, model_of(at(start, start, size)))
    assert audit["outcome"].to_pylist() == [outcome]
    assert (outlined.type_map == 7).sum() == (size**2 if outcome == OUTLINED else 64)


def test_where_points_were_exhaustive_a_nucleus_without_one_is_neither_nucleus_nor_background():
    outlined, _ = outline(patch_of({1: (*at(12, 12), 1)}, background=True), model_of(at(10, 10, 6), at(30, 30, 5)))
    assert not outlined.known[at(30, 30, 5)].any()
    assert outlined.known[0, 0] == PRESENCE | OUTLINE
    assert (outlined.known[at(10, 10, 6)] == PRESENCE | PSEUDO).all()


def test_neighbours_keep_what_is_theirs():
    """Of two marks in touching nuclei each takes its own; a point that reaches into the other nucleus stays its own."""
    patch = patch_of({1: (slice(10, 12), slice(8, 11), 1), 2: (*at(10, 14), 2)})
    outlined, _ = outline(patch, model_of((slice(6, 16), slice(0, 10)), (slice(6, 16), slice(10, 20))))
    assert (outlined.instance_map[6:16, :10] == 1).all()
    assert (outlined.instance_map[10:12, 10] == 1).all()
    assert (outlined.instance_map == 2).sum() == 100 - 2
    assert (outlined.type_map[outlined.instance_map == 2] == 2).all()


def test_a_bundle_outlines_the_marks_of_a_store(tmp_path):
    """Painted nuclei are found as they are: what is under a mark becomes its outline, and the others stay unknown."""
    rng = np.random.default_rng(3)
    truth, _ = random_nuclei(rng, (200, 200), 30, gap=3)
    types = np.concatenate([[0], np.full(truth.max(), 3)]).astype(np.uint8)
    marked = [number for number in np.unique(truth)[1:] if (truth == number).sum() > 100][:4]
    marks = np.zeros_like(truth)
    for number in marked:
        y, x = np.argwhere(truth == number).mean(0).round().astype(int)
        marks[y - 1 : y + 1, x - 1 : x + 1] = number
    known = np.where(marks > 0, PRESENCE, 0).astype(np.uint8)
    patch = Patch(
        "p", paint(truth, types), marks.astype(np.int32), np.where(marks > 0, INFLAMMATORY, 0).astype(np.uint8), 0.5,
        "s", "g", known_map=known, trust_map=np.where(marks > 0, 100, 0).astype(np.uint8),
    )  # fmt: skip
    write_store(tmp_path / "marks.h5", [patch], {"s": "CC0-1.0"})
    told = pipeline.outline([tmp_path / "marks.h5"], tmp_path / "out", str(fake_bundle(tmp_path).path))
    assert told.startswith("s, inflammatory: 4 outlined")
    with Stores([tmp_path / "out" / "outlined.h5"]) as stores:
        outlined = stores[0]
    for number in marked:
        ours, painted = outlined.instance_map == number, truth == number
        assert (ours & painted).sum() / (ours | painted).sum() > 0.9
        assert outlined.trust[painted & ours].min() > 90
    assert set(np.unique(outlined.instance_map)) == {0, *marked}
    [*rows] = pq.read_table(tmp_path / "out" / "audit.parquet").to_pylist()
    assert {row["likeliest_type"] for row in rows} == {"lymphocyte"}


def test_a_model_of_other_types_cannot_name_marks_and_nothing_is_written(tmp_path):
    write_store(tmp_path / "marks.h5", [patch_of({1: (*at(12, 12), 1)})])
    bundle = fake_bundle(tmp_path / "model", type_set=TypeSet.named(["tumour", "other"]))
    with pytest.raises(UsageError, match=r"tells apart tumour, other, and outline is for models of the seven types"):
        pipeline.outline([tmp_path / "marks.h5"], tmp_path / "out", str(bundle.path))
    assert not (tmp_path / "out").exists()
