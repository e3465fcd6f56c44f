"""Closed forms against refits without each image, and against scikit-learn."""

import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge
from torch import Tensor

from helpers.closed_form import WIDTHS, identity, joined, sample
from regraft.training.closed_form.scaling import fit_scaling
from regraft.training.closed_form.solvers import Solution, discriminant, ridge
from regraft.training.closed_form.training_images import TrainingImages

SOLVERS = {"ridge": ridge, "discriminant": discriminant}


def fit(solver: str, features: dict[str, Tensor], labels: Tensor, weight: Tensor | None) -> Solution:
    images = TrainingImages(features, identity(WIDTHS), labels, 3, sample_weight=weight)
    return SOLVERS[solver](images.spectrum(list(WIDTHS)), 0.7)


def refit_ridge(x: Tensor, labels: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    targets = torch.nn.functional.one_hot(labels, 3).double()
    model = Ridge(alpha=0.7).fit(x.numpy(), targets.numpy(), sample_weight=weight.numpy())
    return torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)


def refit_discriminant(
    x: Tensor, labels: Tensor, weight: Tensor, freedom: float, prior: Tensor
) -> tuple[Tensor, Tensor]:
    means = torch.stack([(weight[labels == c] @ x[labels == c]) / weight[labels == c].sum() for c in range(3)])
    within = x - means[labels]
    metric = torch.linalg.inv((within * weight[:, None]).T @ within + 0.7 * torch.eye(x.shape[1], dtype=torch.float64))
    return freedom * means @ metric, prior.log() - 0.5 * freedom * ((means @ metric) * means).sum(1)


@pytest.mark.parametrize("num_images", [8, 40], ids=["more features", "more images"])
@pytest.mark.parametrize("is_weighted", [False, True], ids=["equal", "weighted"])
def test_ridge_is_that_of_scikit_learn_and_scores_are_those_of_refits(num_images, is_weighted):
    features, labels, weight = sample(num_images)
    solution = fit("ridge", features, labels, weight if is_weighted else None)
    x = joined(features)
    w = weight.double() * num_images / weight.sum() if is_weighted else torch.ones(num_images)
    coefficients, intercept = refit_ridge(x, labels, w)
    torch.testing.assert_close(solution.linear()[0], coefficients)
    torch.testing.assert_close(solution.linear()[1], intercept)
    for left_out in range(num_images):
        rest = torch.arange(num_images) != left_out
        coefficients, intercept = refit_ridge(x[rest], labels[rest], w[rest])
        torch.testing.assert_close(solution.loo_scores[left_out], coefficients @ x[left_out] + intercept)


@pytest.mark.parametrize("num_images", [8, 40], ids=["more features", "more images"])
@pytest.mark.parametrize("is_weighted", [False, True], ids=["equal", "weighted"])
def test_discriminant_scores_are_those_of_refits(num_images, is_weighted):
    features, labels, weight = sample(num_images)
    solution = fit("discriminant", features, labels, weight if is_weighted else None)
    x = joined(features)
    w = weight.double() * num_images / weight.sum() if is_weighted else torch.ones(num_images, dtype=torch.float64)
    prior = torch.zeros(3, dtype=torch.float64).index_add_(0, labels, w) / num_images
    freedom = num_images - 3

    def log_odds(scores: Tensor) -> Tensor:
        return scores - scores[..., :1]

    weights, bias = refit_discriminant(x, labels, w, freedom, prior)
    torch.testing.assert_close(
        log_odds(x @ solution.linear()[0].T + solution.linear()[1]), log_odds(x @ weights.T + bias)
    )
    for left_out in range(num_images):
        rest = torch.arange(num_images) != left_out
        weights, bias = refit_discriminant(x[rest], labels[rest], w[rest], freedom, prior)
        torch.testing.assert_close(log_odds(solution.loo_scores[left_out]), log_odds(weights @ x[left_out] + bias))


def test_discriminant_is_that_of_scikit_learn_where_the_shrinkage_is_the_same():
    features, labels, _ = sample(60)
    x = joined(features)
    means = torch.stack([x[labels == c].mean(0) for c in range(3)])
    scatter = ((x - means[labels]) ** 2).sum() / x.shape[1]
    shrinkage = 0.3
    images = TrainingImages(features, identity(WIDTHS), labels, 3)
    # alpha of the matrix that is a multiple of scikit-learn's (1 - shrinkage) * covariance + shrinkage * mean variance
    solution = discriminant(images.spectrum(list(WIDTHS)), float(scatter) * shrinkage / (1 - shrinkage))
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(x.numpy(), labels.numpy())
    theirs = torch.from_numpy(model.coef_) - torch.from_numpy(model.coef_[:1])
    ours = solution.linear()[0] - solution.linear()[0][:1]
    torch.testing.assert_close(ours / ours.norm(), theirs / theirs.norm())


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_scored_images_are_a_part_of_all_with_the_same_scores(solver):
    features, labels, weight = sample(40)
    whole = fit(solver, features, labels, weight)
    images = TrainingImages(features, identity(WIDTHS), labels, 3, sample_weight=weight, max_scored=10)
    part = SOLVERS[solver](images.spectrum(list(WIDTHS)), 0.7)
    assert len(part.loo_scores) == 10
    torch.testing.assert_close(part.linear()[0], whole.linear()[0])
    torch.testing.assert_close(part.loo_scores, whole.loo_scores[images.scored])


@pytest.mark.parametrize("solver", SOLVERS)
def test_gram_and_covariance_give_the_same(solver, monkeypatch):
    features, labels, weight = sample(11)
    images = TrainingImages(features, identity(WIDTHS), labels, 3, sample_weight=weight)
    by_covariance = SOLVERS[solver](images.spectrum(list(WIDTHS)), 0.7)
    monkeypatch.setattr(TrainingImages, "_covariance", None)
    wide = {**features, "zeros": torch.zeros(11, 2)}
    images = TrainingImages(wide, identity({**WIDTHS, "zeros": 2}), labels, 3, sample_weight=weight)
    by_gram = SOLVERS[solver](images.spectrum(list(wide)), 0.7)
    torch.testing.assert_close(by_gram.loo_scores, by_covariance.loo_scores)
    torch.testing.assert_close(by_gram.linear()[0][:, :10], by_covariance.linear()[0])


@pytest.mark.parametrize("solver", SOLVERS)
def test_scores_of_a_class_with_one_image_are_finite(solver):
    features, labels, _ = sample(9)
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2])
    assert fit(solver, features, labels, None).loo_scores.isfinite().all()


def test_a_class_without_images_is_never_predicted_however_far_apart_the_others_are():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(100) % 10
    centres = 30 * torch.randn(10, 20, generator=generator)
    features = {"stem": centres[labels] + torch.randn(100, 20, generator=generator)}
    scaling = fit_scaling(features)
    solution = discriminant(TrainingImages(features, scaling, labels, 11).spectrum(["stem"]), 0.003)
    weight, bias = solution.linear()
    others = scaling("stem", 30 * torch.randn(500, 20, generator=generator))
    assert (others @ weight.T + bias).argmax(1).max() < 10
    assert solution.loo_scores.argmax(1).max() < 10
    assert solution.loo_scores.isfinite().all()


def test_scores_of_classes_that_are_far_apart_have_no_shift_in_common():
    labels = torch.arange(30) % 3
    noise = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    features = {"block0": 100 * torch.nn.functional.one_hot(labels).float(), "block1": noise}
    images = TrainingImages(features, identity({"block0": 3, "block1": 4}), labels, 3)
    solution = discriminant(images.spectrum(["block0", "block1"]), 0.7)
    for scores in (solution.constant[None], solution.loo_scores):
        assert float(scores.mean(1).abs().max()) < 1e-6 * float(solution.linear()[0].abs().max())


@pytest.mark.parametrize("solver", SOLVERS)
def test_two_images_and_a_class_without_any(solver):
    features, _, _ = sample(2)
    solution = fit(solver, features, torch.tensor([0, 1]), None)
    scores = joined(features) @ solution.linear()[0].T + solution.linear()[1]
    assert scores.argmax(1).tolist() == [0, 1]
    assert solution.loo_scores.isfinite().all()
