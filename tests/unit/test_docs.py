"""The documentation names what exists: options, files and other pages."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cytolite.config import EvaluateSettings, RelabelSettings, SegmentSettings, Settings, SpatialSettings
from fakes import fake_bundle, paint, random_nuclei, write_slide

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize(
    ("verb", "kind", "own"),
    [
        ("segment", SegmentSettings, {"output", "slides", "dry_run", "cluster", "jobs", "config", "progress"}),
        ("relabel", RelabelSettings, set()),
        ("spatial", SpatialSettings, {"output", "slides", "by", "config"}),
        ("evaluate", EvaluateSettings, {"truth", "predicted", "model", "baseline", "output", "page", "config"}),
    ],
)
def test_every_option_is_in_the_reference(verb: str, kind: type[Settings], own: set[str]):
    reference = (ROOT / "docs" / "reference" / "command-line.md").read_text()
    section = reference.split(f"## cytolite {verb}\n")[1].split("\n## ")[0]
    options = {name.replace("-", "_") for name in re.findall(r"^\| `--([\w-]+)`", section, re.MULTILINE)}
    assert options == {*kind.model_fields, *own}


def test_columns_of_the_audit_are_in_the_reference():
    pytest.importorskip("h5py", reason="needs the extra train")
    from cytolite.relabel.audit import SCHEMA

    table = (
        (ROOT / "docs" / "reference" / "file-formats.md").read_text().split("**`audit.parquet`**")[1].split("**`")[0]
    )
    named = {n for row in re.findall(r"^\| (`[^|]*`) \|", table, re.MULTILINE) for n in re.findall(r"`(\w+)`", row)}
    assert named == {n for n in SCHEMA.names if not n.startswith("p_") or n in {"p_neoplastic", "p_dead"}}


def test_every_metric_and_count_is_explained():
    from cytolite.metrics.counts import FIELDS
    from cytolite.metrics.scores import METRICS

    metrics = (ROOT / "docs" / "concepts" / "metrics.md").read_text()
    for metric in METRICS:
        plain = metric.full_name.replace("dq", "pq").replace("sq", "pq")
        assert f"`{plain}`" in metrics, metric.full_name
    formats = (ROOT / "docs" / "reference" / "file-formats.md").read_text().split("## A report of evaluate")[1]
    for name in FIELDS:
        assert f"`{name}`" in formats, name


def test_every_spatial_measure_is_explained():
    pytest.importorskip("scipy", reason="needs the extra spatial")
    from cytolite.spatial import analysis  # noqa: F401 - registers all
    from cytolite.spatial.definition import MEASURES

    pages = "".join(page.read_text() for page in (ROOT / "docs" / "concepts" / "spatial").glob("*.md"))
    for name in MEASURES:
        assert re.search(rf"`{name}(_\w+)?`", pages), name


def test_every_verb_is_in_the_reference():
    from cytolite.cli import app

    reference = (ROOT / "docs" / "reference" / "command-line.md").read_text()
    for verb in [name for name in app if not name.startswith("-")]:
        assert re.search(rf"cytolite {verb}\b", reference), verb


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_examples_can_be_parsed(page):
    for example in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        compile(example, str(page), "exec")


def test_columns_in_the_reference_are_those_that_are_written():
    from cytolite.celltypes import DEFAULT
    from cytolite.decoding.features import FEATURE_NAMES
    from cytolite.interop.parquet import fixed_columns

    table = (ROOT / "docs" / "reference" / "file-formats.md").read_text().split("## cells.parquet")[1].split("## ")[0]
    named = {
        name for row in re.findall(r"^\| (`[^|]*`) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    written = {*fixed_columns(DEFAULT), *FEATURE_NAMES, "bbox", "embedding"}
    between = {name for name in written if name.startswith("p_")} - named  # "p_neoplastic ... p_dead"
    assert named == written - between


@pytest.mark.filterwarnings("ignore::UserWarning")  # what is painted has no stain's colours
def test_the_python_how_to_runs(tmp_path, monkeypatch):
    matplotlib = pytest.importorskip("matplotlib", reason="needs the extra report")
    pytest.importorskip("geopandas", reason="needs the extra spatialdata")
    matplotlib.use("Agg")
    instances, types = random_nuclei(np.random.default_rng(3), (400, 500), 100)
    image = paint(instances, types)
    bundle = fake_bundle(tmp_path).path
    Image.fromarray(image).save(tmp_path / "tile.png")
    write_slide(tmp_path / "slide.tif", image)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cytolite.bundle._default_name", lambda _: bundle)

    names: dict[str, Any] = {}
    for example in re.findall(r"```python\n(.*?)```", (ROOT / "docs/how-to/python.md").read_text("utf-8"), re.DOTALL):
        exec(example, names)
    assert len(names["cells"]) == len(names["geo"]) == len(names["frame"]) > 50
    assert names["labels"].shape == image.shape[:2]
    assert sum(names["cells"].counts().values()) == names["result"].summary["total"]["cells"]
    assert Image.open("cells.png").getbbox()
