"""A run on a real Dask cluster of processes: the same bytes as in one process, whoever dies meanwhile."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from command import cytolite, finished
from fakes import fake_bundle, paint, random_nuclei, write_slide

pytest.importorskip("distributed", reason="needs the extra cluster")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
COMPARED = ("cells.parquet", "cells.geojson.gz", "summary.csv", "summary.json", "tissue.geojson")
OPTIONS = ("--tissue", "all", "--tile", "128", "--halo", "32", "--workers", "1")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Three slides of 36 tiles, one that is none, the model, and what a run in one process leaves."""
    folder = tmp_path_factory.mktemp("cluster")
    for seed, name in enumerate("abc"):
        write_slide(folder / f"{name}.tif", paint(*random_nuclei(np.random.default_rng(seed), (700, 700), 400)))
    (folder / "d.svs").write_text("no slide")
    fake_bundle(folder)
    assert cytolite("segment", *command(folder, "whole")).code == 1
    return folder


def command(folder: Path, output: str, *more: str) -> list[str]:
    slides = [folder / name for name in ("a.tif", "b.tif", "c.tif", "d.svs")]
    return [*map(str, slides), "-o", str(folder / output), "--model", str(folder / "fake"), *OPTIONS, *more]


def start(folder: Path, output: str, cluster: str) -> subprocess.Popen:
    given = [sys.executable, "-m", "cytolite", "segment", *command(folder, output, "--cluster", cluster)]
    return subprocess.Popen(given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def same(folder: Path, output: str) -> None:
    assert finished(folder / output) == ["a", "b", "c"]
    for slide in "abc":
        for name in COMPARED:
            one, other = (folder / run / slide / name for run in ("whole", output))
            assert one.read_bytes() == other.read_bytes(), (slide, name)


def parts(folder: Path, output: str) -> int:
    return len(list((folder / output).glob(".*.partial/tiles/*.npz")))


def wait_for(process: subprocess.Popen, reached) -> None:
    until = time.monotonic() + 300
    while not reached() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()


def children(pid: int) -> list[int]:
    """Processes below one, whose command line says that they are Dask's workers."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for child in map(int, task.read_text().split()):
                found += [child, *children(child)]
    return [p for p in found if b"spawn_main" in command_line(p)]


def command_line(pid: int) -> bytes:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def test_the_same_bytes_and_a_second_client_is_refused(work):
    process = start(work, "plain", "local:2")
    wait_for(process, (work / "plain" / "cohort.json").exists)
    refused = cytolite("segment", *command(work, "plain", "--cluster", "local:1"))
    assert (refused.code, "Another run on a cluster is writing" in refused.err) == (1, True), refused
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1, err
    assert out.count(" nuclei in ") == 3
    assert "1 of 4 slides failed" in err
    same(work, "plain")
    state = json.loads((work / "plain" / "cohort.json").read_text())
    assert not state["running"]
    assert {name: slide["status"] for name, slide in state["slides"].items()} == {
        "a": "done", "b": "done", "c": "done", "d": "failed",
    }  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds workers in /proc")
def test_workers_that_are_killed_cost_what_they_had_in_hand(work):
    rng = np.random.default_rng(4)  # the same goals in each run; what the machine does in between differs enough
    process = start(work, "killed", "local:2")
    goal, kills = 0, 0
    for _ in range(3):
        goal += int(rng.integers(2, 12))
        wait_for(process, lambda goal=goal: parts(work, "killed") + 36 * len(finished(work / "killed")) >= goal)
        if workers := children(process.pid):
            os.kill(int(rng.choice(workers)), signal.SIGKILL)
            kills += 1
    process.communicate(timeout=300)
    assert kills >= 2
    same(work, "killed")


def test_a_worker_that_dies_while_it_starts_holds_nobody_up_at_the_end():
    code = """
import multiprocessing, os, signal, time
from cytolite.segmentation.dask_executor import connect
with connect("local:2", None) as client:
    known = set(client.run(os.getpid).values())
    os.kill(min(known), signal.SIGKILL)
    while not (new := [p for p in multiprocessing.active_children() if p.pid not in known]):
        time.sleep(0.005)
    new[0].kill()
print(len(multiprocessing.active_children()), "left")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert (ran.returncode, ran.stdout) == (0, "0 left\n"), ran.stderr


def test_a_client_that_is_killed_costs_nothing_that_is_on_disk(work):
    process = start(work, "client", "local:2")
    wait_for(process, lambda: parts(work, "client") >= 5)
    below = children(process.pid) if Path("/proc/self/task").is_dir() else []
    process.kill()
    process.communicate(timeout=300)
    kept = parts(work, "client")
    assert kept >= 5
    for pid in below:  # whose nannies end them when they notice
        until = time.monotonic() + 60
        while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
            time.sleep(0.1)
    _, err = start(work, "client", "local:2").communicate(timeout=300)
    assert "Traceback" not in err
    same(work, "client")


@pytest.mark.parametrize(
    ("cluster", "said"),
    [
        ("tcp://127.0.0.1:9", "The scheduler tcp://127.0.0.1:9 cannot be reached"),
        ("local:many", "'local:many' is not known; allowed are local, local:N, tcp://HOST:PORT"),
        ("slurm:no.toml", "The settings of Slurm no.toml cannot be read"),
    ],
)
def test_a_cluster_that_is_none(work, cluster, said):
    ran = cytolite("segment", *command(work, "none", "--cluster", cluster))
    assert ran.code == 2
    assert said in ran.sentence()
