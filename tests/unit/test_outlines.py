"""Outlines against scipy (parts, holes), rasterio (pixels inside), shapely (validity) and scikit-image (measures)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import shapely

features = pytest.importorskip("rasterio.features", reason="outlines are compared with rasterio's")
ndimage = pytest.importorskip("scipy.ndimage", reason="needs scipy")
reference = pytest.importorskip("skimage.measure", reason="shapes are compared with scikit-image's")

from cytolite.decoding.features import FEATURE_NAMES, measure  # noqa: E402
from cytolite.decoding.outlines import trace  # noqa: E402
from cytolite.errors import InputError  # noqa: E402

# (1 0 / 0 1) corners that are joined elsewhere, a bay pinched shut at a corner, a part inside another's hole.
NASTY = {
    "one pixel": ["1"],
    "line": ["11111"],
    "whole image": ["111", "111"],
    "hole": ["111", "101", "111"],
    "pinched bay": ["1110", "1001", "1111"],
    "two pinches": ["01110", "10001", "10101", "10001", "01110", "00100"],
    "stairs": ["1000", "1100", "0110", "0011"],
    "corner only": ["1100", "1100", "0010", "0000"],
    "equal parts": ["1101", "0000", "1011"],
    "nucleus in a hole": ["11111", "10001", "10201", "10001", "11111"],
    "crossing": ["1112", "1021", "1112", "0111"],
    "touching": ["1122", "1122", "3344", "3344"],
    "comb": ["1010101", "1010101", "1111111", "1010101"],
    "spiral": ["1111111", "0000001", "1111101", "1000101", "1011101", "1000001", "1111111"],
}


def from_rows(rows: list[str]) -> np.ndarray:
    return np.array([[int(c) for c in row] for row in rows], np.int32)


def consecutive(labels: np.ndarray) -> np.ndarray:
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int32)


def random_maps(count: int) -> list[np.ndarray]:
    """Blobs and noise of several nuclei: salt and pepper is the nastiest shape there is."""
    rng = np.random.default_rng(7)
    maps = []
    for i in range(count):
        noise = rng.random((rng.integers(1, 40), rng.integers(1, 40)))
        field = ndimage.gaussian_filter(noise, i % 4 * 0.4)
        labels = np.digitize(field, np.quantile(field, np.sort(rng.random(rng.integers(1, 6)))))
        labels[rng.random(labels.shape) < 0.1 * (i % 3)] = 0
        labels[0, 0] = 0
        maps.append(consecutive(labels))
    return maps


def expected_part(labels: np.ndarray, label: int) -> np.ndarray:
    parts, n = ndimage.label(labels == label)
    largest = 1 + np.argmax(ndimage.sum_labels(parts > 0, parts, np.arange(1, n + 1)))
    # Padded: what touches the border is open to the outside.
    return ndimage.binary_fill_holes(np.pad(parts == largest, 1))[1:-1, 1:-1]


def polygons(vertices: np.ndarray, offsets: np.ndarray) -> list[shapely.Polygon]:
    return [shapely.Polygon(vertices[a:b]) for a, b in pairwise(offsets)]


def check_outlines(labels: np.ndarray) -> None:
    vertices, offsets = trace(labels)
    assert len(offsets) == labels.max() + 1
    for label, polygon in enumerate(polygons(vertices, offsets), start=1):
        assert polygon.is_valid
        assert polygon.exterior.is_ccw  # in a frame with y up; clockwise on the screen
        inside = features.rasterize([polygon], labels.shape, dtype=np.uint8).astype(bool)
        np.testing.assert_array_equal(inside, expected_part(labels, label))
        ring = vertices[offsets[label - 1] : offsets[label]]
        steps = np.roll(ring, -1, axis=0) - ring
        assert ((steps == 0).sum(axis=1) == 1).all()  # axis-parallel, no step of nothing
        assert ((steps[:, 0] == 0) != (np.roll(steps, 1, axis=0)[:, 0] == 0)).all()  # a corner at every vertex
        assert tuple(ring[0]) == min(map(tuple, ring), key=lambda xy: (xy[1], xy[0]))


@pytest.mark.parametrize("name", NASTY)
def test_nasty_shapes(name: str) -> None:
    check_outlines(from_rows(NASTY[name]))


def test_random_shapes() -> None:
    for labels in random_maps(150):
        check_outlines(labels)


def test_known_ring() -> None:
    vertices, offsets = trace(from_rows(["000", "011", "010"]))
    assert offsets.tolist() == [0, 6]
    assert vertices.tolist() == [[1, 1], [3, 1], [3, 2], [2, 2], [2, 3], [1, 3]]


def test_the_first_of_equal_parts_is_kept() -> None:
    vertices, _ = trace(from_rows(NASTY["equal parts"]))
    assert vertices.min(axis=0).tolist() == [0, 0]
    assert vertices.max(axis=0).tolist() == [2, 1]


def test_the_map_is_left_as_it_was() -> None:
    labels = from_rows(NASTY["corner only"])
    before = labels.copy()
    trace(labels)
    np.testing.assert_array_equal(labels, before)


def test_turned_and_other_dtypes_give_the_same() -> None:
    labels = from_rows(NASTY["two pinches"])
    vertices, offsets = trace(labels)
    for same in (labels.astype(np.uint16), np.asfortranarray(labels), labels.astype(np.int64)[:, ::-1][:, ::-1]):
        np.testing.assert_array_equal(trace(same)[0], vertices)
        np.testing.assert_array_equal(trace(same)[1], offsets)
    turned, _ = trace(np.ascontiguousarray(labels.T))
    assert sorted(map(tuple, turned[:, ::-1])) == sorted(map(tuple, vertices))


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (3, 4)])
def test_no_nuclei(shape: tuple[int, int]) -> None:
    labels = np.zeros(shape, np.int32)
    vertices, offsets = trace(labels)
    assert vertices.shape == (0, 2)
    assert offsets.tolist() == [0]
    measures = measure(labels, np.zeros((*shape, 3), np.uint8), 0.5)
    assert len(measures.area_px) == 0
    assert set(measures.features) == set(FEATURE_NAMES)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.array([[1, 3, 0]], np.int32), "2 of 3 is missing"),
        (np.array([[-1, 1]], np.int32), "-1"),
        (np.array([[2**30]], np.int32), "gaps"),
        (np.zeros((2, 2), np.float32), "float32"),
        (np.zeros((2, 2, 2), np.int32), r"\(2, 2, 2\)"),
    ],
)
def test_bad_maps_are_refused(labels: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        trace(labels)


@pytest.mark.parametrize(
    "image", [np.zeros((2, 3, 3), np.uint8), np.zeros((2, 2, 3), np.uint16), np.zeros((2, 2), np.uint8)]
)
def test_images_that_do_not_fit_are_refused(image: np.ndarray) -> None:
    with pytest.raises(InputError, match="needed"):
        measure(np.zeros((2, 2), np.int32), image, 0.5)


def test_measures_are_scikit_images() -> None:
    """Same filled pixels, measured by scikit-image; solidity by shapely's hull of the polygon."""
    rng = np.random.default_rng(3)
    mpp = 0.4
    for labels in random_maps(60):
        image = rng.integers(0, 256, (*labels.shape, 3)).astype(np.uint8)
        outlines = trace(labels)
        measures = measure(labels, image, mpp, outlines)
        for i, polygon in enumerate(polygons(*outlines)):
            filled = np.pad(expected_part(labels, i + 1), 1).astype(np.uint8)
            props = reference.regionprops(filled)[0]
            got = {name: column[i] for name, column in measures.features.items()}
            assert measures.area_px[i] == polygon.area == filled.sum()
            np.testing.assert_allclose(measures.centroids[i], np.array(props.centroid)[::-1] - 0.5, atol=1e-9)
            np.testing.assert_allclose(measures.centroids[i], polygon.centroid.coords[0], atol=1e-9)
            assert tuple(measures.boxes[i]) == polygon.bounds
            # scikit-image takes pixels for points; a square pixel adds 1/12 px2 to each second moment.
            major, minor = (4 * np.sqrt(eigenvalue + 1 / 12) for eigenvalue in props.inertia_tensor_eigvals)
            assert got["major_axis_um"] == pytest.approx(major * mpp, rel=1e-5)
            assert got["minor_axis_um"] == pytest.approx(minor * mpp, rel=1e-5)
            assert got["eccentricity"] == pytest.approx(np.sqrt(1 - (minor / major) ** 2), abs=1e-3)
            perimeter = reference.perimeter_crofton(filled, directions=4)
            assert got["perimeter_um"] == pytest.approx(perimeter * mpp, rel=1e-5)
            assert got["circularity"] == pytest.approx(min(4 * np.pi * polygon.area / perimeter**2, 1), rel=1e-5)
            assert got["solidity"] == pytest.approx(polygon.area / polygon.convex_hull.area, rel=1e-5)


def test_a_disc_measures_like_a_circle() -> None:
    radius, mpp = 40, 0.25
    rows, columns = np.mgrid[:101, :101] - 50
    disc = (rows**2 + columns**2 <= radius**2).astype(np.int32)
    features = measure(disc, np.full((101, 101, 3), 255, np.uint8), mpp).features
    assert features["perimeter_um"][0] == pytest.approx(2 * np.pi * radius * mpp, rel=0.02)
    assert features["major_axis_um"][0] == pytest.approx(2 * radius * mpp, rel=0.02)
    assert features["circularity"][0] > 0.97
    assert features["solidity"][0] > 0.97
    assert features["haematoxylin_od_mean"][0] == 0  # white


def test_stains_are_unmixed() -> None:
    """A colour mixed from known amounts of the two stains gives the amounts back; the rest by plain numpy."""
    haematoxylin, eosin = np.array([0.65, 0.70, 0.29]), np.array([0.07, 0.99, 0.11])
    amounts = np.array([[0.8, 0.2], [0.5, 0.5], [0.1, 0.6]])
    density = amounts @ np.array([haematoxylin / np.linalg.norm(haematoxylin), eosin / np.linalg.norm(eosin)])
    image = np.round(255 * 10**-density).astype(np.uint8)[None]
    features = measure(np.array([[1, 2, 3]], np.int32), image, 0.5).features
    np.testing.assert_allclose(features["haematoxylin_od_mean"], amounts[:, 0], atol=0.02)
    np.testing.assert_allclose(features["eosin_od_mean"], amounts[:, 1], atol=0.02)
    whole = measure(np.ones((1, 3), np.int32), image, 0.5).features
    assert whole["haematoxylin_od_mean"][0] == pytest.approx(features["haematoxylin_od_mean"].mean(), rel=1e-5)
    assert whole["haematoxylin_od_std"][0] == pytest.approx(features["haematoxylin_od_mean"].std(), rel=1e-4)


def test_only_pixels_inside_the_outline_count() -> None:
    labels = from_rows(["111", "101", "111", "000"])
    image = np.full((4, 3, 3), 128, np.uint8)
    image[3] = 0
    filled = measure(np.array([[1]], np.int32), image[:1, :1], 0.5).features["eosin_od_mean"][0]
    measures = measure(labels, image, 0.5)
    assert measures.area_px.tolist() == [9]
    assert measures.features["eosin_od_mean"][0] == pytest.approx(filled)
    assert measures.features["haematoxylin_od_std"][0] == pytest.approx(0, abs=1e-6)


def test_no_nucleus_disturbs_the_next() -> None:
    """Measured alone or among others, a nucleus has the same numbers (the scratch memory is clean again)."""
    labels = max(random_maps(40), key=np.max)
    image = np.random.default_rng(0).integers(0, 256, (*labels.shape, 3)).astype(np.uint8)
    together = measure(labels, image, 0.5)
    for label in range(1, labels.max() + 1):
        alone = measure((labels == label).astype(np.int32), image, 0.5)
        for name in FEATURE_NAMES:
            assert alone.features[name][0] == together.features[name][label - 1]


def test_real_nuclei(shared_data) -> None:
    from PIL import Image

    labels = consecutive(np.array(Image.open(shared_data / "consep" / "inst" / "train_1.png")))
    vertices, offsets = trace(labels)
    shapes = shapely.polygons([shapely.linearrings(vertices[a:b]) for a, b in pairwise(offsets)])
    assert shapely.is_valid(shapes).all()
    image = np.zeros((*labels.shape, 3), np.uint8)
    np.testing.assert_array_equal(measure(labels, image, 0.25).area_px, shapely.area(shapes))
