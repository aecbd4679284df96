"""Recipes: the paper's is the default, and what cannot be done is said in a sentence."""

import pytest

from cytolite import celltypes
from cytolite.celltypes import label_by_name
from cytolite.errors import InputError
from cytolite.relabel.recipe import PAPER, read_recipe

GOOD = """
[[classifier]]
name = "leukocytes"
trained_on = ["monusac"]
types = ["lymphocyte", "neutrophil", "macrophage"]

[[split]]
dataset = "consep"
label = "inflammatory"
by = "leukocytes"
"""


def read(tmp_path, text):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return read_recipe(path)


def test_the_default_is_the_papers(tmp_path):
    recipe = read_recipe(None)
    assert recipe is PAPER
    found = {(s.dataset, s.label_id, recipe.by(s).trained_on, recipe.by(s).types) for s in recipe.split}
    assert found == {
        ("monusac", celltypes.EPITHELIAL_OR_NEOPLASTIC, ("pannuke",), ("neoplastic", "epithelial")),
        ("pannuke", celltypes.INFLAMMATORY, ("monusac",), ("lymphocyte", "neutrophil", "macrophage")),
    }


def test_a_recipe_is_read(tmp_path):
    recipe = read(tmp_path, GOOD)
    assert recipe.classifier[0].type_ids == (3, 5, 4)
    assert recipe.split[0].label_id == celltypes.INFLAMMATORY


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"neutrophil"', '"neutrofil"', "There is no cell type 'neutrofil'.*Did you mean 'neutrophil'"),
        ('"inflammatory"', '"inflamatory"', "There is no label 'inflamatory'.*Did you mean 'inflammatory'"),
        ('by = "leukocytes"', 'by = "leucocytes"', "its classifiers are leukocytes. Did you mean 'leukocytes'"),
        ('"inflammatory"', '"lymphocyte"', "one type already; only a coarse label can be split"),
        ('"inflammatory"', '"epithelial or neoplastic"', "which 'epithelial or neoplastic' does not leave open"),
        ('["lymphocyte", "neutrophil", "macrophage"]', '["lymphocyte"]', "at least 2 items"),
        ('["lymphocyte", "neutrophil", "macrophage"]', '["lymphocyte", "Lymphocyte"]', "names a type twice"),
        ('name = "leukocytes"', 'name = "../x"', "letters, digits, - and _ are allowed"),
        (
            "trained_on",
            "trained_om",
            "There is no setting 'trained_om'.*Did you mean 'trained_on'|trained_on.*field required",
        ),
        ("[[split]]", "[[splits]]", "There is no setting 'splits'.*Did you mean 'split'"),
        ("[[split]]", "[[split]", "is not valid TOML"),
        ("[[split]]", "[split]", r"write \[\[split\]\] with double brackets"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(tmp_path, old, new, sentence):
    assert old in GOOD
    with pytest.raises(InputError, match=sentence) as error:
        read(tmp_path, GOOD.replace(old, new))
    assert "\n" not in str(error.value).strip()


def test_the_same_twice_is_refused(tmp_path):
    with pytest.raises(InputError, match="two classifiers of one name"):
        read(tmp_path, GOOD + GOOD.partition("[[split]]")[0])
    with pytest.raises(InputError, match="splits 'inflammatory' of consep twice"):
        read(tmp_path, GOOD + "[[split]]" + GOOD.partition("[[split]]")[2])


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_recipe(tmp_path / "none.toml")


def test_labels_have_names_both_ways():
    for label, name in celltypes.LABEL_NAMES.items():
        assert label_by_name(name.upper()) == label
    assert set(celltypes.LABEL_NAMES) >= set(celltypes.COARSE_LABELS)
