"""Start training from a bundle: the weights that it was exported with, or those of its graph.

A bundle that `cytolite export` made of a run has the network's own tensors beside its graph (``weights.safetensors``):
of any architecture, batch norms included. The bundles in the package, and variants, have the graph alone, and training
goes on from them too: there convolutions are found by the names of the graph's nodes. Export folds each batch norm into
the convolution before it; the fold is undone with the statistics of real images, so that the network computes what the
bundle does, and trains as one whose running averages are settled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cytolite.bundle import WEIGHTS_NAME, Bundle
from cytolite.errors import BundleError
from cytolite.networks.dense import DenseEncoder
from cytolite.networks.network import NucleusNetwork, Student

Weights = tuple[NDArray[np.float32], NDArray[np.float32]]


def start_from(
    network: NucleusNetwork, bundle: Bundle, images: Callable[[], torch.Tensor], types: Sequence[str] | None = None
) -> None:
    """Give `network` the weights of a bundle.

    Parameters
    ----------
    network : NucleusNetwork
        Of the bundle's architecture; changed in place.
    bundle : Bundle
        Exported by `cytolite.release.onnx_export`.
    images : callable
        Returns real images, uint8 (B, 3, H, W), from which batch norms' statistics are taken where the bundle has none.
    types : sequence of str, optional
        That the network tells apart, if they are not the bundle's: of those that both have, the head's weights are
        taken too.

    Raises
    ------
    BundleError
        If the bundle's network is of another architecture, or its graph holds no float32 weights.
    """
    path, were = bundle.path / WEIGHTS_NAME, bundle.spec.network_types.names
    if path.is_file():
        _load(network, path, bundle.spec.name, (were, types or were))
    elif isinstance(network, Student):
        start_from_graph(network, bundle, images(), types or were)
    else:
        raise BundleError(
            f"The model {bundle.spec.name!r} cannot be started from: it has no {WEIGHTS_NAME}, and graphs of this "
            "architecture do not name their layers; give the folder of a run, or a bundle that was exported of one."
        )


def write_weights(network: NucleusNetwork, path: Path) -> None:
    """Write a network's tensors for `start_from`.

    Parameters
    ----------
    network : NucleusNetwork
        Trained.
    path : pathlib.Path
        Called `cytolite.bundle.WEIGHTS_NAME`, beside the graph.
    """
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, str(path))


def _load(network: NucleusNetwork, path: Path, name: str, types: tuple[Sequence[str], Sequence[str]]) -> None:
    try:
        given = load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise BundleError(f"{path} cannot be read ({error}); copy or export the bundle again.") from None
    given |= {key: type_rows(network, key, given[key], *types) for key in given if is_head(key)}
    wanted = {key: tensor.shape for key, tensor in network.state_dict().items()}
    found = {key: tensor.shape for key, tensor in given.items()}
    if different := sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)):
        raise BundleError(
            f"The model {name!r} cannot be started from: {different[0]!r} is not the same in both networks; use the "
            "encoder and the decoder that it was made with."
        )
    network.load_state_dict(given)


@torch.no_grad()
def start_from_graph(
    network: Student, bundle: Bundle, images: torch.Tensor, types: Sequence[str] | None = None
) -> None:
    """Give `network` the weights of a bundle's graph; errors as of `start_from`.

    Parameters
    ----------
    network : Student
        Of the bundle's architecture; changed in place.
    bundle : Bundle
        Its graph holds float32 weights.
    images : torch.Tensor
        uint8 (B, 3, H, W), real images, from which batch norms' statistics are taken.
    types : sequence of str, optional
        That the network tells apart, if they are not the bundle's.
    """
    training = network.training
    network.eval()
    given = folded_weights(bundle, scaled=True)
    if types is not None and "type_head" in given:
        were, parts = bundle.spec.network_types.names, ("weight", "bias")
        head = [
            type_rows(network, f"type_head.{part}", torch.from_numpy(values.copy()), were, types).numpy()
            for part, values in zip(parts, given["type_head"], strict=True)
        ]
        given["type_head"] = (head[0], head[1])
    convolutions = {name: m for name, m in network.named_modules() if isinstance(m, nn.Conv2d)}
    if isinstance(network.encoder, DenseEncoder) and DenseEncoder.FIRST in given:
        given[DenseEncoder.FIRST] = network.encoder.unfolded(*given[DenseEncoder.FIRST])
    unknown = sorted(set(given) ^ set(convolutions))
    if unknown:
        raise BundleError(
            f"The model {bundle.spec.name!r} cannot be started from: the layer {unknown[0]!r} is not in both networks; "
            "use the encoder that it was made with."
        )
    norms = _norm_after(network, images[:1])
    for name, (weight, bias) in given.items():
        convolution = convolutions[name]
        if tuple(convolution.weight.shape) != weight.shape:
            raise BundleError(
                f"The model {bundle.spec.name!r} cannot be started from: its layer {name!r} is {weight.shape}, "
                f"here {tuple(convolution.weight.shape)}; use the encoder that it was made with."
            )
        convolution.weight.copy_(torch.from_numpy(weight.copy()))
        if convolution in norms:
            _pass_through(norms[convolution], torch.from_numpy(bias.copy()))
        else:
            convolution.bias.copy_(torch.from_numpy(bias.copy()))
    _settle(network, images, {norms[convolutions[name]] for name in given if convolutions[name] in norms})
    network.train(training)


def is_head(name: str) -> bool:
    """Whether weights are those that tell the types apart."""
    return name.startswith("type_head.")


def type_rows(
    network: NucleusNetwork, name: str, given: torch.Tensor, were: Sequence[str], types: Sequence[str]
) -> torch.Tensor:
    """Return the rows of a head for `types`: those of the head of `were` where both have a type, else the network's.

    Parameters
    ----------
    network : NucleusNetwork
        Tells `types` apart.
    name : str
        Of a tensor of its head, such as ``type_head.weight``.
    given : torch.Tensor
        That tensor of the other network: a row, or as many as pixels are answered for at once, for background and each
        type.
    were : sequence of str
        Types that the other network tells apart.
    types : sequence of str
        Types that are wanted.
    """
    if tuple(were) == tuple(types):
        return given
    fresh = network.state_dict().get(name)
    if fresh is None or fresh.shape[1:] != given.shape[1:] or given.shape[0] % (len(were) + 1):
        return given
    # A head that answers for several pixels at once has as many rows for each class, one after the other.
    rows, old = (t.clone().unflatten(0, (len(names) + 1, -1)) for t, names in ((fresh, types), (given, were)))
    if rows.shape[1:] == old.shape[1:]:
        rows[0] = old[0]
        for i, kind in enumerate(types, 1):
            if kind in were:
                rows[i] = old[[*were].index(kind) + 1]
    return rows.flatten(0, 1)


def folded_weights(bundle: Bundle, purpose: str = "started from", *, scaled: bool = False) -> dict[str, Weights]:
    """Return weight and bias of each convolution of the bundle's graph, by its module's name in the network.

    Parameters
    ----------
    bundle : Bundle
    purpose : str
        For the error.
    scaled : bool
        Take whole numbers that the graph scales to float32 (an int8 variant), too.

    Raises
    ------
    BundleError
        If they are not float32.
    """
    graph = onnx.load(str(bundle.onnx_path)).graph
    constants = float_constants(graph, scaled)
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    if not all(name in constants for node in convolutions for name in node.input[1:3]):
        raise BundleError(
            f"The model {bundle.spec.name!r} cannot be {purpose}: its weights are not float32; use the bundle that "
            "this variant was made of."
        )
    return {
        module_name(node.name): tuple(constants[name] for name in node.input[1:3])  # type: ignore[misc]
        for node in convolutions
    }


def float_constants(graph: onnx.GraphProto, scaled: bool) -> dict[str, NDArray[np.float32]]:
    """Return the graph's float32 constants by name and, if asked for, the whole numbers that it scales to float32.

    Parameters
    ----------
    graph : onnx.GraphProto
        Of the bundle.
    scaled : bool
        Take whole numbers that the graph scales, too.
    """
    given = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found = {tensor.name: given[tensor.name] for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    for node in graph.node if scaled else ():
        if node.op_type == "DequantizeLinear" and all(name in given for name in node.input):
            values, scale, *zero = (given[name] for name in node.input)
            # Scales are one for all, or one per output channel, which is the first axis of weights and of biases.
            shape = (-1, *(1,) * (values.ndim - 1)) if scale.ndim else ()
            offset = zero[0].astype(np.float32).reshape(shape) if zero else np.float32(0)
            found[node.output[0]] = (values.astype(np.float32) - offset) * scale.reshape(shape)
    return found


def module_name(node: str) -> str:
    """Return the module that a node of the exported graph was.

    >>> module_name("/network/encoder/body/blocks.1/blocks.1.0/conv_pw/Conv")
    'encoder.body.blocks.1.0.conv_pw'
    """
    parts: list[str] = []
    for part in node.split("/")[2:-1]:
        # A child of a list of modules is named with its list: "blocks.1" follows "blocks" or stands alone.
        if parts and part.startswith(f"{parts[-1]}."):
            parts.pop()
        parts.append(part)
    # Export replaces "same" convolutions by a padded one called conv inside: `StaticSameConv` of
    # `cytolite.release.onnx_export`.
    if parts[-2:-1] and parts[-1] == "conv" and parts[-2].startswith("conv"):
        parts.pop()
    return ".".join(parts)


def _norm_after(network: Student, image: torch.Tensor) -> dict[nn.Conv2d, _BatchNorm]:
    """Return the batch norm that works on each convolution's output, where there is one."""
    made: dict[int, nn.Conv2d] = {}
    found: dict[nn.Conv2d, _BatchNorm] = {}
    kept = []

    def after_conv(module: nn.Conv2d, inputs: object, output: torch.Tensor) -> None:
        made[id(output)] = module
        kept.append(output)  # an id is unique among living tensors only

    def before_norm(module: _BatchNorm, inputs: tuple[torch.Tensor]) -> None:
        if id(inputs[0]) in made:
            found[made[id(inputs[0])]] = module

    hooks = [m.register_forward_hook(after_conv) for m in network.modules() if isinstance(m, nn.Conv2d)]
    hooks += [m.register_forward_pre_hook(before_norm) for m in network.modules() if isinstance(m, _BatchNorm)]
    with _removed(hooks):
        network(image)
    return found


def _pass_through(norm: _BatchNorm, bias: torch.Tensor) -> None:
    """Let a batch norm do nothing but add `bias`."""
    norm.running_mean.zero_()
    norm.running_var.fill_(1)
    norm.weight.fill_((1 + norm.eps) ** 0.5)
    norm.bias.copy_(bias)


def _settle(network: Student, images: torch.Tensor, norms: set[_BatchNorm]) -> None:
    """Put the true statistics of their input into norms that pass through, and let them compute the same as before."""

    def before_norm(module: _BatchNorm, inputs: tuple[torch.Tensor]) -> None:
        variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3))
        settled.append((module, mean, variance))

    settled: list[tuple[_BatchNorm, torch.Tensor, torch.Tensor]] = []
    with _removed([norm.register_forward_pre_hook(before_norm) for norm in norms]):
        network(images)
    for norm, mean, variance in settled:
        norm.bias.add_(mean)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())


@contextmanager
def _removed(hooks: list[torch.utils.hooks.RemovableHandle]) -> Iterator[None]:
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
