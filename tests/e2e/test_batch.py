"""Several slides through the real command: each once, each in its own folder, whatever happens to the others."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cytolite as package
from command import cytolite, finished
from fakes import fake_bundle, paint, random_nuclei, write_slide


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return fake_bundle(tmp_path_factory.mktemp("model")).path


@pytest.fixture(scope="module")
def painted():
    """A painted image of 512 x 512 px, and its number of nuclei."""
    instance_map, types = random_nuclei(np.random.default_rng(0), (512, 512), 60)
    return paint(instance_map, types), int(instance_map.max())


@pytest.fixture
def slides(tmp_path, painted) -> list[Path]:
    """Two inputs of one stem, one that is no slide, one more."""
    image, _ = painted
    folder = tmp_path / "slides"
    folder.mkdir()
    Image.fromarray(image).save(folder / "a.png")
    write_slide(folder / "a.tif", image)
    (folder / "broken.svs").write_bytes(b"no slide")
    write_slide(folder / "c.tif", image, levels=2)
    return [folder / name for name in ("a.png", "a.tif", "broken.svs", "c.tif")]


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def test_a_batch(slides, model, painted, tmp_path):
    output = tmp_path / "out"
    settings = tmp_path / "settings.toml"
    settings.write_text(f'[segment]\nmodel = "{model.as_posix()}"\nmpp = 0.5\ntissue = "all"\n')
    command = ("segment", *slides, slides[0], "-o", output, "--config", settings)

    ran = cytolite(*command)
    assert ran.code == 1
    assert "Traceback" not in ran.err
    assert "1 of 4 slides failed" in ran.err
    assert "broken.svs" in ran.err.split("slides failed")[1]
    assert ran.out.count(" nuclei in ") == 3
    assert ran.out.endswith("not for diagnosis.\n")
    assert finished(output) == ["a.png", "a.tif", "c"]
    for name in finished(output):
        folder = output / name
        names = {
            "cells.parquet",
            "cells.geojson.gz",
            "summary.csv",
            "summary.json",
            "overview.png",
            "run.json",
            "tissue.geojson",
            "artefacts.geojson",
        }
        assert {path.name for path in folder.iterdir()} == names
        assert abs(len(package.read_cells(folder / "cells.parquet")) - painted[1]) <= 1
        record = json.loads((folder / "run.json").read_text())
        assert record["settings"]["mpp"] == 0.5

    before = {path: path.stat().st_mtime_ns for path in output.glob("*/*.parquet")}
    again = cytolite(*command)
    assert again.code == 1  # what failed fails again; what is there is left as it is
    assert again.out.count("already there, skipped") == 3
    assert {path: path.stat().st_mtime_ns for path in output.glob("*/*.parquet")} == before

    one = cytolite("segment", slides[0], "-o", output, "--config", settings, "--overwrite", "--quiet")
    assert (one.code, one.out) == (0, "")
    assert all(line.startswith("warning: ") for line in one.err.splitlines())  # paint is no H&E
    changed = [path.parent.name for path, modified in before.items() if path.stat().st_mtime_ns != modified]
    assert changed == ["a.png"]


def test_python_returns_what_the_command_writes(slides, model, painted, tmp_path):
    options = {"model": model, "tissue": "all"}
    kept = package.segment(slides[3], tmp_path / "out", **options)
    assert finished(tmp_path / "out") == ["c"]
    assert abs(len(kept) - painted[1]) <= 1
    loose = package.segment(slides[3], **options)
    np.testing.assert_array_equal(np.sort(loose.area_um2), np.sort(kept.area_um2))
    modified = (tmp_path / "out" / "c" / "run.json").stat().st_mtime_ns
    read = package.segment(slides[3], tmp_path / "out", **options)  # read, not computed again
    assert (tmp_path / "out" / "c" / "run.json").stat().st_mtime_ns == modified
    np.testing.assert_array_equal(read.centroids, kept.centroids)
    with pytest.raises(package.InputError):
        package.segment(slides[2], **options)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_interrupted_and_resumed(model, painted, tmp_path):
    slide = write_slide(tmp_path / "big.tif", np.tile(painted[0], (8, 8, 1)))
    arguments = ["segment", slide, "-o", tmp_path / "out", "--model", model, "--tissue", "all", "--workers", 1]
    command = [sys.executable, "-m", "cytolite", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 300
    while not list(tmp_path.glob("out/.*/tiles/*.npz")) and time.monotonic() < until:  # the first tile is done
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130, (out, err)
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("error: ")
    assert "run the same command again" in err.splitlines()[-1]
    assert finished(tmp_path / "out") == []

    assert cytolite(*arguments).code == 0
    whole = cytolite(*arguments[:3], tmp_path / "whole", *arguments[4:])
    assert whole.code == 0
    resumed, uninterrupted = (
        package.read_cells(tmp_path / name / "big" / "cells.parquet") for name in ("out", "whole")
    )
    assert len(resumed) == len(uninterrupted) > 60 * painted[1]
    np.testing.assert_array_equal(np.sort(resumed.area_um2), np.sort(uninterrupted.area_um2))
