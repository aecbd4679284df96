"""Slides as the world writes them: damaged tiles, scenes, three channels, transparency, DICOM's colours and parts."""

import io
import json
import logging
from pathlib import Path

import imagecodecs
import numpy as np
import openslide
import pydicom
import pytest
import tifffile
from PIL import Image

import fakes
from cytolite.config import SegmentSettings
from cytolite.datasets.base import read_rgb
from cytolite.errors import InputError, SlideError, Stopped
from cytolite.interop.parquet import read_cells
from cytolite.segmentation.slide import segment_slide
from cytolite.slides.jpeg_check import EndsEarlyError, require_whole_jpeg
from cytolite.slides.reader import open_slide
from slide_files import dicom_file, halved, picture, write_pyramid


def smooth(height: int = 300, width: int = 420) -> np.ndarray:
    return np.asarray(Image.fromarray(picture(height // 15, width // 15)).resize((width, height)))


# JPEG that ends early


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    "options",
    [{}, {"subsampling": 0}, {"subsampling": 2, "optimize": True}, {"quality": 98}, {"restart_marker_blocks": 5}],
)
def test_whole_jpegs_pass_and_shortened_ones_do_not(options, mode):
    file = io.BytesIO()
    Image.fromarray(smooth(131, 203)).convert(mode).save(file, "JPEG", **options)
    whole = file.getvalue()
    require_whole_jpeg(whole)
    require_whole_jpeg(whole[:-2])  # without its end marker, but with all of its picture
    require_whole_jpeg(whole + bytes(7))
    for share in np.linspace(0.5, 0.99, 15):
        cut = whole[: int(len(whole) * share)]
        for data in (cut, cut + b"\xff\xd9", cut + b"\xff\xd9" + bytes(40)):
            with pytest.raises(EndsEarlyError, match=r"ends early|ends within"):
                require_whole_jpeg(data)


def test_progressive_jpeg_needs_its_end():
    file = io.BytesIO()
    Image.fromarray(smooth()).save(file, "JPEG", progressive=True)
    require_whole_jpeg(file.getvalue())
    with pytest.raises(EndsEarlyError, match="ends early"):
        require_whole_jpeg(file.getvalue()[:-60])


def shorten(path: Path, page: int, index: int, *, end: bytes = b"") -> None:
    """Let one tile or strip of a TIFF end after two thirds; what is left of its bytes is `end` and zeros."""
    with tifffile.TiffFile(path) as tiff:
        pages = [level.pages[0].aspage() for level in tiff.series[0].levels]
        offset, count = pages[page].dataoffsets[index], pages[page].databytecounts[index]
    data = bytearray(path.read_bytes())
    kept = count * 2 // 3
    data[offset + kept : offset + count] = (end + bytes(count))[: count - kept]
    path.write_bytes(data)


KINDS = {
    "tiled": {"tile": (64, 64)},
    "striped": {"rowsperstrip": 64},
    "ome": {"tile": (64, 64), "ome": True},
    "rgb": {"tile": (64, 64), "photometric": "rgb", "compressionargs": {"outcolorspace": "rgb"}},
    "svs": {"tile": (64, 64), "description": "Aperio Image Library v12.0.15\n420x300 (64x64)|MPP = 0.25"},
}


@pytest.mark.parametrize("kind", ["tiled", "striped", "svs"])
def test_a_training_image_that_ends_early_is_not_read_as_grey(tmp_path, kind):
    path = tmp_path / ("a.svs" if kind == "svs" else "a.tif")
    tifffile.imwrite(path, smooth(), photometric="ycbcr", compression="jpeg", metadata=None, **KINDS[kind])
    assert read_rgb(path).shape == (300, 420, 3)
    shorten(path, 0, 2)
    with pytest.raises(InputError, match="damaged"):
        read_rgb(path)


@pytest.mark.parametrize("end", [b"", b"\xff\xd9"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_tile_that_ends_early_is_an_error_that_names_the_place(tmp_path, kind, end):
    options = {"photometric": "ycbcr", "compression": "jpeg", "metadata": None} | KINDS[kind]
    if kind == "ome":
        options.pop("metadata")
    path = tmp_path / ("a.ome.tif" if kind == "ome" else "a.tif")
    tifffile.imwrite(path, smooth(), resolution=(40_000, 40_000), resolutionunit="CENTIMETER", **options)
    with open_slide(path, 0.25) as slide:
        whole = slide.read(0, 0, 420, 300, 0.25)
    index, place = (2, (0, 128, 420, 64)) if kind == "striped" else (9, (128, 64, 64, 64))
    shorten(path, 0, index, end=end)
    x, y, width, height = place
    with open_slide(path, 0.25) as slide:
        assert (slide.read(300, 260, 100, 40, 0.25) == whole[260:, 300:400]).all()
        with pytest.raises(SlideError, match=rf"x {x}, y {y}, {width} x {height} px of level 0 .*ends early.*skip"):
            slide.read(0, 0, 420, 300, 0.25)
    with open_slide(path, 0.25, skip_damaged=True) as slide:
        whole[y : y + height, x : x + width] = 255
        assert np.array_equal(slide.read(0, 0, 420, 300, 0.25), whole)
        assert slide.damaged == [place]


@pytest.mark.parametrize("codec", ["deflate", "lzw", "jpeg", "jpeg2000", "webp", "zstd"])
def test_tiles_of_all_codecs_that_are_too_short_are_told(tmp_path, codec):
    write_pyramid(tmp_path / "a.tif", picture(), compression=codec)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tiff:
        counts = list(tiff.pages[0].databytecounts)
        counts[9] = counts[9] * 2 // 3
        tiff.pages[0].tags["TileByteCounts"].overwrite(counts)
    with open_slide(tmp_path / "a.tif", 0.25, skip_damaged=True) as slide:
        slide.read(0, 0, 420, 300, 0.25)
        assert slide.damaged == [(128, 64, 64, 64)]
    with open_slide(tmp_path / "a.tif", 0.25) as slide, pytest.raises(SlideError, match="x 128, y 64, 64 x 64"):
        slide.read(0, 0, 420, 300, 0.25)


@pytest.mark.parametrize("codec", ["jpeg", "jpeg2000"])
def test_dicom_frames_that_end_early(tmp_path, codec):
    dicom_file(tmp_path / "a.dcm", smooth(), codec=codec)
    data = pydicom.dcmread(tmp_path / "a.dcm")
    frames = list(pydicom.encaps.generate_frames(data.PixelData, number_of_frames=35))
    frames[9] = frames[9][: len(frames[9]) // 2]
    data.PixelData = pydicom.encaps.encapsulate(frames)
    data.save_as(tmp_path / "a.dcm")
    with open_slide(tmp_path / "a.dcm") as slide, pytest.raises(SlideError, match="x 128, y 64, 64 x 64 px of level 0"):
        slide.read(0, 0, 420, 300, 0.25)
    with open_slide(tmp_path / "a.dcm", skip_damaged=True) as slide:
        assert (slide.read(0, 0, 420, 300, 0.25)[64:128, 128:192] == 255).all()
        assert slide.damaged == [(128, 64, 64, 64)]


def test_through_openslide_other_blocks_are_read_after_an_error(tmp_path, monkeypatch):
    """OpenSlide refuses every read after its first error, wherever it was."""
    image = smooth(1200, 1100)
    options = {"photometric": "ycbcr", "compression": "jpeg", "tile": (256, 256), "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", image, **options)
    whole = np.asarray(openslide.OpenSlide(str(tmp_path / "a.tif")).read_region((0, 0), 0, (1100, 1200)))[
        ..., :3
    ].copy()
    shorten(tmp_path / "a.tif", 0, 0)
    monkeypatch.setattr("cytolite.slides.tiff_reader.open_tiff", lambda *_: None)
    with open_slide(tmp_path / "a.tif", 0.25, skip_damaged=True) as slide:
        got = slide.read(0, 0, 1100, 1200, 0.25)
        assert slide.damaged == [(0, 0, 512, 512)]
        whole[:512, :512] = 255
        assert np.array_equal(got, whole)
    with open_slide(tmp_path / "a.tif", 0.25) as slide:
        for _ in range(2):
            with pytest.raises(SlideError, match="cannot be read at x 0, y 0"):
                slide.read(0, 0, 64, 64, 0.25)
            assert np.array_equal(slide.read(600, 600, 64, 64, 0.25), whole[600:664, 600:664])


def test_a_damaged_lower_level_does_not_matter(tmp_path, caplog):
    image = picture()
    write_pyramid(tmp_path / "a.tif", image, compression="deflate")
    shorten(tmp_path / "a.tif", 1, 0)
    with open_slide(tmp_path / "a.tif") as slide:
        assert np.array_equal(slide.read(0, 0, 210, 150, 0.5), halved(image))
    assert "of level 1" in caplog.text
    assert "finer level" in caplog.text


def test_a_plain_jpeg_that_ends_early_is_refused(tmp_path):
    file = io.BytesIO()
    Image.fromarray(smooth()).save(file, "JPEG")
    (tmp_path / "a.jpg").write_bytes(file.getvalue()[:-300] + b"\xff\xd9")
    with pytest.raises(SlideError, match="ends early"):
        open_slide(tmp_path / "a.jpg", 0.25)


def test_what_is_damaged_is_left_out_and_told_also_after_a_resume(tmp_path):
    instances, types = fakes.random_nuclei(np.random.default_rng(3), (700, 700), 120)
    path = fakes.write_slide(tmp_path / "a.tif", fakes.paint(instances, types), mpp=0.5)
    bundle, settings = fakes.fake_bundle(tmp_path / "bundle"), SegmentSettings(damaged="skip", tissue="all", tile=256)

    def run(folder: str, update=lambda done, total: None):
        with open_slide(path, skip_damaged=True) as slide:
            return segment_slide(slide, tmp_path / folder, bundle, settings, update=update)

    whole = run("whole")
    before = read_cells(tmp_path / "whole" / "cells.parquet")
    assert "damaged" not in json.loads((tmp_path / "whole" / "summary.json").read_bytes())
    shorten(path, 0, 4)  # of 3 x 3 tiles of 256 px

    def stop(done: float, total: float) -> None:
        if done > 0.7 * total:
            raise Stopped

    with pytest.raises(Stopped):
        run("part", stop)
    result = run("part")
    summary = json.loads((tmp_path / "part" / "summary.json").read_bytes())
    assert summary["damaged"] == {"tiles": 1, "mm2": round((256 * 0.5e-3) ** 2, 6), "places": [[256, 256, 256, 256]]}
    told = [warning.message for warning in result.warnings if warning.code == "damaged"]
    assert told == ["1 damaged tiles of the file (0.01638 mm²) could not be read and were left out"]
    lost = 256 + 2 * 16 + 256 % 16
    searched = [
        json.loads((tmp_path / f / "summary.json").read_bytes())["total"]["searched_mm2"] for f in ("whole", "part")
    ]
    assert searched[0] - searched[1] == pytest.approx((lost * 0.5e-3) ** 2, rel=0.15)
    assert whole.tissue_mm2 > result.tissue_mm2
    after = read_cells(tmp_path / "part" / "cells.parquet")
    far = (np.abs(before.centroids - 384) > 128 + 40).any(axis=1)
    inside = (np.abs(after.centroids - 384) < 128).all(axis=1)
    assert not inside.any()
    kept = {tuple(xy) for xy in after.centroids.tolist()}
    assert {tuple(xy) for xy in before.centroids[far].tolist()} <= kept
    with open_slide(path) as slide, pytest.raises(SlideError, match="x 256, y 256"):
        segment_slide(slide, tmp_path / "fails", bundle, SegmentSettings(tissue="all"))


# Scenes


def scenes(path: Path, *images: tuple[str, int]) -> Path:
    """An OME-TIFF of square images by name and side, each of one grey level, told apart by it."""
    with tifffile.TiffWriter(path, ome=True) as writer:
        for number, (name, side) in enumerate(images):
            pixels = np.full((side, side, 3), 100 + number, np.uint8)
            metadata = {"axes": "YXS", "Name": name, "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
            writer.write(pixels, photometric="rgb", tile=(64, 64), metadata=metadata)
    return path


@pytest.mark.parametrize(
    ("name", "is_of_the_glass"),
    [
        ("macro", True), ("Macro image", True), ("label", True), ("Label Image", True), ("slide_label", True),
        ("thumbnail", True), ("overview 1", True), ("unlabelled control 40x", False), ("macrophages CD68", False),
        ("labelled", False), ("macrodissection", False), ("", False),
    ],
)  # fmt: skip
def test_only_whole_names_are_pictures_of_the_glass(tmp_path, name, is_of_the_glass):
    with open_slide(scenes(tmp_path / "a.ome.tif", ("scan", 200), (name, 100))) as slide:
        assert slide.width_px == 200
        assert bool(slide.notes) != is_of_the_glass
    with open_slide(scenes(tmp_path / "b.ome.tif", ("scan", 100), (name, 200))) as slide:  # larger than the scan
        assert slide.width_px == (100 if is_of_the_glass else 200)
        assert "--scene" in slide.notes[0]
    with open_slide(scenes(tmp_path / "c.ome.tif", (name, 100))) as slide:
        assert (slide.width_px, slide.notes) == (100, ())


def test_scenes_are_chosen_by_number_or_name_and_the_others_told(tmp_path):
    path = scenes(tmp_path / "a.ome.tif", ("Section 1", 200), ("Section 2", 180), ("macro", 90), ("2", 120))
    for wanted, grey in ((None, 100), ("1", 100), ("Section 2", 101), ("section  2", 101), ("2", 103), ("3", 103)):
        with open_slide(path, scene=wanted) as slide:
            assert slide.read(0, 0, 1, 1, 0.25).tolist() == [[[grey] * 3]], wanted
            assert len(slide.notes) == 1
            assert "macro" not in slide.notes[0]
            assert slide.notes[0].count("px)") == 3
    for wanted in ("0", "4", "Section", "macro"):
        with pytest.raises(SlideError, match=r"no scene .*it has 1 \(Section 1, 200 x 200 px\), 2 \(Section 2"):
            open_slide(path, scene=wanted)
    Image.fromarray(picture()).save(tmp_path / "a.png")
    with pytest.raises(SlideError, match="no scenes"):
        open_slide(tmp_path / "a.png", 0.25, scene="1")


def test_previews_in_a_plain_tiff_are_no_scenes_and_other_pictures_are(tmp_path):
    image = picture(400, 600)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for pixels in (image, halved(image), image[:100, :90]):
            writer.write(pixels, photometric="rgb", metadata=None)
    with open_slide(tmp_path / "a.tif", 0.25) as slide:
        assert slide.width_px == 600
        assert slide.notes == (
            "image 1 (600 x 400 px) was read; the file also holds 2 (90 x 100 px), which --scene takes",
        )
    with open_slide(tmp_path / "a.tif", 0.25, scene="2") as slide:
        assert np.array_equal(slide.read(0, 0, 90, 100, 0.25), image[:100, :90])


# Three grey channels


def channels(path: Path, image: np.ndarray, names: list[str] | None = None, **options: object) -> Path:
    metadata = {"axes": "CYX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
    metadata |= {"Channel": {"Name": names}} if names else {}
    planes = np.ascontiguousarray(np.moveaxis(image, 2, 0))
    tifffile.imwrite(path, planes, photometric="minisblack", ome=True, metadata=metadata, **options)
    return path


@pytest.mark.parametrize("options", [{}, {"tile": (64, 64), "compression": "deflate"}, {"rowsperstrip": 7}])
def test_three_channels_are_rgb_if_they_are_called_so_or_the_user_says_it(tmp_path, options):
    image = picture()
    for names in (["red", "green", "blue"], ["R", "G", "B"]):
        with open_slide(channels(tmp_path / "a.ome.tif", image, names, **options)) as slide:
            assert np.array_equal(slide.read(0, 0, 420, 300, 0.25), image)
    with open_slide(channels(tmp_path / "a.ome.tif", image[..., ::-1], ["Blue", "Green", "Red"], **options)) as slide:
        assert np.array_equal(slide.read(0, 0, 420, 300, 0.25), image)
    for names in (None, ["DAPI", "FITC", "Cy5"]):
        path = channels(tmp_path / "a.ome.tif", image, names, **options)
        with pytest.raises(SlideError, match=r"3 separate channels \(fluorescence\?: if they are red.*--rgb"):
            open_slide(path)
        with open_slide(path, rgb=True) as slide:
            assert np.array_equal(slide.read(0, 0, 420, 300, 0.25), image)


def test_three_grey_pages_and_more_channels(tmp_path):
    image = picture()
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(image, 2, 0), photometric="minisblack")
    with pytest.raises(SlideError, match="--rgb"):
        open_slide(tmp_path / "a.tif", 0.25)
    with open_slide(tmp_path / "a.tif", 0.25, rgb=True) as slide:
        assert np.array_equal(slide.read(10, 20, 300, 200, 0.25), image[20:220, 10:310])
    tifffile.imwrite(tmp_path / "b.tif", np.moveaxis(image, 2, 0), photometric="rgb", planarconfig="separate")
    with open_slide(tmp_path / "b.tif", 0.25, rgb=True) as slide:  # is RGB already
        assert np.array_equal(slide.read(0, 0, 420, 300, 0.25), image)
    path = channels(tmp_path / "c.ome.tif", np.dstack([image, image[..., :1]]))
    for rgb in (False, True):
        with pytest.raises(SlideError, match="4 separate channels") as told:
            open_slide(path, rgb=rgb)
        assert "--rgb" not in str(told.value)


# Transparency


def over_white(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return np.floor(image * share + 255 * (1 - share) + 0.5)


def test_transparent_ground_is_white_ground(tmp_path):
    image = picture()
    alpha = np.full(image.shape[:2], 255, np.uint8)
    alpha[:, :100], alpha[:, 100:200] = 0, 90
    expected = over_white(image, alpha)
    rgba = np.dstack([image, alpha])
    multiplied = np.dstack([np.floor(image * (alpha[..., None] / 255) + 0.5).astype(np.uint8), alpha])
    Image.fromarray(rgba).save(tmp_path / "a.png")
    for codec, tile in ((None, None), ("deflate", (64, 64)), (None, (64, 64))):
        options = {"photometric": "rgb", "compression": codec, "tile": tile}
        name = f"{codec}-{bool(tile)}"
        tifffile.imwrite(tmp_path / f"{name}-un.tif", rgba, extrasamples=["unassalpha"], **options)
        tifffile.imwrite(tmp_path / f"{name}-as.tif", multiplied, extrasamples=["assocalpha"], **options)
        tifffile.imwrite(tmp_path / f"{name}-no.tif", multiplied, extrasamples=["unspecified"], **options)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 10
    for path in files:
        with open_slide(path, 0.25) as slide:
            got = slide.read(0, 0, 420, 300, 0.25).astype(int)
        assert (got[:, :100] == 255).all(), path
        assert np.abs(got - expected).max() <= 1, path


def test_palettes_and_transparent_colours_of_png(tmp_path):
    image = Image.fromarray(smooth()).quantize(60)
    rgb = np.asarray(image.convert("RGB"))
    image.save(tmp_path / "plain.png")
    image.save(tmp_path / "clear.png", transparency=0)
    Image.fromarray(rgb).save(tmp_path / "key.png", transparency=tuple(rgb[0, 0].tolist()))
    expected = {
        "plain.png": rgb,
        "clear.png": np.where(np.asarray(image)[..., None] == 0, 255, rgb),
        "key.png": np.where((rgb == rgb[0, 0]).all(axis=2)[..., None], 255, rgb),
    }
    for name, wanted in expected.items():
        with open_slide(tmp_path / name, 0.25) as slide:
            assert np.array_equal(slide.read(0, 0, 420, 300, 0.25), wanted), name


# DICOM: colours and parts


def dicom_coded(path: Path, image: np.ndarray, colours: str, *, ycbcr: bool, transform: bool) -> Path:
    """JPEG 2000 of samples in RGB or YCbCr, with or without the codestream's own transform, under any header."""
    dicom_file(path, image)
    data = pydicom.dcmread(path)
    padded = np.pad(image, ((0, 320 - 300), (0, 448 - 420), (0, 0)))
    tiles = [padded[r : r + 64, c : c + 64] for r in range(0, 320, 64) for c in range(0, 448, 64)]
    frames = []
    for tile in tiles:
        samples = np.asarray(Image.fromarray(tile).convert("YCbCr")) if ycbcr else np.ascontiguousarray(tile)
        frames.append(imagecodecs.jpeg2k_encode(samples, reversible=True, level=0, mct=transform, codecformat="j2k"))
    data.PixelData = pydicom.encaps.encapsulate(frames)
    data.PhotometricInterpretation = colours
    data.save_as(path)
    return path


@pytest.mark.parametrize(
    ("colours", "ycbcr", "transform", "is_read"),
    [
        ("RGB", False, False, True), ("RGB", False, True, True), ("YBR_RCT", False, True, True),
        ("YBR_ICT", False, True, True), ("YBR_FULL", True, False, True), ("YBR_FULL_422", True, False, True),
        ("YBR_RCT", False, False, False), ("YBR_ICT", True, False, False), ("YBR_FULL", False, True, False),
    ],
)  # fmt: skip
def test_jpeg_2000_colours_follow_codestream_and_header_or_are_refused(tmp_path, colours, ycbcr, transform, is_read):
    image = smooth()
    path = dicom_coded(tmp_path / "a.dcm", image, colours, ycbcr=ycbcr, transform=transform)
    with open_slide(path) as slide:
        if is_read:
            assert np.abs(slide.read(0, 0, 420, 300, 0.25).astype(int) - image).max() <= 3
        else:
            with pytest.raises(SlideError, match=f"header says {colours}.*contradict"):
                slide.read(0, 0, 420, 300, 0.25)


def cut_into_parts(folder: Path, image: np.ndarray, sizes: list[int], *, uid: bool = True, **options: object) -> None:
    """Write one level as a concatenation of as many files as there are sizes."""
    dicom_file(folder / "whole.dcm", image, **options)
    data = pydicom.dcmread(folder / "whole.dcm")
    frames = list(pydicom.encaps.generate_frames(data.PixelData, number_of_frames=int(data.NumberOfFrames)))
    (folder / "whole.dcm").unlink()
    places = list(data.get("PerFrameFunctionalGroupsSequence") or [])
    start = 0
    for number, size in enumerate(sizes, start=1):
        data.SOPInstanceUID = pydicom.uid.generate_uid()
        if uid:
            data.ConcatenationUID = "1.2.9"
        data.InConcatenationNumber, data.InConcatenationTotalNumber = number, len(sizes)
        data.ConcatenationFrameOffsetNumber, data.NumberOfFrames = start, size
        if places:
            data.PerFrameFunctionalGroupsSequence = pydicom.sequence.Sequence(places[start : start + size])
        data.PixelData = pydicom.encaps.encapsulate(frames[start : start + size])
        data.save_as(folder / f"{len(sizes) - number}.dcm")
        start += size


@pytest.mark.parametrize("sizes", [[17, 18], [1, 30, 4]])
@pytest.mark.parametrize("uid", [True, False])
def test_concatenations_are_one_image(tmp_path, sizes, uid):
    image = picture()
    cut_into_parts(tmp_path, image, sizes, uid=uid)
    dicom_file(tmp_path / "half.dcm", halved(image), spacing=0.0005)
    for name in [f"{n}.dcm" for n in range(len(sizes))]:
        with open_slide(tmp_path / name) as slide:
            assert np.array_equal(slide.read(0, 0, 420, 300, 0.25), image)
            assert slide.downsamples == [(1, 1), (2, 2)]
    (tmp_path / "0.dcm").unlink()
    with pytest.raises(
        SlideError, match=rf"is part 1 of {len(sizes)} of one image.*part {len(sizes)} is not beside it"
    ):
        open_slide(tmp_path / f"{len(sizes) - 1}.dcm")
    with pytest.raises(SlideError, match="one image"):  # half.dcm alone would be read in too coarse a level
        open_slide(tmp_path / "half.dcm")


def test_a_sparse_concatenation(tmp_path):
    image = picture()
    cut_into_parts(tmp_path, image, [10, 24], order="TILED_SPARSE")
    got = open_slide(tmp_path / "0.dcm").read(0, 0, 420, 300, 0.25)
    differs = (got != image).any(axis=2)
    assert (got[differs] == 255).all()
    assert 0 < differs.sum() <= 64 * 64


def test_a_damaged_file_of_a_series_is_passed_over_or_named(tmp_path, caplog):
    image = picture()
    dicom_file(tmp_path / "full.dcm", image)
    dicom_file(tmp_path / "half.dcm", halved(image), spacing=0.0005)
    whole = (tmp_path / "half.dcm").read_bytes()
    (tmp_path / "half.dcm").write_bytes(whole[: len(whole) // 2])
    with caplog.at_level(logging.WARNING), open_slide(tmp_path / "full.dcm") as slide:
        assert np.array_equal(slide.read(0, 0, 420, 300, 0.25), image)
        assert len(slide.downsamples) == 1
    assert "half.dcm is a damaged or incomplete DICOM" in caplog.text
    assert "full.dcm" not in caplog.text
    with pytest.raises(SlideError, match=r"half\.dcm is a damaged"):
        open_slide(tmp_path / "half.dcm")
    (tmp_path / "half.dcm").write_bytes(whole)
    data = (tmp_path / "full.dcm").read_bytes()
    (tmp_path / "full.dcm").write_bytes(data[: len(data) // 2])
    with pytest.raises(SlideError, match=r"full\.dcm is a damaged"):
        open_slide(tmp_path / "half.dcm")


# Decimal commas


def test_decimal_commas_of_resolutions(tmp_path):
    image = picture()
    for number, text in enumerate(("MPP = 0,2500", "MPP=0,25|x", "a|MPP = 2,5e-1")):
        description = f"Aperio Image Library v12.0.15\n420x300 (64x64) JPEG/RGB Q=70|AppMag = 40|{text}"
        path = tmp_path / f"{number}.svs"
        tifffile.imwrite(path, image, tile=(64, 64), photometric="rgb", description=description, metadata=None)
        assert open_slide(path).mpp == 0.25
    xml = scenes(tmp_path / "a.ome.tif", ("scan", 100)).read_bytes()
    (tmp_path / "a.ome.tif").write_bytes(xml.replace(b'PhysicalSizeX="0.25"', b'PhysicalSizeX="0,25"'))
    assert open_slide(tmp_path / "a.ome.tif").mpp == 0.25


# The inputs that failed


def test_the_inputs_that_failed(shared_data):
    cases = shared_data / "cases"
    if not cases.is_dir():
        pytest.skip("needs the inputs that failed")
    base = np.asarray(Image.open(cases / "base.png").convert("RGB")).astype(int)

    def difference(name: str, mpp: float | None = None) -> float:
        with open_slide(cases / name, mpp) as slide:
            assert slide.mpp == 0.25
            return float(np.abs(slide.read(0, 0, 512, 512, 0.25) - base).mean())

    with pytest.raises(SlideError, match=r"x 256, y 256, 256 x 256 px"):
        difference("jpeg_tile_truncated.tif", 0.25)
    assert difference("dcm_j2k_ybrfull/a.dcm") < 0.6
    assert difference("dcm_concat/1.dcm") < 2  # JPEG
    assert difference("dcm_concat/2.dcm") < 2
    assert difference("svs_comma.svs") < 2
    assert difference("ome_labelname.ome.tif") == 0
    assert difference("ome_scenes.ome.tif") == 0
    with open_slide(cases / "ome_scenes.ome.tif", scene="Section 2") as slide:
        assert slide.width_px == 500
    with open_slide(cases / "rgba_pad.tif", 0.25) as slide:
        clear = tifffile.imread(cases / "rgba_pad.tif")[..., 3] == 0
        got = slide.read(0, 0, 512, 512, 0.25)
        assert (got[clear] == 255).all()
        assert np.array_equal(got[~clear], base[~clear])
