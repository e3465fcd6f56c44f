import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from regraft.core.errors import ConfigError
from regraft.evaluation import temperature
from regraft.evaluation.options import ThresholdMetric
from regraft.evaluation.thresholds import fit
from regraft.tasks import TASKS
from regraft.tasks.class_scores import predicted_classes

GENERATOR = np.random.default_rng(0)
TARGETS = (GENERATOR.random((80, 3)) < [0.2, 0.5, 0.0]).astype(np.float32)
F1 = ThresholdMetric.of("f1")
LOGITS = (3 * (TARGETS - 0.7) + GENERATOR.normal(size=(80, 3))).astype(np.float32)


@pytest.fixture
def checkpoint(tmp_path):
    (tmp_path / "best.ckpt").write_bytes(b"weights")
    return tmp_path / "best.ckpt"


def test_no_other_threshold_has_a_higher_f1(checkpoint):
    probabilities = 1 / (1 + np.exp(-LOGITS))
    found = fit(
        TASKS["multilabel"], probabilities, TARGETS, ("a", "b", "c"), F1, checkpoint, split="val", temperature=1.0
    )
    assert found.values["c"] == 0.5  # no image has the label
    assert found.after["F1"] > found.before["F1"]
    for index, name in enumerate("ab"):
        best = max(
            f1_score(TARGETS[:, index], probabilities[:, index] > limit) for limit in [0, *probabilities[:, index]]
        )
        chosen = f1_score(TARGETS[:, index], probabilities[:, index] > found.values[name])
        assert chosen == pytest.approx(best)


def test_the_temperature_of_labels_has_the_least_log_loss(checkpoint):
    found = temperature.fit(5 * LOGITS, TARGETS, "val", checkpoint)

    def loss(divisor):
        return np.logaddexp(0, np.where(TARGETS > 0.5, -1, 1) * 5 * LOGITS / divisor).mean()

    assert found.log_loss_after == pytest.approx(loss(found.temperature), rel=1e-5)
    assert all(loss(found.temperature * factor) > found.log_loss_after for factor in (0.9, 1.1))
    with pytest.raises(ValueError, match=r"all 80 held-out samples \(val\) are classified correctly"):
        temperature.fit(TARGETS - 0.5, TARGETS, "val", checkpoint)


SECOND = 1 / (1 + np.exp(-LOGITS[:, 0]))
OF_CLASSES = np.stack([1 - SECOND, SECOND], axis=1)
CLASSES = TARGETS[:, 0].astype(np.int64)


def fit_two(metric, checkpoint, positive=None, targets=CLASSES):
    task, metric = TASKS["classification"], ThresholdMetric.of(metric)
    return fit(
        task, OF_CLASSES, targets, ("a", "b"), metric, checkpoint, split="val", temperature=1.0, positive=positive
    )


@pytest.mark.parametrize(("positive", "index"), [(None, 1), ("a", 0)])
def test_of_two_classes_the_positive_one_has_the_threshold(checkpoint, positive, index):
    found = fit_two("f1", checkpoint, positive)
    assert sum(found.values.values()) == pytest.approx(1)
    is_true, shares = index == CLASSES, OF_CLASSES[:, index]
    best = max(f1_score(is_true, shares > limit) for limit in [0, *shares])
    predicted = predicted_classes(OF_CLASSES, np.array(list(found.values.values())))
    assert ((predicted == index) == (shares > found.values["ab"[index]])).all()
    assert f1_score(is_true, predicted == index) == pytest.approx(best)
    assert found.after["F1"] == pytest.approx(best)


def test_the_recall_is_the_highest_with_a_precision(checkpoint):
    found = fit_two("recall@precision=0.8", checkpoint)
    scores = [[score(CLASSES, limit < SECOND, zero_division=0) for limit in [0, *SECOND]] for score in SCORES]
    best = max(recall for recall, precision in zip(*scores, strict=True) if precision >= 0.8)
    assert (found.after["recall"], found.after["precision"] >= 0.8) == (pytest.approx(best), True)
    assert found.values["b"] != 0.5


SCORES = (recall_score, precision_score)


def test_what_no_threshold_can_do_is_said(checkpoint):
    reversed_ranks = (np.median(SECOND) > SECOND).astype(np.int64)
    with pytest.raises(
        ConfigError, match=r"no threshold of b has that precision on the held-out samples \(val\); the highest is"
    ):
        fit_two("recall@precision=0.99", checkpoint, targets=reversed_ranks)
    with pytest.raises(ConfigError, match=r"of the 80 held-out samples \(val\) either all or none are of b"):
        fit_two("f1", checkpoint, targets=np.zeros(80, np.int64))


@pytest.mark.parametrize("text", ["accuracy", "recall", "recall@precision=", "recall@precision=2", "f1@precision=1"])
def test_metrics_of_thresholds_are_checked(text):
    with pytest.raises(ConfigError, match=r"metric: got .*; allowed: f1, or recall@precision=P"):
        ThresholdMetric.of(text)
