"""The fast student: what it sees, what is folded, and that export, int8 and a new start keep what it says."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")

from cytolite.errors import UsageError  # noqa: E402
from cytolite.inference.predictor import Predictor  # noqa: E402
from cytolite.networks.network import ShuffleNetwork, build_network  # noqa: E402
from cytolite.release.onnx_export import DeployedNetwork, export_onnx  # noqa: E402
from cytolite.release.variants import to_int8  # noqa: E402
from cytolite.training.warm_start import folded_weights, start_from_graph  # noqa: E402
from fakes import fake_bundle  # noqa: E402


@pytest.fixture(scope="module")
def network() -> ShuffleNetwork:
    """Random weights, and batch norms that do something."""
    torch.manual_seed(0)
    made = build_network("dense")
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.2)
    return made.eval()


def image(side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (1, side, side, 3), dtype=np.uint8)


@torch.no_grad()
def maps(network: torch.nn.Module, given: np.ndarray) -> torch.Tensor:
    return torch.cat(network(torch.from_numpy(given.transpose(0, 3, 1, 2).copy())), 1)[0]


def test_maps_are_at_half_the_resolution(network):
    flows, logits = network(torch.zeros(2, 3, 64, 96, dtype=torch.uint8))
    assert flows.shape == (2, 2, 32, 48)
    assert logits.shape == (2, 8, 32, 48)


def test_pixels_are_shuffled_to_their_places(network):
    """A head that says 0, 1, 2, 3 for the four pixels: they lie in reading order."""
    head = network.flow_head
    kept = head.weight.detach().clone(), head.bias.detach().clone()
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.arange(8.0))
        flows = network(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))[0][0]
        head.weight.copy_(kept[0])
        head.bias.copy_(kept[1])
    assert flows[:, :2, :2].tolist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]


def test_its_halo_is_what_it_sees(network):
    """Other pixels beyond the halo change nothing, the nearest of those within it something."""
    halo, side = network.halo_px * network.stride, 64
    given = image(2 * halo + side)
    whole = maps(network, given)
    inner = slice(network.halo_px, network.halo_px + side // 2)
    other = image(2 * halo + side, seed=1)
    other[:, halo:-halo, halo:-halo] = given[:, halo:-halo, halo:-halo]
    assert not torch.equal(maps(network, other)[:, inner, inner], whole[:, inner, inner])
    wider = np.random.default_rng(2).integers(
        0, 256, (1, 2 * halo + side + 128, 2 * halo + side + 128, 3), dtype=np.uint8
    )
    wider[:, 64:-64, 64:-64] = given
    shifted = slice(inner.start + 32, inner.stop + 32)
    torch.testing.assert_close(maps(network, wider)[:, shifted, shifted], whole[:, inner, inner], rtol=0, atol=2e-5)


def test_the_first_layer_scales_its_input(network):
    """Exactly, at the borders too; and the network that was exported is not changed."""
    given = torch.from_numpy(image(64))
    deployed = DeployedNetwork(network)
    assert deployed.network.encoder.folded
    assert not network.encoder.folded
    with torch.no_grad():
        torch.testing.assert_close(torch.cat(deployed(given), 1)[0], maps(network, image(64)), rtol=0, atol=2e-5)


@pytest.fixture(scope="module")
def bundle(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dense")
    made = fake_bundle(folder, 0.25, 2)
    export_onnx(network, made.onnx_path, [image(96)])
    return made


def test_the_exported_graph_says_the_same_and_has_no_pass_over_its_input(bundle, network):
    onnx = pytest.importorskip("onnx")
    found = np.concatenate(Predictor(bundle).maps(image(160, 5)), 1)[0]
    np.testing.assert_allclose(found, maps(network, image(160, 5)).numpy(), atol=1e-4)
    operations = {node.op_type for node in onnx.load(bundle.onnx_path).graph.node}
    assert not operations & {"Sub", "Div", "BatchNormalization"}


def test_int8_keeps_first_layer_and_heads(bundle, tmp_path, network):
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "int8.onnx"
    to_int8(bundle.onnx_path, path, [image(96, seed) for seed in range(4)])
    graph = onnx.load(path).graph
    whole = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8}
    scaled = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in whole}
    kept = {node.name for node in graph.node if node.op_type == "Conv" and node.input[1] not in scaled}
    assert kept == {f"/network/{name}/Conv" for name in ("encoder/stem/stem.0", "flow_head", "type_head")}


def test_a_network_started_from_its_bundle_says_the_same(bundle, network):
    torch.manual_seed(1)
    started = build_network("dense")
    start_from_graph(
        started, bundle, torch.from_numpy(np.concatenate([image(64, s).transpose(0, 3, 1, 2) for s in range(2)]))
    )
    torch.testing.assert_close(maps(started.eval(), image(96, 9)), maps(network, image(96, 9)), rtol=0, atol=1e-3)
    assert set(folded_weights(bundle)) == {n for n, m in network.named_modules() if isinstance(m, torch.nn.Conv2d)}


@pytest.mark.parametrize(
    ("encoder", "decoder"), [("dense", "light"), ("efficientnet_lite0", "shuffle"), ("uni", "shuffle")]
)
def test_encoder_and_decoder_go_together(encoder, decoder):
    with pytest.raises(UsageError, match="go together"):
        build_network(encoder, decoder)
