"""Slides of hostile names in one batch: each works, in a folder of its own, whatever the locale; and is found again."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from cytolite.interop.parquet import read_cells
from fakes import fake_bundle, paint, random_nuclei

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse some of these names")

# Name of the file, and of its results.
NAMES = {
    b"x" * 251 + b".png": None,  # 255 bytes, as long as a name may be
    "é".encode() * 125 + b".png": None,
    "naïve µ 細胞.png".encode(): "naïve µ 細胞",
    b"latin caf\xe9.png": "latin caf_",
    b"two\nlines.png": "two_lines",
    b"bell\a\x1b[31mred.png": "bell__[31mred",
    "\u2028line.png".encode(): "_line",
    b"..png": None,
    b"...png": None,
    b".hidden.png": "hidden",
    b".hidden.partial.png": "hidden.partial",  # the folder of the work on another
    b"-dash.png": "-dash",
    b"--help.png": "--help",
    b"dots...png": "dots",
    b"space .png": "space",
    b" before.png": " before",
    b"a[1]*?.png": "a[1]*?",
    b"[red]no[\\markup].png": "[red]no[\\markup]",
    b"[bold.png": "[bold",
    b"%s %d {0} $(x) `y` 'z'.png": "%s %d {0} $(x) `y` 'z'",
    "e\u0301.png".encode(): None,  # the same letter twice, which some file systems take for one name
    "\u00e9.png".encode(): None,
    b"no suffix": "no suffix",
    b"=1+1.png": "=1+1",
}
COHORT_FILES = {"cohort.csv", "cohort.html", "cohort.json", "cohort.log", "cohort.parquet", "failures.csv"}
LOCALES = {"utf-8": {"LC_ALL": "C.UTF-8"}, "ascii": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("names")
    fake_bundle(folder)
    instance_map, types = random_nuclei(np.random.default_rng(3), (96, 96), 3)
    Image.fromarray(paint(instance_map, types)).save(folder / "image.png")
    (folder / "slides").mkdir()
    for name in NAMES:
        (folder / "slides" / os.fsdecode(name)).write_bytes((folder / "image.png").read_bytes())
    return folder, int(instance_map.max())


def segment(work, chosen: list[bytes], output: bytes, locale: str, *more: str) -> None:
    """Segment the chosen slides with the real command; check that all is well, and that all is there for a second."""
    folder, n_cells = work
    slides = [b"slides/" + name for name in chosen]
    command = [
        sys.executable, "-m", "cytolite", "segment", *slides, "-o", output, "--model", "fake", "--mpp", "0.5",
        "--tissue", "all", *more,
    ]  # fmt: skip
    environment = os.environ | LOCALES[locale]
    done, again = (
        subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=300, env=environment)
        for _ in range(2)
    )
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"\x1b" not in done.stderr + done.stdout
    assert again.stdout.count(b"already there, skipped") == len(chosen)
    # Beside the results lie the tables of all of them.
    there = sorted((folder / os.fsdecode(output)).iterdir())
    results = [path for path in there if path.is_dir()]
    assert {path.name for path in there if not path.is_dir()} <= COHORT_FILES
    assert len(results) == len(chosen)  # nothing else either: no lock, no work left
    paths = set()
    for path in results:
        assert len(read_cells(path / "cells.parquet")) == n_cells
        assert len(path.name.encode()) <= 200
        paths.add(json.loads((path / "run.json").read_text(encoding="utf-8"))["slide"]["path"])
        json.loads((path / "summary.json").read_text(encoding="utf-8"))
    assert len(paths) == len(chosen)
    assert {NAMES[name] for name in chosen} - {None} <= {path.name for path in results}


def test_every_name_works(work):
    segment(work, list(NAMES), b"utf-8", "utf-8")


def test_an_ascii_locale_changes_nothing(work):
    segment(work, [name for name in NAMES if not name.isascii()], b"ascii", "ascii")


def test_an_output_folder_and_regions_of_no_encoding(work):
    ring = [[0, 0], [96, 0], [96, 96], [0, 96], [0, 0]]
    (work[0] / os.fsdecode(b"roi\xff\n.geojson")).write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    segment(work, [b".hidden.png"], b"out\xfe", "utf-8", "--roi", os.fsdecode(b"roi\xff\n.geojson"))
