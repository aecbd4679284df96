import numpy as np
import pytest

from cytolite.metrics.assignment import assign, assign_in_parts

optimize = pytest.importorskip("scipy.optimize")


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (12, 12), (30, 18), (18, 30), (120, 140)])
@pytest.mark.parametrize("seed", range(3))
def test_pairs_are_those_of_scipy(shape, seed):
    cost = np.random.default_rng(seed).normal(size=shape)
    rows, columns = assign(cost)
    wanted = optimize.linear_sum_assignment(cost)
    np.testing.assert_array_equal(rows, wanted[0])
    np.testing.assert_array_equal(columns, wanted[1])


def test_equal_costs_have_the_same_sum():
    cost = np.random.default_rng(1).integers(0, 4, (25, 31)).astype(float)
    rows, columns = assign(cost)
    assert cost[rows, columns].sum() == cost[optimize.linear_sum_assignment(cost)].sum()
    assert len(set(columns.tolist())) == len(rows) == 25


def test_nothing_to_pair():
    assert [len(part) for part in assign(np.empty((0, 3)))] == [0, 0]
    assert len(assign_in_parts(np.empty(0, int), np.empty(0, int), np.empty(0))) == 0


@pytest.mark.parametrize("seed", range(5))
def test_parts_solved_apart_are_the_whole(seed):
    rng = np.random.default_rng(seed)
    gain = np.where(rng.random((40, 50)) < 0.04, rng.random((40, 50)), 0)
    rows, columns = np.nonzero(gain)
    chosen = assign_in_parts(rows, columns, gain[rows, columns])
    assert len(set(rows[chosen])) == len(set(columns[chosen])) == len(chosen)
    assert gain[rows[chosen], columns[chosen]].sum() == pytest.approx(gain[optimize.linear_sum_assignment(-gain)].sum())
