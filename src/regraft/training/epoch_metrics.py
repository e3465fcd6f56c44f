"""Training metrics of an epoch, kept in checkpoints so that a run resumed in the middle of an epoch continues them.

Lightning's checkpoints don't hold what a training step logs, so nothing is logged before the epoch's end.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from regraft.core.errors import ConfigError
from regraft.core.lightning_internals import is_resumed_mid_epoch
from regraft.tasks import classification
from regraft.training.metrics import MeanLoss, classification_metrics
from regraft.training.schedule import RunSchedule


class TrainMetrics(nn.Module):
    """Loss and accuracy of an epoch, its first learning rates, and the number of skipped batches."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.loss = MeanLoss()
        self.acc = classification_metrics(num_classes)[classification.HEADLINE]
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
        self.acc.update(predictions, targets)

    def epoch_state(self) -> dict[str, Any]:
        """Returns the state as plain types and tensors on the CPU."""
        metrics = {
            name: {key: value.cpu() for key, value in _tensors(metric).items()}
            for name, metric in self._metrics().items()
        }
        return {"metrics": metrics, "rates": self.rates, "num_skipped": self.num_skipped}

    def load_epoch_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `epoch_state` returned."""
        self.rates, self.num_skipped = dict(state["rates"]), state["num_skipped"]
        # torchmetrics warns about a metric that is computed without an update; this sample is overwritten.
        some_class = torch.zeros(1, dtype=torch.int64, device=self.loss.total.device)
        self.update(self.loss.total.new_zeros(()), some_class, some_class)
        for name, metric in self._metrics().items():
            for key, value in _tensors(metric).items():
                setattr(metric, key, state["metrics"][name][key].to(value.device))

    def _metrics(self) -> dict[str, Metric]:
        return {"loss": self.loss, "acc": self.acc}


def _tensors(metric: Metric) -> dict[str, Tensor]:
    states = dict(metric.metric_state)
    assert all(isinstance(value, Tensor) for value in states.values()), "these metrics keep no lists"
    return states  # type: ignore[return-value]


class EpochState:
    """The state of an epoch in progress, of every process: metrics and learning-rate schedule."""

    def __init__(self, metrics: TrainMetrics, schedule: RunSchedule) -> None:
        self._metrics = metrics
        self._schedule = schedule
        self._resumed: Mapping[str, Any] | None = None

    def state_dict(self, trainer: Any) -> dict[str, Any]:
        """Returns the metrics of each process so far and the schedule's state; a collective call."""
        states = [self._metrics.epoch_state()]
        if trainer.world_size > 1:
            gathered: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(gathered, states[0])
            states = gathered
        return {"metrics": states} | self._schedule.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Holds what `state_dict` returned until training starts."""
        self._resumed = state
        self._schedule.load_state_dict(state)

    def restore(self, trainer: Any) -> None:
        """Restores what was loaded, if anything was.

        Raises:
            ConfigError: the checkpoint is from the middle of an epoch and from another number of processes.
        """
        if self._resumed is None:
            return
        states = self._resumed["metrics"]
        if len(states) == trainer.world_size:
            self._metrics.load_epoch_state(states[trainer.global_rank])
        elif is_resumed_mid_epoch(trainer):
            raise ConfigError(
                "trainer.devices",
                f"got {trainer.world_size}, but the checkpoint was written in the middle of an epoch "
                f"by {len(states)} processes. Use as many until an epoch has ended.",
            )
        self._schedule.restore(trainer)
        self._resumed = None
