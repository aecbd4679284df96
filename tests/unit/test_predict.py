"""The network in ONNX Runtime: what it is given is checked, what it gives is what the graph says."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime as ort
import pytest

from cytolite.bundle import load_bundle, write_bundle
from cytolite.errors import BundleError, InputError
from cytolite.inference.predictor import Predictor
from fakes import CLASS_BLUE, fake_bundle


@pytest.fixture
def bundle(tmp_path):
    return fake_bundle(tmp_path)


def test_maps_are_read_off_the_paint(bundle):
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), np.uint8)
    flows, logits = Predictor(bundle).maps(images)
    assert flows.dtype == logits.dtype == np.float32
    assert flows.shape == (2, 2, 64, 96)
    assert logits.shape == (2, 8, 64, 96)
    coded = images.astype(float)
    np.testing.assert_allclose(flows[:, 0], (coded[..., 1] - 128) / 127, atol=1e-6)
    np.testing.assert_allclose(flows[:, 1], (coded[..., 0] - 128) / 127, atol=1e-6)
    steep = -((coded[..., 2] - CLASS_BLUE[3]) ** 2) / 50
    np.testing.assert_allclose(logits[:, 3], np.maximum(steep, -20), rtol=1e-4, atol=1e-4)


def test_one_session_serves_many_threads(bundle):
    predictor = Predictor(bundle)
    images = np.random.default_rng(0).integers(0, 256, (16, 1, 96, 96, 3), np.uint8)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: predictor.maps(image)[0], images))
    for image, flows in zip(images, together, strict=True):
        np.testing.assert_array_equal(flows, predictor.maps(image)[0])


def quarter(maps):
    """A quarter turn counterclockwise, vectors included: what pointed right points up."""
    turned = np.rot90(maps, 1, (2, 3))
    return np.stack([-turned[:, 1], turned[:, 0]], 1) if maps.shape[1] == 2 else turned


def mirrored(maps):
    """Left becomes right."""
    flipped = maps[..., ::-1]
    return flipped * np.array([1, -1]).reshape(1, 2, 1, 1) if maps.shape[1] == 2 else flipped


@pytest.mark.parametrize(("tta", "turns_with", "mirrors_with"), [(1, False, False), (4, True, False), (8, True, True)])
def test_shown_in_all_orientations_the_answer_turns_with_the_image(tta, turns_with, mirrors_with):
    """The embedded network by itself does not do that: how it lies decides a little of what it sees in an image."""
    predictor = Predictor(load_bundle(), tta=tta)
    image = np.random.default_rng(3).integers(80, 256, (1, 8, 12, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    upright = predictor.maps(image)
    for change, on_image, alike in (
        (quarter, np.rot90(image, 1, (1, 2)), turns_with),
        (mirrored, image[:, :, ::-1], mirrors_with),
    ):
        for wanted, found in zip(map(change, upright), predictor.maps(on_image), strict=True):
            assert (np.abs(wanted - found).max() < 1e-4) == alike


@pytest.mark.parametrize(
    ("shape", "dtype", "words"),
    [
        ((1, 64, 64, 3), np.float32, "uint8"),
        ((64, 64, 3), np.uint8, "B, H, W, 3"),
        ((1, 64, 70, 3), np.uint8, "multiples"),
    ],
)
def test_images_of_another_form_are_refused(bundle, shape, dtype, words):
    with pytest.raises(InputError, match=words):
        Predictor(bundle).maps(np.zeros(shape, dtype))


def test_maps_of_another_size_than_the_bundle_says_are_refused(tmp_path):
    half = fake_bundle(tmp_path, stride=2)
    flows, logits = Predictor(half).maps(np.zeros((1, 64, 96, 3), np.uint8))
    assert (flows.shape, logits.shape) == ((1, 2, 32, 48), (1, 8, 32, 48))
    spec = half.spec.model_copy(update={"stride": 1})
    wrong = write_bundle(tmp_path / "wrong", half.onnx_path, spec, "# wrong\n")
    with pytest.raises(BundleError, match="maps of 32 x 48 px where its stride of 1 promises 64 x 96"):
        Predictor(wrong).maps(np.zeros((1, 64, 96, 3), np.uint8))


def test_devices(bundle):
    with pytest.raises(InputError, match="cpu and cuda"):
        Predictor(bundle, "tpu")
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        with pytest.raises(InputError, match="onnxruntime-gpu"):
            Predictor(bundle, "cuda")


def test_weights_that_are_no_network_are_refused(bundle, tmp_path):
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"not a network")
    with pytest.raises(BundleError, match="cannot load"):
        Predictor(write_bundle(tmp_path / "junk", junk, bundle.spec, ""))


def test_another_network_is_refused(bundle, tmp_path):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(bundle.onnx_path)
    model.graph.input[0].name = "picture"
    for node in model.graph.node:
        node.input[:] = ["picture" if name == "image" else name for name in node.input]
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(BundleError, match="no nucleus model"):
        Predictor(write_bundle(tmp_path / "other", tmp_path / "other.onnx", bundle.spec, ""))
