"""Heads in closed form for several labels and for numbers."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from regraft.training.closed_form.criteria import CRITERIA
from regraft.training.closed_form.mix import ALPHAS, fit_closed_form
from regraft.training.closed_form.platt import fit_sigmoids
from regraft.training.closed_form.scaling import fit_scaling
from regraft.training.closed_form.solvers import ridge
from regraft.training.closed_form.training_images import TrainingImages

GENERATOR = torch.Generator().manual_seed(0)
FEATURES = {"stem": torch.randn(40, 5, generator=GENERATOR), "top": torch.randn(40, 3, generator=GENERATOR)}
NUMBERS = FEATURES["top"] @ torch.randn(3, 2, generator=GENERATOR) + 0.1 * torch.randn(40, 2, generator=GENERATOR)
LABELS = (NUMBERS > 0.3).float()


@pytest.mark.parametrize("num_images", [6, 40])  # fewer than features, and more
def test_the_ridge_and_its_leave_one_out_scores_are_scikit_learns(num_images):
    features = {stage: rows[:num_images] for stage, rows in FEATURES.items()}
    targets, weight = NUMBERS[:num_images], torch.linspace(0.5, 2, num_images)
    scaling = fit_scaling(features)
    images = TrainingImages(features, scaling, targets, 2, sample_weight=weight)
    solution = ridge(images.spectrum(list(features)), 0.3)
    x = torch.cat([scaling(stage, rows) for stage, rows in features.items()], dim=1).numpy()
    y, w = targets.double().numpy(), images.weight.numpy()
    expected = Ridge(alpha=0.3).fit(x, y, w)
    found, bias = solution.linear()
    torch.testing.assert_close(found, torch.from_numpy(expected.coef_))
    torch.testing.assert_close(bias, torch.from_numpy(expected.intercept_))
    for left in (0, num_images - 1):
        rest = [index for index in range(num_images) if index != left]
        alone = Ridge(alpha=0.3).fit(x[rest], y[rest], w[rest]).predict(x[[left]])
        torch.testing.assert_close(solution.loo_scores[[left]], torch.from_numpy(alone))


def test_numbers_without_noise_get_less_regularisation_than_classes():
    features = {"last": torch.randn(200, 5, generator=torch.Generator().manual_seed(0))}
    targets = features["last"] @ torch.ones(5, 1)
    found = fit_closed_form(features, targets, 1, solvers=["ridge"], make_criterion=CRITERIA["regression"])
    assert found.picks[0].alpha < min(ALPHAS)


def test_the_sigmoid_of_scores_is_that_of_a_logistic_regression():
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(4000, 2, generator=generator, dtype=torch.float64)
    targets = (torch.rand(4000, 2, generator=generator) < (3 * scores - 1).sigmoid()).double()
    scale, shift = fit_sigmoids(scores, targets, torch.ones(4000, dtype=torch.float64))
    for label in range(2):
        fitted = LogisticRegression(C=1e6).fit(scores[:, [label]], targets[:, label])
        assert float(scale[label]) == pytest.approx(fitted.coef_[0, 0], rel=0.02)
        assert float(shift[label]) == pytest.approx(fitted.intercept_[0], rel=0.03)


def test_the_sigmoid_of_a_label_that_no_image_has_is_finite_and_one_of_useless_scores_constant():
    scores = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    targets = torch.stack([torch.zeros(50), (scores[:, 1] < 0).float()], dim=1).double()
    scale, shift = fit_sigmoids(scores, targets, torch.ones(50, dtype=torch.float64))
    assert bool(scale.isfinite().all() and shift.isfinite().all())
    assert float(scale[1]) == 0
    assert float(shift[0].sigmoid()) < 0.05


@pytest.mark.parametrize(("task", "targets"), [("multilabel", LABELS), ("regression", NUMBERS)])
def test_a_mix_has_the_outputs_that_it_was_chosen_by(task, targets):
    found = fit_closed_form(FEATURES, targets, 2, solvers=["ridge"], make_criterion=CRITERIA[task])
    assert {pick.solver for pick in found.picks} == {"ridge"}
    assert bool(found.is_informative.all())
    outputs, loo = found.logits(FEATURES), found.loo_logits
    assert float(torch.corrcoef(torch.stack([outputs.flatten(), loo.flatten()]))[0, 1]) > 0.97
    better = outputs.sigmoid() if task == "multilabel" else outputs
    assert float((better - targets).square().mean()) < 0.25 * float(targets.var())
