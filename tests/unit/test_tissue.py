"""Tissue masks of made-up slides with a known answer, and of real ones."""

from pathlib import Path

import numpy as np
import pytest
import shapely

from cytolite.slides.levels import ArrayLevel, Pyramid
from cytolite.slides.reader import Slide, open_slide
from cytolite.slides.tissue import MASK_MPP, TissueMask, find_tissue

PINK, PURPLE = (225, 150, 195), (120, 80, 150)
GREEN_INK, BLUE_INK, BLACK_INK = (20, 150, 110), (30, 50, 160), (20, 20, 22)


def slide_of(image, mpp=4.0):
    return Slide(Path("made.png"), Pyramid("png", [ArrayLevel(image)], None, lambda: None), mpp)


def tissue_mask(slide):
    return find_tissue(slide)[0]


def painted(ground, parts=(), size=(400, 500), noise=2.0):
    """An image of `ground` with rectangles (rows, cols, colour) and a scanner's noise."""
    image = np.empty((*size, 3), np.float64)
    image[:] = ground
    for rows, cols, colour in parts:
        image[rows, cols] = colour
    image += np.random.default_rng(0).normal(0, noise, image.shape)
    return image.clip(0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("ground", [(255, 255, 255), (243, 240, 244), (215, 215, 215), (128, 128, 128), (0, 0, 0)])
def test_tissue_on_any_ground(ground):
    rows, cols = slice(100, 300), slice(120, 380)
    image = painted(ground, [(rows, cols, PINK), (slice(150, 200), slice(200, 250), PURPLE)])
    found = tissue_mask(slide_of(image))
    truth = np.zeros(found.mask.shape, bool)
    truth[50:150, 60:190] = True
    assert found.scale_px == 2
    assert found.mask[truth].all(), "tissue must not be lost"
    # Grown by 16 um (2 px) and blurred by one mask pixel at most: nothing else is taken.
    wider = np.zeros_like(truth)
    wider[47:153, 57:193] = True
    assert not found.mask[~wider].any()


@pytest.mark.parametrize("ground", [(255, 255, 255), (242, 238, 243), (200, 200, 200), (0, 0, 0)])
def test_a_blank_slide_has_no_tissue(ground):
    found = tissue_mask(slide_of(painted(ground)))
    assert not found.mask.any()
    assert found.area_mm2(4.0) == 0


@pytest.mark.parametrize("ink", [GREEN_INK, BLUE_INK, BLACK_INK])
def test_pens_are_no_tissue(ink):
    image = painted((244, 242, 244), [(slice(20, 60), slice(20, 480), ink), (slice(200, 300), slice(100, 300), PINK)])
    found = tissue_mask(slide_of(image)).mask
    assert not found[:40].any()
    assert found[100:150, 50:150].all()


def test_dust_is_dropped_and_lumina_are_kept():
    parts = [
        (slice(200, 360), slice(100, 300), PINK),
        (slice(250, 290), slice(150, 200), (244, 242, 244)),  # 160 x 200 um: a lumen
        (slice(40, 44), slice(400, 404), PURPLE),  # 16 um: dust
    ]
    found = tissue_mask(slide_of(painted((244, 242, 244), parts))).mask
    assert found[100:180, 50:150].all()
    assert not found[:80].any()


@pytest.mark.parametrize("mpp", [0.25, 0.5, 1.0])
def test_a_field_full_of_tissue_is_not_split(mpp):
    """Half pale, half dark: Otsu's threshold would cut between them."""
    image = painted((238, 205, 225), [(slice(0, 400), slice(0, 250), PURPLE)], noise=8)
    assert tissue_mask(slide_of(image, mpp)).mask.all()


def test_large_tissue_filling_the_slide_is_all_tissue():
    image = painted((238, 205, 225), [(slice(0, 400), slice(0, 250), PURPLE)], noise=8)
    assert tissue_mask(slide_of(image, 4.0)).mask.all()


def test_a_blank_field_is_blank():
    assert not tissue_mask(slide_of(painted((244, 243, 244)), 0.25)).mask.any()


def test_area_is_exact_at_the_edges():
    slide = slide_of(np.zeros((333, 1001, 3), np.uint8), mpp=0.5)
    whole = TissueMask.whole(slide)
    assert whole.scale_px == MASK_MPP / 0.5
    assert whole.area_mm2(0.5) == pytest.approx(333 * 1001 * 0.25e-6, rel=1e-12)
    some = TissueMask(np.array([[True, False], [False, True]]), 16.0, width_px=20, height_px=30)
    assert some.area_mm2(1.0) == pytest.approx((16 * 16 + 4 * 14) / 1e6)


def test_contains_and_bounds():
    mask = TissueMask(np.array([[True, False], [False, True]]), 10.0, 20, 20)
    xy = np.array([[0, 0], [9.99, 9.99], [10, 0], [15, 15], [20, 15], [-0.1, 0], [0, 12]], float)
    assert mask.contains(xy).tolist() == [True, True, False, True, False, False, False]
    assert mask.contains(np.empty((0, 2))).tolist() == []
    assert mask.bounds_within(0, 0, 5, 5) == (0, 0, 10, 10)
    assert mask.bounds_within(9.5, 5, 19.5, 6) == (0, 0, 10, 10)
    assert mask.bounds_within(5, 5, 15, 15) == (0, 0, 20, 20)
    assert mask.bounds_within(10, 0, 20, 20) == (10, 10, 20, 20)
    assert mask.bounds_within(10, 0, 20, 10) is None
    assert mask.bounds_within(-50, -50, 0, 0) is None
    assert mask.bounds_within(20, 20, 70, 70) is None


def test_real_slides(shared_data):
    """Shares read off the pictures; the outlines were looked at."""
    shares = {"TCGA-V5-A7RE_stitched_40x.tiff": 0.417, "pathml_small_HE.svs": 0.449, "instanseg_HE_example.tif": 0.795}
    for name, share in shares.items():
        with open_slide(shared_data / "slides" / name) as slide:
            assert tissue_mask(slide).mask.mean() == pytest.approx(share, abs=0.02), name


def test_real_fields_are_all_tissue(shared_data):
    fields = sorted((shared_data / "consep" / "image").glob("*.png"))[:9]
    for path in fields:
        with open_slide(path, mpp=0.25) as slide:
            assert tissue_mask(slide).mask.all(), path.name


GLASS = (244, 242, 244)


def test_tissue_is_neither_grown_nor_closed_nor_filled():
    parts = [
        (slice(100, 300), slice(100, 300), PINK),
        (slice(150, 182), slice(150, 190), GLASS),  # a lumen, which is searched
        (slice(100, 300), slice(220, 224), GLASS),  # a cleft of 16 um
    ]
    searched, tissue = find_tissue(slide_of(painted(GLASS, parts)))
    stained_px = 200 * 200 - 32 * 40 - 200 * 4
    assert tissue.area_mm2(4.0) == pytest.approx(stained_px * 16e-6, rel=1e-6)
    assert searched.area_mm2(4.0) > 1.1 * tissue.area_mm2(4.0)
    assert not (tissue.mask & ~searched.mask).any()


@pytest.mark.parametrize("mpp", [0.25, 0.5])
def test_lumina_of_a_field_are_searched_but_no_tissue(mpp):
    image = painted(GLASS, [(slice(0, 400), slice(0, 256), PINK)], size=(384, 512))
    searched, tissue = find_tissue(slide_of(image, mpp))
    assert searched.mask.all()
    assert tissue.area_mm2(mpp) == pytest.approx(384 * 256 * mpp**2 / 1e6, rel=1e-6)


def test_pens_and_blank_ground_are_no_tissue():
    for ground in ((255, 255, 255), (200, 200, 200), (0, 0, 0)):
        pens = [(slice(20, 60), slice(20, 480), GREEN_INK), (slice(20, 60), slice(100, 200), BLUE_INK)]
        image = painted(ground, pens)
        assert not find_tissue(slide_of(image))[1].mask.any()


@pytest.mark.parametrize("seed", range(20))
def test_the_outline_is_the_mask(seed):
    """Any mask, with corners that touch: valid, as large as the mask, and of the same points."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 12, 2)
    mask = rng.random((height, width)) < rng.uniform(0.2, 0.9)
    tissue = TissueMask(mask, 4.0, int(width * 4 - rng.integers(0, 4)), int(height * 4 - rng.integers(0, 4)))
    outline = tissue.outline()
    assert outline.is_valid
    assert outline.area == pytest.approx(tissue.area_mm2(1000.0))
    rows, cols = np.indices(mask.shape)
    found = shapely.contains_xy(outline, cols.ravel() * 4 + 0.5, rows.ravel() * 4 + 0.5)
    np.testing.assert_array_equal(found, mask.ravel())


def test_a_hole_stays_a_hole():
    mask = np.ones((5, 5), np.bool_)
    mask[2, 2] = mask[1, 1] = False  # they touch at a corner
    outline = TissueMask(mask, 1.0, 5, 5).outline()
    [polygon] = outline.geoms
    assert len(polygon.interiors) == 2
    assert TissueMask(np.zeros((3, 3), np.bool_), 1.0, 3, 3).outline().is_empty


def test_true_areas_of_real_slides(shared_data):
    """Against optical density above a threshold by hand, on a picture of about 1 um/px blurred to 8 um."""
    slides = {"TCGA-V5-A7RE_stitched_40x.tiff": 2.203, "pathml_small_HE.svs": 0.621, "instanseg_HE_example.tif": 0.367}
    for name, area in slides.items():
        with open_slide(shared_data / "slides" / name, 0.5 if name.startswith("instanseg") else None) as slide:
            assert find_tissue(slide)[1].area_mm2(slide.mpp) == pytest.approx(area, rel=0.03), name
