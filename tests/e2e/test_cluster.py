"""A run on a real Dask cluster of processes: the same bytes as in one process, whoever dies meanwhile."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pytest

from command import cytolite, finished
from fakes import fake_bundle, paint, random_nuclei, write_slide

pytest.importorskip("distributed", reason="needs the extra cluster")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
COMPARED = ("cells.parquet", "cells.geojson.gz", "summary.csv", "summary.json", "tissue.geojson")
SLURM = Path(__file__).parents[1] / "slurm" / "slurm.sh"
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


def start(folder: Path, output: str, cluster: str, *more: str, before: Sequence[str] = ()) -> subprocess.Popen:
    given = [
        *before,
        sys.executable,
        "-m",
        "cytolite",
        "segment",
        *command(folder, output, "--cluster", cluster, *more),
    ]
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
from cytolite.segmentation.dask_cluster import connect
other = multiprocessing.Process(target=time.sleep, args=(60,))
other.start()
with connect("local:2", None) as client:
    known = {other.pid} | set(client.run(os.getpid).values())
    os.kill(min(known - {other.pid}), signal.SIGKILL)
    while not (new := [p for p in multiprocessing.active_children() if p.pid not in known]):
        time.sleep(0.005)
    new[0].kill()
print(*(p is other for p in multiprocessing.active_children()), "left")
other.kill()
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert (ran.returncode, ran.stdout) == (0, "True left\n"), ran.stderr


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


class Hosts:
    """A scheduler with two workers, each a process as an administrator starts it; `inside` says on which host."""

    def __init__(self, host: str, port: int, inside: Sequence[Sequence[str]] = ((), ())) -> None:
        self.address, self.processes = f"tcp://{host}:{port}", []
        self._dask(inside[0], "scheduler", "--host", host, "--port", str(port))
        for before in inside:
            self._dask(before, "worker", self.address, "--nthreads", "1", "--no-nanny")

    def _dask(self, before: Sequence[str], *given: str) -> None:
        command = [*before, sys.executable, "-m", "dask", *given, "--no-dashboard"]
        self.processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def blind_to(*folders: Path) -> list[str]:
    """Words that start a program for which these folders are empty, as on a host that does not share them."""
    hide = "".join(f"mount -t tmpfs none '{folder}' && " for folder in folders)
    words = ["unshare", "--mount", "sh", "-c", f'{hide}exec "$@"', "sh"]
    if shutil.which("unshare") is None or subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("folders are hidden from a process by unshare, and by the right to mount")
    return words


def test_workers_that_share_no_storage_send_what_they_find_whoever_dies(work):
    (work / "sent").mkdir()
    (work / "far").mkdir()
    shutil.copy(work / "a.tif", work / "far" / "e.tif")
    blind = blind_to(work / "sent", work / "fake", work / "far")
    port = free_port()
    with Hosts("127.0.0.1", port, [blind, blind]) as hosts:
        process = start(work, "sent", hosts.address, str(work / "far" / "e.tif"))
        wait_for(process, lambda: parts(work, "sent") >= 5)
        hosts.processes[1].kill()
        goal = parts(work, "sent") + 10
        wait_for(process, lambda: parts(work, "sent") + 36 * len(finished(work / "sent")) >= goal)
        hosts.processes[0].kill()
        _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert f"The scheduler {hosts.address} is gone" in err
    assert "Traceback" not in err
    kept = parts(work, "sent") + 36 * len(finished(work / "sent"))
    assert kept >= goal
    with Hosts("127.0.0.1", port, [blind, blind]) as hosts:
        out, err = start(work, "sent", hosts.address, str(work / "far" / "e.tif")).communicate(timeout=300)
    assert "Traceback" not in err
    assert out.count(" nuclei in ") + kept // 36 >= 3
    assert f"{work / 'sent'} is not seen by {socket.gethostname()}: what workers find comes back" in err
    assert f"{work / 'far' / 'e.tif'} does not exist: check the path of the slide (on the host" in err
    assert "parts sent through the scheduler" in (work / "sent" / "cohort.log").read_text()
    assert not [path for path in (work / "sent").iterdir() if path.name.startswith(".seen")]
    same(work, "sent")


def test_a_scheduler_that_is_killed_ends_the_run_and_the_same_command_goes_on(work):
    port = free_port()
    with Hosts("127.0.0.1", port) as hosts:
        process = start(work, "tcp", hosts.address)
        wait_for(process, lambda: parts(work, "tcp") >= 5)
        hosts.processes[0].kill()
        _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Traceback" not in err
    assert f"The scheduler {hosts.address} is gone" in err
    assert "run the same command again" in err
    assert parts(work, "tcp") >= 5
    with Hosts("127.0.0.1", port) as hosts:
        _, err = start(work, "tcp", hosts.address).communicate(timeout=300)
    assert "Traceback" not in err
    same(work, "tcp")


@pytest.fixture
def two_hosts(monkeypatch):
    """Two network namespaces with a link between them; programs are started there by these words."""
    names = [f"cytolite-{os.getpid()}-{side}" for side in "ab"]

    def ip(*words: str) -> bool:
        return subprocess.run(["ip", *words], stderr=subprocess.DEVNULL, check=False).returncode == 0

    try:
        if shutil.which("ip") is None or not all(ip("netns", "add", name) for name in names):
            pytest.skip("network namespaces need the command ip, and the rights to make them")
        assert ip("-n", names[0], "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", names[1])
        for number, name in enumerate(names, 1):
            assert ip("-n", name, "link", "set", "lo", "up")
            assert ip("-n", name, "address", "add", f"10.123.0.{number}/24", "dev", "wire")
            assert ip("-n", name, "link", "set", "wire", "up")
        monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP", "11s")  # till a silent host is given up; else 30 s
        yield (
            [["ip", "netns", "exec", name] for name in names],
            lambda: ip("-n", names[1], "link", "set", "wire", "down"),
        )
    finally:
        for name in names:
            ip("netns", "delete", name)


def test_a_link_that_is_cut_costs_the_tiles_of_the_host_behind_it(work, two_hosts):
    inside, cut = two_hosts
    with Hosts("10.123.0.1", 8786, inside) as hosts:
        process = start(work, "cut", hosts.address, before=inside[0])
        wait_for(process, lambda: parts(work, "cut") + 36 * len(finished(work / "cut")) >= 8)
        assert cut()
        _, err = process.communicate(timeout=300)
    assert "Traceback" not in err
    same(work, "cut")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A real Slurm with settings for it; jobs' environment is that of the tests."""
    if shutil.which("slurmctld", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        pytest.skip("needs Slurm: tests/slurm/slurm.sh install")
    folder = tmp_path_factory.mktemp("slurm")
    started = subprocess.run([SLURM, "start", folder], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        try:
            if started.returncode:
                pytest.skip(f"Slurm cannot be started here: {started.stderr.decode(errors='replace').strip()}")
            settings = (
                'memory = "2GB"\nwalltime = "00:10:00"\nlog_directory = "%s"\n[scheduler_options]\nhost = "127.0.0.1"\n'
            )
            for queue in ("small", "none"):
                (folder / f"{queue}.toml").write_text(f'queue = "{queue}"\n' + settings % (folder / "logs"))
            yield folder
        finally:
            subprocess.run([SLURM, "stop", folder], check=False)


def jobs() -> list[str]:
    squeue = ["squeue", "--noheader", "--states=RUNNING", "--format=%i"]
    return subprocess.run(squeue, capture_output=True, text=True, check=True).stdout.split()


def test_jobs_of_slurm_leave_the_same_bytes_when_one_is_cancelled(work, slurm):
    process = start(work, "slurm", f"slurm:{slurm / 'small'}.toml", "--jobs", "2")
    wait_for(process, lambda: parts(work, "slurm") + 36 * len(finished(work / "slurm")) >= 5)
    cancelled = jobs()[0]
    subprocess.run(["scancel", cancelled], check=True)
    _, err = process.communicate(timeout=300)
    assert "Traceback" not in err
    same(work, "slurm")
    until = time.monotonic() + 60
    while jobs() and time.monotonic() < until:
        time.sleep(0.1)
    assert not jobs()  # none is left that would be paid for


def test_slurm_that_refuses_is_told_before_anything_is_done(work, slurm):
    ran = cytolite("segment", *command(work, "refused", "--cluster", f"slurm:{slurm / 'none'}.toml"))
    assert ran.code == 2
    assert "Slurm refuses such a job (invalid partition specified: none" in ran.sentence()
    assert finished(work / "refused") == []


@pytest.mark.parametrize(
    ("cluster", "said"),
    [
        ("tcp://127.0.0.1:9", "The scheduler tcp://127.0.0.1:9 cannot be reached"),
        ("local:many", "'local:many' is not known; allowed are local, local:N (from 1), tcp://HOST:PORT"),
        ("local:0", "'local:0' is not known; allowed are local, local:N (from 1)"),
        ("slurm:no.toml", "The settings of Slurm no.toml cannot be read"),
        ("local:2 --jobs 3", "--jobs 3 does not go with --cluster local:2"),
    ],
)
def test_a_cluster_that_is_none(work, cluster, said):
    ran = cytolite("segment", *command(work, "none", "--cluster", *cluster.split()))
    assert ran.code == 2
    assert said in ran.sentence()


def test_a_server_that_is_no_scheduler_is_not_waited_for(work):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        ran = cytolite("segment", *command(work, "none", "--cluster", address))
    assert ran.code == 2
    assert f"The scheduler {address} cannot be reached" in ran.sentence()
