import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torchmetrics.functional.classification import multiclass_calibration_error

from regraft.tasks import TASKS
from regraft.tasks.class_scores import scores
from regraft.training.metrics import logged_metrics

NAMES = tuple("abcdefg")


@pytest.fixture(scope="module")
def drawn():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(200, 7)).astype(np.float32)
    targets = generator.integers(0, 7, size=200)
    logits[np.arange(200), targets] += 1
    return torch.from_numpy(logits).softmax(1).numpy(), targets


def test_they_are_those_that_training_logs(drawn):
    probabilities, targets = drawn
    logged = logged_metrics(TASKS["classification"], 7)
    logged.update(torch.from_numpy(probabilities), torch.from_numpy(targets))
    expected = {name: float(value) for name, value in logged.compute().items()}
    found = scores(probabilities, targets, NAMES).metrics
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_a_class_that_is_predicted_but_absent_weighs_as_it_does_in_training(drawn):
    probabilities, targets = drawn
    kept = targets != 3
    logged = logged_metrics(TASKS["classification"], 7)
    logged.update(torch.from_numpy(probabilities[kept]), torch.from_numpy(targets[kept]))
    found = scores(probabilities[kept], targets[kept], NAMES)
    for name in ("precision", "recall", "f1"):
        assert found.metrics[name] == pytest.approx(float(logged.compute()[name]))
    assert found.metrics["balanced_acc"] > found.metrics["recall"]


def test_the_calibration_error_is_the_fields_own(drawn):
    probabilities, targets = map(torch.from_numpy, drawn)
    expected = multiclass_calibration_error(probabilities, targets, num_classes=7, n_bins=15)
    assert scores(*drawn, NAMES).metrics["ece"] == pytest.approx(float(expected), abs=1e-6)


def test_what_an_absent_class_leaves_undefined_is_said(drawn):
    probabilities, targets = drawn
    found = scores(probabilities[targets != 3], targets[targets != 3], NAMES)
    assert found.per_class[3].auroc is None
    assert found.per_class[3].num_images == 0
    assert "1 of 7 have no sample: d." in found.undefined["auroc"]
    assert np.isfinite(list(found.metrics.values())).all()


def test_a_single_image_is_enough():
    found = scores(np.array([[0.25, 0.75]]), np.array([1]), ("cat", "dog"))
    assert "auroc" not in found.metrics
    assert "all samples are of one class" in found.undefined["auroc"]
    assert found.metrics["acc"] == found.metrics["balanced_acc"] == 1
    assert found.metrics["log_loss"] == pytest.approx(-np.log(0.75))
    assert found.confusion.tolist() == [[0, 0], [0, 1]]


def test_a_certain_mistake_costs_much_but_is_finite():
    assert 30 < scores(np.array([[1.0, 0.0]]), np.array([1]), ("a", "b")).metrics["log_loss"] < 40


def test_outputs_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match=r"not a number for 1 of 2 samples \(the first is number 1\)"):
        scores(np.array([[0.5, 0.5], [np.nan, 0.5]]), np.array([0, 1]), ("a", "b"))


def test_two_classes_have_figures_of_the_positive_one():
    generator = np.random.default_rng(1)
    targets = generator.integers(0, 2, 50)
    first = np.clip(0.5 + 0.3 * (1 - 2 * targets) + generator.normal(0, 0.3, 50), 0, 1)
    probabilities = np.stack([first, 1 - first], axis=1)
    for positive, index in ((None, 1), ("ill", 0), ("well", 1)):
        found = scores(probabilities, targets, ("ill", "well"), positive)
        is_true, share = targets == index, probabilities[:, index]
        assert found.metrics["ap"] == pytest.approx(sk.average_precision_score(is_true, share))
        assert found.metrics["f1_positive"] == pytest.approx(sk.f1_score(is_true, probabilities.argmax(1) == index))
        assert found.metrics["auroc"] == pytest.approx(sk.roc_auc_score(is_true, share))
        assert found.undefined["ap"].startswith(f"of {('ill', 'well')[index]};")
