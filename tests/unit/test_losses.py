import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")

from cytolite.celltypes import IGNORE, INFLAMMATORY, UNKNOWN_NUCLEUS  # noqa: E402
from cytolite.training.losses import (  # noqa: E402
    allowed_table,
    distillation_loss,
    effective_number_weights,
    flow_loss,
    focal_loss,
    frequency_weights,
    nucleus_logit,
    nucleus_loss,
    set_codes,
    set_table,
    smoothed_cross_entropy,
    smoothing_kernel,
    spectral_decoupling,
    type_loss,
)


def one_pixel(*values: float) -> "torch.Tensor":
    return torch.tensor(values).view(1, -1, 1, 1).requires_grad_()


def label(value: int) -> "torch.Tensor":
    return torch.tensor([[[value]]])


ONE = torch.ones(1, 1, 1)
# Background, then neoplastic, epithelial, lymphocyte, macrophage, neutrophil, connective, dead.
ODDS = np.log([9.0, 2.0, 1.0, 3.0, 1.0, 1.0, 1.0, 1.0])


def test_type_loss_by_hand():
    logits = one_pixel(*ODDS)
    # Among the types alone the probabilities are 2, 1, 3, 1, 1, 1, 1 of 10: background's 9 do not count.
    assert type_loss(logits, label(1), allowed_table(), ONE).item() == pytest.approx(-np.log(0.2), abs=1e-6)
    assert type_loss(logits, label(INFLAMMATORY), allowed_table(), ONE).item() == pytest.approx(-np.log(0.5), abs=1e-6)
    assert type_loss(logits, label(UNKNOWN_NUCLEUS), allowed_table(), ONE).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("value", [0, IGNORE])
def test_background_and_ignored_pixels_give_no_type_gradient(value):
    logits = one_pixel(*ODDS)
    type_loss(logits, label(value), allowed_table(), ONE).backward()
    assert logits.grad.abs().max() == 0


def test_an_unknown_type_gives_no_gradient_between_types():
    logits = one_pixel(*ODDS)
    type_loss(logits, label(UNKNOWN_NUCLEUS), allowed_table(), ONE).backward()
    assert logits.grad.abs().max() < 1e-6


def test_nucleus_logit_is_the_log_odds_of_any_type():
    assert nucleus_logit(one_pixel(*ODDS)).item() == pytest.approx(np.log(10 / 9), abs=1e-6)


def test_nucleus_loss_by_hand():
    logits = torch.zeros(1, 8, 1, 2)
    logits[:, 0] = float(np.log(7))  # odds 1: probability a half everywhere
    nucleus = torch.tensor([[[True, False]]])
    # Cross-entropy log 2; Dice 1 - (2 * 0.5 + 1) / (0.5 + 0.5 + 1 + 1).
    wanted = np.log(2) + 1 - 2 / 3
    assert nucleus_loss(logits, nucleus, torch.ones(1, 1, 2)).item() == pytest.approx(wanted, abs=1e-6)


def test_a_pixel_of_weight_zero_changes_nothing():
    torch.manual_seed(0)
    logits, flows, target = torch.randn(1, 8, 1, 3), torch.randn(1, 2, 1, 3), torch.randn(1, 2, 1, 3)
    nucleus, weights = torch.tensor([[[True, False, True]]]), torch.tensor([[[1.0, 2.0, 0.0]]])
    labels = torch.tensor([[[1, 2, 3]]])
    before = [
        nucleus_loss(logits, nucleus, weights),
        type_loss(logits, labels, allowed_table(), weights),
        flow_loss(flows, target, weights),
    ]
    for tensor in (logits, flows):
        tensor[..., 2] += 5
    after = [
        nucleus_loss(logits, nucleus, weights),
        type_loss(logits, labels, allowed_table(), weights),
        flow_loss(flows, target, weights),
    ]
    assert [b.item() for b in before] == [a.item() for a in after]


def test_flow_loss_by_hand():
    flows, target = torch.zeros(1, 2, 1, 2), torch.zeros(1, 2, 1, 2)
    flows[0, :, 0, 0] = torch.tensor([3.0, 4.0])
    assert flow_loss(flows, target, torch.tensor([[[1.0, 3.0]]])).item() == pytest.approx(25 / 4)


# The paper's losses. Codes: label, plus 11 where a typed pixel lies outside every nucleus.
TABLE = set_table()


def test_codes_say_what_is_known_of_a_pixel():
    labels = torch.tensor([[[0, 3, 3, INFLAMMATORY, UNKNOWN_NUCLEUS, IGNORE]]])
    nucleus = torch.tensor([[[False, True, False, True, True, False]]])
    codes = set_codes(labels, nucleus)
    assert codes.tolist() == [[[0, 3, 14, 8, 10, -1]]]
    allowed = [set(np.flatnonzero(TABLE[c]).tolist()) for c in codes[0, 0] if c >= 0]
    # A typed pixel whose cell has no outline may be cytoplasm: its type or background.
    assert allowed == [{0}, {3}, {0, 3}, {3, 4, 5}, {1, 2, 3, 4, 5, 6, 7}]


def test_smoothing_kernel_by_hand():
    kernel = smoothing_kernel(1.0)
    straight, diagonal = np.exp(-0.5), np.exp(-1.0)
    share = 0.5 / (4 * straight + 4 * diagonal)
    np.testing.assert_allclose(kernel, [[diagonal * share, straight * share, diagonal * share],
                                        [straight * share, 0.5, straight * share],
                                        [diagonal * share, straight * share, diagonal * share]], rtol=1e-6)  # fmt: skip
    assert kernel.sum().item() == pytest.approx(1)


def test_smoothed_cross_entropy_by_hand():
    """One row of three pixels, replicated above and below: each neighbour's label weighs what its column of 3 does."""
    logits = torch.tensor(np.log([[[[4.0, 1, 1]], [[4, 2, 1]], [[2, 7, 8]]]]), dtype=torch.float32)  # of 10
    logits = torch.cat([logits, torch.full((1, 5, 1, 3), -100.0)], 1)
    codes = torch.tensor([[[0, 1, -1]]])
    side = smoothing_kernel(1.0)[:, 0].sum().item()
    centre = 1 - 2 * side
    # Pixel 0 sees itself twice (replicated at its left) and pixel 1; pixel 1 sees 0 and itself, pixel 2 is unknown.
    first = -(centre + side) * np.log(0.4) - side * np.log(0.4)
    second = (-centre * np.log(0.2) - side * np.log(0.1)) / (centre + side)
    found = smoothed_cross_entropy(logits, codes, TABLE, torch.ones(1, 1, 3)).item()
    assert found == pytest.approx((first + second) / 2, rel=1e-5)


def test_smoothed_cross_entropy_is_that_of_blurred_labels():
    """Where all labels are single classes: against torch's cross-entropy with soft targets."""
    torch.manual_seed(0)
    codes, logits = torch.randint(0, 8, (2, 6, 5)), torch.randn(2, 8, 6, 5)
    one_hot = torch.nn.functional.one_hot(codes, 8).permute(0, 3, 1, 2).float()
    kernel = smoothing_kernel(1.3).expand(8, 1, 3, 3)
    soft = torch.nn.functional.conv2d(torch.nn.functional.pad(one_hot, (1, 1, 1, 1), "replicate"), kernel, groups=8)
    wanted = torch.nn.functional.cross_entropy(logits, soft)
    torch.testing.assert_close(smoothed_cross_entropy(logits, codes, TABLE, torch.ones(2, 6, 5), 1.3), wanted)


def test_focal_loss_by_hand():
    logits = one_pixel(*ODDS)  # background 9 of 19, lymphocyte 3, inflammatory 5
    alpha = torch.tensor([0.5, 1, 1, 2, 3, 4, 1, 1])
    for code, p, a in ((3, 3 / 19, 2.0), (INFLAMMATORY, 5 / 19, 3.0), (14, 12 / 19, 1.25), (0, 9 / 19, 0.5)):
        found = focal_loss(logits, label(code), TABLE, alpha, ONE, gamma=2.0)
        assert found.item() == pytest.approx(-a * (1 - p) ** 2 * np.log(p), rel=1e-5)
    plain = focal_loss(logits, label(3), TABLE, torch.ones(8), ONE, gamma=0.0)
    assert plain.item() == pytest.approx(-np.log(3 / 19), rel=1e-5)


def test_spectral_decoupling_by_hand():
    logits = one_pixel(1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0, -2.0)
    assert spectral_decoupling(logits, ONE).item() == pytest.approx((1 + 4 + 9 + 4) / 8 / 2)


def test_frequency_weights_by_hand():
    found = frequency_weights({1: 100, 2: 400, 3: 25, INFLAMMATORY: 9999})
    raw = np.array([1 / 10, 1 / 20, 1 / 5])
    np.testing.assert_allclose(found[1:4], raw / raw.mean(), rtol=1e-6)
    assert found[0] == found[2] == found[1:4].min()  # background weighs as the commonest type
    assert found[4:].tolist() == [1, 1, 1, 1]  # types that do not occur
    np.testing.assert_array_equal(frequency_weights({}), np.ones(8))
    assert frequency_weights({1: 10**9, 2: 1}).min() == pytest.approx(0.1)


def test_distillation_loss_by_hand():
    """Two classes apart from six that both rule out: softened odds 3:1 against 1:1 at T = 2."""
    teacher = one_pixel(2 * np.log(3), 0, *[-1e4] * 6)
    student = one_pixel(0, 0, *[-1e4] * 6)
    wanted = 4 * (0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5))
    assert distillation_loss(student, teacher, ONE, 2.0).item() == pytest.approx(wanted, rel=1e-5)
    assert distillation_loss(teacher, teacher, ONE, 14.0).item() == pytest.approx(0, abs=1e-6)


def test_at_high_temperature_distillation_matches_logits():
    """Hinton et al. 2015: half the variance of the difference over the classes."""
    torch.manual_seed(0)
    student, teacher = torch.randn(1, 8, 4, 4), torch.randn(1, 8, 4, 4)
    wanted = (student - teacher).var(1, unbiased=False).mean() / 2
    found = distillation_loss(student.double(), teacher.double(), torch.ones(1, 4, 4), 1000.0)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-2)


def test_unknown_pixels_teach_nothing_in_the_papers_losses():
    torch.manual_seed(0)
    logits, known = torch.randn(1, 8, 1, 3), torch.tensor([[[1.0, 1.0, 0.0]]])
    codes = torch.tensor([[[0, 3, -1]]])
    teacher = torch.randn(1, 8, 1, 3)

    def losses():
        return [
            smoothed_cross_entropy(logits, codes, TABLE, torch.ones(1, 1, 3)).item(),
            focal_loss(logits, codes, TABLE, torch.ones(8), torch.ones(1, 1, 3)).item(),
            spectral_decoupling(logits, known).item(),
            distillation_loss(logits, teacher, known, 4.0).item(),
        ]

    before = losses()
    logits[..., 2] += torch.randn(8, 1).T.reshape(1, 8, 1)
    assert losses() == before
    everything_unknown = smoothed_cross_entropy(logits, torch.full((1, 1, 3), -1), TABLE, torch.ones(1, 1, 3))
    assert everything_unknown.item() == 0


def test_adjusted_logits_ask_less_of_the_frequent_by_hand():
    """ODDS give the types 2:1:3:1:1:1:1; with a prior of 2 for the first type they are 4:1:3:1:1:1:1."""
    prior = torch.tensor([2.0, 1, 1, 1, 1, 1, 1]).log()
    found = type_loss(one_pixel(*ODDS), label(1), allowed_table(), ONE, log_prior=prior)
    assert found.item() == pytest.approx(-np.log(4 / 12))
    coarse = type_loss(one_pixel(*ODDS), label(INFLAMMATORY), allowed_table(), ONE, log_prior=prior)
    assert coarse.item() == pytest.approx(-np.log(5 / 12))


def test_focal_type_loss_by_hand():
    found = type_loss(one_pixel(*ODDS), label(3), allowed_table(), ONE, gamma=2.0)
    assert found.item() == pytest.approx(0.7**2 * -np.log(0.3), rel=1e-5)
    # A nucleus of unknown type costs nothing, and moves nothing.
    logits = one_pixel(*ODDS)
    loss = type_loss(logits, label(UNKNOWN_NUCLEUS), allowed_table(), ONE, gamma=2.0)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.abs().max() < 1e-5


def test_effective_number_weights_by_hand():
    """With beta = 0.9: 1 nucleus counts as 1, 10 as (1 - 0.9^10) / 0.1; a type without nuclei weighs 1."""
    ten = 1 / ((1 - 0.9**10) / 0.1)
    mean = (1 + ten) / 2
    found = effective_number_weights(torch.tensor([1.0, 10.0, 0.0]), 0.9)
    np.testing.assert_allclose(found.numpy(), [1 / mean, ten / mean, 1], rtol=1e-6)
