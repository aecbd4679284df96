"""The work folder: what is kept, when it may be used, and that a result is whole or not there."""

import errno
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cytolite.cells import CellTable
from cytolite.decoding.features import FEATURE_NAMES
from cytolite.errors import OutputError
from cytolite.segmentation.checkpoint import WorkFolder
from cytolite.segmentation.stitch import TileCells
from cytolite.slides.tiles import plan_tiles

TILES = plan_tiles(200, 200, 100, 32)
KEY = {"slide": "a", "mpp": 0.1 + 0.2}


def part(tile, n=3):
    rng = np.random.default_rng(tile.index)
    lengths = rng.integers(4, 9, n)
    cells = CellTable(
        vertices=rng.integers(-40, 10**6, (lengths.sum(), 2)).astype(float),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        centroids=rng.uniform(0, 100, (n, 2)),
        types=rng.integers(1, 8, n).astype(np.uint8),
        type_probs=rng.dirichlet(np.ones(7), n).astype(np.float32),
        area_um2=rng.uniform(10, 99, n).astype(np.float32),
        regions=np.full(n, -1, np.int32),
        features={name: rng.uniform(size=n).astype(np.float32) for name in FEATURE_NAMES},
    )
    return TileCells(tile, cells, rng.uniform(size=n) < 0.5)


def same(a, b):
    np.testing.assert_array_equal(a.owned, b.owned)
    for name, column in vars(a.cells).items():
        if name != "features":
            np.testing.assert_array_equal(column, getattr(b.cells, name), strict=True)
    assert list(a.cells.features) == list(b.cells.features)
    for name, column in a.cells.features.items():
        np.testing.assert_array_equal(column, b.cells.features[name], strict=True)


@pytest.fixture
def work(tmp_path):
    work = WorkFolder(tmp_path / "slide")
    work.open(KEY)
    return work


@pytest.mark.parametrize("n", [0, 1, 50])
def test_a_part_comes_back_as_it_was(work, n):
    saved = part(TILES[1], n)
    work.save(saved)
    same(work.load(TILES[1]), saved)
    assert [work.has(tile) for tile in TILES] == [False, True, False, False]


def test_the_same_key_keeps_and_another_throws_away(work, tmp_path):
    work.save(part(TILES[0]))
    again = WorkFolder(tmp_path / "slide")
    assert not again.open(KEY)
    assert again.has(TILES[0])
    assert again.open(KEY | {"mpp": 0.3})
    assert not again.has(TILES[0])


def test_a_second_run_on_the_same_results_is_refused(work, tmp_path):
    """Processes, not threads, are what the lock is for: the second run is one."""
    code = (
        "import sys; from pathlib import Path; from cytolite.segmentation.checkpoint import WorkFolder\n"
        "with WorkFolder(Path(sys.argv[1])).alone(): print('alone')"
    )

    def other_run():
        return subprocess.run(
            [sys.executable, "-c", code, str(work.final)], capture_output=True, text=True, check=False
        )

    with work.alone():
        refused = other_run()
    assert "Another run of cytolite is writing" in refused.stderr
    assert refused.stdout == ""
    assert other_run().stdout == "alone\n"
    assert not list(tmp_path.glob("*.lock"))


def test_a_cut_off_part_is_not_done(work):
    work.save(part(TILES[0]))
    path = work._part(TILES[0])
    path.write_bytes(path.read_bytes()[:-30])
    assert not work.has(TILES[0])
    with pytest.raises(OutputError, match="delete"):
        work.load(TILES[0])


def test_a_result_appears_when_it_is_whole(work, tmp_path):
    final = tmp_path / "slide"

    def half():
        with work.result_folder() as folder:
            (folder / "run.json").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert not final.exists()
    assert work.path.exists()
    with work.result_folder() as folder:
        (folder / "run.json").write_text("whole")
        assert not final.exists()
    assert (final / "run.json").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["slide"]


def test_an_older_result_is_replaced_as_a_whole(work, tmp_path):
    final = tmp_path / "slide"
    final.mkdir()
    (final / "run.json").write_text("old")
    (final / "only_old.txt").write_text("old")
    work.open(KEY)
    with work.result_folder() as folder:
        (folder / "run.json").write_text("new")
    assert [path.name for path in final.iterdir()] == ["run.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["slide"]


def test_a_kill_between_the_renames_brings_the_older_result_back(work, tmp_path):
    old = tmp_path / ".slide.old"
    old.mkdir()
    (old / "run.json").write_text("old")
    work.save(part(TILES[0]))
    work.open(KEY)
    assert (tmp_path / "slide" / "run.json").read_text() == "old"
    assert work.has(TILES[0])
    assert not old.exists()


def test_a_folder_that_is_not_ours_is_never_replaced(tmp_path):
    final = tmp_path / "slide"
    final.mkdir()
    (final / "thesis.docx").write_text("years of work")
    with pytest.raises(OutputError, match="no result of cytolite"):
        WorkFolder(final).open(KEY)
    assert (final / "thesis.docx").exists()


def test_a_full_disk_leaves_no_part_and_no_result(work, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"disk is full.*tiles done so far are kept"):
        work.save(part(TILES[0]))
    assert not work.has(TILES[0])
    with pytest.raises(OutputError, match="disk is full"), work.result_folder():
        full()
    assert not (tmp_path / "slide").exists()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        WorkFolder(tmp_path / "file" / "slide").open(KEY)
