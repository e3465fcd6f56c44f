"""A run's learning-rate schedule: its length, its position after a resume, and when it is stepped.

The schedules themselves are in `schedulers`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from regraft.core.errors import ConfigError
from regraft.core.lightning_internals import setup_training_data


class RunSchedule:
    """The learning-rate schedule of one run.

    Args:
        make: returns Lightning's scheduler config for (optimizer, *, total_steps, steps_per_epoch).

    Attributes:
        start_step: the step of the run at which the schedule starts, so that it is as long as the steps that are left.
    """

    def __init__(self, make: Callable[..., dict[str, Any]]) -> None:
        self._make = make
        self.start_step = 0
        self._steps_per_epoch = 0
        self._length: tuple[int, ...] = ()
        self._is_in_steps = False
        self._plateau: ReduceLROnPlateau | None = None
        self._monitor = ""
        # Of the last validation; not every epoch has one.
        self._validated_epoch, self._value = -1, math.nan
        self._resumed: Mapping[str, Any] = {}

    @property
    def watches_metric(self) -> bool:
        """Whether it is stepped by `step_plateau` and not by Lightning."""
        return self._plateau is not None

    def config(self, optimizer: Optimizer, trainer: Any) -> dict[str, Any]:
        """Returns Lightning's scheduler config."""
        # Lightning counts batches only when asked for steps, and not even then if there is no limit to the epochs.
        setup_training_data(trainer)
        # Where an epoch is one batch, that batch holds several steps.
        steps_per_batch = getattr(trainer.train_dataloader, "steps_per_batch", 1)
        total_steps = trainer.estimated_stepping_batches * steps_per_batch
        batches = trainer.num_training_batches * steps_per_batch
        self._steps_per_epoch = max(1, math.ceil(batches / trainer.accumulate_grad_batches))
        total_steps -= round(self.start_step * self._growth_of_epochs)
        config = self._make(optimizer, total_steps=total_steps, steps_per_epoch=self._steps_per_epoch)
        self._length, self._is_in_steps = _length_of(trainer), config["interval"] == "step"
        if isinstance(config["scheduler"], ReduceLROnPlateau):
            self._plateau, self._monitor = config["scheduler"], config["monitor"]
            config = config | {"reduce_on_plateau": False}
        return config

    def require_length(self, trainer: Any) -> None:
        """Raises ConfigError if a callback has changed the length of a run that the schedule was made for."""
        if self._is_in_steps and _length_of(trainer) != self._length:
            names = ("trainer.max_epochs", "trainer.max_steps", "trainer.accumulate_grad_batches")
            pairs = zip(names, self._length, _length_of(trainer), strict=True)
            changes = ", ".join(f"{name} from {then} to {now}" for name, then, now in pairs if then != now)
            reason = f"one of them has changed {changes} during training, but the schedule is as long as before"
            raise ConfigError("callbacks", reason, fix="Set it in the config, or use scheduler=constant.")

    def step_once(self, trainer: Any) -> None:
        """Steps a schedule that counts steps, as Lightning does after each batch."""
        for config in trainer.lr_scheduler_configs:
            if config.interval == "step" and not self.watches_metric:
                config.scheduler.step()

    def note_validation(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Notes the watched metric of an epoch's validation."""
        if self._plateau is not None:
            self._validated_epoch, self._value = epoch, float(metrics.get(self._monitor, self._value))

    def step_plateau(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Steps a schedule that watches a metric, if that was measured in the epoch that ends.

        After a resume `metrics` may lack a validation that came before the checkpoint.
        """
        if self._plateau is not None and not self._monitor.startswith("val/"):
            self._plateau.step(metrics[self._monitor])
        elif self._plateau is not None and self._validated_epoch == epoch:
            self._plateau.step(self._value)

    def state_dict(self) -> dict[str, Any]:
        """Returns plain types; Lightning saves the scheduler's own state."""
        return {
            "validated": (self._validated_epoch, self._value),
            "schedule_start_step": self.start_step,
            "steps_per_epoch": self._steps_per_epoch,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Holds what `state_dict` returned; to be called before the schedule is made."""
        self._resumed = state
        self.start_step = state["schedule_start_step"]

    def restore(self, trainer: Any) -> None:
        """Moves the schedule to the run's position: other devices or accumulation change the steps per epoch."""
        if self._plateau is not None:
            self._validated_epoch, self._value = self._resumed["validated"]
        for config in trainer.lr_scheduler_configs:
            follow(config.scheduler, self._growth_of_epochs if config.interval == "step" else 1.0)
        self.start_step = round(self.start_step * self._growth_of_epochs)
        self._resumed = {}

    @property
    def _growth_of_epochs(self) -> float:
        """Steps per epoch now, divided by those before the resume."""
        before = self._resumed.get("steps_per_epoch", 0)
        return self._steps_per_epoch / before if before else 1.0


def follow(scheduler: Any, growth_of_epochs: float) -> None:
    """Sets an optimizer's rates to those of its schedule's position.

    They differ where a resumed run is longer than the saved one: without this its first step would have the rate of the
    shorter one's end. Only closed forms are functions of their position; others are left alone.

    Args:
        growth_of_epochs: intervals of the schedule in an epoch now, divided by those before.
    """
    if isinstance(scheduler, LambdaLR):
        scheduler.last_epoch = round(scheduler.last_epoch * growth_of_epochs)
        factors = [factor(scheduler.last_epoch) for factor in scheduler.lr_lambdas]
        for group, rate, factor in zip(scheduler.optimizer.param_groups, scheduler.base_lrs, factors, strict=True):
            group["lr"] = rate * factor


def _length_of(trainer: Any) -> tuple[int, ...]:
    return trainer.max_epochs, trainer.max_steps, trainer.accumulate_grad_batches
