"""Pictures: the colours of the types where the cells are, counts, and nothing that breaks on odd sizes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import shapely
from PIL import Image

from cytolite.cells import CellTable
from cytolite.celltypes import CELL_TYPES
from cytolite.drawing import overview
from cytolite.drawing.overview import draw_crop, draw_overview
from cytolite.errors import OutputError
from cytolite.interop.roi import Region


def squares(centres: list[tuple[float, float]], types: list[int], side: float = 20) -> CellTable:
    n = len(centres)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * side / 2
    xy = np.array(centres, float).reshape(n, 2)
    return CellTable(
        **{
            **vars(CellTable.empty()),
            "vertices": (xy[:, None] + corners).reshape(-1, 2),
            "offsets": np.arange(n + 1) * 4,
            "centroids": xy,
            "types": np.array(types, np.uint8),
            "type_probs": np.full((n, 7), 1 / 7, np.float32),
            "area_um2": np.ones(n, np.float32),
            "regions": np.full(n, -1, np.int32),
        }
    )


def share_near(picture: np.ndarray, colour: tuple[int, int, int], tolerance: int = 40) -> int:
    return int((np.abs(picture.astype(int) - colour).max(axis=2) <= tolerance).sum())


@pytest.fixture
def panel(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """The bare picture before title and legend, and what the frame was told."""
    seen: dict[str, np.ndarray] = {}
    frame = overview._frame

    def keep(picture: Image.Image, *words: object, warnings: Sequence[str] = (), **more: object) -> Image.Image:
        seen["picture"] = np.asarray(picture)
        seen["words"] = words  # type: ignore[assignment]
        return frame(picture, *words, warnings=warnings, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(overview, "_frame", keep)
    return seen


def test_dots_have_the_colour_of_the_majority(tmp_path: Path, panel: dict) -> None:
    """At 8 um per pixel: one lymphocyte alone; three neoplastic cells and a dead one in one pixel; an empty place."""
    cells = squares([(3216, 3216), *[(16016, 16016)] * 4], [3, 1, 7, 1, 1])
    thumbnail = np.full((1000, 1000, 3), 255, np.uint8)
    draw_overview(tmp_path / "o.png", thumbnail, 32, [cells], mpp=0.25)
    right = panel["picture"][:, -1000:].astype(int)
    lymphocyte, neoplastic = np.array(CELL_TYPES[2].colour), np.array(CELL_TYPES[0].colour)
    assert np.abs(right[500, 500] - neoplastic).max() < 40
    one = right[100, 100]
    assert 0.3 < ((255 - one) / (255 - lymphocyte)).mean() <= 1
    assert (right[300, 300] == 255).all()
    assert panel["words"][2].tolist() == [3, 0, 1, 0, 0, 0, 1]


def test_a_dot_lies_where_its_cell_is(tmp_path: Path, panel: dict) -> None:
    cells = squares([(2000.5 * 32, 700.5 * 32), (11 * 32, 900 * 32)], [1, 1])
    draw_overview(tmp_path / "o.png", np.full((1000, 2100, 3), 255, np.uint8), 32, [cells], mpp=0.25)
    lower = 255 - panel["picture"][-1000:].astype(int)  # a wide slide: the cells are drawn below
    weight = lower[: 700 + 20, 1900:2100].sum(axis=2)
    rows, columns = np.nonzero(weight)
    assert (rows.tolist(), columns.tolist()) == ([700], [100])
    around = lower[895:905, 5:16].sum(axis=2)
    rows, columns = np.nonzero(around)
    assert set(zip(rows + 895, columns + 5, strict=True)) == {(899, 10), (899, 11), (900, 10), (900, 11)}


def test_fine_pictures_show_outlines(tmp_path: Path, panel: dict) -> None:
    cells = squares([(300, 300), (700, 600)], [1, 6], side=100)
    draw_overview(tmp_path / "o.png", np.full((1000, 1000, 3), 255, np.uint8), 1, [cells], mpp=0.25)
    right = panel["picture"][:, -1000:]
    assert share_near(right[240:360, 240:360], CELL_TYPES[0].colour) > 300
    assert share_near(right[540:660, 640:760], CELL_TYPES[5].colour) > 300
    assert (right[280:320, 280:320] == 255).all()  # not filled
    assert share_near(right[300:301, 245:256], CELL_TYPES[0].colour) > 0  # on the edge at x = 250
    left = panel["picture"][:900, :1000]
    assert (left == 255).all()


def test_crops_place_outlines_by_their_origin(tmp_path: Path, panel: dict) -> None:
    cells = squares([(1000, 2000), (5000, 5000)], [2, 3], side=40)
    image = np.full((100, 200, 3), 255, np.uint8)
    draw_crop(tmp_path / "c.png", image, cells, (900, 1950), 1, mpp=0.25, zoom=4)
    picture = panel["picture"]
    assert picture.shape == (400, 800, 3)
    reddest = np.argwhere(np.abs(picture[:330].astype(int) - CELL_TYPES[1].colour).max(axis=2) < 40)
    assert np.abs(reddest.min(axis=0) - np.array([30, 80]) * 4).max() <= 3
    assert np.abs(reddest[:, 1].max() - 120 * 4) <= 3
    assert panel["words"][2].tolist() == [0, 1, 0, 0, 0, 0, 0]


def test_nuclei_cut_by_a_crops_border_are_drawn_but_not_counted(tmp_path: Path, panel: dict) -> None:
    cells = squares([(-5, 50)], [1], side=40)
    draw_crop(tmp_path / "c.png", np.full((100, 100, 3), 255, np.uint8), cells, (0, 0), 1, mpp=0.25)
    assert share_near(panel["picture"][:, :50], CELL_TYPES[0].colour) > 20
    assert panel["words"][2].sum() == 0


def test_tissue_and_regions_are_outlined(tmp_path: Path, panel: dict) -> None:
    tissue = np.zeros((10, 10), bool)
    tissue[2:6, 2:6] = True
    region = Region("nest", shapely.box(7000, 7000, 9000, 9000).difference(shapely.box(7500, 7500, 8000, 8000)))
    thumbnail = np.full((1000, 1000, 3), 200, np.uint8)
    draw_overview(
        tmp_path / "o.png", thumbnail, 10, [], mpp=0.25, tissue=tissue, tissue_scale_px=1000, regions=[region]
    )
    left = panel["picture"][:, :1000].astype(int)
    assert (left[400, 400] == 200).all()  # tissue as it is
    assert left[100, 900].min() > 210  # the rest paler
    crossed = left[400, 190:215]
    assert np.abs(crossed - (0, 121, 107)).max(axis=1).min() < 60  # the border of the tissue at x = 200
    for x in (700, 750, 800, 900):
        assert left[780, x - 2 : x + 3].max(axis=1).min() < 80


@pytest.mark.parametrize("shape", [(1, 1), (3, 2000), (250, 300), (1500, 40)])
@pytest.mark.parametrize("mpp", [0.25, 5.0])
def test_odd_sizes(tmp_path: Path, shape: tuple[int, int], mpp: float) -> None:
    height, width = shape
    cells = squares(
        [(width / 2, height / 2), (0, 0), (width - 1e-9, height - 1e-9), (width + 50, -50)], [1, 2, 3, 4], 1
    )
    mask = np.ones((max(1, height // 7), max(1, width // 7)), bool)
    image = np.full((height, width, 3), 230, np.uint8)
    options = {"mpp": mpp, "tissue": mask, "tissue_scale_px": 7.0, "tissue_mm2": 0.1, "title": "a", "footer": "b"}
    draw_overview(tmp_path / "o.png", image, 1, [cells], **options)
    draw_crop(tmp_path / "c.png", image, cells, (0, 0), 1, mpp=mpp)
    for name in ("o.png", "c.png"):
        with Image.open(tmp_path / name) as picture:
            picture.load()
            assert picture.mode == "RGB"


def test_no_cells(tmp_path: Path, panel: dict) -> None:
    draw_overview(tmp_path / "o.png", np.full((900, 900, 3), 255, np.uint8), 32, iter([CellTable.empty()]), mpp=0.25)
    assert panel["words"][1] == "0 nuclei"
    assert sorted(os.listdir(tmp_path)) == ["o.png"]


def test_the_count_line(tmp_path: Path, panel: dict) -> None:
    draw_overview(
        tmp_path / "o.png", np.zeros((900, 900, 3), np.uint8), 32, [squares([(1, 1)] * 2500, [1] * 2500)], mpp=0.25,
        tissue_mm2=2.5,
    )  # fmt: skip
    assert panel["words"][1] == "2,500 nuclei   |   2.50 mm² of tissue   |   1,000 per mm²"


def test_tables_are_taken_one_at_a_time(tmp_path: Path, panel: dict) -> None:
    def tables() -> Iterator[CellTable]:
        for i in range(5):
            yield squares([(100 * i + 50, 50)], [i + 1])

    draw_overview(tmp_path / "o.png", np.zeros((900, 900, 3), np.uint8), 32, tables(), mpp=0.25)
    assert panel["words"][2].tolist() == [1, 1, 1, 1, 1, 0, 0]


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        draw_overview(tmp_path / "no" / "o.png", np.zeros((9, 9, 3), np.uint8), 32, [], mpp=0.25)


def test_a_slanted_line_replaces_stairs() -> None:
    stairs = np.array([[0, 0], [1, 0], [1, 1], [2, 1], [2, 2], [0, 2]], float)
    bevelled = overview._bevel(stairs)
    assert [1.5, 1.0] in bevelled.tolist()  # middle of a stair of one pixel
    assert not (bevelled == [2.0, 2.0]).all(axis=1).any()
    assert shapely.Polygon(bevelled).area == pytest.approx(shapely.Polygon(stairs).area, rel=0.2)
    assert shapely.Polygon(stairs).boundary.hausdorff_distance(shapely.Polygon(bevelled).boundary) < 0.5


@pytest.mark.parametrize(("n", "named"), [(60, True), (61, False)])
def test_thousands_of_regions_are_outlined_without_names(tmp_path: Path, n: int, named: bool) -> None:
    boxes = [shapely.box(x, y, x + 300, y + 300) for x, y in ((i % 10 * 1000, i // 10 * 1000) for i in range(n))]
    pictures = []
    for prefix in ("a", "b"):
        regions = [Region(f"{prefix}{i}", box) for i, box in enumerate(boxes)]
        draw_overview(tmp_path / "o.png", np.full((300, 1000, 3), 255, np.uint8), 10, [], mpp=0.25, regions=regions)
        pictures.append((tmp_path / "o.png").read_bytes())
    assert (pictures[0] != pictures[1]) == named
    draw_overview(tmp_path / "o.png", np.full((300, 1000, 3), 255, np.uint8), 10, [], mpp=0.25)
    assert (tmp_path / "o.png").read_bytes() not in pictures


def test_warnings_are_written_in_red_above_the_picture(tmp_path: Path) -> None:
    def reddish(warnings: Sequence[str]) -> tuple[int, int]:
        white = np.full((900, 900, 3), 255, np.uint8)
        draw_overview(tmp_path / "o.png", white, 32, [CellTable.empty()], mpp=0.25, warnings=warnings)
        picture = np.asarray(Image.open(tmp_path / "o.png")).astype(int)
        return int((np.abs(picture - overview._WARNING_INK).max(axis=2) < 20).sum()), picture.shape[0]

    none, height = reddish([])
    short, taller = reddish(["is the resolution right?"])
    long, tallest = reddish(["is the resolution right? " * 20])
    assert none < short < long
    assert height < taller < tallest


def test_where_all_is_tissue_no_border_is_drawn() -> None:
    """And where a block is not, one is."""
    view = overview._View((0.0, 0.0), 1.0, 0.25, (80, 60))
    picture = Image.new("RGB", (80, 60), (200, 100, 150))
    tissue = np.ones((15, 20), bool)
    assert (np.asarray(overview._draw_tissue(picture, view, tissue, 4.0)) == (200, 100, 150)).all()
    tissue[5:8, 5:8] = False
    drawn = np.asarray(overview._draw_tissue(picture, view, tissue, 4.0))
    assert share_near(drawn, (0, 121, 107)) > 20
