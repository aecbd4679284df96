"""What a person changes in the viewer, and what it compares: labels that `teach` takes, layers, two results."""

from __future__ import annotations

import json
import shutil
import struct
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import tifffile

pytest.importorskip("fastapi", reason="needs the extra viewer")
pytest.importorskip("httpx2", reason="asks a server without a network by httpx2")

from fastapi.testclient import TestClient

from cytolite import pipeline
from cytolite.cells import CellTable
from cytolite.config import SegmentSettings
from cytolite.errors import InputError, OutputError
from cytolite.interop.parquet import CellsWriter, iter_cells, read_cells
from cytolite.interop.result import Result
from cytolite.interop.result_folder import find_results
from cytolite.loopback.allowed import AllowedFolders
from cytolite.teach.labels import match, read_labels
from cytolite.teach.suggest import suggest
from cytolite.viewer.app import make_app
from cytolite.viewer.catalogue import Catalogue
from cytolite.viewer.cell_index import UNCERTAINTY, CellIndex
from cytolite.viewer.compare import changes, pairs
from cytolite.viewer.corrections import DELETED, Corrections, labels_file
from cytolite.viewer.layout import STEPS, UNKNOWN
from cytolite.viewer.teaching import suggestions
from fakes import fake_bundle, paint, random_nuclei, write_slide


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``slide.tiff`` and a real result of it in ``out/slide``."""
    folder = tmp_path_factory.mktemp("corrections")
    slide = write_slide(
        folder / "slide.tiff", paint(*random_nuclei(np.random.default_rng(3), (700, 1300), 300)), mpp=0.5
    )
    settings = SegmentSettings(model=str(fake_bundle(folder).path), tissue="all", quiet=True)
    pipeline.segment_slides([str(slide)], folder / "out", settings)
    return folder


@pytest.fixture
def result(once: Path, tmp_path: Path) -> Path:
    """A copy of the result that a test may write beside."""
    shutil.copytree(once / "out", tmp_path / "out")
    return tmp_path / "out" / "slide"


def client_of(once: Path, *results: Path) -> TestClient:
    catalogue = Catalogue(results, AllowedFolders.of([once, *(r.parent for r in results)]))
    return TestClient(make_app(catalogue), raise_server_exceptions=False)


@pytest.fixture
def client(once: Path, result: Path) -> TestClient:
    return client_of(once, result)


def crescents(tmp_path: Path, n: int = 6) -> CellIndex:
    """Nuclei whose middle lies outside of them, in that of a round one each: only a point inside tells them apart."""
    arc = np.linspace(-2.2, 2.2, 20)
    places = np.array([[100 + 100 * i, 100] for i in range(n)])
    circle = np.column_stack([np.cos(arc), np.sin(arc)])
    bent, whole = np.concatenate([20 * circle, 14 * circle[::-1]]), 10 * circle
    rings = [*(places[:, None] + bent), *(places[:, None] + whole)]
    centroids = np.array([shapely.get_coordinates(shapely.Polygon(ring).centroid)[0] for ring in rings])
    assert not shapely.intersects_xy(shapely.Polygon(rings[0]), *centroids[0])
    table = CellTable(
        vertices=np.concatenate(rings),
        offsets=np.concatenate([[0], np.cumsum([len(ring) for ring in rings])]),
        centroids=centroids,
        types=np.ones(2 * n, np.uint8),
        type_probs=np.full((2 * n, 7), 1 / 7, np.float32),
        area_um2=np.full(2 * n, 30, np.float32),
        regions=np.full(2 * n, -1, np.int32),
        features={},
    )
    path = tmp_path / "cells.parquet"
    with CellsWriter(path) as writer:
        writer.append(table)
    return CellIndex(path)


# ---- labels ----------------------------------------------------------------------------------------------------------


def test_teach_takes_exactly_what_was_given(client: TestClient, result: Path) -> None:
    cells = read_cells(result / "cells.parquet")
    given = [[5, "lymphocyte"], [0, "dead"], [9, "Plasma  Cell"], [2, DELETED], [7, cells.type[7]]]
    told = client.post("/api/results/0/labels", json={"changes": given}).json()
    assert told["path"] == str(labels_file(result))
    assert list(told["new_types"]) == ["plasma cell"]
    opened = Result(result)
    labels = read_labels(labels_file(result), opened.type_set)
    found = match(labels, cells, opened.mpp, opened.size_px, "labels")
    assert dict(zip(found.rows.tolist(), found.names.tolist(), strict=True)) == {
        0: "dead", 5: "lymphocyte", 7: cells.type[7], 9: "plasma cell",
    }  # fmt: skip
    assert labels.colours["plasma cell"] == tuple(told["new_types"]["plasma cell"])
    assert not list(result.glob("*label*"))  # beside it, never in it


def test_a_nucleus_around_another_keeps_its_own_label(tmp_path: Path) -> None:
    index = crescents(tmp_path)
    path = tmp_path / "x.labels.geojson"
    Corrections(path, index, 0.25).change([(i, "dead" if i < 6 else "lymphocyte") for i in range(12)])
    table = read_cells(index.path)
    found = match(read_labels(path, index.type_set), table, 0.25, (1000, 1000), "labels")
    assert found.names.tolist() == ["dead"] * 6 + ["lymphocyte"] * 6
    assert Corrections(path, index, 0.25).names() == {i: "dead" if i < 6 else "lymphocyte" for i in range(12)}


def test_what_was_done_can_be_taken_back_and_done_again(tmp_path: Path) -> None:
    corrections = Corrections(tmp_path / "x.labels.geojson", crescents(tmp_path), 0.25)
    first = corrections.change([(0, "dead"), (1, "dead")])
    second = corrections.change([(1, "lymphocyte"), (1, DELETED), (2, "dead")])
    redo = corrections.change(second)
    assert corrections.names() == {0: "dead", 1: "dead"}
    corrections.change(redo)
    assert corrections.names() == {0: "dead", 1: DELETED, 2: "dead"}
    corrections.change(second)
    corrections.change(first)
    assert corrections.names() == {}
    assert not corrections.path.exists()  # no labels, no file


def test_what_others_wrote_into_the_file_stays(tmp_path: Path) -> None:
    index, path = crescents(tmp_path), tmp_path / "x.labels.geojson"

    def feature(geometry: Any, kind: Any) -> dict[str, Any]:
        return {"type": "Feature", "geometry": geometry, "properties": {"classification": kind}}

    def point(*xy: float) -> dict[str, Any]:
        return {"type": "Point", "coordinates": list(xy)}

    area = json.loads(json.dumps(feature(shapely.box(0, 0, 9, 9).__geo_interface__, {"name": "Tumor"})))
    far, near = feature(point(9e5, 3), {"name": "Dead"}), feature(point(119, 100), "Stroma: bent")
    odd = [None, 3, {"type": "Feature"}, feature({"type": "Point", "coordinates": "x"}, "A"), feature(point(1), "A")]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [area, far, near, *odd]}))
    corrections = Corrections(path, index, 0.25)
    assert corrections.names() == {0: "stroma bent"}
    assert corrections.others() == 2 + len(odd)
    corrections.change([(1, "dead"), (0, None)])
    after = json.loads(path.read_bytes())["features"]
    assert [feature for feature in after if feature not in (area, far, *odd)] == after[-1:]
    assert Corrections(path, index, 0.25).names() == {1: "dead"}


def test_what_another_program_changed_is_read_again_before_it_is_written(tmp_path: Path) -> None:
    index, path = crescents(tmp_path), tmp_path / "x.labels.geojson"
    one, other = Corrections(path, index, 0.25), Corrections(path, index, 0.25)
    one.change([(0, "dead")])
    other.change([(1, "lymphocyte")])
    one.change([(2, "dead")])
    assert one.names() == other.names() == {0: "dead", 1: "lymphocyte", 2: "dead"}


@pytest.mark.parametrize("content", [b"", b"{", b'{"type": "FeatureCollection"', b"\xff\xff", b"[" * 5000])
def test_a_broken_file_is_said_and_left_as_it_is(client: TestClient, result: Path, content: bytes) -> None:
    labels_file(result).write_bytes(content)
    answer = client.post("/api/results/0/labels", json={"changes": [[0, "dead"]]})
    assert answer.status_code == 409
    assert "slide.labels.geojson" in answer.json()["error"]
    assert labels_file(result).read_bytes() == content


def test_what_cannot_be_written_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corrections = Corrections(tmp_path / "x.labels.geojson", crescents(tmp_path), 0.25)
    corrections.change([(0, "dead")])
    before = corrections.path.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cytolite.viewer.corrections.orjson.dumps", full)
    with pytest.raises(OutputError, match="No space left"):
        corrections.change([(1, "dead")])
    assert corrections.names() == {0: "dead"}
    assert corrections.path.read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ([[99_999, "dead"]], 409, "no nucleus in row 99999"),
        ([[-1, "dead"]], 409, "no nucleus in row -1"),
        ([[0, " : "]], 409, "no name of a type"),
        ([[0, "tumour*"]], 409, "no name of a type"),
        ([[0, "a\x07"]], 409, "no name of a type"),
        ([[0, "x" * 61]], 409, "1 to 60 characters"),
        ([[0]], 422, "not understood"),
        ([[0, 3]], 422, "not understood"),
        ("x", 422, "not understood"),
        ([[0, "dead"]] * 100_001, 422, "not understood"),
    ],
)
def test_labels_that_are_none_are_refused_in_a_sentence(
    client: TestClient, result: Path, changes: Any, code: int, says: str
) -> None:
    answer = client.post("/api/results/0/labels", json={"changes": changes})
    assert answer.status_code == code
    assert says in answer.json()["error"]
    assert not labels_file(result).exists()


def test_an_area_chooses_what_is_shown_of_it(client: TestClient, result: Path) -> None:
    cells = read_cells(result / "cells.parquet")
    area = shapely.Point(500, 300).buffer(220)
    sure = cells.type_probs.max(axis=1)
    inside = shapely.intersects_xy(area, *cells.centroids.T)
    url = "/api/results/0/select?hidden=1&hidden=3&least=0.5"
    rows = client.post(url, json=area.__geo_interface__).json()["rows"]
    assert rows == np.flatnonzero(inside & ~np.isin(cells.types, [1, 3]) & (sure >= 0.5)).tolist()
    assert client.post("/api/results/0/select", json={"type": "Point", "coordinates": [1, 2]}).status_code == 409


def test_suggestions_are_those_of_teach_without_what_is_labelled(client: TestClient, result: Path) -> None:
    cells = read_cells(result / "cells.parquet")
    wanted = suggest(cells, 12).tolist()
    path = result / "cells.parquet"
    assert suggestions(path, 12, set()).tolist() == wanted
    client.post("/api/results/0/labels", json={"changes": [[row, "dead"] for row in wanted[:3]]})
    told = client.get("/api/results/0/suggestions?n=12").json()["cells"]
    assert len(told) == 12
    assert not {row for row, _, _ in told} & set(wanted[:3])
    np.testing.assert_allclose([at[1:] for at in told], cells.centroids[[at[0] for at in told]], atol=0.06)
    assert suggestions(path, 5, set(range(len(cells)))).tolist() == []


def test_suggestions_do_not_depend_on_how_cells_are_read(result: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = result / "cells.parquet"
    wanted = suggestions(path, 8, {1, 2}).tolist()
    monkeypatch.setattr("cytolite.viewer.teaching.iter_cells", lambda path: iter_cells(path, 7))
    assert suggestions(path, 8, {1, 2}).tolist() == wanted


def test_labels_are_taught_and_name_a_result_beside_it(client: TestClient, result: Path) -> None:
    pytest.importorskip("sklearn", reason="needs the extra teach")
    refused = client.post("/api/results/0/teach", json={})
    assert "no nucleus" in refused.json()["error"].lower()
    cells = read_cells(result / "cells.parquet")
    order = np.argsort(cells.area_um2)
    given = [[int(row), "small"] for row in order[:15]] + [[int(row), "large"] for row in order[-15:]]
    client.post("/api/results/0/labels", json={"changes": given})
    assert client.post("/api/results/0/name", json={"model": 0}).status_code == 404
    told = client.post("/api/results/0/teach", json={"keep": False}).json()
    assert told["report"]["labels"] == {"large": 15, "small": 15}
    assert told["report"]["macro_f1"]["value"] > 0.8
    named = client.post("/api/results/0/name", json={"model": told["number"]}).json()
    assert named == {"result": 1, "path": str(result.parent / "taught-1-results" / "slide")}
    assert set(client.get("/api/results/1").json()["types"]) == {"large", "small"}
    compared = client.get("/api/compare/0/1").json()
    assert (compared["both"], compared["only_a"], compared["only_b"]) == (len(cells), 0, 0)


# ---- two results -----------------------------------------------------------------------------------------------------


def test_points_are_matched_where_each_is_the_others_nearest() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0, 300, (200, 2)), rng.uniform(0, 300, (150, 2))
    away = np.hypot(*(a[:, None] - b[None]).transpose(2, 0, 1))
    both = (away == away.min(axis=1, keepdims=True)) & (away == away.min(axis=0, keepdims=True)) & (away <= 10)
    rows_a, rows_b = pairs(a, b, 10)
    assert list(zip(rows_a.tolist(), rows_b.tolist(), strict=True)) == list(
        zip(*map(list, np.nonzero(both)), strict=True)
    )
    for empty in (np.empty((0, 2)),):
        assert [len(rows) for rows in pairs(a, empty, 10)] == [len(rows) for rows in pairs(empty, a, 10)] == [0, 0]


def test_what_changed_is_counted_and_placed(result: Path, tmp_path: Path) -> None:
    cells = read_cells(result / "cells.parquet")
    kept = np.ones(len(cells), bool)
    kept[[3, 4]] = False
    other = cells.select(kept)
    renamed = np.flatnonzero(other.types == 1)[:5]
    assert len(renamed) == 5
    other.types[renamed] = 3
    with CellsWriter(tmp_path / "b.parquet") as writer:
        writer.append(other)
    told = changes(CellIndex(result / "cells.parquet"), CellIndex(tmp_path / "b.parquet"), 0.5)
    assert (told["both"], told["only_a"], told["only_b"], told["renamed"]) == (len(cells) - 2, 2, 0, 5)
    moves = {(from_, to): n for from_, to, n in told["moves"]}
    names = cells.type_names
    assert moves[names[0], names[2]] == 5
    assert sum(moves.values()) == told["both"]
    assert sorted(place[:2] for place in told["places"][:5]) == sorted(other.centroids[renamed].round(1).tolist())
    assert [place[2:] for place in told["places"][5:]] == [[cells.type[3], None], [cells.type[4], None]]


def test_results_of_two_slides_are_not_compared(once: Path, result: Path, tmp_path: Path) -> None:
    write_slide(tmp_path / "other.tiff", np.full((300, 400, 3), 230, np.uint8), mpp=0.5)
    settings = SegmentSettings(model=str(once / "fake"), tissue="all", quiet=True)
    pipeline.segment_slides([str(tmp_path / "other.tiff")], tmp_path / "two", settings)
    client = client_of(once, result, tmp_path / "two" / "other")
    answer = client.get("/api/compare/0/1")
    assert answer.status_code == 409
    assert "compare results of one slide" in answer.json()["error"]
    assert client.get("/api/compare/0/7").status_code == 404


# ---- colours and layers ----------------------------------------------------------------------------------------------


def test_every_measure_is_told_in_steps(client: TestClient, result: Path) -> None:
    cells, names = read_cells(result / "cells.parquet"), client.get("/api/results/0").json()["measures"]
    assert names[0] == UNCERTAINTY
    assert {"area_um2", "p_dead", "solidity"} < set(names)
    two = np.sort(cells.type_probs, axis=1)
    wanted = {
        "area_um2": cells.area_um2, "p_dead": cells.type_probs[:, 6], UNCERTAINTY: 1 - (two[:, -1] - two[:, -2]),
        "solidity": cells.features["solidity"],
    }  # fmt: skip
    for name, values in wanted.items():
        data = client.get(f"/api/results/0/measures/{name}").content
        low, high = struct.unpack("<2f", data[:8])
        steps = np.frombuffer(data, np.uint8, offset=8)
        assert (steps == UNKNOWN).sum() == (~np.isfinite(values)).sum()
        known = steps != UNKNOWN
        shown = low + steps[known] / STEPS * (high - low)
        np.testing.assert_allclose(shown, np.clip(values[known], low, high), atol=(high - low) / STEPS)
    for name in ("nothing", "geometry", "x_px", "cell_type"):
        assert client.get(f"/api/results/0/measures/{name}").status_code == 409


def test_a_measure_that_is_not_known_of_all_is_unknown_there(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    index = crescents(tmp_path)
    table = pq.read_table(index.path)
    values = pa.array([None, float("nan"), *range(10)], pa.float64())
    pq.write_table(table.append_column("own", values), index.path)
    again = CellIndex(index.path)
    steps = np.frombuffer(again.steps("own"), np.uint8, offset=8)
    assert steps[:2].tolist() == [UNKNOWN, UNKNOWN]
    assert (steps[2], steps[-1]) == (0, STEPS)


def test_a_region_has_a_histogram_of_what_is_asked(client: TestClient, result: Path) -> None:
    cells = read_cells(result / "cells.parquet")
    area = shapely.box(0, 0, 700, 700)
    rows = client.post("/api/results/0/measure?by=solidity", json=area.__geo_interface__).json()["rows"]
    inside = shapely.intersects_xy(area, *cells.centroids.T)
    values = cells.features["solidity"].astype(float)
    low, high = np.percentile(values, (1, 99))
    wanted, _ = np.histogram(np.clip(values[inside], low, high), 24, (low, high))
    told = rows[0]["histogram"]
    assert sum(told["counts"]) == inside.sum()
    assert np.abs(np.cumsum(told["counts"]) - np.cumsum(wanted)).max() <= 1  # a value on a border of two bins
    assert client.post("/api/results/0/measure?by=x", json=area.__geo_interface__).status_code == 409


def test_layers_are_what_segment_and_spatial_wrote(client: TestClient, result: Path) -> None:
    page = client.get("/api/results/0").json()
    assert page["outlines"] == ["tissue", "artefacts"]
    assert page["densities"] == []
    (result / "spatial").mkdir()
    region = {"type": "Feature", "geometry": shapely.box(1, 2, 30, 40).__geo_interface__,
              "properties": {"name": "stroma", "classification": {"name": "stroma", "color": [1, 2, 3]}}}  # fmt: skip
    (result / "spatial" / "regions.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": [region, {}]})
    )
    density = np.zeros((2, 35, 65), np.float32)
    density[1, 10:20, 30:40] = np.linspace(10, 1000, 100).reshape(10, 10)
    about = {"axes": "CYX", "PhysicalSizeX": 10.0, "PhysicalSizeY": 10.0, "Channel": {"Name": ["a/b", "c"]}}
    tifffile.imwrite(result / "spatial" / "density.ome.tif", density, ome=True, metadata=about)
    page = client.get("/api/results/0").json()
    assert page["outlines"] == ["tissue", "artefacts", "compartments"]
    assert (page["densities"], page["density_px"], page["density_size"]) == (["a/b", "c"], 20.0, [65, 35])
    [told] = client.get("/api/results/0/layers/compartments").json()["outlines"]
    assert (told["name"], told["colour"]) == ("stroma", [1, 2, 3])
    from io import BytesIO

    from PIL import Image

    answer = client.get("/api/results/0/density/c.png")
    picture = np.asarray(Image.open(BytesIO(answer.content)))
    assert picture.shape == (35, 65, 4)
    assert ((picture[..., 3] > 0) == (density[1] > 0)).all()
    brightness = picture[10:20, 30:40, :3].sum(axis=2).ravel().astype(int)
    assert (np.diff(brightness) <= 0).all()  # darker where there are more
    assert float(answer.headers["x-most"]) == pytest.approx(np.percentile(density[1][density[1] > 0], 99.5), rel=1e-4)
    for name in ("nothing", "..%2f..%2frun", "run.json"):
        assert client.get(f"/api/results/0/layers/{name}").status_code in {404, 409}
        assert client.get(f"/api/results/0/density/{name}.png").status_code in {404, 409}


@pytest.mark.parametrize("content", [b"", b"II*\0", b"no tiff"])
def test_a_broken_density_map_is_said_and_the_rest_is_shown(client: TestClient, result: Path, content: bytes) -> None:
    (result / "spatial").mkdir()
    (result / "spatial" / "density.ome.tif").write_bytes(content)
    page = client.get("/api/results/0").json()
    assert "density.ome.tif is damaged" in page["layer_problem"]
    assert page["cells"] > 0
    assert client.get("/api/results/0/density/c.png").status_code == 409


# ---- in a notebook, and against a fuzzer -----------------------------------------------------------------------------


def test_in_a_notebook_it_is_a_frame_that_only_its_address_opens(result: Path) -> None:
    import urllib.error
    import urllib.request

    import cytolite

    pytest.importorskip("uvicorn", reason="needs the extra viewer")
    shown = Result(result).view(height_px=432)
    try:
        markup = shown._repr_html_()
        assert "height: 432px" in markup
        assert shown.link in markup
        base = shown.link.removesuffix("#/0")
        with urllib.request.urlopen(base + "api/results") as answer:
            assert json.load(answer)["results"][0]["name"] == "slide"
            assert "frame-ancestors *" in answer.headers["content-security-policy"]
            assert answer.headers["set-cookie"] is None
        root = base[: base.index("/", len("http://"))]
        for wrong in ("/", "/api/results", "/enter?key=x", base[len(root) : -2] + "/api/results"):
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(root + wrong)
    finally:
        shown.close()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(base)
    with pytest.raises(InputError, match="no folder"):
        cytolite.view(result / "nothing")


@pytest.mark.slow
def test_the_servers_answers_are_as_described_whatever_is_asked(once: Path, result: Path) -> None:
    """Bounded: every operation gets some dozens of requests, valid and not, and none may fail."""
    schemathesis = pytest.importorskip("schemathesis", reason="asks a server whatever its schema allows")
    from hypothesis import HealthCheck, given, settings
    from hypothesis.errors import Unsatisfiable
    from schemathesis import GenerationMode
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    app = make_app(Catalogue(find_results([result]), AllowedFolders.of([once])))
    schema = schemathesis.openapi.from_dict(app.openapi())
    schema.app = app
    codes: Counter[int] = Counter()

    def check(case: Any) -> None:
        if case.meta.generation.mode == GenerationMode.POSITIVE and codes.total() % 2:
            for name in ("number", "one", "other", "row"):  # or hardly any would come past the first check
                if name in case.path_parameters:
                    case.path_parameters[name] = 0
        answer = case.call_and_validate(excluded_checks=[positive_data_acceptance])
        codes[answer.status_code] += 1

    quiet = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    limits = settings(max_examples=12, deadline=None, suppress_health_check=quiet, database=None, derandomize=True)
    for operation in schema.get_all_operations():
        for mode in GenerationMode:
            with suppress(Unsatisfiable):  # where nothing can be sent that is wrong
                limits(given(case=operation.ok().as_strategy(generation_mode=mode))(check))()
    assert {200, 404, 409, 422} <= set(codes), codes
    assert max(codes) < 500
