import numpy as np
import pytest
import torch

from regraft.runs.predictions import PREDICTIONS, Predictions, read, write
from regraft.training.callbacks import predictions as callback
from regraft.training.callbacks.predictions import predictions_of


def test_a_run_keeps_what_its_test_said(small_run):
    found = read(small_run.path, with_probabilities=True)
    assert found.split == "test"
    right = float((found.predicted == found.targets).mean())
    assert right == pytest.approx(small_run.metrics["test/acc"])
    assert found.probabilities.shape == (len(found.indices), 10)
    assert found.probabilities.sum(1) == pytest.approx(1)
    assert (found.probabilities.argmax(1) == found.predicted).all()
    assert (found.probabilities.max(1) == found.confidences).all()
    assert (np.diff(found.indices) > 0).all()
    of_targets = found.probabilities[np.arange(len(found.targets)), found.targets]
    assert -np.log(of_targets).mean() == pytest.approx(small_run.metrics["test/loss"], rel=1e-4)


def test_they_are_in_the_order_of_the_images_whatever_the_batches():
    logits = torch.eye(4)
    batches = [
        (torch.tensor([5, 1]), torch.tensor([2, 0]), logits[[2, 1]]),
        (torch.tensor([3, 0]), torch.tensor([1, 3]), logits[[1, 3]]),
    ]
    found = predictions_of("val", batches)
    assert found.split == "val"
    assert found.indices.tolist() == [0, 1, 3, 5]
    assert found.targets.tolist() == [3, 0, 1, 2]
    assert found.predicted.tolist() == [3, 1, 1, 2]


def test_too_many_probabilities_are_left_out(monkeypatch):
    batch = (torch.arange(3), torch.arange(3), torch.eye(3))
    monkeypatch.setattr(callback, "MAX_PROBABILITY_BYTES", 35)
    found = predictions_of("test", [batch])
    assert found.probabilities is None
    assert found.confidences.shape == (3,)
    monkeypatch.setattr(callback, "MAX_PROBABILITY_BYTES", 36)
    assert predictions_of("test", [batch]).probabilities is not None


def predictions(num=3, **more):
    whole = np.arange(num)
    return Predictions("test", whole, whole, whole, np.ones(num, np.float32), **more)


def test_what_is_written_is_read(tmp_path):
    write(tmp_path, predictions(probabilities=np.eye(3, dtype=np.float32)))
    assert (read(tmp_path, with_probabilities=True).probabilities == np.eye(3)).all()
    assert read(tmp_path).probabilities is None
    write(tmp_path, predictions(num=2))
    assert len(read(tmp_path, with_probabilities=True).indices) == 2


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff" * 64, b"\x02\x00\x00\x00\x00\x00\x00\x00{}"])
def test_a_damaged_file_is_none(tmp_path, content):
    (tmp_path / PREDICTIONS).write_bytes(content)
    assert read(tmp_path) is None


def test_half_a_file_is_none(tmp_path):
    assert read(tmp_path) is None
    write(tmp_path, predictions())
    whole = (tmp_path / PREDICTIONS).read_bytes()
    (tmp_path / PREDICTIONS).write_bytes(whole[:-1])
    assert read(tmp_path) is None


def test_columns_that_do_not_fit_are_none(tmp_path):
    whole = np.arange(3)
    write(tmp_path, Predictions("test", whole, whole[:2], whole, np.ones(3, np.float32)))
    assert read(tmp_path) is None


def test_the_predicted_class_has_the_highest_logit_where_probabilities_are_equal():
    logits = torch.tensor([[0.0, 1e-9], [1e-9, 0.0]])
    found = predictions_of("test", [(torch.arange(2), torch.tensor([1, 0]), logits)])
    assert found.confidences.tolist() == [0.5, 0.5]
    assert found.predicted.tolist() == [1, 0]
