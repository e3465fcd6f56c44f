"""Cholesky factors against the spectrum, which the other tests compare with refits."""

import pytest
import torch

from helpers.closed_form import WIDTHS, identity, sample
from regraft.training.closed_form.scatter import GramMatrix, ScatterMatrix
from regraft.training.closed_form.solvers import discriminant, ridge
from regraft.training.closed_form.training_images import TrainingImages


@pytest.mark.parametrize(("num_images", "kind"), [(8, GramMatrix), (40, ScatterMatrix)])
@pytest.mark.parametrize("solver", [ridge, discriminant])
def test_a_factor_gives_the_head_and_the_scores_of_the_spectrum(num_images, kind, solver):
    features, labels, weight = sample(num_images)
    images = TrainingImages(features, identity(WIDTHS), labels, 4, sample_weight=weight, max_scored=num_images - 2)
    matrix, spectrum = images.matrix(list(WIDTHS)), images.spectrum(list(WIDTHS))
    assert isinstance(matrix, kind)
    for alpha in (0.7, 1e6):
        found, expected = solver(matrix, alpha), solver(spectrum, alpha)
        torch.testing.assert_close(found.loo_scores, expected.loo_scores)
        torch.testing.assert_close(found.linear(), expected.linear())


@pytest.mark.parametrize("num_images", [8, 40])
def test_a_factor_serves_rows_of_targets(num_images):
    features, _, weight = sample(num_images)
    targets = torch.stack([features["block0"][:, 0], weight], dim=1)
    images = TrainingImages(features, identity(WIDTHS), targets, 2, sample_weight=weight)
    found, expected = (ridge(each(list(WIDTHS)), 0.7) for each in (images.matrix, images.spectrum))
    torch.testing.assert_close(found.loo_scores, expected.loo_scores)
    torch.testing.assert_close(found.linear(), expected.linear())


def test_further_stages_are_added_to_the_products_of_the_last_ones():
    features, labels, _ = sample(6)
    images = TrainingImages(features, identity(WIDTHS), labels, 3)
    for stages in (["block1"], ["block0", "block1"], ["block1"]):
        alone = TrainingImages(features, identity(WIDTHS), labels, 3)
        found, expected = (ridge(each.matrix(stages), 0.7) for each in (images, alone))
        torch.testing.assert_close(found.loo_scores, expected.loo_scores)


@pytest.mark.parametrize("width", [50, 100])
@pytest.mark.parametrize("distance", [0, 10])
@pytest.mark.parametrize("solver", [ridge, discriminant])
def test_a_factor_in_single_precision_gives_the_scores_that_it_says(width, distance, solver, monkeypatch):
    monkeypatch.setattr("regraft.training.closed_form.training_images._MIN_SIZE_FOR_SINGLE", 20)
    generator = torch.Generator().manual_seed(0)
    labels, centres = torch.arange(60) % 3, distance * torch.randn(3, width, generator=generator)
    features = {"stem": torch.randn(60, width, generator=generator) + centres[labels]}
    images = TrainingImages(features, identity({"stem": width}), labels, 3)
    exact, single = images.matrix(["stem"]), images.matrix(["stem"], may_be_single=True)
    assert exact.least_alpha == 0 < single.least_alpha
    scores = solver(exact, single.least_alpha).loo_scores
    found = solver(single, single.least_alpha).loo_scores
    assert not torch.equal(found, scores)
    torch.testing.assert_close(found, scores, rtol=0, atol=3e-3 * float(scores.std()))
