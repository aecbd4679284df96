"""Tiles as values: any process finds the same nuclei, wherever the files lie and whoever else is at work."""

import multiprocessing
import os
import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from cytolite.config import SegmentSettings
from cytolite.errors import BundleError
from cytolite.segmentation.checkpoint import WorkFolder
from cytolite.segmentation.expected import Expected
from cytolite.segmentation.plan import plan_key, plan_slide
from cytolite.segmentation.slide import segment_slide
from cytolite.segmentation.tile_work import TileWork
from cytolite.slides.reader import open_slide
from fakes import fake_bundle, paint, random_nuclei, write_slide

SETTINGS = SegmentSettings(tissue="all", tile=128, halo=32, workers=2)
COMPARED = ("cells.parquet", "cells.geojson.gz", "summary.csv", "summary.json", "tissue.geojson")


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    truth = random_nuclei(np.random.default_rng(5), (400, 500), 250, gap=1)
    return write_slide(tmp_path_factory.mktemp("slides") / "painted.tif", paint(*truth))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return fake_bundle(tmp_path_factory.mktemp("model"))


class Processes:
    """Every run in a fresh process, the last first: what it is given went through pickle."""

    here = False

    def run(self, job, runs, tiles_left):
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, context) as pool:
            for done, future in enumerate([pool.submit(job, run) for run in reversed(runs)], 1):
                future.result()
                tiles_left(len(runs) - done)


def segment(slide_path, bundle, folder, **more):
    with open_slide(slide_path) as slide:
        return segment_slide(slide, folder, bundle, SETTINGS, **more)


def test_other_processes_find_the_same_to_the_last_bit(painted, bundle, tmp_path):
    seen = []
    segment(painted, bundle, tmp_path / "threads")
    segment(painted, bundle, tmp_path / "processes", executor=Processes(), update=lambda *mm2: seen.append(mm2))
    for name in COMPARED:
        assert (tmp_path / "threads" / name).read_bytes() == (tmp_path / "processes" / name).read_bytes(), name
    assert seen[-1][0] == seen[-1][1] > 0


def work_of(painted, bundle, folder, **changes):
    with open_slide(painted) as slide:
        grid = plan_slide(slide, bundle, SETTINGS).grid
    return TileWork(painted, SETTINGS, replace(Expected.of(bundle), **changes), grid, folder)


def test_what_is_sent_is_what_would_be_written(painted, bundle, tmp_path):
    with open_slide(painted) as slide:
        tiles = plan_slide(slide, bundle, SETTINGS).tiles[:2]
    written, sent = (WorkFolder(tmp_path / name) for name in ("written", "sent"))
    written.open({})
    sent.open({})
    work = work_of(painted, bundle, tmp_path / "written")
    work(tiles)
    parcel = work.fetch(tiles)
    assert list(parcel.parts) == tiles
    for tile in tiles:
        sent.put(tile, parcel.parts[tile])
        one, other = written.load(tile), sent.load(tile)
        assert len(one.cells) > 0
        np.testing.assert_array_equal(one.owned, other.owned, strict=True)
        assert pickle.dumps(vars(one.cells)) == pickle.dumps(vars(other.cells))


def test_a_value_is_small_and_equal_after_pickling(painted, bundle, tmp_path):
    work = work_of(painted, bundle, tmp_path / "out")
    data = pickle.dumps(work)
    assert len(data) < 2000
    assert pickle.loads(data) == work
    assert hash(pickle.loads(data)) == hash(work)


def test_another_version_or_network_is_refused_before_any_work(painted, bundle, tmp_path):
    with pytest.raises(BundleError, match=r"A worker on .* has cytolite .*, the run was started with 0\.0\.1"):
        work_of(painted, bundle, tmp_path / "out", version="0.0.1")([])
    for other in ("sha256", "spec_sha256"):
        with pytest.raises(BundleError, match="another model"):
            work_of(painted, bundle, tmp_path / "out", **{other: "0" * 64})([])


def test_the_key_follows_the_content_and_not_the_place_or_the_date(painted, bundle, tmp_path):
    def key(path):
        with open_slide(path) as slide:
            return plan_key(plan_slide(slide, bundle, SETTINGS), path, SETTINGS, "1")

    moved = tmp_path / "mounted elsewhere" / "renamed.tif"
    moved.parent.mkdir()
    shutil.copyfile(painted, moved)
    os.utime(moved, (1, 1))
    assert key(moved) == key(painted)
    with moved.open("ab") as file:
        file.write(b"0")
    assert key(moved) != key(painted)


def test_findings_of_damage_by_several_hosts_add_up(tmp_path):
    one, other = WorkFolder(tmp_path / "slide"), WorkFolder(tmp_path / "slide")
    one.open({})
    one.add_damaged([(0, 0, 5, 5)])
    other.add_damaged([(0, 0, 5, 5), (9, 9, 5, 5)])
    one.add_damaged([(0, 0, 5, 5), (7, 7, 5, 5)])
    assert one.damaged() == other.damaged() == [(0, 0, 5, 5), (7, 7, 5, 5), (9, 9, 5, 5)]
    assert not list(one.path.rglob("*.new"))
