"""Memory does not grow with the slide: measured at two sizes, each in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

PROLOGUE = """
import sys
from pathlib import Path
import numpy as np
from cytolite.config import SegmentSettings
from cytolite.segmentation.writers import write_results
from cytolite.segmentation.plan import plan_slide
from cytolite.segmentation.slide import segment_slide
from cytolite.segmentation.stitch import own_or_offer, stitch
from fakes import EndlessSlide, fake_bundle, paint, random_nuclei

def peak_mb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM"))

folder, rows = Path(sys.argv[1]), int(sys.argv[2])
bundle = fake_bundle(folder)
instance_map, types = random_nuclei(np.random.default_rng(0), (512, 512), 1000, radius=(4, 6))
for edge in (instance_map[:1], instance_map[-1:], instance_map[:, :1], instance_map[:, -1:]):
    instance_map[np.isin(instance_map, edge[edge > 0])] = 0
slide = EndlessSlide(folder / "fake.onnx", paint(instance_map, types), 1024, rows * 512)
settings = SegmentSettings(tissue="all", tile=512, halo=32, workers=2)
"""

RUN = """
result = segment_slide(slide, folder / "out", bundle, settings)
print(result.n_cells, peak_mb())
"""

# The same cells in every tile, straight into the stitcher and the writers: many more than there is time to segment.
# Parquet is written in groups of 50,000: the small slide has four of them, so that every buffer was full once.
FINISH = """
from dataclasses import replace
from cytolite.inference.predictor import Predictor
from cytolite.segmentation.tile import tile_cells
plan = plan_slide(slide, bundle, settings)
first = plan.tiles[0]
image = slide.read(*first.read[:2], first.width, first.height, 0.5)
flows, logits = Predictor(bundle).maps(image[None])
size = (plan.width, plan.height)
cells = tile_cells(first, image, flows[0], logits[0], spec=bundle.spec, mpp=0.5, size=size)

def moved(tile):
    by = np.array(tile.core[:2], float)
    return own_or_offer(tile, replace(cells, vertices=cells.vertices + by, centroids=cells.centroids + by), 8)

(folder / "result").mkdir()
parts = (moved(tile) for tile in plan.tiles)
written = write_results(folder / "result", plan, stitch(parts), {}, picture=slide, warnings=[])
print(written.cells, peak_mb())
"""


def measured(script, folder, rows):
    """Number of cells and peak memory in MB of a slide of so many rows of tiles."""
    folder.mkdir()
    command = [sys.executable, "-c", PROLOGUE + script, str(folder), str(rows)]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cells, peak = done.stdout.split()[-2:]
    return int(cells), float(peak)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize(("script", "rows"), [(RUN, (4, 20)), (FINISH, (160, 480))], ids=["run", "finish"])
def test_memory_does_not_grow_with_the_slide(tmp_path, script, rows):
    pytest.importorskip("onnx", reason="the stand-in for a network needs onnx, of the extra `train`")
    few, less = measured(script, tmp_path / "small", rows[0])
    many, more = measured(script, tmp_path / "large", rows[1])
    assert many / few == pytest.approx(rows[1] / rows[0], rel=0.02)
    # A nucleus takes about 1 kB in memory; allocators differ by tens of MB from run to run.
    allowed = 50 + 0.15e-3 * (many - few)
    assert more - less < allowed, f"{few} cells took {less:.0f} MB, {many} took {more:.0f} MB"
