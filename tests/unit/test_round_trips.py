"""What goes out comes back the same, whatever it was: cells, settings, regions, flows."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import shapely

pytest.importorskip("hypothesis", reason="examples are found by hypothesis")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cytolite import pipeline
from cytolite.__main__ import main
from cytolite.cells import CellTable
from cytolite.celltypes import N_TYPES
from cytolite.config import DistillSettings, RelabelSettings, SegmentSettings, Settings, make_settings
from cytolite.decoding.flows import decode, encode
from cytolite.interop.convert import convert
from cytolite.interop.geojson.writer import MEASUREMENTS
from cytolite.interop.parquet import CellsWriter, read_cells
from cytolite.interop.roi import assign, read_regions
from cytolite.provenance import options
from fakes import random_nuclei

# The same few examples in every run.
FEW = settings(
    max_examples=15, derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
MPP = 0.25
number = st.floats(-1e6, 1e6, width=32)


@st.composite
def outlines(draw: st.DrawFn) -> np.ndarray:
    """A ring around a centre, clockwise on the screen, open, with its spikes and bays."""
    n = draw(st.integers(4, 12))
    radii = np.array(draw(st.lists(st.floats(2, 30), min_size=n, max_size=n)))
    centre = np.array([draw(st.floats(0, 2e5)), draw(st.floats(0, 2e5))])
    angles = np.arange(n) * 2 * np.pi / n
    return centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)


@st.composite
def cell_tables(draw: st.DrawFn) -> CellTable:
    rings = draw(st.lists(outlines(), min_size=1, max_size=6))
    n = len(rings)
    polygons = [shapely.Polygon(ring) for ring in rings]
    weights = np.array(draw(st.lists(st.lists(st.integers(1, 1000), min_size=N_TYPES, max_size=N_TYPES),
                                     min_size=n, max_size=n)), float)  # fmt: skip
    return CellTable(
        vertices=np.concatenate(rings),
        offsets=np.cumsum([0, *map(len, rings)]).astype(np.int64),
        centroids=np.array([[p.centroid.x, p.centroid.y] for p in polygons]),
        types=np.array(draw(st.lists(st.integers(1, N_TYPES), min_size=n, max_size=n)), np.uint8),
        type_probs=(weights / weights.sum(axis=1, keepdims=True)).astype(np.float32),
        area_um2=np.array([p.area * MPP**2 for p in polygons], np.float32),
        regions=np.array(draw(st.lists(st.integers(-1, 1), min_size=n, max_size=n)), np.int32),
        features={m: np.array(draw(st.lists(number, min_size=n, max_size=n)), np.float32) for m in MEASUREMENTS},
    )


def written(folder: str, cells: CellTable) -> Path:
    path = Path(folder) / "cells.parquet"
    about = {"slide": "größe 1.svs", "model": {"name": "fake"}, "mpp": MPP}
    with CellsWriter(path, MEASUREMENTS, ["A", "ä b"], about) as writer:
        writer.append(cells)
    return path


@FEW
@given(cells=cell_tables())
def test_cells_by_parquet_to_the_last_bit(cells: CellTable) -> None:
    with TemporaryDirectory() as folder:
        found = read_cells(written(folder, cells))
    for name, column in vars(cells).items():
        if name != "features":
            np.testing.assert_array_equal(getattr(found, name), column, err_msg=name)
    for name, column in cells.features.items():
        np.testing.assert_array_equal(found.features[name], column, err_msg=name)


@pytest.mark.parametrize("name", ["c.geojson", "c.geojson.gz", "chunks", "c.h5ad"])
@FEW
@given(cells=cell_tables())
def test_cells_by_other_formats(name: str, cells: CellTable) -> None:
    if name.endswith("h5ad"):
        pytest.importorskip("anndata", reason="needs the extra anndata")
    with TemporaryDirectory() as folder:
        convert(written(folder, cells), Path(folder) / name)
        convert(Path(folder) / name, Path(folder) / "back.parquet")
        found = read_cells(Path(folder) / "back.parquet")
    np.testing.assert_array_equal(found.types, cells.types)
    assert list(found.features) == list(cells.features)
    # QuPath's files have two decimals of a pixel and four of a number.
    assert np.abs(found.centroids - cells.centroids).max() <= 0.02
    assert np.abs(found.type_probs - cells.type_probs).max() <= 1e-3
    for i in range(len(cells)):
        ring, wanted = (shapely.Polygon(table.outline(i)) for table in (found, cells))
        assert shapely.hausdorff_distance(ring, wanted) <= 0.01
    for column, values in cells.features.items():
        np.testing.assert_allclose(found.features[column], values, atol=6e-5, rtol=1e-6)


values = {
    SegmentSettings: {
        "model": st.sampled_from(["nuclei-light-int8", "my model", "größe"]),
        "mpp": st.floats(0.05, 5),
        "tile": st.integers(64, 16384),
        "halo": st.integers(0, 1024),
        "batch": st.integers(1, 256),
        "tissue": st.sampled_from(["auto", "all"]),
        "overwrite": st.booleans(),
    },
    RelabelSettings: {
        "margin_px": st.integers(0, 200),
        "dropout": st.floats(0, 0.99),
        "stain": st.sampled_from(["as_is", "macenko"]),
        "pretrained": st.booleans(),
        "architecture": st.sampled_from(["resnet18", "resnet50.a1_in1k"]),
        "overwrite": st.booleans(),
    },
    DistillSettings: {
        "encoder": st.sampled_from(["efficientnet_lite0", "convnext_tiny"]),
        "frozen": st.booleans(),
        "teacher_scales": st.lists(st.floats(0.25, 4), min_size=1, max_size=3).map(tuple),
        "teachers": st.lists(st.sampled_from(["one", "two", "three"]), max_size=3).map(tuple),
        "source_shares": st.dictionaries(st.sampled_from(["a", "b_c"]), st.floats(0.1, 1), min_size=1),
    },
}


@st.composite
def any_settings(draw: st.DrawFn, kinds: tuple[type[Settings], ...]) -> Settings:
    kind = draw(st.sampled_from(kinds))
    return kind(**draw(st.fixed_dictionaries({}, optional=values[kind])))


def toml(value: object) -> str:
    """Return a value as TOML, which agrees with JSON but for tables."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


@FEW
@given(wanted=any_settings((SegmentSettings, RelabelSettings, DistillSettings)))
def test_settings_by_a_file(wanted: Settings) -> None:
    table = type(wanted).__name__.removesuffix("Settings").lower()
    given_values = wanted.model_dump(mode="json", exclude_unset=True)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "settings.toml"
        lines = [f"[{table}]", *(f"{name} = {toml(value)}" for name, value in given_values.items())]
        file.write_text("\n".join(lines), encoding="utf-8")
        assert make_settings(type(wanted), {}, file) == wanted


@FEW
@given(wanted=any_settings((RelabelSettings, DistillSettings)))
def test_settings_by_flags(wanted: Settings) -> None:
    class ReadError(Exception):
        pass

    def read(*arguments: object, **named: object) -> None:
        found.extend(value for value in [*arguments, *named.values()] if isinstance(value, type(wanted)))
        raise ReadError

    found: list[object] = []
    verb = type(wanted).__name__.removesuffix("Settings").lower()
    words = [word for text in options(wanted) for word in text.split()]
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setattr(pipeline, verb, read)
        with pytest.raises(ReadError):
            main([verb, *(["teacher"] if verb == "distill" else []), "a.h5", "-o", f"{folder}/out", *words])
    assert found == [wanted]


@FEW
@given(rings=st.lists(outlines(), min_size=1, max_size=5), names=st.lists(st.text("aä b", min_size=1), min_size=5))
def test_regions_hold_what_is_inside_them(rings: list[np.ndarray], names: list[str]) -> None:
    features = [
        {
            "type": "Feature",
            "geometry": shapely.geometry.mapping(shapely.Polygon(ring)),
            "properties": {"name": f"{name}{i}"},
        }
        for i, (ring, name) in enumerate(zip(rings, names, strict=False))
    ]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "regions.geojson"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
        regions = read_regions(path)
    assert [region.name for region in regions] == [f["properties"]["name"].strip() for f in features]
    for region, ring in zip(regions, rings, strict=True):
        assert region.polygon.equals(shapely.Polygon(ring))
    inside = np.array([shapely.Polygon(ring).representative_point().coords[0] for ring in rings])
    for point, number_of_region in zip(inside, assign(regions, inside), strict=True):
        # Where regions overlap the smallest one has it.
        holding = [i for i, region in enumerate(regions) if region.polygon.contains(shapely.Point(point))]
        assert number_of_region == min(holding, key=lambda i: regions[i].polygon.area)


@FEW
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 60), gap=st.integers(1, 4))
def test_nuclei_by_flows(seed: int, n: int, gap: int) -> None:
    wanted, _ = random_nuclei(np.random.default_rng(seed), (140, 130), n, gap=gap)
    found = decode(encode(wanted), wanted > 0)
    assert found.max() == wanted.max()
    pairs = np.unique(np.stack([wanted, found], 2)[(wanted > 0) & (found > 0)], axis=0)
    assert len(pairs) == wanted.max()  # each has a part of one nucleus, and of no other
    assert ((wanted > 0) & (found > 0)).sum() >= 0.97 * (wanted > 0).sum()
