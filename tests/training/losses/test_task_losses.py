"""The losses of several labels and of numbers, and what weights of samples do to any loss."""

import pytest
import torch
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from regraft.tasks import TASKS, TargetSummary
from regraft.training.losses.classification import MSE, CrossEntropy, Focal
from regraft.training.losses.default import default_loss
from regraft.training.losses.multilabel import BCE, Asymmetric, SigmoidFocal
from regraft.training.losses.regression import MAE, Huber

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(6, 3, generator=GENERATOR)
ROWS = (torch.rand(6, 3, generator=GENERATOR) > 0.5).float()
NUMBERS = torch.randn(6, 3, generator=GENERATOR)
CLASSES = torch.tensor([0, 1, 2, 0, 1, 2])


def bce(**options):
    return BCE(**{"label_counts": [2, 3, 1], "num_samples": 6, "pos_weight": None, "label_smoothing": 0.0} | options)


def test_binary_cross_entropy_is_torchs():
    assert bce()(LOGITS, ROWS) == pytest.approx(functional.binary_cross_entropy_with_logits(LOGITS, ROWS))
    balanced = functional.binary_cross_entropy_with_logits(LOGITS, ROWS, pos_weight=torch.tensor([2.0, 1.0, 5.0]))
    assert bce(pos_weight="balanced")(LOGITS, ROWS) == pytest.approx(balanced)
    with pytest.raises(ValueError, match=r"loss.pos_weight: 'balanced' needs .* label 0 lacks one kind"):
        bce(label_counts=[0, 3, 1], pos_weight="balanced")
    with pytest.raises(ValueError, match="one number above 0 per label"):
        bce(pos_weight=[1, 2])


def test_focal_and_asymmetric_losses_without_their_exponents_are_binary_cross_entropy():
    expected = functional.binary_cross_entropy_with_logits(LOGITS, ROWS)
    assert SigmoidFocal(gamma=0, alpha=None)(LOGITS, ROWS) == pytest.approx(expected)
    assert Asymmetric(gamma_neg=0, gamma_pos=0, margin=0)(LOGITS, ROWS) == pytest.approx(expected)
    focal = sigmoid_focal_loss(LOGITS, ROWS, alpha=0.3, gamma=2, reduction="mean")
    assert SigmoidFocal(gamma=2, alpha=0.3)(LOGITS, ROWS) == pytest.approx(focal)


def test_the_asymmetric_loss_is_the_papers():
    present, absent = LOGITS.sigmoid(), (LOGITS.sigmoid() - 0.05).clamp_min(0)
    each = ROWS * (1 - present) * present.log() + (1 - ROWS) * absent**4 * (1 - absent).log()
    found = Asymmetric(gamma_neg=4, gamma_pos=1, margin=0.05)(LOGITS, ROWS)
    assert float(found) == pytest.approx(-float(each.mean()))


def test_losses_of_numbers_are_those_of_standardised_errors():
    scale = torch.tensor([1.0, 2.0, 4.0])
    errors, zeros = (LOGITS - NUMBERS) / scale, torch.zeros(6, 3)
    assert MAE(scale=scale.tolist())(LOGITS, NUMBERS) == pytest.approx(errors.abs().mean())
    huber = functional.huber_loss(errors, zeros, delta=0.5)
    assert Huber(scale=scale.tolist(), delta=0.5)(LOGITS, NUMBERS) == pytest.approx(huber)
    summary = TargetSummary(("a", "b", "c"), (6, 6, 6), 6, (0.0,) * 3, tuple(scale.tolist()))
    mse = MSE(class_weights=None, label_smoothing=0.0, **TASKS["regression"].loss_arguments(summary))
    assert mse(LOGITS, NUMBERS) == pytest.approx(errors.square().mean())


CLASSES_GIVEN = {"num_classes": 3, "class_counts": [2, 2, 2], "class_weights": [1.0, 2.0, 3.0], "label_smoothing": 0.1}


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (CrossEntropy(**CLASSES_GIVEN), CLASSES),
        (Focal(gamma=2.0, **CLASSES_GIVEN), CLASSES),
        (MSE(**CLASSES_GIVEN), CLASSES),
        (bce(), ROWS),
        (default_loss(TASKS["regression"], 3), NUMBERS),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_sample_that_weighs_twice_counts_twice(loss, targets):
    weights = torch.tensor([1.0, 2.0, 1.0, 0.0, 1.0, 3.0])
    rows = torch.repeat_interleave(torch.arange(6), weights.long())
    assert loss(LOGITS, targets, weights) == pytest.approx(loss(LOGITS[rows], targets[rows]))
