"""Give a bundle an embedding: a third output of its graph, inner maps of the network reduced to at most 32 channels.

The weights of the network are not touched. What is added is a file of its own that is the rest of the same message:
messages of protocol buffers are merged by writing one after the other, so the bytes of ``model.onnx`` followed by those
of ``embedding.onnx`` are one graph with three outputs, and ``model.onnx`` alone is the one that it was.

The vectors of nuclei in the training images are uncorrelated, with mean 0 and standard deviation 1 in each channel.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cytolite.bundle import CARD_NAME, MOST_CHANNELS, WEIGHTS_NAME, Bundle, Embedding, write_bundle
from cytolite.decoding.pooling import mean_vectors
from cytolite.errors import InputError, UsageError
from cytolite.inference.image import Located, locate
from cytolite.patches import Patch
from cytolite.release.origin import sides_of
from cytolite.runtime import onnx_runtime

OUTPUT = "embedding"
# Chosen by benchmarks/embedding_layers.py.
SOURCE = "decoder 0"
IMAGES_PER_SOURCE = 80  # of training, to fit it
_LEAST_VARIANCE = 1e-4  # of a component, of standardised numbers: smaller ones are noise, and stay small
_STAGE = re.compile(r"^(?:(.+)_)?/.*(encoder|decoder)/(?:body/)?blocks\.(\d)/.*(?:Add|Clip)$")


def make_embedding(bundle: Bundle, out: Path, stores: Sequence[Path], duplicates: Path | None = None) -> Bundle:
    """Write a bundle again, with an embedding fitted to the images that its run was trained on.

    Parameters
    ----------
    bundle : Bundle
        Of a network of `cytolite train`: float32, int8, or several.
    out : pathlib.Path
        Folder of the new bundle; names it.
    stores : sequence of pathlib.Path
        What it was trained on.
    duplicates : pathlib.Path, optional
        The pairs that its run was given, if it was.

    Raises
    ------
    InputError
        If the stores do not hold back what the bundle's run did, or its graph has no such inner maps.
    """
    if not stores:
        raise UsageError("Give the stores that the model was trained on with --stores: its embedding is fitted there.")
    return with_embedding(bundle, sides_of([bundle], stores, duplicates).training, out)


def with_embedding(bundle: Bundle, training: Sequence[Patch], out: Path | None = None) -> Bundle:
    """Write a bundle with an embedding fitted to training images: into `out`, or again, if it can have one.

    Parameters
    ----------
    bundle : Bundle
        Of one network or several.
    training : sequence of Patch
        Images that it was trained on; up to so many of each source are used, spread evenly.
    out : pathlib.Path, optional
        Folder of the new bundle; by default the bundle's own, which is left as it is where no embedding can be made.

    Raises
    ------
    InputError
        If `out` is given and the graph has no such inner map, or the model finds no nuclei.
    """
    tensor = inner_maps(onnx.load(str(bundle.onnx_path))).get(SOURCE)
    found = [] if tensor is None else [m for _, _, [m] in looked_into(bundle, _some(training), [tensor])]
    if out is None and not found:
        return bundle
    if tensor is None:
        raise InputError(f"The graph of {bundle.spec.name!r} has no inner map {SOURCE!r} that an embedding is made of.")
    if not found:
        raise InputError(f"The model {bundle.spec.name!r} finds no nuclei in its training images to fit it to.")
    out, means = out or bundle.path, np.concatenate(found)
    part = addition(tensor, *projection(means))
    channels = min(MOST_CHANNELS, means.shape[1])
    told = Embedding(channels=channels, source=SOURCE, sha256=hashlib.sha256(part).hexdigest())
    card = bundle.path / CARD_NAME
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    spec = bundle.spec.model_copy(update={"name": out.name, "embedding": told})
    weights = bundle.path / WEIGHTS_NAME
    return write_bundle(out, bundle.onnx_path, spec, text, weights if weights.is_file() else None, embedding=part)


def inner_maps(model: onnx.ModelProto) -> dict[str, str]:
    """Return the tensors that stages of an EfficientNet and blocks of a decoder end with, by names like "encoder 4".

    Of an int8 graph those that are float32 again: another use of what lies before would keep it from being int8. Of an
    ensemble those of its last member.
    """
    tensors = {name for node in model.graph.node for name in node.output}
    found: dict[str, str] = {}
    for node in model.graph.node:
        if match := _STAGE.match(node.name):
            again = f"{node.output[0]}_DequantizeLinear_Output"
            # Of several nodes of a stage the last one counts.
            found[f"{match[2]} {match[3]}"] = again if again in tensors else node.output[0]
    return found


def looked_into(
    bundle: Bundle, patches: Sequence[Patch], tensors: Sequence[str]
) -> Iterator[tuple[Patch, Located, list[NDArray[np.float32]]]]:
    """Yield each patch with nuclei, the nuclei found, and the means over them of inner maps, float32 (n, C) each.

    Parameters
    ----------
    bundle : Bundle
        Model to run.
    patches : sequence of Patch
        Images; those in which nothing is found are passed over.
    tensors : sequence of str
        Inner maps, by their names in the graph.
    """
    casts = [_as_float32(name) for name in tensors]
    outputs = [helper.make_tensor_value_info(cast.output[0], TensorProto.FLOAT, None) for cast in casts]
    more = onnx.ModelProto(graph=onnx.GraphProto(node=casts, output=outputs)).SerializeToString()
    options = onnx_runtime().SessionOptions()
    options.intra_op_num_threads = 1
    graph = bundle.onnx_path.read_bytes() + more
    session = onnx_runtime().InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    inner: list[NDArray[np.float32]] = []

    def maps(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        names = ["flows", "type_logits", *(cast.output[0] for cast in casts)]
        flows, type_logits, *inner[:] = session.run(names, {"image": images})
        return flows, type_logits

    for patch in patches:
        found = locate(maps, bundle.spec, patch.image, patch.mpp)
        if found.decoded.instances.any():
            yield patch, found, [mean_vectors(found.decoded.instances, found_map[0]) for found_map in inner]


def projection(means: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights (channels, C) and bias (channels,) that make vectors of means (n, C): whitened, at most 32.

    The principal components of the standardised means, each divided by its standard deviation; what does not vary is
    not made to.
    """
    mean, scale = means.mean(axis=0, dtype=np.float64), means.std(axis=0, dtype=np.float64)
    scale = np.where(scale > 1e-6, scale, 1.0)
    z = (means - mean) / scale
    variances, axes = np.linalg.eigh(z.T @ z / len(z))
    order = np.argsort(variances)[::-1][:MOST_CHANNELS]
    weights = (axes[:, order] / np.sqrt(np.maximum(variances[order], _LEAST_VARIANCE))).T / scale
    return weights.astype(np.float32), (-weights @ mean).astype(np.float32)


def addition(tensor: str, weights: NDArray[np.float32], bias: NDArray[np.float32]) -> bytes:
    """Return what makes a graph give the embedding, when it is put behind the graph's own bytes: a 1x1 convolution.

    Parameters
    ----------
    tensor : str
        Name in the graph of an inner map, float32 or float16 (B, C, h, w).
    weights : numpy.ndarray
        float32 (channels, C).
    bias : numpy.ndarray
        float32 (channels,).
    """
    names = [f"{OUTPUT}.weights", f"{OUTPUT}.bias"]
    cast = _as_float32(tensor)
    graph = onnx.GraphProto(
        node=[cast, helper.make_node("Conv", [cast.output[0], *names], [OUTPUT], name=OUTPUT)],
        initializer=[
            numpy_helper.from_array(weights[:, :, None, None], names[0]),
            numpy_helper.from_array(bias, names[1]),
        ],
        output=[helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", len(weights), None, None])],
    )
    model: bytes = onnx.ModelProto(graph=graph).SerializeToString()
    return model


def _as_float32(tensor: str) -> onnx.NodeProto:
    """Inner maps of a float16 graph are float16; where they are float32 already, ONNX Runtime drops the node."""
    return helper.make_node("Cast", [tensor], [f"{tensor}.float32"], name=f"{tensor}.float32", to=TensorProto.FLOAT)


def _some(patches: Sequence[Patch]) -> list[Patch]:
    """Return up to so many of each source, spread evenly over its patches."""
    chosen = []
    for _, same in groupby(sorted(patches, key=lambda p: p.source), key=lambda p: p.source):
        every = list(same)
        at = np.unique(np.linspace(0, len(every) - 1, IMAGES_PER_SOURCE).round().astype(int))
        chosen += [every[i] for i in at]
    return chosen
