"""Networks and their weights: any of timm's, torchvision's files, the packages' order; training that repeats itself."""

from pathlib import Path

import numpy as np
import pytest

timm = pytest.importorskip("timm", reason="relabelling needs the extra `train`")
torch = pytest.importorskip("torch", reason="relabelling needs the extra `train`")
torchvision = pytest.importorskip("torchvision", reason="relabelling needs the extra `train`")

from cytolite.config import RelabelSettings  # noqa: E402
from cytolite.errors import InputError  # noqa: E402
from cytolite.relabel import classifier  # noqa: E402
from cytolite.relabel.classifier import Classifier, as_input, build_network  # noqa: E402
from cytolite.relabel.fit import AugmentedCrops, fit, turn  # noqa: E402

SMALL = RelabelSettings(architecture="test_resnet", pretrained=False, epochs=3, batch=16, learning_rate=3e-3, threads=1)


def test_the_papers_network_takes_torchvisions_weights(tmp_path):
    """Same numbers out of timm's ResNet-50 as out of torchvision's, whose file was loaded."""
    torch.manual_seed(0)
    theirs = torchvision.models.resnet50().eval()
    torch.save(theirs.state_dict(), tmp_path / "resnet50.pth")
    ours = build_network(RelabelSettings(dropout=0.5), 1000, tmp_path / "resnet50.pth").eval()
    theirs.fc = ours.fc  # the last layer is new
    image = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(ours(as_input(image, ours)), theirs(as_input(image, ours)), rtol=1e-4, atol=1e-5)
    assert ours.drop_rate == 0.5
    assert sum(p.numel() for p in ours.parameters()) == 25_557_032


def test_input_is_scaled_as_the_weights_expect():
    network = build_network(RelabelSettings(), 2, None)
    white = as_input(torch.full((1, 64, 64, 3), 255, dtype=torch.uint8), network)
    torch.testing.assert_close(
        white[0, :, 0, 0], (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    )


def test_weights_of_a_package_are_found_and_fit():
    settings = RelabelSettings(architecture="tf_efficientnet_lite0")
    path = classifier.find_pretrained(settings)
    given = torch.load(path, map_location="cpu", weights_only=True)
    torch.testing.assert_close(build_network(settings, 3, path).conv_stem.weight, given["_conv_stem.weight"])
    assert classifier.find_pretrained(settings.model_copy(update={"pretrained": False})) is None
    assert classifier.find_pretrained(RelabelSettings()) is None


def test_unknown_architectures_and_weights_that_do_not_fit(tmp_path):
    with pytest.raises(InputError, match=r"no architecture 'resnet5o'.*Did you mean 'resnet5"):
        build_network(RelabelSettings(architecture="resnet5o"), 2, None)
    with pytest.raises(InputError, match="does not take crops of 64 px"):
        build_network(RelabelSettings(architecture="vit_tiny_patch16_224"), 2, None)
    with pytest.raises(InputError, match=r"no file of weights .*none\.pth"):
        classifier.find_pretrained(RelabelSettings(weights=tmp_path / "none.pth"))
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(InputError, match=r"text\.pth cannot be read"):
        build_network(SMALL, 2, tmp_path / "text.pth")
    torch.save(timm.create_model("test_efficientnet").state_dict(), tmp_path / "other.pth")
    with pytest.raises(InputError, match="do not fit"):
        build_network(SMALL, 2, tmp_path / "other.pth")


def two_kinds(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Crops of 32 px: dark discs, small (0) or large (1)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    rows, cols = np.mgrid[:32, :32] - 15.5
    discs = np.hypot(rows, cols)[None] < np.where(labels, 12, 6)[:, None, None]
    images = np.where(discs[..., None], 90, 200) + rng.integers(-20, 20, (n, 32, 32, 3))
    return images.astype(np.uint8), labels


def trained(settings: RelabelSettings, images: np.ndarray, labels: np.ndarray):
    torch.manual_seed(settings.seed)
    start = Classifier(build_network(settings, 2, None), ("neoplastic", "epithelial"))
    half = len(labels) // 2
    at = np.arange(len(labels))
    return fit(start, images, (at[:half], labels[:half]), (at[half:], labels[half:]), settings)


@pytest.mark.slow
def test_training_learns_repeats_itself_and_is_another_with_another_seed(tmp_path):
    images, labels = two_kinds(200)
    settings = SMALL.model_copy(update={"crop_px": 32, "batch": 8, "epochs": 6})
    first = trained(settings, images, labels)
    assert first.history[-1]["validation_accuracy"] > 0.9
    assert trained(settings, images, labels).classifier.sha256 == first.classifier.sha256
    other = trained(settings.model_copy(update={"seed": 1}), images, labels)
    assert other.classifier.sha256 != first.classifier.sha256
    in_processes = trained(settings.model_copy(update={"loaders": 2}), images, labels)
    assert in_processes.classifier.sha256 == first.classifier.sha256

    classifier.save(first.classifier, tmp_path / "c", {"made_from": 1})
    loaded = classifier.load(tmp_path / "c", settings)
    np.testing.assert_array_equal(loaded.logits(images), first.classifier.logits(images))
    np.testing.assert_allclose(loaded.probs(images).sum(1), 1)
    torch.save(other.classifier.network.state_dict(), tmp_path / "c" / classifier.WEIGHTS_NAME)
    with pytest.raises(InputError, match="is not what its record says"):
        classifier.load(tmp_path / "c", settings)


def test_the_best_epoch_is_kept_and_patience_ends_training(monkeypatch):
    images, labels = two_kinds(60)
    settings = SMALL.model_copy(update={"crop_px": 32, "epochs": 9, "patience": 2, "learning_rate": 1e-9})
    history = trained(settings, images, labels).history
    losses = [row["validation_loss"] for row in history]
    # Hardly anything is learnt, so that it ends two epochs after its best one.
    assert len(history) == min(9, int(np.argmin(losses)) + 3)


@pytest.mark.parametrize(("equalise", "n"), [("rarest", 20), ("resample", 60), ("none", 60)])
def test_what_an_epoch_sees(equalise, n):
    labels = np.repeat([0, 1], [50, 10])
    images = np.zeros((60, 32, 32, 3), np.uint8)
    crops = AugmentedCrops(images, labels, np.arange(60), SMALL.model_copy(update={"equalise": equalise}))
    seen = [crops[i][1] for i in range(len(crops))]
    assert len(seen) == n
    assert seen.count(1) == (10 if equalise == "none" else n // 2)
    first = crops.order.copy()
    crops.start_epoch(1)
    assert (first.tolist() != crops.order.tolist()) == (equalise == "resample")


def test_a_crop_is_turned_about_its_middle_and_keeps_its_colours():
    rng = np.random.default_rng(0)
    rows, cols = np.mgrid[:64, :64] - 31.5
    disc = np.where(np.hypot(rows, cols)[..., None] < 20, 60, 220).astype(np.uint8).repeat(3, 2)
    for _ in range(5):
        assert np.abs(turn(disc, rng).astype(int) - disc).mean() < 3  # a disc is the same from all sides
    half = np.zeros((64, 64, 3), np.uint8)
    half[:, :32] = 200
    means = [turn(half, rng)[:, :32].mean() for _ in range(30)]
    assert min(means) < 50 < 150 < max(means)


def test_no_network_is_asked_for_on_the_way_to_help():
    text = (Path(classifier.__file__).parents[1] / "cli" / "relabel.py").read_text()
    assert "import torch" not in text
