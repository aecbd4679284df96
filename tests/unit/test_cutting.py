"""S1's rules: which patches an image of a given size gives, and what they hold."""

from dataclasses import replace

import numpy as np
import pytest

ndimage = pytest.importorskip("scipy.ndimage", reason="needs scipy")

from cytolite.celltypes import IGNORE  # noqa: E402
from cytolite.datasets.cutting import Tally, cut, enlarge, fill_up  # noqa: E402
from cytolite.errors import InputError  # noqa: E402
from cytolite.patches import Patch  # noqa: E402


def image_of(rows: int, cols: int, seed: int = 0) -> Patch:
    """An image of smooth noise with square nuclei on a grid, one each 16 px, some at the very edge."""
    rng = np.random.default_rng(seed)
    instances = np.zeros((rows, cols), np.int32)
    for number, (y, x) in enumerate(((y, x) for y in range(3, rows, 16) for x in range(5, cols, 16)), 1):
        instances[y : y + 9, x : x + 9] = number
    pixels = rng.integers(0, 256, (rows, cols, 3)).astype(np.uint8)
    types = np.where(instances > 0, instances % 7 + 1, 0).astype(np.uint8)
    return Patch("im", pixels, instances, types, 0.25, "monusac", "patient", fold="train", file="f", file_sha256="h")


# Rows and columns, and what the rules make of them: whole, cut, mirrored, enlarged, too small.
SIZES = [
    ((256, 256), (1, 0, 0, 0, 0)),
    ((512, 512), (0, 4, 0, 0, 0)),
    ((600, 300), (0, 2, 4, 0, 0)),
    ((257, 256), (0, 1, 1, 0, 0)),
    ((128, 128), (1, 0, 0, 1, 0)),
    ((200, 512), (0, 2, 1, 3, 0)),
    ((127, 2000), (0, 0, 0, 0, 1)),
    ((82, 35), (0, 0, 0, 0, 1)),
]


@pytest.mark.parametrize(("size", "counts"), SIZES)
def test_each_rule_makes_as_many_patches_as_it_should(size, counts):
    tally = Tally()
    patches = list(cut([image_of(*size)], 256, tally))
    assert (tally.whole, tally.cut, tally.mirrored, tally.enlarged, tally.too_small) == counts
    assert len(patches) == sum(counts[:3])
    for patch in patches:
        patch.validate()
        assert patch.image.shape == (256, 256, 3)
        assert (patch.group, patch.fold, patch.file, patch.file_sha256) == ("patient", "train", "f", "h")
    assert len({p.name for p in patches}) == len(patches)


def test_patches_laid_together_are_the_image():
    image = image_of(600, 300)
    patches = {p.name: p for p in cut([image], 256, Tally())}
    for key in ("image", "type_map", "instance_map"):
        whole = np.concatenate(
            [np.concatenate([getattr(patches[f"im_{r}_{c}"], key) for c in range(2)], 1) for r in range(3)]
        )
        np.testing.assert_array_equal(whole[:600, :300], getattr(image, key))
        if key != "instance_map":  # whose mirror image has other ids
            columns = [*range(300), *range(298, 86, -1)]
            np.testing.assert_array_equal(whole[600:], getattr(image, key)[-2::-1][:168][:, columns])


def test_a_mirrored_nucleus_is_one_of_its_own_unless_it_meets_itself():
    image = image_of(300, 300)
    filled = fill_up(image, 256)
    assert filled.instance_map.shape == (512, 512)
    for number in range(1, filled.instance_map.max() + 1):
        pieces = ndimage.label(filled.instance_map == number)[1]
        assert pieces <= 1, f"nucleus {number} is in {pieces} pieces"
    np.testing.assert_array_equal(filled.instance_map > 0, np.pad(image.instance_map > 0, (0, 212), mode="reflect"))


def test_enlarging_keeps_shape_and_states_the_finer_resolution():
    image = image_of(160, 200)
    large = enlarge(image, 256)
    assert large.instance_map.shape == (256, 320)
    assert large.mpp == pytest.approx(0.25 * 160 / 256)
    wanted, found = (np.bincount(p.instance_map.ravel())[1:] * p.mpp**2 for p in (image, large))
    np.testing.assert_allclose(found, wanted, rtol=0.25)
    assert set(np.unique(large.type_map)) <= set(np.unique(image.type_map))
    for number in (1, 50, 100):  # nothing is shifted
        centres = [np.argwhere(p.instance_map == number).mean(0) + 0.5 for p in (image, large)]
        np.testing.assert_allclose(centres[1], centres[0] * 1.6, atol=0.8)


def test_patches_about_which_nothing_is_known_are_dropped():
    image = image_of(256, 512)
    types = image.type_map.copy()
    types[:, 256:] = IGNORE
    tally = Tally()
    [left] = cut([replace(image, type_map=types)], 256, tally)
    assert left.name == "im_0_0"
    assert (tally.cut, tally.nothing_known) == (1, 1)


@pytest.mark.parametrize("side", [0, 63, 5000])
def test_a_side_out_of_range_is_refused(side):
    with pytest.raises(InputError, match=f"Patches of {side} px"):
        list(cut([image_of(300, 300)], side, Tally()))
