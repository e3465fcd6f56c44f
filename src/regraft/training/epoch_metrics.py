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


class TrainMetrics(nn.Module):
    """Loss and one metric of an epoch, its first learning rates, and the number of skipped batches."""

    def __init__(self, task: Task, num_classes: int) -> None:
        super().__init__()
        self.loss = MeanLoss()
        self.metric = train_metric(task, num_classes)
        self._blank = task.true(torch.zeros(1, num_classes))
        self.rates: dict[str, float] = {}
        self.num_skipped = 0

    def start(self, rates: Mapping[str, float]) -> None:
        """Begins an epoch with the learning rate of each stage."""
        for metric in self._metrics().values():
            metric.reset()
        self.rates = dict(rates)
        self.num_skipped = 0

    @property
    def num_samples(self) -> int:
        """Number of samples that this process has added in this epoch."""
        return int(self.loss.normaliser)

    def update(self, loss_sum: Tensor, predictions: Tensor, targets: Tensor) -> None:
        """Adds samples; see `StepLog`."""
        self.loss.update(loss_sum, torch.tensor(float(len(targets)), device=loss_sum.device))
        self.metric.update(predictions, targets)

    def epoch_states(self, trainer: Any) -> list[dict[str, Any]]:
        """Returns the state of each process as plain types and tensors on the CPU; a collective call."""
        metrics = {
            name: {key: value.cpu() for key, value in _tensors(metric).items()}
            for name, metric in self._metrics().items()
        }
        states: list[Any] = [{"metrics": metrics, "rates": self.rates, "num_skipped": self.num_skipped}]
        if trainer.world_size > 1:
            own, states = states[0], [None] * trainer.world_size
            torch.distributed.all_gather_object(states, own)
        return states

    def restore_epoch(self, states: Sequence[Mapping[str, Any]], trainer: Any) -> None:
        """Restores what `epoch_states` returned; the first of another number of processes takes over all sums."""
        rank = trainer.global_rank
        self.rates = dict(states[0]["rates"])
        # torchmetrics warns about a metric that is computed without an update; this sample is overwritten.
        blank = self._blank.to(self.loss.total.device)
        self.update(self.loss.total.new_zeros(()), blank, blank)
        own = states[rank : rank + 1] if len(states) == trainer.world_size else [] if rank else states
        self.num_skipped = sum(state["num_skipped"] for state in own)
        for name, metric in self._metrics().items():
            for key, value in _tensors(metric).items():
                sums = [state["metrics"][name][key] for state in own]
                restored = sums[0] if len(sums) == 1 else sum(sums, start=torch.zeros_like(value, device="cpu"))
                setattr(metric, key, restored.to(value.device))

    def _metrics(self) -> dict[str, Metric]:
        return {"loss": self.loss, "metric": self.metric}


def _tensors(metric: Metric) -> dict[str, Tensor]:
    states = dict(metric.metric_state)
    assert all(isinstance(value, Tensor) for value in states.values()), "these metrics keep no lists"
    return states  # type: ignore[return-value]
