"""Teacher and student see the same field: one geometry, whatever their resolutions."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")
pytest.importorskip("lightning", reason="training needs the extra `train`")

from cytolite.celltypes import IGNORE  # noqa: E402
from cytolite.config import DistillSettings  # noqa: E402
from cytolite.inference.predict import Predictor  # noqa: E402
from cytolite.models.network import build_network  # noqa: E402
from cytolite.patches import Patch  # noqa: E402
from cytolite.training.objectives import objective  # noqa: E402
from cytolite.training.sampling import CropDataset  # noqa: E402
from cytolite.training.tasks import DistillationTask  # noqa: E402
from cytolite.training.teacher import Teacher, maps_teacher, network_teacher  # noqa: E402
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


def crops(patches, settings=SETTINGS, stride=2, clean=True):
    dataset = CropDataset(patches, settings, stride)
    dataset.with_clean = clean
    return dataset


def task(teacher, patches, settings=SETTINGS):
    torch.manual_seed(0)
    network = build_network("efficientnet_lite0")
    return DistillationTask(teacher, network, settings, objective(settings, patches), patches)


def batch_of(dataset, numbers):
    items = [dataset.draw(n) for n in numbers]
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


@pytest.mark.parametrize(("mpp", "stride"), [(0.25, 1), (0.25, 2), (0.35, 1), (0.5, 1)])
def test_the_teachers_answers_lie_over_the_students_truth(patches, tmp_path, mpp, stride):
    """A network that reads the paint, asked about turned, mirrored and scaled crops at its own resolution."""
    bundle = fake_bundle(tmp_path, mpp=mpp, stride=stride)
    asked = task(maps_teacher("fake", "0", mpp, Predictor(bundle).maps), patches)
    batch = batch_of(crops(patches), range(6))
    answers = asked.ask(batch, (64, 64))
    assert answers["teacher_flows"].shape == (6, 2, 64, 64)
    known = batch["labels"] != IGNORE
    # On rims the paint is mixed; inside nuclei and outside, classes must agree pixel by pixel.
    erode = torch.nn.functional.max_pool2d((batch["labels"] == 0).float()[:, None], 5, 1, 2)[:, 0] > 0
    inner = known & (batch["labels"] > 0) & ~erode
    right = (answers["teacher_logits"].argmax(1) == batch["labels"])[inner].float().mean()
    assert inner.sum() > 1000
    assert right > 0.97
    # Were the student's truth from another draw, they would not: the test can fail.
    other = batch_of(crops(patches), range(10, 16))
    assert (answers["teacher_logits"].argmax(1) == other["labels"])[inner].float().mean() < 0.5


def test_students_image_and_teachers_image_are_one_field(patches):
    """The crop before and after stain and scanner were varied: best aligned where they are not shifted."""
    batch = batch_of(crops(patches), range(8))
    assert (batch["clean"] != batch["image"]).float().mean() > 0.3
    for clean, seen in zip(batch["clean"].float().mean(1), batch["image"].float().mean(1), strict=True):
        shifts = {(dy, dx): torch.roll(clean, (dy, dx), (0, 1)) for dy in (-2, 0, 2) for dx in (-2, 0, 2)}
        agreement = {
            shift: torch.corrcoef(torch.stack([moved.flatten(), seen.flatten()]))[0, 1]
            for shift, moved in shifts.items()
        }
        assert max(agreement, key=agreement.get) == (0, 0)


@pytest.mark.parametrize("sees", ["clean", "same"])
def test_the_teacher_sees_what_the_settings_say(patches, sees):
    seen = []

    def answer(image):
        seen.append(image)
        return torch.zeros(len(image), 2, 128, 128), torch.zeros(len(image), 8, 128, 128)

    settings = SETTINGS.model_copy(update={"teacher_image": sees})
    batch = batch_of(crops(patches), [3])
    task(Teacher("t", "0", 0.25, answer), patches, settings).ask(batch, (64, 64))
    torch.testing.assert_close(seen[0], batch["clean" if sees == "clean" else "image"])


def test_a_teacher_of_another_size_is_padded_and_cropped_back():
    """128 px at 0.25 um are 107 px at 0.3 um: 128 with padding, and the answers are those of the 107."""
    ramp = torch.linspace(0, 250, 128).to(torch.uint8).expand(1, 3, 128, 128)

    def answer(image):
        assert image.shape == (1, 3, 128, 128)
        column = image.float().mean(1, keepdim=True)
        return column.expand(1, 2, -1, -1), column.expand(1, 8, -1, -1)

    flows, logits = Teacher("t", "0", 0.3, answer)(ramp, 0.25, (64, 64))
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
    answers = {"teacher_flows": torch.zeros(1, 2, 64, 64), "teacher_logits": torch.zeros(1, 8, 64, 64)}
    answers["teacher_flows"][:, :, :32] = 1
    soft = {
        on: task(None, patches, SETTINGS.model_copy(update={"soft_on": on})).losses(flows, logits, batch | answers)[0]
        for on in ("known", "all")
    }
    assert soft["known"]["soft_flow"].item() == 0
    assert soft["all"]["soft_flow"].item() == pytest.approx(1)


def test_a_student_reaches_its_teacher(patches):
    """On four crops, without the truth: what it answers comes close to what the teacher answers."""
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
