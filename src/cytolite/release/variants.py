"""Smaller variants of a bundle, float16 and int8, each with what it costs in quality, measured as the bundle was."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from cytolite.bundle import CARD_NAME, Bundle, ModelSpec, write_bundle
from cytolite.errors import UsageError
from cytolite.inference.image import model_input
from cytolite.metrics.bootstrap import RESAMPLES, Score, headline, headline_differences
from cytolite.metrics.counts import Counts
from cytolite.patches import Patch
from cytolite.provenance import option
from cytolite.release.bundle import count_bundle, store_names
from cytolite.release.embedding import with_embedding
from cytolite.release.origin import Sides, sides_of
from cytolite.runtime import onnx_runtime
from cytolite.training.warm_start import folded_weights

Kind = Literal["float16", "int8"]
# Patches that show the ranges of activations, from every source alike, and the side that is cut out of each.
CALIBRATION_PATCHES, CALIBRATION_PX = 48, 256
# Layers that stay float32, by what their names hold. The errors of the heads are the errors of the maps. The first
# stages of an encoder (an EfficientNet's, a ResNet's) have few channels whose ranges differ by much: with 256 steps for
# all of a layer's activations nuclei-light loses 0.035 of PQ on CoNSeP; and converting takes longer than they do.
FLOAT_LAYERS = (
    "flow_head", "type_head", "/conv_stem/", "/body/blocks.0/", "/body/blocks.1/", "/body/conv1/", "/body/layer1/",
    "/encoder/stem/",
)  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """One measure of the bundle and of its variant on the same held-back images."""

    name: str
    before: Score
    after: Score
    difference: Score


def make_variant(
    bundle: Bundle, out: Path, kind: Kind, stores: Sequence[Path], duplicates: Path | None = None
) -> tuple[Bundle, list[Comparison], str]:
    """Write a variant of `bundle` and compare the two on held-back images.

    Parameters
    ----------
    bundle : Bundle
        float32.
    out : Path
        Folder of the variant; names it.
    kind : {"float16", "int8"}
        float16: half the size; faster on GPUs, not on CPUs. int8: static, weights per channel, activations calibrated
        on patches that the bundle was trained on; heads and the encoder's first stages stay float32.
    stores : sequence of Path
        What the bundle was trained on, split as its run did: patches that trained calibrate, those held back compare.
    duplicates : Path, optional
        The pairs that its run was given, if it was.

    Returns
    -------
    variant : Bundle
    comparisons : list of Comparison
    note : str
        A sentence if it is not known what the run held back; else empty.

    Raises
    ------
    InputError
        If there are no stores, or they do not hold back what the bundle's run did.
    BundleError
        If the bundle is such a variant itself.
    """
    folded_weights(bundle, "made smaller")
    if not stores:
        raise UsageError(f"Give the stores that the model was trained on with --stores: {kind} is measured on them.")
    sides = sides_of([bundle], stores, duplicates)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        if kind == "float16":
            to_float16(bundle.onnx_path, path)
        else:
            to_int8(bundle.onnx_path, path, calibration_images(sides.training, bundle.spec.mpp))
        command = _command(bundle.spec, out.name, kind, duplicates)
        made_with = (*bundle.spec.made_with, command)
        spec = bundle.spec.model_copy(update={"name": out.name, "made_with": made_with})
        variant = write_bundle(out, path, spec, "")
        found = compare(*(count_bundle(one, sides.held_back, sides.labels) for one in (bundle, variant)))
        spec = spec.model_copy(update={"validation": {c.name: round(c.after.value, 4) for c in found}})
        variant = write_bundle(out, path, spec, card(bundle, variant, kind, found, sides=sides))
        variant = with_embedding(variant, sides.training) if bundle.spec.embedding else variant
    return variant, found, sides.note


def _command(spec: ModelSpec, name: str, kind: Kind, duplicates: Path | None) -> str:
    words = [shlex.join(["cytolite", "export", spec.name, "-o", name, "--kind", kind])]
    words += option("--stores", tuple(store_names(spec.data)))
    words += option("--duplicates", duplicates) if duplicates else []
    return " ".join(words)


def to_float16(source: Path, target: Path) -> None:
    """Write a graph whose weights and arithmetic are float16; its outputs stay float32.

    Parameters
    ----------
    source : pathlib.Path
        Graph to read.
    target : pathlib.Path
        Graph to write.
    """
    convert = onnx_runtime("transformers.float16").convert_float_to_float16
    onnx.save(convert(onnx.load(str(source)), keep_io_types=True), str(target))


def to_int8(source: Path, target: Path, images: Sequence[NDArray[np.uint8]]) -> None:
    """Write a graph whose convolutions are int8, with ranges of activations seen on `images`, uint8 (1, H, W, 3).

    Parameters
    ----------
    source : pathlib.Path
        Graph to read.
    target : pathlib.Path
        Graph to write.
    images : sequence of numpy.ndarra
        uint8 (1, H, W, 3) each.
    """
    quantization = onnx_runtime("quantization")
    prepared = target.with_name("prepared.onnx")
    onnx_runtime("quantization.shape_inference").quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    nodes = [node.name for node in onnx.load(str(prepared)).graph.node]
    quantization.quantize_static(
        str(prepared),
        str(target),
        _Images(images),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        per_channel=True,
        # 7 bits: sums of 8-bit products overflow on processors without VNNI, silently.
        reduce_range=True,
        weight_type=quantization.QuantType.QInt8,
        activation_type=quantization.QuantType.QUInt8,
        nodes_to_exclude=[name for name in nodes if any(part in name for part in FLOAT_LAYERS)],
        calibrate_method=quantization.CalibrationMethod.MinMax,
    )


def _reader_base() -> type:
    base: type = onnx_runtime("quantization").CalibrationDataReader
    return base


class _Images(_reader_base()):  # type: ignore[misc]
    """Hands the images to the calibration one by one."""

    def __init__(self, images: Sequence[NDArray[np.uint8]]) -> None:
        self.left: Iterator[NDArray[np.uint8]] = iter(images)

    def get_next(self) -> dict[str, Any] | None:
        image = next(self.left, None)
        return None if image is None else {"image": image}


def calibration_images(patches: Sequence[Patch], mpp: float) -> list[NDArray[np.uint8]]:
    """Return the middles of patches of every source in turn, at the model's resolution, uint8 (1, H, W, 3).

    Parameters
    ----------
    patches : sequence of Patch
        Of all sources.
    mpp : float
        Of the model, um per pixel.
    """
    sources = sorted({p.source for p in patches})
    queues = [[p for p in patches if p.source == source] for source in sources]
    chosen = [queue[i] for i in range(CALIBRATION_PATCHES) for queue in queues if i < len(queue)][:CALIBRATION_PATCHES]
    images = []
    for patch in chosen:
        image = model_input(patch.image, patch.mpp, mpp).image
        top, left = (max(0, (side - CALIBRATION_PX) // 2) for side in image.shape[:2])
        images.append(image[top : top + CALIBRATION_PX, left : left + CALIBRATION_PX][None])
    return images


def compare(before: Counts, after: Counts) -> list[Comparison]:
    """Return each source's headline measure of the bundle and of the variant, and their paired difference.

    Parameters
    ----------
    before, after : Counts
        Of the same images.
    """
    old, new, change = headline(before), headline(after), headline_differences(after, before)
    return [Comparison(name, old[name], new[name], change[name]) for name in old]


def card(
    bundle: Bundle,
    variant: Bundle,
    kind: Kind,
    found: Sequence[Comparison],
    *,
    sides: Sides,
) -> str:
    """Return the bundle's card with what the variant is and costs put in front.

    Parameters
    ----------
    bundle : Bundle
        The model.
    variant : Bundle
        What was made of it.
    kind : Kind
        Of its arithmetic.
    found : sequence of Comparison
        What it costs.
    sides : Sides
        What was held back.
    """
    spec = bundle.spec
    sizes = [path.stat().st_size / 2**20 for path in (bundle.onnx_path, variant.onnx_path)]
    rows = "\n".join(
        f"| `{c.name}` (n = {c.before.n}) | {c.before} | {c.after} | {c.difference.signed} |" for c in found
    )
    note = f"{sides.note}\n" if sides.note else ""
    head = f"""# {variant.spec.name} {spec.version}

{kind} variant of {spec.name} {spec.version}. **For research use only; not for diagnosis.** Everything below the table
is of the original.

| held-back images | {spec.name} | {kind} | difference |
| --- | --- | --- | --- |
{rows}
| size of the graph, MB | {sizes[0]:.1f} | {sizes[1]:.1f} | |

In brackets 95% intervals from {RESAMPLES:,} bootstrap resamples of images; those of the difference are paired.
{note}Made of the original by

```bash
{variant.spec.made_with[-1]}
```
"""
    original = bundle.path / CARD_NAME
    return head + ("\n" + original.read_text(encoding="utf-8") if original.is_file() else "")
