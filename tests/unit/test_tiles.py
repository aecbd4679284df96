"""Tiles: cores partition the slide, reads are aligned and hold the halo."""

import numpy as np
import pytest

from cytolite.errors import InputError
from cytolite.slides.tiles import ALIGN_PX, plan_tiles


@pytest.mark.parametrize("seed", range(12))
def test_cores_partition_and_reads_are_aligned(seed):
    rng = np.random.default_rng(seed)
    width, height = (int(n) for n in rng.integers(1, 1500, 2))
    tile, halo = int(rng.integers(64, 700)), int(rng.integers(0, 130))
    covered = np.zeros((height, width), int)
    tiles = plan_tiles(width, height, tile, halo)
    for t in tiles:
        x0, y0, x1, y1 = t.core
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
        covered[y0:y1, x0:x1] += 1
        assert all(edge % ALIGN_PX == 0 for edge in t.read)
        assert (t.width % ALIGN_PX, t.height % ALIGN_PX) == (0, 0)
        margins = (x0 - t.read[0], y0 - t.read[1], t.read[2] - x1, t.read[3] - y1)
        assert all(halo <= margin < halo + ALIGN_PX for margin in margins)
    assert (covered == 1).all()
    assert [t.index for t in tiles] == list(range(len(tiles)))


def test_reads_of_whole_tiles_have_one_shape():
    tiles = plan_tiles(4096, 4096, 1024, 64)
    assert {(t.width, t.height) for t in tiles} == {(1152, 1152)}


def test_reads_may_reach_beyond_the_slide():
    (tile,) = plan_tiles(70, 65, 512, 40)
    assert tile.core == (0, 0, 70, 65)
    assert tile.read == (-64, -64, 128, 128)


def test_what_is_not_wanted_is_not_read():
    def wanted(x0, y0, x1, y1):
        return (x0 + 60, y0, x1, y0 + 10) if x0 <= 150 < x1 else None

    tiles = plan_tiles(300, 300, 100, 32, wanted)
    assert [t.core for t in tiles] == [(100, 0, 200, 100), (100, 100, 200, 200), (100, 200, 200, 300)]
    assert [t.index for t in tiles] == [0, 1, 2]
    assert [t.read for t in tiles] == [(128, -32, 256, 64), (128, 64, 256, 160), (128, 160, 256, 256)]


@pytest.mark.parametrize(("tile", "halo", "named"), [(63, 0, "--tile 63"), (512, -1, "-1")])
def test_impossible_sizes_are_refused(tile, halo, named):
    with pytest.raises(InputError, match=named):
        plan_tiles(100, 100, tile, halo)
