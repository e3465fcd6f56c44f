import logging

import numpy as np
import pytest
from scipy.special import softmax

from regraft.evaluation.temperature import fit, tempered
from regraft.runs.calibration import CALIBRATION, temperature_of, write
from regraft.runs.folder import Run


@pytest.fixture
def drawn(tmp_path):
    """Returns logits that are three times as sure as they should be, and their targets."""
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(4000, 5)) * 2
    targets = np.array([generator.choice(5, p=row) for row in softmax(logits, axis=1)])
    return 3 * logits, targets


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path)
    run.best_ckpt.parent.mkdir()
    run.best_ckpt.write_bytes(b"weights")
    return run


def test_the_temperature_undoes_how_sure_the_logits_are(drawn, run):
    found = fit(*drawn, "val", run.best_ckpt)
    assert found.temperature == pytest.approx(3, rel=0.05)
    assert found.log_loss_after < found.log_loss_before


def test_it_is_the_minimum(drawn, run):
    logits, targets = drawn
    found = fit(logits, targets, "val", run.best_ckpt)
    for factor in (0.99, 1.01):
        near = softmax(logits / (found.temperature * factor), axis=1)
        assert -np.log(near[np.arange(len(targets)), targets]).mean() > found.log_loss_after


def test_it_holds_for_the_weights_it_was_fitted_for(drawn, run, caplog):
    assert temperature_of(run, run.best_ckpt) == 1
    assert temperature_of(None, run.best_ckpt) == 1
    found = fit(*drawn, "val", run.best_ckpt)
    write(run, found)
    assert temperature_of(run, run.best_ckpt) == found.temperature
    run.best_ckpt.write_bytes(b"other weights")
    with caplog.at_level(logging.WARNING):
        assert temperature_of(run, run.best_ckpt) == 1
    assert "other weights than those of best.ckpt" in caplog.text


@pytest.mark.parametrize("content", ["{", "[]", '{"temperature": 0, "sha256": ""}', '{"temperature": 2}', ""])
def test_a_damaged_file_is_said(run, content):
    (run.path / CALIBRATION).write_text(content)
    with pytest.raises(ValueError, match=r"calibration\.json is damaged"):
        temperature_of(run, run.best_ckpt)


def test_where_there_is_no_best_temperature_that_is_said(run):
    logits = np.array([[2.0, 1.0], [0.0, 1.0]])
    with pytest.raises(ValueError, match=r"all 2 held-out samples \(val\) are classified correctly"):
        fit(logits, np.array([0, 1]), "val", run.best_ckpt)
    with pytest.raises(ValueError, match="as well as chance"):
        fit(logits, np.array([1, 1]), "val", run.best_ckpt)


def test_probabilities_alone_are_enough_to_apply_it():
    logits = np.array([[3.0, 1.0, -200.0]])
    assert tempered(softmax(logits, axis=1), 2.5) == pytest.approx(softmax(logits / 2.5, axis=1))
    assert tempered(np.array([[1.0, 0.0]]), 2.0).tolist() == [[1.0, 0.0]]
