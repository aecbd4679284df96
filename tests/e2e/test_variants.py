"""Smaller variants, TorchScript and what `inspect` measures, from the embedded bundle: nothing is trained here."""

import re

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("onnx", reason="needs the extra `train`")

from cytolite import pipeline  # noqa: E402
from cytolite.bundle import load_bundle  # noqa: E402
from cytolite.errors import BundleError, CytoliteError, InputError  # noqa: E402
from cytolite.inference.predictor import Predictor  # noqa: E402
from cytolite.networks.network import build_network  # noqa: E402
from cytolite.release.onnx_export import DeployedNetwork, export_onnx, export_torchscript  # noqa: E402
from cytolite.release.variants import calibration_images, make_variant  # noqa: E402
from cytolite.training.warm_start import folded_weights  # noqa: E402
from fakes import coloured_patch, coloured_store  # noqa: E402


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return coloured_store(tmp_path_factory.mktemp("store"), 3)


@pytest.mark.parametrize(("kind", "smaller", "alike"), [("float16", 0.6, 0.9999), ("int8", 0.5, 0.99)])
def test_a_variant_is_smaller_answers_alike_and_says_what_it_costs(store, tmp_path, kind, smaller, alike):
    original = load_bundle("nuclei-light")
    variant, found, note = make_variant(original, tmp_path / kind, kind, [store])
    assert variant.onnx_path.stat().st_size < smaller * original.onnx_path.stat().st_size
    image = coloured_patch("x", "consep", 9).image[None, :128, :128]
    for wanted, given in zip(Predictor(original).maps(image), Predictor(variant).maps(image), strict=True):
        assert alike < np.corrcoef(wanted.ravel(), given.ravel())[0, 1]
        assert np.abs(wanted - given).max() > 0
    assert note == ""  # the card says that it was split as by default
    [row] = found
    assert row.name == "consep_bpq_image"
    text = (variant.path / "CARD.md").read_text()
    assert f"| {row.before} | {row.after} | {row.difference.signed} |" in text
    assert row.difference.value == pytest.approx(row.after.value - row.before.value)
    assert "not for diagnosis" in text
    assert variant.spec.validation == {row.name: round(row.after.value, 4)}
    with pytest.raises(BundleError, match="cannot be made smaller: its weights are not float32"):
        make_variant(variant, tmp_path / "twice", kind, [store])
    with pytest.raises(BundleError, match="cannot be started from: its weights are not float32"):
        folded_weights(variant)
    if kind == "int8":  # whose weights are whole numbers of a known scale: near enough to start from
        wanted = folded_weights(original)
        for name, (weight, bias) in folded_weights(variant, scaled=True).items():
            step = np.abs(wanted[name][0]).max() / 63
            assert np.abs(weight - wanted[name][0]).max() <= step
            np.testing.assert_allclose(bias, wanted[name][1], atol=1e-3)


def test_a_variant_without_stores_is_refused(tmp_path):
    with pytest.raises(InputError, match="--stores"):
        make_variant(load_bundle("nuclei-light"), tmp_path / "x", "int8", [])
    assert not list(tmp_path.iterdir())


def test_all_sources_calibrate_alike():
    patches = [coloured_patch(str(i), "a" if i < 60 else "b", i % 3) for i in range(64)]
    images = calibration_images(patches, 0.5)
    assert len(images) == 48
    assert {image.shape for image in images} == {(1, 96, 96, 3)}  # 150 x 140 px at 0.25 um, padded


@pytest.mark.parametrize(
    ("encoder", "decoder"),
    [
        ("efficientnet_lite0", "light"),
        ("efficientnet_lite2", "wide"),
        ("resnet10t", "unetr"),
        ("vit_tiny_patch16_224", "unetr"),
    ],
)
def test_torchscript_answers_as_torch_does_at_any_size(tmp_path, encoder, decoder):
    torch.manual_seed(0)
    network = build_network(encoder, decoder).eval()
    sample = np.random.default_rng(0).integers(0, 256, (1, 96, 64, 3)).astype(np.uint8)
    assert export_torchscript(network, tmp_path / "m.pt", sample) < 1e-4
    loaded = torch.jit.load(str(tmp_path / "m.pt"))
    other = torch.randint(0, 256, (2, 64, 128, 3), dtype=torch.uint8)
    with torch.no_grad():
        for found, wanted in zip(loaded(other), DeployedNetwork(network)(other), strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_torchscript_that_differs_is_not_left(tmp_path, monkeypatch):
    monkeypatch.setattr("cytolite.release.onnx_export.TOLERANCE", -1.0)
    with pytest.raises(CytoliteError, match="differs from torch"):
        export_torchscript(build_network("efficientnet_lite0"), tmp_path / "m.pt", np.zeros((1, 64, 64, 3), np.uint8))
    assert not list(tmp_path.iterdir())


def test_a_transformers_graph_takes_any_batch_and_size(tmp_path):
    torch.manual_seed(0)
    network = build_network("vit_tiny_patch16_224").eval()
    sample = np.random.default_rng(0).integers(0, 256, (3, 160, 96, 3)).astype(np.uint8)
    assert export_onnx(network, tmp_path / "m.onnx", [sample]) < 1e-4


def test_inspect_prints_the_rows_of_table_4():
    text = pipeline.inspect("nuclei-light", speed=True)
    rows = dict(re.findall(r"^(parameters|size on disk|memory at batch 32|speed) +([\d.,]+)", text, re.MULTILINE))
    bundle = load_bundle("nuclei-light")
    assert rows["parameters"] == f"{bundle.spec.parameters:,}"
    assert float(rows["size on disk"]) == pytest.approx(
        sum(p.stat().st_size for p in bundle.path.iterdir()) / 2**20, abs=0.1
    )
    # 32 x 256 x 256 px: at the very least the first maps of the encoder, 32 channels at half the resolution.
    assert float(rows["memory at batch 32"].replace(",", "")) > 32 * 32 * 128 * 128 * 4 / 2**20
    assert float(rows["speed"]) > 0
    assert "batch 32" not in pipeline.inspect("nuclei-light")
