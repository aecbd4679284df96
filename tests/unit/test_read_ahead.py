"""Tiles are read before they are asked for: each once, never far ahead, faults told to who asks."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cytolite.config import SegmentSettings
from cytolite.errors import SlideError
from cytolite.segmentation.read_ahead import ReadAhead
from cytolite.segmentation.slide import segment_slide
from cytolite.slides.reader import Slide, open_slide
from cytolite.slides.tiles import plan_tiles
from fakes import fake_bundle, paint, random_nuclei, write_slide

RUNS = [[tile] for tile in plan_tiles(1000, 400, 100, 0)]


def number(run):
    return np.full((1, 2, 2, 3), run[0].index, np.uint8)


def test_the_next_is_read_while_one_is_worked_on():
    next_is_read = [threading.Event() for _ in RUNS]

    def read(run):
        next_is_read[run[0].index].set()
        return number(run)

    with ReadAhead(read, RUNS, 1) as images:
        for place, run in enumerate(RUNS):
            assert (images(run) == place).all()
            if place + 1 < len(RUNS):
                assert next_is_read[place + 1].wait(60)  # nobody has asked for it yet


@pytest.mark.parametrize("workers", [1, 3])
def test_each_is_read_once_and_not_far_ahead(workers):
    read, asked, lock = [], [], threading.Lock()

    def keep(run):
        with lock:
            read.append(run[0].index)
            assert len(read) <= len(asked) + 2 * workers
        return number(run)

    def work(run):
        with lock:
            asked.append(run[0].index)
        return int(images(run)[0, 0, 0, 0])

    with ReadAhead(keep, RUNS, workers) as images, ThreadPoolExecutor(workers) as pool:
        assert list(pool.map(work, RUNS)) == list(range(len(RUNS)))
    assert sorted(read) == list(range(len(RUNS)))


def test_any_order_is_served():
    places = np.random.default_rng(0).permutation(len(RUNS))
    with ReadAhead(number, RUNS, 2) as images:
        assert [int(images(RUNS[i])[0, 0, 0, 0]) for i in places] == list(places)


def test_a_fault_is_told_to_who_asks_for_its_run_and_who_leaves_waits_for_no_other():
    def read(run):
        if run[0].index == 1:
            raise SlideError("damaged")
        return number(run)

    with ReadAhead(read, RUNS, 1) as images:
        images(RUNS[0])
        with pytest.raises(SlideError, match="damaged"):
            images(RUNS[1])
        assert (images(RUNS[2]) == 2).all()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read")]


def test_a_slide_that_cannot_be_read_on_keeps_what_is_done(tmp_path, monkeypatch):
    """And the run that goes on from there finds what an undisturbed one finds."""
    truth = random_nuclei(np.random.default_rng(5), (400, 500), 200, gap=1)
    path, bundle = write_slide(tmp_path / "a.tif", paint(*truth)), fake_bundle(tmp_path / "model")
    settings = SegmentSettings(tissue="all", tile=128, halo=32, workers=1)
    read, calls = Slide.read, []

    def failing(self, x, y, width, height, mpp):
        if width == 192 and mpp == pytest.approx(bundle.spec.mpp):
            calls.append((x, y))
            if len(calls) == 4:
                raise OSError("unplugged")
        return read(self, x, y, width, height, mpp)

    with open_slide(path) as slide:
        segment_slide(slide, tmp_path / "whole", bundle, settings)
        monkeypatch.setattr(Slide, "read", failing)
        with pytest.raises(SlideError, match="unplugged"):
            segment_slide(slide, tmp_path / "resumed", bundle, settings)
        assert len(list((tmp_path / ".resumed.partial" / "tiles").glob("*.npz"))) >= 3  # those before it
        monkeypatch.setattr(Slide, "read", read)
        segment_slide(slide, tmp_path / "resumed", bundle, settings)
    for name in ("cells.parquet", "summary.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "resumed" / name).read_bytes()
