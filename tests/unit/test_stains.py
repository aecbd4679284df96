"""Stains: real H&E passes, and the same images in other colours do not."""

import numpy as np
import pytest
from PIL import Image

from cytolite.slides.stains import not_he


def shrunk(image, factor=8):
    height, width = (side // factor * factor for side in image.shape[:2])
    blocks = image[:height, :width].reshape(height // factor, factor, width // factor, factor, 3)
    return blocks.mean((1, 3)).round().astype(np.uint8)


@pytest.fixture(scope="module")
def images(shared_data):
    """Twelve images of 0.25 um/px, of several organs and laboratories."""
    files = [
        path
        for folder in ("consep", "cpm17", "gbm40", "lgg_tcga", "monuseg_more", "puma")
        for path in sorted((shared_data / folder / "image").iterdir())[:2]
    ]
    return [np.asarray(Image.open(path).convert("RGB")) for path in files]


def test_real_images_pass(images):
    assert [not_he([shrunk(image)]) for image in images] == [None] * len(images)


def stains_of(image):
    """Haematoxylin, eosin, DAB as scikit-image separates them."""
    color = pytest.importorskip("skimage.color")
    return np.moveaxis(color.rgb2hed(image), 2, 0), color.hed2rgb


def only(image, which, strength=2.0):
    stains, paint = stains_of(image)
    alone = np.zeros_like(stains)
    alone[which[1]] = stains[which[0]] * strength
    return (paint(np.moveaxis(alone, 0, 2)).clip(0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda i: np.repeat(i.mean(2, keepdims=True), 3, 2).astype(np.uint8), "no colours"),
        (lambda i: 255 - i, "its"),
        (lambda i: (i < 110).astype(np.uint8) * np.array([0, 0, 255], np.uint8), "black"),
        (lambda i: only(i, (0, 0)), "one stain"),
        (lambda i: only(i, (0, 2)), "brown"),
        (lambda i: (i.mean(2, keepdims=True) * [1, 0.9, 0.75]).astype(np.uint8), "brown"),
    ],
    ids=["grey", "inverted", "fluorescence", "haematoxylin", "dab", "sepia"],
)
def test_other_stains_are_told(images, change, words):
    found = [not_he([shrunk(change(image))]) or "" for image in images]
    assert np.mean([words in text for text in found]) >= 0.8, found


def test_immunohistochemistry():
    data = pytest.importorskip("skimage.data")
    image = data.immunohistochemistry()
    assert "DAB" in not_he([shrunk(image, 4)])
    for part in (image[:256, :256], image[256:, 256:]):
        assert "DAB" in not_he([shrunk(part, 4)])


def test_too_little_stain_is_not_judged():
    assert not_he([]) is None
    assert not_he([np.full((100, 100, 3), 243, np.uint8)]) is None
