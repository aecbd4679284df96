"""Export a network to ONNX, and check that ONNX Runtime gives what torch gives."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from timm.layers import Conv2dSame
from torch import nn

from cytolite.errors import CytoliteError
from cytolite.models.network import CellNetwork

OPSET = 17
# Largest difference between torch and ONNX Runtime that counts as the same network (float32 rounding).
TOLERANCE = 1e-3


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

    def __init__(self, network: CellNetwork) -> None:
        super().__init__()
        self.network = _with_static_padding(copy.deepcopy(network))
        self.eval()

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.network(image.permute(0, 3, 1, 2))


def _with_static_padding(module: nn.Module) -> nn.Module:
    for name, child in module.named_children():
        if isinstance(child, Conv2dSame):
            setattr(module, name, StaticSameConv(child))
        else:
            _with_static_padding(child)
    return module


def export_onnx(network: CellNetwork, path: Path, sample: NDArray[np.uint8]) -> float:
    """Write `network` as ONNX with dynamic batch and size, and compare it with torch on real images.

    Parameters
    ----------
    network : CellNetwork
        Weights to export; not changed.
    path : Path
        Where the graph goes.
    sample : numpy.ndarray
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
    torch.onnx.export(
        deployed,
        (torch.zeros(1, 64, 64, 3, dtype=torch.uint8),),
        str(path),
        input_names=["image"],
        output_names=["flows", "type_logits"],
        dynamic_axes={name: _axes(name) for name in ("image", "flows", "type_logits")},
        opset_version=OPSET,
        dynamo=False,
    )
    onnx.checker.check_model(str(path))
    difference = parity(deployed, path, sample)
    if difference > TOLERANCE:
        path.unlink()
        raise CytoliteError(
            f"The exported network differs from torch by {difference:.2g}; at most {TOLERANCE:g} is allowed."
        )
    return difference


def _axes(name: str) -> dict[int, str]:
    height, width = (1, 2) if name == "image" else (2, 3)
    return {0: "batch", height: "height", width: "width"}


@torch.no_grad()
def parity(deployed: nn.Module, path: Path, sample: NDArray[np.uint8]) -> float:
    """Largest absolute difference between torch and ONNX Runtime over both outputs on `sample`."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(["flows", "type_logits"], {"image": sample})
    wanted = deployed(torch.from_numpy(sample))
    return max(float(np.abs(f - w.numpy()).max()) for f, w in zip(found, wanted, strict=True))
