"""Folds on painted tissue, where a layer more is added as light sees it, and on real slides with and without them."""

import numpy as np
import pytest
from scipy import ndimage

from cytolite.slides.folds import find_folds
from cytolite.slides.reader import open_slide
from cytolite.slides.tissue import find_tissue

SIDE = 160  # px of 8 um
GLASS = np.array([243.0, 243, 243])
EOSIN, HAEMATOXYLIN = np.array([0.05, 0.35, 0.2]), np.array([0.35, 0.35, 0.15])


@pytest.fixture(scope="module")
def tissue():
    """1 x 1 mm on glass: density (h, w, 3), which varies by 10%, and where it is, bool (h, w)."""
    rng = np.random.default_rng(5)
    mask = np.zeros((SIDE, SIDE), bool)
    mask[15:-15, 15:-15] = True
    variation = ndimage.gaussian_filter(rng.normal(0, 1, (2, SIDE, SIDE)), (0, 1.5, 1.5))
    amount = 1 + 0.1 * variation / variation.std()
    density = amount[0][..., None] * EOSIN + amount[1][..., None] * HAEMATOXYLIN * 0.7
    return density * mask[..., None], mask


def seen(density):
    """What a scanner shows of tissue of some optical density."""
    return np.round(GLASS * np.exp(-density)).astype(np.uint8)


def band(*, at, angle=0.0, width=12, length=70):
    """Return a rectangle as bool (h, w)."""
    y, x = np.mgrid[:SIDE, :SIDE] - np.array(at)[:, None, None]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return (np.abs(along) <= length / 2) & (np.abs(across) <= width / 2)


@pytest.mark.parametrize("layers", [2, 3])
@pytest.mark.parametrize(
    "place",
    [
        {"at": (80, 80)},
        {"at": (70, 60), "angle": 0.6, "width": 6},
        {"at": (90, 80), "angle": 1.5, "width": 24},
        {"at": (140, 80)},  # an edge that curled over
    ],
)
def test_layers_are_found_where_they_are(tissue, layers, place):
    density, mask = tissue
    fold = band(**place) & mask
    # The layers above are other parts of the tissue, moved there.
    above = sum(np.roll(density, 17 * i, axis=1) for i in range(1, layers))
    found = find_folds(seen(density + above * fold[..., None]), mask)
    assert (found & fold).sum() > 0.8 * fold.sum()
    assert ndimage.distance_transform_edt(~fold)[found].max() <= 5  # 40 um


def test_tissue_without_folds_has_none(tissue):
    density, mask = tissue
    assert not find_folds(seen(density), mask).any()
    assert not find_folds(seen(density * 2), mask).any()  # all of it: a thick section


@pytest.mark.parametrize("stain", [EOSIN, HAEMATOXYLIN], ids=["as keratin", "as a follicle"])
def test_more_of_one_stain_is_no_fold(tissue, stain):
    density, mask = tissue
    dense = band(at=(80, 80)) & mask
    found = find_folds(seen(density + 2 * stain * dense[..., None]), mask)
    assert not found.any()


def test_density_that_grows_slowly_is_no_fold(tissue):
    density, mask = tissue
    ridge = np.exp(-(((np.arange(SIDE) - 80) / 25.0) ** 2))[:, None, None]
    assert not find_folds(seen(density * (1 + ridge)), mask).any()


def test_tissue_that_is_half_as_thick_again_is_no_fold(tissue):
    density, mask = tissue
    assert not find_folds(seen(density * (1 + 0.45 * band(at=(80, 80))[..., None])), mask).any()


def test_nothing_is_said_of_little_tissue(tissue):
    density, mask = tissue
    small = np.s_[50:110, 50:110]
    fold = band(at=(80, 80), length=40)
    image = seen(density * (1 + fold[..., None]))[small]
    assert not find_folds(image, mask[small]).any()
    assert not find_folds(np.full((1, 1, 3), 243, np.uint8), np.zeros((1, 1), bool)).any()


def thumbnail(path, mpp):
    with open_slide(path, mpp) as slide:
        tissue = find_tissue(slide)[1]
        height, width = tissue.mask.shape
        return slide.read(0, 0, width, height, slide.mpp * tissue.scale_px), tissue.mask


def test_edges_that_curled_over_on_a_real_slide(shared_data):
    """Six places, judged by eye; there is no um/px in the file, nuclei have 7 to 8 px, so it is about 1."""
    found = find_folds(*thumbnail(shared_data / "slides" / "histolab_tcga-cr-7395-01a-01-ts1.svs", 1.0))
    folds = [
        (195, 3, 302, 32), (0, 388, 16, 434), (198, 530, 252, 555), (258, 532, 300, 555), (360, 488, 445, 530),
        (408, 322, 438, 402),
    ]  # fmt: skip
    places = [np.s_[top:bottom, left:right] for top, left, bottom, right in folds]
    assert sum(found[place].sum() > 100 for place in places) >= 5
    for place in places:
        found[place] = False
    assert found.mean() < 0.01


@pytest.mark.parametrize(
    ("name", "mpp"),
    [("pathml_small_HE.svs", None), ("TCGA-V5-A7RE_stitched_40x.tiff", None), ("pathml_small_dicom.dcm", 1.0)],
)
def test_real_slides_without_folds(shared_data, name, mpp):
    """The first is skin, with keratin that is as dense as two layers."""
    image, tissue = thumbnail(shared_data / "slides" / name, mpp)
    assert (find_folds(image, tissue) & tissue).sum() < 0.005 * tissue.sum()
