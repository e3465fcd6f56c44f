"""Learning-rate schedules: closed forms through LambdaLR, and torch's own where a closed form wouldn't do.

Each builder returns Lightning's scheduler config. A schedule gives the base rate only; a stage's factor is applied in
`optim.scaled_learning_rates`. Closed forms are plain functions, so a checkpoint holds numbers and no code.

Arguments that builders share:
    optimizer: its groups' `lr` is the peak of the schedule.
    total_steps: optimizer steps of the whole run, accumulation counted in.
    steps_per_epoch: optimizer steps of one epoch.
    interval: whether the rate changes after each step, or after each epoch.
    warmup_epochs: length of the linear rise at the start; 0 for none.
    min_factor: last rate divided by the highest, in [0, 1].
"""

import math
import sys
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from regraft.core.errors import ConfigError, require

Interval = Literal["step", "epoch"]


def constant(optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int) -> dict[str, Any]:
    """Returns a schedule that keeps the rate as it is."""
    # Once an epoch: stepping a schedule takes a quarter of the time of a linear head's step.
    return _every("epoch", LambdaLR(optimizer, lambda _step: 1.0))


def linear_warmup(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    warmup_epochs: float,
    interval: Interval,
) -> dict[str, Any]:
    """Returns a linear rise over the first `warmup_epochs`, (step + 1) / warmup_steps, then a constant rate."""
    total, per_epoch = intervals(interval, total_steps, steps_per_epoch)
    warmup = _warmup_steps(warmup_epochs, total, per_epoch)
    return _every(interval, LambdaLR(optimizer, lambda step: _warmup(step, warmup)))


def step(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    step_epochs: float,
    gamma: float,
    interval: Interval,
) -> dict[str, Any]:
    """Returns a rate multiplied by `gamma`, above 0, every `step_epochs` epochs."""
    _check_gamma(gamma)
    is_whole = step_epochs % 1 == 0 or interval == "step"
    allowed = "1, 2, ...; a fraction with scheduler.interval=step"
    require(0 < step_epochs < math.inf and is_whole, "scheduler.step_epochs", step_epochs, allowed)
    _, per_epoch = intervals(interval, total_steps, steps_per_epoch)
    length = max(1, round(step_epochs * per_epoch))
    return _every(interval, LambdaLR(optimizer, lambda step: gamma ** (step // length)))


def multistep(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    milestones: Sequence[float] | None,
    gamma: float,
    interval: Interval,
) -> dict[str, Any]:
    """Returns a rate multiplied by `gamma`, above 0, at each milestone.

    Args:
        milestones: epochs, ascending; with `interval="step"` also fractions of one. None for half and three quarters of
            the run, as for ResNets on CIFAR (He et al., CVPR 2016).
    """
    _check_gamma(gamma)
    total, per_epoch = intervals(interval, total_steps, steps_per_epoch)
    if milestones is None:
        _check_length(total)
        ends = [math.ceil(share * total) for share in (0.5, 0.75)]
    else:
        is_valid = all(each > 0 for each in milestones) and list(milestones) == sorted(set(milestones))
        is_valid &= interval == "step" or all(each == int(each) for each in milestones)
        kinds = "whole numbers of epochs; fractions with scheduler.interval=step"
        require(is_valid, "scheduler.milestones", milestones, f"ascending numbers above 0, {kinds}")
        ends = [round(each * per_epoch) for each in milestones]
    return _every(interval, LambdaLR(optimizer, lambda step: gamma ** bisect_right(ends, step)))


def exponential(
    optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int, gamma: float, interval: Interval
) -> dict[str, Any]:
    """Returns a rate multiplied by `gamma`, above 0, every epoch; in equal parts with `interval="step"`."""
    _check_gamma(gamma)
    _, per_epoch = intervals(interval, total_steps, steps_per_epoch)
    return _every(interval, LambdaLR(optimizer, lambda step: gamma ** (step / per_epoch)))


def cosine(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    warmup_epochs: float,
    min_factor: float,
    interval: Interval,
) -> dict[str, Any]:
    """Returns a linear warm-up, then half a cosine down to `min_factor` (Loshchilov and Hutter, SGDR, ICLR 2017).

    After the warm-up, with p = (step - warmup_steps) / (total_steps - warmup_steps):
    min_factor + (1 - min_factor) * (1 + cos(pi * p)) / 2.
    """
    lengths = total_steps, steps_per_epoch
    return _decay(optimizer, interval, lengths, warmup_epochs, min_factor, _half_cosine)


def cosine_restarts(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    warmup_epochs: float,
    min_factor: float,
    num_cycles: int,
    cycle_mult: float,
    interval: Interval,
) -> dict[str, Any]:
    """Returns a linear warm-up, then `num_cycles` times half a cosine, each from the highest rate down (SGDR).

    The cycles fill the run, so that it ends at the lowest rate.

    Args:
        cycle_mult: length of a cycle divided by that of the one before it; SGDR's T_mult.
    """
    require(num_cycles >= 1, "scheduler.num_cycles", num_cycles, "1, 2, 3, ...")
    require(0 < cycle_mult < math.inf, "scheduler.cycle_mult", cycle_mult, "above 0")
    lengths = [cycle_mult**cycle for cycle in range(num_cycles)]
    ends = [sum(lengths[: cycle + 1]) / sum(lengths) for cycle in range(num_cycles)]

    def factor(share: float) -> float:
        cycle = min(bisect_right(ends, share), num_cycles - 1)
        start = ends[cycle - 1] if cycle else 0.0
        return _half_cosine(min(1.0, (share - start) / (ends[cycle] - start)))

    return _decay(optimizer, interval, (total_steps, steps_per_epoch), warmup_epochs, min_factor, factor)


def polynomial(
    optimizer: Optimizer,
    *,
    total_steps: int,
    steps_per_epoch: int,
    warmup_epochs: float,
    min_factor: float,
    power: float,
    interval: Interval,
) -> dict[str, Any]:
    """Returns a linear warm-up, then (1 - p)^power down to `min_factor`, with p as in `cosine`; power 1 is linear."""
    require(0 < power < math.inf, "scheduler.power", power, "above 0")
    lengths = total_steps, steps_per_epoch
    return _decay(optimizer, interval, lengths, warmup_epochs, min_factor, lambda share: (1 - share) ** power)


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
    interval: Interval,
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
    total_steps, _ = intervals(interval, total_steps, steps_per_epoch)
    _check_length(total_steps)
    require(0 < pct_start < 1, "scheduler.pct_start", pct_start, "above 0, below 1")
    if float(pct_start * total_steps) == 1:
        raise ConfigError(
            "scheduler.pct_start",
            f"{pct_start} of {total_steps} {interval}s is a rise of one; it has no slope. Raise scheduler.pct_start.",
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
    return _every(interval, scheduler)


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


def intervals(interval: Interval, total_steps: int, steps_per_epoch: int) -> tuple[int, int]:
    """Returns the length of a run, and that of an epoch, in intervals."""
    is_long = interval == "step" or not math.isfinite(total_steps) or total_steps == sys.maxsize
    return (total_steps if is_long else math.ceil(total_steps / steps_per_epoch)), (
        steps_per_epoch if interval == "step" else 1
    )


def _decay(
    optimizer: Optimizer,
    interval: Interval,
    lengths: tuple[int, int],
    warmup_epochs: float,
    min_factor: float,
    shape: Callable[[float], float],
) -> dict[str, Any]:
    """Returns a linear warm-up, then a decay to `min_factor`.

    Args:
        lengths: steps of the run, and of an epoch.
        shape: factor between 1 and 0 at a share of the decay, in [0, 1].
    """
    require(0 <= min_factor <= 1, "scheduler.min_factor", min_factor, "0 to 1")
    total, per_epoch = intervals(interval, *lengths)
    warmup = _warmup_steps(warmup_epochs, total, per_epoch)

    def factor(step: int) -> float:
        if step < warmup:
            return _warmup(step, warmup)
        return min_factor + (1 - min_factor) * shape(min(1.0, (step - warmup) / (total - warmup)))

    return _every(interval, LambdaLR(optimizer, factor))


def _half_cosine(share: float) -> float:
    return (1 + math.cos(math.pi * share)) / 2


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
