"""Patches to bundle on a tiny scale: the run resumes to the same weights, the bundle answers as torch does."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")
pytest.importorskip("lightning", reason="training needs the extra `train`")

from cytolite import pipeline  # noqa: E402
from cytolite.bundle import load_bundle  # noqa: E402
from cytolite.config import TrainSettings  # noqa: E402
from cytolite.datasets.store import Store, write_store  # noqa: E402
from cytolite.errors import BundleError, CytoliteError, InputError  # noqa: E402
from cytolite.inference.predictor import Predictor  # noqa: E402
from cytolite.networks.encoders import encoder_spec  # noqa: E402
from cytolite.networks.network import CellNetwork, build_network  # noqa: E402
from cytolite.networks.weights import find_weights  # noqa: E402
from cytolite.release.onnx_export import DeployedNetwork, export_onnx  # noqa: E402
from cytolite.training import tasks  # noqa: E402
from cytolite.training.run import first_network, split, trained_network  # noqa: E402
from cytolite.training.sampling import CropDataset  # noqa: E402
from cytolite.training.warm_start import module_name, start_from, start_from_graph  # noqa: E402
from fakes import coloured_patch, coloured_store  # noqa: E402

TINY = TrainSettings(
    encoder="efficientnet_lite0", pretrained=False, crop_px=64, batch=2, steps_per_epoch=2, epochs=3, warmup_steps=1,
    held_back=0.5, loaders=0, threads=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return coloured_store(tmp_path_factory.mktemp("store"), 2, ("consep", "monusac"))


@pytest.fixture(scope="module")
def whole_run(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    pipeline.train([store], out, TINY)
    return out


def test_a_run_stopped_after_an_epoch_ends_with_the_same_weights(store, whole_run, tmp_path, monkeypatch):
    scored = []
    score = tasks.score_network

    def stop_in_second_epoch(*args):
        scored.append(1)
        if len(scored) == 2:
            raise RuntimeError("power cut")
        return score(*args)

    monkeypatch.setattr(tasks, "score_network", stop_in_second_epoch)
    with pytest.raises(RuntimeError, match="power cut"):
        pipeline.train([store], tmp_path / "run", TINY)
    pipeline.train([store], tmp_path / "run", TINY)
    wanted, found = (trained_network(out)[0].state_dict() for out in (whole_run, tmp_path / "run"))
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, msg=name)


def test_a_run_of_other_settings_is_not_overwritten(store, whole_run):
    with pytest.raises(InputError, match="other settings"):
        pipeline.train([store], whole_run, TINY.model_copy(update={"seed": 1}))


@pytest.mark.parametrize("where", ["weights", "first step"])
def test_what_fails_before_its_first_step_refuses_nothing_after(store, tmp_path, monkeypatch, where):
    out, other = tmp_path / "run", TINY.model_copy(update={"seed": 5})
    with monkeypatch.context() as broken:
        if where == "weights":
            broken.setattr("cytolite.training.run.first_network", fails)
        else:
            broken.setattr(tasks.SupervisedTask, "training_step", fails)
        with pytest.raises(RuntimeError, match="out of memory"):
            pipeline.train([store], out, TINY)
    assert not out.exists()
    pipeline.train([store], out, other.model_copy(update={"epochs": 1}))
    assert trained_network(out)[1].seed == 5


def fails(*_, **__):
    raise RuntimeError("out of memory")


def test_a_bundle_says_what_its_run_held_back(whole_run, store, tmp_path):
    from cytolite.release.origin import record_split

    bundle = pipeline.export(whole_run, tmp_path / "tiny", "7")
    assert bundle.spec.held_back == record_split(split([store], TINY)[1], TINY)
    assert bundle.spec.held_back.share == 0.5


def test_training_learns_and_logs(whole_run):
    lines = (whole_run / "csv" / "version_0" / "metrics.csv").read_text().splitlines()
    assert "val/consep_bpq_image" in lines[0]
    assert list((whole_run / "tensorboard").rglob("events*"))


def test_export_makes_a_bundle_that_answers_as_torch_does(whole_run, tmp_path):
    bundle = pipeline.export(whole_run, tmp_path / "tiny", "7")
    network, settings, _ = trained_network(whole_run)
    image = np.random.default_rng(0).integers(0, 256, (2, 96, 160, 3)).astype(np.uint8)
    flows, logits = Predictor(bundle).maps(image)
    with torch.no_grad():
        wanted = network(torch.from_numpy(image).permute(0, 3, 1, 2))
    np.testing.assert_allclose(flows, wanted[0], atol=1e-4)
    np.testing.assert_allclose(logits, wanted[1], atol=1e-4)
    assert (bundle.spec.name, bundle.spec.version, bundle.spec.mpp) == ("tiny", "7", settings.mpp)
    card = (bundle.path / "CARD.md").read_text()
    assert "not for diagnosis" in card
    # 19 nuclei at most an image, types in turn: each type is named as one with few examples.
    assert "macrophage (" in card.split("## Limits")[1]
    assert json.loads((bundle.path / "model.json").read_text())["data"] == ["consep", "monusac"]


def test_a_bundle_is_scored_on_the_labels_that_are_given_as_truth(whole_run, store, tmp_path):
    """The run's images with every type wrong: outlines score as before, and no name is right."""
    with Store(store) as opened:
        patches = list(opened)
    shifted = [replace(p, type_map=np.where(p.type_map > 0, p.type_map % 7 + 1, 0).astype(np.uint8)) for p in patches]
    write_store(tmp_path / "truth.h5", shifted)
    own, other = (
        pipeline.export(whole_run, tmp_path / name, "1", truth=truth)
        for name, truth in (("own", ()), ("other", [tmp_path / "truth.h5"]))
    )
    assert own.sha256 == other.sha256
    for name, value in own.spec.validation.items():
        if "bpq" in name or "recall_image" in name:
            assert other.spec.validation[name] == value
    assert "--truth consep.h5 --truth monusac.h5" in (other.path / "CARD.md").read_text()
    write_store(tmp_path / "few.h5", [p for p in patches if p.source == "consep"])
    with pytest.raises(InputError, match="only in one of the two"):
        pipeline.export(whole_run, tmp_path / "x", "1", truth=[tmp_path / "few.h5"])
    assert not (tmp_path / "x").exists()


@pytest.fixture(scope="module")
def bundle(whole_run, tmp_path_factory):
    return pipeline.export(whole_run, tmp_path_factory.mktemp("bundles") / "tiny", "1")


def images(n: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(
        np.stack([coloured_patch("", "", seed + i).image[:128, :128].transpose(2, 0, 1) for i in range(n)])
    )


def test_a_network_started_from_a_bundle_answers_as_it_does(bundle):
    """In evaluation on any image; in training, where the batch's own statistics count, on those of the calibration."""
    torch.manual_seed(3)
    network = CellNetwork("efficientnet_lite0")
    start_from_graph(network, bundle, images(4, 10))
    assert network.training
    for seed, mode in ((50, False), (10, True)):
        image = images(4, seed)
        with torch.no_grad():
            found = network.train(mode)(image)
        wanted = Predictor(bundle).maps(np.ascontiguousarray(image.permute(0, 2, 3, 1).numpy()))
        for ours, theirs in zip(found, wanted, strict=True):
            # A variance over n values is larger by n / (n - 1) when it is averaged than when it is used.
            np.testing.assert_allclose(ours.numpy(), theirs, atol=0.02 if mode else 1e-4)


def test_a_run_starts_from_a_bundle(bundle, store):
    settings = TINY.model_copy(update={"start": str(bundle.path)})
    network = first_network(settings, CropDataset(split([store], settings)[0], settings, stride=2)).eval()
    with torch.no_grad():
        flows, _ = network(images(1, 5))
    wanted, _ = Predictor(bundle).maps(np.ascontiguousarray(images(1, 5).permute(0, 2, 3, 1).numpy()))
    np.testing.assert_allclose(flows.numpy(), wanted, atol=1e-4)


def test_a_bundle_of_another_architecture_is_no_start(bundle):
    with pytest.raises(BundleError, match="use the encoder that it was made with"):
        start_from_graph(CellNetwork("efficientnet_lite2"), bundle, images(1, 0))
    with pytest.raises(BundleError, match="use the encoder and the decoder that it was made with"):
        start_from(CellNetwork("efficientnet_lite2"), bundle, lambda: images(1, 0))


def test_a_start_has_the_very_tensors_of_the_run(whole_run, bundle):
    """Batch norms included, and without a look at any image; nothing of it is in a bundle's graph or hash."""
    network, wanted = CellNetwork("efficientnet_lite0"), trained_network(whole_run)[0].state_dict()
    start_from(network, bundle, images=None)
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in network.state_dict().items())
    assert wanted.keys() == network.state_dict().keys()


def test_without_its_tensors_the_graph_is_started_from(bundle, tmp_path):
    folder = shutil.copytree(bundle.path, tmp_path / "tiny")
    (folder / "weights.safetensors").unlink()
    network, asked = CellNetwork("efficientnet_lite0"), []
    start_from(network, load_bundle(folder), lambda: asked.append(1) or images(2, 10))
    assert asked
    image = images(1, 5)
    with torch.no_grad():
        flows, _ = network.eval()(image)
    wanted, _ = Predictor(bundle).maps(np.ascontiguousarray(image.permute(0, 2, 3, 1).numpy()))
    np.testing.assert_allclose(flows.numpy(), wanted, atol=1e-4)
    with pytest.raises(BundleError, match="it has no weights"):
        start_from(build_network("vit_tiny_patch16_224"), load_bundle(folder), images=None)
    (folder / "weights.safetensors").write_bytes(b"no tensors")
    with pytest.raises(BundleError, match="cannot be read"):
        start_from(network, load_bundle(folder), images=None)


@pytest.mark.parametrize(
    ("node", "module"),
    [
        ("/network/encoder/body/conv_stem/conv/Conv", "encoder.body.conv_stem"),
        ("/network/encoder/body/blocks.1/blocks.1.0/conv_dw/Conv", "encoder.body.blocks.1.0.conv_dw"),
        ("/network/decoder/blocks.1/layers/layers.0/layers.0.0/Conv", "decoder.blocks.1.layers.0.0"),
        ("/network/flow_head/Conv", "flow_head"),
    ],
)
def test_nodes_of_the_graph_name_modules(node, module):
    assert module_name(node) == module


def test_export_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="no finished epoch"):
        pipeline.export(tmp_path, tmp_path / "x", "1")


def test_a_difference_between_torch_and_onnx_stops_the_export(tmp_path, monkeypatch):
    monkeypatch.setattr("cytolite.release.onnx_export.parity", lambda *_: 0.1)
    with pytest.raises(CytoliteError, match=r"differs from torch by 0\.1"):
        export_onnx(CellNetwork("efficientnet_lite0"), tmp_path / "m.onnx", [np.zeros((1, 64, 64, 3), np.uint8)])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [(32, 32), (96, 64)])
def test_static_padding_changes_nothing(size):
    torch.manual_seed(0)
    network = CellNetwork("efficientnet_lite0").eval()
    image = torch.randint(0, 256, (1, *size, 3), dtype=torch.uint8)
    with torch.no_grad():
        for found, wanted in zip(DeployedNetwork(network)(image), network(image.permute(0, 3, 1, 2)), strict=True):
            torch.testing.assert_close(found, wanted)


def test_imagenet_weights_name_what_timm_names():
    """The packages' tensors are matched by order: a layer's known statistics must land where timm wants them."""
    spec = encoder_spec("efficientnet_lite2")
    given = torch.load(find_weights(spec), map_location="cpu", weights_only=True)
    body = CellNetwork("efficientnet_lite2", find_weights(spec)).encoder.body.state_dict()
    torch.testing.assert_close(body["conv_stem.weight"], given["_conv_stem.weight"])
    torch.testing.assert_close(body["blocks.3.1.conv_dw.weight"], given["_blocks.8._depthwise_conv.weight"])
    torch.testing.assert_close(body["blocks.4.3.bn2.running_var"], given["_blocks.14._bn1.running_var"])


def test_an_unknown_encoder_suggests_a_near_one():
    with pytest.raises(InputError, match="Did you mean 'efficientnet_lite0'"):
        encoder_spec("eficientnet_lite0")
