"""Teacher and student see the same field: one geometry, whatever their resolutions."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")
pytest.importorskip("lightning", reason="training needs the extra `train`")

from cytolite.celltypes import IGNORE  # noqa: E402
from cytolite.config import DistillSettings  # noqa: E402
from cytolite.decoding import flows  # noqa: E402
from cytolite.errors import OutputError  # noqa: E402
from cytolite.inference.predictor import Predictor  # noqa: E402
from cytolite.networks.network import build_network  # noqa: E402
from cytolite.patches import Patch  # noqa: E402
from cytolite.training import sampling  # noqa: E402
from cytolite.training.objectives import objective  # noqa: E402
from cytolite.training.sampling import CropDataset  # noqa: E402
from cytolite.training.soft_targets import SoftTargets  # noqa: E402
from cytolite.training.tasks import DistillationTask  # noqa: E402
from cytolite.training.teacher import Teacher, ensemble, maps_teacher, network_teacher  # noqa: E402
from fakes import fake_bundle, paint, random_nuclei  # noqa: E402

SETTINGS = DistillSettings(
    pretrained=False, crop_px=128, batch=2, mpp=0.25, source_shares={"a": 1.0}, loaders=0, threads=1, balanced_share=0.0
)


@pytest.fixture(scope="module")
def patches():
    rng = np.random.default_rng(0)
    found = []
    for n in range(2):
        instances, types = random_nuclei(rng, (320, 320), 60, (9.0, 20.0))
        found.append(Patch(str(n), paint(instances, types), instances, types[instances], 0.25, "a", str(n)))
    return found


def crops(patches, settings=SETTINGS, stride=2):
    return CropDataset(patches, settings, stride)


def task(teacher, patches, settings=SETTINGS):
    torch.manual_seed(0)
    network = build_network("efficientnet_lite0")
    return DistillationTask(teacher, network, settings, objective(settings, patches), patches)


def batch_of(dataset, numbers):
    items = [dataset.draw(n) for n in numbers]
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


def right_inside_nuclei(batch, targets, against=None):
    """Share of pixels, away from rims, where paint is mixed, at which the teacher's class is the truth's."""
    erode = torch.nn.functional.max_pool2d((batch["labels"] == 0).float()[:, None], 5, 1, 2)[:, 0] > 0
    inner = (batch["labels"] != IGNORE) & (batch["labels"] > 0) & ~erode
    assert inner.sum() > 1000
    wanted = (batch if against is None else against)["labels"]
    return (targets["teacher_logits"].argmax(1) == wanted)[inner].float().mean()


@pytest.mark.slow
@pytest.mark.parametrize(("mpp", "stride"), [(0.25, 1), (0.25, 2), (0.35, 1), (0.5, 1)])
@pytest.mark.parametrize("sees", ["clean", "same"])
def test_soft_targets_lie_over_the_students_truth(patches, tmp_path, monkeypatch, mpp, stride, sees):
    """A network that reads the paint, asked about whole images or about turned, mirrored and scaled crops."""
    if sees == "same":  # it could not read paint of another colour
        for varied in ("jitter_stain", "degrade"):
            monkeypatch.setattr(sampling, varied, lambda image, rng, *settings: image)
    teacher = maps_teacher("fake", "0", mpp, Predictor(fake_bundle(tmp_path, mpp=mpp, stride=stride)).maps)
    dataset = crops(patches)
    if sees == "clean":
        dataset.soft_targets = SoftTargets(tmp_path / "soft", {}, 0.5)
        dataset.soft_targets.fill(patches, teacher)
    batch = batch_of(dataset, range(6))
    targets = batch if sees == "clean" else task(teacher, patches).ask(batch, (64, 64))
    assert targets["teacher_flows"].shape == (6, 2, 64, 64)
    assert right_inside_nuclei(batch, targets) > 0.97
    # Were the student's truth from another draw, they would not: the test can fail.
    assert right_inside_nuclei(batch, targets, batch_of(dataset, range(10, 16))) < 0.5


def test_flows_of_whole_images_turn_with_the_crop(patches, tmp_path):
    """A teacher that targets the true flows: in a crop they are those encoded from the crop's own nuclei."""
    field = {patch.image.tobytes(): flows.encode(patch.instance_map) for patch in patches}

    def predict(image):
        found = torch.from_numpy(field[image[0].permute(1, 2, 0).numpy().tobytes()])[None]
        return found, torch.zeros(1, 8, *found.shape[2:])

    dataset = crops(patches, stride=1)
    dataset.soft_targets = SoftTargets(tmp_path, {}, 0.25)
    dataset.soft_targets.fill(patches, Teacher("t", "0", 0.25, predict))
    batch = batch_of(dataset, range(8))
    cosine = torch.nn.functional.cosine_similarity(batch["teacher_flows"], batch["flows"])[batch["nucleus"]]
    assert cosine.mean() > 0.9
    assert (cosine > 0.8).float().mean() > 0.9


def test_beyond_the_image_the_teacher_says_nothing(patches, tmp_path):
    """Truth is unknown at the same places: both are known where the crop lies on the image."""
    settings = SETTINGS.model_copy(update={"crop_px": 384})
    dataset = crops(patches, settings)
    dataset.soft_targets = SoftTargets(tmp_path, {}, 0.5)
    dataset.soft_targets.fill(
        patches, Teacher("t", "0", 0.25, lambda image: (image[:, :2].float(), torch.zeros(1, 8, 320, 320)))
    )
    batch = batch_of(dataset, range(4))
    outside = batch["teacher_weight"] == 0
    assert 0.1 < outside.float().mean() < 0.7
    assert (outside == (batch["labels"] == IGNORE)).float().mean() > 0.99


def test_asking_goes_on_where_it_was_stopped(patches, tmp_path):
    asked = []

    def predict(image):
        asked.append(1)
        if len(asked) == 2:
            raise RuntimeError("power cut")
        return torch.full((1, 2, 320, 320), 1e9), torch.zeros(1, 8, 320, 320)

    teacher = Teacher("t", "0", 0.25, predict)
    with pytest.raises(RuntimeError, match="power cut"):
        SoftTargets(tmp_path, {"a": 1}, 0.5).fill(patches, teacher)
    made = SoftTargets(tmp_path, {"a": 1}, 0.5)
    made.fill(patches, teacher)
    made.fill(patches, teacher)
    assert len(asked) == 3
    assert [p.name for p in tmp_path.iterdir()] == [made.path.name]
    # What half floats cannot hold is held at their largest, not infinite.
    item = made.read(0, (320, 320), np.array([[2.0, 0, 0.5], [0, 2, 0.5]]), 64)
    assert torch.isfinite(item["teacher_flows"]).all()
    assert SoftTargets(tmp_path, {"a": 2}, 0.5).path != made.path != SoftTargets(tmp_path, {"a": 1}, 0.25).path


def test_a_full_disk_is_a_sentence(patches, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cytolite.training.soft_targets.np.save", full)
    teacher = Teacher("t", "0", 0.25, lambda image: (torch.zeros(1, 2, 320, 320), torch.zeros(1, 8, 320, 320)))
    with pytest.raises(OutputError, match="No space left"):
        SoftTargets(tmp_path, {}, 0.5).fill(patches, teacher)


def test_an_ensemble_lays_its_maps_upright(tmp_path):
    """A teacher whose flows are the gradient of brightness, which turns with the image: any turn gives the same."""
    image = torch.from_numpy(np.random.default_rng(1).integers(0, 255, (1, 3, 64, 96), dtype=np.uint8))

    def predict(seen):
        grey = torch.nn.functional.pad(seen.float().mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
        dy, dx = grey[:, :, 2:, 1:-1] - grey[:, :, :-2, 1:-1], grey[:, :, 1:-1, 2:] - grey[:, :, 1:-1, :-2]
        return torch.cat([dy, dx], 1), grey[:, :, 1:-1, 1:-1].expand(-1, 8, -1, -1)

    teacher = Teacher("t", "0", 0.25, predict)
    once, turned = (ensemble([teacher], tta=tta)(image, 0.25, (64, 96)) for tta in (1, 8))
    for wanted, found in zip(once, turned, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-3, rtol=0)


def test_an_ensemble_is_the_mean_of_its_members_and_has_a_hash_of_its_own():
    def constant(value, seen):
        def predict(image):
            seen.append(image.shape[2:])
            return torch.full((1, 2, 64, 64), value), torch.full((1, 8, 64, 64), 2 * value)

        return Teacher(f"t{value}", str(value), 0.25, predict)

    shown = []
    asked = ensemble([constant(1.0, shown), constant(4.0, shown)], scales=(1.0, 0.5))
    found = asked(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), 0.25, (32, 32))
    assert [tuple(size) for size in shown] == [(64, 64), (128, 128)] * 2
    assert found[0].mean().item() == pytest.approx(2.5)
    assert found[1].mean().item() == pytest.approx(5)
    assert asked.names == ["t1.0", "t4.0"]
    one = constant(1.0, shown)
    hashes = {ensemble([one], scales, tta).sha256 for scales in ((1.0,), (0.8,), (0.8, 1.0)) for tta in (1, 8)}
    assert len(hashes) == 6


def test_a_teacher_of_another_size_is_padded_and_cropped_back():
    """128 px at 0.25 um are 107 px at 0.3 um: 128 with padding, and the targets are those of the 107."""
    ramp = torch.linspace(0, 250, 128).to(torch.uint8).expand(1, 3, 128, 128)

    def predict(image):
        assert image.shape == (1, 3, 128, 128)
        column = image.float().mean(1, keepdim=True)
        return column.expand(1, 2, -1, -1), column.expand(1, 8, -1, -1)

    flows, logits = Teacher("t", "0", 0.3, predict)(ramp, 0.25, (64, 64))
    wanted = torch.nn.functional.avg_pool2d(ramp.float(), 2)
    assert logits.shape == (1, 8, 64, 64)
    assert (flows[:, 0] - wanted[:, 0]).abs().max() < 3


def test_losses_against_teacher_and_truth_are_weighed_as_the_settings_say(patches):
    batch = batch_of(crops(patches), [0, 1])
    flows, logits = torch.randn(2, 2, 64, 64), torch.randn(2, 8, 64, 64)
    given = {"teacher_flows": flows + 2, "teacher_logits": logits}
    losses, weights = task(None, patches).losses(flows, logits, batch | given)
    assert losses["soft_type"].item() == pytest.approx(0, abs=1e-5)
    assert losses["soft_flow"].item() == pytest.approx(8, rel=1e-5)  # 2^2 in each of two components
    assert weights == pytest.approx({"flow": 0.9, "nucleus": 0.3, "type": 0.21, "soft_flow": 2.1, "soft_type": 0.7})


def test_unknown_ground_learns_from_the_teacher_only_when_asked_to(patches):
    batch = batch_of(crops(patches), [0])
    batch["labels"][:, :32] = IGNORE
    flows, logits = torch.zeros(1, 2, 64, 64), torch.zeros(1, 8, 64, 64)
    targets = {"teacher_flows": torch.zeros(1, 2, 64, 64), "teacher_logits": torch.zeros(1, 8, 64, 64)}
    targets["teacher_flows"][:, :, :32] = 1
    soft = {
        on: task(None, patches, SETTINGS.model_copy(update={"soft_on": on})).losses(flows, logits, batch | targets)[0]
        for on in ("known", "all")
    }
    assert soft["known"]["soft_flow"].item() == 0
    assert soft["all"]["soft_flow"].item() == pytest.approx(1)


@pytest.mark.slow
def test_a_student_reaches_its_teacher(patches):
    """On four crops, without the truth: what it targets comes close to what the teacher targets."""
    torch.manual_seed(3)
    torch.set_num_threads(1)
    teacher = build_network("efficientnet_lite0")
    for head in (teacher.flow_head, teacher.type_head):
        torch.nn.init.normal_(head.weight, std=1.0)
    settings = SETTINGS.model_copy(update={"hard_weight": 0.0, "soft_weight": 1.0, "soft_on": "all", "crop_px": 64})
    learning = task(network_teacher("t", "0", 0.25, teacher), patches, settings)
    batch = batch_of(crops(patches, settings), range(4))
    optimiser = torch.optim.AdamW(learning.network.parameters(), lr=5e-3)
    found = []
    for _ in range(25):
        losses, weights = learning.losses(*learning.network(batch["image"]), batch)
        total = sum(weights[name] * loss for name, loss in losses.items())
        found.append(total.item())
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    assert found[-1] < 0.2 * found[0]


def test_fixed_crops_come_again_each_once_a_round(patches):
    settings = SETTINGS.model_copy(update={"fixed_crops": 6, "batch": 2, "steps_per_epoch": 3})
    dataset = crops(patches, settings)
    assert len(dataset) == 6
    rounds = []
    for epoch in range(2):
        dataset.start_epoch(epoch)
        rounds.append([dataset[i]["image"] for i in range(6)])
    fixed = [dataset.draw(n)["image"] for n in range(6)]
    orders = [[next(n for n, f in enumerate(fixed) if torch.equal(f, image)) for image in seen] for seen in rounds]
    assert [sorted(order) for order in orders] == [list(range(6))] * 2
    assert orders[0] != orders[1]
