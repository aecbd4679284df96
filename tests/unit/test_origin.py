"""Variants and ensembles are measured on what the original run held back, or it is said that this is not known."""

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("lightning", reason="needs the extra `train`")

from cytolite.bundle import Bundle, load_bundle, write_bundle
from cytolite.config import TrainSettings
from cytolite.datasets.store import write_store
from cytolite.errors import InputError, UsageError
from cytolite.release.origin import record_split, sides_of
from cytolite.training.run import split
from fakes import coloured_patch, coloured_store, fake_bundle

N = 12


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return coloured_store(tmp_path_factory.mktemp("store"), N, ("consep", "monusac"))


def bundle(folder: Path, store: Path, name: str = "fake", **settings) -> Bundle:
    """A bundle of a run of these settings on the store; without settings, one that records nothing."""
    fake = fake_bundle(folder / "made")
    held_back = split([store], TrainSettings(**settings))[1] if settings else []
    record = record_split(held_back, TrainSettings(**settings)) if settings else None
    spec = fake.spec.model_copy(update={"held_back": record, "name": name})
    return write_bundle(folder / name, fake.onnx_path, spec, "")


def names(patches):
    return {(p.source, p.name) for p in patches}


@pytest.mark.parametrize("settings", [{"seed": 3}, {"held_back": 0.4}, {"seed": 7, "held_back": 0.5}])
def test_the_split_is_that_of_the_run_and_not_the_defaults(store, tmp_path, settings):
    sides = sides_of([bundle(tmp_path, store, **settings)], [store])
    training, held_back = split([store], TrainSettings(**settings))
    assert names(sides.held_back) == names(held_back)
    assert names(sides.training) == names(training)
    assert names(sides.held_back) != names(split([store], TrainSettings())[1])
    assert sides.note == ""
    assert sides.record.seed == settings.get("seed", 0)


def test_the_record_comes_back_from_disk_and_tells_no_name(store, tmp_path):
    made = bundle(tmp_path, store, seed=3)
    assert load_bundle(made.path).spec.held_back == made.spec.held_back
    text = (made.path / "model.json").read_text()
    assert not any(p.name in text for p in split([store], TrainSettings())[0] if len(p.name) > 3)


def test_one_source_alone_can_be_given(store, tmp_path):
    alone = coloured_store(tmp_path, N, ("consep",))
    sides = sides_of([bundle(tmp_path, store, seed=3)], [alone])
    assert names(sides.held_back) == {n for n in names(split([store], TrainSettings(seed=3))[1]) if n[0] == "consep"}


def test_other_images_are_refused(store, tmp_path):
    patches = [coloured_patch(f"other {i}", "consep", i) for i in range(N)]
    write_store(tmp_path / "other.h5", patches, {"consep": "x"})
    with pytest.raises(InputError, match="do not hold back the images of consep that the run of fake did"):
        sides_of([bundle(tmp_path, store, seed=3)], [tmp_path / "other.h5"])


def test_duplicates_must_be_given_as_to_the_run(store, tmp_path):
    made = bundle(tmp_path, store, seed=3)
    with_pairs = replace(
        made,
        spec=made.spec.model_copy(update={"held_back": made.spec.held_back.model_copy(update={"duplicates": True})}),
    )
    with pytest.raises(UsageError, match="give it with --duplicates"):
        sides_of([with_pairs], [store])
    with pytest.raises(UsageError, match="leave out --duplicates"):
        sides_of([made], [store], tmp_path / "pairs.csv")


def test_members_that_were_split_differently_are_refused(store, tmp_path):
    one, other = (bundle(tmp_path / str(seed), store, f"seed{seed}", seed=seed) for seed in (1, 2))
    assert sides_of([one, one], [store]).note == ""
    with pytest.raises(InputError, match=r"seed1: share 0\.2, seed 1; seed2: share 0\.2, seed 2"):
        sides_of([one, other], [store])


@pytest.mark.parametrize("name", ["nuclei-light", "nuclei-base-int8", "nuclei-ensemble-int8"])
def test_embedded_bundles_say_how_they_were_split_and_made(name):
    spec = load_bundle(name).spec
    assert (spec.held_back.share, spec.held_back.seed, spec.held_back.duplicates) == (0.2, 0, False)
    assert any(line.startswith("cytolite train ") for line in spec.made_with) or name == "nuclei-base-int8"
    assert spec.made_with[-1].startswith("cytolite export ")
    assert f"-o {name} " in spec.made_with[-1]


def test_how_it_was_made_does_not_make_it_another_model(tmp_path):
    fake = fake_bundle(tmp_path)
    told = fake.spec.model_copy(update={"made_with": ("cytolite train a.h5",)})
    assert write_bundle(tmp_path / "told" / "fake", fake.onnx_path, told, "").spec_sha256 == fake.spec_sha256
    other = fake.spec.model_copy(update={"foreground_threshold": 0.6})
    assert write_bundle(tmp_path / "other" / "fake", fake.onnx_path, other, "").spec_sha256 != fake.spec_sha256


def test_what_is_not_known_is_said(store, tmp_path):
    sides = sides_of([bundle(tmp_path, store)], [store])
    assert sides.note.startswith("What fake held back in training is not recorded")
    assert sides.record is None
    assert names(sides.held_back) == names(split([store], TrainSettings())[1])
