"""Teach: labels in every form meet their nuclei, the fit is honest, the bundle names nuclei without scikit-learn."""

import itertools
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import orjson
import pytest
import tifffile
from PIL import Image

from cytolite.bundle import described, load_bundle, model_identity
from cytolite.cells import CellTable
from cytolite.celltypes import DEFAULT, TypeSet
from cytolite.classifier import Classifier, Unlike, as_before, before_columns, inputs_of, slide_hash
from cytolite.config import SegmentSettings, TeachSettings
from cytolite.decoding.features import FEATURE_NAMES
from cytolite.errors import BundleError, InputError, OutputError, UsageError
from cytolite.files import sha256_of
from cytolite.interop.convert import convert
from cytolite.interop.parquet import CellsWriter, read_cells
from cytolite.interop.result import Result
from cytolite.pipeline import segment_slides
from cytolite.segmentation.slide import segment_slide
from cytolite.slides.reader import open_slide
from cytolite.teach.labels import match, read_labels
from cytolite.teach.suggest import suggest, write_suggestions
from fakes import fake_bundle, paint, random_nuclei, write_slide

SIZE = (1000, 1000)


def squares(n: int = 30, types: TypeSet = DEFAULT) -> CellTable:
    """Nuclei of 10 x 10 px, 30 px apart on a row: number i has its corner at (30 i, 100)."""
    corners = np.stack([30.0 * np.arange(n), np.full(n, 100.0)], axis=1)
    square = np.array([[0, 0], [10, 0], [10, 10], [0, 10]], float)
    return CellTable(
        vertices=(corners[:, None] + square).reshape(-1, 2),
        offsets=np.arange(0, 4 * n + 1, 4),
        centroids=corners + 5,
        types=np.ones(n, np.uint8),
        type_probs=np.full((n, len(types)), 1 / len(types), np.float32),
        area_um2=np.linspace(10, 50, n).astype(np.float32),
        regions=np.full(n, -1, np.int32),
        features={name: np.linspace(0, 1, n).astype(np.float32) for name in FEATURE_NAMES},
        type_set=types,
    )


def feature(geometry, kind, **properties):
    classification = {"classification": {"name": kind, "color": [9, 8, 7]}} if kind else {}
    return {"type": "Feature", "geometry": geometry, "properties": {**classification, **properties}}


def point(x, y):
    return {"type": "Point", "coordinates": [x, y]}


def box(left, top, right, bottom):
    return {
        "type": "Polygon",
        "coordinates": [[[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]],
    }


def labels_of(tmp_path, *features, types=DEFAULT):
    path = tmp_path / "labels.geojson"
    path.write_bytes(orjson.dumps({"type": "FeatureCollection", "features": features}))
    return read_labels(path, types)


def matched(labels, cells=None, mpp=0.5):
    return match(labels, cells or squares(), mpp, SIZE, "labels.geojson")


# ---- labels ---------------------------------------------------------------------------------------------------------


def test_points_mean_the_nucleus_around_them_or_within_three_um(tmp_path):
    labels = labels_of(
        tmp_path,
        feature(point(5, 105), "Tumor"),
        feature({"type": "MultiPoint", "coordinates": [[35, 105], [75.9, 105]]}, "Lymphocyte"),  # 5.9 px = 2.95 um off
        feature(point(106.5, 120), "Tumor"),  # 10 px = 5 um below: no nucleus
        feature(point(125, 105), None),
        feature(point(155, 105), "Ignore*"),
    )
    found = matched(labels)
    assert found.rows.tolist() == [0, 1, 2]
    assert found.names.tolist() == ["tumor", "lymphocyte", "lymphocyte"]
    assert any("1 label has no nucleus within 3 um (tumor at x 106, y 120)" in note for note in found.notes)
    assert any("2 objects without a class" in note for note in found.notes)


def test_contradictions_are_named_and_left_out(tmp_path):
    labels = labels_of(
        tmp_path, feature(point(4, 105), "A"), feature(point(6, 105), "B"), feature(point(35, 105), "A"),
        feature(point(36, 105), "A"), feature(box(0, 90, 12, 120), "B"),
    )  # fmt: skip
    found = matched(labels)
    assert found.rows.tolist() == [1]
    assert any("1 nucleus was given different types and left out (a and b at x 5, y 105)" in n for n in found.notes)


def test_areas_name_what_has_no_label_and_the_smallest_wins(tmp_path):
    labels = labels_of(
        tmp_path, feature(box(0, 0, 200, 200), "Stroma"),
        feature(box(25, 90, 75, 120), "Tumor", objectType="annotation"),
        feature(point(5, 105), "Lymphocyte"),
    )  # fmt: skip
    found = matched(labels)
    assert dict(zip(found.rows.tolist(), found.names.tolist(), strict=True)) == {
        0: "lymphocyte", 1: "tumor", 2: "tumor", 3: "stroma", 4: "stroma", 5: "stroma", 6: "stroma",
    }  # fmt: skip


def test_detections_of_cytolite_are_labels_where_somebody_changed_them(tmp_path):
    own = {"objectType": "detection", "name": "cytolite"}
    labels = labels_of(
        tmp_path,
        feature(box(0, 100, 10, 110), "Neoplastic", **own),
        feature(box(30, 100, 40, 110), "Dead", **own),
        feature(box(60, 100, 70, 110), "Neoplastic", objectType="detection"),
    )
    found = matched(labels)
    assert found.rows.tolist() == [1, 2]
    assert found.names.tolist() == ["dead", "neoplastic"]
    assert any("1 detections have the class that cytolite gave" in note for note in found.notes)


def test_qupath_s_own_names_of_a_set_are_known(tmp_path):
    types = TypeSet.from_description([{"name": "t cell", "qupath": "Immune: T cell"}, {"name": "other"}])
    labels = labels_of(
        tmp_path, feature(point(5, 105), "Immune: T cell"), feature(point(35, 105), "Immune: B"), types=types
    )
    assert [name for *_, name in labels.points] == ["t cell", "immune b"]
    with pytest.raises(InputError, match=r"'Immune: B' and 'Immune B' would both be the type 'immune b'"):
        labels_of(tmp_path, feature(point(5, 105), "Immune: B"), feature(point(35, 105), "Immune B"))


@pytest.mark.parametrize(
    "text", ["x,y,type\n5,105,Tumor\n35,105,lymphocyte\n", "\ufeffX;Y;Class\n5,0;105,0;tumor\n35;105;Lymphocyte\n"]
)
def test_csv_of_points(tmp_path, text):
    (tmp_path / "l.csv").write_text(text, encoding="utf-8")
    found = matched(read_labels(tmp_path / "l.csv", DEFAULT))
    assert found.names.tolist() == ["tumor", "lymphocyte"]


def test_a_corrected_table_labels_each_of_its_nuclei(tmp_path):
    cells = squares(types=TypeSet.named(["tumour", "other"]))
    with CellsWriter(tmp_path / "c.parquet", FEATURE_NAMES, type_set=cells.type_set) as writer:
        writer.append(cells.select(np.arange(3)))
    found = matched(read_labels(tmp_path / "c.parquet", DEFAULT))
    assert found.names.tolist() == ["tumour"] * 3


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("l.csv", "", "columns none"),
        ("l.csv", "x,y\n1,2\n", "labels need x, y"),
        ("l.csv", "x,y,type\n", "holds no label"),
        ("l.csv", "x,y,type\n1,,a\n", "line 2"),
        ("l.geojson", '{"type":"FeatureCollection","features":[]}', "holds no label"),
        ("l.geojson", "{", "JSON"),
        ("l.geojson", "", "JSON"),
        ("l.parquet", "", "not a readable Parquet file"),
        ("l.png", "", "format of"),
    ],
)
def test_files_without_labels_get_a_sentence(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        read_labels(tmp_path / name, DEFAULT)


def test_a_table_without_cells_holds_no_label(tmp_path):
    with CellsWriter(tmp_path / "c.parquet", FEATURE_NAMES) as writer:
        writer.append(squares(1).select(np.array([], int)))
    with pytest.raises(InputError, match="holds no label"):
        read_labels(tmp_path / "c.parquet", DEFAULT)


def test_labels_of_another_image_are_refused(tmp_path):
    with pytest.raises(InputError, match="2 of 2 labels lie outside of the slide, which is 1000 x 1000"):
        matched(labels_of(tmp_path, feature(point(5000, 105), "A"), feature(point(5, 2000), "B")))
    with pytest.raises(InputError, match="no label means a nucleus"):
        matched(labels_of(tmp_path, feature(point(500, 500), "A")))


# ---- the classifier -------------------------------------------------------------------------------------------------


def classifier(**more) -> Classifier:
    numbers = {
        "parent": "fake 1", "parent_types": tuple(DEFAULT.describe()), "inputs": ("p_dead", "area_um2"),
        "mean": (-2.0, 30.0), "scale": (1.0, 10.0), "coefficients": ((0.0, 2.0), (1.0, -2.0)), "intercepts": (0.5, 0.0),
        "temperature": 2.0,
    }  # fmt: skip
    return Classifier(**(numbers | more))


TWO = TypeSet.named(["large", "small"])


def test_probabilities_are_those_worked_out_by_hand():
    cells = squares(3)
    found = classifier().name(cells, TWO)
    z = [(np.log(1 / 7) + 2), (cells.area_um2[0] - 30) / 10]
    scores = np.array([(2 * z[1] + 0.5) / 2, (z[0] - 2 * z[1]) / 2])
    np.testing.assert_allclose(found.type_probs[0], np.exp(scores) / np.exp(scores).sum(), rtol=1e-5)
    assert found.type.tolist() == ["small", "large", "large"]
    assert found.type_set == TWO


def test_what_the_network_said_stays_and_names_can_be_given_again():
    cells = squares(30)
    once = classifier().name(cells, TWO)
    assert set(before_columns(DEFAULT)) < set(once.features)
    again = classifier().name(once, TWO)
    np.testing.assert_array_equal(again.type_probs, once.type_probs)
    back = as_before(once, DEFAULT)
    np.testing.assert_array_equal(back.types, cells.types)
    np.testing.assert_array_equal(back.type_probs, cells.type_probs)
    assert back.features.keys() == cells.features.keys()


def test_a_nucleus_is_named_alike_however_many_are_named_at_once():
    cells = squares(30)
    whole = classifier().name(cells, TWO)
    one_by_one = [classifier().name(cells.select(np.array([i])), TWO).type_probs[0] for i in range(30)]
    np.testing.assert_array_equal(whole.type_probs, one_by_one)


def test_kept_types_keep_the_parent_s_probability():
    cells = replace(squares(1), type_probs=np.array([[0, 0, 0, 0, 0, 0.3, 0.7]], np.float32))
    types = TypeSet.named(["large", "small", "connective"])
    taught = classifier(
        coefficients=((0.0, 2.0), (1.0, -2.0), (0.0, 0.0)), intercepts=(0.5, 0.0, -1e3), kept={3: 6}
    ).name(cells, types)
    np.testing.assert_allclose(taught.type_probs[0, 2], 0.3, rtol=1e-6)
    np.testing.assert_allclose(taught.type_probs.sum(), 1, rtol=1e-6)


def test_a_measurement_that_is_no_number_counts_as_average():
    cells = replace(squares(2), area_um2=np.array([np.nan, 30], np.float32))
    found = classifier().name(cells, TWO).type_probs
    np.testing.assert_array_equal(found[0], found[1])


def test_what_the_classifier_needs_and_the_cells_lack_is_named():
    with pytest.raises(InputError, match="lack p_dead"):
        inputs_of(squares(2, TWO), ["p_dead"])
    with pytest.raises(InputError, match="lack solidity"):
        inputs_of(replace(squares(2), features={}), ["solidity"])
    with pytest.raises(InputError, match="classifier starts from neoplastic"):
        classifier().name(squares(2, TWO), TWO)


@pytest.mark.parametrize(
    ("shift", "n", "warned"), [(0, 100, False), (20, 100, True), (-20, 100, True), (20, 49, False)]
)
def test_a_slide_unlike_the_taught_ones_is_told(shift, n, warned):
    cells = squares(n)
    cells = replace(cells, area_um2=cells.area_um2 - cells.area_um2.mean() + np.float32(30 + shift))
    unlike = Unlike(classifier())
    for rows in np.array_split(np.arange(n), 3):
        unlike.add(classifier().name(cells.select(rows), TWO))
    sentence = unlike.sentence()
    assert (sentence is not None) == warned
    if warned:
        assert f"area_um2 is 2.0 standard deviations {'above' if shift > 0 else 'below'}" in sentence


@pytest.mark.parametrize(("shift", "distance"), [(0.4, None), (2.0, "2.0"), (50.0, "3.0")])
def test_embeddings_far_from_the_taught_ones_are_told(shift, distance):
    """Root mean square over the numbers, none of which counts for more than 3."""
    taught = classifier(
        inputs=("area_um2", "embedding_0", "embedding_1"), mean=(30.0, 0.0, 1.0), scale=(10.0, 1.0, 0.5),
        coefficients=((0.0, 2.0, 1.0), (1.0, -2.0, 0.0)),
    )  # fmt: skip
    cells = squares(60)
    vectors = np.array([[shift, 1 - shift / 2]] * 60, np.float16)
    unlike = Unlike(taught)
    unlike.add(taught.name(replace(cells, embeddings=vectors), TWO))
    sentence = unlike.sentence()
    assert (sentence is None) == (distance is None)
    assert distance is None or f"the mean of the embeddings is {distance} standard deviations from theirs" in sentence
    with pytest.raises(InputError, match="uses embeddings, which these cells do not have"):
        taught.name(cells, TWO)


# ---- from labels to a bundle and back -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    """A slide whose network says neoplastic of everything large and of everything small; its result; its nuclei."""
    folder = tmp_path_factory.mktemp("taught")
    rng = np.random.default_rng(8)
    small, _ = random_nuclei(rng, (500, 500), 120, radius=(4, 5.5), gap=2)
    large, _ = random_nuclei(rng, (500, 500), 120, radius=(8, 10), gap=2)
    truth = np.concatenate([small, np.where(large > 0, large + small.max(), 0)], axis=1).astype(np.int32)
    image = paint(truth, np.r_[0, np.ones(truth.max())].astype(np.uint8))
    slide = write_slide(folder / "painted.tif", image)
    bundle = fake_bundle(folder / "model")
    settings = SegmentSettings(tissue="all", tile=256, halo=32, workers=2)
    with open_slide(slide) as opened:
        record = {"slide": {"path": str(slide)}, "model": {"name": "fake"}}
        segment_slide(opened, folder / "result", bundle, settings, record=record)
    return folder, bundle, slide, settings


def write_labels(path, result, n=30, types=("small", "large"), seed=0):
    cells = Result(result).cells
    rng = np.random.default_rng(seed)
    text = "x,y,type\n"
    for name, mine in zip(types, (cells.centroids[:, 0] < 500, cells.centroids[:, 0] > 500), strict=True):
        for row in rng.permutation(np.flatnonzero(mine))[:n]:
            text += "{},{},{}\n".format(*cells.centroids[row], name)
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def taught(painted):
    pytest.importorskip("sklearn", reason="needs the extra `teach`")
    from cytolite.teach.run import teach

    folder, bundle, *_ = painted
    labels = write_labels(folder / "labels.csv", folder / "result")
    return teach([folder / "result"], [labels], folder / "sizes", TeachSettings(model=str(bundle.path)))


def test_a_few_labels_tell_apart_what_the_parent_cannot(painted, taught, tmp_path):
    from cytolite.teach.naming import name_results

    folder, *_ = painted
    assert taught.report["labels"] == {"large": 30, "small": 30}
    assert taught.report["macro_f1"]["value"] > 0.95
    assert taught.report["parent_macro_f1"] == 0
    assert taught.report["grouped_by"] == "parts of the labelled area"
    assert [p["labels_of_each_type"] for p in taught.report["learning_curve"]][:2] == [5, 10]
    name_results(taught.bundle.path, [folder / "result"], tmp_path)
    cells = Result(tmp_path / "result").cells
    right = (cells.type == "small") == (cells.centroids[:, 0] < 500)
    assert right.mean() > 0.97
    assert set(cells.features["parent_type"]) == {1.0}
    run = Result(tmp_path / "result").run
    assert (run["model"]["name"], run["model"]["parent"], run["named_before_by"]["name"]) == ("sizes", "fake 1", "fake")
    assert Result(tmp_path / "result").summary["total"]["types"].keys() == {"large", "small"}


def test_applying_and_segmenting_give_the_same_names(painted, taught, tmp_path):
    from cytolite.teach.naming import name_results

    folder, _, slide, settings = painted
    name_results(str(taught.bundle.path), [folder / "result"], tmp_path / "applied")
    with open_slide(slide) as opened:
        segment_slide(opened, tmp_path / "segmented", taught.bundle, settings, record={})
    applied, segmented = (
        read_cells(tmp_path / "applied" / "result" / "cells.parquet"),
        read_cells(tmp_path / "segmented" / "cells.parquet"),
    )
    np.testing.assert_array_equal(applied.types, segmented.types)
    np.testing.assert_array_equal(applied.type_probs, segmented.type_probs)
    np.testing.assert_array_equal(applied.centroids, segmented.centroids)
    assert applied.features.keys() == segmented.features.keys()


def test_applying_keeps_what_does_not_depend_on_names(painted, taught, tmp_path):
    from cytolite.teach.naming import name_results

    folder, *_ = painted
    source = tmp_path / "slide"
    shutil.copytree(folder / "result", source)
    (source / "artefacts.geojson").write_text('{"type":"FeatureCollection","features":[]}')
    run = Result(source).run
    told = [{"code": "file", "message": "A word."}, {"code": "unlike_taught", "message": "Of another model."}]
    (source / "run.json").write_text(json.dumps({**run, "warnings": told}))
    name_results(taught.bundle.path, [source], tmp_path / "out")
    target = tmp_path / "out" / "slide"
    assert {path.name for path in target.iterdir()} == {path.name for path in source.iterdir()}
    for name in ("artefacts.geojson", "tissue.geojson"):
        assert (target / name).read_bytes() == (source / name).read_bytes()
    assert Result(target).run["warnings"] == told[:1]


def test_the_overview_of_what_was_named_again_shows_ground_artefacts_and_regions(
    painted, taught, tmp_path, monkeypatch
):
    from cytolite.teach import naming

    folder, *_ = painted
    source = tmp_path / "slide"
    shutil.copytree(folder / "result", source)
    blur = {**feature(box(100, 100, 300, 200), "Artefact"), "properties": {"name": "Artefact: blur"}}
    (source / "artefacts.geojson").write_bytes(orjson.dumps({"type": "FeatureCollection", "features": [blur]}))
    roi = tmp_path / "roi.geojson"
    roi.write_bytes(orjson.dumps({"type": "FeatureCollection", "features": [feature(box(0, 0, 500, 500), "Front")]}))
    run = Result(source).run
    run["settings"] = {"tissue": "all", "roi": str(roi)}
    drawn = []
    monkeypatch.setattr(naming, "draw_overview", lambda *args, **given: drawn.append(given))
    for known in (True, False):
        run["roi_sha256"] = sha256_of(roi) if known else "0" * 64
        run["slide"]["path"] = str(painted[2]) if known else str(tmp_path / "gone.tif")
        (source / "run.json").write_text(json.dumps(run))
        naming.name_results(taught.bundle.path, [source], tmp_path / f"out {known}")
        given, scale = drawn[-1], drawn[-1]["tissue_scale_px"]
        assert given["artefacts"]["blur"].sum() * scale**2 == pytest.approx(200 * 100, rel=0.25)  # borders count
        assert not given["artefacts"]["pen"].any()
        assert given["tissue"].shape == given["artefacts"]["blur"].shape
        assert [region.name for region in given["regions"]] == (["Front"] if known else [])
    assert drawn[0]["tissue"].all()
    tissue = Result(source).tissue.area
    assert drawn[1]["tissue"].sum() * drawn[1]["tissue_scale_px"] ** 2 == pytest.approx(tissue, rel=0.25)


def test_command_and_python_use_a_taught_bundle_alike_and_a_sheet_is_drawn(painted, taught, tmp_path):
    from cytolite import load_model

    slide = painted[2]
    settings = SegmentSettings(model=str(taught.bundle.path), tissue="all", quiet=True, sheet=True)
    [outcome] = segment_slides([slide], tmp_path / "out", settings)
    wanted = read_cells(outcome.folder / "cells.parquet")
    model = load_model(taught.bundle.path)
    assert model.types == ("large", "small")
    found = model.segment(slide, tissue="all")
    np.testing.assert_array_equal(found.types, wanted.types)
    np.testing.assert_array_equal(found.type_probs, wanted.type_probs)
    assert found.features.keys() == wanted.features.keys()
    with Image.open(outcome.folder / "sheet.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert all((pixels == t.colour).all(axis=1).any() for t in taught.bundle.spec.type_set)
    # A result that is there without the sheet says how to have one.
    (outcome.folder / "sheet.png").unlink()
    [skipped] = segment_slides([slide], tmp_path / "out", settings)
    assert skipped.status == "skipped"
    assert any("cytolite sheet" in warning for warning in skipped.warnings)


@pytest.mark.parametrize(("slide", "warned"), [("taught.tif", False), ("other.tif", True)])
def test_a_slide_that_gave_labels_is_not_called_unlike(tmp_path, slide, warned):
    from cytolite.segmentation.writers import write_cells

    spec = load_bundle(fake_bundle(tmp_path / "m").path).spec
    taught = classifier().model_copy(
        update={"mean": (500.0,) * len(classifier().mean), "slides": (slide_hash("taught.svs"),)}
    )
    spec = type(spec)(**(spec.model_dump() | {"classifier": taught, **described(TWO)}))
    named = taught.name(squares(60), TWO)
    _, unusual = write_cells(
        tmp_path, [named], spec, image="x", regions=(), features=FEATURE_NAMES, about={"slide": slide, "mpp": 0.5}
    )
    assert bool(unusual) == warned


def test_names_of_the_network_come_back(painted, taught, tmp_path):
    from cytolite.teach.naming import name_results

    folder, bundle, *_ = painted
    name_results(taught.bundle.path, [folder / "result"], tmp_path / "a")
    name_results(bundle.path, [tmp_path / "a" / "result"], tmp_path / "b")
    first, back = (
        read_cells(folder / "result" / "cells.parquet"),
        read_cells(tmp_path / "b" / "result" / "cells.parquet"),
    )
    np.testing.assert_array_equal(back.type_probs, first.type_probs)
    assert list(back.features) == list(first.features)


def test_what_was_taught_needs_neither_scikit_learn_nor_torch(painted, taught, tmp_path):
    folder, *_ = painted
    code = (
        "import sys\n"
        "for name in ('sklearn', 'torch', 'scipy'): sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from cytolite.pipeline import name_results\n"
        f"print(name_results({str(taught.bundle.path)!r}, [Path({str(folder / 'result')!r})], Path({str(tmp_path)!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "result" / "cells.parquet").is_file()


def test_a_taught_bundle_is_checked_when_it_is_loaded(taught, tmp_path):
    import shutil

    shutil.copytree(taught.bundle.path, tmp_path / "m")
    path = tmp_path / "m" / "model.json"
    content = json.loads(path.read_text())
    assert load_bundle(tmp_path / "m").spec.classifier == taught.bundle.spec.classifier
    for change in ({"intercepts": [1.0]}, {"scale": [0.0] * 17}, {"mean": [1.0]}):
        path.write_text(json.dumps(content | {"classifier": content["classifier"] | change}))
        with pytest.raises(BundleError, match="its classifier needs 17 numbers for each of 2 types"):
            load_bundle(tmp_path / "m")
    path.write_text(json.dumps(content))
    (tmp_path / "m" / "model.onnx").unlink()
    with pytest.raises(BundleError, match="uses the network of fake 1"):
        load_bundle(tmp_path / "m")


def test_images_that_taught_are_refused_when_they_are_scored(painted, taught, tmp_path):
    from cytolite.evaluation import images as cases
    from cytolite.metrics.classes import read_classes

    (tmp_path / "t.toml").write_text('1 = "large"\n2 = "small"\n')
    for name in ("painted", "other"):
        for sub, pixel in (("inst", 1), ("type", 1)):
            (tmp_path / "truth" / sub).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((64, 64), pixel, np.uint8)).save(tmp_path / "truth" / sub / f"{name}.png")
        (tmp_path / "truth" / "image").mkdir(exist_ok=True)
        Image.fromarray(np.full((64, 64, 3), 255, np.uint8)).save(tmp_path / "truth" / "image" / f"{name}.png")
    classes = read_classes(tmp_path / "t.toml")
    predict = cases.model_predictions(taught.bundle, classes)
    found = {case.name: case for case in cases.find_cases([tmp_path / "truth"], 0.5)}
    cases.count_cases([found["other"]], predict, classes)
    with pytest.raises(InputError, match="was taught with labels of 'painted'"):
        cases.count_cases([found["painted"]], predict, classes)
    assert taught.bundle.spec.classifier.slides == (slide_hash("painted.tif"),)
    # A result of the model knows it too, also when another than the model is asked.
    about = {"mpp": 0.5, "model": model_identity(taught.bundle)}
    for name in ("painted", "other"):
        (tmp_path / "found" / name).mkdir(parents=True)
        with CellsWriter(tmp_path / "found" / name / "cells.parquet", FEATURE_NAMES, (), about, TWO) as writer:
            writer.append(squares(2, TWO))
    of_results = cases.read_predictions(tmp_path / "found", list(found.values()), read_classes(tmp_path / "t.toml"))
    of_results(found["other"], found["other"].read())
    with pytest.raises(InputError, match="'sizes' was taught with labels of 'painted'"):
        of_results(found["painted"], found["painted"].read())


def test_bad_lessons_get_a_sentence_and_nothing_is_written(painted, tmp_path):
    pytest.importorskip("sklearn", reason="needs the extra `teach`")
    from cytolite.teach.naming import name_results
    from cytolite.teach.run import teach

    folder, bundle, *_ = painted
    settings = TeachSettings(model=str(bundle.path))
    result = folder / "result"
    lessons = [
        (write_labels(tmp_path / "one.csv", result, types=("small", "small")), settings, "two types at least"),
        (write_labels(tmp_path / "few.csv", result, n=4), settings, r"4 of large, 4 of small\); at least 5"),
        (write_labels(tmp_path / "odd.csv", result, types=("a|b", "small")), settings, "without any of"),
        (
            write_labels(tmp_path / "ok.csv", result),
            TeachSettings(model="nuclei-light"),
            "has another; name the folder",
        ),
    ]
    for labels, how, words in lessons:
        with pytest.raises(InputError, match=words):
            teach([result], [labels], tmp_path / "m", how)
    with pytest.raises(UsageError, match="1 results and 2 files of labels"):
        teach([result], [labels, labels], tmp_path / "m", settings)
    assert not (tmp_path / "m").exists()
    with pytest.raises(InputError, match="needs that of nuclei-light"):
        name_results("nuclei-light", [result], tmp_path / "out")
    (tmp_path / "out" / "result").mkdir(parents=True)
    with pytest.raises(OutputError, match="is there already"):
        name_results(bundle.path, [result], tmp_path / "out")
    with pytest.raises(UsageError, match="is the result itself"):
        name_results(bundle.path, [result], folder)


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"slide": "other.svs"}, r"cells of other.svs, and the result .* is of painted.tif"),
        ({"slide": "painted.svs", "width_px": 500, "height_px": 250}, r"500 x 250 px, .* has 1000 x 500 px"),
    ],
)
def test_a_table_of_another_image_or_resolution_is_refused(painted, tmp_path, about, words):
    pytest.importorskip("sklearn", reason="needs the extra `teach`")
    from cytolite.teach.run import teach

    folder, bundle, *_ = painted
    cells = Result(folder / "result").cells
    labels = tmp_path / "corrected.parquet"
    with CellsWriter(labels, tuple(cells.features), (), about, TWO) as writer:
        writer.append(replace(cells, type_probs=cells.type_probs[:, :2], type_set=TWO))
    with pytest.raises(InputError, match=words):
        teach([folder / "result"], [labels], tmp_path / "m", TeachSettings(model=str(bundle.path)))
    assert list(tmp_path.iterdir()) == [labels]


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (("Immune: B", "Other"), ("Immune B", "Other"), r"'Immune: B' and 'Immune B' would all be the type 'immune b'"),
        (("large", "small"), ("large", "large_fraction"), "share the name or column 'large_fraction'"),
    ],
)
def test_names_that_collide_across_files_are_refused(painted, tmp_path, first, second, words):
    pytest.importorskip("sklearn", reason="needs the extra `teach`")
    from cytolite.teach.run import teach

    folder, bundle, *_ = painted
    result = folder / "result"
    labels = [write_labels(tmp_path / f"{i}.csv", result, types=types) for i, types in enumerate((first, second))]
    with pytest.raises(InputError, match=words):
        teach([result, result], labels, tmp_path / "m", TeachSettings(model=str(bundle.path)))
    assert sorted(tmp_path.iterdir()) == labels


def without_solidity(result, folder):
    """Write a result again without one of the measurements."""
    shutil.copytree(result, folder)
    cells, about = Result(result).cells, Result(result).about
    features = {name: values for name, values in cells.features.items() if name != "solidity"}
    about = {k: v for k, v in about.items() if k not in {"regions", "types"}}
    with CellsWriter(folder / "cells.parquet", tuple(features), (), about, cells.type_set) as writer:
        writer.append(replace(cells, features=features))
    return folder


def test_results_without_what_the_classifier_needs_are_refused_before_any_is_named(painted, taught, tmp_path):
    from cytolite.teach.naming import name_results
    from cytolite.teach.run import teach

    folder, bundle, *_ = painted
    poor = without_solidity(folder / "result", tmp_path / "poor")
    with pytest.raises(InputError, match="lack solidity, which the classifier needs"):
        name_results(taught.bundle.path, [folder / "result", poor], tmp_path / "out")
    labels = write_labels(folder / "of poor.csv", poor)
    with pytest.raises(InputError, match="lack solidity, which the classifier needs"):
        teach([poor], [labels], tmp_path / "m", TeachSettings(model=str(bundle.path)))
    assert list(tmp_path.iterdir()) == [poor]
    # The network's own names need no measurement.
    assert name_results(bundle.path, [poor], tmp_path / "out") == [tmp_path / "out" / "poor"]


# ---- fit ------------------------------------------------------------------------------------------------------------


def test_scores_are_of_nuclei_that_were_held_out():
    """Inputs that say nothing: what was fitted would remember them, what was held out is at chance."""
    pytest.importorskip("sklearn", reason="needs the extra `teach`")
    from cytolite.teach.fit import fit

    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(60, 30)), np.arange(60) % 3
    _, worth = fit(z, y, np.arange(60) // 6, 3)
    assert worth.macro[0] < 0.5
    assert worth.confusion.sum() == 60


def test_groups_are_never_on_both_sides():
    """Inputs that tell the group and nothing else: by groups that is at chance, by nuclei it would be perfect."""
    pytest.importorskip("sklearn", reason="needs the extra `teach`")
    from cytolite.teach.fit import fit, folds

    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(12), 10)
    y = np.repeat(rng.permutation(np.arange(12) % 2), 10)
    z = np.eye(12)[groups] + rng.normal(scale=0.01, size=(120, 12))
    for train, test in folds(groups):
        assert not set(groups[train]) & set(groups[test])
    assert fit(z, y, groups, 2)[1].macro[0] < 0.7
    assert fit(z, y, np.arange(120), 2)[1].macro[0] > 0.99


def test_blocks_lie_apart_and_are_about_as_large():
    from cytolite.teach.fit import blocks

    xy = np.random.default_rng(2).uniform(size=(80, 2)) * [1000, 10]
    found = blocks(xy)
    assert np.bincount(found).tolist() == [10] * 8
    spans = sorted((xy[found == b, 0].min(), xy[found == b, 0].max()) for b in range(8))
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    assert len(set(blocks(xy[:7]).tolist())) == 1


def test_f1_is_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="needs the extra `teach`")
    from cytolite.teach.fit import f1_of

    rng = np.random.default_rng(3)
    y, called = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    np.testing.assert_allclose(f1_of(y, called, 4), metrics.f1_score(y, called, average=None))


def test_a_parent_that_is_better_is_said_to_be():
    from cytolite.teach.fit import Fitted, Worth
    from cytolite.teach.report import report_of, summary

    macro = np.array([0.5, 0.4, 0.6])
    worth = Worth(np.full((2, 2), 5), np.stack([macro, macro]), macro, [], 0.1)
    names = np.array(["a", "b"] * 10)
    for parent, better in ((names, True), (np.roll(names, 1), False)):
        report = report_of(
            ["a", "b"], worth, Fitted(np.zeros((2, 1)), np.zeros(2), 1.0, 0.1),
            names=names, parent_names=parent, groups=np.arange(20) // 7, by="slides",
        )  # fmt: skip
        assert ("The parent is better" in summary(report)) == better


def test_a_temperature_undoes_scores_that_are_too_sure():
    from cytolite.classifier import softmax
    from cytolite.teach.fit import choose_temperature

    rng = np.random.default_rng(4)
    scores = rng.normal(size=(4000, 3)) * 2
    y = (softmax(scores).cumsum(axis=1) > rng.uniform(size=(4000, 1))).argmax(axis=1)
    assert choose_temperature(3 * scores, y) == pytest.approx(3, rel=0.15)


# ---- suggestions and sheets -----------------------------------------------------------------------------------------


def test_suggestions_are_unsure_different_and_apart(tmp_path):
    rng = np.random.default_rng(5)
    cells = squares(3000, TWO)
    p = rng.uniform(0.5, 1, 3000).astype(np.float32)
    cells = replace(cells, type_probs=np.stack([p, 1 - p], axis=1))
    rows = suggest(cells, 10)
    assert len(set(rows.tolist())) == 10
    assert p[rows].max() < np.quantile(p, 0.2)
    assert np.ptp(cells.centroids[rows, 0]) > 0.8 * np.ptp(cells.centroids[:, 0])
    assert len(suggest(cells.select(np.arange(4)), 10)) == 4
    write_suggestions(tmp_path / "s.geojson", cells, rows)
    content = orjson.loads((tmp_path / "s.geojson").read_bytes())
    for f in content["features"]:
        assert f["properties"]["objectType"] == "annotation"
        f["properties"]["classification"] = {"name": "Large"}
    (tmp_path / "labelled.geojson").write_bytes(orjson.dumps(content))
    found = match(read_labels(tmp_path / "labelled.geojson", TWO), cells, 0.5, (10**6, 1000), "s")
    assert found.rows.tolist() == sorted(rows.tolist())
    with pytest.raises(InputError, match="no nuclei"):
        suggest(cells.select(np.array([], int)), 3)


def test_a_sheet_shows_each_type_from_the_surest_on(painted, tmp_path):
    from cytolite.drawing.type_sheet import CROP_PX, draw_result, ranked

    folder, *_ = painted
    result = Result(folder / "result")
    order = ranked(result.cells, 1, 8)
    p = result.cells.type_probs[order, 0]
    assert (np.diff(p) <= 0).all()
    assert p[-1] == result.cells.type_probs[result.cells.types == 1, 0].min()
    assert draw_result(result, tmp_path / "s.png", columns=8) == 8
    with Image.open(tmp_path / "s.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert (pixels == DEFAULT[0].colour).all(axis=1).sum() > 8 * CROP_PX // 2
    with pytest.raises(UsageError, match="no region 'a'"):
        draw_result(result, tmp_path / "t.png", region="a")
    with pytest.raises(InputError, match="name the slide with --slide"):
        draw_result(result, tmp_path / "t.png", slide=tmp_path / "gone.svs")
    other = write_slide(tmp_path / "other.tif", np.full((100, 100, 3), 255, np.uint8))
    with pytest.raises(InputError, match="100 x 100 px, and the result is of 1000 x 500"):
        draw_result(result, tmp_path / "t.png", slide=other)
    assert not (tmp_path / "t.png").exists()


def test_a_sheet_is_of_the_scene_that_was_segmented(tmp_path):
    from cytolite.drawing.type_sheet import CROP_PX, draw_result

    rng = np.random.default_rng(3)
    scan = paint(*random_nuclei(rng, (300, 300), 60))
    slide = tmp_path / "two.ome.tif"
    with tifffile.TiffWriter(slide, ome=True) as tiff:
        tiff.write(np.zeros_like(scan), photometric="rgb", metadata={"Name": "black", "axes": "YXS"})
        tiff.write(scan, photometric="rgb", metadata={"Name": "scan", "axes": "YXS"})
    bundle = fake_bundle(tmp_path / "model")
    settings = SegmentSettings(model=str(bundle.path), tissue="all", mpp=0.5, scene="scan", quiet=True)
    [outcome] = segment_slides([slide], tmp_path / "out", settings)
    assert outcome.cells > 20
    n = draw_result(Result(outcome.folder), tmp_path / "s.png", columns=4)
    with Image.open(tmp_path / "s.png") as picture:
        black = (np.asarray(picture.convert("RGB")) == 0).all(axis=2).sum()
    assert black < n * CROP_PX**2 // 10


def test_parents_columns_pass_through_convert(painted, taught, tmp_path):
    from cytolite.teach.naming import name_results

    folder, *_ = painted
    name_results(taught.bundle.path, [folder / "result"], tmp_path)
    convert(tmp_path / "result", tmp_path / "c.csv", outlines=True)
    convert(tmp_path / "c.csv", tmp_path / "c.parquet")
    again = read_cells(tmp_path / "c.parquet")
    assert again.type_names == ("large", "small")
    np.testing.assert_array_equal(again.features["parent_type"], 1)


# ---- embeddings -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_vector(tmp_path_factory):
    """A slide of nuclei of one size and type, whose two halves only the embedding tells apart: by the class's blue."""
    folder = tmp_path_factory.mktemp("vectors")
    nuclei, _ = random_nuclei(np.random.default_rng(5), (300, 600), 130, radius=(6, 6.5), gap=2)
    image = paint(nuclei, np.r_[0, np.ones(nuclei.max())].astype(np.uint8))
    # A little more or less blue: the network is as sure of the type, as the floor of its logits has it.
    right = (nuclei > 0) & (np.arange(600) > 300)
    image[..., 2] = np.where(nuclei > 0, np.where(right, 22, 18), image[..., 2])
    slide = write_slide(folder / "vectors.tif", image)
    bundle = fake_bundle(folder / "model", embedding=np.array([[0, 0, 1], [0, 1, 0]], np.float32))
    settings = SegmentSettings(tissue="all", tile=256, halo=32, workers=2, embeddings=True)
    for name, asked in (("with", True), ("without", False)):
        with open_slide(slide) as opened:
            how = settings.model_copy(update={"embeddings": asked})
            record = {"slide": {"path": str(slide)}, "model": {"name": "fake"}}
            segment_slide(opened, folder / name, bundle, how, record=record)
    cells = Result(folder / "with").cells
    lines = ["{},{},{}".format(x, y, "right" if x > 300 else "left") for x, y in cells.centroids]
    (folder / "labels.csv").write_text("\n".join(["x,y,type", *lines]) + "\n")
    return folder, bundle, slide, settings


def test_embeddings_are_used_where_they_are_and_demanded_by_what_used_them(by_vector, tmp_path):
    pytest.importorskip("sklearn", reason="needs the extra `teach`")
    from cytolite.teach.naming import name_results
    from cytolite.teach.run import teach

    folder, bundle, slide, settings = by_vector
    labels, how = [folder / "labels.csv"], {"model": str(bundle.path)}
    taught = teach([folder / "with"], labels, tmp_path / "halves", TeachSettings(**how))
    assert taught.bundle.spec.classifier.uses_embeddings
    assert taught.report["macro_f1"]["value"] > 0.95
    name_results(taught.bundle.path, [folder / "with"], tmp_path / "named")
    named = Result(tmp_path / "named" / "with")
    assert ((named.cells.type == "right") == (named.cells.centroids[:, 0] > 300)).mean() > 0.97
    assert named.about["embedding"] == bundle.spec.embedding.model_dump()
    # The slide again, without being asked for embeddings: the classifier needs them, so they are made, and kept.
    with open_slide(slide) as opened:
        without = settings.model_copy(update={"embeddings": False})
        segment_slide(opened, tmp_path / "again", taught.bundle, without, record={})
    again = read_cells(tmp_path / "again" / "cells.parquet")
    np.testing.assert_array_equal(again.type_probs, named.cells.type_probs)
    np.testing.assert_array_equal(again.embeddings, named.cells.embeddings)
    with pytest.raises(InputError, match=r"was taught on embeddings, and .*without has none"):
        name_results(taught.bundle.path, [folder / "without"], tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_embeddings_may_be_left_out_or_be_insisted_on(by_vector, tmp_path):
    pytest.importorskip("sklearn", reason="needs the extra `teach`")
    from cytolite.teach.run import teach

    folder, bundle, *_ = by_vector
    results, labels, model = [folder / "with", folder / "without"], [folder / "labels.csv"] * 2, str(bundle.path)
    plain = teach(results[:1], labels[:1], tmp_path / "plain", TeachSettings(model=model, embeddings=False))
    assert not plain.bundle.spec.classifier.uses_embeddings
    assert not plain.notes
    mixed = teach(results, labels, tmp_path / "mixed", TeachSettings(model=model))
    assert not mixed.bundle.spec.classifier.uses_embeddings
    assert any("embeddings are not used" in note for note in mixed.notes)
    with pytest.raises(InputError, match=r"without has no embeddings of fake, which --embeddings asks for"):
        teach(results, labels, tmp_path / "insisted", TeachSettings(model=model, embeddings=True))
    assert not (tmp_path / "insisted").exists()


def test_embeddings_of_another_make_are_refused(by_vector, tmp_path):
    pytest.importorskip("sklearn", reason="needs the extra `teach`")
    from cytolite.teach.naming import name_results
    from cytolite.teach.run import teach

    folder, bundle, *_ = by_vector
    how = TeachSettings(model=str(bundle.path))
    taught = teach([folder / "with"], [folder / "labels.csv"], tmp_path / "halves", how)
    shutil.copytree(folder / "with", tmp_path / "other")
    about = Result(folder / "with").about
    cells = Result(folder / "with").cells
    other = {**about, "embedding": {**about["embedding"], "sha256": "0" * 64}}
    with CellsWriter(tmp_path / "other" / "cells.parquet", FEATURE_NAMES, (), other, channels=2) as writer:
        writer.append(cells)
    with pytest.raises(InputError, match="has others"):
        name_results(taught.bundle.path, [tmp_path / "other"], tmp_path / "out")
