"""The run over many slides: the others go on, nothing is done twice, nothing starts that cannot end."""

import errno
import hashlib
import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from cytolite import api
from cytolite.bundle import load_bundle
from cytolite.config import SegmentSettings
from cytolite.errors import BundleError, InputError, OutputError, SlideError
from cytolite.interop.result_folder import RUN_FILE
from cytolite.pipeline import segment_slides
from cytolite.segmentation import run as slide_run
from cytolite.segmentation.run import Outcome, run_record
from fakes import fake_bundle


def opened(path: Path) -> SimpleNamespace:
    """What a record says of a slide that was opened."""
    return SimpleNamespace(path=path, format="tiff", width_px=300, height_px=200, mpp=0.25)


@pytest.fixture
def model(tmp_path):
    return str(fake_bundle(tmp_path / "model").path)


@pytest.fixture
def work(monkeypatch):
    """Replace the work on one slide: what a slide's text says happens; returns the slides worked on."""
    worked = []

    def segment_slide(entry, folder, model, display, executor):
        slide, settings = entry.path, model.as_set(entry.settings)
        worked.append(slide.name)
        what = slide.read_text()
        faults = {
            "not a slide": SlideError("It is not a slide."),
            "disk full": OSError(errno.ENOSPC, "No space left on device", str(folder)),
            "memory": MemoryError(),
            "bug": ZeroDivisionError("secret"),
        }
        if what in faults:
            raise faults[what]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RUN_FILE).write_text(json.dumps(run_record(opened(slide), model.bundle, settings)))
        return Outcome(slide, folder, "done", cells=1)

    monkeypatch.setattr(slide_run, "work_on", segment_slide)
    return worked


@pytest.fixture
def make(tmp_path):
    def make(**slides: str) -> list[Path]:
        paths = [tmp_path / f"{name}.svs" for name in slides]
        for path, text in zip(paths, slides.values(), strict=True):
            path.write_text(text)
        return paths

    return make


def test_the_others_go_on(work, make, model, tmp_path, caplog):
    slides = make(a="fine a", b="not a slide", c="disk full", d="memory", e="bug", f="fine f")
    reported = []
    with caplog.at_level(logging.ERROR):
        outcomes = segment_slides(slides, tmp_path / "out", SegmentSettings(model=model), report=reported.append)
    assert [outcome.status for outcome in outcomes] == ["done", "failed", "failed", "failed", "failed", "done"]
    assert reported == outcomes
    assert [outcome.slide for outcome in outcomes] == slides
    messages = [outcome.message for outcome in outcomes]
    assert messages[1] == "It is not a slide."
    assert "No space left on device" in messages[2]
    assert "not enough memory" in messages[3]
    assert "unexpected ZeroDivisionError" in messages[4]
    assert all("\n" not in message for message in messages)
    assert "secret" in caplog.text  # a fault of ours is logged with its traceback, whatever the table says


def test_a_batch_run_again_does_what_is_left(work, make, model, tmp_path):
    settings = SegmentSettings(model=model)
    slides = make(a="fine a", b="not a slide")
    segment_slides(slides, tmp_path / "out", settings)
    slides[1].write_text("fine now")
    work.clear()
    outcomes = segment_slides(slides, tmp_path / "out", settings)
    assert [outcome.status for outcome in outcomes] == ["skipped", "done"]
    assert work == ["b.svs"]
    work.clear()
    again = segment_slides(slides, tmp_path / "out", settings.model_copy(update={"overwrite": True}))
    assert [outcome.status for outcome in again] == ["done", "done"]
    assert work == ["a.svs", "b.svs"]


def test_a_result_from_before_a_setting_came_is_one_of_its_default(work, make, model, tmp_path):
    settings, slides = SegmentSettings(model=model), make(a="fine")
    segment_slides(slides, tmp_path / "out", settings)
    path = tmp_path / "out" / "a" / RUN_FILE
    record = json.loads(path.read_text())
    del record["settings"]["tta"]
    path.write_text(json.dumps(record))
    [outcome] = segment_slides(slides, tmp_path / "out", settings)
    assert (outcome.status, outcome.warnings) == ("skipped", ())


@pytest.fixture(autouse=True)
def without_bf16(monkeypatch):
    """What ``auto`` is here must not depend on the machine that tests."""
    monkeypatch.setattr("cytolite.machine.instruction_sets", frozenset)


@pytest.mark.parametrize(
    ("change", "warned"),
    [
        ({}, False),
        ({"tile": 512, "batch": 2, "workers": 3, "quiet": True}, False),
        ({"mpp": 0.5}, True),
        ({"tissue": "all"}, True),
        ({"tta": 4}, True),
        ({"precision": "float32"}, False),
        ({"model": "other"}, True),
    ],
)
def test_a_result_made_otherwise_is_skipped_with_a_warning(work, make, model, tmp_path, change, warned):
    slides = make(a="fine")
    segment_slides(slides, tmp_path / "out", SegmentSettings(model=model))
    if "model" in change:
        change = {"model": str(fake_bundle(tmp_path / "other", mpp=0.4).path)}
    [outcome] = segment_slides(slides, tmp_path / "out", SegmentSettings(**({"model": model} | change)))
    assert outcome.status == "skipped"
    assert bool(outcome.warnings) == warned
    if warned:
        assert next(iter(change)) in outcome.warnings[0]


def test_regions_drawn_anew_under_the_same_name_are_noticed(work, make, model, tmp_path):
    slides, roi = make(a="fine"), tmp_path / "r.geojson"
    settings = SegmentSettings(model=model, roi=roi)
    region = '{"type": "Polygon", "coordinates": [[[0, 0], [%d, 0], [9, 9], [0, 0]]]}'
    warned = []
    for side in (9, 9, 8):
        roi.write_text(region % side)
        [outcome] = segment_slides(slides, tmp_path / "out", settings)
        warned.append(any("another roi" in warning for warning in outcome.warnings))
    assert warned == [False, False, True]


def test_the_same_file_is_done_once(work, make, model, tmp_path):
    [slide] = make(a="fine")
    outcomes = segment_slides([slide, str(slide), tmp_path / "*.svs"], tmp_path / "out", SegmentSettings(model=model))
    assert (len(outcomes), work) == (1, ["a.svs"])


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"slides": ["nothing/*.svs"]}, InputError),
        ({"output": Path("/proc/cytolite")}, OutputError),
        ({"model": "no such model"}, BundleError),
        ({"roi": Path("no.geojson")}, InputError),
    ],
)
def test_what_makes_all_fail_is_found_before_any_work(work, make, model, tmp_path, change, error):
    slides = change.pop("slides", make(a="fine"))
    output = change.pop("output", tmp_path / "out")
    with pytest.raises(error):
        segment_slides(slides, output, SegmentSettings(**({"model": model} | change)))
    assert work == []


def test_run_record_is_json_and_tells_settings_versions_and_hashes(make, model, tmp_path):
    [slide] = make(a="fine")
    bundle = load_bundle(model)
    roi = tmp_path / "r.geojson"
    roi.write_text("{}")
    settings = SegmentSettings(model=model, roi=roi)
    record = json.loads(json.dumps(run_record(opened(slide), bundle, settings)))
    assert record["slide"]["path"] == str(slide.resolve())
    assert record["slide"]["size_bytes"] == 4
    assert record["slide"]["mpp"] == 0.25
    assert record["model"]["onnx_sha256"] == bundle.sha256
    assert record["settings"]["roi"] == str(roi)
    assert record["roi_sha256"] == hashlib.sha256(b"{}").hexdigest()
    assert {"python", "cytolite", "numpy", "numba", "onnxruntime"} <= set(record["versions"])


def test_python_api_refuses_wrong_settings_before_any_work(work, make):
    with pytest.raises(InputError, match="tile = 3"):
        api.segment(*make(a="fine"), tile=3)
    assert work == []
