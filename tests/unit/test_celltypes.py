import pytest

from cytolite.celltypes import CELL_TYPES, COARSE_LABELS, IGNORE, N_TYPES, TYPE_NAMES, allowed_types, by_name
from cytolite.errors import InputError


def test_ids_run_from_one_in_the_order_of_the_paper():
    assert [t.id for t in CELL_TYPES] == list(range(1, 8))
    assert TYPE_NAMES == (
        "neoplastic", "epithelial", "lymphocyte", "macrophage", "neutrophil", "connective", "dead",
    )  # fmt: skip


def test_names_and_colours_tell_types_apart():
    assert len({t.colour for t in CELL_TYPES}) == len({t.name for t in CELL_TYPES}) == N_TYPES


def test_a_name_is_found_in_any_case():
    assert by_name("Lymphocyte").id == 3


def test_an_unknown_name_suggests_a_near_one():
    with pytest.raises(InputError, match="Did you mean 'neutrophil'"):
        by_name("neutrophile")


def test_labels_leave_open_what_they_say():
    assert allowed_types(6) == (6,)
    assert [allowed_types(label) for label in COARSE_LABELS] == [(3, 4, 5), (2, 1), (1, 2, 3, 4, 5, 6, 7)]
    for label in (0, IGNORE):
        with pytest.raises(InputError):
            allowed_types(label)
