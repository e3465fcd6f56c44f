"""Training metrics of an epoch, kept in checkpoints so that a run resumed in the middle of an epoch continues them.

Lightning's checkpoints don't hold what a training step logs, so nothing is logged before the epoch's end.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from regraft.tasks import Task
from regraft.training.metrics import MeanLoss, train_metric

_MAX_PENDING = 64
"""Steps after which the metric is updated: for each step alone that takes as long as a small network's forward pass."""


class TrainMetrics(nn.Module):
    """Loss and one metric of an epoch, its first learning rates, and the numbers of samples and of skipped batches."""

    def __init__(self, task: Task, num_classes: int) -> None:
        super().__init__()
        self.loss = MeanLoss()
        self.metric = train_metric(task, num_classes)
        self._blank = task.true(torch.zeros(1, num_classes))
        self._loss_sum = 0.0
        self.num_samples = 0
        self._pending: list[tuple[Tensor, Tensor]] = []
        self.rates: dict[str, float] = {}
        self.num_skipped = 0

    def start(self, rates: Mapping[str, float]) -> None:
        """Begins an epoch with the learning rate of each stage."""
        self.metric.reset()
        self._pending.clear()
        self._loss_sum, self.num_samples, self.num_skipped = 0.0, 0, 0
        self.rates = dict(rates)

    def update(self, loss_sum: float, predictions: Tensor, targets: Tensor) -> None:
        """Adds samples; see `StepLog`."""
        self._loss_sum += loss_sum
        self.num_samples += len(targets)
        self._pending.append((predictions, targets))
        if len(self._pending) == _MAX_PENDING:
            self._update_metric()

    def finish(self) -> None:
        """Ends an epoch: `loss` and `metric` are those of all its samples."""
        self._update_metric()
        self.loss.reset()
        self.loss.update(*self.loss.total.new_tensor([self._loss_sum, self.num_samples], dtype=torch.float32))

    def epoch_states(self, trainer: Any) -> list[dict[str, Any]]:
        """Returns the state of each process as plain types and tensors on the CPU; a collective call."""
        self._update_metric()
        total, normaliser = torch.tensor([self._loss_sum, self.num_samples], dtype=torch.float64)
        metrics = {
            "loss": {"total": total, "normaliser": normaliser},
            "metric": {key: value.cpu() for key, value in _tensors(self.metric).items()},
        }
        states: list[Any] = [{"metrics": metrics, "rates": self.rates, "num_skipped": self.num_skipped}]
        if trainer.world_size > 1:
            own, states = states[0], [None] * trainer.world_size
            torch.distributed.all_gather_object(states, own)
        return states

    def restore_epoch(self, states: Sequence[Mapping[str, Any]], trainer: Any) -> None:
        """Restores what `epoch_states` returned; the first of another number of processes takes over all sums."""
        rank = trainer.global_rank
        self._pending.clear()
        self.rates = dict(states[0]["rates"])
        own = states[rank : rank + 1] if len(states) == trainer.world_size else [] if rank else states
        self.num_skipped = sum(state["num_skipped"] for state in own)
        losses = [state["metrics"]["loss"] for state in own]
        self._loss_sum = sum(float(each["total"]) for each in losses)
        self.num_samples = sum(int(each["normaliser"]) for each in losses)
        # torchmetrics warns about a metric that is computed without an update; this sample is overwritten.
        blank = self._blank.to(self.loss.total.device)
        self.metric.update(blank, blank)
        for key, value in _tensors(self.metric).items():
            sums = [state["metrics"]["metric"][key] for state in own]
            restored = sums[0] if len(sums) == 1 else sum(sums, start=torch.zeros_like(value, device="cpu"))
            setattr(self.metric, key, restored.to(value.device))

    def _update_metric(self) -> None:
        """Adds the latest samples to the metric, so that its state doesn't depend on when this is called."""
        batches, self._pending = self._pending, []
        if batches and not any(state.is_floating_point() for state in _tensors(self.metric).values()):
            # Counts are the same of all samples at once; sums would differ in the last bits.
            predictions, targets = zip(*batches, strict=True)
            batches = [(torch.cat(predictions), torch.cat(targets))]
        for each in batches:
            self.metric.update(*each)


def _tensors(metric: Metric) -> dict[str, Tensor]:
    states = dict(metric.metric_state)
    assert all(isinstance(value, Tensor) for value in states.values()), "these metrics keep no lists"
    return states  # type: ignore[return-value]
