"""Truth and predictions from folders, results and stores; what does not fit is named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytolite.errors import InputError
from cytolite.evaluation import images as cases
from cytolite.evaluation.table import read_counts, write_counts
from cytolite.metrics.classes import own_classes, read_classes
from cytolite.patches import Patch
from fakes import fake_bundle, paint, random_nuclei

OWN = own_classes()


def maps(seed: int, shape: tuple[int, int] = (96, 128)) -> tuple[np.ndarray, np.ndarray]:
    instances, types = random_nuclei(np.random.default_rng(seed), shape, 20, gap=3)
    return instances, types[instances]


def save(folder: Path, name: str, seed: int, with_image: bool = False, **kwargs) -> None:
    instances, types = maps(seed, **kwargs)
    for kind, array in (("inst", instances.astype(np.uint16)), ("type", types)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(folder / kind / f"{name}.png")
    if with_image:
        (folder / "image").mkdir(exist_ok=True)
        codes = np.zeros(instances.max() + 1, np.uint8)
        codes[instances[instances > 0]] = types[instances > 0]
        Image.fromarray(paint(instances, codes)).save(folder / "image" / f"{name}.png")


@pytest.fixture
def truth(tmp_path) -> Path:
    for name, seed in (("a", 0), ("b", 1)):
        save(tmp_path / "truth", name, seed, with_image=True)
    return tmp_path / "truth"


def count(truth: Path, predicted: Path):
    found = cases.find_cases([truth])
    return cases.count_cases(found, cases.read_predictions(predicted, found, OWN), OWN)


def test_a_truth_is_its_own_best_prediction(truth, tmp_path):
    counts = count(truth, truth)
    assert counts.images["image"].tolist() == ["a", "b"]
    np.testing.assert_array_equal(counts.values["tp"], counts.values["n_true"])
    assert counts.values["fp"].sum() == 0
    np.testing.assert_allclose(counts.values["iou_sum"], counts.values["tp"])
    assert counts.values["n_true"][:, 1:8].sum() == counts.values["n_true"][:, 0].sum() > 10
    # The table on disk is the table.
    write_counts(tmp_path / "counts.parquet", counts)
    again = read_counts(tmp_path / "counts.parquet")
    assert again.classes == counts.classes
    for name in ("images", "values", "pixels"):
        for key, column in getattr(counts, name).items():
            np.testing.assert_array_equal(getattr(again, name)[key], column, err_msg=key)
    for name in ("partly", "measured", "confusion", "bins"):
        np.testing.assert_array_equal(getattr(again, name), getattr(counts, name), err_msg=name)


@pytest.mark.slow
def test_a_bundle_predicts_what_it_sees(truth, tmp_path):
    found = cases.find_cases([truth], mpp=0.5)
    bundle = fake_bundle(tmp_path, foreground_threshold=0.5)
    counts = cases.count_cases(found, cases.model_predictions(bundle, OWN), OWN)
    quality = counts.values["iou_sum"][:, 0] / counts.values["n_true"][:, 0]
    assert (quality > 0.9).all()
    assert counts.values["fn_type"].sum() == 0
    assert counts.bins[:, 1:].sum() > 0


@pytest.mark.slow
def test_results_of_segment_are_predictions(truth, tmp_path):
    import cytolite

    bundle = fake_bundle(tmp_path)
    for name in ("a", "b"):
        cytolite.segment(
            truth / "image" / f"{name}.png", tmp_path / "results", model=bundle.path, mpp=0.5, tissue="all"
        )
    counts = count(truth, tmp_path / "results")
    found = cases.find_cases([truth], mpp=0.5)
    direct = cases.count_cases(found, cases.model_predictions(bundle, OWN), OWN)
    np.testing.assert_array_equal(counts.values["tp"], direct.values["tp"])
    np.testing.assert_allclose(counts.values["iou_sum"], direct.values["iou_sum"], rtol=0.02)
    single = cases.find_cases([truth])[:1]
    one = cases.read_predictions(tmp_path / "results" / "a" / "cells.parquet", single, OWN)
    np.testing.assert_array_equal(cases.count_cases(single, one, OWN).values["tp"], counts.values["tp"][:1])


def test_a_store_is_a_truth(tmp_path):
    store = pytest.importorskip("cytolite.datasets.store", reason="stores need the extra `train`")
    patches = []
    for i in range(4):
        instances, types = maps(i)
        image = np.zeros((*instances.shape, 3), np.uint8)
        patches.append(Patch(f"p{i}", image, instances, types, 0.25, "x", f"g{i // 2}", "colon", "2"))
    store.write_store(tmp_path / "s.h5", patches)
    found = cases.find_cases([tmp_path / "s.h5"])
    assert [dict(case.columns) for case in found][1] == {
        "image": "p1",
        "source": "x",
        "group": "g0",
        "tissue": "colon",
        "fold": "2",
    }
    np.testing.assert_array_equal(found[2].read().instance_map, patches[2].instance_map)
    kept = cases.keep_held_back(found, 0.5, 0)
    assert len({case.columns["group"] for case in kept}) == 1
    assert len(kept) == 2


def test_columns_are_joined_by_image(truth, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("image,tissue,fold\nb,breast,2\na,colon,1\nc,lung,3\n")
    found = cases.add_columns(cases.find_cases([truth]), table)
    assert [(c.name, c.columns["tissue"], c.columns["fold"]) for c in found] == [
        ("a", "colon", "1"),
        ("b", "breast", "2"),
    ]
    table.write_text("image,tissue\na,colon\n")
    with pytest.raises(InputError, match=r"t\.csv lacks 1 of 2 images, the first is 'b'"):
        cases.add_columns(found, table)
    table.write_text("name\na\n")
    with pytest.raises(InputError, match="no column 'image'; it has name"):
        cases.add_columns(found, table)


def fault(truth: Path, predicted: Path) -> str:
    with pytest.raises(InputError) as caught:
        count(truth, predicted)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    return message


def test_names_that_do_not_match(truth, tmp_path):
    save(tmp_path / "p", "a", 0)
    assert "lacks 1 of 2 images, the first is 'b'" in fault(truth, tmp_path / "p")
    save(tmp_path / "p", "b", 1)
    save(tmp_path / "p", "extra", 1)
    assert "holds 'extra', which the truth has not" in fault(truth, tmp_path / "p")


def test_sizes_that_differ(truth, tmp_path):
    save(tmp_path / "p", "a", 0)
    save(tmp_path / "p", "b", 1, shape=(96, 120))
    assert "b.png is 120 x 96 px and its truth is 128 x 96" in fault(truth, tmp_path / "p")


def test_ids_that_are_no_whole_numbers(truth, tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        save(tmp_path / "p", name, seed)
    Image.fromarray(np.zeros((96, 128), np.float32)).save(tmp_path / "p" / "inst" / "a.tif")
    (tmp_path / "p" / "inst" / "a.png").unlink()
    assert "a.tif is float32 (96, 128); whole numbers in one channel are needed" in fault(truth, tmp_path / "p")


def test_types_out_of_range(truth, tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        save(tmp_path / "p", name, seed)
    path = tmp_path / "p" / "type" / "b.png"
    types = np.asarray(Image.open(path)).copy()
    Image.fromarray(np.where(types > 0, 77, 0).astype(np.uint8)).save(path)
    assert "p/type/b.png holds the types 77" in fault(truth, tmp_path / "p")


def test_nuclei_without_types(truth, tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        save(tmp_path / "p", name, seed)
    path = tmp_path / "p" / "type" / "a.png"
    Image.fromarray(np.zeros((96, 128), np.uint8)).save(path)
    assert "p/type/a.png gives no type to" in fault(truth, tmp_path / "p")
    path.unlink()
    assert "There is no label image" in fault(truth, tmp_path / "p")


def test_a_folder_without_types_is_scored_without(truth, tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        save(tmp_path / "p", name, seed)
    for path in (tmp_path / "p" / "type").iterdir():
        path.unlink()
    (tmp_path / "p" / "type").rmdir()
    counts = count(truth, tmp_path / "p")
    np.testing.assert_array_equal(counts.values["tp"][:, 0], counts.values["n_true"][:, 0])
    assert counts.values["tp"][:, 1:].sum() == 0


def test_what_is_no_truth_or_no_prediction(truth, tmp_path):
    (tmp_path / "empty").mkdir()
    for path, part in ((tmp_path / "no", "There is no truth"), (tmp_path / "empty", "is no label folder")):
        with pytest.raises(InputError, match=part):
            cases.find_cases([path])
    with pytest.raises(InputError, match="twice"):
        cases.find_cases([truth, truth])
    assert "holds no predictions" in fault(truth, tmp_path / "empty")


def test_a_model_needs_images_a_resolution_and_its_own_types(truth, tmp_path):
    bundle = fake_bundle(tmp_path)
    predict = cases.model_predictions(bundle, OWN)
    with pytest.raises(InputError, match=r"resolution of .* is not known; give it with --mpp"):
        cases.count_cases(cases.find_cases([truth]), predict, OWN)
    for path in (truth / "image").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="has no image to predict on"):
        cases.count_cases(cases.find_cases([truth], 0.5), predict, OWN)
    (tmp_path / "t.toml").write_text('1 = "plasma"\n')
    with pytest.raises(InputError, match="names the type 'neoplastic', which the truth has not"):
        cases.model_predictions(bundle, read_classes(tmp_path / "t.toml"))


def test_a_store_is_opened_once_for_all_its_patches(tmp_path, monkeypatch):
    store = pytest.importorskip("cytolite.datasets.store", reason="needs the extra train")
    labels = np.pad(np.ones((4, 4), np.int32), 6)
    patches = [
        Patch(
            image=np.full((16, 16, 3), i, np.uint8), instance_map=labels, type_map=labels.astype(np.uint8), mpp=0.25,
            name=f"p{i}", source="s", group=f"g{i}", tissue="",
        )
        for i in range(5)
    ]  # fmt: skip
    store.write_store(tmp_path / "s.h5", patches)
    opened = []
    monkeypatch.setattr(store.h5py, "File", lambda *args, real=store.h5py.File: opened.append(args) or real(*args))
    found = cases.find_cases([tmp_path / "s.h5"])
    assert [int(case.read().image.max()) for case in found] == list(range(5))
    assert len(opened) == 1
