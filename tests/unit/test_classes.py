"""What labels mean, and files that say so."""

import numpy as np
import pytest

from cytolite.celltypes import COARSE_LABELS, DEFAULT, IGNORE, TYPE_NAMES, TypeSet, allowed_types
from cytolite.errors import InputError
from cytolite.metrics.classes import Classes, numbers_of, own_classes, read_classes


def test_own_classes_are_the_types_and_the_coarse_labels():
    own = own_classes()
    assert own.types == TYPE_NAMES
    for label in [*range(1, 8), *COARSE_LABELS]:
        assert tuple(np.flatnonzero(own.allowed[label]) + 1) == tuple(sorted(allowed_types(label)))
    assert own.ignored == {IGNORE}
    assert not own.allowed[IGNORE].any()
    assert own.names[0] == "all"
    assert own.names[8:] == ("neoplastic|epithelial", "lymphocyte|macrophage|neutrophil")


def write(path, text):
    path.write_text(text)
    return path


def test_a_file_of_own_names_keeps_the_seven_types(tmp_path):
    lines = (
        '1 = "unknown"', '2 = ["lymphocyte", "macrophage", "neutrophil"]', '3 = "epithelial"', '5 = "connective"',
        '6 = "connective"', '255 = "ignore"',
    )  # fmt: skip
    found = read_classes(write(tmp_path / "t.toml", "\n".join(lines)))
    assert found.types == TYPE_NAMES
    assert found.allowed[1].all()
    assert found.names[found.class_of_label[2]] == "lymphocyte|macrophage|neutrophil"
    assert found.type_of_label[[3, 5, 6, 2, 1]].tolist() == [2, 6, 6, 0, 0]
    assert found.ignored == {255}
    assert Classes.from_description(found.describe()) == found
    assert numbers_of(DEFAULT, found, "The model") == [1, 2, 3, 4, 5, 6, 7]


def test_other_names_are_types_in_order_of_their_ids(tmp_path):
    found = read_classes(write(tmp_path / "t.json", '{"10": "a", "2": "b", "3": ["a", "b"]}'))
    assert found.types == ("b", "a")
    assert found.allowed[3].all()  # all of two: any
    with pytest.raises(
        InputError, match=r"The model names the type 'neoplastic', which the truth has not: it has b, a"
    ):
        numbers_of(DEFAULT, found, "The model")
    other = TypeSet.named(["a", "c", "b"])
    assert numbers_of(other, found, "The model", {"c": "b"}) == [2, 1, 1]
    with pytest.raises(InputError, match="no cell type 'd'"):
        numbers_of(other, found, "The model", {"d": "b"})


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("1 = ", "not valid TOML or JSON"),
        ("one = 'a'", "'one' is not allowed; ids are whole numbers from 1 to 255"),
        ("0 = 'a'", "'0' is not allowed"),
        ("1 = 3", "stands for 3"),
        ("1 = []", "allowed are a name"),
        ("1 = 'unknown'", "names no type"),
        ("1 = 'all'", "'all' cannot be a type's name"),
        ("1 = ['a', 'ignore']", "'ignore' cannot be"),
    ],
)
def test_a_file_that_says_nothing_clear_is_refused(tmp_path, text, part):
    with pytest.raises(InputError) as caught:
        read_classes(write(tmp_path / "t.toml", text))
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.toml cannot be read"):
        read_classes(tmp_path / "nothing.toml")
