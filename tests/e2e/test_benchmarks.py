"""Every benchmark still runs; what it measures is not judged here."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cytolite.slides.reader import open_slide
from cytolite.slides.tissue import find_tissue
from fakes import write_slide

# Packages that a script needs besides those of the base install.
NEEDED = {
    "bench_cluster": ["distributed"],
    "bench_cache": ["segmentation_models_pytorch"],
    "bench_decode": ["cellpose"],
    "bench_models": ["segmentation_models_pytorch"],
    "bench_prepare": ["h5py"],
    "bench_relabel": ["torch", "h5py"],
    "bench_segment": ["onnx"],
    "bench_speed": ["onnx", "torch", "timm"],
    "bench_spatial": ["scipy", "contourpy"],
    "bench_viewer": ["scipy", "contourpy", "fastapi", "uvicorn", "playwright"],
}
SCRIPTS = sorted((Path(__file__).parents[2] / "benchmarks").glob("bench_*.py"))


def load(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS[0].parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def settings_of(flags):
    """Flags as keywords; one that is given twice is a tuple."""
    given = {}
    for name, value in zip(flags[::2], flags[1::2], strict=True):
        key = name[2:].replace("-", "_")
        given[key] = (*given.get(key, ()), value) if key == "teacher_scales" else value
    return given


def test_experiments_ask_for_settings_that_there_are():
    from cytolite.config import DistillSettings, TrainSettings, make_settings

    experiments = load("experiments")
    names = [e.name for e in experiments.EXPERIMENTS]
    assert len(set(names)) == len(names)
    for e in experiments.EXPERIMENTS:
        flags = [flag for flag in e.flags if flag != "--no-pretrained"]
        make_settings(DistillSettings if e.teacher else TrainSettings, settings_of(flags))
        # A teacher is a bundle, or run before its students.
        assert e.teacher in ("", "nuclei-light") or names.index(e.teacher) < names.index(e.name)


def test_the_ablation_asks_for_settings_and_data_sets_that_there_are():
    from cytolite.config import SOURCE_SHARES, TrainSettings, make_settings
    from cytolite.datasets.catalogue import DATASETS

    ablation = load("ablation")
    assert len({v.name for v in ablation.VARIANTS}) == len(ablation.VARIANTS)
    assert set(ablation.ALL) == set(DATASETS) == set(SOURCE_SHARES)
    for variant in ablation.VARIANTS:
        make_settings(TrainSettings, settings_of(variant.flags))
        assert set(variant.sources) <= set(ablation.ALL)


def test_a_slide_is_repeated_pixel_for_pixel(tmp_path):
    """Also across the seams of its copies and in the coarser level, and as large as was asked for."""
    image = np.random.default_rng(0).integers(0, 200, (256, 384, 3), np.uint8)
    with open_slide(write_slide(tmp_path / "a.tif", image, levels=2), 0.5) as slide:
        mm2 = find_tissue(slide)[1].area_mm2(0.5)
        many = load("bench_segment").repeated(slide, 6 * mm2)
        assert (many.width_px, many.height_px) == (2 * 384, 3 * 256)
        for mpp, step in ((0.5, 1), (1.0, 2)):
            one = slide.read(0, 0, 384 // step, 256 // step, mpp)
            wanted = np.tile(one, (3, 2, 1))[200 // step : 600 // step, 100 // step : 500 // step]
            np.testing.assert_array_equal(many.read(100, 200, 400 // step, 400 // step, mpp), wanted)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_quick_mode_prints_numbers(script, tmp_path):
    for package in NEEDED.get(script.stem, ()):
        pytest.importorskip(package, reason=f"{script.name} needs {package}")
    if script.stem == "bench_viewer" and not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        pytest.skip("needs the browser Chromium, or Chrome")
    done = subprocess.run(
        [sys.executable, str(script), "--quick"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    if done.stderr.startswith("error: this benchmark needs "):
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"\d\.\d", done.stdout)
    assert not list(tmp_path.iterdir())  # nothing is written unless asked for
