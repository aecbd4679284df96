"""The bundles inside the package: they are whole, their cards are those in the docs, and they do what those say."""

from pathlib import Path

import numpy as np
import pytest
import shapely
from PIL import Image

import cytolite
from cytolite.bundle import CARD_NAME, embedded_names, load_bundle
from cytolite.cells import CellTable
from cytolite.metrics.matching import match

ROOT = Path(__file__).parents[2]
# Images of CoNSeP that `cytolite train` holds back with its default seed.
HELD_BACK = ("train_12", "train_13", "train_21", "train_24", "train_3")


def test_the_card_in_the_docs_is_the_bundles():
    for name in embedded_names():
        card = load_bundle(name).path / CARD_NAME
        assert card.read_text() == (ROOT / "docs" / "cards" / f"{name}.md").read_text()


@pytest.mark.parametrize("name", embedded_names())
def test_weights_say_their_licence_and_are_small(name):
    bundle = load_bundle(name)
    assert bundle.spec.licence == "CC-BY-NC-SA-4.0"
    assert bundle.onnx_path.stat().st_size < 30e6


def rasterise(cells: CellTable, shape: tuple[int, int]) -> np.ndarray:
    features = pytest.importorskip("rasterio.features")
    polygons = [(shapely.Polygon(cells.outline(i)), i + 1) for i in range(len(cells))]
    return features.rasterize(polygons, shape, dtype=np.int32)


@pytest.mark.parametrize("model", embedded_names())
def test_the_whole_road_gives_the_quality_that_the_card_states(shared_data, tmp_path, model):
    """Image file in, polygons out, rasterised at full resolution: the same PQ as the release measured on its maps."""
    found = []
    tile = 256 if model == "nuclei-light" else 1024  # seams are those of one network; overlaps would cost more than all
    for name in HELD_BACK:
        cells = cytolite.segment(
            shared_data / "consep" / "image" / f"{name}.png", tmp_path, model=model, mpp=0.25, tissue="all", tile=tile
        )
        truth = np.asarray(Image.open(shared_data / "consep" / "inst" / f"{name}.png")).astype(np.int32)
        found.append(match(truth, rasterise(cells, truth.shape)).pq)
    assert np.mean(found) == pytest.approx(load_bundle(model).spec.validation["consep_bpq_image"], abs=0.005)
