"""The real server in a process of its own: its file, its end, a kill in the middle of a job and a restart."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from command import cytolite
from fakes import fake_bundle, paint, random_nuclei, write_slide

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("uvicorn", reason="needs the extra serve")


class Server:
    """`cytolite serve` with a folder of its own."""

    def __init__(self, folder: Path, *options: object) -> None:
        self.file = folder / "home" / "server.json"
        command = [sys.executable, "-m", "cytolite", "serve", "--model", folder / "fake", "--allow", folder, *options]
        self.process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=os.environ | {"CYTOLITE_HOME": str(folder / "home"), "COLUMNS": "200"},
        )  # fmt: skip
        line = self.process.stdout.readline()
        assert line.startswith("serving fake at http://127.0.0.1:"), line + self.process.communicate()[0]
        self.known = json.loads(self.file.read_bytes())

    def ask(self, method: str, path: str, **body: object) -> tuple[int, bytes]:
        request = urllib.request.Request(
            self.known["url"] + path,
            method=method,
            data=json.dumps(body).encode() if body else None,
            headers={"Authorization": f"Bearer {self.known['token']}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def report(self, job_id: str) -> dict:
        code, body = self.ask("GET", f"/jobs/{job_id}")
        assert code == 200, body
        return json.loads(body)

    def wait(self, job_id: str, reached) -> dict:
        for _ in range(30_000):
            report = self.report(job_id)
            if reached(report):
                return report
            time.sleep(0.01)
        raise AssertionError(report)

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(300)


@pytest.fixture
def folder(tmp_path):
    fake_bundle(tmp_path, tile=150, halo=32)
    instance_map, types = random_nuclei(np.random.default_rng(7), (1000, 1000), 900)
    write_slide(tmp_path / "a b.tif", paint(instance_map, types))
    return tmp_path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_file_address_and_end(folder, number):
    server = Server(folder)
    try:
        assert stat.S_IMODE(server.file.stat().st_mode) == 0o600
        assert set(server.known) == {"url", "token"}
        assert len(server.known["token"]) >= 32
        assert json.loads(server.ask("GET", "/health")[1])["status"] == "ok"
    finally:
        code = server.end(number)
    assert code == 0
    assert not server.file.exists()
    assert [path.name for path in server.file.parent.iterdir()] == ["jobs"]


def test_a_second_server_is_refused(folder, monkeypatch):
    server = Server(folder)
    try:
        monkeypatch.setenv("CYTOLITE_HOME", str(folder / "home"))
        assert "runs already" in cytolite("serve", "--model", folder / "fake").sentence()
        assert json.loads(server.file.read_bytes()) == server.known
    finally:
        server.end(signal.SIGTERM)


def test_killed_in_the_middle_it_goes_on_after_a_restart(folder):
    job = {"slide": str(folder / "a b.tif"), "tissue": "all"}
    server = Server(folder, "--workers", 1)
    job_id = json.loads(server.ask("POST", "/jobs", **job)[1])["id"]
    server.wait(job_id, lambda report: report["done_mm2"] > 0)
    server.end(signal.SIGKILL)
    assert server.file.exists()  # nobody was left to remove it
    tiles = {path: path.stat().st_mtime_ns for path in (folder / "home").rglob("*.npz")}
    assert 1 <= len(tiles) < 49

    again = Server(folder, "--workers", 1)
    try:
        assert again.known != server.known
        assert again.ask("GET", f"/jobs/{job_id}")[0] == 404
        job_id = json.loads(again.ask("POST", "/jobs", **job)[1])["id"]
        started = again.wait(job_id, lambda report: report["total_mm2"] > 0)
        assert started["done_mm2"] >= 0.9 * len(tiles) / 49 * started["total_mm2"]
        report = again.wait(job_id, lambda report: report["state"] not in {"queued", "running"})
        assert report["state"] == "done", report
        code, cells = again.ask("GET", f"/jobs/{job_id}/cells.geojson.gz")
        assert code == 200
    finally:
        assert again.end(signal.SIGTERM) == 0
    done = cytolite("segment", folder / "a b.tif", "-o", folder / "out", "--model", folder / "fake", "--tissue", "all")
    assert done.code == 0, done
    assert (folder / "out" / "a b" / "cells.geojson.gz").read_bytes() == cells


def test_ended_in_the_middle_of_a_job(folder):
    server = Server(folder, "--workers", 1)
    job_id = json.loads(server.ask("POST", "/jobs", slide=str(folder / "a b.tif"), tissue="all")[1])["id"]
    server.wait(job_id, lambda report: report["done_mm2"] > 0)
    assert server.end(signal.SIGINT) == 0
    assert 1 <= len(list((folder / "home").rglob("*.npz"))) < 49


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "--other-machines"),
        (["--host", "8.8.8.8", "--other-machines"], "cannot listen"),
        (["--port", 99999999], "cannot listen"),
        (["--allow", "/nowhere"], "no such folder"),
        (["--model", "/nowhere"], "no model"),
        (["--workers", 0], "1 to 256"),
    ],
)
def test_wrong_use_is_one_sentence(folder, monkeypatch, options, words):
    monkeypatch.setenv("CYTOLITE_HOME", str(folder / "home"))
    done = cytolite("serve", *(["--model", folder / "fake"] if "--model" not in options else []), *options)
    assert done.code == (1 if words == "cannot listen" else 2)
    *_, line = done.err.splitlines()
    assert words in line
    assert "Traceback" not in done.err
    assert not (folder / "home" / "server.json").exists()
