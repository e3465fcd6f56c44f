import pytest
import torch
from sklearn.linear_model import LogisticRegression

from helpers.closed_form import WIDTHS, identity, joined, sample
from regraft.training.closed_form.logistic import logistic, stratified_folds
from regraft.training.closed_form.spectrum import Spectrum, TrainingImages


def spectrum_of(num_images: int) -> Spectrum:
    features, labels, weight = sample(num_images)
    return TrainingImages(features, identity(WIDTHS), labels, 3, sample_weight=weight).spectrum(list(WIDTHS))


@pytest.mark.parametrize("num_images", [9, 60], ids=["more features", "more images"])
@pytest.mark.parametrize("decay", [0.01, 1.0])
def test_is_that_of_scikit_learn(num_images, decay):
    features, labels, weight = sample(num_images)
    head = logistic(spectrum_of(num_images), decays=[decay])
    x = joined(features)
    theirs = LogisticRegression(C=1 / decay, tol=1e-9, max_iter=10_000).fit(
        x.numpy(), labels.numpy(), sample_weight=(weight * num_images / weight.sum()).numpy()
    )
    expected = torch.from_numpy(theirs.decision_function(x.numpy()))
    ours = x @ head.weight.T + head.bias
    torch.testing.assert_close(ours.softmax(1), expected.softmax(1), rtol=0, atol=1e-3)


def test_fold_logits_are_those_of_a_fit_without_the_fold():
    features, labels, _ = sample(60)
    images = TrainingImages(features, identity(WIDTHS), labels, 3)
    head = logistic(images.spectrum(list(WIDTHS)), decays=[0.3], num_folds=4)
    x, is_left_out = joined(features), stratified_folds(labels, 4, 0) == 2
    model = LogisticRegression(C=1 / 0.3, tol=1e-9, max_iter=10_000).fit(
        x[~is_left_out].numpy(), labels[~is_left_out].numpy()
    )
    expected = torch.from_numpy(model.predict_proba(x[is_left_out].numpy()))
    torch.testing.assert_close(head.fold_logits[is_left_out].softmax(1), expected, rtol=0, atol=1e-3)


def test_the_decay_has_the_least_cross_validated_log_loss():
    spectrum = spectrum_of(60)
    decays = [0.001, 0.1, 10.0, 1000.0]
    losses = {decay: logistic(spectrum, decays=[decay]).fold_log_loss for decay in decays}
    assert logistic(spectrum, decays=decays).decay == min(losses, key=losses.__getitem__)


def test_folds_are_stratified():
    labels = torch.tensor([0] * 10 + [1] * 5 + [2])
    folds = stratified_folds(labels, 5, seed=1)
    assert torch.bincount(folds[labels == 0]).tolist() == [2] * 5
    assert torch.bincount(folds[labels == 1]).tolist() == [1] * 5


def test_a_class_with_one_image_is_predicted_and_its_fold_is_finite():
    features, _, _ = sample(9)
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2])
    head = logistic(TrainingImages(features, identity(WIDTHS), labels, 3).spectrum(list(WIDTHS)), decays=[0.001])
    assert head.fold_logits.isfinite().all()
    assert (joined(features) @ head.weight.T + head.bias).argmax(1)[-1] == 2
