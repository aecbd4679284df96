"""Installing into QuPath's folder: whole, again, beside what the user has there, and away again without a trace."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from cytolite.cli import main
from cytolite.errors import InputError, OutputError
from cytolite.qupath.install import install, installation, installed_python, uninstall


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


USERS = {
    "nothing": {},
    "own scripts": {"scripts/mine.groovy": b"print 1", "scripts/cytolite/mine.groovy": b"\xff\x00", "x/y.txt": b""},
    "own startup": {"startup.groovy": b"println 'hello'\n"},
    "own startup without an end": {"startup.groovy": b"// caf\xe9\r\nprintln 'hello'"},
    "empty startup": {"startup.groovy": b""},
    "own library": {"cytolite/notes.txt": b"mine"},
}


@pytest.mark.parametrize("name", USERS)
def test_uninstall_leaves_what_was_there(user_dir: Path, name: str) -> None:
    for path, content in USERS[name].items():
        (user_dir / path).parent.mkdir(parents=True, exist_ok=True)
        (user_dir / path).write_bytes(content)
    before = tree(user_dir)
    place = installation(user_dir)
    install(place)
    first = tree(user_dir)
    assert {path: content for path, content in first.items() if path in before and path != "startup.groovy"} == {
        path: content for path, content in before.items() if path != "startup.groovy"
    }
    assert first["startup.groovy"].startswith(before.get("startup.groovy", b""))
    install(place)
    assert tree(user_dir) == first  # again is the same
    install(place, "/another/python")
    install(place)
    assert tree(user_dir) == first  # and back
    uninstall(place)
    assert tree(user_dir) == before
    assert uninstall(place) == []


def test_what_is_written_around_the_block_stays(user_dir: Path) -> None:
    startup = user_dir / "startup.groovy"
    startup.write_bytes(b"before\n")
    place = installation(user_dir)
    install(place)
    startup.write_bytes(b"first\n" + startup.read_bytes() + b"after")
    install(place, "/another/python")
    assert startup.read_bytes().startswith(b"first\nbefore\n\n// >>>")
    assert startup.read_bytes().endswith(b"// <<< cytolite\nafter")
    uninstall(place)
    assert startup.read_bytes() == b"first\nbefore\nafter"


def test_the_startup_script_of_the_preferences(user_dir: Path, tmp_path: Path) -> None:
    """Through a link, which stays a link."""
    target, link = tmp_path / "real.groovy", tmp_path / "link.groovy"
    target.write_bytes(b"mine\n")
    link.symlink_to(target)
    place = installation(user_dir, link)
    install(place)
    assert link.is_symlink()
    assert b"cytolite" in target.read_bytes()
    assert not (user_dir / "startup.groovy").exists()
    assert uninstall(place)[-1] == link
    assert target.read_bytes() == b"mine\n"


@pytest.mark.parametrize("cut", [b"// >>> cytolite", b"// <<< cytolite"])
def test_a_damaged_block_is_refused_and_nothing_is_changed(user_dir: Path, cut: bytes) -> None:
    place = installation(user_dir)
    install(place)
    startup = user_dir / "startup.groovy"
    startup.write_bytes(b"".join(line for line in startup.read_bytes().splitlines(True) if not line.startswith(cut)))
    before = tree(user_dir)
    for work in (lambda: install(place, "/other"), lambda: uninstall(place)):
        with pytest.raises(InputError, match="were changed; remove them"):
            work()
    assert tree(user_dir) == before


def test_a_file_of_that_name_that_is_not_ours_is_kept(user_dir: Path) -> None:
    theirs = user_dir / "scripts" / "cytolite" / "Find_nuclei.groovy"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("println 'mine'")
    before = tree(user_dir)
    with pytest.raises(InputError, match=r"Find_nuclei\.groovy was not written by cytolite; rename it"):
        install(installation(user_dir))
    assert uninstall(installation(user_dir)) == []
    assert tree(user_dir) == before


def test_options_that_the_user_set_stay(user_dir: Path) -> None:
    place = installation(user_dir)
    install(place, "/old/python")
    script = place.scripts / "Find_nuclei.groovy"
    mine = "def options = ['--model', 'C:\\\\models\\\\1', '--tissue', 'all']  // mine"
    script.write_text(script.read_text().replace("def options = []", mine))
    install(place, "/new/python")
    assert mine in script.read_text()
    assert installed_python(place) == "/new/python"


@pytest.mark.parametrize("python", [r"C:\Users\it's me\new\python.exe", "/opt/é 日本😀/python", '/a$b\\u0041/${c}"d'])
def test_any_path_is_written_in_ascii_and_read_back(user_dir: Path, python: str) -> None:
    place = installation(user_dir)
    install(place, python)
    script = (place.scripts / "Find_nuclei.groovy").read_bytes()
    assert script.isascii()
    assert installed_python(place) == python


def test_no_placeholder_is_left(user_dir: Path) -> None:
    place = installation(user_dir)
    install(place)
    for path, content in tree(user_dir).items():
        assert content is None or b"@" not in content.replace(b"@CompileStatic", b"").replace(
            b"@Override", b""
        ).replace(b"@param", b""), path
    assert installed_python(place) == sys.executable


def test_a_failure_half_way_leaves_whole_files(user_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk gets full: each file is as before or as it shall be, and a second try finishes."""
    place = installation(user_dir)
    install(place, "/old/python")
    old = tree(user_dir)
    replace, calls = os.replace, []

    def full(source: Path, target: Path) -> None:
        calls.append(target)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="No space left"):
        install(place, "/new/python")
    assert len(calls) == 1
    assert tree(user_dir) == old
    monkeypatch.setattr(os, "replace", replace)
    install(place, "/new/python")
    assert installed_python(place) == "/new/python"


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="start QuPath once"):
        installation(tmp_path / "v0.6")
    assert not (tmp_path / "v0.6").exists()


# ---- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    monkeypatch.setattr(Path, "home", lambda: tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["qupath", *arguments])
        return (left.value.code, *capsys.readouterr())

    return call


def test_every_version_from_0_5_on_gets_the_scripts(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for version in ("v0.4", "v0.5", "v0.10"):
        (tmp_path / "QuPath" / version).mkdir(parents=True)
    code, out, _ = run("install")
    assert code == 0
    assert [line.split(os.sep)[-3] for line in out.splitlines()[::2]] == ["v0.5", "v0.10"]
    assert not list((tmp_path / "QuPath" / "v0.4").iterdir())
    code, out, _ = run("uninstall")
    assert code == 0
    assert out.count(": removed") > 10
    assert not [path for path in (tmp_path / "QuPath").rglob("*") if path.is_file()]
    assert run("uninstall")[1] == "There was nothing of cytolite.\n"


def test_without_qupath_one_sentence_says_what_to_do(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, out, err = run("install")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "start QuPath once" in err
    assert "--user-dir" in err
    code, _, err = run("install", "--user-dir", str(tmp_path / "nowhere"))
    assert code == 2
    assert "nowhere" in err
