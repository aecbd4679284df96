"""Slides together: one table, and groups compared with effect sizes and corrected tests."""

import numpy as np
import pyarrow.parquet as pq
import pytest

pytest.importorskip("scipy", reason="needs the extra spatial")

from cytolite.errors import InputError
from cytolite.spatial.cohort import Groups, cliffs_delta, compare, read_groups, write_cohort
from cytolite.spatial.run import Measured


def outcome(folder, name, value, low=None):
    entry = {"value": value, "low": low, "high": None, "type_low": None, "type_high": None, "n": 9, "unit": "share"}
    measures = {"tumour_cell_fraction": {"whole tissue": {"tumour": entry}}}
    return Measured(folder / name, folder / name / "spatial", {"slide": f"{name}.svs", "measures": measures})


@pytest.fixture
def list_of_slides(tmp_path):
    path = tmp_path / "slides.csv"
    lines = [f"a{i}.svs,low,{i}" for i in range(5)] + [f"b{i},high,{i}" for i in range(5)]
    path.write_text("\n".join(["slide,grade,age", *lines]), encoding="utf-8-sig")
    return path


def test_cliffs_delta_by_hand():
    # Of six pairs the first is above in three, below in two, equal in one.
    assert cliffs_delta(np.array([1.0, 3.0]), np.array([1.0, 2.0, 2.5])) == pytest.approx((3 - 2) / 6)


def test_groups_that_differ_and_a_table_of_all(tmp_path, list_of_slides):
    outcomes = [outcome(tmp_path, f"a{i}", 0.1 + i / 100) for i in range(5)]
    outcomes += [outcome(tmp_path, f"b{i}", 0.6 + i / 100) for i in range(5)]
    groups = read_groups(list_of_slides, "grade", tmp_path / "out")
    pytest.importorskip("matplotlib", reason="draws")
    page = write_cohort(tmp_path / "out", outcomes, groups)
    assert "Research use only" in page.read_text()
    rows = pq.read_table(tmp_path / "out" / "spatial.parquet").to_pylist()
    assert [(r["slide"], r["grade"], r["age"]) for r in rows[:2]] == [("a0.svs", "low", "0"), ("a1.svs", "low", "1")]
    [found] = compare(rows, "grade")
    assert found.effect == 1  # every "high" above every "low"
    assert found.p == pytest.approx(2 / 252)  # exact: 2 of the ways to choose 5 of 10
    assert "tumour_cell_fraction" in (tmp_path / "out" / "comparisons.csv").read_text()


def test_three_groups_and_too_few_slides():
    rows = [
        {"measure": "density", "region": "r", "types": "t", "value": v, "g": g}
        for g, values in (("a", (1.0, 2.0, 3.0)), ("b", (4.0, 5.0, 6.0)), ("c", (7.0, 8.0, 9.0)), ("d", (1.0, 2.0)))
        for v in values
    ]
    [found] = compare(rows, "g")
    assert set(found.groups) == {"a", "b", "c"}
    assert found.effect == pytest.approx(7.2 / 8)  # H of three perfectly ordered groups of three is 7.2
    assert not compare([row for row in rows if row["g"] in "ad"], "g")


def test_tests_are_corrected_over_all_measures():
    rng = np.random.default_rng(0)
    rows = [
        {"measure": f"m{m}", "region": "r", "types": "t", "value": float(rng.normal()), "g": "ab"[i % 2]}
        for m in range(100)
        for i in range(20)
    ]
    found = compare(rows, "g")
    assert min(c.p for c in found) < 0.05
    assert all(c.q > 0.05 for c in found)
    assert [c.q for c in found] == sorted(c.q for c in found)


@pytest.mark.parametrize(
    ("text", "by", "message"),
    [
        ("slide,grade\na,1\n", "grad", "Did you mean 'grade'"),
        ("name,grade\na,1\n", "grade", "no column 'slide'"),
        ("slide,grade\na,1\na,2\n", "grade", "twice"),
        ("slide,value\na,1\n", None, "own"),
        ("folder,slide\n1,a\n", None, "own"),
        ("", None, "no column 'slide'"),
    ],
)
def test_lists_that_cannot_be_used(tmp_path, text, by, message):
    path = tmp_path / "slides.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_groups(path, by, tmp_path)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_list_is_read_as_spreadsheets_of_any_country_write_it(tmp_path, separator):
    path = tmp_path / "slides.csv"
    path.write_text("\r\n".join(separator.join(row) for row in (("grade", "slide"), ("1", "a.svs"), ("2", "b.svs"))))
    groups = read_groups(path, "grade", tmp_path)
    assert [groups.of(name, "")["grade"] for name in ("a.svs", "b.svs")] == ["1", "2"]


def test_what_belongs_together(tmp_path):
    with pytest.raises(InputError, match="--output"):
        read_groups(tmp_path / "x.csv", None, None)
    with pytest.raises(InputError, match="--slides"):
        read_groups(None, "grade", tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        read_groups(tmp_path / "x.csv", None, tmp_path)
    with pytest.raises(InputError, match="No measured slide"):
        write_cohort(tmp_path, [outcome(tmp_path, "a", 0.1)], Groups(("grade",), {"other": {"grade": "1"}}, "grade"))
