import numpy as np
import pytest

from cytolite.datasets.splits import held_back
from cytolite.errors import InputError

SOURCES = ["a"] * 30 + ["b"] * 8
GROUPS = [f"a{i // 3}" for i in range(30)] + [f"b{i}" for i in range(8)]


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
