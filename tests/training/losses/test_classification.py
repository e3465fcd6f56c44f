import math

import pytest
import torch
from torch.nn import functional

from regraft.training.losses.classification import (
    MSE,
    CrossEntropy,
    Focal,
    penalty,
    resolve_class_weights,
    weights_by_index,
)

COUNTS = [6, 3, 1]
WEIGHTS = [1.0, 2.0, 5.0]


def build(loss, class_weights=None, label_smoothing=0.0, **knobs):
    return loss(
        num_classes=3, class_counts=COUNTS, class_weights=class_weights, label_smoothing=label_smoothing, **knobs
    )


@pytest.fixture
def logits():
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def targets():
    return torch.tensor([0, 2, 1, 1, 0])


@pytest.fixture
def rows():
    return torch.rand(5, 3, generator=torch.Generator().manual_seed(1)).softmax(dim=1)


@pytest.mark.parametrize("is_mixed", [False, True])
@pytest.mark.parametrize("class_weights", [None, WEIGHTS, "balanced"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_cross_entropy_and_focal_without_focus_are_torchs(
    logits, targets, rows, is_mixed, class_weights, label_smoothing
):
    given = rows if is_mixed else targets
    weights = resolve_class_weights(class_weights, COUNTS, 3)
    expected = functional.cross_entropy(logits, given, weights, label_smoothing=label_smoothing)
    torch.testing.assert_close(build(CrossEntropy, class_weights, label_smoothing)(logits, given), expected)
    torch.testing.assert_close(build(Focal, class_weights, label_smoothing, gamma=0.0)(logits, given), expected)


@pytest.mark.parametrize("loss", [CrossEntropy, MSE, Focal])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_indices_and_their_one_hot_rows_agree(loss, logits, targets, label_smoothing):
    knobs = {"gamma": 2.0} if loss is Focal else {}
    made = build(loss, None, label_smoothing, **knobs)
    one_hot = functional.one_hot(targets, 3).float()
    torch.testing.assert_close(made(logits, targets), made(logits, one_hot))


LOSSES = [(CrossEntropy, {}), (MSE, {}), (Focal, {"gamma": 2.0})]


@pytest.mark.parametrize(("loss", "knobs"), LOSSES)
@pytest.mark.parametrize("is_mixed", [False, True])
@pytest.mark.parametrize("class_weights", [None, WEIGHTS, [0.0, 2.0, 5.0]])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_totals_of_single_class_batches_add_up_to_the_whole(
    logits, targets, rows, loss, knobs, is_mixed, class_weights, label_smoothing
):
    made = build(loss, class_weights, label_smoothing, **knobs)
    given = rows if is_mixed else targets
    parts = [made.total(logits[targets == label], given[targets == label]) for label in range(3)]
    summed, normaliser = (torch.stack(column).sum() for column in zip(*parts, strict=True))
    torch.testing.assert_close(summed / normaliser, made(logits, given))
    for got, expected in zip((summed, normaliser), made.total(logits, given), strict=True):
        assert expected.shape == ()
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(("loss", "knobs"), LOSSES)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_a_batch_whose_classes_weigh_nothing_has_loss_and_gradient_0(logits, loss, knobs, label_smoothing):
    logits.requires_grad_()
    value = build(loss, [0.0, 2.0, 5.0], label_smoothing, **knobs)(logits, torch.zeros(5, dtype=torch.int64))
    value.backward()
    assert value.item() == 0
    assert logits.grad.eq(0).all()


@pytest.mark.parametrize(("loss", "knobs"), LOSSES)
def test_half_precision_counts_a_large_batch_exactly(loss, knobs):
    logits = torch.zeros(257, 3, dtype=torch.bfloat16)
    for class_weights in (None, [1.0, 1.0, 1.0]):
        made = build(loss, class_weights, **knobs).bfloat16()
        assert made.total(logits, torch.zeros(257, dtype=torch.int64))[1].item() == 257


def test_mse_is_the_squared_error_against_one_hot_targets():
    logits = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 3.0]])
    targets = torch.tensor([0, 1])
    assert build(MSE)(logits, targets).item() == pytest.approx((0 + 10) / 3 / 2)
    assert build(MSE, WEIGHTS)(logits, targets).item() == pytest.approx((1 * 0 + 2 * 10) / 3 / (1 + 2))
    smoothed = build(MSE, label_smoothing=0.3)(logits[:1], targets[:1])
    assert smoothed.item() == pytest.approx((0.2**2 + 0.1**2 + 0.1**2) / 3)


def test_focal_is_the_papers_formula(logits, targets):
    p = logits.softmax(dim=1)[torch.arange(5), targets]
    expected = -((1 - p) ** 2 * p.log())
    torch.testing.assert_close(build(Focal, gamma=2.0)(logits, targets), expected.mean())
    alpha = torch.tensor(WEIGHTS)[targets]
    torch.testing.assert_close(
        build(Focal, WEIGHTS, gamma=2.0)(logits, targets), (alpha * expected).sum() / alpha.sum()
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_has_finite_gradients_when_certain(gamma):
    logits = torch.tensor([[200.0, 0.0, 0.0], [0.0, 200.0, 0.0]], requires_grad=True)
    build(Focal, gamma=gamma)(logits, torch.tensor([0, 0])).backward()
    assert torch.isfinite(logits.grad).all()


def test_balanced_weights_make_each_class_count_alike():
    weights = resolve_class_weights("balanced", COUNTS, 3)
    torch.testing.assert_close(weights * torch.tensor(COUNTS), torch.full((3,), 10 / 3))


@pytest.mark.parametrize(
    ("class_weights", "counts", "message"),
    [
        ([1.0, 2.0], COUNTS, "got 2 numbers, but the data has 3 classes"),
        ("inverse", COUNTS, "got 'inverse'; allowed: null, balanced, a list of one number per class"),
        ("balanced", [4, 0, 0], "without any: class 1, 2"),
        ([1.0, -1.0, 1.0], COUNTS, "numbers of at least 0"),
        ([0.0, 0.0, 0.0], COUNTS, "one of them above 0"),
    ],
)
def test_invalid_class_weights_are_refused(class_weights, counts, message):
    with pytest.raises(ValueError, match=rf"^loss\.class_weights: .*{message}"):
        resolve_class_weights(class_weights, counts, 3)


@pytest.mark.parametrize("loss", [CrossEntropy, MSE, Focal])
@pytest.mark.parametrize("label_smoothing", [-0.1, 1.0])
def test_invalid_label_smoothing_is_refused(loss, label_smoothing):
    with pytest.raises(ValueError, match=r"^loss\.label_smoothing: got "):
        build(loss, None, label_smoothing, **({"gamma": 2.0} if loss is Focal else {}))


def test_a_negative_gamma_is_refused():
    with pytest.raises(ValueError, match=r"^loss\.gamma: got -1"):
        build(Focal, gamma=-1)


@pytest.mark.parametrize("loss", [CrossEntropy, MSE, Focal])
def test_a_checkpoint_holds_nothing_of_the_loss(loss):
    assert not build(loss, "balanced", **({"gamma": 2.0} if loss is Focal else {})).state_dict()


def test_penalty_counts_decayed_weights_that_train():
    counted = torch.nn.Parameter(torch.tensor([[1.0, -2.0]]))
    frozen = torch.nn.Parameter(torch.tensor([[7.0]]), requires_grad=False)
    bias = torch.nn.Parameter(torch.tensor([3.0]))
    groups = [{"name": "a/decay", "params": [counted, frozen]}, {"name": "a/no_decay", "params": [bias]}]
    value = penalty(groups, l1=0.1, l2=0.01)
    assert value.item() == pytest.approx(0.1 * 3 + 0.01 / 2 * 5)
    value.backward()
    torch.testing.assert_close(counted.grad, torch.tensor([[0.1 + 0.01, -0.1 - 0.02]]))
    assert frozen.grad is None
    assert bias.grad is None


def test_a_negative_penalty_is_refused():
    with pytest.raises(ValueError, match=r"^penalty\.l2: got -1"):
        penalty([], l1=0.0, l2=-1.0)


@pytest.mark.parametrize("weights", [[1.0, math.nan, 1.0], [1.0, math.inf, 1.0], [1.0, 1e39, 1.0], [0.0, 0.0, 0.0]])
def test_class_weights_are_finite_in_the_precision_that_they_have(weights):
    with pytest.raises(ValueError, match=r"^loss\.class_weights: got .*finite numbers of at least 0"):
        resolve_class_weights(weights, COUNTS, 3)


def test_weights_by_name_are_1_for_the_other_classes():
    assert weights_by_index({"bee": 2, 7: 0.5}, ["ant", "bee", "7"]) == [1.0, 2, 0.5]


def test_a_weight_of_no_class_is_refused():
    with pytest.raises(ValueError, match=r"^loss\.class_weights: unknown class 'be'\. Did you mean 'bee'\?"):
        weights_by_index({"be": 2}, ["ant", "bee"])
