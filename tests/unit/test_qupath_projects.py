"""QuPath projects: made without QuPath, and worked on through stand-ins for paquo."""

from __future__ import annotations

import json
import os
import pickle
import uuid
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import paquo_stand_in
from cytolite.celltypes import CELL_TYPES
from cytolite.config import SegmentSettings
from cytolite.errors import InputError, OutputError, SlideError
from cytolite.interop.parquet import read_cells
from cytolite.qupath import closed as qupath_closed
from cytolite.qupath import objects as qupath_module
from cytolite.qupath import run as projects
from cytolite.qupath.new_project import packed_colour, write_project
from fakes import fake_bundle, paint, random_nuclei, write_slide
from paquo_stand_in import Entry, PathIO, PathObject, box


@pytest.fixture(scope="module")
def painted(tmp_path_factory) -> Path:
    """A slide, 600 x 500 px at 0.5 um/px, and the model that reads it."""
    folder = tmp_path_factory.mktemp("painted")
    instance_map, types = random_nuclei(np.random.default_rng(3), (500, 600), 150)
    write_slide(folder / "größe 1 #2.tif", paint(instance_map, types))
    fake_bundle(folder)
    return folder


# ---- making one -----------------------------------------------------------------------------------------------------


def validate_project(folder: Path) -> dict:
    """Raise unless QuPath's `DefaultProject.loadProject` (0.6, 0.7) reads the project as it was meant."""
    content = json.loads((folder / "project.qpproj").read_text(encoding="utf-8"))
    assert isinstance(content["createTimestamp"], int)
    assert isinstance(content["modifyTimestamp"], int)
    assert content["version"] not in {"v0.2.0-m1", "v0.2.0-m2"}
    assert content["uri"] == (folder / "project.qpproj").absolute().as_uri()
    ids = [image["entryID"] for image in content["images"]]
    assert sorted(set(ids)) == sorted(ids)
    assert content["lastID"] >= max(ids)
    for image in content["images"]:
        assert isinstance(image["metadata"], dict)  # null is no map
        uuid.UUID(image["randomizedName"])
        builder = image["serverBuilder"]
        assert builder["builderType"] == "uri"
        assert builder["uri"].startswith("file:/")
        assert " " not in builder["uri"]  # java.net.URI refuses it
        builder["uri"].encode("ascii")
    for each in json.loads((folder / "classifiers" / "classes.json").read_bytes())["pathClasses"]:
        assert isinstance(each["name"], str)
        assert -(2**31) <= each["color"] < 2**31
    return content


def test_a_new_project(tmp_path, painted):
    slide = painted / "größe 1 #2.tif"
    second = tmp_path / "b.png"
    Image.new("RGB", (30, 20), (200, 100, 200)).save(second)  # says no resolution, which a project does not need
    file = projects.make_project([str(slide), str(second), str(slide)], tmp_path / "p")
    assert file == tmp_path / "p" / "project.qpproj"
    content = validate_project(tmp_path / "p")
    assert [image["imageName"] for image in content["images"]] == [slide.name, "b.png"]
    found = [paquo_stand_in.ImageProvider.path_from_uri(i["serverBuilder"]["uri"]) for i in content["images"]]
    assert found == [slide.resolve(), second.resolve()]
    assert "gr%C3%B6%C3%9Fe%201%20%232.tif" in content["images"][0]["serverBuilder"]["uri"]
    for number, size in ((1, (600, 500)), (2, (30, 20))):
        with Image.open(tmp_path / "p" / "data" / str(number) / "thumbnail.jpg") as thumbnail:
            assert thumbnail.size == size
    classes = json.loads((tmp_path / "p" / "classifiers" / "classes.json").read_bytes())["pathClasses"]
    own = ["Tumor", "Stroma", "Immune cells", "Necrosis", "Other", "Region*", "Ignore*", "Positive", "Negative"]
    assert [each["name"] for each in classes] == [*own, *(t.qupath_class for t in CELL_TYPES)]
    assert classes[0]["color"] == packed_colour((200, 0, 0))
    for each, cell_type in zip(classes[len(own) :], CELL_TYPES, strict=True):
        assert (each["color"] & 0xFFFFFF).to_bytes(3, "big") == bytes(cell_type.colour)
        assert each["color"] >> 24 & 0xFF == 255
    assert packed_colour((255, 0, 0)) == -65536  # as QuPath writes red


def test_a_folder_that_holds_something_is_left_alone(tmp_path, painted):
    (tmp_path / "p").mkdir()
    write_project(tmp_path / "p", [painted / "größe 1 #2.tif"])  # empty is fine
    before = {path: path.read_bytes() for path in (tmp_path / "p").rglob("*") if path.is_file()}
    with pytest.raises(OutputError, match="there already"):
        projects.make_project([str(painted / "größe 1 #2.tif")], tmp_path / "p")
    assert {path: path.read_bytes() for path in (tmp_path / "p").rglob("*") if path.is_file()} == before


def test_a_slide_that_cannot_be_read_leaves_nothing(tmp_path, painted):
    (tmp_path / "bad.svs").write_text("no")
    for bad in ("bad.svs", "missing.svs"):
        with pytest.raises(SlideError, match=bad):
            projects.make_project([str(painted / "größe 1 #2.tif"), str(tmp_path / bad)], tmp_path / "p")
    assert os.listdir(tmp_path) == ["bad.svs"]


# ---- working on one -------------------------------------------------------------------------------------------------


FOREIGN = PathObject("detection", box(100, 100, 110, 110), "StarDist", "Tumor")


@pytest.fixture
def project(tmp_path, painted, monkeypatch) -> Path:
    """A project of two images; the first has three annotations, a foreign detection and one of ours outside of all."""
    paquo_stand_in.install(monkeypatch)
    monkeypatch.setattr(qupath_module, "require_closed", lambda *_: None)
    monkeypatch.setattr(Entry, "size", (600, 500))
    monkeypatch.setattr(Entry, "mpp", 0.5)
    slide = painted / "größe 1 #2.tif"
    write_project(tmp_path / "p", [slide, slide])
    (tmp_path / "p" / "classifiers" / "classes.json").write_text('{"pathClasses":[{"name":"Mine","color":-1}]}')
    hierarchy = paquo_stand_in.JavaHierarchy()
    holed = box(20, 20, 300, 300).difference(box(100, 100, 200, 200))
    annotations = [
        PathObject("annotation", holed, "Région", "Tumor"),
        PathObject("annotation", box(320, 20, 580, 200), None, "Tumor"),
        PathObject("annotation", box(320, 220, 580, 480), "Région", None),
    ]
    annotations[0].measurements = {"mine": 1.0, "cytolite: old": 3.0}
    hierarchy.root.addChildObjects(annotations)
    hierarchy.root.addChildObjects([FOREIGN, PathObject("detection", box(5, 400, 10, 410), "cytolite", "Dead")])
    (tmp_path / "p" / "data" / "1" / "data.qpdata").write_bytes(pickle.dumps(hierarchy))
    return tmp_path / "p"


@pytest.fixture
def run(project, painted):
    def run(**options):
        settings = SegmentSettings(model=str(painted / "fake"), tissue="all", workers=1, **options.pop("settings", {}))
        return projects.run_project(project, settings, **options)

    return run


def objects(project: Path, image: int = 1) -> paquo_stand_in.JavaHierarchy:
    return pickle.loads((project / "data" / str(image) / "data.qpdata").read_bytes())


def test_cells_lie_under_their_annotations_and_the_rest_stays(project, run):
    before = (project / "data" / "1" / "data.qpdata").read_bytes()
    [outcome] = run()
    assert outcome.status == "done", outcome
    hierarchy = objects(project)
    annotations = [found for found in hierarchy.root.children if found.kind == "annotation"]
    result = read_cells(outcome.folder / "cells.parquet")
    counts = np.bincount(result.regions, minlength=3)
    assert [len(a.children) for a in annotations] == counts.tolist()
    assert counts.min() > 0
    assert outcome.cells == counts.sum()
    for index, annotation in enumerate(annotations):
        assert all(annotation.roi.geometry.intersects(child.roi.geometry.centroid) for child in annotation.children)
        assert annotation.measurements["cytolite: nuclei"] == counts[index]
        area = annotation.roi.geometry.area * 0.25 / 1e6
        tissue = annotation.measurements["cytolite: tissue mm^2"]
        assert 0 < tissue <= area
        assert annotation.measurements["cytolite: nuclei per mm^2"] == pytest.approx(counts[index] / tissue, rel=1e-3)
    assert annotations[0].measurements["mine"] == 1
    assert "cytolite: old" not in annotations[0].measurements
    others = [found.name for found in hierarchy.root.children if found.kind == "detection"]
    assert others == ["StarDist", "cytolite"]  # the last one lies outside of all regions
    classes = [
        each["name"] for each in json.loads((project / "classifiers" / "classes.json").read_bytes())["pathClasses"]
    ]
    assert classes == ["Mine", *(t.qupath_class for t in CELL_TYPES)]
    [backup] = (project / "data" / "1").glob("data.qpdata.before-cytolite-*")
    assert backup.read_bytes() == before


def test_a_second_run_replaces_and_never_doubles(project, run):
    run()
    first = sorted(found.roi.geometry.wkt for found in objects(project).getDetectionObjects())
    [outcome] = run()
    assert outcome.seconds == 0  # nothing was computed again
    assert sorted(found.roi.geometry.wkt for found in objects(project).getDetectionObjects()) == first


def test_classes_choose_annotations(project, run):
    run(classes=["Tumor"])
    annotations = [found for found in objects(project).root.children if found.kind == "annotation"]
    assert [bool(annotation.children) for annotation in annotations] == [True, True, False]
    run()  # all of them: what is there is replaced, also where another annotation held it
    annotations = [found for found in objects(project).root.children if found.kind == "annotation"]
    assert all(annotation.children for annotation in annotations)
    outlines = [found.roi.geometry.wkt for found in objects(project).getDetectionObjects()]
    assert len(set(outlines)) == len(outlines)


def test_images_are_chosen_and_whole_ones_only_if_asked(project, run):
    outcomes = run(whole=True)
    assert [outcome.status for outcome in outcomes] == ["done", "done"]
    second = objects(project, 2)
    assert len(second.root.children) == outcomes[1].cells == len(second.getDetectionObjects())
    assert second.root.measurements["cytolite: nuclei"] == outcomes[1].cells
    assert not list((project / "data" / "2").glob("*.before-*"))  # nothing was there to keep
    with pytest.raises(InputError, match="Did you mean"):
        run(images=["grösse 1 #2.tif"])
    assert len(run(images=["gr*"], whole=True)) == 2
    with pytest.raises(InputError, match="'Tumour'; there are Tumor"):
        run(classes=["Tumour"])
    (project / "data" / "1" / "data.qpdata").unlink()
    with pytest.raises(InputError, match="draw some"):
        run()
    with pytest.raises(InputError, match="leave out --roi"):
        run(settings={"roi": "x.geojson"})


def test_large_results_go_in_by_parts(project, run, monkeypatch):
    monkeypatch.setattr(qupath_module, "CHUNK", 10)
    monkeypatch.setattr(PathIO, "largest", 0)
    [outcome] = run()
    assert 0 < PathIO.largest <= 10
    assert outcome.cells == sum(found.name == "cytolite" for found in objects(project).getDetectionObjects()) - 1


def test_an_image_that_was_saved_meanwhile_is_left_alone(project, run, monkeypatch):
    data = project / "data" / "1" / "data.qpdata"
    real = projects.segment_again

    def segment_and_save(*arguments):
        outcome = real(*arguments)
        data.write_bytes(pickle.dumps(paquo_stand_in.JavaHierarchy()))  # QuPath's "Save" in the middle
        return outcome

    monkeypatch.setattr(projects, "segment_again", segment_and_save)
    [outcome] = run()
    assert outcome.status == "failed"
    assert "changed by another program" in outcome.message
    assert objects(project).root.children == []


def test_an_image_of_another_size_is_left_alone(project, run, monkeypatch):
    monkeypatch.setattr(Entry, "size", (300, 500))
    before = (project / "data" / "1" / "data.qpdata").read_bytes()
    [outcome] = run()
    assert outcome.status == "failed"
    assert "600 x 500 px" in outcome.message
    assert (project / "data" / "1" / "data.qpdata").read_bytes() == before


def test_resolution_set_in_qupath_is_used(project, run, monkeypatch):
    monkeypatch.setattr(Entry, "mpp", 1.0)
    [outcome] = run(classes=["Tumor"])
    row = json.loads((outcome.folder / "summary.json").read_bytes())["regions"][1]
    assert row["searched_mm2"] == pytest.approx(260 * 180 / 1e6, rel=1e-5)


def test_a_missing_slide_fails_alone(project, run):
    file = project / "project.qpproj"
    content = json.loads(file.read_bytes())
    content["images"][0]["serverBuilder"]["uri"] = "file:/nowhere/a.svs"
    file.write_text(json.dumps(content))
    outcomes = run(whole=True)
    assert [outcome.status for outcome in outcomes] == ["failed", "done"]
    assert "/nowhere/a.svs" in outcomes[0].message


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["/opt/QuPath/bin/QuPath"], True),
        (["/Applications/QuPath-0.6.0-arm64.app/Contents/MacOS/QuPath-0.6.0-arm64"], True),
        (["C:\\Program Files\\QuPath-0.6.0\\QuPath-0.6.0.exe"], True),
        (["/usr/bin/java", "-cp", "x", "qupath.QuPath"], True),
        (["java", "-m", "qupath.app/qupath.QuPath"], True),
        (["python", "-m", "cytolite", "qupath", "run", "/data/QuPath/project.qpproj"], False),
        (["/home/me/QuPath/tools/sh", "x"], False),
        (["java", "-cp", "/opt/QuPath/lib/*", "some.Other"], False),
        ([], False),
        ([""], False),
    ],
)
def test_qupath_is_told_by_its_command_line(command, expected):
    assert qupath_closed.is_qupath(command) is expected


def test_a_project_that_may_be_open_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "project.qpproj"
    monkeypatch.setattr(qupath_closed, "running_commands", lambda: iter([["/opt/QuPath/bin/QuPath"], ["sh"]]))
    with pytest.raises(InputError, match="--other-project-open"):
        qupath_closed.require_closed(file)
    qupath_closed.require_closed(file, other_project_open=True)
    (tmp_path / "data" / "3").mkdir(parents=True)
    (tmp_path / "data" / "3" / "data.qpdata.bkp").touch()
    with pytest.raises(InputError, match="stopped while it wrote"):
        qupath_closed.require_closed(file, other_project_open=True)


def test_processes_of_this_machine_are_seen():
    assert any("pytest" in " ".join(command) for command in qupath_closed.running_commands())


def test_no_project_and_no_qupath_are_sentences(tmp_path, painted, monkeypatch):
    settings = SegmentSettings(model=str(painted / "fake"))
    with pytest.raises(InputError, match="There is no project"):
        projects.run_project(tmp_path, settings)
    (tmp_path / "project.qpproj").write_text("{}")
    monkeypatch.setattr(qupath_closed, "running_commands", lambda: iter(()))
    pytest.importorskip("paquo._config", reason="needs the extra qupath")
    monkeypatch.setenv("PAQUO_QUPATH_SEARCH_CONDA", "false")
    with pytest.raises(InputError, match="QuPath cannot be started"):
        projects.run_project(tmp_path, settings, qupath=tmp_path)
