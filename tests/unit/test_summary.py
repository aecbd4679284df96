"""Counts, fractions and densities against hand-made numbers."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from cytolite.cells import CellTable
from cytolite.celltypes import TYPE_NAMES
from cytolite.errors import InputError, OutputError
from cytolite.interop.summary import Area, SummaryCounter, summarise, write_summary_csv, write_summary_json


def make_cells(types: list[int], regions: list[int]) -> CellTable:
    n = len(types)
    empty = CellTable.empty()
    return CellTable(
        **{
            **vars(empty),
            "types": np.array(types, np.uint8),
            "regions": np.array(regions, np.int32),
            "centroids": np.zeros((n, 2)),
        }
    )


@pytest.fixture
def rows() -> list[dict]:
    counter = SummaryCounter(["tumour", "empty"])
    counter.add(make_cells([1, 1, 3], [0, 0, 0]))
    counter.add(CellTable.empty())
    counter.add(make_cells([7, 1], [-1, 0]))
    return counter.rows(Area(3.0, 2.5), [Area(0.8, 0.5), Area(0.1, 0.0)])


def test_counts_fractions_and_densities(rows: list[dict]) -> None:
    tumour, empty, total = rows
    assert [row["region"] for row in rows] == ["tumour", "empty", "total"]
    assert (tumour["cells"], tumour["neoplastic"], tumour["lymphocyte"], tumour["dead"]) == (4, 3, 1, 0)
    assert (tumour["cells_per_mm2"], tumour["neoplastic_per_mm2"]) == (8, 6)
    assert (tumour["neoplastic_fraction"], tumour["dead_fraction"]) == (0.75, 0)
    assert (total["cells"], total["dead"], total["tissue_mm2"], total["cells_per_mm2"]) == (5, 1, 2.5, 2)
    assert [row["searched_mm2"] for row in rows] == [0.8, 0.1, 3.0], "told, but nothing is divided by it"
    assert empty["cells"] == 0
    assert empty["cells_per_mm2"] is None
    assert empty["neoplastic_fraction"] is None
    for row in (tumour, total):
        assert sum(row[name] for name in TYPE_NAMES) == row["cells"]
        assert sum(row[f"{name}_fraction"] for name in TYPE_NAMES) == pytest.approx(1)
        assert sum(row[f"{name}_per_mm2"] for name in TYPE_NAMES) == pytest.approx(row["cells_per_mm2"])


def test_csv(tmp_path: Path, rows: list[dict]) -> None:
    write_summary_csv(tmp_path / "summary.csv", rows)
    with (tmp_path / "summary.csv").open(newline="", encoding="utf-8-sig") as file:
        read = list(csv.DictReader(file))
    assert len(read) == 3
    assert list(read[0]) == list(rows[0])
    assert read[0]["neoplastic_per_mm2"] == "6.0"
    assert read[1]["cells_per_mm2"] == ""
    assert len(read[0]) == 5 + 3 * 7


def test_json(tmp_path: Path, rows: list[dict]) -> None:
    write_summary_json(tmp_path / "summary.json", rows, {"slide": "a.svs"})
    read = json.loads((tmp_path / "summary.json").read_bytes())
    assert list(read) == ["notice", "slide", "total", "regions"]
    assert "not for diagnosis" in read["notice"]
    assert [region["region"] for region in read["regions"]] == ["tumour", "empty"]
    assert read["total"]["types"]["dead"] == {"count": 1, "fraction": 0.2, "per_mm2": 0.4}
    assert list(read["total"]["types"]) == list(TYPE_NAMES)


def test_names_with_commas_and_quotes_survive(tmp_path: Path) -> None:
    counter = SummaryCounter(['a, "b"\nc'])
    write_summary_csv(tmp_path / "summary.csv", counter.rows(Area(1, 1), [Area(1, 1)]))
    with (tmp_path / "summary.csv").open(newline="", encoding="utf-8-sig") as file:
        assert next(iter(csv.DictReader(file)))["region"] == 'a, "b"\nc'


def test_an_empty_slide(tmp_path: Path) -> None:
    rows = SummaryCounter().rows(Area(0.0, 0.0))
    assert len(rows) == 1
    assert rows[0]["cells"] == 0
    write_summary_json(tmp_path / "summary.json", rows)
    assert json.loads((tmp_path / "summary.json").read_bytes())["total"]["cells_per_mm2"] is None


def test_counts_do_not_depend_on_how_cells_are_cut() -> None:
    rng = np.random.default_rng(0)
    types, regions = rng.integers(1, 8, 300).tolist(), rng.integers(-1, 2, 300).tolist()
    whole, parts = SummaryCounter(["a", "b"]), SummaryCounter(["a", "b"])
    whole.add(make_cells(types, regions))
    for i in range(0, 300, 7):
        parts.add(make_cells(types[i : i + 7], regions[i : i + 7]))
    np.testing.assert_array_equal(whole.counts, parts.counts)
    assert whole.counts.sum() == 300


@pytest.mark.parametrize(("types", "regions"), [([0], [-1]), ([8], [-1]), ([1], [1])])
def test_unknown_types_and_regions_are_refused(types: list[int], regions: list[int]) -> None:
    with pytest.raises(InputError, match="known are"):
        SummaryCounter(["a"]).add(make_cells(types, regions))


def test_areas_must_fit() -> None:
    with pytest.raises(InputError, match="areas"):
        summarise(np.zeros((2, 7), np.int64), ["a"], Area(1.0, 1.0), [])


def test_a_missing_folder_is_said(tmp_path: Path, rows: list[dict]) -> None:
    for write in (write_summary_csv, write_summary_json):
        with pytest.raises(OutputError, match="cannot be written"):
            write(tmp_path / "no" / "summary", rows)
