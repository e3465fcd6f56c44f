import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from regraft.training.closed_form.baselines import nearest_mean, nearest_neighbours

FEATURES = torch.randn(12, 4, generator=torch.Generator().manual_seed(0)) + torch.arange(12)[:, None] % 3
LABELS = torch.arange(12) % 3


def test_nearest_mean_is_that_of_scikit_learn():
    weight, bias, _ = nearest_mean(FEATURES, LABELS, 3)
    model = NearestCentroid().fit(FEATURES.numpy(), LABELS.numpy())
    ours = (FEATURES.double() @ weight.T + bias).argmax(1)
    assert ours.tolist() == model.predict(FEATURES.numpy()).tolist()


def test_nearest_mean_scores_are_those_without_the_image():
    _, _, scores = nearest_mean(FEATURES, LABELS, 3)
    for left_out in range(12):
        rest = torch.arange(12) != left_out
        weight, bias, _ = nearest_mean(FEATURES[rest], LABELS[rest], 3)
        torch.testing.assert_close(scores[left_out], weight @ FEATURES[left_out].double() + bias)


def test_the_mean_of_a_class_without_other_images_is_never_nearest():
    weight, bias, scores = nearest_mean(FEATURES[:4], torch.tensor([0, 0, 1, 1]), 3)
    assert bias[2] == -torch.inf
    _, _, scores = nearest_mean(FEATURES[:3], torch.tensor([0, 0, 1]), 2)
    assert scores[2].tolist()[1] == -torch.inf
    assert weight.isfinite().all()


def test_neighbours_are_those_of_scikit_learn_without_the_image():
    votes = nearest_neighbours(FEATURES, LABELS, 3, num_neighbours=4)
    for left_out in range(12):
        rest = torch.arange(12) != left_out
        model = KNeighborsClassifier(4, metric="cosine").fit(FEATURES[rest].numpy(), LABELS[rest].numpy())
        shares = model.predict_proba(FEATURES[left_out : left_out + 1].numpy())[0]
        assert (votes[left_out] / 4).tolist() == pytest.approx(shares.tolist())


def test_neighbours_are_at_most_all_other_images():
    assert nearest_neighbours(FEATURES[:3], LABELS[:3], 3, num_neighbours=20).sum(1).tolist() == [2, 2, 2]
