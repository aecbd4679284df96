import hashlib
from dataclasses import replace

import numpy as np
import pytest

h5py = pytest.importorskip("h5py", reason="stores need the extra `train`")

from cytolite.datasets.store import Store, Stores, write_store  # noqa: E402
from cytolite.errors import InputError, OutputError  # noqa: E402
from cytolite.patches import Patch  # noqa: E402


def patch(name: str, seed: int, source: str = "a") -> Patch:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(20, 50, 2))
    instances = rng.integers(0, 5, shape).astype(np.int32)
    image = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
    return Patch(name, image, instances, instances.astype(np.uint8), 0.25, source, f"g{name}", "colon")


def test_what_is_written_is_read(tmp_path):
    patches = [patch(str(i), i) for i in range(4)]
    assert write_store(tmp_path / "s.h5", patches) == 4
    with Store(tmp_path / "s.h5") as store:
        assert len(store) == 4
        assert store.texts("group") == ["g0", "g1", "g2", "g3"]
        for wanted, found in zip(patches, store, strict=True):
            for key, value in vars(wanted).items():
                np.testing.assert_array_equal(getattr(found, key), value)


def test_columns_are_read_without_the_patches(tmp_path, monkeypatch):
    patches = [replace(patch(str(i), i), fold="1", file=f"f{i}", file_sha256="ab") for i in range(4)]
    write_store(tmp_path / "s.h5", patches, {"a": "CC0-1.0"})
    with Store(tmp_path / "s.h5") as store:
        monkeypatch.setattr(Store, "__getitem__", lambda *_: pytest.fail("a patch was read"))
        assert store.texts("fold") == ["1"] * 4
        assert store.texts("file") == ["f0", "f1", "f2", "f3"]
        assert store.shapes.tolist() == [list(p.type_map.shape) for p in patches]
        assert store.mpp.tolist() == [0.25] * 4
        # Every instance is of the type of its number here.
        assert store.nuclei[:, 1:5].tolist() == [[1, 1, 1, 1]] * 4
        assert not store.nuclei[:, 5:].any()
        assert store.licences == {"a": "CC0-1.0"}


def test_where_it_was_read_from_is_no_part_of_the_hash_but_its_fold_is(tmp_path):
    hashes = []
    for name, change in (("a", {}), ("b", {"file": "x", "file_sha256": "y"}), ("c", {"fold": "1"})):
        write_store(tmp_path / name, [replace(patch("p", 0), **change)])
        with Store(tmp_path / name) as store:
            hashes.append(store.sha256)
    assert hashes[0] == hashes[1] != hashes[2]


def test_more_ids_than_16_bits_hold(tmp_path):
    large = replace(patch("p", 0), instance_map=patch("p", 0).instance_map * 20_000)
    write_store(tmp_path / "s.h5", [large, patch("q", 1)])
    with Store(tmp_path / "s.h5") as store, h5py.File(tmp_path / "s.h5") as file:
        np.testing.assert_array_equal(store[0].instance_map, large.instance_map)
        assert [file[f"{i:06d}/instance_map"].dtype for i in range(2)] == [np.int32, np.uint16]


def write_format_1(path, patches):
    """As stores were written before there was a table."""
    digest = hashlib.sha256()
    with h5py.File(path, "w") as file:
        for i, p in enumerate(patches):
            group = file.create_group(f"{i:06d}")
            for key in ("image", "instance_map", "type_map"):
                group.create_dataset(key, data=getattr(p, key), compression="gzip")
                digest.update(getattr(p, key).tobytes())
            for key in ("name", "source", "group", "tissue"):
                group.attrs[key] = getattr(p, key)
                digest.update(getattr(p, key).encode())
            group.attrs["mpp"] = p.mpp
            digest.update(repr(float(p.mpp)).encode())
        file.attrs.update({"cytolite_store": 1, "n": len(patches), "sha256": digest.hexdigest()})


def test_stores_of_format_1_are_read_and_have_the_hash_of_today(tmp_path):
    patches = [patch(str(i), i) for i in range(3)]
    write_format_1(tmp_path / "old.h5", patches)
    write_store(tmp_path / "new.h5", patches)
    with Store(tmp_path / "old.h5") as old, Store(tmp_path / "new.h5") as new:
        assert (old.format, new.format) == (1, 3)
        assert old.sha256 == new.sha256
        for key in ("name", "group", "tissue", "fold", "file"):
            assert old.texts(key) == new.texts(key)
        for key in ("mpp", "shapes", "nuclei"):
            np.testing.assert_array_equal(getattr(old, key), getattr(new, key))
        for a, b in zip(old, new, strict=True):
            np.testing.assert_array_equal(a.instance_map, b.instance_map)
            assert a.instance_map.dtype == np.int32
    with Stores([tmp_path / "old.h5", tmp_path / "new.h5"]) as both:
        assert len(both) == 6
        assert [p.name for p in both] == both.texts("name") == ["0", "1", "2"] * 2
        assert both.numbers("nuclei").shape == (6, 11)
        with pytest.raises(IndexError):
            both[6]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(OutputError, match="no such folder"):
        write_store(tmp_path / "no" / "s.h5", [patch("p", 0)])


def test_the_hash_follows_the_content(tmp_path):
    hashes = []
    for name, seeds in (("a", (1, 2)), ("b", (1, 2)), ("c", (1, 3))):
        write_store(tmp_path / name, [patch(str(i), s) for i, s in enumerate(seeds)])
        with Store(tmp_path / name) as store:
            hashes.append(store.sha256)
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_fault_in_the_middle_leaves_what_was_there(tmp_path):
    path = tmp_path / "s.h5"
    write_store(path, [patch("old", 0)])

    def broken():
        yield patch("new", 1)
        raise InputError("a broken file")

    with pytest.raises(InputError, match="a broken file"):
        write_store(path, broken())
    with pytest.raises(InputError, match="two patches called 'x'"):
        write_store(path, [patch("x", 1), patch("x", 2)])
    with pytest.raises(InputError, match="no patches"):
        write_store(path, [])
    assert [p.name for p in tmp_path.iterdir()] == ["s.h5"]
    with Store(path) as store:
        assert store[0].name == "old"


def test_what_is_no_store_is_refused(tmp_path):
    with pytest.raises(InputError, match="no store"):
        Store(tmp_path / "missing.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(InputError, match="not a store"):
        Store(tmp_path / "text.h5")
    with h5py.File(tmp_path / "newer.h5", "w") as file:
        file.attrs["cytolite_store"] = 99
    with pytest.raises(InputError, match="format 4 or older"):
        Store(tmp_path / "newer.h5")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((4, 4), np.uint8)}, "uint8 .H, W, 3. is needed"),
        ({"instance_map": np.zeros((4, 4), np.int64)}, "instance map is int64"),
        ({"type_map": np.full((20, 20), 77, np.uint8)}, r"type map holds \[77\]"),
        ({"mpp": 250.0}, "not a microscope's resolution"),
    ],
)
def test_a_bad_patch_is_named(tmp_path, change, message):
    good = {
        "name": "p", "image": np.zeros((20, 20, 3), np.uint8), "instance_map": np.zeros((20, 20), np.int32),
        "type_map": np.zeros((20, 20), np.uint8), "mpp": 0.25, "source": "a", "group": "g",
    }  # fmt: skip
    with pytest.raises(InputError, match=f"Patch 'p' of a: .*{message}"):
        write_store(tmp_path / "s.h5", [Patch(**{**good, **change})])


def test_what_a_pixel_teaches_is_kept_and_part_of_the_hash(tmp_path):
    plain = patch("p", 1)
    maps = {
        "known_map": np.full(plain.type_map.shape, 2, np.uint8),
        "trust_map": np.full(plain.type_map.shape, 40, np.uint8),
    }
    hashes = set()
    for name, changes in (("plain", {}), ("known", {"known_map": maps["known_map"]}), ("both", maps)):
        write_store(tmp_path / name, [replace(plain, **changes)])
        with Store(tmp_path / name) as store:
            hashes.add(store.sha256)
            for key, wanted in maps.items():
                found = getattr(store[0], key)
                assert (found is None) == (key not in changes)
                if found is not None:
                    np.testing.assert_array_equal(found, wanted)
    assert len(hashes) == 3


@pytest.mark.parametrize(("key", "value"), [("known_map", 8), ("trust_map", 101)])
def test_maps_of_what_is_known_have_their_range(tmp_path, key, value):
    plain = patch("p", 1)
    with pytest.raises(InputError, match="holds values above"):
        write_store(tmp_path / "s.h5", [replace(plain, **{key: np.full(plain.type_map.shape, value, np.uint8)})])
