"""Baselines, against scikit-learn's without the image."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch.nn import functional

from regraft.training.closed_form import baselines
from regraft.training.closed_form.baselines import nearest_mean, nearest_neighbours

FEATURES = torch.randn(12, 4, generator=torch.Generator().manual_seed(0)) + torch.arange(12)[:, None] % 3
LABELS = torch.arange(12) % 3
ALL = torch.arange(12)


def test_nearest_mean_scores_are_those_without_the_image():
    scores = nearest_mean(FEATURES, LABELS, 3, ALL)
    directions = functional.normalize(FEATURES.double(), dim=1)
    for left_out in range(12):
        rest = (left_out != ALL) & (LABELS[left_out] == LABELS)
        expected = functional.cosine_similarity(directions[rest].mean(0), directions[left_out], dim=0)
        torch.testing.assert_close(scores[left_out, LABELS[left_out]], expected)
    others = directions[LABELS == 1].mean(0)
    torch.testing.assert_close(scores[0, 1], functional.cosine_similarity(others, directions[0], dim=0))


def test_the_mean_of_a_class_without_other_images_is_never_nearest():
    scores = nearest_mean(FEATURES[:3], torch.tensor([0, 0, 1]), 3, torch.arange(3))
    assert scores[:, 2].tolist() == [-1, -1, -1]
    assert scores[2, 1] == -1


def test_neighbours_are_those_of_scikit_learn_without_the_image(monkeypatch):
    monkeypatch.setattr(baselines, "NUM_NEIGHBOURS", 4)
    found = nearest_neighbours(FEATURES, LABELS, 3, ALL).exp()
    for left_out in range(12):
        rest = left_out != ALL
        model = KNeighborsClassifier(4, metric="cosine", weights=lambda each: np.exp(-each / 0.07))
        model.fit(FEATURES[rest].numpy(), LABELS[rest].numpy())
        shares = model.predict_proba(FEATURES[left_out : left_out + 1].numpy())[0]
        assert found[left_out].tolist() == pytest.approx([(4 * share + 1 / 3) / 5 for share in shares], abs=1e-4)


@pytest.mark.parametrize("classify", [nearest_mean, nearest_neighbours])
def test_a_part_of_the_images_can_be_scored(classify):
    scored = torch.tensor([3, 7])
    # A matrix product may add in another order where it has other rows.
    expected = classify(FEATURES, LABELS, 3, ALL)[scored]
    torch.testing.assert_close(classify(FEATURES, LABELS, 3, scored), expected, rtol=1e-5, atol=1e-5)


def test_constant_features_leave_scores_finite():
    assert nearest_mean(torch.zeros(4, 2), torch.tensor([0, 0, 1, 1]), 2, torch.arange(4)).isfinite().all()
    assert nearest_neighbours(torch.zeros(2, 2), torch.tensor([0, 1]), 2, torch.arange(2)).isfinite().all()
