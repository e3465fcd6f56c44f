"""Logistic regression in the principal directions, against scikit-learn's on the features."""

import logging

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from helpers.closed_form import WIDTHS, identity, joined, sample
from regraft.training.closed_form import logistic
from regraft.training.closed_form.logistic import Logistic, stratified_folds
from regraft.training.closed_form.mix import fit_closed_form
from regraft.training.closed_form.scaling import fit_scaling
from regraft.training.closed_form.solvers import ABSENT, Solution
from regraft.training.closed_form.training_images import TrainingImages

ALPHA = 0.3


def fitted(num_images: int, alpha: float, num_classes: int = 3) -> Solution:
    features, labels, weight = sample(num_images, num_classes)
    images = TrainingImages(features, identity(WIDTHS), labels, num_classes, sample_weight=weight)
    return Logistic(images.spectrum(list(WIDTHS)))(alpha)


def theirs(x: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor) -> LogisticRegression:
    model = LogisticRegression(C=1 / ALPHA, tol=1e-9, max_iter=10_000)
    return model.fit(x.numpy(), labels.numpy(), sample_weight=weight.numpy())


@pytest.mark.parametrize(("num_images", "num_classes"), [(9, 3), (60, 3), (60, 2)])
def test_scores_are_those_of_scikit_learn_without_the_fold(num_images, num_classes):
    features, labels, weight = sample(num_images, num_classes)
    x, weight = joined(features), weight * num_images / weight.sum()
    is_left_out = stratified_folds(labels) == 1
    model = theirs(x[~is_left_out], labels[~is_left_out], weight[~is_left_out])
    expected = torch.from_numpy(model.predict_proba(x[is_left_out].numpy()))
    scores = fitted(num_images, ALPHA, num_classes).loo_scores[is_left_out]
    torch.testing.assert_close(scores.softmax(1), expected, rtol=0, atol=1e-3)


def test_the_head_is_that_of_all_images():
    features, labels, weights = sample(60)
    x = joined(features)
    weight, bias = fitted(60, ALPHA).linear()
    expected = theirs(x, labels, weights * 60 / weights.sum()).predict_proba(x.numpy())
    torch.testing.assert_close((x @ weight.T + bias).softmax(1), torch.from_numpy(expected), rtol=0, atol=1e-3)


def test_folds_are_stratified():
    labels = torch.tensor([0] * 10 + [1] * 5 + [2])
    folds = stratified_folds(labels)
    assert torch.bincount(folds[labels == 0]).tolist() == [2] * 5
    assert torch.bincount(folds[labels == 1]).tolist() == [1] * 5
    assert sorted(stratified_folds(torch.tensor([0, 1])).tolist()) == [0, 1]


@pytest.mark.parametrize("labels", [[0, 0, 0, 1, 1, 3, 3], [0, 0, 1], [0, 1]])
def test_classes_of_one_image_and_of_none_leave_scores_finite(labels):
    labels = torch.tensor(labels)
    features = {stage: rows[: len(labels)] for stage, rows in sample(9)[0].items()}
    spectrum = TrainingImages(features, identity(WIDTHS), labels, 4).spectrum(list(WIDTHS))
    found = Logistic(spectrum)(0.001)
    assert found.loo_scores.isfinite().all()
    assert found.constant[2] == ABSENT
    weight, bias = found.linear()
    assert torch.equal((joined(features) @ weight.T + bias).argmax(1), labels)


def test_constant_features_leave_how_frequent_the_classes_are():
    features = {stage: torch.ones(6, width) for stage, width in WIDTHS.items()}
    labels = torch.tensor([0, 0, 0, 0, 1, 1])
    images = TrainingImages(features, fit_scaling(features), labels, 2)
    assert Logistic(images.spectrum(list(WIDTHS)))(1.0).constant.exp().tolist() == pytest.approx([2 / 3, 1 / 3])
    assert fit_closed_form(features, labels, 2, solvers=["logistic"]).logits(features).isfinite().all()


def test_what_has_not_converged_is_said(monkeypatch, caplog):
    monkeypatch.setattr(logistic, "_MAX_STEPS", 2)
    with caplog.at_level(logging.WARNING):
        fitted(60, 1e-4)
    assert "alpha 0.0001 has not converged after 2 steps" in caplog.text


def test_more_images_than_are_scored_otherwise_all_count(monkeypatch):
    monkeypatch.setattr("regraft.training.closed_form.mix.MAX_SCORED", 10)
    features, labels, _ = sample(60)
    head = fit_closed_form(features, labels, 3, solvers=["logistic"], stage_sets=[list(WIDTHS)])
    assert head.scored.tolist() == list(range(60))
    assert [pick.solver for pick in head.picks] == ["logistic"]
