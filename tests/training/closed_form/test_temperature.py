import pytest
import torch

from regraft.training.closed_form.temperature import fit_scale, log_loss

GENERATOR = torch.Generator().manual_seed(0)
LABELS = torch.arange(40) % 4
SCORES = torch.randn(40, 4, generator=GENERATOR, dtype=torch.float64) + torch.nn.functional.one_hot(LABELS) * 1.5
WEIGHT = torch.rand(40, generator=GENERATOR, dtype=torch.float64)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e4])
def test_no_other_scale_has_a_smaller_smoothed_log_loss(unit):
    scale = fit_scale(SCORES * unit, LABELS, WEIGHT)

    def smoothed(factor: float) -> float:
        logits = SCORES * unit * factor
        uniform = sum(log_loss(logits, torch.full_like(LABELS, label), WEIGHT) for label in range(4)) / 4
        return 40 / 41 * log_loss(logits, LABELS, WEIGHT) + uniform / 41

    assert smoothed(scale) < min(smoothed(scale * 1.01), smoothed(scale / 1.01))


def test_without_a_mistake_the_scale_is_finite_and_mistakes_are_a_little_probable():
    scores = torch.nn.functional.one_hot(LABELS).double()
    probabilities = (fit_scale(scores, LABELS, WEIGHT) * scores).softmax(1)
    assert probabilities.max().item() == pytest.approx(1 - 1 / 41 * 3 / 4, abs=1e-3)


def test_scores_that_say_nothing_get_the_least_scale():
    scale = fit_scale(-SCORES, LABELS, WEIGHT)
    assert (scale * -SCORES).softmax(1).std() < 1e-3
