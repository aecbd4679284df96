"""Embeddings: a vector of each nucleus, the same whatever the tiles, kept through every file that can hold it."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cytolite.bundle import load_bundle
from cytolite.cells import CellTable
from cytolite.config import SegmentSettings
from cytolite.decoding.pooling import mean_vectors
from cytolite.errors import BundleError, InputError
from cytolite.inference.predictor import Predictor
from cytolite.interop.anndata_file import from_anndata, to_anndata
from cytolite.interop.convert import convert
from cytolite.interop.parquet import CellsWriter, read_cells
from cytolite.segmentation.memory import find_cells
from cytolite.segmentation.slide import segment_slide
from cytolite.slides.reader import open_slide
from fakes import fake_bundle, paint, random_nuclei, write_slide

MAPS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, -0.25, 0]], np.float32)  # of red, green and blue


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return fake_bundle(tmp_path_factory.mktemp("model"), embedding=MAPS)


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    instance_map, types = random_nuclei(np.random.default_rng(3), (260, 300), 90, gap=1)
    image = paint(instance_map, types)
    return instance_map, image, write_slide(tmp_path_factory.mktemp("slide") / "painted.tif", image)


def found(slide_path, bundle, **settings):
    with open_slide(slide_path) as slide:
        wanted = SegmentSettings(tissue="all", embeddings=True, **settings)
        cells, _ = find_cells(slide, bundle, wanted, Predictor(bundle))
    return cells.select(np.lexsort(cells.centroids.T))


def test_the_mean_of_each_nucleus_as_counted_one_by_one():
    rng = np.random.default_rng(0)
    instance_map, _ = random_nuclei(rng, (96, 128), 30)
    coarse = rng.normal(size=(5, 48, 64)).astype(np.float32)
    enlarged = coarse.repeat(2, 1).repeat(2, 2)
    wanted = [enlarged[:, instance_map == i].mean(axis=1) for i in range(1, instance_map.max() + 1)]
    np.testing.assert_allclose(mean_vectors(instance_map, coarse), wanted, atol=1e-6)
    np.testing.assert_allclose(mean_vectors(instance_map, enlarged), wanted, atol=1e-6)
    assert mean_vectors(np.zeros((96, 128), np.int32), coarse).shape == (0, 5)
    with pytest.raises(InputError, match="does not fit"):
        mean_vectors(instance_map, coarse[:, :47])


def test_cells_have_the_mean_of_what_the_network_says_and_are_otherwise_the_same(bundle, painted):
    instance_map, image, path = painted
    cells = found(path, bundle)
    assert len(cells) == instance_map.max()
    assert cells.embeddings.dtype == np.float16
    maps = np.einsum("ck,hwk->chw", MAPS, image.astype(np.float32))
    at = [instance_map[int(y), int(x)] for x, y in cells.centroids]
    wanted = [maps[:, instance_map == i].mean(axis=1) for i in at]
    np.testing.assert_allclose(cells.embeddings, wanted, rtol=2e-3, atol=0.1)
    with open_slide(path) as slide:
        plain, _ = find_cells(slide, bundle, SegmentSettings(tissue="all"), Predictor(bundle))
    plain = plain.select(np.lexsort(plain.centroids.T))
    assert plain.embeddings is None
    for name, column in vars(plain).items():
        if name not in {"features", "embeddings", "type_set", "region_names", "mpp"}:
            np.testing.assert_array_equal(getattr(cells, name), column)


@pytest.mark.parametrize("settings", [{"tile": 64}, {"tile": 100, "batch": 3}, {"tile": 96, "workers": 2}])
def test_vectors_do_not_depend_on_tiles(bundle, painted, settings):
    whole, other = found(painted[2], bundle), found(painted[2], bundle, **settings)
    np.testing.assert_array_equal(other.centroids, whole.centroids)
    np.testing.assert_array_equal(other.embeddings, whole.embeddings)


def test_a_run_that_was_stopped_goes_on_with_the_vectors_that_it_has(bundle, painted, tmp_path):
    def run(folder, *, stop=False, embeddings=True):
        left = []

        def update(done, total):
            left.append(done)
            if stop and len(left) > 4:
                raise KeyboardInterrupt

        settings = SegmentSettings(tissue="all", tile=64, workers=1, embeddings=embeddings)
        with open_slide(painted[2]) as slide:
            return segment_slide(slide, folder, bundle, settings, update=update)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "s", stop=True)
    parts = sorted((tmp_path / ".s.partial" / "tiles").glob("*.npz"))
    assert parts
    run(tmp_path / "s")
    run(tmp_path / "at_once")
    stopped, whole = (tmp_path / name / "cells.parquet" for name in ("s", "at_once"))
    assert stopped.read_bytes() == whole.read_bytes()
    about = json.loads(pq.read_schema(whole).metadata[b"cytolite"])
    assert about["embedding"] == bundle.spec.embedding.model_dump()
    assert pq.read_schema(whole).field("embedding").type == pa.list_(pa.float16(), len(MAPS))
    run(tmp_path / "without", embeddings=False)
    without, cells = read_cells(tmp_path / "without" / "cells.parquet"), read_cells(whole)
    assert without.embeddings is None
    np.testing.assert_array_equal(without.vertices, cells.vertices)
    assert "embedding" not in pq.read_schema(tmp_path / "without" / "cells.parquet").names


def test_turned_images_give_the_mean_of_what_is_turned_back(bundle, painted):
    image = painted[1][None, :128, :160]
    once, turned = (Predictor(bundle, tta=n).maps_with_embedding(image)[2] for n in (1, 8))
    np.testing.assert_allclose(turned, once, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("name", ["nuclei-light", "nuclei-base-int8", "nuclei-light-int8"])
def test_embedded_models_give_the_same_maps_with_and_without(name, painted):
    predictor = Predictor(load_bundle(name))
    image = painted[1][None, :64, :96]
    flows, logits = predictor.maps(image)
    same_flows, same_logits, embedding = predictor.maps_with_embedding(image)
    np.testing.assert_array_equal(same_flows, flows)
    np.testing.assert_array_equal(same_logits, logits)
    assert embedding.shape == (1, predictor.spec.embedding.channels, 32, 48)
    assert np.isfinite(embedding).all()


def test_old_results_stay_those_of_the_same_model(bundle):
    """What an embedding adds is in a file of its own: neither hash of the model that results know changes."""
    without = replace(bundle, spec=bundle.spec.model_copy(update={"embedding": None}))
    assert without.spec_sha256 == bundle.spec_sha256
    assert "embedding" not in without.spec.model_dump_json()


def test_models_that_give_none_say_so_and_damage_is_found(painted, tmp_path):
    plain = fake_bundle(tmp_path / "plain")
    with pytest.raises(InputError, match=r"gives no embeddings; of the embedded ones .*nuclei-light"):
        found(painted[2], plain)
    damaged = fake_bundle(tmp_path / "damaged", embedding=MAPS)
    damaged.embedding_path.write_bytes(damaged.embedding_path.read_bytes()[:-1])
    with pytest.raises(BundleError, match="damaged or was changed"):
        load_bundle(damaged.path)
    damaged.embedding_path.unlink()
    with pytest.raises(BundleError, match="cannot be read"):
        load_bundle(damaged.path)


@pytest.fixture(scope="module")
def cells(bundle, painted):
    return found(painted[2], bundle)


def write(path, cells):
    with CellsWriter(path, list(cells.features), type_set=cells.type_set, channels=len(MAPS)) as writer:
        writer.append(cells[:7])
        writer.append(CellTable.empty(list(cells.features)))
        writer.append(cells[7:])
    return path


def test_parquet_keeps_them_bit_for_bit_also_when_others_saved_it_again(cells, tmp_path):
    path = write(tmp_path / "cells.parquet", cells)
    np.testing.assert_array_equal(read_cells(path).embeddings, cells.embeddings)
    table = pq.read_table(path)
    for number, kind in enumerate((pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float16()))):
        column = pa.array([[float(v) for v in row] for row in cells.embeddings], kind)
        other = tmp_path / f"{number}.parquet"
        pq.write_table(table.set_column(table.schema.get_field_index("embedding"), "embedding", column), other)
        np.testing.assert_array_equal(read_cells(other).embeddings, cells.embeddings)
    ragged = pa.array([[1.0] * (3 + i % 2) for i in range(len(cells))], pa.list_(pa.float32()))
    pq.write_table(table.set_column(table.schema.get_field_index("embedding"), "embedding", ragged), path)
    with pytest.raises(InputError, match="lists of as many numbers"):
        read_cells(path)


def test_no_cells_have_no_vectors_of_the_right_length(cells, tmp_path):
    path = write(tmp_path / "cells.parquet", cells.select(np.arange(0)))
    assert read_cells(path).embeddings.shape == (0, len(MAPS))


def test_they_travel_with_the_rows_and_do_not_mix_with_cells_without(cells, tmp_path):
    some = cells.select(np.array([5, 2]))
    np.testing.assert_array_equal(some.embeddings, cells.embeddings[[5, 2]])
    both = CellTable.concatenate([some, cells])
    np.testing.assert_array_equal(both.embeddings[2:], cells.embeddings)
    with pytest.raises(InputError, match="cannot be in one table"):
        CellTable.concatenate([cells, replace(cells, embeddings=None)])
    with (
        pytest.raises(InputError, match="lack the embeddings"),
        CellsWriter(tmp_path / "c.parquet", channels=4) as writer,
    ):
        writer.append(replace(cells, embeddings=None))


def test_anndata_has_them_and_text_formats_say_that_they_do_not(cells, tmp_path):
    pytest.importorskip("anndata", reason="needs the extra anndata")
    data = to_anndata(cells)
    assert data.obsm["X_embedding"].dtype == np.float32
    back, _ = from_anndata(data[[3, 1]].copy(), "here")
    np.testing.assert_array_equal(back.embeddings, cells.embeddings[[3, 1]])
    source = write(tmp_path / "cells.parquet", cells)
    _, notes = convert(source, tmp_path / "cells.geojson")
    assert any("embeddings" in note for note in notes)
    convert(source, tmp_path / "cells.h5ad")
    _, notes = convert(tmp_path / "cells.h5ad", tmp_path / "again.parquet")
    assert not notes
    np.testing.assert_array_equal(read_cells(tmp_path / "again.parquet").embeddings, cells.embeddings)


def test_vectors_of_training_are_whitened_and_what_does_not_vary_stays_small():
    pytest.importorskip("torch", reason="bundles are made with the extra `train`")
    from cytolite.release.embedding import projection

    rng = np.random.default_rng(2)
    means = (rng.normal(size=(5000, 40)) @ rng.normal(size=(40, 40)) + rng.normal(size=40)).astype(np.float32)
    weights, bias = projection(means)
    found = means @ weights.T + bias
    assert found.shape == (5000, 32)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=2e-3)
    np.testing.assert_allclose(np.cov(found.T), np.eye(32), atol=2e-2)
    means[:, :30] = 6.0
    weights, bias = projection(means)
    assert np.abs(means @ weights.T + bias).max() < 20
