"""Where a training stands, besides what Lightning keeps of it: in its epoch, and in its schedule.

What an epoch adds up to is kept by `train_metrics`; which rate comes next, by `run_schedule`.
"""

from collections.abc import Mapping
from typing import Any

import torch

from regraft.training.epoch_metrics import TrainMetrics
from regraft.training.schedule import RunSchedule


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
        elif trainer.fit_loop.restarted_mid_epoch:
            raise ValueError(
                f"trainer.devices: got {trainer.world_size}, but the checkpoint was written in the middle of an epoch "
                f"by {len(states)}. Go on with as many until an epoch has ended."
            )
        self._schedule.take_up(trainer)
        self._resumed = None
