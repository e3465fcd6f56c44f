"""A schedule that watches a metric: which value it is stepped by, also after a resume.

Lightning steps it after an epoch's checkpoint is written, which would lack the step for good; so the module does.
"""

import math
from collections.abc import Mapping
from typing import Any

from torch.optim.lr_scheduler import ReduceLROnPlateau


class Plateau:
    """Steps a schedule once an epoch, where the metric that it watches is of that epoch.

    Args:
        scheduler: torch's own.
        monitor: the metric.
    """

    def __init__(self, scheduler: ReduceLROnPlateau, monitor: str) -> None:
        self._scheduler = scheduler
        self._monitor = monitor
        self._validated_epoch = -1
        self._value = math.nan

    def note_validation(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Takes what an epoch's validation has found; validation may run in every other epoch only."""
        self._validated_epoch = epoch
        if self._monitor in metrics:
            self._value = float(metrics[self._monitor])

    def step(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Steps the schedule at the end of an epoch, if there is news.

        Args:
            epoch: that ends.
            metrics: of this process; of a resumed one they may lack a validation that came before the checkpoint.
        """
        if not self._monitor.startswith("val/"):
            self._scheduler.step(metrics[self._monitor])
        elif self._validated_epoch == epoch:
            self._scheduler.step(self._value)

    def state(self) -> dict[str, Any]:
        """Returns what was noted, in plain types; the schedule's own state is Lightning's to keep."""
        return {"validated_epoch": self._validated_epoch, "value": self._value}

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes up what `state` gave."""
        self._validated_epoch, self._value = state["validated_epoch"], state["value"]
