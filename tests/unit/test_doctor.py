"""The doctor finds what is broken, says how to mend it, and tells what is essential from what is not."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

import cytolite
from cytolite import bundle, doctor
from cytolite.cli import app, main
from cytolite.doctor import examine
from cytolite.qupath.install import install, write_python


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("CYTOLITE_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def user_dir(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user directory of a QuPath 0.6 that was started."""
    folder = home / "anywhere"
    folder.mkdir()
    monkeypatch.setattr(doctor, "started_versions", lambda: {"0.6": {"userPath": str(folder)}})
    return folder


def findings() -> dict[str, doctor.Finding]:
    return {finding.what: finding for finding in examine()}


def test_a_good_installation(user_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(user_dir)
    write_python()
    with pytest.raises(SystemExit) as left:
        main(["doctor"])
    out = capsys.readouterr().out
    assert left.value.code == 0, out
    assert "All that is essential works." in out
    for words in (
        "Python: 3.",
        "ONNX Runtime: 1.",
        "nuclei-light",
        "OpenSlide: ",
        "GB free",
        "has the extension",
        "the extension calls this one",
    ):
        assert words in out
    assert all((finding.state == "good") == (finding.mend == "") for finding in examine())


def test_without_qupath_it_is_a_note(home: Path) -> None:
    found = findings()["QuPath"]
    assert found.state == "note"
    assert "cytolite qupath install" in found.mend


@pytest.mark.parametrize(
    ("preferences", "words"),
    [({}, "no user directory yet"), ({"userPath": "/gone"}, "/gone is not there any more")],
)
def test_what_is_really_so_in_a_qupath_without_a_folder(home: Path, monkeypatch, preferences, words) -> None:  # type: ignore[no-untyped-def]
    (home / "QuPath" / "v0.6").mkdir(parents=True)  # made by hand, which counts for nothing
    monkeypatch.setattr(doctor, "started_versions", lambda: {"0.6": preferences})
    found = findings()["QuPath 0.6"]
    assert (found.state, words in found.found) == ("note", True)
    assert "onto its window" in found.mend


def test_an_extension_that_is_missing_or_of_another_version(user_dir: Path) -> None:
    assert "has no extension of cytolite" in findings()["QuPath 0.6"].found
    install(user_dir).rename(user_dir / "extensions" / "cytolite-qupath-0.0.1.jar")
    found = findings()["QuPath 0.6"]
    assert (found.state, "the extension 0.0.1" in found.found) == ("bad", True)
    assert "cytolite qupath install" in found.mend


@pytest.mark.parametrize(
    ("python", "state", "words"),
    [
        ("/gone/python", "bad", "not there any more"),
        (shutil.which("sh"), "note", "another one"),
        (None, "note", "names none"),
    ],
)
def test_an_extension_that_calls_another_python(user_dir: Path, python: str | None, state: str, words: str) -> None:
    if python:
        write_python(python)
    found = findings()["QuPath's Python"]
    assert (found.state, words in found.found) == (state, True)
    assert "cytolite qupath install" in found.mend


def test_for_programs_it_is_one_object(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What QuPath's extension reads; its menu has entries for commands that are there, and no others."""
    with pytest.raises(SystemExit) as left:
        main(["doctor", "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert left.value.code == 0
    assert answer["version"] == cytolite.__version__
    assert answer["models"] == bundle.embedded_names()
    assert {"what", "state", "found", "mend"} == set(answer["findings"][0])
    assert {"teach", "apply", "spatial", "view"} <= set(answer["verbs"])
    assert all(verb in app for verb in answer["verbs"])


@pytest.mark.parametrize("name", bundle.embedded_names())
def test_a_damaged_model(name: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:  # type: ignore[no-untyped-def]
    copy = tmp_path / "assets"
    shutil.copytree(bundle.ASSETS, copy)
    weights = copy / name / "model.onnx"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    monkeypatch.setattr(bundle, "ASSETS", copy)
    with pytest.raises(SystemExit) as left:
        main(["doctor"])
    out = capsys.readouterr().out
    assert left.value.code == 1
    assert "FAILS  model: " in out
    assert "force-reinstall" in out
    assert "1 thing to mend." in out


@pytest.mark.parametrize(("module", "what"), [("onnxruntime", "ONNX Runtime"), ("openslide", "OpenSlide")])
def test_a_missing_package(home: Path, monkeypatch: pytest.MonkeyPatch, module: str, what: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    found = findings()
    assert found[what].state == "bad"
    assert f"pip install --force-reinstall {module}" in found[what].mend
    assert sys.executable in found[what].mend


def test_another_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.sys, "version_info", (3, 10, 1))
    assert next(examine()).state == "bad"


def test_little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 10**12, 10**9))
    [found, *_] = doctor._disk()
    assert found.state == "note"
    assert "1.0 GB free" in found.found
