"""Labels of any types: stores of them, what a run learns of stores that call types otherwise, and the losses."""

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")
pytest.importorskip("lightning", reason="training needs the extra `train`")

from PIL import Image  # noqa: E402

from cytolite.celltypes import DEFAULT, IGNORE, SEVEN, LabelSet, TypeSet  # noqa: E402
from cytolite.config import TrainSettings  # noqa: E402
from cytolite.datasets.describe import describe  # noqa: E402
from cytolite.datasets.store import Store, Stores, write_store  # noqa: E402
from cytolite.drawing.patch_sheet import draw_sheet  # noqa: E402
from cytolite.errors import InputError, UsageError  # noqa: E402
from cytolite.networks.network import build_network  # noqa: E402
from cytolite.pipeline import prepare  # noqa: E402
from cytolite.training.losses import allowed_table, frequency_weights, set_codes, set_table, type_loss  # noqa: E402
from cytolite.training.sampling import CropDataset  # noqa: E402
from cytolite.training.vocabulary import Vocabulary, vocabulary_of  # noqa: E402
from fakes import coloured_patch  # noqa: E402

TWO = TypeSet.named(["tumour", "other"])
TWELVE = TypeSet.named([f"kind {i}" for i in range(1, 13)])
GROUPED = TypeSet.from_description(
    [{"name": "tumour"}, {"name": "t cell", "parent": "immune"}, {"name": "plasma", "parent": "immune"}, {"name": "x"}]
)


def patch_of(labels: list[int], name: str = "a", source: str = "mine"):
    """A patch whose nucleus i + 1 has the label i of the list."""
    patch = coloured_patch(name, source, 0)
    table = np.array([0, *(labels[i % len(labels)] for i in range(patch.instance_map.max()))], np.uint8)
    return replace(patch, type_map=table[patch.instance_map])


# ---- labels ---------------------------------------------------------------------------------------------------------


def test_labels_of_the_seven_are_those_that_stores_always_had():
    assert [SEVEN.allowed(label) for label in (1, 8, 9, 10)] == [(1,), (3, 4, 5), (2, 1), (1, 2, 3, 4, 5, 6, 7)]
    assert (SEVEN.unknown, SEVEN.names[8], SEVEN.names[IGNORE]) == (10, "inflammatory", "ignore")
    assert LabelSet.of(DEFAULT, [(3, 4, 5)]) is SEVEN
    assert LabelSet.from_description(json.loads(json.dumps(SEVEN.describe()))) is SEVEN


@pytest.mark.parametrize("types", [TWO, TWELVE, GROUPED], ids=["two", "twelve", "grouped"])
def test_labels_of_other_types_go_through_json_and_have_names_and_colours(types):
    labels = LabelSet.of(types, [types.groups["immune"]] if types.groups else [])
    assert LabelSet.from_description(json.loads(json.dumps(labels.describe()))) == labels
    assert set(labels.names) == {*labels, IGNORE}
    assert set(labels.colours) == {*labels}
    assert [labels.by_names(labels.names[label]) for label in (*labels, IGNORE)] == [*labels, IGNORE]


def test_a_group_or_a_list_is_one_of_its_types():
    labels = LabelSet.of(GROUPED, [(2, 3), (1, 4)])
    assert labels.allowed(labels.by_names("immune")) == (2, 3)
    assert labels.allowed(labels.by_names(["x", "Tumour"])) == (1, 4)
    assert labels.colours[labels.by_names(["x", "tumour"])] == tuple(
        (a + b) // 2 for a, b in zip(GROUPED[0].colour, GROUPED[3].colour, strict=True)
    )
    with pytest.raises(UsageError, match="no cell type 'imune'"):
        labels.by_names("imune")


def test_more_sets_than_a_type_map_can_hold_are_refused():
    many = TypeSet.named([f"type {i}" for i in range(64)])
    with pytest.raises(InputError, match="can tell 254 apart"):
        LabelSet.of(many, [(i, j) for i in range(1, 20) for j in range(i + 1, 25)])


# ---- stores ---------------------------------------------------------------------------------------------------------


def test_a_store_says_what_its_types_are_and_those_of_the_seven_stay_as_they_were(tmp_path):
    labels = LabelSet.of(TWELVE)
    write_store(tmp_path / "twelve.h5", [patch_of([12, 1, labels.unknown])], labels=labels)
    write_store(tmp_path / "seven.h5", [patch_of([7, 8, 10])])
    with Store(tmp_path / "twelve.h5") as twelve, Store(tmp_path / "seven.h5") as seven:
        assert (twelve.labels, seven.labels, twelve.format, seven.format) == (labels, SEVEN, 4, 3)
        assert twelve.nuclei.shape == (1, 14)
        with pytest.raises(UsageError, match="relabel is for stores of the seven types"):
            twelve.of_the_seven("relabel")
    with pytest.raises(InputError, match=r"the type map holds \[12\]"):
        write_store(tmp_path / "no.h5", [patch_of([12])])
    with Stores([tmp_path / "twelve.h5"]) as stores:
        assert "kind 12" in describe(stores)
        draw_sheet(stores, stores.texts("source"), stores.numbers("nuclei"), labels=stores.labels)
    with (
        Stores([tmp_path / "twelve.h5", tmp_path / "seven.h5"]) as stores,
        pytest.raises(UsageError, match="one after"),
    ):
        describe(stores)


def label_folder(folder):
    for kind in ("image", "inst", "type"):
        (folder / kind).mkdir(parents=True)
    patch = patch_of([1, 2, 3, 4])
    Image.fromarray(patch.image).save(folder / "image" / "a.png")
    Image.fromarray(patch.instance_map.astype(np.uint16)).save(folder / "inst" / "a.png")
    Image.fromarray(patch.type_map).save(folder / "type" / "a.png")
    return patch


def test_prepare_reads_label_folders_of_any_types(tmp_path):
    patch = label_folder(tmp_path / "mine")
    (tmp_path / "set.json").write_text(json.dumps({"types": GROUPED.describe()}))
    (tmp_path / "types.json").write_text(
        json.dumps({"set": "set.json", "types": {"1": "t cell", "2": "immune", "3": ["tumour", "x"], "4": "unknown"}})
    )
    prepare("labels", tmp_path / "mine", tmp_path / "s.h5", types=tmp_path / "types.json", mpp=0.25)
    with Store(tmp_path / "s.h5") as store:
        assert store.labels.type_set == GROUPED
        found = store[0].type_map
        open_types = [set(store.labels.allowed(int(found[patch.type_map == i][0]))) for i in (1, 2, 3, 4)]
    assert open_types == [{2}, {2, 3}, {1, 4}, {1, 2, 3, 4}]
    (tmp_path / "types.json").write_text(json.dumps({"set": "set.json", "types": {"1": "t cel"}}))
    with pytest.raises(UsageError, match="Did you mean 't cell'"):
        prepare("labels", tmp_path / "mine", tmp_path / "t.h5", types=tmp_path / "types.json", mpp=0.25)
    assert not (tmp_path / "t.h5").exists()


# ---- what a run learns ----------------------------------------------------------------------------------------------


def test_stores_of_the_seven_are_learnt_as_two_types_by_a_mapping(tmp_path):
    mapping = {"neoplastic": "tumour", "dead": "ignore", "connective": "unknown"}
    mapping |= dict.fromkeys(("epithelial", "lymphocyte", "macrophage", "neutrophil"), "other")
    vocabulary = Vocabulary.of([SEVEN], TWO, mapping)
    given = patch_of([1, 8, 9, 10, 6, 7])
    [found] = vocabulary.translated([given], SEVEN, "s.h5")
    of = {int(label): set(np.unique(found.type_map[given.type_map == label]).tolist()) for label in (1, 8, 9, 10, 6, 7)}
    unknown = vocabulary.labels.unknown
    assert of == {1: {1}, 8: {2}, 9: {unknown}, 10: {unknown}, 6: {unknown}, 7: {IGNORE}}
    assert (found.type_map == 0).sum() == (given.type_map == 0).sum()
    again = Vocabulary.recorded({"types": json.loads(json.dumps(vocabulary.record()))})
    assert again == vocabulary


def test_a_coarse_label_stays_one_of_several(tmp_path):
    vocabulary = Vocabulary.of([SEVEN], None, {"macrophage": "lymphocyte"})
    assert vocabulary.labels.type_set.names == (
        "neoplastic",
        "epithelial",
        "lymphocyte",
        "neutrophil",
        "connective",
        "dead",
    )
    [found] = vocabulary.translated([patch_of([8])], SEVEN, "s.h5")
    assert vocabulary.labels.allowed(int(found.type_map.max())) == (3, 4)


def test_what_cannot_be_learnt_gets_a_sentence():
    with pytest.raises(UsageError, match=r"different types .*--types FILE"):
        Vocabulary.of([SEVEN, LabelSet.of(TWO)])
    with pytest.raises(UsageError, match=r"no type 'neoplastc'.*Did you mean 'neoplastic'"):
        Vocabulary.of([SEVEN], TWO, {"neoplastc": "tumour"})
    with pytest.raises(UsageError, match=r"mapped to 'tumor'.*Did you mean 'tumour'"):
        Vocabulary.of([SEVEN], TWO, {"neoplastic": "tumor"})
    vocabulary = Vocabulary.of([SEVEN], TWO, {"neoplastic": "tumour"})
    with pytest.raises(UsageError, match=r"s.h5 has nuclei of the type 'dead'.*--map"):
        vocabulary.translated([patch_of([1, 7])], SEVEN, "s.h5")
    with pytest.raises(UsageError, match="'epithelial'"):
        vocabulary.translated([patch_of([9])], SEVEN, "s.h5")


def test_the_files_beside_the_stores_are_read(tmp_path):
    write_store(tmp_path / "seven.h5", [patch_of([1])])
    (tmp_path / "t.json").write_text(json.dumps({"types": TWO.describe()}))
    (tmp_path / "m.toml").write_text('neoplastic = "tumour"\n')
    settings = TrainSettings(types=tmp_path / "t.json", map=tmp_path / "m.toml")
    assert vocabulary_of([tmp_path / "seven.h5"], settings).labels.type_set == TWO
    assert vocabulary_of([tmp_path / "seven.h5"], TrainSettings()) == Vocabulary()


# ---- losses, crops, networks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("types", [TWO, TWELVE, GROUPED], ids=["two", "twelve", "grouped"])
def test_losses_follow_the_set(types):
    labels = LabelSet.of(types, [(1, 2)] if len(types) > 2 else [])
    allowed = allowed_table(labels)
    assert allowed.shape == (256, len(types))
    assert [allowed[label].nonzero().ravel().add(1).tolist() for label in labels] == [
        [*labels.allowed(t)] for t in labels
    ]
    logits = torch.randn(1, len(types) + 1, 2, 3, generator=torch.Generator().manual_seed(0))
    label = len(types)
    maps = torch.full((1, 2, 3), label)
    expected = -logits[:, 1:].log_softmax(1)[:, label - 1].mean()
    torch.testing.assert_close(type_loss(logits, maps, allowed, torch.ones(1, 2, 3)), expected)
    table = set_table(labels)
    inside, outside = (set_codes(maps, torch.full((1, 2, 3), it), labels)[0, 0, 0] for it in (True, False))
    assert table[inside].nonzero().ravel().tolist() == [label]
    assert table[outside].nonzero().ravel().tolist() == [0, label]
    assert len(frequency_weights({1: 3}, n_types=len(types))) == len(types) + 1


def test_crops_say_unknown_with_the_set_s_own_label_and_lift_every_type():
    labels = LabelSet.of(TWELVE)
    settings = TrainSettings(crop_px=64, source_power=0)
    crops = CropDataset([patch_of([*range(1, 13), labels.unknown])], settings, 2, labels=labels)
    assert len(crops.points) == 12
    seen = torch.cat([crops.draw(i)["labels"].ravel() for i in range(12)])
    assert seen[seen != IGNORE].max() == labels.unknown
    assert 12 in seen.tolist()


@pytest.mark.parametrize("decoder", ["light", "unetr"])
def test_a_network_has_a_class_for_each_type(decoder):
    network = build_network("efficientnet_lite0", decoder, n_types=12).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 64, 64))[1].shape[1] == 13
