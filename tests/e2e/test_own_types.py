"""A network for types of one's own, on a tiny scale: store, training, distillation, bundle, card, result."""

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")
pytest.importorskip("lightning", reason="training needs the extra `train`")

from cytolite import pipeline  # noqa: E402
from cytolite.bundle import load_bundle  # noqa: E402
from cytolite.celltypes import LabelSet, TypeSet  # noqa: E402
from cytolite.config import DistillSettings, EvaluateSettings, TrainSettings  # noqa: E402
from cytolite.datasets.store import write_store  # noqa: E402
from cytolite.errors import InputError, UsageError  # noqa: E402
from cytolite.training.run import first_network, split, trained_network  # noqa: E402
from cytolite.training.sampling import CropDataset  # noqa: E402
from fakes import coloured_patch, coloured_store  # noqa: E402

TINY = {
    "encoder": "efficientnet_lite0", "pretrained": False, "crop_px": 64, "batch": 2, "steps_per_epoch": 1, "epochs": 1,
    "warmup_steps": 1, "held_back": 0.5, "loaders": 0, "threads": 1, "source_power": 0,
}  # fmt: skip
TWO = TypeSet.named(["tumour", "other"])
TWELVE = TypeSet.named([f"kind {i}" for i in range(1, 13)])
GROUPED = TypeSet.from_description(
    [
        {"name": "tumour", "colour": "#aa0011"},
        {"name": "t cell", "parent": "immune", "qupath": "Immune: T cell"},
        {"name": "plasma cell", "parent": "immune"},
    ]
)


def own_store(path, types: TypeSet):
    labels = LabelSet.of(types, [(1, 2)] if len(types) > 2 else [])
    patches = []
    for i in range(2):
        patch = coloured_patch(str(i), "mine", i)
        table = np.array([0, *(label % labels.unknown + 1 for label in range(patch.instance_map.max()))], np.uint8)
        patches.append(replace(patch, type_map=table[patch.instance_map]))
    write_store(path, patches, {"mine": "ours"}, labels=labels)
    return path


@pytest.mark.parametrize("types", [TWO, TWELVE, GROUPED], ids=["two", "twelve", "grouped"])
def test_from_a_store_of_own_types_to_a_bundle_of_them(tmp_path, types):
    store = own_store(tmp_path / "s.h5", types)
    pipeline.train([store], tmp_path / "run", TrainSettings(**TINY, loss="paper" if types is TWO else "light"))
    network, *_ = trained_network(tmp_path / "run")
    assert network.type_head.out_channels == len(types) + 1
    bundle = pipeline.export(tmp_path / "run", tmp_path / "mine", "1")
    assert load_bundle(bundle.path).spec.type_set == types
    card = (bundle.path / "CARD.md").read_text(encoding="utf-8")
    assert all(f"| {name} |" in card for name in types.names)
    assert f"Types outside the {len(types)}" in card
    assert "Plasma cells, mitoses" not in card
    assert set(bundle.spec.few_examples) == set(types.names)
    if types is GROUPED:
        assert '"tumour or t cell"' in card
        # The truth's types are the store's: no file has to say them again.
        settings = EvaluateSettings(mpp=0.25, pictures=False, resamples=10)
        [found, *_] = pipeline.evaluate([store], tmp_path / "report", settings, model=str(bundle.path))
        assert found.counts.classes.types == types.names
        with pytest.raises(UsageError, match="tells apart neoplastic"):
            pipeline.distill("nuclei-light", [store], tmp_path / "student", DistillSettings(**TINY))
        pipeline.distill(str(tmp_path / "run"), [store], tmp_path / "student", DistillSettings(**TINY))
        assert trained_network(tmp_path / "student")[0].type_head.out_channels == len(types) + 1


def test_stores_of_the_seven_are_learnt_as_others_by_two_files(tmp_path):
    store = coloured_store(tmp_path, 2)
    (tmp_path / "types.json").write_text(json.dumps({"types": TWO.describe()}))
    mapping = {"neoplastic": "tumour", "epithelial": "unknown", "dead": "ignore"}
    mapping |= dict.fromkeys(("lymphocyte", "macrophage", "neutrophil", "connective"), "other")
    (tmp_path / "map.json").write_text(json.dumps(mapping))
    files = {"types": tmp_path / "types.json", "map": tmp_path / "map.json"}
    pipeline.train([store], tmp_path / "run", TrainSettings(**TINY, **files))
    moved = {name: path.rename(tmp_path / f"moved-{path.name}") for name, path in files.items()}
    moved["map"].write_text(json.dumps(mapping | {"epithelial": "other"}))
    with pytest.raises(InputError, match="holds a run of other settings"):
        pipeline.train([store], tmp_path / "run", TrainSettings(**TINY, **moved))
    # What was learnt is in the run's record: export needs neither file.
    bundle = pipeline.export(tmp_path / "run", tmp_path / "two", "1")
    assert bundle.spec.type_set == TWO
    assert bundle.spec.held_back.mapping == mapping
    assert "--types types.json --map map.json" in " ".join(bundle.spec.made_with)


def test_training_starts_from_a_bundle_of_other_types_with_the_rows_that_both_have(tmp_path):
    types = TypeSet.named(["mitosis", "lymphocyte"])
    settings = TrainSettings(**TINY, start="nuclei-light")
    store = own_store(tmp_path / "s.h5", types)
    crops = CropDataset(split([store], settings)[0], settings, 1, labels=LabelSet.of(types))
    torch.manual_seed(0)
    network = first_network(settings, crops)
    from cytolite.training.warm_start import folded_weights

    weight = folded_weights(load_bundle("nuclei-light"))["type_head"][0]
    head = network.type_head.weight.detach().numpy()
    np.testing.assert_array_equal(head[[0, 2]], weight[[0, 3]])
    assert not np.isin(head[1], weight).any()
