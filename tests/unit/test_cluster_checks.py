"""What a worker of a cluster finds wrong, called as Dask would call it: each is a sentence that names its host."""

import errno
import importlib
import pickle
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from cytolite.bundle import load_bundle
from cytolite.config import SegmentSettings
from cytolite.errors import BundleError, OutputError
from cytolite.segmentation import expected as expected_module
from cytolite.segmentation.checkpoint import writing
from cytolite.segmentation.expected import Expected
from cytolite.segmentation.slide_list import Entry
from cytolite.slides.tiles import plan_tiles

pytest.importorskip("distributed", reason="needs the extra cluster")
dask_checks, dask_executor, dask_tiles = (
    importlib.import_module(f"cytolite.segmentation.{name}") for name in ("dask_checks", "dask_executor", "dask_tiles")
)
HOST = socket.gethostname()


@pytest.fixture(scope="module")
def expected():
    return Expected.of(load_bundle())


def test_a_worker_like_the_client_is_taken(expected, tmp_path):
    assert dask_checks.look([expected], tmp_path) == dask_checks.Seen(HOST, "", True, ())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": "0.0.1"}, "the run was started with 0.0.1: install the same on all hosts"),
        ({"sha256": "0" * 64}, "has another model in"),
        ({"spec_sha256": "0" * 64}, "has another model in"),
    ],
)
def test_another_version_or_model_is_named_before_and_by_slides_that_come_later(expected, tmp_path, change, said):
    other = replace(expected, **change)
    complaint = dask_checks.look([expected, other], tmp_path).complaint
    assert said in complaint
    assert HOST in complaint
    slide = tmp_path / "slide.tif"
    slide.touch()
    outcome = dask_executor.do_slide(Entry(slide, SegmentSettings()), tmp_path / "out", other, tmp_path)
    assert (outcome.status, outcome.message) == ("failed", complaint)


def test_a_model_that_is_not_there_is_asked_for_and_used_from_where_it_is_put(expected, tmp_path, monkeypatch):
    monkeypatch.setattr(expected_module, "_sent", {})
    away = replace(expected, bundle=tmp_path / "away", spec_sha256="1" * 64)
    assert dask_checks.look([expected, away], tmp_path) == dask_checks.Seen(HOST, "", True, (away,))
    with pytest.raises(BundleError, match=f"A worker on {HOST} cannot use the model"):
        away.load()
    sent = dask_checks.SentBundle(away, load_bundle())
    sent.setup(SimpleNamespace(local_directory=str(tmp_path)))
    assert dask_checks.look([away], tmp_path).lacks == ()
    with pytest.raises(BundleError, match="another model"):  # by its hash, wherever it came from
        away.load()
    here = replace(expected, bundle=tmp_path / "away")
    dask_checks.SentBundle(here, load_bundle()).setup(SimpleNamespace(local_directory=str(tmp_path)))
    assert here.load().path.parent == tmp_path


def test_output_and_slides_that_a_worker_does_not_see(expected, tmp_path):
    unseen = tmp_path / "unseen" / "mark"
    assert dask_checks.look([expected], unseen) == dask_checks.Seen(HOST, "", False, ())
    for path, probe, said in (
        (tmp_path / "no.svs", tmp_path, f"no.svs is not there on the host {HOST}"),
        (Path(__file__), unseen, f"{tmp_path} is not seen by the host {HOST}"),
    ):
        outcome = dask_executor.do_slide(Entry(path, SegmentSettings()), tmp_path / "no", expected, probe)
        assert outcome.status == "failed"
        assert said in outcome.message
    assert list(tmp_path.iterdir()) == []  # nothing is written where nobody would find it


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
        dask_tiles.do_runs(pickle.dumps(FullDisk(tmp_path / "slide")), [[tile]])
    assert str(raised.value).endswith(f"(on the host {HOST}).")
    assert not list((tmp_path / ".slide.partial" / "attempts").iterdir())  # nobody died of it
