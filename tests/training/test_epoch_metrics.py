"""Training metrics of an epoch: whenever they are written and restored, they are those of all its samples."""

from types import SimpleNamespace

import pytest
import torch

from regraft.tasks import TASKS
from regraft.training.epoch_metrics import TrainMetrics

TRAINER = SimpleNamespace(world_size=1, global_rank=0)


def samples(name):
    """Returns the loss, predictions and targets of some batches, of which the last one is smaller."""
    generator = torch.Generator().manual_seed(0)
    task = TASKS[name]
    for size in [4] * 150 + [3]:
        targets = torch.rand(size, 3, generator=generator)
        targets = targets.argmax(1) if name == "classification" else targets
        yield size * 0.1, task.predicted(torch.randn(size, 3, generator=generator)), task.true(targets)


def made(name):
    metrics = TrainMetrics(TASKS[name], 3)
    metrics.start({"head": 0.1})
    return metrics


@pytest.mark.parametrize("name", ["classification", "multilabel", "regression"])
def test_a_resumed_epoch_has_the_metrics_of_one_that_never_stopped(name):
    whole, resumed = made(name), made(name)
    plain = made(name).metric
    for step, batch in enumerate(samples(name)):
        plain.update(*batch[1:])
        whole.update(*batch)
        if step in (30, 100):
            states, resumed = resumed.epoch_states(TRAINER), TrainMetrics(TASKS[name], 3)
            resumed.restore_epoch(states, TRAINER)
        resumed.update(*batch)
    whole.finish()
    resumed.finish()
    assert whole.num_samples == resumed.num_samples == 603
    assert whole.loss.compute().item() == pytest.approx(0.1)
    assert torch.equal(resumed.loss.compute(), whole.loss.compute())
    assert torch.equal(resumed.metric.compute(), whole.metric.compute())
    assert torch.equal(whole.metric.compute(), plain.compute())
    assert resumed.rates == {"head": 0.1}


def test_the_next_epoch_begins_with_nothing():
    metrics = made("classification")
    for batch in samples("classification"):
        metrics.update(*batch)
    metrics.finish()
    metrics.start({})
    metrics.update(2.0, torch.tensor([1, 1]), torch.tensor([1, 1]))
    metrics.finish()
    assert (metrics.loss.compute().item(), metrics.metric.compute().item()) == (1.0, 1.0)


def test_one_process_takes_over_the_sums_of_several():
    states = []
    for size in (2, 3):
        metrics = made("classification")
        metrics.update(size * 0.5, torch.zeros(size).long(), torch.ones(size).long())
        states += metrics.epoch_states(TRAINER)
    restored = TrainMetrics(TASKS["classification"], 3)
    restored.restore_epoch(states, TRAINER)
    restored.update(5 * 1.5, torch.ones(5).long(), torch.ones(5).long())
    restored.finish()
    assert restored.num_samples == 10
    assert (restored.loss.compute().item(), restored.metric.compute().item()) == (1.0, 0.5)
