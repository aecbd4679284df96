"""The contact sheet shows what is in the stores, in the colours of the labels."""

from dataclasses import replace

import numpy as np

from cytolite.celltypes import EPITHELIAL_OR_NEOPLASTIC, IGNORE, LABEL_COLOURS
from cytolite.drawing.patch_sheet import COLUMNS, ROWS, WINDOW_PX, ZOOM, choose, draw_sheet, paint, window
from cytolite.patches import Patch


def with_a_nucleus(label: int, source: str = "a", name: str = "p", side: int = 300) -> Patch:
    instances, types = np.zeros((side, side), np.int32), np.zeros((side, side), np.uint8)
    instances[200:220, 210:240], types[200:220, 210:240] = 3, label
    return Patch(name, np.full((side, side, 3), 128, np.uint8), instances, types, 0.25, source, name)


def test_outlines_lie_on_the_edge_of_the_nucleus_in_its_colour():
    patch = with_a_nucleus(EPITHELIAL_OR_NEOPLASTIC)
    picture = paint(patch)
    assert picture.shape == (600, 600, 3)
    drawn = (picture == LABEL_COLOURS[EPITHELIAL_OR_NEOPLASTIC]).all(-1)
    rows, cols = np.nonzero(drawn)
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (400, 439, 420, 479)
    assert not drawn[401:439, 421:479].any()
    assert (picture[~drawn] == 128).all()


def test_ignored_ground_is_pale_and_areas_without_an_instance_are_outlined():
    patch = with_a_nucleus(4)
    types = np.where(patch.type_map == 0, IGNORE, patch.type_map).astype(np.uint8)
    picture = paint(replace(patch, type_map=types, instance_map=np.zeros_like(patch.instance_map)))
    assert (picture[0, 0] == 128 // 2 + 127).all()
    assert (picture[420, 450] == 128).all()
    assert (picture == LABEL_COLOURS[4]).all(-1).sum() == 2 * (40 + 60) - 4


def test_a_window_holds_the_label_it_was_chosen_for():
    rng = np.random.default_rng(0)
    for _ in range(5):
        cut = window(with_a_nucleus(2), 2, rng)
        assert cut.type_map.shape == (WINDOW_PX, WINDOW_PX)
        assert (cut.type_map == 2).any()
    small = window(with_a_nucleus(2, side=250), 0, rng)
    assert small.image.shape == (WINDOW_PX, WINDOW_PX, 3)


def test_every_source_and_label_is_shown():
    patches = [with_a_nucleus(label, source, f"{label}") for source in ("a", "b") for label in range(1, 8)] * 3
    sources = [p.source for p in patches]
    nuclei = np.zeros((len(patches), 11), np.int32)
    nuclei[np.arange(len(patches)), [int(p.name) for p in patches]] = 1
    chosen = choose(sources, nuclei, np.random.default_rng(0))
    assert len(chosen) == len({i for i, _ in chosen}) == COLUMNS * ROWS
    assert {(sources[i], label) for i, label in chosen} == {(s, label) for s in "ab" for label in range(1, 8)}
    assert all(nuclei[i, label] for i, label in chosen)


def test_the_sheet_is_as_large_as_it_needs_to_be():
    patches = [with_a_nucleus(1, "a", str(i)) for i in range(3)]
    nuclei = np.zeros((3, 11), np.int32)
    nuclei[:, 1] = 1
    sheet = draw_sheet(patches, ["a"] * 3, nuclei)
    assert 3 * WINDOW_PX * ZOOM < sheet.width < 4 * WINDOW_PX * ZOOM
    assert WINDOW_PX * ZOOM < sheet.height < 2 * WINDOW_PX * ZOOM
    assert np.array_equal(np.asarray(sheet), np.asarray(draw_sheet(patches, ["a"] * 3, nuclei)))
