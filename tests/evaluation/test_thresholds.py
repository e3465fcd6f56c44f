import numpy as np
import pytest
from sklearn.metrics import f1_score

from regraft.evaluation import temperature
from regraft.evaluation.thresholds import fit

GENERATOR = np.random.default_rng(0)
TARGETS = (GENERATOR.random((80, 3)) < [0.2, 0.5, 0.0]).astype(np.float32)
LOGITS = (3 * (TARGETS - 0.7) + GENERATOR.normal(size=(80, 3))).astype(np.float32)


@pytest.fixture
def checkpoint(tmp_path):
    (tmp_path / "best.ckpt").write_bytes(b"weights")
    return tmp_path / "best.ckpt"


def test_no_other_threshold_has_a_higher_f1(checkpoint):
    probabilities = 1 / (1 + np.exp(-LOGITS))
    found = fit(probabilities, TARGETS, ("a", "b", "c"), "val", checkpoint, 1.0)
    assert found.values["c"] == 0.5  # no image has the label
    assert found.f1_after > found.f1_before
    for index, name in enumerate("ab"):
        best = max(f1_score(TARGETS[:, index], probabilities[:, index] > limit) for limit in np.linspace(0, 1, 500))
        chosen = f1_score(TARGETS[:, index], probabilities[:, index] > found.values[name])
        assert chosen == pytest.approx(best)


def test_the_temperature_of_labels_has_the_least_log_loss(checkpoint):
    found = temperature.fit(5 * LOGITS, TARGETS, "val", checkpoint)

    def loss(divisor):
        return np.logaddexp(0, np.where(TARGETS > 0.5, -1, 1) * 5 * LOGITS / divisor).mean()

    assert found.log_loss_after == pytest.approx(loss(found.temperature), rel=1e-5)
    assert all(loss(found.temperature * factor) > found.log_loss_after for factor in (0.9, 1.1))
    with pytest.raises(ValueError, match="all 80 images of val are classified correctly"):
        temperature.fit(TARGETS - 0.5, TARGETS, "val", checkpoint)
