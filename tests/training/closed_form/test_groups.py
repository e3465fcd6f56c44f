"""Scores without whole groups, against refits without them."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from helpers.closed_form import WIDTHS, identity, joined, sample
from regraft.tasks import TASKS
from regraft.training.auto.scores import score
from regraft.training.closed_form import groups as module
from regraft.training.closed_form.baselines import nearest_neighbours
from regraft.training.closed_form.criteria import CRITERIA
from regraft.training.closed_form.logistic import stratified_folds
from regraft.training.closed_form.mix import fit_closed_form
from regraft.training.closed_form.solvers import discriminant, ridge
from regraft.training.closed_form.training_images import TrainingImages
from training.closed_form.test_solvers import refit_discriminant, refit_ridge

ALPHA = 0.7
GROUPS = {
    "small, and single images": lambda num: torch.arange(num) // 3 + (torch.arange(num) % 7 == 0) * 100,
    "more images than directions": lambda num: torch.arange(num) * 2 // num,
}


@pytest.mark.parametrize("groups_of", GROUPS.values(), ids=GROUPS)
@pytest.mark.parametrize("is_weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("solver", ["ridge", "discriminant"])
def test_scores_are_those_of_refits_without_the_group(solver, is_weighted, groups_of):
    features, labels, weight = sample(60)
    groups = groups_of(60)
    w = weight.double() * 60 / weight.sum() if is_weighted else torch.ones(60, dtype=torch.float64)
    images = TrainingImages(features, identity(WIDTHS), labels, 3, sample_weight=w, groups=groups)
    solution = {"ridge": ridge, "discriminant": discriminant}[solver](images.spectrum(list(WIDTHS)), ALPHA)
    x = joined(features)
    prior = torch.zeros(3, dtype=torch.float64).index_add_(0, labels, w) / 60
    for group in groups.unique():
        left, rest = groups == group, groups != group
        if solver == "ridge":
            weights, bias = refit_ridge(x[rest], labels[rest], w[rest])
            torch.testing.assert_close(solution.loo_scores[left], x[left] @ weights.T + bias)
        else:
            weights, bias = refit_discriminant(x[rest], labels[rest], w[rest], 57.0, prior)
            found, expected = solution.loo_scores[left], x[left] @ weights.T + bias
            torch.testing.assert_close(found - found[:, :1], expected - expected[:, :1])


@pytest.mark.parametrize("size", [3, 40])
def test_rows_are_those_of_refits_without_the_group(size):
    features, _, weight = sample(60)
    targets = torch.randn(60, 2, generator=torch.Generator().manual_seed(3))
    groups = torch.arange(60) // size
    images = TrainingImages(features, identity(WIDTHS), targets, 2, sample_weight=weight, groups=groups)
    found = ridge(images.spectrum(list(WIDTHS)), ALPHA).loo_scores
    x, y, w = joined(features).numpy(), targets.double().numpy(), images.weight.numpy()
    for group in range(int(groups.max()) + 1):
        left = (groups == group).numpy()
        alone = Ridge(alpha=ALPHA).fit(x[~left], y[~left], w[~left]).predict(x[left])
        np.testing.assert_allclose(found[left].numpy(), alone, rtol=1e-5, atol=1e-7)


def test_groups_of_one_image_give_what_no_groups_give(monkeypatch):
    monkeypatch.setattr(module, "_NUMBERS_AT_ONCE", 100)  # several blocks
    features, labels, weight = sample(40)
    alone = fit_closed_form(features, labels, 3, sample_weight=weight)
    grouped = fit_closed_form(features, labels, 3, sample_weight=weight, groups=torch.arange(40))
    torch.testing.assert_close(grouped.loo_logits, alone.loo_logits)
    torch.testing.assert_close(grouped.weight, alone.weight)


def test_a_class_whose_images_are_all_in_a_group_says_nothing():
    features, labels, _ = sample(40)
    groups = torch.where(labels == 2, 0, torch.arange(40) % 4 + 1)
    found = fit_closed_form(features, labels, 3, groups=groups)
    assert found.is_informative.tolist() == (labels != 2).tolist()
    assert bool(found.loo_logits.isfinite().all())


@pytest.mark.parametrize("task", list(TASKS))
def test_a_single_group_leaves_nothing_so_nothing_is_chosen(task):
    features, labels, _ = sample(40)
    targets = labels if task == "classification" else torch.nn.functional.one_hot(labels, 3).float()
    solvers = ("ridge", "discriminant") if task == "classification" else ("ridge",)
    single = torch.zeros(40, dtype=torch.int64)
    options = {"solvers": solvers, "make_criterion": CRITERIA[task]}
    found = fit_closed_form(features, targets, 3, groups=single, **options)
    assert not found.is_informative.any()
    assert {pick.alpha for pick in found.picks} == {1.0}
    with pytest.raises(ValueError, match="is in two groups, so nothing can be left out"):
        score(features, targets, 3, TASKS[task], groups=single)


def test_images_that_are_alike_within_a_group_are_no_longer_easy():
    generator = torch.Generator().manual_seed(0)
    of_groups = torch.randn(30, 8, generator=generator)
    groups = torch.arange(30).repeat_interleave(8)
    features = {"last": of_groups[groups] + 0.05 * torch.randn(240, 8, generator=generator)}
    labels = torch.randint(2, (30,), generator=generator)[groups]  # of a group, and otherwise by chance
    alone, together = (score(features, labels, 2, groups=each).headline for each in (None, groups))
    assert alone > 0.65 > together
    votes = nearest_neighbours(features["last"], labels, 2, torch.arange(240), groups)
    assert float((votes.argmax(1) == labels).float().mean()) < 0.75


def test_whole_groups_are_scored_where_not_all_images_are():
    features, labels, _ = sample(40)
    groups = torch.arange(40) // 4
    images = TrainingImages(features, identity(WIDTHS), labels, 3, groups=groups, max_scored=10)
    assert len(images.scored) == 8
    assert torch.bincount(groups[images.scored]).unique().tolist() == [0, 4]
    assert len(TrainingImages(features, identity(WIDTHS), labels, 3, groups=groups, max_scored=2).scored) == 4


def test_folds_keep_groups_together():
    labels, groups = torch.arange(60) % 3, torch.arange(60) // 4
    folds = stratified_folds(labels, groups)
    assert len(folds.unique()) == 5
    assert all(len(folds[groups == group].unique()) == 1 for group in groups.unique())
