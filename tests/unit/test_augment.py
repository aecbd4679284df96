import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="training needs the extra `train`")
pytest.importorskip("torch", reason="training needs the extra `train`")

from cytolite.celltypes import IGNORE  # noqa: E402
from cytolite.decoding import flows  # noqa: E402
from cytolite.patches import Patch  # noqa: E402
from cytolite.training.augment import STAINS, crop, degrade, jitter_stain, warp_image, warp_labels, warp_matrix  # noqa: E402


def patch(size: int = 96, mpp: float = 0.25) -> Patch:
    """Nuclei as dark discs on white, with an image that says which pixel is which."""
    rng = np.random.default_rng(0)
    instances = np.zeros((size, size), np.int32)
    rows, cols = np.mgrid[:size, :size]
    for i in range(1, 9):
        y, x = rng.integers(10, size - 10, 2)
        instances[(rows - y) ** 2 + (cols - x) ** 2 < 49] = i
    image = np.where(instances[..., None] > 0, [90, 40, 120], 255).astype(np.uint8)
    return Patch("p", image, instances, (instances % 7 + (instances > 0)).clip(0, 7).astype(np.uint8), mpp, "s", "g")


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("quarters", range(4))
def test_quarter_turns_are_exact_and_turn_the_flows(quarters, flip):
    """A warp by 90 degrees gives numpy's rot90, and the flows of the turned map: (dy, dx) turned with it."""
    p = patch(64)
    matrix = warp_matrix((32, 32), 1.0, quarters * np.pi / 2, flip, 64)
    turned = np.rot90(p.instance_map, quarters)
    turned = turned[:, ::-1] if flip else turned
    np.testing.assert_array_equal(warp_labels(p.instance_map, matrix, 64, 0), turned)
    dy, dx = (np.rot90(c, quarters) for c in flows.encode(p.instance_map))
    for _ in range(quarters):  # counter-clockwise: what pointed right points up
        dy, dx = -dx, dy
    if flip:
        dy, dx = dy[:, ::-1], -dx[:, ::-1]
    inner = (slice(None), slice(16, 48), slice(16, 48))
    found = crop(p, matrix, 64).flows
    away = ~np.isin(turned, np.unique([turned[0], turned[-1], turned[:, 0], turned[:, -1]]))[inner[1:]]
    # Of two pixels as near to the middle, the map's orientation decides which is the centre: a few vectors differ.
    same = np.abs(found[inner][:, away] - np.stack([dy, dx])[inner][:, away]).max(0) < 1e-5
    assert same.mean() > 0.99


def test_halving_averages_blocks():
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    matrix = warp_matrix((32, 32), 2.0, 0.0, False, 32)
    blocks = image.reshape(32, 2, 32, 2, 3).mean((1, 3))
    assert np.abs(warp_image(image, matrix, 32, 2) - blocks).max() <= 1


@pytest.mark.parametrize("angle", [0.0, 0.4, 2.0])
def test_image_and_labels_are_warped_alike(angle):
    p = patch()
    taken = crop(p, warp_matrix((50.3, 44.8), 1.7, angle, True, 32), 32)
    dark = taken.image[..., 1] < 150
    assert (dark != (taken.instance_map > 0)).mean() < 0.03
    assert ((taken.type_map > 0) == (taken.instance_map > 0)).all()
    np.testing.assert_array_equal(np.abs(taken.flows).max(0) > 0, taken.instance_map > 0)


@pytest.mark.parametrize("angle", [0.0, 0.4, 2.0])
def test_truth_on_a_coarser_grid_lies_over_the_same_image(angle):
    """Each pixel of the truth lies over the middle of 2 x 2 pixels of the image: a shift by half a pixel would show."""
    p = patch()
    taken = crop(p, warp_matrix((50.3, 44.8), 0.9, angle, True, 64), 64, stride=2)
    assert taken.image.shape == (64, 64, 3)
    assert taken.instance_map.shape == taken.type_map.shape == taken.flows.shape[1:] == (32, 32)
    darkness = 255 - taken.image[..., 1].astype(float)
    inside = np.repeat(np.repeat(taken.instance_map > 0, 2, 0), 2, 1)
    assert ((darkness > 107) != inside).mean() < 0.06
    shifts = [np.roll(inside, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    overlaps = [(shifted * darkness).sum() for shifted in shifts]
    assert int(np.argmax(overlaps)) == 4


def test_beyond_the_patch_nothing_is_taught():
    p = patch()
    taken = crop(p, warp_matrix((0, 48), 1.0, 0.0, False, 32), 32)
    assert (taken.type_map[:, :16] == IGNORE).all()
    assert not taken.instance_map[:, :16].any()
    assert (taken.type_map[:, 16:] != IGNORE).all()


def test_a_nucleus_cut_by_the_crop_points_to_its_whole_centre():
    p = patch()
    ys, xs = np.nonzero(p.instance_map == 1)
    # The crop's left edge lies two pixels right of the centre: what remains still points left.
    taken = crop(p, warp_matrix((xs.mean() + 2 + 16, ys.mean()), 1.0, 0.0, False, 32), 32)
    inside = taken.instance_map == 1
    assert inside.any()
    assert (taken.flows[1][inside] < 0).mean() > 0.9


def test_stain_and_scanner_change_colours_by_the_seed_alone():
    image = patch().image
    first, second, other = (degrade(jitter_stain(image, rng), rng) for rng in map(np.random.default_rng, (5, 5, 6)))
    np.testing.assert_array_equal(first, second)
    assert first.dtype == np.uint8
    assert first.shape == image.shape
    assert np.abs(first.astype(int) - other).mean() > 1


def test_stain_is_varied_in_optical_density():
    """Step by step as Tellez et al. write it; the two matrices give the same to rounding."""
    image = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    found = jitter_stain(image, np.random.default_rng(2))
    rng = np.random.default_rng(2)
    amounts = -np.log((image.astype(float) + 1) / 256) @ np.linalg.inv(STAINS.astype(float))
    amounts = amounts * rng.uniform(0.8, 1.2, 3) + rng.uniform(-0.025, 0.025, 3)
    rgb = 256 * np.exp(-(amounts @ STAINS)) - 1
    grey = rgb.mean(2, keepdims=True)
    rgb = grey + (rgb - grey) * rng.uniform(0.7, 1.3)
    rgb = 255 - (255 - rgb) * rng.uniform(0.8, 1.2) + rng.uniform(-8, 8)
    difference = np.abs(found.astype(int) - np.clip(rgb, 0, 255).astype(np.uint8))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3
