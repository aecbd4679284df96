"""Export a network to ONNX or TorchScript, and check that what was written gives what torch gives."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from timm.layers import Conv2dSame
from torch import nn

from cytolite.errors import CytoliteError
from cytolite.networks.dense import DenseEncoder
from cytolite.networks.network import NucleusNetwork, Student
from cytolite.runtime import onnx_runtime

OPSET = 17
# Largest difference between torch and ONNX Runtime that counts as the same network (float32 rounding).
TOLERANCE = 1e-4
OUTPUTS = ("flows", "type_logits")


class StaticSameConv(nn.Module):
    """A "same"-padded convolution for inputs whose sides are multiples of its stride.

    TensorFlow's rule pads by the input's size; for such sizes the padding is a constant, and the graph needs no
    arithmetic on shapes.
    """

    def __init__(self, conv: Conv2dSame) -> None:
        super().__init__()
        kernel, stride = conv.kernel_size[0], conv.stride[0]
        total = max(kernel - stride, 0)
        self.pad = nn.ZeroPad2d((total // 2, total - total // 2) * 2)
        self.conv = nn.Conv2d(
            conv.in_channels, conv.out_channels, kernel, stride, groups=conv.groups, bias=conv.bias is not None
        )
        self.conv.load_state_dict(conv.state_dict())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.pad(x))


class DeployedNetwork(nn.Module):
    """The network as a bundle holds it: uint8 (B, H, W, 3) in, flows and type logits out."""

    def __init__(self, network: NucleusNetwork) -> None:
        super().__init__()
        self.network = _with_static_padding(copy.deepcopy(network))
        if isinstance(self.network.encoder, DenseEncoder):
            self.network.encoder.fold()
        self.eval()

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps: tuple[torch.Tensor, torch.Tensor] = self.network(image.permute(0, 3, 1, 2))
        return maps


def _with_static_padding(module: nn.Module) -> nn.Module:
    for name, child in module.named_children():
        if isinstance(child, Conv2dSame):
            setattr(module, name, StaticSameConv(child))
        else:
            _with_static_padding(child)
    return module


def export_onnx(network: NucleusNetwork, path: Path, samples: Sequence[NDArray[np.uint8]]) -> float:
    """Write `network` as ONNX with dynamic batch and size, and compare it with torch on real images.

    Parameters
    ----------
    network : NucleusNetwork
        Weights to export; not changed.
    path : Path
        Where the graph goes.
    samples : sequence of numpy.ndarray
        uint8 (B, H, W, 3), sides multiples of 32: real images for the check.

    Returns
    -------
    float
        Largest absolute difference between the outputs of torch and of ONNX Runtime.

    Raises
    ------
    CytoliteError
        If it exceeds `TOLERANCE`; nothing is left at `path` then.
    """
    deployed = DeployedNetwork(network)
    if isinstance(network, Student):
        # Names its nodes after modules: which layers stay float32 in int8 goes by them, and a start from a graph alone.
        options: dict[str, Any] = {"opset_version": OPSET, "dynamo": False}
        options["dynamic_axes"] = {name: _axes(name) for name in ("image", *OUTPUTS)}
        example = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    else:
        # Transformers compute with sizes, which the older exporter takes for constants or does not know.
        any_size = dict.fromkeys((0, 1, 2), torch.export.Dim.DYNAMIC)
        options = {"dynamo": True, "external_data": False, "verbose": False, "dynamic_shapes": {"image": any_size}}
        example = torch.zeros(2, 128, 192, 3, dtype=torch.uint8)
    torch.onnx.export(deployed, (example,), str(path), input_names=["image"], output_names=list(OUTPUTS), **options)
    onnx.checker.check_model(str(path))
    return _checked(max(parity(deployed, path, sample) for sample in samples), path)


def export_torchscript(network: NucleusNetwork, path: Path, sample: NDArray[np.uint8]) -> float:
    """Write `network` as TorchScript with the inputs and outputs of a bundle; result as `export_onnx`.

    Parameters
    ----------
    network : NucleusNetwork
        Weights to export; not changed.
    path : pathlib.Path
        File to write, ``.pt``.
    sample : numpy.ndarray
        uint8 (B, H, W, 3), sides multiples of 32: real images for the check.

    Raises
    ------
    CytoliteError
        If it differs from torch, on the images or on a part of them, by more than `TOLERANCE`; nothing is left then.
    """
    deployed = DeployedNetwork(network)
    traced = torch.jit.trace(deployed, torch.zeros(1, 64, 64, 3, dtype=torch.uint8), check_trace=False)
    traced.save(str(path))
    loaded = torch.jit.load(str(path))
    given = [torch.from_numpy(sample), torch.from_numpy(sample[:, :64, :32])]
    with torch.no_grad():
        pairs = [pair for image in given for pair in zip(loaded(image), deployed(image), strict=True)]
    return _checked(max(float((found - wanted).abs().max()) for found, wanted in pairs), path)


def _checked(difference: float, path: Path) -> float:
    if difference <= TOLERANCE:
        return difference
    path.unlink()
    raise CytoliteError(
        f"The exported network differs from torch by {difference:.2g}; at most {TOLERANCE:g} is allowed."
    )


def _axes(name: str) -> dict[int, str]:
    height, width = (1, 2) if name == "image" else (2, 3)
    return {0: "batch", height: "height", width: "width"}


@torch.no_grad()
def parity(deployed: nn.Module, path: Path, sample: NDArray[np.uint8]) -> float:
    """Largest absolute difference between torch and ONNX Runtime over both outputs on `sample`.

    Parameters
    ----------
    deployed : nn.Module
        The network as a bundle holds it.
    path : pathlib.Path
        The graph.
    sample : numpy.ndarray
        uint8 (B, H, W, 3).
    """
    session = onnx_runtime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(list(OUTPUTS), {"image": sample})
    wanted = deployed(torch.from_numpy(sample))
    return max(float(np.abs(f - w.numpy()).max()) for f, w in zip(found, wanted, strict=True))
