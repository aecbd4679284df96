"""Marks and what a model finds under them, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from cytolite.celltypes import INFLAMMATORY
from cytolite.patches import OUTLINE, PRESENCE, PSEUDO, Patch
from cytolite.relabel.outlining import NOT_FOUND, OUTLINED, SHARED, UNFIT, Model, Seen, marks_of, outline, summary

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
    assert list(marks_of(patch)) == [3]
    assert not len(marks_of(outlined))


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
