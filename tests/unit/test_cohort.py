"""Many slides: what is said before, kept meanwhile and collected after a run; outlines made simpler."""

import csv
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely

from cytolite import pipeline
from cytolite.cells import CellTable
from cytolite.config import SegmentSettings
from cytolite.drawing.cohort_page import outliers
from cytolite.errors import InputError, SlideError, UsageError
from cytolite.interop.parquet import read_cells
from cytolite.interop.simplify import Simplified
from cytolite.segmentation.checkpoint import MOST_DEATHS, WorkFolder
from cytolite.segmentation.cohort import Ledger
from cytolite.segmentation.slide_list import Entry
from cytolite.slides.tiles import plan_tiles
from fakes import fake_bundle, paint, random_nuclei, write_slide

SETTINGS = {"tissue": "all", "tile": 256, "halo": 32, "workers": 1}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Two slides, a file that is none, their list, and what a run over them leaves."""
    folder = tmp_path_factory.mktemp("cohort")
    for seed, name in enumerate(("a", "b")):
        truth = random_nuclei(np.random.default_rng(seed), (300, 300), 60)
        write_slide(folder / f"{name}.tif", paint(*truth))
    (folder / "c.svs").write_text("no slide")
    rows = "path,id,mpp,patient,cells\na.tif,A,,=P1,x\nb.tif,B,0.4,P2,y\nc.svs,C,,P3,z\n"
    (folder / "list.csv").write_text(rows)
    settings = SegmentSettings(model=str(fake_bundle(folder).path), **SETTINGS)
    pipeline.segment_slides([], folder / "out", settings, slide_list=folder / "list.csv")
    return folder, settings


def table(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_the_log_says_what_became_of_each_slide(cohort):
    lines = [line.partition(" ") for line in (cohort[0] / "out" / "cohort.log").read_text().splitlines()]
    assert all(re.fullmatch(r"[-0-9T:+]{25}", when) for when, _, _ in lines)
    told = [text for _, _, text in lines]
    assert (told[0], told[-1]) == ("started with 3 slides", "ended")
    assert [text.split(":")[0] for text in told[1:-1]] == ["A done", "B done", "C failed"]
    assert "is not a slide that can be read" in told[3]


def test_the_table_says_what_the_results_say(cohort):
    out = cohort[0] / "out"
    a, b = table(out / "cohort.csv")
    assert (a["id"], a["slide"], a["patient"], a["list_cells"], b["mpp"]) == ("A", "a.tif", "'=P1", "x", "0.4")
    for row in (a, b):
        summary = json.loads((out / row["id"] / "summary.json").read_text())
        assert int(row["cells"]) == summary["total"]["cells"] == len(read_cells(out / row["id"] / "cells.parquet"))
        assert float(row["lymphocyte_fraction"]) == summary["total"]["types"]["lymphocyte"]["fraction"]
    parquet = pq.read_table(out / "cohort.parquet").to_pylist()
    assert [row["cells"] for row in parquet] == [int(a["cells"]), int(b["cells"])]
    assert parquet[0]["patient"] == "=P1"
    [failure] = table(out / "failures.csv")
    assert failure["id"] == "C"
    assert "is not a slide that can be read" in failure["message"]


def test_collect_makes_the_same_again_from_the_results_alone(cohort):
    out = cohort[0] / "out"
    before = (out / "cohort.csv").read_bytes()
    state = (out / "cohort.json").read_bytes()
    (out / "cohort.csv").unlink()
    (out / "cohort.json").unlink()
    pipeline.collect(out)
    assert (out / "cohort.csv").read_bytes() == before
    assert table(out / "failures.csv") == []  # nothing but cohort.json knew of it
    (out / "cohort.json").write_bytes(state)
    assert len(pipeline.collect(out).failures) == 1


def test_a_damaged_result_is_a_failure_and_costs_no_other(cohort, tmp_path):
    import shutil

    shutil.copytree(cohort[0] / "out", tmp_path / "out")
    (tmp_path / "out" / "A" / "summary.json").write_text("{")
    found = pipeline.collect(tmp_path / "out")
    assert [row["id"] for row in found.rows] == ["B"]
    assert any("is damaged" in failure["message"] for failure in found.failures)
    with pytest.raises(UsageError, match="holds no results"):
        pipeline.collect(tmp_path)


def test_status_tells_of_all_slides(cohort, tmp_path):
    told = pipeline.status(cohort[0] / "out")
    assert told.startswith("3 slides: 2 done, 1 failed\nended; ")
    assert "C: failed: " in told
    with pytest.raises(UsageError, match="of a run over several slides"):
        pipeline.status(tmp_path)


def test_status_counts_the_slides_of_this_run_alone_and_doubts_one_that_is_silent(tmp_path):
    slides = {
        "old": {"status": "done", "done_mm2": 1000.0, "earlier": True},
        "A": {"status": "done", "done_mm2": 6.0},
        "B": {"status": "waiting"},
    }
    state = {"running": True, "elapsed_s": 60.0, "started": "", "dashboard": "http://x", "slides": slides}
    for updated, word in ((datetime.now(UTC), "running;"), (datetime.now(UTC) - timedelta(1), "running, or killed;")):
        (tmp_path / "cohort.json").write_text(json.dumps(state | {"updated": updated.isoformat()}))
        told = pipeline.status(tmp_path)
        assert told.startswith("3 slides: 2 done, 1 waiting\n" + word)
        assert "6.00 mm² in 60 s, 0.1 mm²/s\nabout 1 min left" in told
    Ledger(tmp_path, [Entry(Path("B.tif"), SegmentSettings())], [tmp_path / "B"])
    kept = json.loads((tmp_path / "cohort.json").read_text())["slides"]
    assert {name: slide.get("earlier", False) for name, slide in kept.items()} == {"old": True, "A": True, "B": False}


def test_a_second_run_skips_and_keeps_the_rest(cohort):
    folder, settings = cohort
    (folder / "one.csv").write_text("path,id,mpp\nb.tif,B,0.4\n")
    [outcome] = pipeline.segment_slides([], folder / "out", settings, slide_list=folder / "one.csv")
    assert outcome.status == "skipped"
    assert len(table(folder / "out" / "cohort.csv")) == 2
    assert len(table(folder / "out" / "failures.csv")) == 1


def test_the_page_is_whole_and_harmless(cohort):
    page = (cohort[0] / "out" / "cohort.html").read_text()
    assert not re.search(r"(src|href)=.?(https?:)?//", page)
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert [row[0] for row in data["rows"]] == ["A", "B"]
    assert all(data["pictures"])
    assert data["groups"] == ["patient", "list_cells"]
    assert "not for diagnosis" in page


def test_outliers_are_far_from_the_median_of_eight_or_more():
    slides = [{"id": str(i), "cells_per_mm2": 100.0 + i % 5, "qc_focus": None} for i in range(10)]
    slides[3]["cells_per_mm2"] = 900.0
    assert outliers(slides) == {"3": ["cells_per_mm2"]}
    assert outliers(slides[:7]) == {}


def test_info_tells_what_a_run_finds(cohort, tmp_path):
    folder, settings = cohort
    infos = pipeline.slide_infos([], settings, slide_list=folder / "list.csv", pictures=tmp_path / "pictures")
    a, b, c = infos
    assert (a.width_px, a.height_px, a.mpp, a.mpp_from, b.mpp, b.mpp_from) == (300, 300, 0.5, "file", 0.4, "given")
    assert a.tiles == 4
    assert a.expected_s > 0
    assert a.error == ""
    assert "is not a slide" in c.error
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {"A.png", "B.png"}
    row = table(folder / "out" / "cohort.csv")[0]
    assert a.tissue_mm2 == pytest.approx(float(row["tissue_mm2"]), abs=1e-4)
    assert a.row()["qc_blur_share"] == 0


def test_a_cohort_is_converted(cohort, tmp_path):
    n, notes = pipeline.convert_cohort(cohort[0] / "out", tmp_path / "csv", "csv", simplify_um=0.5)
    assert n == sum(int(row["cells"]) for row in table(cohort[0] / "out" / "cohort.csv"))
    assert sorted(path.name for path in (tmp_path / "csv").iterdir()) == ["A.csv", "B.csv"]
    assert [note.partition(":")[0] for note in notes] == ["A", "B"]
    with pytest.raises(UsageError, match=r"--to .xls is not known"):
        pipeline.convert_cohort(cohort[0] / "out", tmp_path / "x", "xls")
    with pytest.raises(UsageError, match="holds no results"):
        pipeline.convert_cohort(tmp_path, tmp_path / "x", "csv")


@pytest.mark.parametrize("tolerance_um", [0.1, 0.5, 2.0])
def test_simpler_outlines_stay_near_and_valid(cohort, tolerance_um):
    path = cohort[0] / "out" / "A" / "cells.parquet"
    cells = read_cells(path)
    simplified = Simplified(tolerance_um / cells.mpp)
    simple = simplified.simplify(cells)
    before, after = ([shapely.Polygon(t.outline(i)) for i in range(len(t))] for t in (cells, simple))
    assert all(polygon.is_valid and polygon.area > 0 for polygon in after)
    worst = max(shapely.hausdorff_distance(a.exterior, b.exterior) for a, b in zip(before, after, strict=True))
    assert worst <= tolerance_um / cells.mpp + 1e-9
    assert len(simple.vertices) <= len(cells.vertices)
    np.testing.assert_array_equal(simple.area_um2, cells.area_um2)
    changed = sum(abs(a.area - b.area) for a, b in zip(before, after, strict=True)) / sum(a.area for a in before)
    assert f"{changed:.2%} a nucleus" in simplified.note
    assert len(Simplified(1).simplify(CellTable.empty())) == 0


def test_a_tile_that_kills_three_workers_fails_and_a_new_run_may_try_again(tmp_path):
    work, [tile, *_] = WorkFolder(tmp_path / "slide"), plan_tiles(200, 200, 100, 0)
    work.open({})
    for _ in range(10):  # an error is no death
        with pytest.raises(InputError), work.attempt(tile):
            raise InputError("no")
    killed = [work.attempt(tile) for _ in range(MOST_DEATHS)]
    for attempt in killed:
        attempt.__enter__()  # and never left, as by kill -9
    with pytest.raises(SlideError, match="3 workers died while they worked on tile 0 of slide"), work.attempt(tile):
        pass
    work.forget_attempts()
    with work.attempt(tile):
        pass
