"""Names as text and as folders."""

import os
import subprocess
import sys

import pytest

from cytolite.config import SegmentSettings
from cytolite.names import LONGEST_FOLDER_BYTES, as_text, folder_name, one_line
from cytolite.progress import silent
from cytolite.segmentation.results import find_slides, result_folders
from cytolite.segmentation.run import load_model, try_slide
from cytolite.segmentation.slide_list import Entry
from fakes import fake_bundle


@pytest.mark.parametrize("name", ["a", "S1 (2)", "b.x", "naïve", "細胞", "a\N{NO-BREAK SPACE}b", "x" * 200, "-a", "a]"])
def test_a_safe_name_is_kept(name):
    assert folder_name(name) == as_text(name) == one_line(name) == name


@pytest.mark.parametrize(
    ("name", "folder"),
    [(".", ""), ("..", ""), ("", ""), (" ", ""), (".a", "a"), ("a. .", "a"), ("a\nb", "a_b"), ("caf\udce9", "caf_")],
)
def test_an_unsafe_name_is_made_safe(name, folder):
    assert folder_name(name) == folder


def test_a_long_name_is_cut_between_letters_and_stays_its_own():
    names = [folder_name("細" * 80 + end) for end in "ab"]
    assert names[0] != names[1]
    for name in names:
        assert len(name.encode()) <= LONGEST_FOLDER_BYTES
        assert name.startswith("細" * 60)


def test_text_is_valid_and_one_line():
    assert as_text(os.fsdecode(b"caf\xe9")) == "caf\N{REPLACEMENT CHARACTER}"
    assert as_text("\ud800x").encode()  # which no system gives
    assert one_line("a\nb\x1b[1m\u2028c") == "a\ufffdb\ufffd[1m\ufffdc"


@pytest.mark.skipif(sys.platform == "win32", reason="there names are Unicode")
def test_an_ascii_locale_gives_the_same_folder():
    code = (
        "import sys, os; from cytolite.names import folder_name; "
        "sys.stdout.buffer.write(os.fsencode(folder_name(sys.argv[1])))"
    )
    env = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", code, "é" * 150], env=env, capture_output=True, check=True)
    assert done.stdout.decode() == folder_name("é" * 150)


def test_names_that_no_file_can_have_fail_alone_and_first(tmp_path):
    """As only a Python program can give them."""
    bad = [tmp_path / "a\0b.png", tmp_path / "\ud800.png"]
    (tmp_path / "good.png").write_bytes(b"no image, but there")
    found = find_slides([*bad, tmp_path / "good.png"])
    assert found == [*bad, tmp_path / "good.png"]
    settings = SegmentSettings(model=str(fake_bundle(tmp_path).path))
    for slide, folder in zip(found, result_folders(found, tmp_path / "out"), strict=True):
        outcome = try_slide(Entry(slide, settings), folder, load_model(settings), silent)
        assert outcome.status == "failed"
        assert ("is no name that a file can have" in outcome.message) == (slide in bad)
        assert "report" not in outcome.message
        outcome.message.encode()
    assert not (tmp_path / "out").exists()
