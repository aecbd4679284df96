"""Sets without outlines, or with doubtful ones: miniature folders of their layouts, and what a pixel teaches."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytolite.celltypes import EPITHELIAL_OR_NEOPLASTIC, IGNORE, INFLAMMATORY, UNKNOWN_NUCLEUS
from cytolite.datasets.catalogue import DATASETS, dataset
from cytolite.datasets.marks import mark_boxes, mark_points
from cytolite.datasets.nuinsseg import near_cuts
from cytolite.errors import InputError
from cytolite.patches import OUTLINE, PRESENCE

BOTH = OUTLINE | PRESENCE
UNTYPED = ("monuseg_more", "cpm17", "cpm15", "cpm15_test", "gbm40", "lgg_tcga")


def folder_of(root: Path, size: int = 60, stems: tuple[str, ...] = ("1",), **maps: np.ndarray) -> Path:
    """image/ with grey images, and a folder of PNG per map."""
    (root / "image").mkdir(parents=True)
    for stem in stems:
        Image.fromarray(np.full((size, size, 3), 200, np.uint8)).save(root / "image" / f"{stem}.jpg")
        for name, labels in maps.items():
            (root / name).mkdir(exist_ok=True)
            Image.fromarray(labels.astype(np.uint16)).save(root / name / f"{stem}.png")
    return root


def marks_in(root: Path, kind: str, text: str, stem: str = "1") -> Path:
    folder_of(root, stems=(stem,))
    (root / kind).mkdir()
    (root / kind / f"{stem}.csv").write_text(text)
    return root


@pytest.mark.parametrize("name", UNTYPED)
def test_instances_without_types_have_the_resolution_that_is_stated_for_each(tmp_path, name):
    instances = np.zeros((60, 60), int)
    instances[5:15, 5:15] = 1
    stems = ("TCGA-AA-0001-01Z_1", "TCGA-AA-0001-01Z_2", "x")
    root = folder_of(tmp_path, stems=stems, inst=instances)
    (root / "meta.json").write_text(json.dumps({"um_per_px": {"x": 0.5}}))
    patches = {p.name: p for p in dataset(name).read(root)}
    assert {n: p.mpp for n, p in patches.items()} == {stems[0]: 0.25, stems[1]: 0.25, "x": 0.5}
    assert len({p.group for p in patches.values()}) == 2  # one patient, and one image
    patch = patches["x"]
    patch.validate()
    assert set(np.unique(patch.type_map)) == {0, UNKNOWN_NUCLEUS}
    assert (patch.known == BOTH).all()


@pytest.mark.parametrize("stated", ['{"um_per_px": "fine"}', "{", '{"um": 1}'])
def test_a_resolution_that_is_no_number_is_named(tmp_path, stated):
    root = folder_of(tmp_path, inst=np.zeros((60, 60), int))
    (root / "meta.json").write_text(stated)
    with pytest.raises(InputError, match="um_per_px"):
        dataset("gbm40").read(root)


def test_near_a_cut_the_foreground_is_known_and_the_outline_is_not(tmp_path):
    instances = np.zeros((60, 60), int)
    instances[10:30, 10:30], instances[10:30, 30:50] = 1, 2  # cut apart at column 30
    instances[40:50, 10:20] = 3  # touches none
    [patch] = dataset("nuinsseg").read(folder_of(tmp_path, inst=instances))
    assert patch.mpp == 0.2
    doubtful = patch.known == PRESENCE
    assert (patch.known[~doubtful] == BOTH).all()
    # 2 um are 10 px: within them of either nucleus's last column, on nuclei alone.
    wanted = np.zeros((60, 60), bool)
    wanted[10:30, 19:41] = True
    np.testing.assert_array_equal(doubtful, wanted)
    # Only the nucleus without a cut is judged.
    judged = patch.judged_types()
    assert (judged[instances == 3] == UNKNOWN_NUCLEUS).all()
    assert (judged[(instances == 1) | (instances == 2)] == IGNORE).all()
    assert (judged[instances == 0] == 0).all()


def test_nuclei_that_do_not_touch_have_no_cuts():
    instances = np.zeros((20, 20), np.int32)
    instances[2:8, 2:8], instances[2:8, 9:15], instances[10:14, 15:18] = 1, 2, 3
    assert not near_cuts(instances, 5).any()


def test_nuinssegs_neighbours_in_number_stay_together_and_names_are_numbers(tmp_path):
    instances = np.zeros((60, 60), int)
    root = folder_of(tmp_path / "a", stems=("1", "35", "36"), inst=instances)
    assert [p.group for p in dataset("nuinsseg").read(root)] == ["block_00", "block_00", "block_01"]
    with pytest.raises(InputError, match="'human' is not a number"):
        list(dataset("nuinsseg").read(folder_of(tmp_path / "b", stems=("human",), inst=instances)))


def test_a_point_is_a_disc_of_its_type_and_only_exhaustive_points_leave_background():
    points, labels = np.array([[20.0, 10.0], [23.0, 10.0]]), np.array([3, INFLAMMATORY], np.uint8)
    for exhaustive in (True, False):
        maps = mark_points(points, labels, (60, 60), 0.5, exhaustive)
        rows, cols = np.mgrid[:60, :60] + 0.5
        away = np.minimum(np.hypot(rows - 10, cols - 20), np.hypot(rows - 10, cols - 23))
        disc, far = away <= 2, away > 20  # 1 um and 10 um
        np.testing.assert_array_equal(maps.instance_map > 0, disc)
        wanted = np.where(disc, PRESENCE, np.where(far & exhaustive, BOTH, 0))
        np.testing.assert_array_equal(maps.known_map, wanted)
        np.testing.assert_array_equal(maps.trust_map, np.where(disc, 100, 0))
        # A pixel belongs to the nearer point: here the discs meet between columns 20 and 23.
        assert maps.type_map[10, 18:25].tolist() == [3] * 4 + [INFLAMMATORY] * 3
        assert set(np.unique(maps.instance_map)) == {0, 1, 2}


def test_no_points_at_all_are_background_where_points_are_exhaustive():
    none = (np.zeros((0, 2)), np.zeros(0, np.uint8), (30, 30), 0.5)
    assert (mark_points(*none, True).known_map == BOTH).all()
    assert not mark_points(*none, False).known_map.any()


def test_a_box_is_an_ellipse_whose_inner_half_is_nucleus():
    maps = mark_boxes(np.array([[30.0, 20.0, 40.0, 20.0]]), np.array([7], np.uint8), (60, 60))
    rows, cols = np.mgrid[:60, :60] + 0.5
    depth = np.hypot((rows - 20) / 10, (cols - 30) / 20)
    np.testing.assert_array_equal(maps.type_map == 7, depth <= 1)
    np.testing.assert_array_equal(maps.known_map == PRESENCE, depth <= 0.5)
    assert set(np.unique(maps.known_map)) == {0, PRESENCE}


def test_points_of_the_breast_and_of_the_colon(tmp_path):
    text = "x,y,type\n10,10,1\n40,10,2\n10,40,3\n"
    [breast] = dataset("brca_m2c_points").read(marks_in(tmp_path / "a", "points", text, "TCGA-AA-0001-01Z_0.9824"))
    breast.validate()
    assert [int(breast.type_map[y, x]) for y, x in ((10, 10), (10, 40), (40, 10))] == [
        INFLAMMATORY, EPITHELIAL_OR_NEOPLASTIC, 6
    ]  # fmt: skip
    assert (breast.mpp, breast.group) == (0.5, "TCGA-AA-0001")
    assert (breast.known == BOTH).any()
    [colon] = dataset("crchisto_points").read(marks_in(tmp_path / "b", "points", text + "40,40,0\n"))
    assert [int(colon.type_map[y, x]) for y, x in ((10, 10), (10, 40), (40, 10), (40, 40))] == [
        EPITHELIAL_OR_NEOPLASTIC, INFLAMMATORY, 6, UNKNOWN_NUCLEUS
    ]  # fmt: skip
    assert not (colon.known & OUTLINE).any()
    # Nothing of it can be judged as an outline, and no ground counts as background.
    assert (colon.judged_types() == IGNORE).all()


def test_boxes_of_structures_are_left_out(tmp_path):
    root = marks_in(tmp_path, "boxes", "x,y,w,h,type\n20,20,10,10,3\n40,40,10,10,5\n", "Case_10-03")
    [patch] = dataset("brecahad_boxes").read(root)
    assert set(np.unique(patch.type_map)) == {0, 7}
    assert patch.group == "Case_10"


def test_a_mitosis_is_neoplastic_all_over_its_chromatin_and_a_look_alike_teaches_nothing(tmp_path):
    chromatin = np.zeros((60, 60), int)
    chromatin[25:35, 20:40] = 1
    root = folder_of(tmp_path, stems=("m",), inst=chromatin)
    (root / "points").mkdir()
    (root / "points" / "m.csv").write_text("x,y,type\n30,30,2\n50,50,3\n10,10,1\n")
    (root / "index.csv").write_text("name,set,slide,um_per_px\nm,TUPAC16,07,0.23\n")
    [patch] = dataset("mitosis_amibr").read(root)
    patch.validate()
    assert (patch.mpp, patch.group) == (0.23, "TUPAC16/07")
    assert (patch.type_map[chromatin > 0] == 1).all()
    assert patch.type_map[10, 10] == 1
    assert patch.type_map[50, 50] == patch.known[50, 50] == 0
    assert len(np.unique(patch.instance_map[chromatin > 0])) == 1
    assert not (patch.known & OUTLINE).any()
    (root / "index.csv").write_text("name,set,slide,um_per_px\nother,TUPAC16,07,0.23\n")
    with pytest.raises(InputError, match="no row of the image 'm'"):
        list(dataset("mitosis_amibr").read(root))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y\n1,2\n", "no column 'type'"),
        ("x,y,type\n1,nan,1\n", "not a number"),
        ("x,y,type\n1,,1\n", "not a number"),
        ("x,y,type\n1,2,9\n", "the type 9"),
    ],
)
def test_broken_tables_of_marks_are_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        list(dataset("crchisto_points").read(marks_in(tmp_path, "points", text)))


def test_a_missing_table_of_marks_is_named(tmp_path):
    root = marks_in(tmp_path, "points", "x,y,type\n")
    (root / "points" / "1.csv").unlink()
    with pytest.raises(InputError, match=r"no table .*1\.csv"):
        list(dataset("crchisto_points").read(root))


def test_pieces_with_macrophages_teach_what_monusac_does(tmp_path):
    instances, types = np.zeros((60, 60), int), np.zeros((60, 60), int)
    instances[10:20, 10:20], types[10:20, 10:20] = 1, 3
    [patch] = dataset("monusac_macrophages").read(folder_of(tmp_path, inst=instances, type=types))
    assert (patch.type_map[10:20, 10:20] == 4).all()
    assert not patch.instance_map.any()
    assert patch.known[50, 50] == 0


# Patches, and nuclei or marks, as the data's own description counts them.
COUNTED = {"monuseg_more": (17, 12015), "cpm17": (32, 3765), "cpm15": (14, 2548), "gbm40": (40, 4976)}


@pytest.mark.parametrize("name", COUNTED)
def test_real_counts_are_those_described(shared_data, name):
    patches = list(DATASETS[name].read(shared_data / name))
    for patch in patches:
        patch.validate()
    nuclei = sum(len(np.unique(p.instance_map)) - bool((p.instance_map == 0).any()) for p in patches)
    assert (len(patches), nuclei) == COUNTED[name]


def test_every_set_says_whence_it_comes_and_what_may_be_done_with_it():
    for name, found in DATASETS.items():
        assert found.name == name
        assert found.licence
        assert found.citation
