"""Files are there as a whole or not at all, whoever else writes and whatever goes wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cytolite.errors import InputError, OutputError
from cytolite.files import beside, plain_refusal, read_toml, sha256_of, whole_file, whole_folder, whole_path, write_text


def test_a_file_appears_when_its_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with whole_file(target) as file:
        file.write(b"new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_an_error_in_the_block_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "µm²")

    def fail() -> None:
        with whole_path(target) as part:
            part.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert target.read_bytes() == "µm²".encode()
    assert os.listdir(tmp_path) == ["a.txt"]


def test_an_error_about_another_file_is_not_about_writing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "a.txt"):
        (tmp_path / "input.txt").read_text()
    with pytest.raises(OutputError, match=r"no/a\.txt cannot be written"), whole_file(tmp_path / "no" / "a.txt"):
        pass
    with pytest.raises(OutputError, match="No space left"), whole_file(tmp_path / "a.txt"):
        raise OSError(28, "No space left on device")
    with pytest.raises(OutputError, match="x cannot be written"), plain_refusal(Path("x")):
        raise PermissionError(13, "Permission denied", "y")


def test_a_folder_is_replaced_only_when_it_may_be(tmp_path: Path) -> None:
    target = tmp_path / "f"
    with whole_folder(target) as part:
        (part / "a").write_text("1")
    with pytest.raises(OutputError, match="there already"), whole_folder(target):
        pass
    with pytest.raises(ZeroDivisionError), whole_folder(target, replace=True) as part:
        raise ZeroDivisionError
    assert os.listdir(target) == ["a"]
    with whole_folder(target, replace=True) as part:
        (part / "b").write_text("2")
    assert os.listdir(target) == ["b"]
    assert os.listdir(tmp_path) == ["f"]


def test_names_are_unique_and_short_and_leftovers_of_the_dead_go(tmp_path: Path) -> None:
    target = tmp_path / ("ü" * 120 + ".parquet")  # 248 bytes: a longer name than this one's would be refused
    names = {beside(target) for _ in range(100)}
    assert len(names) == 100
    write_text(target, "fits")
    script = "import sys; from pathlib import Path; from cytolite.files import beside; print(beside(Path(sys.argv[1])))"
    dead = Path(
        subprocess.run(
            [sys.executable, "-c", script, target], capture_output=True, text=True, check=True
        ).stdout.strip()
    )
    alive = beside(target)
    other_host = dead.with_name(dead.name.replace(dead.name.split("-")[2], "0badcafe"))
    other_target = beside(tmp_path / "other")
    for path in (dead, alive, other_host, other_target):
        path.mkdir()
    beside(target)
    assert not dead.exists()
    assert alive.exists()
    assert other_host.exists()
    assert other_target.exists()


def test_a_hash_is_of_the_bytes_of_all_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"ab")
    (tmp_path / "b").write_bytes(b"c")
    assert (
        sha256_of(tmp_path / "a", tmp_path / "b") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_what_is_wrong_with_a_file_that_people_write_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    with pytest.raises(InputError, match="cannot be read"):
        read_toml(path, "The recipe")
    path.write_text("a = ")
    with pytest.raises(InputError, match="not valid TOML"):
        read_toml(path, "The recipe")
    path.write_text("a = 1")
    assert read_toml(path, "The recipe") == {"a": 1}
