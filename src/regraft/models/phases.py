"""A strategy asked and checked: its factors at a point, and the stretches of epochs in which they stay the same."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from regraft.models.freezing import HEAD, FreezingStrategy, Progress

_UNLIMITED_HORIZON = 1000
"""Epochs that `phases` looks ahead when the run has no limit of its own."""


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs with the same factors; it lasts until the next phase starts."""

    start_epoch: int
    factors: dict[str, float]


def factors_at(strategy: FreezingStrategy, progress: Progress, stages: Sequence[str]) -> dict[str, float]:
    """Returns the strategy's factors after checking that they cover each stage and the head, and that the head trains.

    Raises:
        ValueError: a name is missing or unknown, a factor is negative or not finite, or the head is frozen.
    """
    factors = strategy(progress, stages)
    name = type(strategy).__name__
    if set(factors) != {*stages, HEAD}:
        missing = [stage for stage in [*stages, HEAD] if stage not in factors]
        unknown = [stage for stage in factors if stage not in {*stages, HEAD}]
        raise ValueError(
            f"freezing: {name} must give a factor for every stage and for the head. "
            f"Missing: {', '.join(missing) or 'none'}. Unknown: {', '.join(unknown) or 'none'}."
        )
    for stage, factor in factors.items():
        if not 0 <= factor < math.inf:
            raise ValueError(f"freezing: {name} gives {stage} the factor {factor}; allowed: 0 (frozen) and above.")
    if factors[HEAD] == 0:
        raise ValueError(f"freezing: {name} freezes the head in epoch {progress.epoch}; the head must always train.")
    return factors


def phases(strategy: FreezingStrategy, stages: Sequence[str], max_epochs: int) -> list[Phase]:
    """Returns the run's phases in order; the first starts at epoch 0.

    Args:
        strategy: what decides.
        stages: the backbone's stages from the input up.
        max_epochs: epochs of the run; -1 is unlimited, and looks 1000 epochs ahead.

    Raises:
        ValueError: the strategy doesn't fit these stages or this length.
    """
    found: list[Phase] = []
    for epoch in range(_UNLIMITED_HORIZON if max_epochs < 0 else max(max_epochs, 1)):
        factors = factors_at(strategy, Progress(epoch, max_epochs), stages)
        if not found or factors != found[-1].factors:
            found.append(Phase(epoch, factors))
    return found
