"""Slide files as tests write them: a picture with structure, as a pyramid in TIFF, as DICOM."""

import imagecodecs
import numpy as np
import tifffile
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, generate_uid

WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
MAXWORKERS = 1


def picture(height=300, width=420, seed=0):
    """A picture with structure at all scales, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    image = sum(
        np.kron(rng.uniform(0, 85, (-(-height // k), -(-width // k), 3)), np.ones((k, k, 1)))[:height, :width]
        for k in (1, 7, 40)
    )
    return image.astype(np.uint8)


def halved(image):
    height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    blocks = image[:height, :width].reshape(height // 2, 2, width // 2, 2, 3)
    return np.floor(blocks.mean(axis=(1, 3)) + 0.5).astype(np.uint8)


def write_pyramid(path, image, *, subifds=True, mpp=0.25, **options):
    """Write image, half and quarter; subifds as OME-TIFF does, else one page after the other."""
    levels = [image, halved(image), halved(halved(image))]
    options = {"photometric": "rgb", "tile": (64, 64), "maxworkers": MAXWORKERS, **options}
    resolution = {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path, ome=subifds) as tiff:
        first = {"metadata": {"axes": "YXS"}, "subifds": 2} if subifds else {"metadata": None}
        tiff.write(levels[0], **options, **resolution, **first)
        for level in levels[1:]:
            tiff.write(level, **options, subfiletype=1, metadata=None)


def dicom_file(path, image, *, tile=64, order="TILED_FULL", codec="jpeg2000", series="1.2.3", spacing=0.00025):
    """Write one level as a DICOM whole-slide image."""
    height, width = image.shape[:2]
    rows, cols = -(-height // tile), -(-width // tile)
    padded = np.pad(image, ((0, rows * tile - height), (0, cols * tile - width), (0, 0)))
    grid = [(r, c) for r in range(rows) for c in range(cols)]
    if order == "TILED_SPARSE":
        grid = [grid[i] for i in np.random.default_rng(0).permutation(len(grid))[: len(grid) - 1]]
    if order == "down":
        grid = [(r, c) for c in range(cols) for r in range(rows)]
    tiles = [padded[r * tile : (r + 1) * tile, c * tile : (c + 1) * tile] for r, c in grid]

    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID, data.SeriesInstanceUID = WHOLE_SLIDE, generate_uid(), series
    data.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "RGB", 0
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.Rows = data.Columns = tile
    data.NumberOfFrames = len(tiles)
    data.TotalPixelMatrixColumns, data.TotalPixelMatrixRows = width, height
    if order != "down":
        data.DimensionOrganizationType = order
    if spacing:
        measures, shared = Dataset(), Dataset()
        measures.PixelSpacing = [spacing, spacing]
        shared.PixelMeasuresSequence = Sequence([measures])
        data.SharedFunctionalGroupsSequence = Sequence([shared])
    if order == "TILED_SPARSE":
        frames = []
        for r, c in grid:
            position, frame = Dataset(), Dataset()
            position.RowPositionInTotalImagePixelMatrix = r * tile + 1
            position.ColumnPositionInTotalImagePixelMatrix = c * tile + 1
            frame.PlanePositionSlideSequence = Sequence([position])
            frames.append(frame)
        data.PerFrameFunctionalGroupsSequence = Sequence(frames)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = {
        "jpeg2000": JPEG2000Lossless, "jpeg": JPEGBaseline8Bit, "native": ExplicitVRLittleEndian,
    }[codec]  # fmt: skip
    if codec == "native":
        data.PixelData = np.stack(tiles).tobytes()
    else:
        encode = imagecodecs.jpeg2k_encode if codec == "jpeg2000" else imagecodecs.jpeg8_encode
        options = {"reversible": True, "level": 0} if codec == "jpeg2000" else {"level": 95, "outcolorspace": "RGB"}
        data.PixelData = encapsulate([encode(np.ascontiguousarray(t), **options) for t in tiles])
        data["PixelData"].is_undefined_length = True
    data.save_as(path, enforce_file_format=True)
    return grid[-1] if order == "TILED_SPARSE" else None
