"""The server's interface: tokens, paths, limits, jobs, and a fuzzer over its OpenAPI description."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("httpx2", reason="asks a server without a network by httpx2")
pytest.importorskip("schemathesis", reason="asks a server whatever its schema allows")

import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from cytolite import pipeline
from cytolite.bundle import described, load_bundle, write_taught
from cytolite.celltypes import DEFAULT, TypeSet
from cytolite.classifier import Classifier
from cytolite.config import SegmentSettings
from cytolite.errors import InputError
from cytolite.inference.predictor import Model
from cytolite.loopback.allowed import AllowedFolders, NotAllowedError
from cytolite.segmentation import run as slide_run
from cytolite.serving import jobs as serving_jobs
from cytolite.serving.api import make_app
from cytolite.serving.jobs import JobQueue
from fakes import fake_bundle, paint, random_nuclei, write_slide

TOKEN = "secret"
LIMIT = 2**20
KNOWN = {"Authorization": f"Bearer {TOKEN}"}
REGION = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[[10, 10], [300, 10], [300, 200], [10, 200], [10, 10]]]},
            "properties": {"name": "Région"},
        }
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder that may be read, with a slide of 16 tiles and a link that leads out of it."""
    folder = tmp_path_factory.mktemp("allowed")
    instance_map, types = random_nuclei(np.random.default_rng(3), (500, 600), 150)
    write_slide(folder / "größe 1.tif", paint(instance_map, types))
    outside = tmp_path_factory.mktemp("outside")
    write_slide(outside / "secret.tif", paint(instance_map, types))
    (folder / "link").symlink_to(outside)
    (folder / "link.tif").symlink_to(outside / "secret.tif")
    (folder / "no slide.tif").write_text("nothing")
    return folder


@pytest.fixture(scope="module")
def client(folder, tmp_path_factory) -> Iterator[TestClient]:
    bundle = fake_bundle(tmp_path_factory.mktemp("model"))
    options = SegmentSettings(tile=150, halo=32, workers=2, quiet=True)
    with JobQueue(Model(bundle), options, tmp_path_factory.mktemp("home") / "jobs") as queue:
        app = make_app(queue, TOKEN, AllowedFolders.of([folder]), LIMIT)
        yield TestClient(app, headers=KNOWN, raise_server_exceptions=True)


def end_of(client: TestClient, job_id: str) -> dict:
    for _ in range(15_000):
        report = client.get(f"/jobs/{job_id}").json()
        if report["state"] not in {"queued", "running"}:
            return report
        time.sleep(0.02)
    raise AssertionError("the job does not end")


def submit(client: TestClient, **request: object) -> str:
    answer = client.post("/jobs", json=request)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def test_a_slide_gives_what_the_command_gives(client, folder, tmp_path):
    slide = folder / "größe 1.tif"
    report = end_of(client, submit(client, slide=str(slide), tissue="all"))
    assert (report["state"], report["error"]) == ("done", None)
    assert report["done_mm2"] == report["total_mm2"] > 0
    answer = client.get(f"/jobs/{report['id']}/cells.geojson.gz")
    assert answer.headers["content-type"] == "application/gzip"
    assert "content-encoding" not in answer.headers  # a client would unpack it on the way
    options = client.app.state.jobs.settings.model_copy(
        update={"tissue": "all", "model": str(client.app.state.jobs.model.bundle.path)}
    )
    [outcome] = pipeline.segment_slides([slide], tmp_path, options)
    assert (outcome.folder / "cells.geojson.gz").read_bytes() == answer.content
    assert outcome.cells == report["cells"] == len(json.loads(gzip.decompress(answer.content))["features"])


def test_a_taught_model_is_served_as_it_segments(folder, tmp_path):
    bundle = load_bundle(fake_bundle(tmp_path / "model").path)
    types = TypeSet.named(["small", "large"])
    classifier = Classifier(
        parent="fake 1", parent_types=tuple(DEFAULT.describe()), inputs=("area_um2",), mean=(20.0,), scale=(10.0,),
        coefficients=((-1.0,), (1.0,)), intercepts=(0.0, 0.0),
    )  # fmt: skip
    spec = bundle.spec.model_dump() | {"name": "sizes", "classifier": classifier.model_dump(), **described(types)}
    taught = write_taught(tmp_path / "sizes", bundle, type(bundle.spec)(**spec), "", "{}")
    options = SegmentSettings(workers=1, quiet=True, tissue="all", model=str(taught.path))
    with JobQueue(Model(taught), options, tmp_path / "jobs") as queue:
        client = TestClient(make_app(queue, TOKEN, AllowedFolders.of([folder]), LIMIT), headers=KNOWN)
        report = end_of(client, submit(client, slide=str(folder / "größe 1.tif")))
    assert report["error"] is None
    [outcome] = pipeline.segment_slides([folder / "größe 1.tif"], tmp_path / "out", options)
    served, wanted = (Path(it) / "cells.geojson.gz" for it in (report["result"], outcome.folder))
    assert served.read_bytes() == wanted.read_bytes()
    assert {*json.loads((Path(report["result"]) / "summary.json").read_bytes())["total"]["types"]} == {*types.names}


def searched_mm2(report) -> float:
    return json.loads((Path(report["result"]) / "summary.json").read_bytes())["total"]["searched_mm2"]


def test_regions_limit_the_work_and_results_go_where_they_shall(client, folder):
    request = {"slide": str(folder / "größe 1.tif"), "tissue": "all", "roi": REGION, "output": str(folder / "out")}
    report = end_of(client, submit(client, **request))
    assert report["result"] == str(folder / "out" / "größe 1")
    assert searched_mm2(report) == pytest.approx(290 * 190 * 0.25 / 1e6, abs=1e-6)
    # Other regions into the same folder: the older result is not taken for the answer.
    half = json.loads(json.dumps(REGION).replace("300", "155"))
    report = end_of(client, submit(client, **request | {"roi": half}))
    assert searched_mm2(report) == pytest.approx(145 * 190 * 0.25 / 1e6, abs=1e-6)


def test_the_same_again_is_answered_from_what_is_there(client, folder, monkeypatch):
    request = {"slide": str(folder / "größe 1.tif"), "mpp": 0.5, "tissue": "all"}
    first = end_of(client, submit(client, **request))
    monkeypatch.setattr(slide_run, "work_on", None)
    again = end_of(client, submit(client, **request))
    assert again["id"] != first["id"]
    assert again == first | {"id": again["id"], "seconds": 0.0, "warnings": []}


def test_parallel_requests_for_one_job_run_it_once(client, folder, monkeypatch):
    go, runs = threading.Event(), []

    def wait(slide, target, model, settings, display):
        runs.append(slide)
        go.wait(300)
        return slide_run.Outcome(slide, target, "failed", "That was it.")

    monkeypatch.setattr(serving_jobs, "segment_again", wait)
    requests = [{"slide": str(folder / "größe 1.tif"), "mpp": 0.25 * (1 + i % 3)} for i in range(30)]
    with ThreadPoolExecutor(10) as pool:
        ids = list(pool.map(lambda request: submit(client, **request), requests))
    assert len(set(ids)) == 3
    assert all(job_id == ids[i % 3] for i, job_id in enumerate(ids))
    go.set()
    assert {end_of(client, job_id)["error"] for job_id in ids} == {"That was it."}
    assert len(runs) == 3


def test_cancel_stops_between_tiles_and_the_tiles_are_used_again(client, folder, monkeypatch):
    """One that waits is cancelled at once; one that runs leaves its tiles, which the next run takes up."""
    from cytolite.segmentation.slide import TileJob

    tiles, go = [], threading.Event()
    real = TileJob.__call__

    def counted(self, run):
        tiles.append(run)
        if len(tiles) > 2:
            go.wait(300)
        return real(self, run)

    monkeypatch.setattr(TileJob, "__call__", counted)
    request = {"slide": str(folder / "größe 1.tif"), "tissue": "all", "output": str(folder / "cancelled")}
    running = submit(client, **request)
    waiting = submit(client, **request | {"mpp": 0.6})
    while client.get(f"/jobs/{running}").json()["done_mm2"] == 0:
        time.sleep(0.01)
    assert client.delete(f"/jobs/{waiting}").json()["state"] == "cancelled"
    assert client.delete(f"/jobs/{running}").json()["state"] == "running"  # its tiles in work are let end
    again = submit(client, **request)
    assert again != running
    go.set()
    assert end_of(client, running)["state"] == "cancelled"
    assert client.get(f"/jobs/{running}/cells.geojson.gz").status_code == 409
    report = end_of(client, again)
    assert report["state"] == "done"
    assert end_of(client, waiting)["state"] == "cancelled"
    assert 2 < len(tiles) <= 20 + 2  # 20 tiles, none twice but those that the cancel caught
    assert client.delete(f"/jobs/{again}").json()["state"] == "done"  # too late changes nothing


def test_a_job_that_fails_says_why_and_the_next_one_runs(client, folder):
    report = end_of(client, submit(client, slide=str(folder / "no slide.tif")))
    assert report["state"] == "failed"
    assert "no slide.tif" in report["error"]
    assert end_of(client, submit(client, slide=str(folder / "größe 1.tif"), tissue="all"))["state"] == "done"


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN},
                                    {"Authorization": "Bearer sécret".encode()}])  # fmt: skip
@pytest.mark.parametrize("path", ["/jobs/x", "/jobs/x/cells.geojson.gz", "/nothing", "//health", "/health/../jobs/x"])
def test_without_the_token_nothing_is_said(client, header, path):
    answer = TestClient(client.app).get(path, headers=header)
    assert answer.status_code == 401
    assert answer.json()["error"].startswith("The token")


def test_health_needs_no_token(client):
    answer = TestClient(client.app).get("/health")
    assert answer.json()["status"] == "ok"
    assert answer.json()["model"] == "fake 1"


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "{folder}/../../../../../etc/passwd", "{folder}/link/secret.tif", "{folder}/link.tif",
     "{folder}/link/missing.tif", "/", "{folder}extra/a.tif"],
)  # fmt: skip
@pytest.mark.parametrize("key", ["slide", "output"])
def test_paths_out_of_the_folders_are_refused(client, folder, name, key):
    request = {"slide": str(folder / "größe 1.tif")} | {key: name.format(folder=folder)}
    answer = client.post("/jobs", json=request)
    assert answer.status_code == 403, answer.text
    assert "--allow" in answer.json()["error"]


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        ({"slide": "größe 1.tif"}, 400, "not absolute"),
        ({"slide": "/a\0b"}, 400, "no path"),
        ({"slide": "{folder}/" + "a" * 400}, 400, "too long"),
        ({"slide": "{folder}/missing.tif"}, 404, "no slide"),
        ({"slide": "{folder}/größe 1.tif", "mpp": 99}, 422, "mpp"),
        ({"slide": "{folder}/größe 1.tif", "mpp": "0.5"}, 422, "mpp"),
        ({"slide": "{folder}/größe 1.tif", "tisue": "all"}, 422, "tisue"),
        ({"slide": "{folder}/größe 1.tif", "roi": {"type": "FeatureCollection", "features": []}}, 422, "features"),
        ({"slide": "{folder}/größe 1.tif", "roi": {"type": "FeatureCollection", "features": [{"a": 1}]}}, 400, "roi"),
        ({}, 422, "slide"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(client, folder, request_, status, words):
    if "slide" in request_:
        request_ = request_ | {"slide": request_["slide"].format(folder=folder)}
    answer = client.post("/jobs", json=request_)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]
    assert list(answer.json()) == ["error"]
    assert not list(client.app.state.jobs.folder.glob("*/.roi*"))


def test_large_requests_are_refused_whatever_they_announce(client):
    def endless() -> Iterator[bytes]:
        sent = 0
        while sent < 4 * LIMIT:
            yield b" " * 2**16
            sent += 2**16

    for body in (b" " * (LIMIT + 1), endless()):
        answer = client.post("/jobs", content=body)
        assert answer.status_code == 413
        assert "1 MiB" in answer.json()["error"]
    assert client.post("/jobs", content=b" " * LIMIT).status_code == 422


def test_deep_or_broken_json_is_a_sentence(client):
    for body in (b"[" * 100_000, b"{", b"\xff", b'{"slide": "\\ud800"}'):
        answer = client.post("/jobs", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in {400, 422}
        assert answer.json()["error"]


def test_too_many_jobs_wait(client, folder, monkeypatch):
    go = threading.Event()
    monkeypatch.setattr(serving_jobs, "MAX_WAITING", 3)
    monkeypatch.setattr(serving_jobs, "segment_again", lambda slide, target, *_: (
        go.wait(300), slide_run.Outcome(slide, target, "failed", "x"))[1])  # fmt: skip
    slide = str(folder / "größe 1.tif")
    ids = [submit(client, slide=slide, mpp=0.3 + i / 100) for i in range(3)]
    assert client.post("/jobs", json={"slide": slide, "mpp": 0.4}).status_code == 429
    go.set()
    for job_id in ids:
        end_of(client, job_id)


def test_old_results_are_dropped_and_old_jobs_forgotten(client, folder, tmp_path, monkeypatch):
    import os

    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    os.utime(tmp_path / "old", (0, 0))
    with JobQueue(client.app.state.jobs.model, SegmentSettings(), tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == ["new"]
    monkeypatch.setattr(serving_jobs, "MAX_REMEMBERED", 2)
    monkeypatch.setattr(
        serving_jobs, "segment_again", lambda slide, target, *_: slide_run.Outcome(slide, target, "failed", "x")
    )
    slide = str(folder / "größe 1.tif")
    ids = []
    for i in range(5):
        ids.append(submit(client, slide=slide, mpp=0.3 + i / 100))
        end_of(client, ids[-1])
    assert [client.get(f"/jobs/{job_id}").status_code for job_id in ids] == [404, 404, 404, 200, 200]


def test_allowed_folders(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "alias").symlink_to(tmp_path / "a")
    allowed = AllowedFolders.of([tmp_path / "alias"])
    assert allowed.resolve(str(tmp_path / "alias" / "x.svs")) == (tmp_path / "a" / "x.svs").resolve()
    for name in (tmp_path, tmp_path / "ab", tmp_path / "loop"):
        with pytest.raises((NotAllowedError, InputError)):
            allowed.resolve(str(name))
    with pytest.raises(InputError, match="no such folder"):
        AllowedFolders.of([tmp_path / "missing"])


@pytest.mark.slow
def test_the_description_holds_against_a_fuzzer(client, folder, monkeypatch):
    """Bounded: every operation gets some dozens of requests, valid and not; nothing may break what is described."""
    monkeypatch.setattr(
        serving_jobs, "segment_again", lambda slide, target, *_: slide_run.Outcome(slide, target, "failed", "x")
    )
    known = submit(client, slide=str(folder / "größe 1.tif"), mpp=0.77)
    schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
    codes = Counter()

    def check(case) -> None:
        if (
            case.meta.generation.mode == GenerationMode.POSITIVE and codes.total() % 2
        ):  # or hardly any would come past the first check
            if isinstance(case.body, dict) and isinstance(case.body.get("slide"), str):
                case.body["slide"] = str(folder / "größe 1.tif")
            if "job_id" in case.path_parameters:
                case.path_parameters["job_id"] = known
        # A path or a region can be wrong in ways that no schema says.
        answer = case.call_and_validate(headers=KNOWN, excluded_checks=[positive_data_acceptance])
        codes[answer.status_code] += 1

    quiet = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    limits = settings(max_examples=30, deadline=None, suppress_health_check=quiet, database=None, derandomize=True)
    for operation in schema.get_all_operations():
        for mode in GenerationMode:
            with suppress(Unsatisfiable):  # where nothing can be sent that is wrong
                limits(given(case=operation.ok().as_strategy(generation_mode=mode))(check))()
    assert {200, 201, 400, 404, 409, 422} <= set(codes), codes
    assert max(codes) < 500
