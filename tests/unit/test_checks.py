"""Warnings of a run: what fires, what does not, and where it is told."""

import json

import numpy as np
import pytest

from cytolite.cells import CellTable
from cytolite.config import SegmentSettings
from cytolite.interop.summary import Area
from cytolite.segmentation.checks import SizeTally, check_plan, check_result
from cytolite.segmentation.plan import plan_slide
from cytolite.segmentation.slide import segment_slide
from cytolite.slides.reader import open_slide
from fakes import fake_bundle, write_slide

PINK = np.full((256, 320, 3), (225, 150, 195), np.uint8)


def codes(found):
    return [warning.code for warning in found]


def tally(*areas_um2):
    sizes = SizeTally()
    for area in areas_um2:
        columns = {"area_um2": np.array(area, np.float32), "types": np.ones(len(area), np.uint8)}
        columns["centroids"] = np.zeros((len(area), 2))
        sizes.add(CellTable(**{**vars(CellTable.empty()), **columns}))
    return sizes


@pytest.mark.parametrize(
    ("areas_um2", "tissue_mm2", "expected"),
    [
        ([[30.0] * 20, [5.0] * 19], 0.1, []),
        ([[30.0] * 19, [7.9] * 20], 0.1, ["nuclei_size"]),
        ([[201.0] * 30, [30.0] * 29], 0.1, ["nuclei_size"]),
        ([[8.0] * 30, [200.0] * 30], 0.1, []),  # the limits themselves can be
        ([[5.0] * 19], 0.09, []),  # too few to tell
        ([[30.0] * 50], 1.0, []),
        ([[30.0] * 49], 1.0, ["nuclei_few"]),
        ([[30.0]], 0.7, ["nuclei_few"]),
        ([], 0.7, ["nuclei_few"]),
        ([], 0.01, ["no_nuclei"]),
        ([[30.0] * 5], 0.0, ["no_stained_tissue"]),
    ],
)
def test_nuclei_that_cannot_be(areas_um2, tissue_mm2, expected):
    assert codes(check_result(Area(1.0, tissue_mm2), tally(*areas_um2))) == expected


@pytest.mark.parametrize(
    ("file_mpp", "given", "expected"),
    [
        (0.25, None, []), (0.25, 0.27, []), (0.25, 0.28, ["mpp_differs"]), (0.25, 0.5, ["mpp_differs"]),
        (0.5, 0.25, ["mpp_differs"]), (0.7, None, []), (0.75, None, ["enlarged"]), (1.0, None, ["enlarged"]),
        (40.0, 0.25, []),  # no microscope's, so nothing to differ from
    ],
)  # fmt: skip
def test_resolutions(tmp_path, file_mpp, given, expected):
    bundle = fake_bundle(tmp_path, mpp=0.25, stride=2)
    with open_slide(write_slide(tmp_path / "s.tif", PINK, file_mpp), given) as slide:
        plan = plan_slide(slide, bundle, SegmentSettings())
        found = codes(check_plan(plan, slide, plan.areas_mm2()))
    assert [code for code in found if code in ("mpp_differs", "enlarged")] == expected


def test_warnings_reach_the_summary_and_the_record(tmp_path):
    bundle = fake_bundle(tmp_path)
    grey = np.full((600, 800, 3), 120, np.uint8) + np.arange(800, dtype=np.uint8)[None, :, None] // 8
    with open_slide(write_slide(tmp_path / "s.tif", grey, 0.5), 0.6) as slide:
        result = segment_slide(slide, tmp_path / "out", bundle, SegmentSettings(tissue="all"))
    wanted = ["mpp_differs", "not_he", "no_stained_tissue"]
    assert [code for code in codes(result.warnings) if code in wanted] == wanted
    for name in ("summary.json", "run.json"):
        content = json.loads((tmp_path / "out" / name).read_text())
        assert content["warnings"] == [vars(warning) for warning in result.warnings]
    total = json.loads((tmp_path / "out" / "summary.json").read_text())["total"]
    assert (total["tissue_mm2"], total["cells_per_mm2"]) == (0, None)
    assert total["searched_mm2"] == pytest.approx(600 * 800 * 0.36e-6)


def test_a_wrong_resolution_of_a_real_slide(shared_data, tmp_path):
    """At half of its true pixel size this slide gave one nucleus, and no word."""
    path = shared_data / "slides" / "histolab_tcga-cr-7395-01a-01-ts1.svs"
    with open_slide(path, 0.25) as slide:
        plan = plan_slide(slide, fake_bundle(tmp_path, mpp=0.25, stride=2), SegmentSettings())
        [area] = plan.areas_mm2()
        assert codes(check_plan(plan, slide, [area])) == []
    assert area.tissue_mm2 == pytest.approx(0.62, abs=0.02)
    assert codes(check_result(area, tally([30.0]))) == ["nuclei_few"]
