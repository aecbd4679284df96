"""An ensemble: several bundles in one, whose maps are the means of theirs."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import onnx
from onnx import compose, helper

from cytolite.bundle import Bundle, ModelSpec
from cytolite.errors import BundleError, UsageError
from cytolite.provenance import option
from cytolite.release.bundle import Making, count_bundle, store_names, write_scored
from cytolite.release.embedding import with_embedding
from cytolite.release.onnx_export import OUTPUTS
from cytolite.release.origin import sides_of
from cytolite.release.variants import Comparison, compare

# What members must share, since there is one of each in the graph or in what is done with its maps.
SHARED = ("types", "mpp", "stride", "foreground_threshold", "flow_threshold", "min_area_um2")


def make_ensemble(
    members: Sequence[Bundle], out: Path, version: str, stores: Sequence[Path], duplicates: Path | None = None
) -> tuple[Bundle, list[Comparison], str]:
    """Write a bundle that is the mean of others, and compare it with the first of them on held-back images.

    Networks that were trained differently err differently: the mean is better than each, at the cost of all.

    Parameters
    ----------
    members : sequence of Bundle
        Two or more, of one resolution and stride.
    out : Path
        Folder of the new bundle; names it.
    version : str
        Of the new bundle.
    stores : sequence of Path
        What the members were trained on, split as their runs did: those held back calibrate and score.
    duplicates : Path, optional
        The pairs that their runs were given, if they were.

    Returns
    -------
    ensemble : Bundle
    comparisons : list of Comparison
    note : str
        A sentence if it is not known what the runs held back; else empty.

    Raises
    ------
    InputError
        If there are no stores, fewer than two members, or the members' runs did not hold back the same images.
    BundleError
        If members do not fit together.
    """
    if len(members) < 2:
        raise UsageError("An ensemble has at least two members; name the others with --others.")
    if not stores:
        raise UsageError(
            "Give the stores that the members were trained on with --stores: an ensemble is scored on them."
        )
    models = [onnx.load(str(member.onnx_path)) for member in members]
    _check_fit(members, models)
    sides = sides_of(members, stores, duplicates)
    specs = [member.spec for member in members]
    spec = specs[0].model_copy(
        update={
            "name": out.name,
            "version": version,
            "tile": max(spec.tile for spec in specs),
            "halo": max(spec.halo for spec in specs),
            "data": tuple(sorted({source for spec in specs for source in spec.data})),
            "licence": " and ".join(sorted({spec.licence for spec in specs})),
            "parameters": sum(spec.parameters for spec in specs),
            "format": max(spec.format for spec in specs),
            "held_back": sides.record if not sides.note else None,
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(merged(models), str(path))
        text = "mean of " + " and ".join(f"{spec.name} {spec.version}" for spec in specs)
        spec = spec.model_copy(update={"made_with": tuple(commands(members, spec, duplicates))})
        making = Making(sides.training, sides.held_back, text, sides.note, sides.labels)
        bundle, counts = write_scored(out, path, spec, making)
        bundle = with_embedding(bundle, sides.training) if spec.embedding else bundle
    return bundle, compare(count_bundle(members[0], sides.held_back, sides.labels), counts), sides.note


def merged(models: Sequence[onnx.ModelProto]) -> onnx.ModelProto:
    """Return one graph whose outputs are the means of the models' outputs to the same image."""
    parts = [compose.add_prefix(model, f"member{i}_", rename_inputs=False) for i, model in enumerate(models)]
    first = parts[0].graph
    means = [
        helper.make_node("Mean", [f"member{i}_{name}" for i in range(len(parts))], [name], name=f"mean/{name}")
        for name in OUTPUTS
    ]
    outputs = [onnx.ValueInfoProto.FromString(output.SerializeToString()) for output in first.output]
    for output, name in zip(outputs, OUTPUTS, strict=True):
        output.name = name
    graph = helper.make_graph(
        [node for part in parts for node in part.graph.node] + means,
        "ensemble",
        list(first.input),
        outputs,
        [tensor for part in parts for tensor in part.graph.initializer],
    )
    model = helper.make_model(graph, opset_imports=parts[0].opset_import, ir_version=parts[0].ir_version)
    onnx.checker.check_model(model, full_check=True)
    return model


def _check_fit(members: Sequence[Bundle], models: Sequence[onnx.ModelProto]) -> None:
    for (one, graph), (other, other_graph) in pairwise(zip(members, models, strict=True)):
        different = [name for name in SHARED if getattr(one.spec, name) != getattr(other.spec, name)]
        if different:
            raise BundleError(
                f"{one.spec.name} and {other.spec.name} cannot be one ensemble: they differ in "
                f"{' and '.join(different)}."
            )
        if _opsets(graph) != _opsets(other_graph):
            raise BundleError(
                f"{one.spec.name} and {other.spec.name} cannot be one ensemble: their graphs are of other versions of "
                "ONNX's operators; export both with the same version of cytolite, and as the same kind."
            )


def _opsets(model: onnx.ModelProto) -> dict[str, int]:
    """Return the version of each set of operators that a graph uses."""
    return {opset.domain: opset.version for opset in model.opset_import}


def commands(members: Sequence[Bundle], spec: ModelSpec, duplicates: Path | None = None) -> list[str]:
    """Return the commands that made the members, and the one that puts them together.

    Parameters
    ----------
    members : sequence of Bundle
        The bundles.
    spec : ModelSpec
        Of the ensemble.
    duplicates : pathlib.Path, optional
        The pairs that the members' runs were given, if they were.
    """
    made = [line for member in members for line in member.spec.made_with or (_unknown(member),)]
    first, *others = [member.spec.name for member in members]
    stores = store_names(dict.fromkeys(source for member in members for source in member.spec.data))
    words = ["cytolite", "export", first, "-o", spec.name, "--kind", "ensemble", "--model-version", spec.version]
    export = [shlex.join(words)]
    export += [*option("--others", tuple(others)), *option("--stores", tuple(stores))]
    export += option("--duplicates", duplicates) if duplicates else []
    return list(dict.fromkeys([*made, " ".join(export)]))


def _unknown(member: Bundle) -> str:
    return f"# {member.spec.name} does not say how it was made"
