"""Encoders and networks: every row of the table, built as it is, on the meta device where it is too big to run."""

import functools
import itertools

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")
pytest.importorskip("timm", reason="training needs the extra `train`")
pytest.importorskip("segmentation_models_pytorch", reason="training needs the extra `train`")

from cytolite.errors import InputError  # noqa: E402
from cytolite.files import sha256_of  # noqa: E402
from cytolite.networks.encoders import ENCODERS, encoder_spec, scaled_taps  # noqa: E402
from cytolite.networks.network import CellNetwork, UnetrNetwork, build_network  # noqa: E402
from cytolite.networks.weights import find_weights, from_transformers, load_weights, tensors_hash  # noqa: E402

# Parameters that the models' publishers or papers state, in millions.
PUBLISHED = {
    "h_optimus_0": 1135, "h_optimus_1": 1135, "h0_mini": 86, "uni": 303, "uni2_h": 681, "virchow2": 631,
    "gigapath": 1135, "phikon_v2": 303, "resnet50": 23.5, "mobilevitv2_150": 9.83,
}  # fmt: skip


@functools.cache
def on_meta(name: str):
    with torch.device("meta"):
        return build_network(name)


def parameters(module: "torch.nn.Module") -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("size", [(224, 224), (96, 160)])
@pytest.mark.parametrize("name", [*ENCODERS, "vit_tiny_patch16_224", "resnet18", "convnext_tiny"])
def test_every_row_is_what_it_says_and_answers_at_the_size_of_the_image(name, size):
    network, spec = on_meta(name).eval(), encoder_spec(name)
    flows, logits = network(torch.empty(2, 3, *size, device="meta", dtype=torch.uint8))
    assert flows.shape == (2, 2, size[0] // network.stride, size[1] // network.stride)
    assert logits.shape == (2, 8, size[0] // network.stride, size[1] // network.stride)
    assert network.frozen == spec.frozen == bool(spec.mpp)
    if name in PUBLISHED:
        # Publishers round.
        assert parameters(network.encoder) / 1e6 == pytest.approx(PUBLISHED[name], rel=5e-3)
    if spec.patch_px:
        assert network.encoder.body.embed_dim == spec.width
        assert network.encoder.body.patch_embed.patch_size == (spec.patch_px, spec.patch_px)
        assert spec.taps == scaled_taps(len(network.encoder.body.blocks))


def test_the_teacher_taps_the_papers_blocks_counted_from_zero():
    assert encoder_spec("h_optimus_0").taps == (1, 14, 26, 38)
    encoder = build_network("vit_tiny_patch16_224").eval().encoder
    image = torch.rand(1, 3, 32, 48)
    seen = {}
    for tap in encoder.spec.taps:
        encoder.body.blocks[tap].register_forward_hook(lambda m, i, o, tap=tap: seen.__setitem__(tap, o))
    with torch.no_grad():
        maps = encoder(image)
    assert list(seen) == [0, 4, 7, 11]
    for tokens, found in zip(seen.values(), maps, strict=True):
        # Without the class token, row by row: 2 x 3 patches.
        torch.testing.assert_close(found, tokens[:, 1:].reshape(1, 2, 3, 192).permute(0, 3, 1, 2))


def test_parameters_are_those_of_the_papers_table_4():
    teacher, student = on_meta("h_optimus_0"), on_meta("mobilevitv2_150")
    assert parameters(teacher) == pytest.approx(1_158_917_906, rel=0.01)
    assert parameters(student) == pytest.approx(24_093_393, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 96), (32, 160)])
def test_padding_to_whole_patches_changes_nothing_that_is_kept(size):
    """An image of 14-px patches is padded below and right: nothing shifts, and a larger image gives the same corner."""
    network = build_network("vit_small_patch14_reg4_dinov2", frozen=True).eval()
    image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
    padded = network.padded(image)
    assert all(side % 14 == 0 for side in padded.shape[2:])
    torch.testing.assert_close(padded[:, :, : size[0], : size[1]], network.encoder.normalise(image))
    torch.testing.assert_close(padded[:, :, -1, : size[1]], padded[:, :, size[0] - 1, : size[1]])
    with torch.no_grad():
        flows, logits = network(image)
    assert flows.shape[2:] == logits.shape[2:] == size


def test_input_is_scaled_as_the_weights_expect():
    network = build_network("vit_tiny_patch16_224")
    image = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    torch.testing.assert_close(network.encoder.normalise(image), torch.ones(1, 3, 32, 32))  # (1 - 0.5) / 0.5
    assert encoder_spec("h_optimus_0").mean == (0.707223, 0.578729, 0.703617)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "decoder"), [("vit_tiny_patch16_224", "unetr"), ("efficientnet_lite0", "light")])
def test_a_frozen_encoder_never_changes(name, decoder):
    """Neither weights nor the statistics of batch norms, over steps in training mode that change all the rest."""
    torch.manual_seed(0)
    network = build_network(name, decoder, frozen=True)
    before, rest = tensors_hash(network.encoder), tensors_hash(network.decoder)
    optimiser = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        network.train()
        assert not any(module.training for module in network.encoder.modules())
        flows, logits = network(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))
        (flows.square().mean() + logits.square().mean()).backward()
        optimiser.step()
    assert tensors_hash(network.encoder) == before
    assert tensors_hash(network.decoder) != rest
    assert all(p.grad is None for p in network.encoder.parameters())
    thawed = build_network(name, decoder, frozen=False).train()
    thawed(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))[0].mean().backward()
    assert any(p.grad is not None for p in thawed.encoder.parameters())


def test_the_light_students_state_is_named_as_in_older_checkpoints():
    names = list(CellNetwork("efficientnet_lite0").state_dict())
    assert {name.split(".")[0] for name in names} == {"encoder", "decoder", "flow_head", "type_head"}
    assert "encoder.mean" in names
    assert "encoder.body.blocks.1.0.conv_pw.weight" in names


def test_the_wide_student_is_about_twice_the_light_one():
    """By hand, of the decoder: 1x1 convolutions into each level and down from it, dense 3x3 blocks, two separable."""
    network = build_network("efficientnet_lite2", "wide")
    widths, channels = (32, 64, 128, 192), network.encoder.channels
    norm = 2
    skips = sum((c + norm) * w for c, w in zip(channels, widths, strict=True))
    narrow = sum((coarse + norm) * fine for fine, coarse in itertools.pairwise(widths))
    dense = sum(4 * (9 * w + norm) * w for w in widths[1:3]) + (9 * 32 + norm) * 32
    separable = 2 * (9 + norm + 192 + norm) * 192
    assert parameters(network.decoder) == skips + narrow + dense + separable
    assert parameters(network) == pytest.approx(2 * parameters(build_network("efficientnet_lite0")), rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_of_a_file_arrive(tmp_path, suffix):
    """As publishers write them: with a classifier that is not wanted, torch's files inside a "state_dict"."""
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(1)
    given = timm.create_model("resnet18", num_classes=5).state_dict()
    path = tmp_path / f"w{suffix}"
    if suffix == ".safetensors":
        save_file(given, path)
    else:
        torch.save({"state_dict": given, "epoch": 3}, path)
    spec = encoder_spec("resnet18")
    network = UnetrNetwork("resnet18", find_weights(spec, path))
    torch.testing.assert_close(
        network.encoder.body.state_dict()["layer3.1.conv2.weight"], given["layer3.1.conv2.weight"]
    )
    mobile = timm.create_model("mobilevitv2_050").state_dict()
    save_file(mobile, tmp_path / "m.safetensors")
    body = build_network("mobilevitv2_050", "unetpp", tmp_path / "m.safetensors").encoder.body.state_dict()
    torch.testing.assert_close(body["model.stages_2.0.conv1_1x1.bn.weight"], mobile["stages.2.0.conv1_1x1.bn.weight"])


def test_phikons_tensors_are_renamed_from_transformers():
    """Names of a Dinov2 of `transformers`, by hand for one block; query, key and value in timm's order."""
    spec = encoder_spec("phikon_v2")
    with torch.device("meta"):
        wanted = {k: v.shape for k, v in spec.build().state_dict().items()}
    width = 1024
    shapes = {"norm1.weight": width, "norm1.bias": width, "norm2.weight": width, "norm2.bias": width,
              "attention.output.dense.weight": (width, width), "attention.output.dense.bias": width,
              "layer_scale1.lambda1": width, "layer_scale2.lambda1": width, "mlp.fc1.weight": (4 * width, width),
              "mlp.fc1.bias": 4 * width, "mlp.fc2.weight": (width, 4 * width), "mlp.fc2.bias": width}  # fmt: skip
    given = {
        "embeddings.cls_token": torch.empty(1, 1, width, device="meta"),
        "embeddings.mask_token": torch.empty(1, width, device="meta"),
        "embeddings.position_embeddings": torch.empty(1, 197, width, device="meta"),
        "embeddings.patch_embeddings.projection.weight": torch.empty(width, 3, 16, 16, device="meta"),
        "embeddings.patch_embeddings.projection.bias": torch.empty(width, device="meta"),
        "layernorm.weight": torch.empty(width, device="meta"),
        "layernorm.bias": torch.empty(width, device="meta"),
    }
    for n in range(24):
        given |= {f"encoder.layer.{n}.{k}": torch.empty(s, device="meta") for k, s in shapes.items()}
        for i, part in enumerate(("query", "key", "value")):
            stem = f"encoder.layer.{n}.attention.attention.{part}"
            given |= {
                f"{stem}.weight": torch.empty(width, width, device="meta"),
                f"{stem}.bias": torch.full((width,), i),
            }
    found = from_transformers(given)
    assert {k: v.shape for k, v in found.items()} == wanted
    assert found["blocks.5.attn.qkv.bias"].reshape(3, width)[:, 0].tolist() == [0, 1, 2]


def test_weights_that_do_not_fit_are_refused(tmp_path):
    import timm

    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "w.pth")
    with pytest.raises(InputError, match="do not fit this encoder"):
        load_weights(encoder_spec("resnet34").build(), tmp_path / "w.pth")
    (tmp_path / "junk.pth").write_bytes(b"junk")
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    for name in ("junk.pth", "junk.safetensors"):
        with pytest.raises(InputError, match="cannot be read"):
            load_weights(encoder_spec("resnet18").build(), tmp_path / name)


def test_without_access_the_sentence_says_what_to_accept_and_where_to_put_the_file(monkeypatch, tmp_path):
    from huggingface_hub import errors

    def unreachable(*args, **kwargs):
        raise errors.LocalEntryNotFoundError("offline")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    with pytest.raises(InputError) as caught:
        find_weights(encoder_spec("h_optimus_0"))
    message = str(caught.value)
    for word in ("bioptimus/H-optimus-0", "accept the terms", "--weights", "pytorch_model.bin", "Apache-2.0"):
        assert word in message
    assert "\n" not in message
    with pytest.raises(InputError) as caught:
        find_weights(encoder_spec("phikon_v2"))
    assert "accept the terms" not in str(caught.value)
    with pytest.raises(InputError, match="There is no file"):
        find_weights(encoder_spec("uni"), tmp_path / "nothing.bin")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("h_optimus0", "Did you mean 'h_optimus_0'"),
        ("resnet5O", "Did you mean 'resnet50'"),
        ("swin_tiny_patch4_window7_224", "neither a CNN"),
        ("mixer_b16_224", "neither a CNN"),
    ],
)
def test_unknown_and_unfit_encoders_are_named(name, words):
    with pytest.raises(InputError, match=words):
        encoder_spec(name)


@pytest.mark.parametrize(
    ("name", "decoder"),
    [("vit_tiny_patch16_224", "light"), ("vit_tiny_patch16_224", "wide"), ("vit_tiny_patch16_224", "unetpp")],
)
def test_decoders_that_do_not_go_with_an_encoder_are_refused(name, decoder):
    with pytest.raises(InputError, match="'unetr'"):
        build_network(name, decoder)


def test_hashes_tell_weights_apart(tmp_path):
    module = torch.nn.BatchNorm2d(3)
    before = tensors_hash(module)
    module.running_mean[1] += 1
    assert tensors_hash(module) != before
    (tmp_path / "a").write_bytes(b"a")
    assert sha256_of(tmp_path / "a").startswith("ca978112")  # sha256("a")
