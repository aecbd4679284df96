"""The doctor finds what is broken, says how to mend it, and tells what is essential from what is not."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from cytolite import bundle, doctor
from cytolite.cli import main
from cytolite.doctor import examine
from cytolite.qupath.install import install, installation


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    return tmp_path


def findings() -> dict[str, doctor.Finding]:
    return {finding.what: finding for finding in examine()}


def test_a_good_installation(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "QuPath" / "v0.6").mkdir(parents=True)
    install(installation(home / "QuPath" / "v0.6"))
    with pytest.raises(SystemExit) as left:
        main(["doctor"])
    out = capsys.readouterr().out
    assert left.value.code == 0, out
    assert "All that is essential works." in out
    for words in ("Python: 3.", "ONNX Runtime: 1.", "nuclei-light", "OpenSlide: ", "GB free", "QuPath 0.6: scripts in"):
        assert words in out
    assert all((finding.state == "good") == (finding.mend == "") for finding in examine())


def test_without_qupath_it_is_a_note(home: Path) -> None:
    found = findings()["QuPath"]
    assert found.state == "note"
    assert "cytolite qupath install" in found.mend


@pytest.mark.parametrize(
    ("python", "state", "words"),
    [
        ("/gone/python", "bad", "not there any more"),
        (shutil.which("sh"), "note", "another Python"),
        (None, "note", "has no scripts"),
    ],
)
def test_scripts_that_call_another_python(home: Path, python: str | None, state: str, words: str) -> None:
    folder = home / "QuPath" / "v0.7"
    folder.mkdir(parents=True)
    if python:
        install(installation(folder), python)
    found = findings()["QuPath 0.7"]
    assert (found.state, words in found.found) == (state, True)
    assert "cytolite qupath install" in found.mend


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
