import numpy as np
import pytest

h5py = pytest.importorskip("h5py", reason="stores need the extra `train`")

from cytolite.datasets.store import Store, write_store  # noqa: E402
from cytolite.errors import InputError  # noqa: E402
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
    with pytest.raises(InputError, match="format 2 or older"):
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
