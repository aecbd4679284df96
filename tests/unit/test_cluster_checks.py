"""What a worker of a cluster finds wrong, called as Dask would call it: each is a sentence that names its host."""

import errno
import socket
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cytolite.bundle import load_bundle
from cytolite.config import SegmentSettings
from cytolite.errors import BundleError, InputError, OutputError
from cytolite.segmentation import tile_work
from cytolite.segmentation.checkpoint import writing
from cytolite.segmentation.plan import Grid
from cytolite.segmentation.slide_list import Entry
from cytolite.slides.tiles import plan_tiles

dask_executor = pytest.importorskip("cytolite.segmentation.dask_executor", reason="needs the extra cluster")
HOST = socket.gethostname()


@pytest.fixture(scope="module")
def expected():
    bundle = load_bundle()
    return dask_executor.Expected(dask_executor.version("cytolite"), bundle.path, bundle.sha256)


def test_a_worker_like_the_client_is_taken(expected, tmp_path):
    assert dask_executor._look([expected], tmp_path) == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": "0.0.1"}, "this is 0.0.1: install the same on all hosts"),
        ({"bundle_sha256": "0" * 64}, "has another network in"),
        ({"bundle": Path("nowhere")}, "cannot use the model"),
    ],
)
def test_another_version_or_model_is_named_before_and_by_slides_that_come_later(expected, tmp_path, change, said):
    other = replace(expected, **change)
    complaint = dask_executor._look([expected, other], tmp_path)
    assert said in complaint
    assert HOST in complaint
    slide = tmp_path / "slide.tif"
    slide.touch()
    outcome = dask_executor.do_slide(Entry(slide, SegmentSettings()), tmp_path / "out", other)
    assert (outcome.status, outcome.message) == ("failed", complaint)


def test_tiles_are_refused_by_a_worker_that_is_not_as_planned(expected, tmp_path):
    grid = Grid(0.5, 1, 1.0, 100, 100)
    work = tile_work.TileWork(
        tmp_path / "s.tif", SegmentSettings(), expected.bundle, expected.bundle_sha256, grid, tmp_path / "s", "0.0.1"
    )
    with pytest.raises(InputError, match=r"the run was started with 0\.0\.1: install the same"):
        work(())
    with pytest.raises(BundleError, match="has another network"):
        replace(work, version=expected.version, bundle_sha256="0" * 64)(())


def test_output_and_slides_that_a_worker_does_not_see(expected, tmp_path):
    complaint = dask_executor._look([expected], tmp_path / "unseen" / "mark")
    assert (
        complaint == f"A worker on {HOST} does not see {tmp_path / 'unseen'}: name a folder on storage that all share."
    )
    outcome = dask_executor.do_slide(Entry(tmp_path / "no.svs", SegmentSettings()), tmp_path / "no", expected)
    assert outcome.status == "failed"
    assert f"no.svs is not there on the host {HOST}" in outcome.message


@dataclass(frozen=True)
class FullDisk:
    folder: Path

    def __call__(self, tiles):
        with writing(self.folder):
            raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_on_one_host_names_it(tmp_path):
    (tmp_path / ".slide.partial").mkdir()
    [tile] = plan_tiles(100, 100, 128, 16)
    with pytest.raises(OutputError, match=r"The disk is full: .* are kept \(on the host") as raised:
        dask_executor.do_runs(FullDisk(tmp_path / "slide"), [[tile]])
    assert str(raised.value).endswith(f"(on the host {HOST}).")
    assert not list((tmp_path / ".slide.partial" / "attempts").iterdir())  # nobody died of it
