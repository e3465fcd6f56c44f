from types import SimpleNamespace

import pytest
import torch

from regraft.runs.state import Pruned
from regraft.training.callbacks.pruning import PruneUnpromising


class Trial:
    """Gives up what is reported below a half."""

    metric = "val/acc"

    def __init__(self):
        self.reported = []

    def should_prune(self, value, epoch):
        self.reported.append((value, epoch))
        return value < 0.5


def trainer(epoch, **logged):
    metrics = {f"val/{name}": torch.tensor(value) for name, value in logged.items()}
    strategy = SimpleNamespace(reduce_boolean_decision=lambda decision, all: decision)
    return SimpleNamespace(
        callback_metrics=metrics,
        current_epoch=epoch,
        max_epochs=3,
        is_global_zero=True,
        sanity_checking=False,
        strategy=strategy,
    )


def test_a_validated_epoch_is_reported_once_and_a_poor_one_ends_the_run():
    trial = Trial()
    callback = PruneUnpromising(trial)
    callback.on_train_epoch_end(trainer(0, acc=0.1), None)  # not validated yet
    callback.on_validation_end(trainer(0), None)
    for _ in range(2):
        callback.on_train_epoch_end(trainer(0, acc=0.75), None)
    callback.on_validation_end(trainer(1), None)
    with pytest.raises(Pruned, match=r"val/acc 0\.2500 after 2 epochs"):
        callback.on_train_epoch_end(trainer(1, acc=0.25), None)
    assert trial.reported == [(0.75, 0), (0.25, 1)]


def test_the_last_epoch_ends_the_run_anyway():
    callback = PruneUnpromising(Trial())
    callback.on_validation_end(trainer(2), None)
    callback.on_train_epoch_end(trainer(2, acc=0.25), None)


def test_a_metric_that_is_not_logged_is_reported():
    callback = PruneUnpromising(Trial())
    callback.on_validation_end(trainer(0), None)
    with pytest.raises(ValueError, match=r"^sweep\.metrics: unknown metric 'val/acc'.* Allowed: val/f1, val/loss\.$"):
        callback.on_train_epoch_end(trainer(0, loss=0.5, f1=0.5), None)
