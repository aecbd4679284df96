"""The extension for QuPath, called by scripts as a step of its workflow is, with the real `cytolite` process.

QuPath itself is a stand-in, and so are the extension's windows; those are looked at in `test_qupath_windows`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from shapely import wkt
from shapely.geometry import mapping

import cytolite as package
from command import cytolite
from cytolite.celltypes import CELL_TYPES
from cytolite.qupath.install import write_python
from fakes import fake_bundle, paint, random_nuclei, write_slide
from qupath_session import NoGroovyError, QuPath, groovy_literal, qupath

SIDE = 1000
HOLED = shapely.box(50, 60, 480, 500).difference(shapely.Point(250, 280).buffer(120))
PARTS = shapely.MultiPolygon([shapely.box(550, 80, 750, 300), shapely.box(600, 500, 930, 940)])
ANNOTATIONS = [
    {"name": "Tumour", "wkt": HOLED.wkt},
    {"name": None, "key": "parts", "kind": "Stroma", "wkt": PARTS.wkt},
]
FOREIGN = [[100, 100], [650, 600], [990, 10]]  # two of them inside of the regions
COLOURS = {t.qupath_class: int.from_bytes(bytes(t.colour)) for t in CELL_TYPES}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> QuPath:
    try:
        return qupath(tmp_path_factory.mktemp("groovy"))
    except NoGroovyError as reason:
        pytest.skip(str(reason))


class Work:
    """A painted slide with known nuclei under a path with spaces and accents, and scripts that work on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "dossier à moi #1"
        self.folder.mkdir()
        instance_map, types = random_nuclei(np.random.default_rng(3), (SIDE, SIDE), 700, gap=2)
        self.slide = write_slide(self.folder / "lame é 1 [x].tif", paint(instance_map, types))
        fake_bundle(self.folder)
        fake_bundle(self.folder / "slow", tile=64, halo=256)
        ids = np.arange(1, len(types))
        rows, columns = (np.bincount(instance_map.ravel(), w.ravel())[1:] for w in np.mgrid[:SIDE, :SIDE] + 0.5)
        sizes = np.bincount(instance_map.ravel())[1:]
        self.points = shapely.points(columns / sizes, rows / sizes)
        self.types = [CELL_TYPES[types[i] - 1].qupath_class for i in ids]
        self.find = self.request()

    def request(self, **changes: Any) -> str:
        """Return a script that asks for something; a key that is ``None`` is left out."""
        request = {"model": str(self.folder / "fake"), "tissue": "all"} | changes
        return find_nuclei({key: value for key, value in request.items() if value is not None})

    def image(self, **changes: Any) -> dict[str, Any]:
        return {"uri": self.slide.as_uri(), "width": SIDE, "height": SIDE, "mpp": 0.5} | changes

    def inside(self, region: shapely.Geometry) -> dict[str, int]:
        """Types of the painted nuclei inside of a region."""
        return dict(Counter(t for t, yes in zip(self.types, shapely.contains(region, self.points), strict=True) if yes))


def find_nuclei(request: dict[str, Any]) -> str:
    return f"qupath.ext.cytolite.Cytolite.findNuclei({groovy_literal(json.dumps(request, ensure_ascii=False))})"


def import_result(path: object) -> str:
    return f"qupath.ext.cytolite.Cytolite.importResult({groovy_literal(str(path))})"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of cytolite's own, which says that the extension calls this Python."""
    monkeypatch.setenv("CYTOLITE_HOME", str(tmp_path / "home"))
    write_python()
    return tmp_path / "home"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    return Work(tmp_path_factory.mktemp("qupath"))


def play(app: QuPath, folder: Path, *steps: dict[str, Any], **plan: Any) -> list[dict[str, Any]]:
    """Play a session with a temporary folder of its own, which must be empty at the end."""
    temporary = folder / "tmp"
    temporary.mkdir()
    # Each session is short: Java's best compiler would cost more than it gives.
    options = ("-XX:TieredStopAtLevel=1", f"-Djava.io.tmpdir={temporary}")
    answers = app.play({"window": True, **plan, "steps": list(steps)}, folder, *options)
    assert not list(temporary.glob("cytolite-*"))
    assert all(answer["processes"] == 0 for answer in answers)
    assert all(answer["ended"] >= 1 for answer in answers if plan.get("window", True))
    return answers


def errors(answer: dict[str, Any]) -> list[str]:
    return [shown["text"] for shown in answer["dialogs"] if shown["kind"] == "error"]


def test_two_regions_then_one_again(app, work, tmp_path):
    """All annotations without a selection: a hole, two parts; then the selected one again, which replaces its cells."""
    first, again = play(
        app, tmp_path, {"script": work.find, "cells": True}, {"script": work.find, "select": ["parts"], "cells": True},
        image=work.image(), annotations=ANNOTATIONS, foreign=FOREIGN,
    )  # fmt: skip
    for answer in (first, again):
        assert errors(answer) == []
        assert answer["root"] == {"null": 3}  # the detections of somebody else
        for key, region in (("Tumour", HOLED), ("parts", PARTS)):
            found = answer["annotations"][key]
            assert found["types"] == work.inside(region)
            check_cells(found["cells"], work, region)
            check_measurements(found["measurements"], work.inside(region), region)
        assert set(answer["classes"]) <= set(COLOURS)
    assert first["annotations"] == again["annotations"]
    [info] = [dialog for dialog in first["dialogs"] if dialog["kind"] == "info"]  # paint is not H&E, which is told too
    assert f"{sum(map(sum, (work.inside(r).values() for r in (HOLED, PARTS)))):,} nuclei in 2 regions" in info["text"]
    assert "not for diagnosis" in info["text"]
    assert info["counts"] == Counter(work.inside(HOLED)) + Counter(work.inside(PARTS))
    assert 0 < info["tissue"] <= (HOLED.area + PARTS.area) * 0.25e-6 * 1.02
    assert "in the region 'Stroma'" in again["dialogs"][-1]["text"]
    assert first["bar"][-1] == -1  # reading the cells
    shares = [share for share in first["bar"] if share >= 0]
    assert shares == sorted(shares)
    assert shares[-1] == 1


def check_cells(cells: list[dict[str, Any]], work: Work, region: shapely.Geometry) -> None:
    """Each painted nucleus once, with its type, its outline around its centre, and the probabilities of all types."""
    outlines = np.array([wkt.loads(cell["wkt"]) for cell in cells])
    painted = np.flatnonzero(shapely.contains(region, work.points))
    pairs = shapely.STRtree(outlines).query(work.points[painted], predicate="within")
    assert sorted(pairs[0]) == list(range(len(painted)))
    assert sorted(pairs[1]) == list(range(len(cells)))
    for i, j in pairs.T:
        cell = cells[j]
        assert cell["type"] == work.types[painted[i]]
        assert (cell["name"], cell["cell"]) == ("cytolite", False)
        assert cell["colour"] == COLOURS[cell["type"]]
        probabilities = [value for name, value in cell["measurements"].items() if name.startswith("p_")]
        assert len(probabilities) == 7
        assert sum(probabilities) == pytest.approx(1, abs=5e-4)
        assert cell["measurements"]["area_um2"] == pytest.approx(outlines[j].area * 0.25, rel=0.02)


def check_measurements(found: dict[str, float], types: dict[str, int], region: shapely.Geometry) -> None:
    assert found.pop("of the user") == 7
    mm2 = found.pop("cytolite: tissue mm^2")
    assert 0 < mm2 <= region.area * 0.25e-6 * 1.02  # what is stained of it
    assert found.pop("cytolite: nuclei") == sum(types.values())
    assert found.pop("cytolite: nuclei per mm^2") == pytest.approx(sum(types.values()) / mm2, rel=1e-3)
    for kind in CELL_TYPES:
        n = types.get(kind.qupath_class, 0)
        assert found.pop(f"cytolite: {kind.name}") == n
        assert found.pop(f"cytolite: {kind.name} per mm^2") == pytest.approx(n / mm2, rel=1e-4)
    assert found == {}


def test_the_whole_image_is_worked_on_only_if_asked_for(app, work, tmp_path):
    """By default annotations are wanted: without any nothing is done, which is no error, so that a batch goes on."""
    whole = {"script": work.request(area="image")}
    no, *done = play(app, tmp_path, {"script": work.find}, whole, whole, image=work.image(), foreign=FOREIGN)
    assert [shown["kind"] for shown in no["dialogs"]] == ["warning"]
    assert "No area is annotated" in no["dialogs"][0]["text"]
    assert (no["failure"], no["root"], no["steps"]) == (None, {"null": 3}, [])
    n = len(work.points)
    for answer in done:
        assert errors(answer) == []
        assert answer["root"] == {"null": 3, "cytolite": n}
        assert answer["root_measurements"]["cytolite: nuclei"] == n


def test_a_step_of_the_workflow_does_the_same_again(app, work, tmp_path):
    """What *Create script* gives: found in one image, replayed without any window on another copy of it."""
    asked = {"measurements": ["area"], "output": "cells", "threads": 2}
    [found] = play(
        app, tmp_path, {"script": work.request(**asked), "cells": True}, image=work.image(), annotations=ANNOTATIONS
    )
    assert errors(found) == []
    [[name, script]] = found["steps"]
    assert name == "cytolite: find nuclei"
    assert script.isascii()
    (tmp_path / "again").mkdir()
    [again] = play(
        app, tmp_path / "again", {"script": script, "cells": True}, image=work.image(), annotations=ANNOTATIONS,
        window=False,
    )  # fmt: skip
    assert again["failure"] is None
    assert again["annotations"] == found["annotations"]
    assert again["annotations"]["Tumour"]["types"] == work.inside(HOLED)
    assert again["steps"] == found["steps"]
    log = (tmp_path / "again" / "log.txt").read_text()
    assert all(option in log for option in ("--tta 1", "--workers 2", "--tissue all", str(work.folder / "fake")))
    for cell in again["annotations"]["Tumour"]["cells"]:
        assert cell["cell"]
        assert list(cell["measurements"]) == ["area_um2"]


MISTAKES = {
    "'colour'; it can have area": {"colour": "red"},
    "tta is 3; it can be 1, 4 or 8": {"tta": 3},
    "'tpu'; it can be cpu or cuda": {"device": "tpu"},
    "area is 'slide'; it can be regions or image": {"area": "slide"},
    "'size'; it can have probabilities": {"measurements": ["size"]},
    "cannot be read": {"threads": "many"},
}


def test_a_script_with_a_mistake_gets_a_sentence(app, work, tmp_path):
    steps = [{"script": find_nuclei(request)} for request in MISTAKES.values()]
    answers = play(app, tmp_path, *steps, image=work.image(), annotations=ANNOTATIONS, window=False)
    for words, answer in zip(MISTAKES, answers, strict=True):
        assert words in answer["failure"]


def test_a_model_that_is_not_there_is_said_by_cytolite(app, work, tmp_path):
    [answer] = play(
        app, tmp_path, {"script": work.request(model="nuclei-lihgt")}, image=work.image(), annotations=ANNOTATIONS
    )
    assert "There is no model 'nuclei-lihgt'" in errors(answer)[0]


def test_one_run_per_image(app, work, tmp_path):
    """A second click while the first is at work: told, and nothing is doubled."""
    [answer] = play(
        app, tmp_path, {"script": work.find, "twice": True}, image=work.image(), annotations=ANNOTATIONS[:1]
    )
    assert [("at work" in text) for text in errors(answer)] == [True]
    assert answer["annotations"]["Tumour"]["types"] == work.inside(HOLED)


def test_regions_are_measured_again(app, work, tmp_path):
    """After cells were deleted by hand: counts of what is left, densities per mm2 of the region."""
    again = {"script": "qupath.ext.cytolite.Cytolite.measureAgain()"}
    early, found, counted = play(
        app, tmp_path, again, {"script": work.find}, again | {"delete_first": 7},
        image=work.image(), annotations=ANNOTATIONS, foreign=FOREIGN,
    )  # fmt: skip
    assert "has no cells of cytolite yet" in errors(early)[0]
    before = sum(it["children"] for it in found["annotations"].values())
    left = {key: it["measurements"] for key, it in counted["annotations"].items()}
    assert sum(it["cytolite: nuclei"] for it in left.values()) == before - 7
    for key, region in (("Tumour", HOLED), ("parts", PARTS)):
        mm2 = region.area * 0.25e-6
        assert left[key]["cytolite: region mm^2"] == pytest.approx(mm2, rel=1e-4)
        n = counted["annotations"][key]["children"]
        assert left[key]["cytolite: nuclei"] == n
        assert left[key]["cytolite: nuclei per mm^2 of region"] == pytest.approx(n / mm2, rel=1e-4)
        assert left[key]["of the user"] == 7
        assert not [name for name in left[key] if name.endswith(("tissue mm^2", " per mm^2"))]


def test_cancel_and_interrupt_change_nothing(app, work, tmp_path):
    slow = work.request(model=str(work.folder / "slow" / "fake"), threads=1)  # slow enough to be stopped
    done, cancelled, interrupted, again = play(
        app, tmp_path, {"script": work.find, "select": ["Tumour"], "cells": True},
        {"script": slow, "cancel_at": 0.1, "select": ["Tumour"], "cells": True},
        {"script": slow, "interrupt_after_s": 1.5, "cells": True}, {"script": work.find, "cells": True},
        image=work.image(), annotations=ANNOTATIONS, foreign=FOREIGN,
    )  # fmt: skip
    assert done["annotations"]["Tumour"]["types"] == work.inside(HOLED)
    assert 0 < max(cancelled["bar"]) < 1  # it was under way
    for answer in (cancelled, interrupted):
        assert answer["annotations"] == done["annotations"]
        assert [shown["kind"] for shown in answer["dialogs"]] == ["cancelled"]
    assert again["annotations"]["Tumour"] == done["annotations"]["Tumour"]


def test_a_crash_in_the_middle_changes_nothing(app, work, tmp_path):
    slow = work.request(model=str(work.folder / "slow" / "fake"), threads=1)
    crashed, again = play(
        app, tmp_path, {"script": slow, "crash_at": 0.1, "select": ["Tumour"]}, {"script": work.find},
        image=work.image(), annotations=ANNOTATIONS, foreign=FOREIGN,
    )  # fmt: skip
    assert 0 < max(crashed["bar"]) < 1
    assert "cytolite ended with code" in errors(crashed)[0]
    assert (crashed["annotations"]["Tumour"]["children"], crashed["root"]) == (0, {"null": 3})
    assert again["annotations"]["Tumour"]["types"] == work.inside(HOLED)


TEACH = """
import qupath.ext.cytolite.*
import qupath.lib.objects.classes.PathClass
def image = qupath.lib.scripting.QP.currentImageData
def cells = image.hierarchy.detectionObjects.findAll { it.name == 'cytolite' }.sort { it.measurements['area_um2'] }
cells.takeRight(12).each { it.setPathClass(PathClass.fromString('Big', 0x112233)) }
def points = cells.take(12).collect { "(${it.ROI.centroidX} ${it.ROI.centroidY})" }.join(', ')
Session.annotate(name: 'small ones', kind: 'Small', wkt: "MULTIPOINT (${points})")
new Run(image, qupath.lib.scripting.QP.project, Session.recorder).teach(Home.python(), [], new File(MODEL))
"""


def name_again(model: object) -> str:
    return f"qupath.ext.cytolite.Cytolite.nameAgain({groovy_literal(str(model))})"


def test_teach_and_name_again(app, work, tmp_path):
    """Two new types by size, from 12 cells with another class and 12 points, on the real commands; then back again."""
    pytest.importorskip("sklearn", reason="needs scikit-learn, of the extra teach")
    project = tmp_path / "project" / "project.qpproj"
    project.parent.mkdir()
    model = tmp_path / "home" / "models" / "size"
    teach = TEACH.replace("MODEL", groovy_literal(str(model)))
    early, found, taught, named, back = play(
        app, tmp_path, {"script": name_again(model)}, {"script": work.find, "select": ["Tumour"]}, {"script": teach},
        {"script": name_again(model), "cells": True}, {"script": name_again(work.folder / "fake")},
        image=work.image(), annotations=ANNOTATIONS[:1], project=str(project),
    )  # fmt: skip
    assert "No result of this image was kept" in errors(early)[0]
    assert [errors(each) for each in (found, taught, named, back)] == [[], [], [], []]
    [told] = [shown for shown in taught["dialogs"] if shown["kind"] == "taught"]
    assert set(told["types"]) == {"big", "small"}
    assert min(told["types"].values()) > 0.9  # sizes are told apart by size
    assert "not for diagnosis" in told["text"]
    [labels] = (project.parent / "cytolite").glob("*/*/labels.geojson")
    kinds = Counter(f["geometry"]["type"] for f in json.loads(labels.read_text())["features"])
    assert kinds == {"MultiPolygon": 12, "MultiPoint": 1}
    cells = named["annotations"]["Tumour"]["cells"]
    assert len(cells) == found["annotations"]["Tumour"]["children"]
    by_size = sorted(cells, key=lambda cell: cell["measurements"]["area_um2"])
    assert {cell["type"] for cell in by_size[:12]} == {"Small"}
    assert {cell["type"] for cell in by_size[-12:]} == {"Big"}
    measured = named["annotations"]["Tumour"]["measurements"]
    for name in ("big", "small"):
        n = named["annotations"]["Tumour"]["types"][name.capitalize()]
        assert measured[f"cytolite: {name}"] == n
        assert measured[f"cytolite: {name} per mm^2"] == pytest.approx(n / measured["cytolite: tissue mm^2"], rel=1e-6)
    assert measured["cytolite: tissue mm^2"] == found["annotations"]["Tumour"]["measurements"]["cytolite: tissue mm^2"]
    assert "cytolite: neoplastic" not in measured
    assert named["steps"][-1] == ["cytolite: name the cells again", name_again(model)]
    first, last = found["annotations"]["Tumour"]["types"], back["annotations"]["Tumour"]["types"]
    assert last.pop("Big") == 12  # what the user said stays
    assert sum((Counter(first) - Counter(last)).values()) == 12


def test_errors_are_shown_in_one_sentence(app, work, tmp_path):
    broken = work.folder / "broken.svs"
    broken.write_bytes(b"not a slide")
    run = {"script": work.find}
    [answer] = play(app, tmp_path, run, image=work.image(uri=broken.as_uri()), annotations=ANNOTATIONS)
    [text] = errors(answer)
    assert str(broken) in text
    assert "\n" not in text
    assert [it["children"] for it in answer["annotations"].values()] == [0, 0]


@pytest.mark.parametrize(
    ("changes", "plan", "words"),
    [
        ({"turned": True}, {}, "changed view"),
        ({"uri": "https://example.org/a.svs"}, {}, "one file of this computer"),
        ({"width": 500}, {}, "1000 x 1000 px, but the open one has 500 x 1000 px"),
        ({}, {"annotations": [{"name": "p", "wkt": "POINT (3 4)"}]}, "points or lines"),
        ({}, {"annotations": [{"name": "far", "wkt": "POLYGON ((5000 0, 5100 0, 5100 99, 5000 0))"}]}, "outside"),
        (None, {}, "Open a slide first."),
    ],
)
def test_what_cannot_be_worked_on(app, work, tmp_path, changes, plan, words):
    plan = {"annotations": [] if changes is None else ANNOTATIONS, **plan}
    select = [a.get("key") or a["name"] for a in plan["annotations"]]
    [answer] = play(
        app, tmp_path, {"script": work.find} | ({"select": select} if select else {}),
        image=None if changes is None else work.image(**changes), **plan,
    )  # fmt: skip
    [text] = errors(answer)
    assert words in text
    assert all(it["children"] == 0 for it in answer["annotations"].values())


def test_an_annotation_that_is_removed_meanwhile(app, work, tmp_path):
    [answer] = play(
        app, tmp_path, {"script": work.find, "remove": "parts"}, image=work.image(), annotations=ANNOTATIONS
    )
    assert "'Stroma' is no longer there" in errors(answer)[0]
    assert answer["annotations"]["Tumour"]["children"] == 0


def test_the_resolution_comes_from_qupath_where_the_file_has_none(app, work, tmp_path):
    """Known to QuPath alone; set by the user in QuPath; and known to nobody."""
    import tifffile

    bare = work.folder / "bare.tif"
    tifffile.imwrite(bare, tifffile.imread(work.slide), photometric="rgb", tile=(256, 256))
    areas = []
    for name, image in {
        "knows": work.image(uri=bare.as_uri()),
        "set": work.image(mpp=0.5, file_mpp=None, uri=bare.as_uri()),
        "none": work.image(mpp=None, uri=bare.as_uri()),
        "same": work.image(),
        "other": work.image(mpp=0.25, file_mpp=0.5),
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        [answer] = play(app, folder, {"script": work.find}, image=image, annotations=ANNOTATIONS[:1])
        assert ("--mpp" in (folder / "log.txt").read_text()) == (name not in {"same"})
        if name == "none":
            assert "µm per pixel" in errors(answer)[0]
        else:
            assert errors(answer) == []
            areas.append(answer["annotations"]["Tumour"]["measurements"]["cytolite: tissue mm^2"])
    assert areas[0] == areas[1] == areas[2] > areas[3] > 0  # at half the resolution a quarter of the area is searched


def test_without_a_window_it_logs_and_fails_loudly(app, work, tmp_path):
    broken = work.folder / "other.svs"
    broken.write_bytes(b"not a slide")
    [good] = play(
        app, tmp_path, {"script": work.find}, image=work.image(), annotations=ANNOTATIONS, window=False
    )  # fmt: skip
    assert good["failure"] is None
    assert good["annotations"]["Tumour"]["types"] == work.inside(HOLED)
    assert "nuclei in 2 regions" in (tmp_path / "log.txt").read_text()
    (tmp_path / "bad").mkdir()
    [bad] = play(
        app, tmp_path / "bad", {"script": work.find}, image=work.image(uri=broken.as_uri()), annotations=ANNOTATIONS,
        window=False,
    )  # fmt: skip
    assert str(broken) in bad["failure"]
    # An image without annotations is none of the failures of a batch, and never worked on as a whole.
    (tmp_path / "none").mkdir()
    [none] = play(app, tmp_path / "none", {"script": work.find}, image=work.image(), window=False)
    assert none["failure"] is None
    assert none["root"] == {}
    assert "draw a region" in (tmp_path / "none" / "log.txt").read_text()


def test_a_project_keeps_the_tables(app, work, tmp_path):
    project = tmp_path / "my project" / "project.qpproj"
    project.parent.mkdir()
    run = {"script": work.find, "select": ["Tumour"]}
    first, _ = play(app, tmp_path, run, run, image=work.image(), annotations=ANNOTATIONS, project=str(project))
    kept = sorted((project.parent / "cytolite").glob("*/*/cells.parquet"))
    assert len(kept) == 2
    assert str(kept[0].parent) in first["dialogs"][-1]["text"]
    assert kept[0].read_bytes() == kept[1].read_bytes()


def test_the_python_that_is_gone_and_the_one_that_was_never_said(app, work, tmp_path, home):
    for content, words in (('{"python": "/gone/python"}', "cannot be started"), (None, "which Python has cytolite")):
        (home / "qupath.json").write_text(content) if content else (home / "qupath.json").unlink()
        folder = tmp_path / words.split()[0]
        folder.mkdir()
        [answer] = play(app, folder, {"script": work.find}, image=work.image(), annotations=ANNOTATIONS)
        assert words in errors(answer)[0]
        assert "Set up" in errors(answer)[0]


# ---- Import a result ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results(work) -> Path:
    """Results of the command line: the whole slide in `whole`, the regions in `regions`."""
    regions = work.folder / "regions.geojson"
    features = [
        {"type": "Feature", "properties": {"objectType": "annotation", "name": name}, "geometry": mapping(region)}
        for name, region in (("Tumour", HOLED), ("Stroma", PARTS))
    ]
    regions.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    for name, options in {"whole": {}, "regions": {"roi": regions}}.items():
        package.segment(work.slide, work.folder / name, model=work.folder / "fake", tissue="all", **options)
    return work.folder


def file_of(folder: Path, name: str) -> str:
    return str(next((folder / name).glob("*/cells.geojson.gz")))


def test_import_a_result(app, work, results, tmp_path):
    whole, regions = play(
        app, tmp_path, {"script": import_result(file_of(results, "whole"))},
        {"script": import_result(file_of(results, "regions")), "cells": True},
        image=work.image(), annotations=ANNOTATIONS, foreign=FOREIGN,
    )  # fmt: skip
    n = len(work.points)
    assert whole["root"] == {"null": 3, "cytolite": n}
    # The regions take over what lies in them; the rest of the whole image's cells stays.
    inside = sum(sum(work.inside(region).values()) for region in (HOLED, PARTS))
    assert regions["root"] == {"null": 3, "cytolite": n - inside}
    check_cells(regions["annotations"]["parts"]["cells"], work, PARTS)
    assert [name for name, _ in regions["steps"]] == ["cytolite: import a result"] * 2


def test_what_cannot_be_imported(app, work, results, tmp_path):
    good = Path(file_of(results, "whole"))
    damaged, foreign, far = (tmp_path / name for name in ("damaged.geojson.gz", "foreign.geojson", "far.geojson"))
    damaged.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    square = {"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 0]]]}
    feature = {"type": "Feature", "geometry": square, "properties": {"objectType": "detection", "name": "cytolite"}}
    foreign.write_text(json.dumps({"features": [feature | {"properties": {"name": "StarDist"}}]}))
    far.write_text(
        json.dumps(
            {"features": [feature, feature | {"geometry": square | {"coordinates": [square["coordinates"][0]] * 2}}]}
        )
    )
    paths = [damaged, foreign, far, tmp_path / "missing.gz", Path(file_of(results, "regions"))]
    answers = play(
        app, tmp_path, *({"script": import_result(path)} for path in paths),
        image=work.image(), annotations=ANNOTATIONS[:1], foreign=FOREIGN,
    )  # fmt: skip
    words = [
        "whole cells.geojson.gz",
        "object 1 is not one of cytolite's",
        "cannot be read",
        "cannot be read",
        "no annotation of that name",
    ]
    for answer, word in zip(answers, words, strict=True):
        [text] = errors(answer)
        assert word in text
        assert answer["root"] == {"null": 3}  # nothing was changed
        assert answer["annotations"]["Tumour"]["children"] == 0


def test_cells_with_a_nucleus_of_their_own(app, work, tmp_path):
    """Not what cytolite writes today, but what QuPath calls a cell; with the order of keys turned around."""
    square = [[[0, 0], [90, 0], [90, 90], [0, 90], [0, 0]]]
    nucleus = [[[10, 10], [20, 10], [20, 20], [10, 10]]]
    feature = {
        "properties": {
            "measurements": {"a": "NaN", "b": 0.25}, "name": "cytolite", "isLocked": True,
            "classification": {"color": [1, 2, 3], "name": "Só"}, "objectType": "cell",
        },
        "nucleusGeometry": {"coordinates": nucleus, "type": "Polygon"},
        "geometry": {"coordinates": square, "type": "Polygon"}, "id": "x", "type": "Feature",
    }  # fmt: skip
    path = tmp_path / "cells.geojson"
    path.write_text(json.dumps({"features": [feature], "type": "FeatureCollection"}), encoding="utf-8")
    [answer] = play(app, tmp_path, {"script": import_result(path)}, image=work.image())
    assert errors(answer) == []
    assert answer["root"] == {"cytolite": 1}
    assert "Só" in answer["classes"]


# ---- the server -----------------------------------------------------------------------------------------------------


class FakeServer:
    """`cytolite serve`, as the scripts see it: three polls until a job is done."""

    def __init__(self, home: Path, result: Path, refuse: bool = False) -> None:
        self.calls: list[tuple[str, str]] = []
        self.jobs: list[dict[str, Any]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self, code: int, content: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def handle_any(self) -> None:
                if server.dies_after == len(server.calls):
                    self.close_connection = True
                    server.dying.set()
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                server.calls.append((self.command, self.path))
                if self.path == "/health":
                    self.answer(200, b'{"status": "ok", "version": "0.1.0", "model": "nuclei-light 0.2.1"}')
                elif self.headers["Authorization"] != "Bearer secret" or refuse:
                    self.answer(403, b'{"detail": "not in an allowed folder"}')
                elif self.command == "POST":
                    server.jobs.append(json.loads(body))
                    self.answer(200, b'{"id": "j1"}')
                elif self.path.endswith("cells.geojson.gz"):
                    self.answer(200, (result / "cells.geojson.gz").read_bytes())
                else:
                    self.answer(200, json.dumps(server.state(result)).encode())

            do_GET = do_POST = do_DELETE = handle_any  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        home.mkdir(exist_ok=True)
        self.polls_needed = 3
        self.dies_after = -1
        self.dying = threading.Event()
        url = f"http://127.0.0.1:{self._http.server_port}"
        (home / "server.json").write_text(json.dumps({"url": url, "token": "secret"}))

    def state(self, result: Path) -> dict[str, Any]:
        polls = self.calls.count(("GET", "/jobs/j1"))
        state = "queued" if polls == 1 else "running" if polls < self.polls_needed else "done"
        done = {"done_mm2": min(1.0, polls / 4), "total_mm2": 1.0, "error": None, "result": None}
        return {"id": "j1", "state": state, **done} | ({"result": str(result)} if state == "done" else {})

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()


PLAIN = find_nuclei({"tissue": "all"})  # leaves the model to the server


def test_a_running_server_does_the_work(app, work, results, home, tmp_path):
    server = FakeServer(home, Path(file_of(results, "regions")).parent)
    [answer] = play(app, tmp_path, {"script": PLAIN}, image=work.image(), annotations=ANNOTATIONS)
    server.stop()
    assert errors(answer) == []
    assert answer["annotations"]["parts"]["types"] == work.inside(PARTS)
    assert answer["annotations"]["parts"]["measurements"]["cytolite: nuclei"] == sum(work.inside(PARTS).values())
    [job] = server.jobs
    assert (job["slide"], job["mpp"], job["output"], job["tissue"]) == (str(work.slide), None, None, "all")
    assert [f["properties"]["name"] for f in job["roi"]["features"]] == ["Tumour", "Stroma"]
    sent = [shapely.geometry.shape(f["geometry"]) for f in job["roi"]["features"]]
    assert all(
        shapely.equals_exact(a.normalize(), b.normalize(), 1e-3) or a.symmetric_difference(b).area < 1
        for a, b in zip(sent, (HOLED, PARTS), strict=True)
    )
    assert [share for share in answer["bar"] if share >= 0] == [0.25, 0.5]


def test_cancel_reaches_the_server(app, work, results, home, tmp_path):
    server = FakeServer(home, Path(file_of(results, "regions")).parent)
    server.polls_needed = 1000
    [answer] = play(app, tmp_path, {"script": PLAIN, "cancel_at": 0.5}, image=work.image(), annotations=ANNOTATIONS)
    server.stop()
    assert server.calls[-1] == ("DELETE", "/jobs/j1")
    assert answer["annotations"]["Tumour"]["children"] == 0
    assert errors(answer) == []


@pytest.mark.parametrize("kind", ["refuses", "is gone", "nonsense", "none"])
def test_without_an_answer_a_process_does_the_work(app, work, results, home, tmp_path, kind):
    if kind == "nonsense":
        (home / "server.json").write_text("{")
    elif kind != "none":
        server = FakeServer(home, results, refuse=kind == "refuses")
        if kind == "is gone":
            server.stop()
    small = [{"name": "small", "wkt": shapely.box(100, 100, 200, 200).wkt}]
    [answer] = play(app, tmp_path, {"script": PLAIN}, image=work.image(), annotations=small)
    assert errors(answer) == []
    log = (tmp_path / "log.txt").read_text()
    assert "-m cytolite segment" in log
    assert ("running a process instead" in log) == (kind == "refuses")
    assert ("No server runs" in log) == (kind != "refuses")


@pytest.mark.parametrize("calls", [2, 4])
def test_a_server_that_dies_is_told(app, work, results, home, tmp_path, calls):
    """In the middle of a job: a sentence, and nothing of the image is changed."""
    server = FakeServer(home, Path(file_of(results, "regions")).parent)
    server.dies_after = calls
    [answer] = play(app, tmp_path, {"script": PLAIN}, image=work.image(), annotations=ANNOTATIONS)
    server.stop()
    assert server.dying.is_set()
    assert "stopped answering" in errors(answer)[0]
    assert answer["annotations"]["Tumour"]["children"] == 0


def test_a_server_that_works_in_another_way_is_left_alone(app, work, results, home, tmp_path):
    server = FakeServer(home, Path(file_of(results, "regions")).parent)
    small = [{"name": "small", "wkt": shapely.box(100, 100, 200, 200).wkt}]
    [answer] = play(app, tmp_path, {"script": work.find}, image=work.image(), annotations=small)
    server.stop()
    assert errors(answer) == []
    assert server.jobs == []
    assert "-m cytolite segment" in (tmp_path / "log.txt").read_text()


@pytest.fixture
def real_server(work, home):
    """The real `cytolite serve`, with a model that is slow enough to be stopped."""
    pytest.importorskip("uvicorn", reason="needs the extra serve")
    words = ["serve", "--model", work.folder / "slow" / "fake", "--allow", work.folder, "--workers", "1"]
    server = subprocess.Popen([sys.executable, "-m", "cytolite", *map(str, words)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        while not (home / "server.json").is_file():
            assert server.stdout.readline(), "the server ended before it listened"
        yield server
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def test_the_real_server_is_cancelled_and_then_dies(app, work, real_server, tmp_path):
    """Cancel in the middle, done, killed in the middle, and without it: never half a result."""
    run = {"script": PLAIN, "select": ["Tumour"]}
    small = {"script": work.find, "select": ["Tumour"]}
    cancelled, done, killed, without = play(
        app, tmp_path, run | {"cancel_at": 0.1}, run | {"cells": True},
        {"script": PLAIN, "select": ["parts"], "crash_at": 0.1, "pid": real_server.pid}, small,
        image=work.image(), annotations=ANNOTATIONS,
    )  # fmt: skip
    assert [shown["kind"] for shown in cancelled["dialogs"]] == ["cancelled"]
    assert 0 < max(cancelled["bar"]) < 1
    assert cancelled["annotations"]["Tumour"]["children"] == 0
    assert errors(done) == []
    check_cells(done["annotations"]["Tumour"]["cells"], work, HOLED)
    assert "stopped answering" in errors(killed)[0]
    assert killed["annotations"]["parts"]["children"] == 0
    assert killed["annotations"]["Tumour"]["types"] == work.inside(HOLED)
    assert errors(without) == []
    log = (tmp_path / "log.txt").read_text()
    assert "The server has fake 1 loaded" in log
    assert "No server runs" in log


# ---- paths ----------------------------------------------------------------------------------------------------------


def test_groovy_reads_any_text_back(app, tmp_path):
    """What the workflow's step holds is a Groovy string of JSON: paths of all systems come back as they are."""
    paths = [r"C:\Users\new\python.exe", "/a b/it's/$HOME/${x}", "/é/日本/😀", 'quote " and \\u0041', "//server/share"]
    out = tmp_path / "out.json"
    call = groovy_literal("qupath.ext.cytolite.Cytolite.findNuclei")
    lines = [f"new File({groovy_literal(str(out))}).setText(groovy.json.JsonOutput.toJson(["]
    for path in paths:
        request = groovy_literal(json.dumps({"model": path}, ensure_ascii=False))
        lines.append(f"Eval.me(qupath.ext.cytolite.Request.fromJson({request}).script().replace({call}, '')),")
    lines.append("]), 'UTF-8')")
    [answer] = play(app, tmp_path, {"script": "\n".join(lines)}, window=False)
    assert answer["failure"] is None
    assert [json.loads(text)["model"] for text in json.loads(out.read_text(encoding="utf-8"))] == paths


# ---- a real slide ---------------------------------------------------------------------------------------------------


def test_a_real_slide(app, work, shared_data, tmp_path):
    """Two regions of a TCGA slide with the embedded model: what QuPath gets is what the command writes."""
    slide = shared_data / "slides" / "TCGA-V5-A7RE_stitched_40x.tiff"
    regions = {"a": shapely.box(9000, 3000, 9900, 3800), "b": shapely.Point(7000, 4000).buffer(400)}
    [answer] = play(
        app, tmp_path, {"script": find_nuclei({}), "cells": True},
        image={"uri": slide.as_uri(), "width": 12544, "height": 7744, "mpp": 0.2485},
        annotations=[{"name": name, "wkt": region.wkt} for name, region in regions.items()],
    )  # fmt: skip
    assert errors(answer) == []
    roi = tmp_path / "roi.geojson"
    features = [{"type": "Feature", "properties": {"name": n}, "geometry": mapping(r)} for n, r in regions.items()]
    roi.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    done = cytolite("segment", slide, "-o", tmp_path / "out", "--roi", roi)
    assert done.code == 0, done.err
    from cytolite.interop.parquet import read_cells

    table = read_cells(next((tmp_path / "out").glob("*/cells.parquet")))
    for index, name in enumerate(regions):
        mine = table.select(np.flatnonzero(table.regions == index))
        found = answer["annotations"][name]
        assert found["children"] == len(mine) > 50
        assert found["types"] == Counter(CELL_TYPES[t - 1].qupath_class for t in mine.types)
        outlines = [wkt.loads(cell["wkt"]) for cell in found["cells"]]
        for i, outline in enumerate(outlines):
            assert outline.symmetric_difference(shapely.Polygon(mine.outline(i))).area < 0.1 + 1e-3 * outline.area


if os.name == "nt":  # pragma: no cover - the stand-ins' temporary folders are named as on Linux and macOS
    pytest.skip("written for Linux and macOS", allow_module_level=True)
