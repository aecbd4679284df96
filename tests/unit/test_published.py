"""Datasets as their authors publish them: real patches written into the official layouts are read back as they were."""

import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import layouts
from cytolite.celltypes import EPITHELIAL_OR_NEOPLASTIC, IGNORE, INFLAMMATORY
from cytolite.datasets import consep, monusac, monuseg, pannuke
from cytolite.datasets.catalogue import dataset
from cytolite.datasets.imagescope import rasterise, read_regions
from cytolite.errors import InputError


def small_fold(root, number=1, n=3, **changes):
    """A fold of grey images with one square nucleus each, in another channel each time; `changes` replace arrays."""
    masks = np.zeros((n, 256, 256, 6))
    for i in range(n):
        masks[i, 10:20, 10:20, i % 5] = 7
    given = {"images": np.full((n, 256, 256, 3), 200.0), "masks": masks, "tissues": ["Colon"] * n} | changes
    return layouts.pannuke_fold(root, number, **given)


@pytest.mark.parametrize("dtype", [np.float64, np.uint8])
def test_pannuke_folds_hold_the_patches_that_were_put_in(shared_data, tmp_path, dtype):
    folder = shared_data / "pannuke_subset"
    names = ["CE_0000", "CE_0100", "CE_0010"]  # the second holds no nucleus
    raw = [
        [np.asarray(Image.open(next((folder / k).glob(f"{n}.*")))) for k in ("image", "inst", "type")] for n in names
    ]
    masks = np.stack([layouts.channels(types, instances) for _, instances, types in raw])
    layouts.pannuke_fold(tmp_path, 2, np.stack([r[0] for r in raw]), masks, ["Breast", "Colon", "Bile-duct"], dtype)
    labelled = {patch.name: patch for patch in dataset("pannuke").read(folder)}
    found = list(dataset("pannuke").read(tmp_path))
    assert [p.name for p in found] == ["fold2_0000", "fold2_0001", "fold2_0002"]
    assert [p.tissue for p in found] == ["Breast", "Colon", "Bile-duct"]
    assert {p.fold for p in found} == {"2"}
    assert found[0].file == "Fold 2/images/fold2/images.npy 0"
    for patch, name in zip(found, names, strict=True):
        patch.validate()
        wanted = labelled[name]
        np.testing.assert_array_equal(patch.image, wanted.image)
        np.testing.assert_array_equal(patch.type_map, wanted.type_map)
        # The same partition of the pixels, under other ids.
        pairs = {*zip(patch.instance_map.ravel().tolist(), wanted.instance_map.ravel().tolist(), strict=True)}
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    assert found[1].instance_map.max() == 0


def test_ids_that_collide_are_two_nuclei_and_the_smaller_lies_on_top():
    masks = np.zeros((20, 20, 6), np.int32)
    masks[2:12, 2:12, 0] = 5  # neoplastic, 100 px
    masks[8:14, 8:14, 4] = 5  # epithelial, 36 px, same id, overlapping
    masks[15:18, 15:18, 1] = 9
    masks[..., 5] = 1
    instance_map, type_map, found = pannuke.merge_channels(masks)
    assert found == {0: 1, 4: 1, 1: 1}
    assert sorted(np.unique(instance_map)) == [0, 1, 2, 3]
    assert (type_map[8:14, 8:14] == 2).all()
    assert type_map[7, 7] == 1
    assert instance_map[7, 7] != instance_map[9, 9]
    assert (type_map[15:18, 15:18] == INFLAMMATORY).all()
    assert ((instance_map > 0) == (type_map > 0)).all()


@pytest.mark.slow
def test_a_pannuke_patch_is_read_without_the_rest(tmp_path, monkeypatch):
    small_fold(tmp_path, n=5)
    monkeypatch.setattr(pannuke, "BLOCK", 2)
    opened = []
    load = np.load
    monkeypatch.setattr(
        pannuke.np, "load", lambda path, **how: opened.append(how.get("mmap_mode")) or load(path, **how)
    )
    assert len(list(dataset("pannuke").read(tmp_path))) == 5
    assert set(opened) == {"r"}
    assert len(opened) > 6  # anew for each block, so that what was read leaves the memory


def test_what_is_not_whole_is_told(tmp_path, monkeypatch):
    small_fold(tmp_path)
    reading = dataset("pannuke").read(tmp_path)
    list(reading)
    assert reading.notes == ["fold 1 holds 3 patches; as it is published it has 2,656", "this is fold 1 alone of three"]


def test_nuclei_of_three_whole_folds_are_compared_with_the_published_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(pannuke, "PATCHES_PER_FOLD", {1: 3, 2: 3, 3: 3})
    monkeypatch.setattr(pannuke, "NUCLEI", (3, 3, 3, 0, 1))
    for number in (1, 2, 3):
        small_fold(tmp_path, number)
    reading = dataset("pannuke").read(tmp_path)
    assert [p.name for p in reading][::4] == ["fold1_0000", "fold2_0001", "fold3_0002"]
    assert reading.notes == ["0 epithelial nuclei in three folds; 1 were counted by others"]


def test_published_counts_add_up():
    assert sum(pannuke.PATCHES_PER_FOLD.values()) == 7_901
    assert sum(pannuke.NUCLEI) == 189_744


def cut_short(fold):
    path = fold / "masks" / "fold1" / "masks.npy"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut_short, r"masks\.npy is damaged or cut short"),
        (lambda fold: (fold / "masks" / "fold1" / "masks.npy").unlink(), r"has no masks\.npy"),
        (lambda fold: (fold / "images" / "fold1" / "types.npy").unlink(), r"has no types\.npy"),
        (lambda fold: small_fold(fold.parent, 3), "Fold 2 of PanNuke is missing"),
        (lambda fold: small_fold(fold.parent / "again", 1), "Fold 1 is there twice"),
    ],
)
def test_folds_that_are_not_whole_are_refused(tmp_path, spoil, message):
    spoil(small_fold(tmp_path))
    with pytest.raises(InputError, match=message):
        list(dataset("pannuke").read(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"masks": np.full((3, 256, 256, 6), 0.5)}, "not whole numbers"),
        ({"masks": np.full((3, 256, 256, 6), -1.0)}, r"values of -1\.0 to 0\.0"),
        ({"masks": np.zeros((3, 256, 256, 5))}, r"has the shape \(3, 256, 256, 5\)"),
        ({"images": np.full((3, 256, 256, 3), np.nan)}, "values of nan"),
        ({"images": np.full((3, 256, 256, 3), 300.0)}, "allowed are 0 to 255"),
        ({"images": np.full((3, 256, 256, 3), 0.7)}, "values of 0 to 1"),
        ({"tissues": ["Colon"] * 2}, r"\(2, 256, 256, 3\) is needed, for the 2 entries"),
    ],
)
def test_arrays_that_are_not_pannukes_are_refused(tmp_path, changes, message):
    small_fold(tmp_path, **changes)
    with pytest.raises(InputError, match=message):
        list(dataset("pannuke").read(tmp_path))


@pytest.mark.slow
def test_consep_from_matlab_is_consep_from_labels(shared_data, tmp_path):
    folder = shared_data / "consep"
    for name, split in (("train_1", "Train"), ("train_2", "Test")):
        arrays = [np.asarray(Image.open(folder / kind / f"{name}.png")) for kind in ("image", "inst", "type")]
        layouts.consep_image(tmp_path / "CoNSeP", split, name, *arrays)
    reading = dataset("consep").read(tmp_path)
    found = {p.name: p for p in reading}
    assert reading.notes == [
        "1 images in train; as it is published it has 27",
        "1 images in test; as it is published it has 14",
    ]
    assert {n: p.fold for n, p in found.items()} == {"train_1": "train", "train_2": "test"}
    for wanted in dataset("consep").read(folder):
        if wanted.name in found:
            for key in ("image", "instance_map", "type_map", "mpp", "group"):
                np.testing.assert_array_equal(getattr(found[wanted.name], key), getattr(wanted, key))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda mat: mat.unlink(), "no label file"),
        (lambda mat: mat.write_bytes(mat.read_bytes()[:300]), "not a whole MATLAB file"),
        (lambda mat: mat.write_bytes(b"hello"), "not a whole MATLAB file"),
    ],
)
def test_broken_matlab_files_are_named(tmp_path, spoil, message):
    layouts.consep_image(tmp_path, "Train", "a", np.zeros((40, 40, 3), np.uint8), *[np.eye(40, dtype=int)] * 2)
    spoil(tmp_path / "Train" / "Labels" / "a.mat")
    with pytest.raises(InputError, match=message):
        list(consep.read(tmp_path))


@pytest.mark.slow
def test_monusac_slides_are_those_of_the_described_data(shared_data):
    """Counts of the three images in the dataset's own format, as their description lists them."""
    folder = shared_data / "monusac_original"
    found = list(dataset("monusac").read(folder))
    assert [(p.name, p.group, p.mpp, p.image.shape) for p in found] == [
        ("A9K0_1", "A9K0", 0.19448, (1153, 1307, 3)),
        ("A9K0_2", "A9K0", 0.19448, (763, 756, 3)),
        ("A9K0_3", "A9K0", 0.19448, (185, 497, 3)),
    ]
    outlined = sum(len(np.unique(p.instance_map)) - 1 for p in found)
    assert outlined == 329 + 299 + 5  # macrophages have a type, but no outline of their nucleus
    for patch in found:
        patch.validate()


@pytest.mark.slow
def test_monusac_folders_of_patients(shared_data, tmp_path):
    source = next(p for p in dataset("monusac").read(shared_data / "monusac") if p.image.shape[:2] == (348, 348))
    rings = layouts.rings_of(source, EPITHELIAL_OR_NEOPLASTIC)
    assert len(rings) > 5
    ambiguous = np.array([(300, 300), (420, 300), (420, 420), (300, 420)])  # reaches out of the image
    train, test = (tmp_path / name / "TCGA-5P-A9K0-01Z-00-DX1" for name in layouts_of_monusac())
    for folder in (train, test):
        stem = folder / f"{folder.name}_1"
        for suffix in (".svs", ".tif"):
            layouts.save_tiff(stem.with_suffix(suffix), source.image)
        stem.with_suffix(".xml").write_text(layouts.imagescope({"Epithelial": rings, "Ambiguous": [ambiguous]}, 0.2))
    reading = dataset("monusac").read(tmp_path)
    found = list(reading)
    assert sorted(p.fold for p in found) == ["test", "train"]
    assert {(p.group, p.name, p.mpp) for p in found} == {("TCGA-5P-A9K0", "TCGA-5P-A9K0-01Z-00-DX1_1", 0.2)}
    assert all(p.file.endswith(".svs") for p in found)
    for patch in found:
        assert len(np.unique(patch.instance_map)) - 1 == len(rings)
        known = patch.type_map == EPITHELIAL_OR_NEOPLASTIC
        assert (source.instance_map[known] > 0).mean() > 0.999
        assert (patch.type_map[310:, 310:][~known[310:, 310:]] != EPITHELIAL_OR_NEOPLASTIC).all()
        assert patch.type_map[347, 347] == IGNORE
        # Ambiguous ground is ignored also where it lies next to a nucleus, in its ring.
        np.testing.assert_array_equal(patch.image, source.image)


def layouts_of_monusac():
    return "MoNuSAC_images_and_annotations", "MoNuSAC Testing Data and Annotations"


def test_ambiguous_ground_within_the_ring_of_a_nucleus_is_ignored(tmp_path):
    layouts.save_tiff(tmp_path / "p" / "p_1.tif", np.full((60, 60, 3), 200, np.uint8))
    square = np.array([(20, 20), (30, 20), (30, 30), (20, 30)])
    beside = square + np.array([11, 0])
    (tmp_path / "p" / "p_1.xml").write_text(layouts.imagescope({"Lymphocyte": [square], "Ambiguous": [beside]}))
    [patch] = monusac.read(tmp_path)
    assert patch.type_map[25, 30] == 0  # a ring of background
    assert patch.type_map[25, 31] == patch.type_map[25, 40] == IGNORE
    assert patch.instance_map[25, 35] == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (layouts.imagescope({"Lymphocite": [np.zeros((3, 2))]}), r"layer 'Lymphocite'.*Did you mean 'Lymphocyte'"),
        (layouts.imagescope({"Lymphocyte": [np.zeros((3, 2))]})[:-30], "not whole ImageScope XML"),
        (layouts.imagescope({"Lymphocyte": [np.full((3, 2), "x")]}), "a coordinate or resolution is 'x'"),
        (layouts.imagescope({"Lymphocyte": [np.full((3, 2), np.nan)]}), "a coordinate or resolution is 'nan'"),
    ],
)
def test_broken_xml_is_named(tmp_path, text, message):
    layouts.save_tiff(tmp_path / "p" / "p_1.tif", np.full((60, 60, 3), 200, np.uint8))
    (tmp_path / "p" / "p_1.xml").write_text(text)
    with pytest.raises(InputError, match=message):
        list(monusac.read(tmp_path))


def test_odd_regions_do_no_harm(tmp_path):
    square = np.array([(2, 2), (8, 2), (8, 8), (2, 8)])
    odd = {
        "two vertices": square[:2],
        "one point four times": square[[0, 0, 0, 0]],
        "a line there and back": square[[0, 1, 0, 1]],
        "outside": square + 100,
        "crossing itself": square[[0, 2, 1, 3]] + np.array([0, 20]),
        "the same again": square,
    }
    (tmp_path / "a.xml").write_text(layouts.imagescope({"": [square, *odd.values()]}))
    regions, _, _ = read_regions(tmp_path / "a.xml")
    assert len(regions) == 6  # all but the one of two vertices
    labels = rasterise(regions, (40, 40))
    assert (labels[2:8, 2:8] > 0).all()
    assert len(np.unique(labels)) - 1 == 2  # the square and the two triangles that cross
    assert rasterise([], (4, 5)).shape == (4, 5)


@pytest.mark.slow
def test_monuseg_as_published_is_monuseg_as_it_lies_here(shared_data, tmp_path):
    name, root = "TCGA-21-5784-01Z-00-DX1", tmp_path / "MoNuSeg 2018 Training Data"
    image = np.asarray(Image.open(shared_data / "monuseg" / f"{name}.jpg"))
    layouts.save_tiff(root / "Tissue Images" / f"{name}.tif", image)
    (root / "Annotations").mkdir()
    (root / "Annotations" / f"{name}.xml").write_bytes((shared_data / "monuseg" / f"{name}.xml").read_bytes())
    wanted = next(p for p in monuseg.read(shared_data / "monuseg") if p.name == name)
    for folder in (tmp_path, root):
        [found] = monuseg.read(folder)
        assert found.fold == ("train" if folder is tmp_path else "")
        same = replace(found, fold="", file=wanted.file, file_sha256=wanted.file_sha256)
        for key, value in vars(wanted).items():
            np.testing.assert_array_equal(getattr(same, key), value)


@pytest.mark.parametrize("name", ["consep", "monusac", "monuseg", "pannuke", "puma"])
def test_wrong_folders_are_named(tmp_path, name):
    (tmp_path / "x").mkdir()
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "x"))):
        list(dataset(name).read(tmp_path / "x"))
    with pytest.raises(InputError, match="There is no folder"):
        list(dataset(name).read(tmp_path / "missing"))
