"""Installing the extension: where QuPath's preferences say, in place of older ones, and away again without a trace."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

import cytolite
from cytolite.cli import main
from cytolite.errors import InputError, OutputError
from cytolite.qupath import preferences as qupath_preferences
from cytolite.qupath.install import (
    extension_jar,
    install,
    installed,
    installed_version,
    jar_name,
    python_file,
    read_python,
    uninstall,
    write_python,
)  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CYTOLITE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def user_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "É moi" / "v0.6"
    folder.mkdir(parents=True)
    return folder


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def test_the_extension_is_part_of_the_package() -> None:
    assert extension_jar().read_bytes()[:2] == b"PK"


@pytest.mark.parametrize("there", [{}, {"extensions/other.jar": b"x"}, {"extensions/catalogs/a.json": b"{}", "y": b""}])
def test_uninstall_leaves_what_was_there(user_dir: Path, there: dict[str, bytes]) -> None:
    (user_dir / "extensions").mkdir()
    for path, content in there.items():
        (user_dir / path).parent.mkdir(parents=True, exist_ok=True)
        (user_dir / path).write_bytes(content)
    before = tree(user_dir)
    target = install(user_dir)
    assert target == user_dir / "extensions" / f"cytolite-qupath-{cytolite.__version__}.jar"
    assert target.read_bytes() == extension_jar().read_bytes()
    first = tree(user_dir)
    install(user_dir)
    assert tree(user_dir) == first  # again is the same
    assert uninstall(user_dir) == [target]
    assert tree(user_dir) == before
    assert uninstall(user_dir) == []


def test_older_and_newer_versions_give_way(user_dir: Path) -> None:
    (user_dir / "extensions").mkdir()
    for version in ("0.0.9", "1.2.3-rc1"):
        (user_dir / "extensions" / f"cytolite-qupath-{version}.jar").write_bytes(b"old")
    (user_dir / "extensions" / "cytolite-qupath-notes.txt").write_text("mine")
    assert sorted(map(installed_version, installed(user_dir))) == ["0.0.9", "1.2.3-rc1"]
    install(user_dir)
    assert [path.name for path in installed(user_dir)] == [jar_name()]
    assert (user_dir / "extensions" / "cytolite-qupath-notes.txt").read_text() == "mine"


def test_a_failure_half_way_leaves_the_old_one(user_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk gets full, or Windows does not let go of a jar that QuPath has loaded."""
    (user_dir / "extensions").mkdir()
    (user_dir / "extensions" / "cytolite-qupath-0.0.9.jar").write_bytes(b"old")
    before = tree(user_dir)

    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="No space left"):
        install(user_dir)
    assert tree(user_dir) == before


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="onto QuPath's window"):
        install(tmp_path / "v0.6")
    assert not (tmp_path / "v0.6").exists()


@pytest.mark.parametrize("python", [r"C:\Users\it's me\new\python.exe", "/opt/é 日本😀/python", '/a$b\\u0041/${c}"d'])
def test_any_path_of_a_python_is_read_back(python: str) -> None:
    write_python(python)
    assert read_python() == python


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"python": 3}', b'{"other": ""}', b"\xff"])
def test_a_damaged_file_counts_as_none(content: bytes) -> None:
    write_python()
    python_file().write_bytes(content)
    assert read_python() is None


# ---- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    def call(preferences: dict[str, dict[str, str]], *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(qupath_preferences, "read_preferences", lambda *_: preferences)
        with pytest.raises(SystemExit) as left:
            main(["qupath", *arguments])
        return (left.value.code, *capsys.readouterr())

    return call


def test_every_version_whose_preferences_name_a_folder_gets_it(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    preferences = {}
    for version in ("0.4", "0.5", "0.10"):
        (tmp_path / version).mkdir()
        preferences[version] = {"userPath": str(tmp_path / version)}
    preferences["0.6"] = {}  # started, but never asked for a folder
    preferences["0.7"] = {"userPath": str(tmp_path / "gone")}
    code, out, _ = run(preferences, "install")
    assert code == 0
    assert [Path(line.split(": ")[0]).parent.parent.name for line in out.splitlines()[1:]] == ["0.5", "0.10"]
    assert not list((tmp_path / "0.4").iterdir())
    assert json.loads(python_file().read_bytes()) == {"python": sys.executable}
    code, out, _ = run(preferences, "uninstall")
    assert (code, out.count(": removed")) == (0, 3)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert run(preferences, "uninstall")[1] == "There was nothing of cytolite.\n"


@pytest.mark.parametrize("preferences", [{}, {"0.6": {}}])
def test_a_new_qupath_is_no_dead_end(run, tmp_path: Path, monkeypatch, preferences) -> None:  # type: ignore[no-untyped-def]
    """A folder of the usual name that was made by hand counts for nothing; the file to drag is named instead."""
    (tmp_path / "QuPath" / "v0.6").mkdir(parents=True)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    code, out, _ = run(preferences, "install")
    assert code == 0
    assert f"Drag this file onto QuPath's window, and let QuPath make its folder: {extension_jar()}" in out
    assert not list((tmp_path / "QuPath" / "v0.6").iterdir())
    assert read_python() == sys.executable


def test_a_folder_that_is_named_and_not_there(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, _, err = run({}, "install", "--user-dir", str(tmp_path / "nowhere"))
    assert code == 2
    assert "nowhere" in err
    assert err.count("\n") == 1
