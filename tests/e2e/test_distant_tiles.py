"""Tiles that workers send back, on a real cluster of one process: what they are worth, and who is blamed for deaths."""

from pathlib import Path

import dask
import pytest

from cytolite.errors import SlideError, Stopped
from cytolite.segmentation.checkpoint import MOST_DEATHS, WorkFolder
from cytolite.slides.tiles import plan_tiles
from deadly_job import DeadlyJob

distributed = pytest.importorskip("distributed", reason="needs the extra cluster")
TILES = plan_tiles(128 * 6, 128, 128, 16)


@pytest.fixture(scope="module")
def workers():
    from cytolite.segmentation.dask_tiles import TOPIC, DistantWorkers

    # A death is told at once, and Dask blames all tasks that the worker had.
    config = {"distributed.scheduler.allowed-failures": 0, "distributed.deploy.lost-worker-timeout": "1h"}
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "silence_logs": 50}
    with dask.config.set(config), distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        workers = DistantWorkers(client)
        client.subscribe_topic(TOPIC, lambda event: workers.hear(event[1]))
        yield workers


def job(tmp_path: Path, **given: int) -> DeadlyJob:
    (tmp_path / "marks").mkdir(parents=True)
    WorkFolder(tmp_path / "slide").open({})
    return DeadlyJob(tmp_path / "slide", tmp_path / "marks", **given)


@pytest.mark.parametrize("deaths", [0, MOST_DEATHS - 1])
def test_all_parts_come_back_though_a_worker_dies_once_or_twice(workers, tmp_path, deaths):
    left = []
    workers.run(job(tmp_path, killer=2, deaths=deaths), [[tile] for tile in TILES], left.append)
    work = WorkFolder(tmp_path / "slide")
    assert [work._part(tile).read_bytes() for tile in TILES] == [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert work.damaged() == [(i, 0, 1, 1) for i in range(6)]
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0
    assert len(list((tmp_path / "marks").iterdir())) == deaths


def test_a_tile_that_kills_each_time_fails_its_slide_and_no_other(workers, tmp_path):
    with pytest.raises(SlideError, match="Workers died again and again at the same tiles"):
        workers.run(job(tmp_path / "bad", killer=2), [[tile] for tile in TILES], lambda left: None)
    # More only where a worker dies before its word that it begins has left: on a machine with other things to do.
    assert MOST_DEATHS <= len(list((tmp_path / "bad" / "marks").iterdir())) <= 10
    workers.run(job(tmp_path / "good"), [[tile] for tile in TILES], lambda left: None)


def test_a_run_that_is_stopped_keeps_what_came_back(workers, tmp_path):
    with pytest.raises(Stopped, match=r"Stopped with [0-6] tiles to go"):
        workers.run(job(tmp_path), [[tile] for tile in TILES], lambda left: workers.stop())
