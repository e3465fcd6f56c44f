"""Learning-rate schedules: torch's own where they exist, closed forms through LambdaLR where they don't.

Each builder returns Lightning's scheduler config. A schedule gives the base rate only; a stage's factor is applied in
`optim.scaled_learning_rates`. Closed forms are plain functions, so a checkpoint holds numbers and no code.

Arguments that all builders share:
    optimizer: its groups' `lr` is the peak of the schedule.
    total_steps: optimizer steps of the whole run, accumulation counted in.
    steps_per_epoch: optimizer steps of one epoch.
"""

import math
from collections.abc import Iterable
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau, StepLR

from regraft.core.errors import ConfigError, require


def constant(optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int) -> dict[str, Any]:
    """Returns a schedule that keeps the rate as it is."""
    # Once an epoch: stepping a schedule takes a quarter of the time of a linear head's step.
    return _every("epoch", LambdaLR(optimizer, lambda _step: 1.0))


def linear_warmup(
    optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int, warmup_epochs: float
) -> dict[str, Any]:
    """Returns a linear rise over the first `warmup_epochs`, (step + 1) / warmup_steps, then a constant rate."""
    warmup_steps = _warmup_steps(warmup_epochs, total_steps, steps_per_epoch)
    return _every("step", LambdaLR(optimizer, lambda step: _warmup(step, warmup_steps)))


def step(
    optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int, step_epochs: int, gamma: float
) -> dict[str, Any]:
    """Returns a rate multiplied by `gamma`, above 0, every `step_epochs` epochs."""
    require(step_epochs >= 1, "scheduler.step_epochs", step_epochs, "at least 1")
    _check_gamma(gamma)
    return _every("epoch", StepLR(optimizer, step_size=step_epochs, gamma=gamma))


def exponential(optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int, gamma: float) -> dict[str, Any]:
    """Returns a rate multiplied by `gamma`, above 0, every epoch."""
    _check_gamma(gamma)
    return _every("epoch", ExponentialLR(optimizer, gamma=gamma))


def cosine(
    optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int, warmup_epochs: float, min_factor: float
) -> dict[str, Any]:
    """Returns a linear warm-up, then half a cosine down to `min_factor` (Loshchilov and Hutter, SGDR, ICLR 2017).

    After the warm-up, with p = (step - warmup_steps) / (total_steps - warmup_steps):
    min_factor + (1 - min_factor) * (1 + cos(pi * p)) / 2.

    Args:
        warmup_epochs: length of the rise; 0 for none.
        min_factor: last rate divided by the highest, in [0, 1].
    """
    require(0 <= min_factor <= 1, "scheduler.min_factor", min_factor, "0 to 1")
    warmup_steps = _warmup_steps(warmup_epochs, total_steps, steps_per_epoch)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return _warmup(step, warmup_steps)
        done = min(1.0, (step - warmup_steps) / (total_steps - warmup_steps))
        return min_factor + (1 - min_factor) * (1 + math.cos(math.pi * done)) / 2

    return _every("step", LambdaLR(optimizer, factor))


def onecycle(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    pct_start: float,
    div_factor: float,
    final_div_factor: float,
    cycle_momentum: bool | None,
    base_momentum: float,
    max_momentum: float,
) -> dict[str, Any]:
    """Returns the one-cycle policy (Smith and Topin, "Super-convergence", 2018), torch's own, with cosine annealing.

    Args:
        optimizer: its groups' `lr` is the highest rate of the cycle.
        pct_start: share of the run in which the rate rises, in (0, 1).
        div_factor: the highest rate divided by the first.
        final_div_factor: the first rate divided by the last.
        cycle_momentum: whether momentum (or Adam's first beta) moves against the rate, from `max_momentum` to
            `base_momentum` and back; None does so exactly if the optimizer uses either.
    """
    _check_length(total_steps)
    require(0 < pct_start < 1, "scheduler.pct_start", pct_start, "above 0, below 1")
    if float(pct_start * total_steps) == 1:
        raise ConfigError(
            "scheduler.pct_start",
            f"{pct_start} of {total_steps} steps is a rise of one step, which has no slope. Raise scheduler.pct_start.",
        )
    has_momentum = "betas" in optimizer.defaults or optimizer.defaults.get("momentum", 0) > 0
    if cycle_momentum and not has_momentum:
        raise ConfigError(
            "scheduler.cycle_momentum",
            f"got true, but {type(optimizer).__name__} runs without momentum. "
            f"Set scheduler.cycle_momentum=null or false, or give optimizer.momentum.",
        )
    scheduler = OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=total_steps,
        pct_start=float(pct_start),
        div_factor=div_factor,
        final_div_factor=final_div_factor,
        cycle_momentum=has_momentum if cycle_momentum is None else cycle_momentum,
        base_momentum=base_momentum,
        max_momentum=max_momentum,
    )
    return _every("step", scheduler)


def plateau(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    monitor: str,
    mode: Literal["min", "max"],
    factor: float,
    patience: int,
    threshold: float,
    min_lr: float,
) -> dict[str, Any]:
    """Returns a rate multiplied by `factor` once `monitor` has not improved for more than `patience` epochs.

    Args:
        monitor: a logged metric, such as `val/loss`.
        mode: `min` if less is better, `max` if more is.
        factor: in (0, 1).
        threshold: relative change that counts as an improvement.
        min_lr: lower bound of the base rate.
    """
    require(mode in ("min", "max"), "scheduler.mode", mode, "min (less is better), max (more is better)")
    require(0 < factor < 1, "scheduler.factor", factor, "above 0, below 1")
    require(patience >= 0, "scheduler.patience", patience, "at least 0")
    scheduler = ReduceLROnPlateau(
        optimizer, mode=mode, factor=factor, patience=patience, threshold=threshold, min_lr=min_lr
    )
    return _every("epoch", scheduler) | {"monitor": monitor}


def follow_schedules(schedulers: Iterable[Any], growth_of_epochs: float) -> None:
    """Sets each optimizer's rates to those of its schedule's position.

    They differ where a resumed run is longer than the saved one: without this its first step would have the rate of the
    shorter one's end. Only closed forms are functions of their position; others are left alone.

    Args:
        growth_of_epochs: steps per epoch now, divided by those before.
    """
    for scheduler in schedulers:
        if isinstance(scheduler, LambdaLR):
            scheduler.last_epoch = round(scheduler.last_epoch * growth_of_epochs)
            factors = [factor(scheduler.last_epoch) for factor in scheduler.lr_lambdas]
            for group, rate, factor in zip(scheduler.optimizer.param_groups, scheduler.base_lrs, factors, strict=True):
                group["lr"] = rate * factor


def _every(interval: str, scheduler: LRScheduler) -> dict[str, Any]:
    return {"scheduler": scheduler, "interval": interval, "frequency": 1}


def _warmup(step: int, warmup_steps: int) -> float:
    return 1.0 if step >= warmup_steps else (step + 1) / warmup_steps


def _warmup_steps(warmup_epochs: float, total_steps: int, steps_per_epoch: int) -> int:
    _check_length(total_steps)
    require(warmup_epochs >= 0, "scheduler.warmup_epochs", warmup_epochs, "at least 0")
    warmup_steps = round(warmup_epochs * steps_per_epoch)
    if 0 < total_steps <= warmup_steps:
        raise ConfigError(
            "scheduler.warmup_epochs",
            f"the run has {total_steps / steps_per_epoch:g} epochs",
            got=warmup_epochs,
            fix="Lower scheduler.warmup_epochs or raise trainer.max_epochs.",
        )
    return warmup_steps


def _check_length(total_steps: float) -> None:
    if not 1 <= total_steps < math.inf:
        raise ConfigError(
            "scheduler",
            f"this schedule needs to know how long the run is, but it has {total_steps} steps. "
            f"Set trainer.max_epochs or trainer.max_steps, or use scheduler=constant.",
        )


def _check_gamma(gamma: float) -> None:
    require(0 < gamma < math.inf, "scheduler.gamma", gamma, "above 0")
