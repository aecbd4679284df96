"""Crops against another library's mirror and bicubic filter; cells against a slow reading, one cell at a time."""

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="relabelling needs the extra `train`")
torch = pytest.importorskip("torch", reason="relabelling needs the extra `train`")
ndimage = pytest.importorskip("scipy.ndimage", reason="relabelling needs the extra `train`")
pytest.importorskip("h5py", reason="stores need the extra `train`")

from cytolite import celltypes  # noqa: E402
from cytolite.config import RelabelSettings  # noqa: E402
from cytolite.datasets.store import Store  # noqa: E402
from cytolite.patches import Patch  # noqa: E402
from cytolite.relabel import stain  # noqa: E402
from cytolite.relabel.crops import cut, find_cells, scaled  # noqa: E402
from cytolite.relabel.samples import cells_of, crops_of  # noqa: E402
from fakes import random_nuclei  # noqa: E402

AREA = celltypes.by_name("macrophage").id


def a_patch(seed: int = 0, shape: tuple[int, int] = (90, 120), mpp: float = 0.25) -> Patch:
    rng = np.random.default_rng(seed)
    instance_map, types = random_nuclei(rng, shape, 30)
    type_map = types[instance_map]
    # Two whole cells without an outline, one of which touches a nucleus; ids with gaps, as datasets have them.
    for rows, cols in ((slice(2, 9), slice(100, 111)), (slice(70, 88), slice(1, 20))):
        free = instance_map[rows, cols] == 0
        type_map[rows, cols][free] = AREA
    # Not to the ends of uint8: Pillow clips between its two passes, where the cubic filter overshoots.
    image = rng.integers(80, 176, (*shape, 3), dtype=np.uint8)
    return Patch("a", image, instance_map * 7, type_map, mpp, "s", "g")


def slow_crop(image: np.ndarray, box: np.ndarray, margin: int, size: int, border: int) -> np.ndarray:
    """Mirror with OpenCV, cut, resize with torch's antialiased bicubic filter."""
    height, width = image.shape[:2]
    image = image[border : height - border, border : width - border]
    top, bottom, left, right = (int(v) - border for v in box)
    top, bottom = max(top, 0), min(bottom, image.shape[0])
    left, right = max(left, 0), min(right, image.shape[1])
    mirrored = cv2.copyMakeBorder(image, *([margin] * 4), cv2.BORDER_REFLECT_101)
    window = mirrored[top : bottom + 2 * margin, left : right + 2 * margin]
    tensor = torch.from_numpy(window).permute(2, 0, 1)[None].float()
    resized = torch.nn.functional.interpolate(tensor, (size, size), mode="bicubic", antialias=True)
    return resized[0].permute(1, 2, 0).clamp(0, 255).round().numpy().astype(np.uint8)


@pytest.mark.parametrize("mpp", [0.194, 0.25, 0.5])
@pytest.mark.parametrize("size", [48, 64])
def test_crops_are_what_another_library_cuts(mpp, size):
    patch = a_patch(mpp=mpp)
    settings = RelabelSettings(crop_px=size)
    cells, _ = cells_of(patch, settings)
    inside = (cells.inner_areas > 0).nonzero()[0]
    edges = cells.boxes[inside]
    assert ((edges[:, 0] == 0) | (edges[:, 2] == 0)).any()  # cells at the border are among them
    margin, border = round(15 * 0.25 / mpp), round(4 * 0.25 / mpp)
    assert (margin, border) == {0.194: (19, 5), 0.25: (15, 4), 0.5: (8, 2)}[mpp]
    for crop, box in zip(crops_of(patch, edges, settings), edges, strict=True):
        difference = np.abs(crop.astype(int) - slow_crop(patch.image, box, margin, size, border).astype(int))
        assert difference.max() <= 1  # Pillow rounds between the two passes


def test_a_cell_in_the_border_alone_still_gets_a_picture():
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    crop = cut(image, np.array([[0, 3, 10, 20]], np.int32), 15, 64, border_px=4)
    nearest = cut(image, np.array([[4, 5, 10, 20]], np.int32), 15, 64, border_px=4)
    np.testing.assert_array_equal(crop, nearest)


@pytest.mark.parametrize("shape", [(1, 1), (3, 9), (12, 5)])
def test_a_patch_smaller_than_its_margins_is_mirrored_over_and_over(shape):
    image = np.full((*shape, 3), 77, np.uint8)
    crop = cut(image, np.array([[0, *shape[:1], 0, shape[1]]], np.int32), 15, 64, border_px=4)
    assert crop.shape == (1, 64, 64, 3)
    assert (crop == 77).all()


def test_what_is_outside_the_border_is_never_seen():
    image = np.full((60, 60, 3), 100, np.uint8)
    image[:4] = image[-4:] = 255
    image[:, :4] = image[:, -4:] = 255
    boxes = np.array([[0, 12, 0, 12], [50, 60, 20, 40], [25, 30, 55, 60]], np.int32)
    assert (cut(image, boxes, 15, 64, border_px=4) == 100).all()
    assert (cut(image, boxes, 15, 64, border_px=0) != 100).any()


@pytest.mark.parametrize("border", [0, 4])
@pytest.mark.parametrize("seed", range(3))
def test_cells_are_those_of_a_slow_reading(seed, border):
    patch = a_patch(seed)
    cells = find_cells(patch, border)
    inner = np.zeros(patch.instance_map.shape, bool)
    inner[border : 90 - border, border : 120 - border] = True
    masks = {int(i): patch.instance_map == i for i in np.unique(patch.instance_map) if i}
    areas, n = ndimage.label((patch.instance_map == 0) & (patch.type_map == AREA), np.ones((3, 3)))
    masks |= {-i: areas == i for i in range(1, n + 1)}
    assert n >= 1
    assert sorted(cells.ids.tolist()) == sorted(masks)
    for i, cell_id in enumerate(cells.ids.tolist()):
        mask = masks[cell_id]
        rows, cols = np.nonzero(mask)
        assert cells.boxes[i].tolist() == [rows.min(), rows.max() + 1, cols.min(), cols.max() + 1]
        assert cells.areas[i] == mask.sum()
        assert cells.inner_areas[i] == (mask & inner).sum()
        assert cells.labels[i] == np.bincount(patch.type_map[mask]).argmax()
        np.testing.assert_array_equal(cells.regions == i + 1, mask)


def test_no_cells_and_nothing_but_cells():
    empty = Patch(
        "a", np.zeros((8, 9, 3), np.uint8), np.zeros((8, 9), np.int32), np.zeros((8, 9), np.uint8), 0.25, "s", "g"
    )
    assert len(find_cells(empty)) == 0
    full = Patch("a", empty.image, np.full((8, 9), 5, np.int32), np.full((8, 9), 3, np.uint8), 0.25, "s", "g")
    cells = find_cells(full)
    assert (cells.ids.tolist(), cells.areas.tolist(), cells.labels.tolist()) == ([5], [72], [3])


def test_ignored_ground_is_no_cell():
    patch = a_patch()
    patch.type_map[(patch.type_map == 0)] = celltypes.IGNORE
    assert celltypes.IGNORE not in find_cells(patch).labels


@pytest.mark.parametrize(
    ("mpp", "area", "large"), [(0.25, 89, False), (0.25, 90, True), (0.5, 22, False), (0.5, 23, True)]
)
def test_smallest_area_is_meant_at_a_quarter_um(mpp, area, large):
    instance_map = np.zeros((40, 40), np.int32)
    instance_map.ravel()[np.flatnonzero(np.pad(np.ones((30, 30)), 5))[:area]] = 1
    patch = Patch(
        "a", np.zeros((40, 40, 3), np.uint8), instance_map, (instance_map * 3).astype(np.uint8), mpp, "s", "g"
    )
    assert cells_of(patch, RelabelSettings())[1].tolist() == [large]
    assert scaled(15, mpp) == round(15 * 0.25 / mpp)


def test_macrophages_of_monusac_have_crops(shared_data, tmp_path):
    from cytolite.datasets.monusac import read
    from cytolite.datasets.store import write_store

    write_store(tmp_path / "m.h5", (p for p in read(shared_data / "monusac") if (p.type_map == AREA).any()))
    with Store(tmp_path / "m.h5") as store:
        n = sum(int((find_cells(patch).labels == AREA).sum()) for patch in store)
        patch = store[0]
    assert 100 <= n <= 129  # 129 are annotated; those that touch are one area
    cells = find_cells(patch)
    mine = cells.labels == AREA
    assert (cells.ids[mine] < 0).all()
    crops = crops_of(patch, cells.boxes[mine], RelabelSettings())
    assert crops.shape == (mine.sum(), 64, 64, 3)
    assert crops.std((1, 2, 3)).min() > 5


def test_normalised_stains_are_the_reference_colours():
    """Paint with known stains of other colours and strength; what comes out is the reference, pixel by pixel."""
    rng = np.random.default_rng(0)
    amounts = rng.gamma(1.5, 0.4, (128 * 128, 2)) * (rng.random((128 * 128, 2)) < 0.6)
    amounts = np.clip(amounts, 0, np.percentile(amounts, 99, axis=0))
    given = np.array([[0.65, 0.70, 0.29], [0.10, 0.95, 0.29]])
    image = np.clip(240 * np.exp(-0.5 * amounts @ given) - 1, 0, 255).astype(np.uint8).reshape(128, 128, 3)
    strongest = np.percentile(amounts, 99, axis=0)
    wanted = 240 * np.exp(-(amounts * stain.REFERENCE_AMOUNTS / strongest) @ stain.REFERENCE) - 1
    found = stain.normalise(image).reshape(-1, 3).astype(float)
    assert np.abs(found - np.clip(wanted, 0, 255)).mean() < 6
    assert np.abs(image.reshape(-1, 3) - np.clip(wanted, 0, 255)).mean() > 10


@pytest.mark.parametrize("image", [np.full((64, 64, 3), 255, np.uint8), np.full((64, 64, 3), 120, np.uint8)])
def test_nothing_stained_or_one_colour_stays_as_it_is(image):
    np.testing.assert_array_equal(stain.normalise(image), image)
