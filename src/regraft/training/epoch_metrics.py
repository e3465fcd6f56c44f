"""What an epoch's training adds up to, so kept that a run which is resumed in the middle of an epoch goes on with it.

Lightning keeps what is logged in a training step nowhere; so nothing is logged before the epoch's end.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from regraft.training.metrics import MeanLoss, classification_metrics


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
            name: {"count": metric._update_count} | {key: value.cpu() for key, value in _tensors(metric).items()}
            for name, metric in self._metrics().items()
        }
        return {"metrics": metrics, "rates": self.rates, "num_skipped": self.num_skipped}

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes up what `state` gave."""
        self.rates, self.num_skipped = dict(state["rates"]), state["num_skipped"]
        for name, metric in self._metrics().items():
            kept = state["metrics"][name]
            metric._update_count = kept["count"]
            for key, value in _tensors(metric).items():
                setattr(metric, key, kept[key].to(value.device))

    def _metrics(self) -> dict[str, Metric]:
        return {"loss": self.loss, "acc": self.acc}


def _tensors(metric: Metric) -> dict[str, Tensor]:
    states = dict(metric.metric_state)
    assert all(isinstance(value, Tensor) for value in states.values()), "these metrics keep no lists"
    return states  # type: ignore[return-value]
