"""What a crop teaches, and how often each source and type is seen."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")
pytest.importorskip("lightning", reason="training needs the extra `train`")

from cytolite.celltypes import IGNORE, UNKNOWN_NUCLEUS  # noqa: E402
from cytolite.config import TrainSettings  # noqa: E402
from cytolite.errors import InputError  # noqa: E402
from cytolite.patches import OUTLINE, PRESENCE, PSEUDO, Patch  # noqa: E402
from cytolite.training.augment import Crop  # noqa: E402
from cytolite.training.objectives import LightObjective, PaperObjective  # noqa: E402
from cytolite.training.sampling import CropDataset, as_tensors, source_chances  # noqa: E402

BOTH = OUTLINE | PRESENCE
# Of each column of a crop: instance, type, known, trust.
COLUMNS = {
    "nothing": (0, 0, 0, 0),
    "background": (0, 0, BOTH, 0),
    "foreground alone": (1, UNKNOWN_NUCLEUS, PRESENCE, 100),
    "outlined": (2, 1, BOTH, 100),
    "whole cell": (0, 4, 0, 100),
    "pseudo": (3, 3, PRESENCE | PSEUDO, 50),
    "ignored": (4, IGNORE, 0, 0),
    "untrusted": (5, 2, BOTH, 0),
}


def crop_of_columns(side: int = 16) -> tuple[Crop, list[str]]:
    names = list(COLUMNS)
    width = len(names)
    maps = [np.tile(np.array([COLUMNS[n][k] for n in names]), (side, 1)) for k in range(4)]
    image = np.zeros((side, width, 3), np.uint8)
    flows = np.ones((2, side, width), np.float32)
    return Crop(image, flows, maps[0].astype(np.int32), *(m.astype(np.uint8) for m in maps[1:])), names


def test_each_pixel_teaches_what_is_known_of_it_and_nothing_else():
    taken, names = crop_of_columns()
    found = as_tensors(taken, taken.image, 0.5)
    at = {name: i for i, name in enumerate(names)}

    def column(key: str) -> dict[str, float]:
        return {name: float(found[key][0, i]) for name, i in at.items()}

    assert {n for n, w in column("flow_weight").items() if w} == {"background", "outlined", "untrusted"}
    assert column("flow_weight")["background"] == pytest.approx(0.1)
    present = {"background", "foreground alone", "outlined", "pseudo", "untrusted"}
    assert {n for n, w in column("nucleus_weight").items() if w} == present
    assert {n for n, w in column("nucleus").items() if w} == present - {"background"}
    assert {n for n, w in column("type_weight").items() if w} == {
        "foreground alone",
        "outlined",
        "whole cell",
        "pseudo",
    }
    # The same area, half the trust.
    assert column("type_weight")["pseudo"] == pytest.approx(column("type_weight")["outlined"] / 2)
    labels = column("labels")
    assert labels == {
        "nothing": IGNORE, "background": 0, "foreground alone": UNKNOWN_NUCLEUS, "outlined": 1, "whole cell": 4,
        "pseudo": 3, "ignored": IGNORE, "untrusted": UNKNOWN_NUCLEUS,
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["weights", "adjusted", "focal", "paper"])
def test_where_nothing_is_known_no_loss_has_a_gradient(kind):
    taken, names = crop_of_columns()
    batch = {key: value[None] for key, value in as_tensors(taken, taken.image, 0.5).items()}
    patch = Patch("p", taken.image, taken.instance_map, taken.type_map, 0.5, "a", "g")
    settings = TrainSettings() if kind == "paper" else TrainSettings(rare_loss=kind)
    objective = (PaperObjective if kind == "paper" else LightObjective)(settings, [patch])
    generator = torch.Generator().manual_seed(0)
    flows = torch.randn(1, 2, 16, len(names), generator=generator, requires_grad=True)
    logits = torch.randn(1, 8, 16, len(names), generator=generator, requires_grad=True)
    sum(objective(flows, logits, batch).values()).backward()
    moved = {name: bool(logits.grad[..., i].abs().sum() > 0) for i, name in enumerate(names)}
    assert {name for name, m in moved.items() if not m} == {"nothing", "ignored"}
    turned = {name: bool(flows.grad[..., i].abs().sum() > 0) for i, name in enumerate(names)}
    assert {name for name, m in turned.items() if m} == {"background", "outlined", "untrusted"}


def striped(source: str, side: int, types: dict[int, int], name: str = "p") -> Patch:
    """A patch with, for each type, so many nuclei of 2 x 2 px."""
    instances, labels = np.zeros((side, side), np.int32), np.zeros((side, side), np.uint8)
    places = iter([(y, x) for y in range(2, side - 2, 4) for x in range(2, side - 2, 4)])
    for number, kind in enumerate((k for k, n in types.items() for _ in range(n)), 1):
        y, x = next(places)
        instances[y : y + 2, x : x + 2], labels[y : y + 2, x : x + 2] = number, kind
    return Patch(name, np.zeros((side, side, 3), np.uint8), instances, labels, 0.25, source, name)


def test_sources_are_drawn_by_their_shares_or_by_a_power_of_their_area():
    patches = [
        striped("consep", 80, {}),
        striped("consep", 40, {}, "q"),
        striped("pannuke", 40, {}),
        striped("x", 40, {}),
    ]
    shares = source_chances(patches, TrainSettings(source_shares={"consep": 3, "pannuke": 1}))
    np.testing.assert_allclose(shares, [0.75 * 0.8, 0.75 * 0.2, 0.25, 0])
    areas = np.array([5, 1, 1])  # of consep, pannuke and x, in patches of 40 px
    for power in (0.0, 0.5, 1.0):
        found = source_chances(patches, TrainSettings(source_power=power))
        wanted = areas**power / (areas**power).sum()
        np.testing.assert_allclose([found[:2].sum(), *found[2:]], wanted)
    with pytest.raises(InputError, match="has a share"):
        source_chances(patches, TrainSettings(source_shares={"other": 1}))


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_types_are_drawn_by_a_power_of_their_number_and_sources_within_them_by_share(power):
    """Type 1 has 40 nuclei, 10 of them in the source of the larger share; type 5 has 4."""
    patches = [striped("a", 64, {1: 10}), striped("b", 64, {1: 30, 5: 4})]
    settings = TrainSettings(
        source_shares={"a": 3, "b": 1}, balanced_share=1.0, rare_power=power, crop_px=32, steps_per_epoch=1
    )
    crops = CropDataset(patches, settings, 1)
    rng = np.random.default_rng(1)
    n, near = 4000, {"a": 0, "b": 0}
    for _ in range(n):
        near["ab"[crops._place(rng)[0]]] += 1
    rare = 4 ** (1 - power) / (4 ** (1 - power) + 40 ** (1 - power))
    # Type 5 is in b alone; of type 1 three in four crops are a's.
    assert near["b"] / n == pytest.approx(rare + (1 - rare) / 4, abs=0.03)
