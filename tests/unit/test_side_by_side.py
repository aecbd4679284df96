"""Small images side by side: in their order, the same cells as alone, whatever happens to one of them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cytolite import pipeline
from cytolite.config import SegmentSettings
from cytolite.errors import BundleError, Stopped
from cytolite.interop.parquet import read_cells
from cytolite.progress import Display, silent
from cytolite.segmentation import side_by_side
from cytolite.segmentation.run import Outcome
from cytolite.segmentation.side_by_side import SideBySide
from cytolite.segmentation.slide_list import Entry
from fakes import fake_bundle, paint, random_nuclei

N = 7
SETTINGS = SegmentSettings(workers=2)


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{i}.png" for i in range(N)]
    for path in paths:
        path.write_bytes(b"small")
    return paths


def model(settings: SegmentSettings) -> SimpleNamespace:
    return SimpleNamespace(bundle=None)


def crew(paths: list[Path], models=model) -> SideBySide:  # type: ignore[no-untyped-def]
    entries = [Entry(path, SETTINGS) for path in paths]
    return SideBySide(entries, [path.with_suffix("") for path in paths], models)


def done(entry: Entry) -> Outcome:
    return Outcome(entry.path, entry.path.with_suffix(""), "done", tissue_mm2=1.0)


def test_two_at_a_time_after_the_first_and_told_in_their_order(images, monkeypatch):
    together, alone = threading.Barrier(2, timeout=60), []

    def work(entry, folder, model, display, executor=None):
        if executor is None:
            alone.append(entry.path)
        else:
            assert executor.workers == 1
            together.wait()  # broken, and the test with it, if nobody else comes
        return done(entry)

    monkeypatch.setattr(side_by_side, "try_slide", work)
    with crew(images) as run:
        assert [run.outcome(i, silent).slide for i in range(N)] == images
    assert alone == images[:1]


@pytest.mark.parametrize("why", ["large", "another format", "already there", "missing"])
def test_what_is_not_small_is_done_alone(images, monkeypatch, why):
    seen: list[str] = []
    odd = images[3]
    if why == "large":
        odd.write_bytes(b"x" * (side_by_side._MOST_BYTES + 1))
    elif why == "another format":
        images[3] = odd = odd.rename(odd.with_suffix(".dcm"))
    elif why == "already there":
        odd.with_suffix("").mkdir()
        (odd.with_suffix("") / "run.json").write_text("{}")
    else:
        odd.unlink()

    def work(entry, folder, model, display, executor=None):
        if entry.path == odd:
            assert executor is None
            assert seen.count("begun") == seen.count("ended")  # nobody else is at work
        else:
            seen.append("begun")
            seen.append("ended")
        return done(entry)

    monkeypatch.setattr(side_by_side, "try_slide", work)
    with crew(images) as run:
        assert [run.outcome(i, silent).slide for i in range(N)] == images


def test_who_stops_it_waits_for_what_has_begun_and_calls_off_the_rest(images, monkeypatch):
    begun, ended = [], []

    def work(entry, folder, model, display, executor=None):
        begun.append(entry.path)
        ended.append(entry.path)
        return done(entry)

    @contextmanager
    def stopping(title: str, unit: str = "mm2") -> Iterator[object]:
        def update(done: float, total: float) -> None:
            raise Stopped

        yield update

    monkeypatch.setattr(side_by_side, "try_slide", work)
    monkeypatch.setattr(side_by_side, "_AHEAD", 1)
    with pytest.raises(Stopped), crew(images) as run:  # noqa: PT012 - the second call raises
        run.outcome(0, silent)
        run.outcome(1, stopping)
    assert begun == ended
    assert len(begun) <= 3  # two ahead at most
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("image")]


def test_a_model_that_cannot_be_loaded_ahead_is_asked_for_again_at_its_turn(images, monkeypatch):
    monkeypatch.setattr(side_by_side, "try_slide", lambda entry, *_: done(entry))
    asked = iter(range(100))

    def models(settings):
        if next(asked) == 4:
            raise BundleError("There is no such model.")
        return model(settings)

    with crew(images, models) as run:
        assert [run.outcome(i, silent).slide for i in range(N)] == images  # asked again, it was there


def test_the_same_cells_as_alone(tmp_path, monkeypatch):
    """Through the pipeline, with one file among them that is no image."""
    instance_map, types = random_nuclei(np.random.default_rng(0), (300, 300), 20)
    image, paths = paint(instance_map, types), []
    for i in range(5):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(np.roll(image, 40 * i, axis=1)).save(paths[-1])
    paths[2].write_bytes(b"no image")
    bundle = fake_bundle(tmp_path / "model").path
    settings = SegmentSettings(model=str(bundle), mpp=0.5, tissue="all", workers=2)

    def run(name: str, display: Display = silent) -> list[Outcome]:
        return pipeline.segment_slides(paths, tmp_path / name, settings, display)

    together = run("together")
    monkeypatch.setattr(side_by_side, "_MOST_BYTES", -1)
    apart = run("apart")
    assert [o.status for o in together] == [o.status for o in apart] == ["done", "done", "failed", "done", "done"]
    for i in (0, 1, 3, 4):
        a, b = (read_cells(tmp_path / name / str(i) / "cells.parquet") for name in ("together", "apart"))
        assert len(a) > 10
        np.testing.assert_array_equal(a.vertices, b.vertices)
        np.testing.assert_array_equal(a.type_probs, b.type_probs)
