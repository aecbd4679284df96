"""The model bundle: found by name or path, and refused in one sentence where it cannot be trusted."""

import json

import pytest

from cytolite import bundle as bundles
from cytolite.bundle import FORMAT, ModelSpec, load_bundle, write_bundle
from cytolite.celltypes import DEFAULT
from cytolite.errors import BundleError, OutputError
from fakes import fake_bundle


@pytest.fixture
def bundle(tmp_path):
    return fake_bundle(tmp_path)


def change_spec(bundle, **changes):
    path = bundle.path / "model.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(content))


def refused(path, *words):
    with pytest.raises(BundleError) as caught:
        load_bundle(path)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message
    assert message.endswith((".", "?"))


def test_written_is_what_is_loaded(bundle, tmp_path):
    loaded = load_bundle(tmp_path / "fake")
    assert loaded == bundle
    assert loaded.spec.types == DEFAULT.names
    assert loaded.sha256 == loaded.spec.onnx_sha256
    assert load_bundle(str(tmp_path / "fake" / "model.json")) == bundle
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_newer_format_is_refused_before_its_fields_are_read(bundle):
    change_spec(bundle, format=FORMAT + 1, something_new=1)
    refused(bundle.path, f"format {FORMAT + 1}", "newer cytolite")


def test_changed_weights_are_refused(bundle):
    with bundle.onnx_path.open("ab") as file:
        file.write(b"x")
    refused(bundle.path, "damaged", "SHA-256")


def test_a_missing_hash_is_refused(bundle):
    change_spec(bundle, onnx_sha256="")
    refused(bundle.path, "none")


@pytest.mark.parametrize("name", ["model.onnx", "model.json"])
def test_missing_files_are_named(bundle, name):
    (bundle.path / name).unlink()
    refused(bundle.path, name)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "one"}', "{}", "\xff\xfe"])
def test_a_broken_spec_is_refused(bundle, text):
    (bundle.path / "model.json").write_bytes(text.encode("latin-1"))
    refused(bundle.path, "model.json")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"types": ["tumour"], "colours": []}, "2 to 64 types; 1"),
        ({"types": ["a", "a"], "colours": []}, "share the name or column 'a'"),
        ({"types": ["Tumour", "other"], "colours": []}, "lower case"),
        ({"types": ["a", "b"]}, "2 types and 7 colours"),
        ({"types": ["a", "b"], "colours": [], "groups": {"c": "immune"}}, "'c' is none of the types"),
    ],
)
def test_types_that_cannot_be_are_refused(bundle, fields, words):
    change_spec(bundle, **fields)
    refused(bundle.path, words)


def test_a_bundle_that_names_no_types_has_the_seven(bundle):
    content = json.loads((bundle.path / "model.json").read_text())
    for name in ("types", "colours"):
        del content[name]
    (bundle.path / "model.json").write_text(json.dumps(content | {"format": 1}))
    assert load_bundle(bundle.path).spec.type_set is DEFAULT


def test_unknown_and_wrong_fields_are_named(bundle):
    change_spec(bundle, halos=64)
    refused(bundle.path, "'halos'", "halo,")
    content = json.loads((bundle.path / "model.json").read_text())
    del content["halos"]
    (bundle.path / "model.json").write_text(json.dumps(content | {"mpp": 50}))
    refused(bundle.path, "'mpp'")


def test_unknown_names_list_what_there_is(tmp_path, monkeypatch):
    assets = tmp_path / "assets"
    monkeypatch.setattr(bundles, "ASSETS", assets)
    refused("fake", "none here")
    refused(None, "no default model")
    made = fake_bundle(assets)
    assert load_bundle(None) == made
    assert load_bundle("fake") == made
    refused("fakes", "Did you mean 'fake'?")
    (assets / "default.txt").write_text("other\n")
    refused(None, "other")


def test_writing_replaces_an_older_bundle_and_says_why_it_cannot(bundle, tmp_path):
    spec = ModelSpec(**(bundle.spec.model_dump() | {"version": "2"}))
    assert write_bundle(bundle.path, bundle.onnx_path, spec, "# card\n").spec.version == "2"
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_bundle(tmp_path / "file" / "b", bundle.onnx_path, spec, "")
