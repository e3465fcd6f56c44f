import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from regraft.tasks import TASKS
from regraft.tasks.bootstrap import resamples
from regraft.tasks.label_scores import average_precisions, scores
from regraft.training.metrics import logged_metrics

NAMES = ("red", "green", "blue", "grey")


@pytest.fixture(scope="module")
def drawn():
    generator = np.random.default_rng(0)
    targets = (generator.random((60, 4)) < [0.5, 0.2, 0.7, 0.3]).astype(np.float32)
    logits = (generator.normal(size=(60, 4)) + targets).astype(np.float32)
    return logits, torch.from_numpy(logits).sigmoid().numpy(), targets


def test_they_are_those_of_scikit_learn(drawn):
    _, probabilities, targets = drawn
    found, predicted = scores(probabilities, targets, NAMES), probabilities > 0.5
    expected = {
        "map": sk.average_precision_score(targets, probabilities),
        "auroc": sk.roc_auc_score(targets, probabilities),
        "f1": sk.f1_score(targets, predicted, average="macro"),
        "f1_micro": sk.f1_score(targets, predicted, average="micro"),
        "precision": sk.precision_score(targets, predicted, average="macro"),
        "recall": sk.recall_score(targets, predicted, average="macro"),
        "exact_match": sk.accuracy_score(targets, predicted),
        "hamming": sk.hamming_loss(targets, predicted),
        "log_loss": np.mean([sk.log_loss(targets[:, i], probabilities[:, i].astype(np.float64)) for i in range(4)]),
    }
    assert {name: found.metrics[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert set(found.metrics) == {*expected, "map_low", "map_high"}
    assert [row.ap for row in found.per_class] == pytest.approx(
        list(sk.average_precision_score(targets, probabilities, average=None)), abs=1e-6
    )


def test_training_logs_the_same(drawn):
    logits, probabilities, targets = drawn
    logged = logged_metrics(TASKS["multilabel"], 4)
    for part in (slice(0, 25), slice(25, 60)):
        logged.update(torch.from_numpy(logits[part]), torch.from_numpy(targets[part]))
    found = scores(probabilities, targets, NAMES).metrics
    assert {name: float(value) for name, value in logged.compute().items()} == pytest.approx(
        {name: found[name] for name in ("map", "f1", "f1_micro", "exact_match")}
    )


def test_a_label_that_no_image_has_is_left_out_and_said(drawn):
    _, probabilities, targets = drawn
    lacking = targets * [1, 1, 0, 1]
    found = scores(probabilities, lacking, NAMES)
    assert found.per_class[2].ap is found.per_class[2].auroc is None
    assert "1 of 4 have no sample: blue." in found.undefined["map"]
    assert found.metrics["map"] == pytest.approx(
        sk.average_precision_score(lacking[:, [0, 1, 3]], probabilities[:, [0, 1, 3]])
    )


def test_thresholds_decide_which_labels_are_predicted(drawn):
    _, probabilities, targets = drawn
    found = scores(probabilities, targets, NAMES, np.array([1.0, 0.5, 0.5, 0.0]))
    assert found.per_class[0].num_predicted == 0
    assert found.per_class[3].num_predicted == 60


def test_average_precisions_of_resamples_are_scikit_learns(drawn):
    _, probabilities, targets = drawn
    rounded = probabilities[:, 1].round(1)  # with ties
    counts = next(resamples(60, 5))
    expected = [sk.average_precision_score(targets[:, 1], rounded, sample_weight=row) for row in counts]
    assert average_precisions(targets[:, 1], rounded, counts) == pytest.approx(expected)
    assert np.isnan(average_precisions(np.zeros(60), rounded, counts)).all()
    found = scores(probabilities, targets, NAMES).metrics
    assert found["map_low"] < found["map"] < found["map_high"]


def test_a_single_label_has_the_figures_of_its_images():
    targets = np.array([[0.0], [1.0], [1.0], [0.0]], np.float32)
    found = scores(np.array([[0.6], [0.7], [0.8], [0.1]], np.float32), targets, ["ill"])
    assert found.metrics["precision"] == pytest.approx(2 / 3)
    assert found.metrics["recall"] == 1
    assert found.metrics["f1"] == found.metrics["f1_micro"] == pytest.approx(0.8)
