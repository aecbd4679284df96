"""The command `cytolite convert`, on what a run wrote; and `cytolite qupath`, as far as it goes without QuPath."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from command import cytolite
from cytolite.interop.parquet import read_cells
from fakes import fake_bundle, paint, random_nuclei, write_slide


@pytest.fixture(scope="module")
def result(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("convert")
    fake_bundle(folder)
    instance_map, types = random_nuclei(np.random.default_rng(7), (500, 500), 300)
    write_slide(folder / "a b.tif", paint(instance_map, types))
    done = cytolite("segment", folder / "a b.tif", "-o", folder / "out", "--model", folder / "fake", "--tissue", "all")
    assert done.code == 0, done
    return folder / "out" / "a b"


def test_there_and_back(result, tmp_path):
    before = read_cells(result / "cells.parquet")
    for source, target in (
        (result, "c.geojson.gz"),
        (tmp_path / "c.geojson.gz", "chunks"),
        (tmp_path / "chunks", "b.parquet"),
    ):
        done = cytolite("convert", source, target, cwd=tmp_path)
        assert (done.code, done.out) == (0, f"{target}: {len(before):,} nuclei\n"), done
    after = read_cells(tmp_path / "b.parquet")
    np.testing.assert_array_equal(after.types, before.types)
    assert np.abs(after.vertices - before.vertices).max() <= 0.0051
    assert np.abs(after.centroids - before.centroids).max() <= 0.01
    assert np.abs(after.area_um2 - before.area_um2).max() <= 0.0051
    assert sorted(os.listdir(tmp_path)) == ["b.parquet", "c.geojson.gz", "chunks"]


def test_quiet_warnings_and_sentences(result, tmp_path):
    assert cytolite("convert", result, "c.csv", "--quiet", cwd=tmp_path).out == ""
    assert "--overwrite" in cytolite("convert", result, "c.csv", "--quiet", cwd=tmp_path).sentence()
    square = {"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 0]]]}
    feature = {"type": "Feature", "geometry": square, "properties": {"classification": "Tumor"}}
    (tmp_path / "other.geojson").write_text(json.dumps([feature]))
    refused = cytolite("convert", "other.geojson", "d.parquet", "--quiet", cwd=tmp_path).sentence()
    assert "--class 'Tumor=neoplastic'" in refused
    done = cytolite("convert", "other.geojson", "d.parquet", "--class", "Tumor=neoplastic", cwd=tmp_path)
    assert (done.code, done.out) == (0, "d.parquet: 1 nuclei\n")
    assert "warning: other.geojson: 1 cells have no area in um2, which needs --mpp" in done.err
    assert "no '='" in cytolite("convert", "other.geojson", "e.parquet", "--class", "Tumor", cwd=tmp_path).sentence()
    refused = cytolite("convert", "other.geojson", "e.parquet", "--mpp", 353, "--quiet", cwd=tmp_path).sentence()
    assert "0.05 to 5" in refused


def test_a_missing_extra_says_how_to_get_it(result, tmp_path):
    code = "import sys; sys.modules['anndata'] = None; from cytolite.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "convert", str(result), "c.h5ad", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "error: This needs anndata, which is not installed; it comes with the extra 'anndata', "
    )
    assert "pip install '.[anndata]'" in done.stderr
    assert os.listdir(tmp_path) == []


def test_killed_in_the_middle_leaves_no_half_file(result, tmp_path):
    cells = read_cells(result / "cells.parquet")
    from cytolite.interop.parquet import CellsWriter

    with CellsWriter(tmp_path / "many.parquet", list(cells.features)) as writer:
        for _ in range(300):
            writer.append(cells)
    command = [sys.executable, "-m", "cytolite", "convert", "many.parquet", "c.geojson.gz", "--quiet"]
    process = subprocess.Popen(command, cwd=tmp_path)
    while process.poll() is None and not list(tmp_path.glob(".cytolite-*.part")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait(300)
    assert not (tmp_path / "c.geojson.gz").exists()
    done = cytolite("convert", "many.parquet", "c.geojson.gz", "--quiet", cwd=tmp_path)
    assert done.code == 0
    assert sorted(os.listdir(tmp_path)) == ["c.geojson.gz", "many.parquet"]


def test_qupath_project_and_run(result, tmp_path):
    slide = result.parents[1] / "a b.tif"
    done = cytolite("qupath", "project", slide, "-o", tmp_path / "p")
    assert (done.code, done.out) == (0, f"{tmp_path / 'p' / 'project.qpproj'}\n")
    assert "a%20b.tif" in (tmp_path / "p" / "project.qpproj").read_text()
    assert "there already" in cytolite("qupath", "project", slide, "-o", tmp_path / "p").sentence()
    assert "no project" in cytolite("qupath", "run", tmp_path).sentence()
    assert "--roi" in cytolite("qupath", "run", tmp_path / "p", "--roi", "x.geojson").sentence()
