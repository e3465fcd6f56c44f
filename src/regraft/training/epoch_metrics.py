"""What an epoch's training adds up to, so kept that a run which is resumed in the middle of an epoch goes on with it.

Lightning keeps what is logged in a training step nowhere; so nothing is logged before the epoch's end.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from regraft.core.errors import ConfigError
from regraft.core.lightning_internals import is_resumed_mid_epoch
from regraft.training.metrics import MeanLoss, classification_metrics
from regraft.training.schedule import RunSchedule


class TrainMetrics(nn.Module):
    """Loss and accuracy of an epoch, the learning rates that it began with, and how many batches were skipped.

    Args:
        num_classes: how many classes there are.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.loss = MeanLoss()
        self.acc = classification_metrics(num_classes)["acc"]
        self.rates: dict[str, float] = {}
        self.num_skipped = 0

    def start(self, rates: Mapping[str, float]) -> None:
        """Begins an epoch.

        Args:
            rates: the learning rate of each stage.
        """
        for metric in self._metrics().values():
            metric.reset()
        self.rates = dict(rates)
        self.num_skipped = 0

    @property
    def num_samples(self) -> int:
        """That have been added in this epoch, by this process."""
        return int(self.loss.normaliser)

    def update(self, loss_sum: Tensor, predictions: Tensor, targets: Tensor) -> None:
        """Adds samples.

        Args:
            loss_sum: over samples, of their batch's mean loss, a scalar.
            predictions: (num_samples,), int64.
            targets: (num_samples,), int64.
        """
        self.loss.update(loss_sum, torch.tensor(float(len(targets)), device=loss_sum.device))
        self.acc.update(predictions, targets)

    def state(self) -> dict[str, Any]:
        """Returns all of it in plain types and tensors on the CPU."""
        metrics = {
            name: {key: value.cpu() for key, value in _tensors(metric).items()}
            for name, metric in self._metrics().items()
        }
        return {"metrics": metrics, "rates": self.rates, "num_skipped": self.num_skipped}

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes up what `state` gave."""
        self.rates, self.num_skipped = dict(state["rates"]), state["num_skipped"]
        # torchmetrics warns of a metric that is computed without an update; the sample isn't kept.
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


class RunProgress:
    """What a checkpoint keeps, and a resumed training takes up.

    Args:
        metrics: of the epoch, on this process.
        schedule: of the run.
    """

    def __init__(self, metrics: TrainMetrics, schedule: RunSchedule) -> None:
        self._metrics = metrics
        self._schedule = schedule
        self._resumed: Mapping[str, Any] | None = None

    def state(self, trainer: Any) -> dict[str, Any]:
        """Returns what the epoch adds up to so far, of each process, and the schedule's state; every process asks."""
        states = [self._metrics.state()]
        if trainer.world_size > 1:
            gathered: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(gathered, states[0])
            states = gathered
        return {"metrics": states} | self._schedule.state()

    def load(self, state: Mapping[str, Any] | None) -> None:
        """Keeps what `state` gave until training starts; None of a checkpoint that has none."""
        self._resumed = state
        self._schedule.load(state or {})

    def take_up(self, trainer: Any) -> None:
        """Goes on from what was loaded, if anything was.

        Raises:
            ValueError: another number of processes can't go on in the middle of an epoch.
        """
        if self._resumed is None:
            return
        states = self._resumed["metrics"]
        if len(states) == trainer.world_size:
            self._metrics.load(states[trainer.global_rank])
        elif is_resumed_mid_epoch(trainer):
            raise ConfigError(
                "trainer.devices",
                f"got {trainer.world_size}, but the checkpoint was written in the middle of an epoch "
                f"by {len(states)}. Go on with as many until an epoch has ended.",
            )
        self._schedule.take_up(trainer)
        self._resumed = None
