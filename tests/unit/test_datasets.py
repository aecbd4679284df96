"""Readers on small folders made here, and on the real data where they are."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytolite.celltypes import EPITHELIAL_OR_NEOPLASTIC, IGNORE, INFLAMMATORY, UNKNOWN_NUCLEUS
from cytolite.datasets import imagescope, monusac
from cytolite.datasets.catalogue import DATASETS, dataset
from cytolite.errors import InputError

XML = """<Annotations MicronsPerPixel="0.25"><Annotation><Attributes><Attribute Name="Epithelial"/></Attributes>
<Regions>{}</Regions></Annotation></Annotations>"""


def region(*points: tuple[float, float]) -> str:
    return "<Region><Vertices>" + "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in points) + "</Vertices></Region>"


def label_folder(path: Path, instances: np.ndarray, types: np.ndarray) -> Path:
    for name, array in (("inst", instances.astype(np.uint16)), ("type", types.astype(np.uint8))):
        (path / name).mkdir(parents=True)
        Image.fromarray(array).save(path / name / "p.png")
    (path / "image").mkdir()
    Image.fromarray(np.full((*instances.shape, 3), 200, np.uint8)).save(path / "image" / "p.png")
    return path


def test_consep_labels_become_types_and_coarse_labels(tmp_path):
    instances = np.arange(8).reshape(1, 8)
    [patch] = dataset("consep").read(label_folder(tmp_path, instances, instances))
    assert patch.type_map.tolist() == [[0, UNKNOWN_NUCLEUS, INFLAMMATORY, 2, 1, 6, 6, 6]]
    assert patch.instance_map.tolist() == instances.tolist()


def test_monusac_keeps_a_ring_of_background_and_drops_outlines_of_macrophages(tmp_path):
    instances, types = np.zeros((40, 80), int), np.zeros((40, 80), int)
    instances[10:20, 10:20], types[10:20, 10:20] = 1, 1  # epithelial
    instances[10:20, 50:60], types[10:20, 50:60] = 2, 3  # macrophage, a whole cell
    instances[30:34, 30:34], types[30:34, 30:34] = 3, 255  # ambiguous
    [patch] = monusac.read(label_folder(tmp_path, instances, types))
    assert set(np.unique(patch.instance_map)) == {0, 1}
    assert (patch.type_map[10:20, 10:20] == EPITHELIAL_OR_NEOPLASTIC).all()
    assert (patch.type_map[10:20, 50:60] == 4).all()
    # 1.5 um are 6 px here: background up to there, unknown beyond.
    assert patch.type_map[15, 20:26].tolist() == [0] * 6
    assert patch.type_map[15, 26] == patch.type_map[0, 0] == patch.type_map[31, 31] == IGNORE


def test_square_dilation_agrees_with_scipy():
    binary_dilation = pytest.importorskip("scipy.ndimage").binary_dilation

    mask = np.random.default_rng(0).random((30, 41)) > 0.97
    np.testing.assert_array_equal(monusac.within(mask, 3), binary_dilation(mask, np.ones((7, 7))))


def test_patient_is_the_name_up_to_its_third_dash():
    assert monusac.patient("TCGA-2Z-A9JG-01Z-00-DX1_1") == "TCGA-2Z-A9JG"


@pytest.mark.parametrize("compressed", [False, True])
def test_imagescope_outlines_fill_the_pixels_whose_centres_they_hold(tmp_path, compressed):
    text = XML.format(
        region((1, 1), (5, 1), (5, 4), (1, 4)) + region((2, 2), (3, 2)) + region((8, -3), (14, -3), (14, 2), (8, 2))
    )
    path = tmp_path / ("a.xml.gz" if compressed else "a.xml")
    path.write_bytes(gzip.compress(text.encode()) if compressed else text.encode())
    regions, mpp, left_out = imagescope.read_regions(path)
    assert mpp == 0.25
    assert left_out == {"regions of fewer than three vertices": 1}
    assert [r.label for r in regions] == ["Epithelial"] * 2  # the one with two vertices is left out
    labels = imagescope.rasterise(regions, (6, 10))
    wanted = np.zeros((6, 10), int)
    wanted[1:4, 1:5] = 1
    wanted[0:2, 8:10] = 2  # cut by the image's edge
    np.testing.assert_array_equal(labels, wanted)


def test_where_outlines_overlap_the_smaller_stays_on_top():
    square = np.array([(0, 0), (6, 0), (6, 6), (0, 6)], float)
    small = imagescope.Region("", square / 3 + 2)
    labels = imagescope.rasterise([small, imagescope.Region("", square)], (6, 6))
    assert labels[3, 3] == 1
    assert labels[0, 0] == 2


def test_rasterising_agrees_with_rasterio(shared_data):
    features = pytest.importorskip("rasterio.features")
    shapely = pytest.importorskip("shapely")
    regions, _, _ = imagescope.read_regions(shared_data / "monuseg" / "TCGA-21-5784-01Z-00-DX1.xml")
    ours = imagescope.rasterise(regions, (1000, 1000)) > 0
    theirs = features.rasterize([shapely.make_valid(shapely.Polygon(r.ring)) for r in regions], (1000, 1000)) > 0
    # GDAL also burns pixels whose centre lies on an edge, one or so a nucleus; half a pixel's shift would change 2%.
    assert (ours != theirs).mean() < 1e-3


@pytest.mark.parametrize(
    ("content", "message"),
    [("<Annotations><Annotation>", "not whole ImageScope XML"), (None, "no annotation file")],
)
def test_broken_annotations_are_named(tmp_path, content, message):
    path = tmp_path / "a.xml"
    if content:
        path.write_text(content)
    with pytest.raises(InputError, match=message):
        imagescope.read_regions(path)


def test_bad_label_folders_are_named(tmp_path):
    with pytest.raises(InputError, match="not a label folder"):
        list(dataset("consep").read(tmp_path))
    folder = label_folder(tmp_path / "x", np.ones((4, 4)), np.full((4, 4), 9))
    with pytest.raises(InputError, match=r"type ids \[9\]"):
        list(dataset("consep").read(folder))
    Image.fromarray(np.ones((4, 5), np.uint16)).save(folder / "inst" / "p.png")
    with pytest.raises(InputError, match=r"p\.png is uint16 \(4, 5\)"):
        list(dataset("consep").read(folder))
    (folder / "inst" / "p.png").unlink()
    with pytest.raises(InputError, match="no label image"):
        list(dataset("consep").read(folder))


def test_an_unknown_dataset_suggests_a_near_one():
    with pytest.raises(InputError, match="Did you mean 'monuseg'"):
        dataset("monusek")


# Nuclei per label as the data's own description lists them.
DESCRIBED = {
    "consep": {UNKNOWN_NUCLEUS: 371, INFLAMMATORY: 3941, 2: 1117, 1: 4420, 6: 4765 + 901 + 40},
    "puma": {1: 1006, 3: 574, UNKNOWN_NUCLEUS: 2, 4: 10, 6: 25, 7: 127},
}


@pytest.mark.parametrize("name", DESCRIBED)
def test_real_counts_are_those_described(shared_data, name):
    counts: dict[int, int] = {}
    for patch in DATASETS[name].read(shared_data / name):
        patch.validate()
        ids, first = np.unique(patch.instance_map, return_index=True)
        for label in patch.type_map.ravel()[first][ids > 0].tolist():
            counts[label] = counts.get(label, 0) + 1
    assert counts == DESCRIBED[name]
