"""An ensemble answers with the mean of its members, says who they are, and refuses those that do not fit."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="ensembles need the extra `train`")

from cytolite.bundle import load_bundle, write_bundle
from cytolite.errors import BundleError, InputError
from cytolite.inference.predictor import Predictor
from cytolite.release.ensemble import commands, make_ensemble, merged
from fakes import coloured_patch, coloured_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return coloured_store(tmp_path_factory.mktemp("store"), 3)


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """The embedded model, and one that weighs the red channel as it does the blue one and the other way round."""
    import onnx
    from onnx import numpy_helper

    first = load_bundle("nuclei-light")
    graph = onnx.load(str(first.onnx_path))
    [node] = [n for n in graph.graph.node if "/conv_stem/" in n.name and n.op_type == "Conv"]
    [kernel] = [tensor for tensor in graph.graph.initializer if tensor.name == node.input[1]]
    swapped = numpy_helper.to_array(kernel)[:, ::-1].copy()
    kernel.CopyFrom(numpy_helper.from_array(swapped, kernel.name))
    folder = tmp_path_factory.mktemp("members")
    onnx.save(graph, str(folder / "other.onnx"))
    made_with = ("cytolite prepare consep data/consep -o consep.h5", "make other")
    other = {"name": "other", "version": "3", "halo": 128, "data": ("consep", "puma"), "held_back": None}
    spec = first.spec.model_copy(update={**other, "made_with": made_with})
    return first, write_bundle(folder / "other", folder / "other.onnx", spec, "")


def test_the_answer_is_the_mean_and_the_members_are_named(members, store, tmp_path):
    ensemble, found, note = make_ensemble(members, tmp_path / "both", "7", [store])
    assert note.startswith("What other held back in training is not recorded")
    image = coloured_patch("x", "consep", 9).image[None, :96, :128]
    one, other, both = (Predictor(bundle).maps(image) for bundle in (*members, ensemble))
    for a, b, mean in zip(one, other, both, strict=True):
        assert np.abs(a - b).max() > 0.1
        np.testing.assert_allclose(mean, (a + b) / 2, atol=1e-4)
    assert ensemble.spec.parameters == 2 * members[0].spec.parameters
    assert (ensemble.spec.halo, ensemble.spec.version) == (128, "7")
    assert ensemble.spec.licence == "CC-BY-NC-SA-4.0"
    [row] = found
    assert row.difference.value == pytest.approx(row.after.value - row.before.value)
    card = (ensemble.path / "CARD.md").read_text()
    assert "mean of nuclei-light" in card
    assert "and other 3" in card
    made = card.split("```bash\n")[1].split("\n```")[0].splitlines()
    assert made.count("cytolite prepare consep data/consep -o consep.h5") == 1
    assert made[-2:] == [
        "make other",
        "cytolite export nuclei-light -o both --kind ensemble --model-version 7 --others other --stores consep.h5 "
        "--stores monusac.h5 --stores monuseg.h5 --stores pannuke.h5 --stores puma.h5",
    ]


def test_an_ensemble_can_be_as_many_as_one_likes(members):
    import onnx
    import onnxruntime

    graphs = [onnx.load(str(bundle.onnx_path)) for bundle in (*members, members[0])]
    session = onnxruntime.InferenceSession(merged(graphs).SerializeToString(), providers=["CPUExecutionProvider"])
    image = coloured_patch("x", "consep", 4).image[None, :64, :64]
    one, other = (Predictor(bundle).maps(image) for bundle in members)
    for found, a, b in zip(session.run(["flows", "type_logits"], {"image": image}), one, other, strict=True):
        np.testing.assert_allclose(found, (2 * a + b) / 3, atol=1e-4)


def test_a_member_that_does_not_say_how_it_was_made_is_named(members, tmp_path):
    bare = write_bundle(
        tmp_path / "bare", members[1].onnx_path, members[1].spec.model_copy(update={"made_with": ()}), ""
    )
    assert "# other does not say how it was made" in commands([bare, bare], bare.spec)


def test_what_does_not_fit_is_refused(members, store, tmp_path):
    first, other = members
    coarse = replace(other, spec=other.spec.model_copy(update={"mpp": 0.5, "flow_threshold": 0.6}))
    with pytest.raises(BundleError, match="they differ in mpp and flow_threshold"):
        make_ensemble([first, coarse], tmp_path / "x", "1", [store])
    import onnx

    older = onnx.load(str(other.onnx_path))
    older.opset_import[0].version -= 1
    onnx.save(older, str(tmp_path / "older.onnx"))
    old = write_bundle(tmp_path / "old", tmp_path / "older.onnx", other.spec, "")
    with pytest.raises(BundleError, match="other versions of ONNX's operators"):
        make_ensemble([first, old], tmp_path / "x", "1", [store])
    with pytest.raises(InputError, match="at least two"):
        make_ensemble([first], tmp_path / "x", "1", [store])
    with pytest.raises(InputError, match="--stores"):
        make_ensemble(members, tmp_path / "x", "1", [])
    assert not (tmp_path / "x").exists()
