"""The viewer in a real browser: what is shown, counted, saved and restored."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

pytest.importorskip("fastapi", reason="needs the extra viewer")
pytest.importorskip("uvicorn", reason="needs the extra viewer")
pytest.importorskip("playwright", reason="drives a browser by playwright")

from playwright import sync_api

from cytolite import pipeline
from cytolite.celltypes import CELL_TYPES
from cytolite.config import SegmentSettings
from cytolite.interop.result import Result
from cytolite.interop.roi import read_regions
from cytolite.teach.labels import match, read_labels
from fakes import fake_bundle, paint, random_nuclei, write_slide

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs the browser Chromium, or Chrome")
SIZE = (1600, 1000)  # width, height; 0.25 um/px


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results ``out/slide``, and ``out/broken``, whose summary is damaged."""
    folder = tmp_path_factory.mktemp("viewer")
    instance_map, types = random_nuclei(np.random.default_rng(4), SIZE[::-1], 400, radius=(9, 18))
    slide = write_slide(folder / "slide.tiff", paint(instance_map, types), mpp=0.25)
    settings = SegmentSettings(model=str(fake_bundle(folder, mpp=0.25).path), tissue="all", quiet=True)
    pipeline.segment_slides([str(slide)], folder / "out", settings)
    write_density(folder / "out" / "slide" / "spatial")
    shutil.copytree(folder / "out" / "slide", folder / "out" / "broken")
    (folder / "out" / "broken" / "summary.json").write_text("{")
    return folder


def write_density(folder: Path) -> None:
    """A map as `cytolite spatial` writes it: many in the left half of the slide, none in the right."""
    density = np.zeros((1, SIZE[1] // 40, SIZE[0] // 40), np.float32)
    density[:, :, : SIZE[0] // 80] = 100
    about = {"axes": "CYX", "PhysicalSizeX": 10.0, "PhysicalSizeY": 10.0, "Channel": {"Name": ["dead"]}}
    folder.mkdir()
    tifffile.imwrite(folder / "density.ome.tif", density, ome=True, metadata=about)


@pytest.fixture(scope="module")
def link(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "cytolite", "view", folder / "out", "--no-browser", "--allow", folder]
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"COLUMNS": "200"},
    )  # fmt: skip
    line = process.stdout.readline()
    assert line.startswith("2 results at http://127.0.0.1:"), line + process.communicate()[0]
    yield line.split()[-1]
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    software = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=software)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def page(browser: Any, link: str) -> Iterator[Any]:
    """A page that came by the link; nothing may go wrong in it, nor may it ask anybody else."""
    page = browser.new_page(viewport={"width": 1200, "height": 700}, accept_downloads=True)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    home = re.match(r"http://[^/]+/", link).group()
    page.on("request", lambda r: None if r.url.startswith((home, "blob:" + home)) else wrong.append(r.url))
    page.goto(link)
    yield page
    assert wrong == []


def open_at(page: Any, rest: str) -> None:
    """Show the slide at a place, from a fresh page as a link does, and wait for all of it."""
    page.goto("about:blank")
    page.goto(f"{page.home}#/{page.number}?{rest}")
    settle(page)


def settle(page: Any) -> None:
    page.wait_for_timeout(350)  # a rest is drawn after a quarter of a second
    page.wait_for_selector("html[data-busy=false]", state="attached", timeout=60_000)
    page.wait_for_timeout(100)


@pytest.fixture
def slide(page: Any, link: str, folder: Path) -> Any:
    page.home = re.match(r"http://[^/]+/", link).group()
    page.number = sorted(p.name for p in (folder / "out").iterdir()).index("slide")
    return page


@pytest.fixture(scope="module")
def cells(folder: Path) -> Any:
    return Result(folder / "out" / "slide").cells


def middle(page: Any) -> tuple[float, float]:
    box = page.locator("canvas.over").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def alone(cells: Any) -> int:
    """A nucleus well inside of the slide."""
    inside = (np.abs(cells.centroids - np.array(SIZE) / 2) < [500, 250]).all(axis=1)
    return int(np.flatnonzero(inside)[0])


def test_the_gallery_shows_results_and_says_what_is_broken(slide: Any, cells: Any) -> None:
    slide.goto(slide.home)
    slide.wait_for_selector("a.card")
    assert f"{len(cells):,} nuclei" in slide.inner_text("a.card")
    assert "damaged" in slide.inner_text(".broken")
    assert "not for diagnosis" in slide.inner_text("header")
    slide.fill("#filter", "nuclei > 100000")
    assert slide.locator(".card").count() == 0
    slide.fill("#filter", "nuclei > 10")
    assert slide.locator("a.card").count() == 1
    slide.fill("#filter", "")
    slide.select_option("#sort", "warnings")
    assert slide.locator(".card").nth(1).inner_text().startswith("broken")


def test_a_known_nucleus_is_where_it_is_and_tells_its_numbers(slide: Any, cells: Any) -> None:
    i = alone(cells)
    x, y = cells.centroids[i]
    open_at(slide, f"x={x}&y={y}&s=0.5&hide=")
    slide.mouse.move(*middle(slide))
    name, sure = CELL_TYPES[cells.types[i] - 1].name, cells.type_probs[i].max()
    assert slide.inner_text(".tip") == f"{name} {100 * sure:.0f}%, {float(f'{cells.area_um2[i]:.3g}'):g} µm²"
    slide.mouse.click(*middle(slide))
    slide.wait_for_selector("text=cell_id")
    assert str(i + 1) in slide.inner_text("tr:has-text('cell_id')")
    slide.keyboard.press("v")
    slide.locator("canvas.over").focus()
    slide.keyboard.press(str(cells.types[i]))  # its type goes, and so does it
    slide.mouse.move(*(1 + m for m in middle(slide)))
    assert slide.is_hidden(".tip")
    slide.keyboard.press(str(cells.types[i]))


def test_types_have_their_colours_and_go_when_they_are_switched_off(slide: Any, cells: Any) -> None:
    from io import BytesIO

    from PIL import Image

    i = alone(cells)
    x, y = cells.centroids[i]
    colour = CELL_TYPES[cells.types[i] - 1].colour
    for off, shown in (("", True), (f"&off={cells.types[i]}", False)):
        open_at(slide, f"x={x}&y={y}&s=0.5&draw=fill&o=1&hide=image.tissue{off}")
        picture = Image.open(BytesIO(slide.locator("canvas.gl").screenshot())).convert("RGB")
        at = picture.getpixel((picture.width // 2, picture.height // 2))
        assert (max(abs(a - b) for a, b in zip(at, colour, strict=True)) < 8) is shown
    assert not slide.is_checked(f"#kind-{cells.types[i]}")


@pytest.mark.parametrize("tool", ["lasso", "rectangle", "polygon"])
def test_what_is_drawn_is_counted_and_saved_as_regions(slide: Any, cells: Any, tmp_path: Path, tool: str) -> None:
    open_at(slide, "x=800&y=500&s=1.6&hide=")
    slide.locator("canvas.over").focus()
    x, y = middle(slide)
    corners = [(x - 150, y - 120), (x + 160, y - 90), (x + 140, y + 130), (x - 100, y + 60)]
    slide.keyboard.press(tool[0])
    slide.mouse.move(*corners[0])
    slide.mouse.down()
    if tool == "polygon":
        for corner in corners:
            slide.mouse.click(*corner)
        slide.keyboard.press("Enter")
    else:
        for corner in corners if tool == "lasso" else [corners[2]]:
            slide.mouse.move(*corner, steps=5)
        slide.mouse.up()
    slide.wait_for_selector(".region td")
    with slide.expect_download() as got:
        slide.click("text=Save regions")
    got.value.save_as(tmp_path / "regions.geojson")
    [region] = read_regions(tmp_path / "regions.geojson")
    assert region.name == "region 1"
    assert region.polygon.area > 1.6**2 * 40_000
    inside = region.contains(cells.centroids)
    rows = [row.inner_text().split("\t") for row in slide.locator(".region tr").all()[1:]]
    assert int(rows[0][1].replace(",", "")) == inside.sum() > 20
    counts = {name: int(n.replace(",", "")) for name, n, *_ in rows[1:]}
    for kind in CELL_TYPES:
        assert counts.get(kind.name, 0) == (cells.types[inside] == kind.id).sum()
    assert "objectType" in json.loads((tmp_path / "regions.geojson").read_text())["features"][0]["properties"]


def test_a_link_restores_the_view_and_a_picture_of_it_has_scale_and_legend(slide: Any, tmp_path: Path) -> None:
    from PIL import Image

    open_at(slide, "x=700&y=400&s=0.8&off=2.6&draw=both&o=0.5&p=0.2&safe=1&hide=tissue")
    slide.wait_for_timeout(500)
    kept = dict(part.split("=") for part in slide.url.split("?")[1].split("&"))
    wanted = {"x": "700", "y": "400", "s": "0.8", "off": "2.6", "draw": "both", "o": "0.5", "p": "0.2", "safe": "1"}
    assert kept == wanted | {"hide": "tissue"}
    with slide.expect_download() as got:
        slide.click("text=Save picture")
    got.value.save_as(tmp_path / "view.png")
    picture = np.asarray(Image.open(tmp_path / "view.png").convert("RGB"))
    stage = slide.locator(".stage").bounding_box()
    assert picture.shape[1] == stage["width"] + 190
    assert picture[:, : int(stage["width"])].std() > 10  # the slide, not an empty canvas
    safe_red = (picture[:, int(stage["width"]) :] == (213, 94, 0)).all(axis=2)
    assert safe_red.sum() == 12 * 12  # its mark in the legend


def test_labels_are_given_taken_back_and_kept_beside_the_result(slide: Any, cells: Any, folder: Path) -> None:
    i = alone(cells)
    x, y = cells.centroids[i]
    other = 1 + cells.types[i] % len(CELL_TYPES)
    open_at(slide, f"x={x}&y={y}&s=0.5&draw=fill&o=1&hide=image.tissue")
    labels = folder / "out" / "slide.labels.geojson"
    try:
        slide.keyboard.press("e")
        slide.keyboard.press("Enter")  # the nucleus in the middle, without a mouse
        slide.wait_for_selector("text=1 chosen")
        slide.keyboard.press(str(other))
        slide.wait_for_selector(f"text=Labels: 1 {CELL_TYPES[other - 1].name}")
        opened = Result(folder / "out" / "slide")
        found = match(read_labels(labels, opened.type_set), cells, opened.mpp, opened.size_px, "labels")
        assert (found.rows.tolist(), found.names.tolist()) == ([i], [CELL_TYPES[other - 1].name])
        slide.keyboard.press("Escape")  # without the line around it
        settle(slide)
        assert near(colour_in_the_middle(slide), CELL_TYPES[other - 1].colour)
        slide.mouse.move(*middle(slide))
        assert "by you" in slide.inner_text(".tip")
        slide.keyboard.press("u")
        slide.wait_for_selector("text=No labels yet")
        assert not labels.exists()
        settle(slide)
        assert near(colour_in_the_middle(slide), CELL_TYPES[cells.types[i] - 1].colour)
        slide.keyboard.press("A")  # all that are seen, and none of them is a nucleus
        slide.wait_for_selector("text=/[1-9]\\d* chosen/")
        slide.keyboard.press("x")
        slide.wait_for_selector("text=/Labels: [1-9]\\d* no nucleus/")
        slide.keyboard.press("e")  # what is none is grey while types are corrected, and then gone
        settle(slide)
        assert near(colour_in_the_middle(slide), (237, 237, 237))
    finally:
        labels.unlink(missing_ok=True)


def near(colour: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return max(abs(a - b) for a, b in zip(colour, wanted, strict=True)) < 8


def colour_in_the_middle(page: Any, kind: str = "canvas.gl") -> tuple[int, int, int]:
    from io import BytesIO

    from PIL import Image

    page.evaluate("document.querySelectorAll('.tip').forEach((tip) => (tip.hidden = true))")
    picture = Image.open(BytesIO(page.locator(kind).screenshot())).convert("RGB")
    return picture.getpixel((picture.width // 2, picture.height // 2))


def test_suggestions_are_labelled_taught_named_and_compared(slide: Any, cells: Any, folder: Path) -> None:
    pytest.importorskip("sklearn", reason="needs the extra teach")
    open_at(slide, "x=800&y=500&s=1&hide=")
    try:
        slide.keyboard.press("n")
        for number in range(1, 31):
            slide.wait_for_selector(f"text=/^{number} of 50, {number - 1} labelled/")
            slide.keyboard.press("13"[number % 2])
        slide.wait_for_selector("text=/^31 of 50, 30 labelled/")
        slide.keyboard.press("b")
        slide.keyboard.press("u")
        slide.wait_for_selector("text=/^30 of 50, 29 labelled/")
        slide.get_by_role("button", name="Teach", exact=True).click()
        slide.wait_for_selector("caption:has-text('held out')", timeout=60_000)
        scores = [row.inner_text().split("\t") for row in slide.locator("table:has(caption) tr").all()[1:]]
        assert [row[0] for row in scores] == ["neoplastic", "lymphocyte", "mean"]
        assert scores[2][1] == "29"
        slide.get_by_role("button", name="Name again").click()
        slide.wait_for_selector("text=look at it", timeout=60_000)
        named = Result(folder / "out" / "taught-1-results" / "slide").cells
        changed = int((named.types != cells.types).sum())
        slide.get_by_role("link", name="compare").click()
        slide.wait_for_selector("text=What changed")
        assert f"{len(cells)} nuclei are in both, {changed} of them" in slide.inner_text("aside")
        slide.wait_for_selector("html[data-busy=false]", state="attached")
        follower = re.search(r"(\d+)(?=\?|$)", slide.url).group()
        slide.route(f"**/api/results/{follower}/**", lambda route: (time.sleep(0.3), route.continue_()))  # loads last
        slide.keyboard.press("n")
        slide.wait_for_selector(f"text=1 of {changed}: ")
        away = {}  # of each nucleus from the middle, by the address, which follows when the view has been at rest

        def at_a_nucleus(url: str) -> bool:
            place = dict(part.split("=") for part in url.partition("?")[2].split("&") if part)
            away["px"] = np.hypot(*(cells.centroids - [float(place.get(axis, "inf")) for axis in "xy"]).T)
            return bool(away["px"].min() < 1)

        slide.wait_for_url(at_a_nucleus)
        settle(slide)
        at = away["px"]
        assert named.types[at.argmin()] != cells.types[at.argmin()]
        left, right = (sight.screenshot() for sight in slide.locator("canvas.gl").all())
        assert left != right  # one place, and its types on either side
        check_access(slide)
    finally:
        (folder / "out" / "slide.labels.geojson").unlink(missing_ok=True)


def test_colours_of_a_measure_and_a_map_of_density(slide: Any, cells: Any) -> None:
    i = int(np.argmax(cells.area_um2 * (np.abs(cells.centroids - np.array(SIZE) / 2) < [500, 250]).all(axis=1)))
    x, y = cells.centroids[i]
    open_at(slide, f"x={x}&y={y}&s=0.5&draw=fill&o=1&by=area_um2&hide=image.tissue")
    slide.wait_for_selector(".ramp")
    settle(slide)
    assert cells.area_um2[i] >= np.percentile(cells.area_um2, 99)
    assert near(colour_in_the_middle(slide), (253, 231, 37))  # the largest has the last colour
    open_at(slide, f"x={x}&y={y}&s=0.5&draw=fill&o=1&by=area_um2&range=0-0.5&hide=image.tissue")
    slide.wait_for_selector(".ramp")
    settle(slide)
    assert near(colour_in_the_middle(slide), (237, 237, 237))  # and is not shown where only small ones are
    # The last colour over grey on the left, where it is as dense as anywhere; nothing on the right.
    for at, wanted in ((400, (88, 37, 80)), (1200, (237, 237, 237))):
        open_at(slide, f"x={at}&y=500&s=0.5&density=dead&hide=image.cells.tissue")
        slide.wait_for_selector("text=100 per mm²")
        settle(slide)
        assert near(colour_in_the_middle(slide, ".stage"), wanted)


AXE = Path(__file__).parents[2] / "viewer-frontend" / "node_modules" / "axe-core" / "axe.min.js"


def check_access(page: Any) -> None:
    if AXE.is_file():
        page.evaluate(AXE.read_text(encoding="utf-8"))
        found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
        assert [(f["id"], f["nodes"][0]["target"]) for f in found if f["impact"] in {"serious", "critical"}] == []


@pytest.mark.skipif(not AXE.is_file(), reason="needs axe-core: npm ci in viewer-frontend")
@pytest.mark.parametrize("width", [1200, 600])  # 600: a laptop's window at 200%
def test_axe_finds_nothing_serious(slide: Any, width: int) -> None:
    slide.set_viewport_size({"width": width, "height": 700})
    try:
        slide.goto("about:blank")
        slide.goto(slide.home)
        slide.wait_for_selector("a.card")
        check_access(slide)
        open_at(slide, "x=800&y=500&s=0.5&by=area_um2&density=dead&hide=")
        slide.keyboard.press("e")
        slide.keyboard.press("w")
        slide.wait_for_selector(".region figure")
        slide.keyboard.press("Enter")
        check_access(slide)
        assert slide.evaluate("document.documentElement.scrollWidth") <= width  # nothing to the side
    finally:
        slide.set_viewport_size({"width": 1200, "height": 700})


def test_without_the_link_a_browser_sees_nothing(browser: Any, slide: Any) -> None:
    stranger = browser.new_context().new_page()
    assert stranger.goto(slide.home).status == 401
    assert "cytolite view" in stranger.inner_text("body")
    stranger.close()
