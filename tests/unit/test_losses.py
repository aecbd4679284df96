import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")

from cytolite.celltypes import IGNORE, INFLAMMATORY, UNKNOWN_NUCLEUS  # noqa: E402
from cytolite.training.losses import allowed_table, flow_loss, nucleus_logit, nucleus_loss, type_loss  # noqa: E402


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
