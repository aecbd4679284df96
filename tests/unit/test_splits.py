import numpy as np
import pytest

from cytolite.datasets.splits import held_back
from cytolite.errors import InputError

SOURCES = ["a"] * 30 + ["b"] * 8
GROUPS = [f"a{i // 3}" for i in range(30)] + [f"b{i}" for i in range(8)]
BEFORE = ["a4", "a6", "b1", "b4"]


def test_a_group_stays_on_one_side_and_every_source_is_held_back():
    out = held_back(SOURCES, GROUPS, 0.2, seed=0)
    for group in set(GROUPS):
        assert len({o for o, g in zip(out, GROUPS, strict=True) if g == group}) == 1
    assert out[:30].sum() == 6  # 2 of 10 groups of 3
    assert out[30:].sum() == 2


def test_the_seed_decides_and_other_sources_do_not():
    out = held_back(SOURCES, GROUPS, 0.2, seed=0)
    np.testing.assert_array_equal(out, held_back(SOURCES, GROUPS, 0.2, seed=0))
    np.testing.assert_array_equal(out[30:], held_back(SOURCES[30:], GROUPS[30:], 0.2, seed=0))
    assert any((held_back(SOURCES, GROUPS, 0.2, seed=s) != out).any() for s in range(1, 5))


@pytest.mark.parametrize(("fraction", "groups"), [(0, GROUPS), (1, GROUPS), (0.2, ["one"] * 38)])
def test_what_cannot_be_split_is_refused(fraction, groups):
    with pytest.raises(InputError):
        held_back(SOURCES, groups, fraction, seed=0)


def test_linked_groups_share_a_side_whichever_way_they_are_linked():
    # a0 - b3, b3 - b5 (so a0 - b5), and a1 - a2; groups of a hold three patches.
    pairs = [(0, 33), (33, 35), (4, 8)]
    for seed in range(20):
        out = held_back(SOURCES, GROUPS, 0.2, seed, pairs)
        assert len({out[0], out[1], out[2], out[33], out[35]}) == 1
        assert len(set(out[3:9])) == 1
        assert (held_back(SOURCES, GROUPS, 0.2, seed) <= out).all()  # more is held back, nothing less


def test_without_duplicates_the_split_is_what_it_was():
    """Drawn once with the function as it was before it knew duplicates."""
    out = held_back(SOURCES, GROUPS, 0.2, seed=0)
    np.testing.assert_array_equal(out, held_back(SOURCES, GROUPS, 0.2, 0, []))
    assert sorted({g for g, o in zip(GROUPS, out, strict=True) if o}) == BEFORE


def test_a_source_that_is_all_duplicates_is_named():
    with pytest.raises(InputError, match="All of the source 'b' is linked"):
        held_back(["a", "a", "a", "b", "b"], ["1", "2", "3", "x", "y"], 0.4, 0, [(0, 3), (0, 4)])


@pytest.mark.parametrize("n", [2, 3, 4, 5, 7, 12, 23])
def test_folds_hold_every_group_back_once_and_the_first_is_the_usual_split(n):
    sources, groups = ["a"] * n + ["b"] * 10, [str(i) for i in range(n + 10)]
    folds = [held_back(sources, groups, 0.2, 0, fold=k) for k in range(5)]
    assert (np.sum(folds, axis=0) == 1).all()
    np.testing.assert_array_equal(folds[0], held_back(sources, groups, 0.2, 0))
    for bad in (-1, 5):
        with pytest.raises(InputError, match="allowed are 0 to 4"):
            held_back(sources, groups, 0.2, 0, fold=bad)
