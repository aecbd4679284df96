"""Bad input, through the real command: one sentence, exit code 1 or 2, nothing left, no traceback."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from command import cytolite, finished
from fakes import fake_bundle, paint, random_nuclei, write_slide

WHITE = np.full((300, 400, 3), 255, np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return fake_bundle(tmp_path_factory.mktemp("model")).path


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """A slide with some twenty nuclei, 512 x 512 px at 0.5 um/px."""
    instance_map, types = random_nuclei(np.random.default_rng(0), (512, 512), 60)
    return write_slide(tmp_path_factory.mktemp("slide") / "good.tif", paint(instance_map, types))


@pytest.fixture
def refused(model, tmp_path):
    """Run `segment`, check that it failed as it should, and return its sentence."""

    def refused(slide: Path, *options: object, output: Path | None = None, model: Path = model) -> str:
        output = output or tmp_path / "out"
        ran = cytolite("segment", slide, "-o", output, "--model", model, "--quiet", "--tissue", "all", *options)
        assert finished(output) == []
        return ran.sentence()

    return refused


def test_file_missing(refused, tmp_path):
    assert "missing.svs" in refused(tmp_path / "missing.svs")


def test_a_folder(refused, tmp_path):
    (tmp_path / "folder").mkdir()
    assert "directory" in refused(tmp_path / "folder")


def test_not_a_slide(refused, tmp_path):
    broken = tmp_path / "broken.svs"
    broken.write_bytes(np.random.default_rng(0).bytes(1000))
    assert "broken.svs" in refused(broken)
    broken.write_bytes(b"")
    assert "broken.svs" in refused(broken)


def test_not_a_slide_for_real(refused, shared_data):
    assert "histolab_broken.svs" in refused(shared_data / "slides" / "histolab_broken.svs")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_tiff(refused, slide, tmp_path, share):
    content = slide.read_bytes()
    short = tmp_path / "short.tif"
    short.write_bytes(content[: int(len(content) * share)])
    assert "short.tif" in refused(short)


def test_truncated_png_and_jpeg(refused, tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8))
    for name in ("short.png", "short.jpg"):
        image.save(tmp_path / name)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        assert name in refused(tmp_path / name, "--mpp", 0.5)


@pytest.mark.parametrize(("shape", "dtype"), [((300, 400), np.uint8), ((300, 400, 3), np.uint16)])
def test_grey_16_bit_tiff(refused, tmp_path, shape, dtype):
    path = tmp_path / "other.tif"
    options = {"photometric": "rgb"} if len(shape) == 3 else {"photometric": "minisblack"}
    tifffile.imwrite(path, np.zeros(shape, dtype), resolution=(20000, 20000), resolutionunit="CENTIMETER", **options)
    sentence = refused(path)
    assert "RGB" in sentence


@pytest.mark.parametrize("mode", ["L", "I;16"])
def test_grey_16_bit_png(refused, tmp_path, mode):
    path = tmp_path / "other.png"
    image = Image.fromarray(np.zeros((300, 400), np.uint16)) if mode == "I;16" else Image.new(mode, (400, 300))
    image.save(path)
    assert "RGB" in refused(path, "--mpp", 0.5)


def test_no_resolution(refused, tmp_path):
    path = tmp_path / "plain.png"
    Image.fromarray(WHITE).save(path)
    assert "--mpp" in refused(path)


def test_absurd_resolution(refused, tmp_path):
    assert "--mpp" in refused(write_slide(tmp_path / "absurd.tif", WHITE, mpp=352.86))


def test_absurd_resolution_for_real(refused, shared_data):
    assert "--mpp" in refused(shared_data / "slides" / "pathml_small_HE_levels.tiff")


@pytest.mark.parametrize("tissue", ["auto", "all"])
def test_blank_slide_is_an_empty_valid_result_and_a_warning(model, tmp_path, tissue):
    blank = write_slide(tmp_path / "blank.tif", WHITE)
    ran = cytolite("segment", blank, "-o", tmp_path / "out", "--model", model, "--tissue", tissue, "--quiet")
    assert (ran.code, ran.out) == (0, "")
    [line] = ran.err.splitlines()
    assert line.startswith("warning: ")
    assert finished(tmp_path / "out") == ["blank"]

    import geopandas

    folder = tmp_path / "out" / "blank"
    cells = geopandas.read_parquet(folder / "cells.parquet")
    assert len(cells) == 0
    assert {"cell_id", "geometry", "cell_type", "p_dead", "area_um2"} <= set(cells.columns)
    for name in ("cells.geojson.gz", "summary.csv", "summary.json", "overview.png", "run.json"):
        assert (folder / name).stat().st_size > 0


def region(*corners: tuple[float, float]) -> dict:
    ring = [*corners, corners[0]]
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}}


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        "{}",
        '{"type": "FeatureCollection", "features": []}',
        json.dumps({"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": {"type": "Polygon"}}]}),
        json.dumps({"type": "FeatureCollection", "features": [region((0, 0), (10, 0))]}),
    ],
    ids=["no JSON", "no GeoJSON", "no region", "no coordinates", "no area"],
)
def test_invalid_geojson(refused, slide, tmp_path, content):
    roi = tmp_path / "roi.geojson"
    roi.write_text(content)
    assert "roi.geojson" in refused(slide, "--roi", roi)


def test_roi_missing(refused, slide, tmp_path):
    assert "roi.geojson" in refused(slide, "--roi", tmp_path / "roi.geojson")


def test_roi_outside_the_slide(refused, slide, tmp_path):
    roi = tmp_path / "roi.geojson"
    roi.write_text(
        json.dumps({"type": "FeatureCollection", "features": [region((9e3, 9e3), (9900, 9e3), (9e3, 9900))]})
    )
    assert "outside" in refused(slide, "--roi", roi)


def small_files_only() -> None:
    """Let no file of this process grow beyond 2 kB: writing fails in the middle, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits")
def test_a_write_that_fails_in_the_middle(model, slide, tmp_path):
    output, options = tmp_path / "out", ("--model", model, "--tissue", "all", "--quiet")
    ran = cytolite("segment", slide, "-o", output, *options, before=small_files_only)
    ran.sentence()
    assert finished(output) == []
    # Once there is room again, the same command goes on and ends well.
    assert cytolite("segment", slide, "-o", output, *options).code == 0
    assert finished(output) == [slide.stem]


TINY_DISK = 'mount -t tmpfs -o size=16k none "$1" && shift && exec "$@"'


def test_disk_full(model, slide, tmp_path):
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", TINY_DISK, "sh", tmp_path]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("this machine lets no user mount a small disk")
    show = f'{sys.executable} -m cytolite "$@"; code=$?; ls {tmp_path}/out; exit $code'
    arguments = ["segment", slide, "-o", tmp_path / "out", "--model", model, "--tissue", "all", "--quiet"]
    # The model lies outside of the small disk, which hides everything else below tmp_path.
    done = subprocess.run([*unshare, "sh", "-c", show, "sh", *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")  # nothing but hidden names in the output folder
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "space" in line.lower()


@pytest.mark.parametrize("where", ["file", "below a file", "read-only"])
def test_output_that_cannot_be_written(refused, slide, tmp_path, where):
    (tmp_path / "file").write_text("mine")
    output = {"file": tmp_path / "file", "below a file": tmp_path / "file" / "out", "read-only": Path("/proc/out")}[
        where
    ]
    assert str(output) in refused(slide, output=output)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_output_without_permission(refused, slide, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    assert "cannot be written" in refused(slide, output=closed / "out")


def test_a_folder_of_the_users_own_is_not_touched(model, slide, tmp_path):
    mine = tmp_path / "out" / slide.stem / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    ran = cytolite("segment", slide, "-o", tmp_path / "out", "--model", model, "--quiet", "--overwrite")
    ran.sentence()
    assert mine.read_text() == "mine"
    assert os.listdir(mine.parent) == ["mine.txt"]


@pytest.mark.parametrize("damage", ["missing", "weights", "no weights", "newer", "not json", "unknown field"])
def test_bundle_damaged(refused, model, slide, tmp_path, damage):
    bad = tmp_path / "bad"
    if damage != "missing":
        shutil.copytree(model, bad)
    spec = bad / "model.json"
    if damage == "weights":
        content = bytearray((bad / "model.onnx").read_bytes())
        content[-1] ^= 1
        (bad / "model.onnx").write_bytes(content)
    elif damage == "no weights":
        (bad / "model.onnx").unlink()
    elif damage == "newer":
        spec.write_text(json.dumps(json.loads(spec.read_text()) | {"format": 99}))
    elif damage == "not json":
        spec.write_text("{")
    elif damage == "unknown field":
        spec.write_text(json.dumps(json.loads(spec.read_text()) | {"surprise": 1}))
    sentence = refused(slide, model=bad)
    part = {"weights": "damaged", "newer": "newer cytolite", "unknown field": "surprise"}.get(damage, str(bad))
    assert part in sentence


def test_a_reader_that_has_seen_enough_is_no_fault():
    """As in ``cytolite inspect | head -1``."""
    shell = f"{sys.executable} -m cytolite inspect | head -1"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert "nuclei-light" in done.stdout
    assert done.stderr == ""
