"""A run that is killed again and again ends with the very bytes of one that was not."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fakes import fake_bundle, paint, random_nuclei, write_slide

COMPARED = ("cells.parquet", "cells.geojson.gz", "summary.csv", "summary.json")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A slide of 49 tiles, the model, and the result of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("resume")
    instance_map, types = random_nuclei(np.random.default_rng(7), (1000, 1000), 900)
    write_slide(folder / "painted.tif", paint(instance_map, types))
    fake_bundle(folder)
    assert start(folder, "whole").wait(300) == 0
    return folder


def start(folder: Path, output: str, *options: str) -> subprocess.Popen:
    command = [
        sys.executable, "-m", "cytolite", "segment", folder / "painted.tif", "-o", folder / output, "--quiet",
        "--model", folder / "fake", "--tissue", "all", "--tile", "150", "--halo", "32", "--workers", "2", *options,
    ]  # fmt: skip
    return subprocess.Popen(list(map(str, command)))


def kill_when(process: subprocess.Popen, reached, signal_number: int = signal.SIGKILL) -> bool:
    """Send a signal as soon as `reached()`; False if the process ended before."""
    while process.poll() is None:
        if reached():
            process.send_signal(signal_number)
            process.wait(300)
            return process.returncode != 0
        time.sleep(0.001)
    return False


def test_killed_at_random_moments(work):
    rng = np.random.default_rng(5)  # the same goals in every run; what the machine does in between differs enough
    partial, final = work / "killed" / ".painted.partial", work / "killed" / "painted"
    kills, done_before = 0, 0
    for _ in range(5):
        goal = done_before + int(rng.integers(1, 9))
        was_killed = kill_when(
            start(work, "killed"), lambda goal=goal: len(list((partial / "tiles").glob("*.npz"))) >= goal
        )
        assert was_killed
        assert not final.exists()
        done = len(list((partial / "tiles").glob("*.npz")))
        assert done >= max(goal, done_before)  # what was done is kept
        kills, done_before = kills + 1, done
    # Once more while the results are being written.
    kills += kill_when(start(work, "killed"), (partial / "result" / "cells.geojson.gz").exists)
    assert start(work, "killed").wait(300) == 0
    assert kills >= 5
    same_result(final, work / "whole" / "painted")
    assert [path.name for path in (work / "killed").iterdir()] == ["painted"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_from_the_keyboard_or_ended_by_the_system(work, number, code, capfd):
    output = work / f"stopped-{code}"
    tiles = output / ".painted.partial" / "tiles"
    process = start(work, output.name)
    assert kill_when(process, lambda: len(list(tiles.glob("*.npz"))) >= 3, number)
    assert process.returncode == code
    [line] = capfd.readouterr().err.splitlines()
    assert re.fullmatch(r"error: Stopped with \d+ tiles to go; run the same command again to go on, .*kept\.", line)
    assert not (output / "painted").exists()
    assert len(list(tiles.glob("*.npz"))) < 49
    assert start(work, output.name).wait(300) == 0
    same_result(output / "painted", work / "whole" / "painted")


def test_killed_while_overwriting_keeps_the_older_result(work):
    final = work / "again" / "painted"
    assert start(work, "again").wait(300) == 0
    tiles = work / "again" / ".painted.partial" / "tiles"
    assert kill_when(start(work, "again", "--overwrite"), lambda: len(list(tiles.glob("*.npz"))) >= 3)
    same_result(final, work / "whole" / "painted")
    assert start(work, "again", "--overwrite").wait(300) == 0
    same_result(final, work / "whole" / "painted")


def same_result(found: Path, expected: Path) -> None:
    for name in COMPARED:
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name
