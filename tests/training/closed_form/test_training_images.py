import pytest
import torch

from helpers.closed_form import identity
from regraft.training.closed_form import eigenpairs, training_images
from regraft.training.closed_form.scatter import Spectrum
from regraft.training.closed_form.solvers import ridge
from regraft.training.closed_form.training_images import TrainingImages


def test_beyond_the_largest_rank_the_directions_of_largest_variance_are_kept(monkeypatch, caplog):
    generator = torch.Generator().manual_seed(0)
    low_rank = torch.randn(60, 5, generator=generator) @ torch.randn(5, 40, generator=generator)
    features = {"stem": low_rank[:, :15], "block0": low_rank[:, 15:]}
    labels = torch.arange(60) % 3

    def fitted() -> Spectrum:
        images = TrainingImages(features, identity({"stem": 15, "block0": 25}), labels, 3)
        return images.spectrum(["stem", "block0"])

    exact = fitted()
    monkeypatch.setattr(training_images, "MAX_RANK", 8)
    monkeypatch.setattr(eigenpairs, "_OVERSAMPLING", 4)
    with caplog.at_level("INFO", "regraft"):
        sketched = fitted()
    assert "about the 8 directions of largest variance are fitted" in caplog.text
    assert len(sketched.eigenvalues) <= 8
    torch.testing.assert_close(sketched.eigenvalues[-5:], exact.eigenvalues[-5:])
    torch.testing.assert_close(ridge(sketched, 2.0).loo_scores, ridge(exact, 2.0).loo_scores, rtol=0, atol=1e-4)


def test_batches_do_not_change_the_result(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    features = {"stem": torch.randn(50, 6, generator=generator), "block0": torch.randn(50, 9, generator=generator)}
    labels, weight = torch.arange(50) % 3, torch.rand(50, generator=generator) + 0.1

    def scores() -> torch.Tensor:
        images = TrainingImages(features, identity({"stem": 6, "block0": 9}), labels, 3, sample_weight=weight)
        return ridge(images.spectrum(["stem", "block0"]), 2.0).loo_scores

    whole = scores()
    monkeypatch.setattr(training_images, "BATCH", 7)
    torch.testing.assert_close(scores(), whole)


def test_single_precision_gives_the_scores_that_it_says(monkeypatch):
    monkeypatch.setattr(training_images, "_MIN_SIZE_FOR_SINGLE", 20)
    generator = torch.Generator().manual_seed(0)
    features, labels = {"stem": torch.randn(60, 100, generator=generator)}, torch.arange(60) % 3
    images = TrainingImages(features, identity({"stem": 100}), labels, 3)
    exact, single = images.spectrum(["stem"]), images.spectrum(["stem"], may_be_single=True)
    assert exact.least_alpha == 0 < single.least_alpha
    assert not torch.equal(single.eigenvalues, exact.eigenvalues)
    for alpha in (single.least_alpha, 10 * single.least_alpha):
        scores = ridge(exact, alpha).loo_scores
        torch.testing.assert_close(ridge(single, alpha).loo_scores, scores, rtol=0, atol=1e-3)


def test_images_of_next_to_no_weight_have_the_scores_of_double_precision(monkeypatch):
    monkeypatch.setattr(training_images, "_MIN_SIZE_FOR_SINGLE", 20)
    generator = torch.Generator().manual_seed(0)
    features, labels = {"stem": torch.randn(60, 100, generator=generator)}, torch.arange(60) % 3
    for least in (1e-8, 0.1):
        weight = torch.ones(60)
        weight[0] = least
        images = TrainingImages(features, identity({"stem": 100}), labels, 3, sample_weight=weight)
        exact, single = images.spectrum(["stem"]), images.spectrum(["stem"], may_be_single=True)
        scores = ridge(exact, 10.0).loo_scores
        torch.testing.assert_close(ridge(single, 10.0).loo_scores, scores, rtol=0, atol=1e-3)


def test_a_sample_has_images_of_each_class_and_repeats():
    labels = torch.zeros(500, dtype=torch.int64)
    labels[[17, 480]] = torch.tensor([2, 1])
    weight = torch.ones(500)
    weight[17] = 3
    features = {"stem": torch.arange(500.0)[:, None]}
    images = TrainingImages(features, identity({"stem": 1}), labels, 3, sample_weight=weight)
    one, other = (images.sample(40, least_of_class=4) for _ in range(2))
    assert torch.bincount(one.labels).tolist() == [38, 1, 1]
    assert float(one.weight[one.labels == 2]) == pytest.approx(3 * float(one.weight[one.labels == 1]))
    assert torch.equal(one.spectrum(["stem"]).coordinates, other.spectrum(["stem"]).coordinates)
