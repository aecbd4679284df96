"""The viewer's server: who gets in, what is told of results that are whole, broken or without their slide."""

from __future__ import annotations

import io
import json
import re
import struct
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import shapely
from PIL import Image

pytest.importorskip("fastapi", reason="needs the extra viewer")
pytest.importorskip("httpx2", reason="asks a server without a network by httpx2")

from fastapi.testclient import TestClient

from cytolite import pipeline
from cytolite.cells import CellTable
from cytolite.config import SegmentSettings
from cytolite.errors import InputError, UsageError
from cytolite.interop.parquet import CellsWriter, read_cells
from cytolite.interop.result import Result
from cytolite.interop.result_folder import find_results
from cytolite.loopback.allowed import AllowedFolders
from cytolite.viewer.app import make_app
from cytolite.viewer.catalogue import Catalogue
from cytolite.viewer.cell_index import CellIndex
from cytolite.viewer.door import MAX_BODY_BYTES, Door
from cytolite.viewer.layout import CHUNK_PX, OUTLINE_TILE_PX, POINT
from cytolite.viewer.slide_tiles import TILE_PX
from fakes import fake_bundle, paint, random_nuclei, write_slide

PORT = 8123
HERE = {"host": f"127.0.0.1:{PORT}"}
GEOJSON = "application/geo+json"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``slide.tiff`` and a real result of it in ``out/slide``."""
    folder = tmp_path_factory.mktemp("viewer")
    rng = np.random.default_rng(3)
    image = paint(*random_nuclei(rng, (700, 1300), 300))
    slide = write_slide(folder / "slide.tiff", image, mpp=0.5)
    settings = SegmentSettings(model=str(fake_bundle(folder).path), tissue="all", quiet=True)
    pipeline.segment_slides([str(slide)], folder / "out", settings)
    return folder


def catalogue_of(folder: Path, *allow: Path) -> Catalogue:
    return Catalogue(find_results([folder / "out"]), AllowedFolders.of([folder]), allow)


@pytest.fixture
def client(made: Path) -> TestClient:
    return TestClient(make_app(catalogue_of(made)), raise_server_exceptions=False)


@pytest.fixture
def door(made: Path) -> Door:
    return Door(make_app(catalogue_of(made)), PORT)


def visitor(door: Door) -> TestClient:
    return TestClient(door, base_url=f"http://127.0.0.1:{PORT}", follow_redirects=False)


def let_in(door: Door) -> TestClient:
    client = visitor(door)
    parts = urlsplit(door.link)
    assert client.get(f"{parts.path}?{parts.query}").status_code == 303
    return client


# ---- the door


def test_nothing_is_told_without_the_link(door: Door) -> None:
    client = visitor(door)
    for path in (
        "/",
        "/viewer.js",
        "/api/results",
        "/api/results/0/points",
        "/enter",
        "/enter?key=",
        "/enter?key=wrong",
    ):
        answer = client.get(path)
        assert answer.status_code == 401, path
        assert "cytolite view" in answer.json()["error"]


def test_the_link_works_once_and_its_cookie_is_for_this_page_alone(door: Door) -> None:
    parts = urlsplit(door.link)
    first, second = visitor(door), visitor(door)
    answer = first.get(f"{parts.path}?{parts.query}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "SameSite=Strict" in answer.headers["set-cookie"]
    assert first.get("/api/results").status_code == 200
    assert first.get(f"{parts.path}?{parts.query}").status_code == 303  # who reloads it goes on
    assert second.get(f"{parts.path}?{parts.query}").status_code == 401
    assert second.get("/api/results", headers={"cookie": f"cytolite-{PORT}=wrong"}).status_code == 401


def test_another_name_for_this_machine_is_refused(door: Door) -> None:
    client = let_in(door)
    for host in (
        "evil.example",
        f"evil.example:{PORT}",
        "127.0.0.1",
        f"127.0.0.1:{PORT + 1}",
        f"127.0.0.1.evil.example:{PORT}",
    ):
        assert client.get("/api/results", headers={"host": host}).status_code == 421, host


def test_another_sites_page_gets_nothing(door: Door) -> None:
    client = let_in(door)
    assert client.get("/api/results", headers={"origin": "http://evil.example"}).status_code == 403
    assert client.get("/api/results", headers={"origin": "null"}).status_code == 403
    answer = client.get("/api/results", headers={"origin": f"http://127.0.0.1:{PORT}"})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_pages_may_load_nothing_from_elsewhere(door: Door) -> None:
    policy = let_in(door).get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy
    assert "unsafe" not in policy


def test_what_is_too_large_is_refused(door: Door) -> None:
    answer = let_in(door).post("/api/results/0/measure", content=b" " * (MAX_BODY_BYTES + 1))
    assert answer.status_code == 413


# ---- what is told


def test_the_gallery_tells_the_summarys_numbers(client: TestClient, made: Path) -> None:
    [card] = client.get("/api/results").json()["results"]
    result = Result(made / "out" / "slide")
    assert card["cells"] == len(result.cells) > 30
    assert card["slide"] == "slide.tiff"
    counts = np.bincount(result.cells.types, minlength=8)[1:]
    assert list(card["types"].values()) == counts.tolist()
    assert "not for diagnosis" in client.get("/api/results").json()["notice"]
    assert Image.open(io.BytesIO(client.get("/api/results/0/thumbnail.jpg").content)).size[0] <= 480


def test_tiles_are_the_slides_pixels(client: TestClient, made: Path) -> None:
    page = client.get("/api/results/0").json()
    assert page["slide_problem"] is None
    assert page["levels"] == 3  # 1300 px: 512 * 4
    from cytolite.slides.reader import open_slide

    with open_slide(made / "slide.tiff") as slide:
        whole = slide.read(0, 0, 1300, 700, slide.mpp)
    got = np.asarray(Image.open(io.BytesIO(client.get("/api/results/0/tiles/0/2/1.jpg").content)))
    wanted = whole[TILE_PX:700, 2 * TILE_PX : 1300]
    assert got.shape == wanted.shape  # cut at the slide's edge
    assert np.abs(got.astype(int) - wanted).mean() < 4
    top = np.asarray(Image.open(io.BytesIO(client.get("/api/results/0/tiles/2/0/0.jpg").content)))
    assert top.shape == (175, 325, 3)


@pytest.mark.parametrize(
    "path",
    [
        "tiles/0/3/0.jpg",
        "tiles/0/-1/0.jpg",
        "tiles/9/0/0.jpg",
        "tiles/9999999999/0/0.jpg",
        "cells/-1",
        "cells/99999999",
    ],
)
def test_what_is_not_there_is_said(client: TestClient, path: str) -> None:
    answer = client.get(f"/api/results/0/{path}")
    assert 400 <= answer.status_code < 500
    assert "no " in answer.json()["error"]


@pytest.mark.parametrize(
    "path",
    ["/api/results/1", "/api/results/-1/points", "/api/results/x", "/../server.py", "/%2e%2e/app.py", "/nothing"],
)
def test_paths_lead_nowhere_else(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code in {404, 422}
    assert "import" not in answer.text


def test_a_cells_numbers_are_those_of_the_table(client: TestClient, made: Path) -> None:
    cells = read_cells(made / "out" / "slide" / "cells.parquet")
    row = len(cells) - 1
    told = client.get(f"/api/results/0/cells/{row}").json()
    assert told["cell_id"] == row + 1
    assert (told["x_px"], told["y_px"]) == tuple(cells.centroids[row])
    assert told["area_um2"] == pytest.approx(float(cells.area_um2[row]))
    assert told["solidity"] == pytest.approx(float(cells.features["solidity"][row]))


def square(left: float, top: float, right: float, bottom: float, name: str = "a") -> dict[str, object]:
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return {"type": "Feature", "geometry": geometry, "properties": {"objectType": "annotation", "name": name}}


def collection(*features: object) -> dict[str, object]:
    return {"type": "FeatureCollection", "features": list(features)}


def test_regions_are_counted_as_segment_counts_them(client: TestClient, made: Path, tmp_path: Path) -> None:
    """The same GeoJSON drawn here and given as --roi: the same rows, a region in another, one across the border."""
    drawn = collection(
        square(-50, -50, 640, 500, "left"), square(100, 100, 300, 333.3, "inner"), square(900, 300, 1301, 690)
    )
    rows = client.post("/api/results/0/measure", content=json.dumps(drawn)).json()["rows"]
    (tmp_path / "roi.geojson").write_text(json.dumps(drawn))
    settings = SegmentSettings(
        model=str(made / "fake"), tissue="all", quiet=True, roi=tmp_path / "roi.geojson"
    )  # fmt: skip
    pipeline.segment_slides([str(made / "slide.tiff")], tmp_path / "out", settings)
    summary = Result(tmp_path / "out" / "slide").summary
    wanted = [*summary["regions"], summary["total"]]
    assert [row["region"] for row in rows] == ["left", "inner", "a", "total"]
    for row, run in zip(rows, wanted, strict=True):
        assert row["cells"] == run["cells"] > 0
        assert {k: v["count"] for k, v in run["types"].items()} == {k: row[k] for k in run["types"]}
        assert row["tissue_mm2"] == pytest.approx(run["tissue_mm2"], abs=2e-6)  # tissue.geojson is rounded to 0.01 px
        assert row["area_mm2"] == pytest.approx(run["searched_mm2"], abs=2e-6)  # all of the slide was searched


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"type":"FeatureCollection","features":[]}',
        b'{"type":"Point","coordinates":[1,2]}',
        b'{"type":"Polygon","coordinates":[[[0,0],[1,1],[0,0]]]}',
        b'{"type":"Polygon","coordinates":[[["x",0]]]}',
    ],
)
def test_a_drawing_that_is_none_is_refused_in_a_sentence(client: TestClient, body: bytes) -> None:
    answer = client.post("/api/results/0/measure", content=body)
    assert answer.status_code == 409
    assert answer.json()["error"].startswith("the drawing")


def test_the_page_of_a_slide_does_not_wait_for_its_cells(made: Path) -> None:
    catalogue = catalogue_of(made)
    catalogue.cells = lambda number: pytest.fail("a million cells take seconds to read")  # type: ignore[method-assign]
    assert "area_um2" in TestClient(make_app(catalogue)).get("/api/results/0").json()["measures"]


# ---- broken things


def copy_of(made: Path, folder: Path) -> Path:
    import shutil

    shutil.copytree(made / "out", folder / "out")
    return folder / "out" / "slide"


@pytest.mark.parametrize("name", ["run.json", "summary.json"])
@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"total": 3, "slide": 3}', b"\xff\xfe"])
def test_a_broken_result_stays_in_the_gallery_and_says_so(
    made: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    (copy_of(made, tmp_path) / name).write_bytes(content)
    client = TestClient(make_app(catalogue_of(tmp_path)), raise_server_exceptions=False)
    [card] = client.get("/api/results").json()["results"]
    assert str(tmp_path / "out" / "slide") in card["error"]
    answer = client.get("/api/results/0")
    assert answer.status_code == 409
    assert answer.json()["error"] == card["error"]


def test_cells_that_cannot_be_read_are_said(made: Path, tmp_path: Path) -> None:
    (copy_of(made, tmp_path) / "cells.parquet").write_bytes(b"PAR1 no")
    client = TestClient(make_app(catalogue_of(tmp_path)), raise_server_exceptions=False)
    for path in ("/api/results/0", "/api/results/0/points", "/api/results/0/outlines/0/0"):
        answer = client.get(path)
        assert answer.status_code == 409
        assert "cells.parquet is not a readable Parquet file" in answer.json()["error"]


def moved(made: Path, tmp_path: Path, **slide: object) -> TestClient:
    path = copy_of(made, tmp_path) / "run.json"
    record = json.loads(path.read_bytes())
    record["slide"] |= slide
    path.write_text(json.dumps(record))
    return TestClient(make_app(catalogue_of(tmp_path, tmp_path)), raise_server_exceptions=False)


def test_without_its_slide_a_result_is_shown_all_the_same(made: Path, tmp_path: Path) -> None:
    client = moved(made, tmp_path, path=str(tmp_path / "gone" / "other.tiff"))
    page = client.get("/api/results/0").json()
    assert page["levels"] == 0
    assert "not there any more" in page["slide_problem"]
    assert client.get("/api/results/0/tiles/0/0/0.jpg").status_code == 409
    assert len(client.get("/api/results/0/points").content) > 100


def test_a_slide_that_moved_is_found_by_its_name(made: Path, tmp_path: Path) -> None:
    (tmp_path / "slide.tiff").write_bytes((made / "slide.tiff").read_bytes())
    client = moved(made, tmp_path, path=str(tmp_path / "gone" / "slide.tiff"))
    assert client.get("/api/results/0").json()["slide_problem"] is None


def test_a_slide_that_changed_is_not_shown_under_the_cells(made: Path, tmp_path: Path) -> None:
    write_slide(tmp_path / "slide.tiff", np.full((700, 1300, 3), 200, np.uint8), mpp=0.5)
    client = moved(made, tmp_path, path=str(tmp_path / "slide.tiff"))
    assert "not the file that was segmented" in client.get("/api/results/0").json()["slide_problem"]


def test_a_result_cannot_name_a_file_outside(made: Path, tmp_path: Path) -> None:
    """``run.json`` may come from anybody: also by way of a link, the slide must lie in the folders allowed."""
    for number, path in enumerate([made / "slide.tiff", tmp_path / "1" / "link.tiff"]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "link.tiff").symlink_to(made / "slide.tiff")
        client = moved(made, folder, path=str(path))
        assert "outside of the folders" in client.get("/api/results/0").json()["slide_problem"]
        assert client.get("/api/results/0/tiles/0/0/0.jpg").status_code == 403


def test_folders_without_results_are_refused(tmp_path: Path, made: Path) -> None:
    with pytest.raises(UsageError, match="no folder"):
        find_results([tmp_path / "nothing"])
    with pytest.raises(UsageError, match="holds no result"):
        find_results([tmp_path])
    with pytest.raises(UsageError, match="No result was given"):
        find_results([])
    assert find_results([made / "out", made / "out" / "slide"]) == [made / "out" / "slide"]


# ---- cells by place


def scattered(folder: Path, n: int, seed: int, side: float = 9000) -> tuple[Path, CellTable]:
    """Triangles anywhere, in no order, some with their centroid on the line between two squares."""
    rng = np.random.default_rng(seed)
    centroids = rng.uniform(0, side, (n, 2))
    centroids[: n // 10] = np.round(centroids[: n // 10] / OUTLINE_TILE_PX) * OUTLINE_TILE_PX
    corners = centroids[:, None] + np.array([[-3, -2], [4, -2], [0, 5.5]])
    table = CellTable(
        vertices=corners.reshape(-1, 2), offsets=np.arange(0, 3 * n + 1, 3), centroids=centroids,
        types=rng.integers(1, 8, n).astype(np.uint8), type_probs=rng.dirichlet(np.ones(7), n).astype(np.float32),
        area_um2=rng.uniform(5, 90, n).astype(np.float32), regions=np.full(n, -1, np.int32),
    )  # fmt: skip
    with CellsWriter(folder / "cells.parquet") as writer:
        writer.append(table)
    return folder / "cells.parquet", table


def outlines_in(data: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows, offsets, vertices and types of a tile, as the browser takes them apart."""
    n, v = struct.unpack_from("<2I", data)
    at = 8
    parts = []
    for kind, count in (("<u4", n), ("<u4", n + 1), ("<f4", n), ("<f4", n), ("<f4", 2 * v), ("u1", n)):
        parts.append(np.frombuffer(data, kind, count, at))
        at += parts[-1].nbytes
    assert at == len(data)
    return parts[0], parts[1], parts[4].reshape(-1, 2), parts[5]


@pytest.mark.parametrize("n", [0, 1, 3000])
def test_every_cell_is_in_exactly_one_square_with_its_outline(tmp_path: Path, n: int) -> None:
    path, table = scattered(tmp_path, n, seed=n)
    index = CellIndex(path)
    seen: list[int] = []
    for column in range(10):
        for row in range(10):
            rows, offsets, vertices, types = outlines_in(index.outlines(column, row))
            seen += rows.tolist()
            for i, cell in enumerate(rows):
                ring = vertices[offsets[i] : offsets[i + 1]] + np.array([column, row]) * OUTLINE_TILE_PX
                np.testing.assert_allclose(ring, table.outline(cell), atol=1e-3)
                assert types[i] == table.types[cell]
    assert sorted(seen) == list(range(n))


def test_points_are_all_cells_and_the_first_of_a_chunk_are_any_of_it(tmp_path: Path) -> None:
    path, table = scattered(tmp_path, 4000, seed=1)
    data = CellIndex(path).points()
    n_chunks, side = struct.unpack_from("<2I", data)
    chunks = np.frombuffer(data, "<u4", 3 * n_chunks, 8).reshape(-1, 3)
    points = np.frombuffer(data, POINT, offset=8 + 12 * n_chunks)
    assert side == CHUNK_PX
    assert chunks[:, 2].sum() == len(points) == len(table)
    xy = np.column_stack([points["x"], points["y"]])
    order = np.lexsort((points["type"], *xy.T))
    wanted = np.lexsort((table.types, *table.centroids.astype(np.float32).T))
    np.testing.assert_array_equal(xy[order], table.centroids[wanted].astype(np.float32))
    np.testing.assert_array_equal(points["type"][order], table.types[wanted])
    start = 0
    for column, row, count in chunks:
        inside = xy[start : start + count]
        assert (np.floor(inside / CHUNK_PX) == [column, row]).all()
        if count > 400:  # a quarter of them has its middle where all have it
            assert np.abs(inside[: count // 4].mean(axis=0) - inside.mean(axis=0)).max() < CHUNK_PX / 8
        start += count


def test_numbers_are_found_in_every_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cytolite.interop.parquet.ROW_GROUP", 100)
    path, table = scattered(tmp_path, 350, seed=2)
    index = CellIndex(path)
    for row in (0, 99, 100, 349):
        assert index.numbers(row)["x_px"] == table.centroids[row, 0]
    with pytest.raises(InputError, match="no cell in row 350"):
        index.numbers(350)


def test_measuring_agrees_with_shapely_on_thousands(tmp_path: Path) -> None:
    from cytolite.interop.roi import Region
    from cytolite.viewer.measure import measure

    path, table = scattered(tmp_path, 3000, seed=5)
    polygon = shapely.Point(4000, 4000).buffer(2500)
    tissue = shapely.box(3000, 0, 9000, 9000)
    row, total = measure(CellIndex(path), [Region("t", tissue)], [Region("disc", polygon)], (9000, 9000), 0.5)
    inside = shapely.intersects_xy(polygon, *table.centroids.T)
    assert row["cells"] == total["cells"] == inside.sum()
    assert row["dead"] == (table.types[inside] == 7).sum()
    assert row["tissue_mm2"] == pytest.approx(polygon.intersection(tissue).area * 0.25 / 1e6, abs=1e-6)


# ---- the page that is shipped


def test_the_page_asks_nobody_else_and_names_the_licences_of_what_it_holds() -> None:
    from cytolite.viewer.app import STATIC

    texts = {path.name: path.read_text(encoding="utf-8") for path in STATIC.iterdir()}
    for name in ("index.html", "viewer.js", "viewer.css"):
        addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w{2,}", texts[name]))
        assert addresses == set(), name
    frontend = Path(__file__).parents[2] / "viewer-frontend" / "package.json"
    for package in json.loads(frontend.read_text(encoding="utf-8"))["dependencies"]:
        assert f"\n{package} " in texts["LICENSES.txt"]
