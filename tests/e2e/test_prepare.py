"""`cytolite prepare` and `cytolite inspect STORE` as commands: what they write, print and refuse."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from command import cytolite

pytest.importorskip("h5py", reason="stores need the extra `train`")

from cytolite.datasets.store import Store, write_store
from cytolite.patches import Patch

TYPES = '[types]\n1 = "neoplastic"\n2 = "inflammatory"\n'


def label_folder(path, n=2, type_id=1):
    for kind in ("image", "inst", "type"):
        (path / kind).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(n):
        instances = np.zeros((300, 280), np.uint16)
        instances[40:60, 40:60], instances[270:290, 100:120] = 1, 2
        pixels = np.kron(rng.integers(60, 256, (60, 56, 3)), np.ones((5, 5, 1))).astype(np.uint8)
        Image.fromarray(pixels).save(path / "image" / f"{i}.png")
        Image.fromarray(instances).save(path / "inst" / f"{i}.png")
        Image.fromarray((np.where(instances > 0, type_id, 0)).astype(np.uint8)).save(path / "type" / f"{i}.png")
    return path


def test_a_label_folder_of_any_data_becomes_a_store(tmp_path):
    folder = label_folder(tmp_path / "mine")
    (tmp_path / "types.toml").write_text(f'name = "mine"\nlicence = "CC0-1.0"\n{TYPES}')
    wanted = ["prepare", "labels", folder, "-o", tmp_path / "s.h5", "--types", tmp_path / "types.toml", "--mpp", 0.4]
    done = cytolite(*wanted)
    assert done.code == 0, done.err
    assert done.out.endswith("s.h5: 2 patches\n")
    with Store(tmp_path / "s.h5") as store:
        assert store.texts("source") == ["mine", "mine"]
        assert store.mpp.tolist() == [0.4, 0.4]
        assert store.nuclei[:, 1].tolist() == [2, 2]
    cut = cytolite(*wanted, "--patch", 256)
    assert "     2 patches cut from larger images" in cut.out
    assert "     6 patches at an edge, filled up with their mirror image" in cut.out
    assert cut.out.endswith("s.h5: 8 patches\n")


def test_inspect_tells_stores_from_bundles(tmp_path):
    (tmp_path / "types.json").write_text('{"name": "mine", "types": {"1": "Neoplastic"}}')
    label_folder(tmp_path / "mine")
    made = cytolite("prepare", "labels", tmp_path / "mine", "-o", tmp_path / "s.h5",
                    "--types", tmp_path / "types.json", "--mpp", 0.4)  # fmt: skip
    assert made.code == 0, made.err
    # The same tissue under another name, turned.
    with Store(tmp_path / "s.h5") as store:
        first = store[0]
    turned = {key: np.rot90(getattr(first, key)).copy() for key in ("image", "instance_map", "type_map")}
    write_store(tmp_path / "t.h5", [replace(first, **turned, source="other", group="g")], {"other": "CC-BY-4.0"})
    done = cytolite("inspect", tmp_path / "s.h5", tmp_path / "t.h5", "-o", tmp_path / "sheet.png", "--pairs",
                    tmp_path / "pairs.csv")  # fmt: skip
    assert done.code == 0, done.err
    lines = [line.split() for line in done.out.splitlines()]
    assert ["neoplastic", "4", "2", "6"] in lines
    assert ["mine", "2", "2", "0.4", "280", "to", "300", "-", "-", "unknown"] in lines
    assert ["other", "1", "1", "0.4", "280", "to", "300", "-", "-", "CC-BY-4.0"] in lines
    assert "near-duplicates: 1 pairs" in done.out
    with (tmp_path / "pairs.csv").open() as file:
        [pair] = csv.DictReader(file)
    assert (pair["source_1"], pair["name_1"], pair["source_2"], pair["name_2"]) == ("mine", "0", "other", "0")
    assert Image.open(tmp_path / "sheet.png").width > 900
    assert cytolite("inspect").out.count('"name": "nuclei-light"') == 1


def test_what_cannot_be_prepared_gets_a_sentence_and_leaves_nothing(tmp_path):
    folder, store = label_folder(tmp_path / "mine", type_id=9), tmp_path / "s.h5"
    types = tmp_path / "types.toml"
    labels = ["prepare", "labels", folder, "-o", store]
    types.write_text(TYPES)
    assert "holds the type ids [9]" in last(cytolite(*labels, "--types", types, "--mpp", 0.25))
    assert "--types FILE and --mpp are needed" in last(cytolite(*labels))
    assert "250.0 µm/px" in last(cytolite("prepare", "labels", label_folder(tmp_path / "ok"), "-o", store,
                                          "--types", types, "--mpp", 250))  # fmt: skip
    for text, message in (
        ('[types]\n1 = "neoplastik"', "Did you mean 'neoplastic'"),
        ('[types]\nx = "dead"', "has the id 'x'"),
        ('[type]\n1 = "dead"', "Did you mean 'types'"),
        ("types = ", "not valid TOML or JSON"),
    ):
        types.write_text(text)
        assert message in last(cytolite(*labels, "--types", types, "--mpp", 0.25))
    assert "Did you mean 'consep'" in last(cytolite("prepare", "consap", folder, "-o", store))
    assert "for `labels`" in last(cytolite("prepare", "consep", folder, "-o", store, "--mpp", 0.5))
    assert "not a label folder" in last(cytolite("prepare", "pannuke", tmp_path, "-o", store))
    assert "no such folder" in last(cytolite("prepare", "consep", folder, "-o", tmp_path / "no" / "s.h5"))
    assert "is not a store, or is damaged" in last(cytolite("inspect", damaged(tmp_path / "d.h5")))
    assert "no store" in last(cytolite("inspect", tmp_path / "missing.h5"))
    assert "are for stores" in last(cytolite("inspect", "--pairs", tmp_path / "p.csv"))
    assert not list(tmp_path.glob("*s.h5*"))


def last(ran) -> str:
    """Return the sentence of a command that failed; lines of progress may come before it."""
    assert ran.code in (1, 2), ran
    assert "Traceback" not in ran.err, ran.err
    line = ran.err.splitlines()[-1]
    assert line.startswith("error: ")
    return line


def damaged(path):
    empty = np.zeros((64, 64), np.int32)
    write_store(path, [Patch("p", np.zeros((64, 64, 3), np.uint8), empty, empty.astype(np.uint8), 0.25, "a", "g")])
    path.write_bytes(path.read_bytes()[:1000])
    return path
