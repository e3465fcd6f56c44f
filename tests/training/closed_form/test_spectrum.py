import torch

from helpers.closed_form import identity
from regraft.training.closed_form import spectrum as spectra
from regraft.training.closed_form.solvers import ridge
from regraft.training.closed_form.spectrum import TrainingImages


def test_beyond_the_largest_rank_the_directions_of_largest_variance_are_kept(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    low_rank = torch.randn(60, 5, generator=generator) @ torch.randn(5, 40, generator=generator)
    features = {"stem": low_rank[:, :15], "block0": low_rank[:, 15:]}
    labels = torch.arange(60) % 3

    def fitted() -> spectra.Spectrum:
        images = TrainingImages(features, identity({"stem": 15, "block0": 25}), labels, 3)
        return images.spectrum(["stem", "block0"])

    exact = fitted()
    monkeypatch.setattr(spectra, "MAX_RANK", 8)
    monkeypatch.setattr(spectra, "_OVERSAMPLING", 4)
    sketched = fitted()
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
    monkeypatch.setattr(spectra, "BATCH", 7)
    torch.testing.assert_close(scores(), whole)
