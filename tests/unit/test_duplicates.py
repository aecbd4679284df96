"""Crops of one dataset planted in another are found, whatever was done to them, and nothing else is."""

import io
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("cv2", reason="looking for duplicates needs the extra `train`")

from cytolite.datasets.catalogue import dataset
from cytolite.datasets.duplicates import Duplicate, find_duplicates, read_pairs, write_pairs
from cytolite.datasets.splits import held_back
from cytolite.errors import InputError, OutputError
from cytolite.patches import Patch

# Row, column, side in px, quarter turns, mirrored, JPEG quality; a side other than 256 is scaled to it.
PLANTS = [
    (100, 200, 256, 0, False, 95),
    (300, 520, 256, 1, False, 75),
    (650, 90, 256, 2, True, 60),
    (20, 640, 256, 3, True, 85),
    (620, 100, 234, 1, False, 80),
    (560, 610, 284, 0, True, 70),
]


def planted(image: Patch, plant: tuple, name: str) -> Patch:
    row, col, side, turns, mirrored, quality = plant
    crop = np.rot90(image.image[row : row + side, col : col + side], turns)
    crop = np.ascontiguousarray(crop[:, ::-1] if mirrored else crop)
    buffer = io.BytesIO()
    Image.fromarray(crop).resize((256, 256), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=quality)
    pixels = np.asarray(Image.open(buffer))
    empty = np.zeros((256, 256), np.int32)
    return Patch(name, pixels, empty, empty.astype(np.uint8), 0.25, "pannuke", name)


def look(patches):
    return find_duplicates(patches.__getitem__, [p.source for p in patches], [p.group for p in patches])


@pytest.fixture(scope="module")
def real(shared_data):
    consep = list(islice(dataset("consep").read(shared_data / "consep"), 3))
    pannuke = list(islice(dataset("pannuke").read(shared_data / "pannuke_subset"), 32))
    return consep, pannuke


@pytest.mark.slow
def test_planted_crops_are_found_and_only_these(real):
    consep, pannuke = real
    patches, wanted = [*consep, *pannuke], {}
    for k, plant in enumerate(PLANTS):
        at = 7 + 5 * k
        patches.insert(at, planted(consep[k % 3], plant, f"planted {k}"))
    index = {p.name: i for i, p in enumerate(patches)}
    for k, plant in enumerate(PLANTS):
        wanted[index[consep[k % 3].name], index[f"planted {k}"]] = (plant[2] * 0.25) ** 2
    found = look(patches)
    assert {(d.first, d.second) for d in found} == set(wanted)
    for duplicate in found:
        assert duplicate.correlation > 0.95
        # All of the crop is overlap; its um2 are those that its stated um/px makes of its 256 px.
        assert duplicate.overlap_um2 == pytest.approx(64**2, rel=0.05)
    assert found == look(patches)  # chance plays no part


def test_half_the_resolution_and_a_part_in_common(real):
    consep, pannuke = real
    pixels = np.asarray(Image.fromarray(consep[0].image[300:812, 300:812]).resize((256, 256), Image.Resampling.BOX))
    coarse = replace(planted(consep[0], PLANTS[0], "coarse"), image=pixels, mpp=0.5, source="monusac")
    left, right = (planted(consep[1], (300, col, 256, 1, False, 90), f"at {col}") for col in (400, 560))
    patches = [consep[0], coarse, replace(left, source="puma"), right, *pannuke[1:6]]
    whole, part = look(patches)
    assert (whole.first, whole.second) == (0, 1)
    assert whole.overlap_um2 == pytest.approx(128**2, rel=0.05)
    assert (part.first, part.second) == (2, 3)
    assert part.overlap_um2 == pytest.approx(64 * 24, rel=0.1)  # 96 of 256 columns


def test_patches_of_one_group_are_not_compared(real):
    consep, _ = real
    twice = replace(consep[0], name="again")
    assert look([consep[0], twice]) == []
    [found] = look([consep[0], replace(twice, group="another")])
    assert found.correlation == pytest.approx(1)
    assert found.overlap_um2 == pytest.approx(250**2, rel=0.02)


def test_images_without_texture_match_nothing():
    flat = np.full((256, 256, 3), 240, np.uint8)
    empty = np.zeros((256, 256), np.int32)
    patches = [Patch(str(i), flat, empty, empty.astype(np.uint8), 0.25, "a", str(i)) for i in range(3)]
    assert look(patches) == []


def test_pairs_are_written_and_read(tmp_path):
    sources, names = ["a", "b", "b"], ["x", "x", "y, z"]
    write_pairs(tmp_path / "p.csv", [Duplicate(0, 2, 0.99, 100.0), Duplicate(1, 2, 0.9, 50.0)], sources, names)
    assert read_pairs(tmp_path / "p.csv", sources, names) == [(0, 2), (1, 2)]
    # Of other stores, or in another order.
    assert read_pairs(tmp_path / "p.csv", ["b", "b"], ["y, z", "x"]) == [(1, 0)]
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    for path in (tmp_path / "other.csv", tmp_path / "missing.csv"):
        with pytest.raises(InputError, match=path.name):
            read_pairs(path, sources, names)
    with pytest.raises(OutputError, match="cannot be written"):
        write_pairs(tmp_path / "no" / "p.csv", [], sources, names)


def test_what_was_found_stays_on_one_side_of_the_split(real):
    consep, pannuke = real
    plants = [planted(consep[k], PLANTS[k], f"planted {k}") for k in range(3)]
    patches = [*consep, *plants, *pannuke[:9]]
    sources, groups = [p.source for p in patches], [p.group for p in patches]
    pairs = [(d.first, d.second) for d in look(patches)]
    assert pairs == [(0, 3), (1, 4), (2, 5)]
    apart = 0
    for seed in range(5):
        out = held_back(sources, groups, 0.1, seed, pairs)
        assert all(out[a] == out[b] for a, b in pairs)
        alone = held_back(sources, groups, 0.1, seed)
        apart += sum(alone[a] != alone[b] for a, b in pairs)
    assert apart > 0  # without the pairs they were torn apart
