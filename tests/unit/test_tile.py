"""One tile: painted nuclei come back with their pixels, types and places."""

import numpy as np
import pytest

from cytolite.decoding import features
from cytolite.decoding.instances import find_nuclei, is_nucleus, vote_types
from cytolite.inference.predictor import Predictor
from cytolite.segmentation.tile import tile_cells
from cytolite.slides.tiles import Tile
from fakes import fake_bundle, paint, random_nuclei

MPP = 0.5


@pytest.fixture
def bundle(tmp_path):
    return fake_bundle(tmp_path)


def run(bundle, image, tile, size):
    flows, logits = Predictor(bundle).maps(image[None])
    return tile_cells(tile, image, flows[0], logits[0], spec=bundle.spec, mpp=MPP, size=size)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
def test_nucleus_is_one_minus_background(threshold):
    softmax = pytest.importorskip("scipy.special").softmax
    logits = np.random.default_rng(0).normal(0, 3, (8, 50, 60)).astype(np.float32)
    logits[:, :10] *= 20
    expected = 1 - softmax(logits.astype(float), axis=0)[0] > threshold
    np.testing.assert_array_equal(is_nucleus(logits, threshold), expected)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_votes_and_probabilities(temperature):
    softmax = pytest.importorskip("scipy.special").softmax
    rng = np.random.default_rng(0)
    instance_map, _ = random_nuclei(rng, (120, 110), 40)
    n = instance_map.max()
    logits = rng.normal(0, 2, (8, *instance_map.shape)).astype(np.float32)
    types, probs = vote_types(instance_map, logits, n, temperature)
    per_pixel = softmax(logits[1:].astype(float) / temperature, axis=0)
    for index in range(n):
        inside = instance_map == index + 1
        votes = np.bincount(logits[1:, inside].argmax(axis=0), minlength=7)
        mean = per_pixel[:, inside].mean(axis=1)
        np.testing.assert_allclose(probs[index], mean, atol=1e-6)
        best = np.flatnonzero(votes == votes.max())
        assert types[index] == best[mean[best].argmax()] + 1
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-6)


def test_a_temperature_of_one_changes_no_bit():
    """Bundles without a temperature give what they gave before there was one."""
    rng = np.random.default_rng(1)
    instance_map, _ = random_nuclei(rng, (60, 60), 12)
    logits = rng.normal(0, 3, (8, 60, 60)).astype(np.float32)
    n = int(instance_map.max())
    top = logits[1:].max(0)
    terms = [np.exp(logits[k] - top, dtype=np.float32) for k in range(1, 8)]
    total = np.zeros_like(top)
    for term in terms:
        total += term
    sums = np.stack([np.bincount(instance_map.ravel(), (t / total).astype(float).ravel(), n + 1)[1:] for t in terms], 1)
    found = vote_types(instance_map, logits, n)[1]
    np.testing.assert_allclose(found, sums / sums.sum(1, keepdims=True), rtol=3e-7)
    np.testing.assert_array_equal(found, vote_types(instance_map, logits, n, 1.0)[1])


def test_equal_votes_go_to_the_more_probable():
    instance_map = np.array([[1, 1]], np.int32)
    logits = np.zeros((8, 1, 2), np.float32)
    logits[2, 0, 0], logits[5, 0, 1] = 1, 4
    assert vote_types(instance_map, logits, 1)[0].tolist() == [5]


def test_painted_nuclei_come_back(bundle):
    instance_map, types = random_nuclei(np.random.default_rng(3), (256, 320), 120, gap=1)
    image = paint(instance_map, types)
    # The tile lies somewhere inside of a large slide; what touches its border is cut, hence not given.
    tile = Tile(0, (96, 64, 352, 256), (64, 32, 384, 288))
    cells = run(bundle, image, tile, (1000, 1000))
    border = np.unique(np.concatenate([instance_map[0], instance_map[-1], instance_map[:, 0], instance_map[:, -1]]))
    expected = np.setdiff1d(np.arange(1, instance_map.max() + 1), border)
    assert len(border) > 5
    found = pixels_of(cells, tile, instance_map)
    assert sorted(found) == expected.tolist()
    for label, cell in found.items():
        mask = instance_map == label
        rows, columns = np.nonzero(mask)
        np.testing.assert_allclose(cells.centroids[cell], [columns.mean() + 64.5, rows.mean() + 32.5])
        assert cells.area_um2[cell] == pytest.approx(mask.sum() * MPP**2)
        assert cells.types[cell] == types[label]
        assert cells.type_probs[cell].argmax() + 1 == types[label]
    assert set(cells.features) == set(features.FEATURE_NAMES)


def test_a_finer_image_gives_the_same_cells(bundle, tmp_path):
    """A network of stride 2 sees each painted pixel fourfold and answers for each once."""
    instance_map, types = random_nuclei(np.random.default_rng(5), (128, 160), 40)
    image, tile = paint(instance_map, types), Tile(0, (0, 0, 160, 128), (0, 0, 160, 128))
    coarse = run(bundle, image, tile, (160, 128))
    finer = fake_bundle(tmp_path / "finer", mpp=MPP / 2, stride=2)
    fine = run(finer, image.repeat(2, 0).repeat(2, 1), tile, (160, 128))
    assert len(fine) == instance_map.max()
    for name, column in [*vars(coarse).items(), *coarse.features.items()]:
        if name != "features":
            np.testing.assert_array_equal(fine.features.get(name, vars(fine).get(name)), column, err_msg=name)


def pixels_of(cells, tile, instance_map):
    """Which label each cell is, after checking that its outline encloses exactly the label's pixels."""
    found = {}
    for cell in range(len(cells)):
        ring = (cells.outline(cell) - tile.read[:2]).astype(int)
        inside = enclosed(ring, instance_map.shape)
        labels = np.unique(instance_map[inside])
        assert len(labels) == 1
        np.testing.assert_array_equal(inside, instance_map == labels[0])
        found[int(labels[0])] = cell
    return found


def enclosed(ring, shape):
    """Pixels whose centre lies inside a ring of horizontal and vertical edges: count the edges to their left."""
    crossings = np.zeros((shape[0], shape[1] + 1), int)
    for (xa, ya), (xb, yb) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if xa == xb:
            crossings[min(ya, yb) : max(ya, yb), xa] += 1
    return np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1


def test_the_slides_own_border_cuts_nothing(bundle):
    instance_map = np.zeros((96, 96), np.int32)
    instance_map[0:12, 20:34] = 1
    instance_map[60:75, 0:10] = 2
    instance_map[60:75, 86:96] = 3
    image = paint(instance_map, np.array([0, 1, 2, 3]))
    tile = Tile(0, (0, 0, 96, 96), (0, 0, 96, 96))
    assert len(run(bundle, image, tile, (96, 96))) == 3
    assert len(run(bundle, image, tile, (97, 96))) == 2
    inside = Tile(0, (32, 32, 128, 128), (32, 32, 128, 128))
    assert len(run(bundle, image, inside, (128, 1000))) == 1


def test_nothing_is_found_beside_the_slide(tmp_path):
    bundle = fake_bundle(tmp_path, flow_threshold=0)  # half a nucleus fails the check of its flows
    instance_map = np.zeros((96, 96), np.int32)
    instance_map[40:60, 40:60] = 1
    image = paint(instance_map, np.array([0, 4]))
    tile = Tile(0, (0, 0, 18, 64), (-32, 0, 64, 96))
    [x0, y0, x1, y1] = box_of(run(bundle, image, tile, (18, 64)))
    assert (x0, y0, x1, y1) == (8, 40, 18, 60)


def box_of(cells):
    assert len(cells) == 1
    return [*cells.vertices.min(axis=0), *cells.vertices.max(axis=0)]


def test_small_nuclei_are_dropped_by_area_in_um2(tmp_path):
    instance_map = np.zeros((64, 64), np.int32)
    instance_map[10:18, 10:18] = 1  # 16 um2 at 0.5 um/px
    instance_map[40:56, 40:56] = 2
    image = paint(instance_map, np.array([0, 1, 1]))
    for least, expected in ((4.0, 2), (16.5, 1), (200.0, 0)):
        bundle = fake_bundle(tmp_path, min_area_um2=least)
        flows, logits = Predictor(bundle).maps(image[None])
        assert find_nuclei(flows[0], logits[0], bundle.spec, MPP).max() == expected


def test_an_empty_tile(bundle):
    cells = run(bundle, np.full((64, 64, 3), 255, np.uint8), Tile(0, (0, 0, 64, 64), (0, 0, 64, 64)), (64, 64))
    assert len(cells) == 0
    assert set(cells.features) == set(features.FEATURE_NAMES)
