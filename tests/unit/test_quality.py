"""What is no good of a slide, on tissue that is painted so that the answer is known, and on real slides."""

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from cytolite.config import SegmentSettings
from cytolite.interop.result import Result
from cytolite.interop.roi import read_regions
from cytolite.segmentation.checks import check_quality
from cytolite.segmentation.plan import plan_slide
from cytolite.segmentation.slide import segment_slide
from cytolite.slides.quality import KINDS, assess, block_focus
from cytolite.slides.reader import open_slide, slide_of
from cytolite.slides.tissue import find_tissue
from fakes import fake_bundle, write_slide

MPP = 1.0


@pytest.fixture(scope="module")
def tissue():
    """1,536 x 1,536 um on glass: sharp pink tissue with dark nuclei everywhere but at the margins."""
    rng = np.random.default_rng(3)
    image = np.full((1536, 1536, 3), 243, np.uint8)
    pink = np.array([222, 150, 190]) + rng.normal(0, 10, (1280, 1280, 1))
    image[128:-128, 128:-128] = pink.clip(0, 255)
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    for x, y in rng.integers(140, 1390, (4000, 2)):
        draw.ellipse((x, y, x + 7, y + 6), (105, 60, 140))
    return picture


def judged(picture):
    slide = slide_of(np.asarray(picture), MPP)
    return assess(slide, find_tissue(slide)[1])


def test_clean_tissue_has_no_artefacts(tissue):
    quality = judged(tissue)
    assert {kind: quality.share(kind) for kind in KINDS} == dict.fromkeys(KINDS, 0.0)
    assert quality.focus > 0.4


@pytest.mark.parametrize("sigma", [2.0, 3.0])
def test_a_blurred_part_is_found_where_it_is(tissue, sigma):
    picture = tissue.copy()
    box = (384, 384, 896, 896)  # whole blocks of 64 um
    picture.paste(picture.crop(box).filter(ImageFilter.GaussianBlur(sigma)), box[:2])
    quality = judged(picture)
    truth = np.zeros((192, 192), bool)
    truth[48:112, 48:112] = True
    found = quality.artefacts["blur"]
    assert (found & truth).sum() > 0.95 * truth.sum()
    assert (found & ~truth).sum() == 0
    assert quality.share("blur") == pytest.approx(512**2 / 1280**2, rel=0.1)


def test_a_small_patch_out_of_focus_is_found_between_blocks_too(tissue):
    picture = tissue.copy()
    box = (415, 410, 495, 490)  # 80 um, over the corners of four blocks of 64
    picture.paste(picture.crop(box).filter(ImageFilter.GaussianBlur(4)), box[:2])
    found = judged(picture).artefacts["blur"]
    assert found[52:60, 52:60].mean() > 0.9
    found[44:68, 44:68] = False  # blocks of 32 um that the patch touches
    assert not found.any()


@pytest.mark.parametrize(("kind", "colour"), [("pen", (30, 60, 190)), ("pen", (20, 120, 60)), ("dark", (25, 24, 26))])
def test_ink_is_found_on_and_beside_tissue(tissue, kind, colour):
    picture = tissue.copy()
    ImageDraw.Draw(picture).rectangle((600, 20, 700, 1500), colour)
    quality = judged(picture)
    other = {"pen": "dark", "dark": "pen"}[kind]
    assert quality.artefacts[kind][5:185, 77:86].all()
    assert 1 <= quality.artefacts[kind].mean() / (101 * 1481 / 1536**2) < 1.5  # grown by two px of the mask at most
    assert not quality.artefacts[other].any()


def folded(tissue):
    """The same with a layer more in a band of 100 x 900 um, under the one that is there: light goes through both."""
    light = np.asarray(tissue, np.float32) / 243
    image = light.copy()
    image[700:800, 300:1200] *= light[850:950, 300:1200]
    return (243 * image).round().clip(0, 255).astype(np.uint8)


def test_a_fold_is_told_and_is_no_blur_and_no_pen(tissue):
    quality = judged(folded(tissue))
    assert quality.artefacts["fold"][88:99, 38:149].mean() > 0.9
    assert quality.share("fold") == pytest.approx(100 * 900 / 1280**2, rel=0.6)
    assert {quality.share(kind) for kind in KINDS if kind != "fold"} == {0.0}


def test_folds_are_suspected_and_left_out_only_if_asked(tissue, tmp_path):
    bundle, slide = fake_bundle(tmp_path / "model", mpp=1.0), slide_of(folded(tissue), MPP)
    plans = {
        which: plan_slide(slide, bundle, SegmentSettings(**dict.fromkeys(which, True)), judged=True)
        for which in ((), ("exclude_artefacts",), ("exclude_folds",))
    }
    whole, sure, flat = plans.values()
    np.testing.assert_array_equal(whole.tissue.mask, sure.tissue.mask)
    fold = flat.quality.artefacts["fold"]
    np.testing.assert_array_equal(flat.tissue.mask, whole.tissue.mask & ~fold)
    np.testing.assert_array_equal(flat.searched.mask, whole.searched.mask & ~fold)
    [warned] = check_quality(whole.quality)
    assert warned.code == "fold"
    assert "may be folded; --exclude-folds" in warned.message


def test_saturation_and_pale_stain_are_measured(tissue):
    image = np.asarray(tissue)
    pale = (243 - (243 - image.astype(float)) * 0.35).astype(np.uint8)
    assert judged(pale).stain < 0.15 < judged(image).stain
    burnt = image.copy()
    burnt[200:700, 200:700, 0] = 255
    assert judged(burnt).saturated > 0.1 > judged(image).saturated


def test_focus_does_not_depend_on_the_strength_of_the_stain(tissue):
    image = np.asarray(tissue)[128:1408, 128:1408]
    pale = (255 - (255 - image.astype(float)) * 0.6).astype(np.uint8)
    a, b = block_focus(image, 64), block_focus(pale, 64)
    assert np.nanmedian(b) == pytest.approx(np.nanmedian(a), rel=0.15)
    assert np.isnan(block_focus(np.full((64, 64, 3), 250, np.uint8), 64)).all()
    assert np.isnan(block_focus(np.full((64, 64, 3), 120, np.uint8), 64)).all()


def test_blank_and_tiny_slides_have_nothing_to_judge():
    for shape in ((1, 1, 3), (40, 900, 3), (300, 300, 3)):
        quality = judged(np.full(shape, 244, np.uint8))
        assert quality.focus is None
        assert not quality.where().any()
        assert json.loads(json.dumps(quality.summary(MPP)))["tissue_share"] == 0


def test_a_run_tells_of_artefacts_and_leaves_them_out_if_asked(tissue, tmp_path):
    picture = tissue.copy()
    picture.paste(picture.crop((384, 384, 896, 896)).filter(ImageFilter.GaussianBlur(3)), (384, 384))
    path = write_slide(tmp_path / "slide.tif", np.asarray(picture), MPP)
    bundle = fake_bundle(tmp_path / "model", mpp=1.0)
    areas = {}
    for exclude in (False, True):
        with open_slide(path) as slide:
            settings = SegmentSettings(exclude_artefacts=exclude, workers=1)
            result = segment_slide(slide, tmp_path / str(exclude), bundle, settings)
        codes = {warning.code for warning in result.warnings}
        assert "blur" in codes
        summary = json.loads((tmp_path / str(exclude) / "summary.json").read_text())
        assert summary["qc"]["artefacts"]["blur"]["mm2"] == pytest.approx(512**2 / 1e6, rel=0.05)
        [artefact] = read_regions(tmp_path / str(exclude) / "artefacts.geojson")
        assert artefact.name == "Artefact: blur"
        areas[exclude] = summary["total"]["tissue_mm2"]
    inside = Result(tmp_path / "True").tissue.intersection(artefact.polygon).area
    assert inside == pytest.approx(0, abs=1)
    # What readers of the tissue get is tissue alone, artefacts are another file.
    assert Result(tmp_path / "False").tissue.area / 1e6 == pytest.approx(areas[False], rel=1e-3)
    assert areas[False] - areas[True] == pytest.approx(512**2 / 1e6, rel=0.1)


def test_the_plan_of_a_slide_without_artefacts_is_the_same(tissue, tmp_path):
    bundle = fake_bundle(tmp_path / "model", mpp=1.0)
    slide = slide_of(np.asarray(tissue), MPP)
    with_, without = (
        plan_slide(slide, bundle, SegmentSettings(exclude_artefacts=exclude)) for exclude in (True, False)
    )
    assert with_.tiles == without.tiles
    np.testing.assert_array_equal(with_.searched.mask, without.searched.mask)


def test_real_slides(shared_data):
    """Judged by eye: one with pen all over, and two that are clean."""
    expected = {"pathml_small_dicom.dcm": (1.0, True), "TCGA-V5-A7RE_stitched_40x.tiff": (None, False)}
    for name, (mpp, pen) in expected.items():
        with open_slide(shared_data / "slides" / name, mpp) as slide:
            quality = assess(slide, find_tissue(slide)[1])
        assert (quality.share("pen") > 0.03) == pen
        assert quality.share("blur") < 0.001
        assert quality.share("fold") < 0.01
