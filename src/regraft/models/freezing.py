"""Freezing as data: which stages train at a point in training, and at what factor of the base learning rate.

Pure functions of progress and stage names. Nothing here knows of torch, Lightning or a model: `callback.py` applies it.
"""

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

from regraft.core.errors import ConfigError

HEAD = "head"


@dataclass(frozen=True)
class Progress:
    """Where training stands.

    Attributes:
        epoch: the epoch that is about to run or is running, counted from 0.
        max_epochs: epochs of the whole run; -1 when unlimited, as Lightning has it.
    """

    epoch: int
    max_epochs: int


class FreezingStrategy(Protocol):
    """A pure function from progress to the learning-rate factor of each stage."""

    def __call__(self, progress: Progress, stages: Sequence[str]) -> dict[str, float]:
        """Returns the factor of the base learning rate for every name in `stages` and for "head"; 0.0 is frozen.

        Args:
            progress: where training stands.
            stages: the backbone's stages from the input up.
        """


def keeps_statistics(strategy: FreezingStrategy) -> bool:
    """Whether BatchNorm keeps the statistics that it came with in stages that train, too; a strategy may say so.

    Weights follow what they see in training. Statistics that are averaged over too few steps don't, and evaluation goes
    by them; at small rates those of the pretraining serve both.
    """
    return bool(getattr(strategy, "keeps_statistics", False))


@dataclass(frozen=True)
class NoFreezing:
    """Trains everything from the first step."""

    def __call__(self, progress: Progress, stages: Sequence[str]) -> dict[str, float]:
        """Returns 1.0 for all."""
        return dict.fromkeys([*stages, HEAD], 1.0)


@dataclass(frozen=True)
class LinearProbe:
    """Trains the head only."""

    def __call__(self, progress: Progress, stages: Sequence[str]) -> dict[str, float]:
        """Returns 1.0 for the head, 0.0 for every stage."""
        return dict.fromkeys(stages, 0.0) | {HEAD: 1.0}


@dataclass(frozen=True)
class UpTo:
    """Freezes from the input up to and including one stage, and trains what follows.

    Attributes:
        until: a stage's name, or a shell-style pattern (`layer*`), which freezes up to its last match.
    """

    until: str

    def __call__(self, progress: Progress, stages: Sequence[str]) -> dict[str, float]:
        """Returns 0.0 up to `until`, 1.0 above.

        Raises:
            ValueError: no stage is named so, or the pattern matches none.
        """
        matches = [index for index, stage in enumerate(stages) if fnmatchcase(stage, self.until)]
        if not matches:
            raise ValueError(_unknown_stage(self.until, stages))
        return {stage: float(index > matches[-1]) for index, stage in enumerate(stages)} | {HEAD: 1.0}


@dataclass(frozen=True)
class LastStages:
    """Trains the last stages and the head, on whatever backbone.

    Attributes:
        num_stages: how many stages train, counted from the head down.
    """

    num_stages: int

    def __post_init__(self) -> None:
        if self.num_stages < 1:
            raise ConfigError(
                "freezing.num_stages",
                f"got {self.num_stages}; it must be at least 1. To train the head only use freezing=linear_probe.",
            )

    def __call__(self, progress: Progress, stages: Sequence[str]) -> dict[str, float]:
        """Returns 1.0 for the last `num_stages` stages and the head, 0.0 below.

        Raises:
            ValueError: the backbone hasn't as many.
        """
        if self.num_stages > len(stages):
            raise ConfigError(
                "freezing.num_stages",
                f"got {self.num_stages}, but the backbone has {len(stages)}: {', '.join(stages)}. "
                f"To train all of them use freezing=none.",
            )
        num_frozen = len(stages) - self.num_stages
        return {stage: float(index >= num_frozen) for index, stage in enumerate(stages)} | {HEAD: 1.0}


@dataclass(frozen=True)
class LPFT:
    """Trains the head only, then everything (Kumar et al., "Fine-tuning can distort pretrained features", ICLR 2022).

    Attributes:
        probe_epochs: epochs of the head alone; None is half of the run, at least 1 if the run has more than one.
        finetune_factor: factor of the base learning rate, for everything, once the backbone trains.
        keeps_statistics: see `keeps_statistics`.
    """

    probe_epochs: int | None
    finetune_factor: float
    keeps_statistics: bool = False  # as runs of earlier versions did, whose configs don't say

    def __post_init__(self) -> None:
        if self.probe_epochs is not None and self.probe_epochs < 1:
            raise ConfigError(
                "freezing.probe_epochs",
                f"got {self.probe_epochs}; allowed: 1 or more, or null (half of the run). "
                f"For no probe at all use freezing=none.",
            )
        if not 0 < self.finetune_factor < math.inf:
            raise ConfigError(
                "freezing.finetune_factor",
                f"got {self.finetune_factor}; it must be above 0. To train the head only use freezing=linear_probe.",
            )

    def __call__(self, progress: Progress, stages: Sequence[str]) -> dict[str, float]:
        """Returns the linear probe's factors, then `finetune_factor` for all.

        Raises:
            ValueError: the run would end before fine-tuning starts, or has no limit to take half of.
        """
        if progress.epoch < self._num_probe_epochs(progress.max_epochs):
            return dict.fromkeys(stages, 0.0) | {HEAD: 1.0}
        return dict.fromkeys([*stages, HEAD], self.finetune_factor)

    def _num_probe_epochs(self, max_epochs: int) -> int:
        if self.probe_epochs is None:
            if max_epochs < 0:
                raise ConfigError(
                    "freezing.probe_epochs", "null means half of trainer.max_epochs, which is unlimited. Set either."
                )
            return max_epochs // 2
        if 0 <= max_epochs <= self.probe_epochs:
            raise ConfigError(
                "freezing.probe_epochs",
                f"got {self.probe_epochs}, but the run ends after trainer.max_epochs="
                f"{max_epochs}, so fine-tuning would never start. Lower freezing.probe_epochs below {max_epochs}, "
                f"raise trainer.max_epochs, or use freezing=linear_probe.",
            )
        return self.probe_epochs


@dataclass(frozen=True)
class Gradual:
    """Trains the head, then one more stage from the head down at a time (Howard and Ruder, ULMFiT, ACL 2018).

    Attributes:
        epochs_per_stage: epochs before the next stage joins.
    """

    epochs_per_stage: int

    def __post_init__(self) -> None:
        if self.epochs_per_stage < 1:
            raise ConfigError("freezing.epochs_per_stage", f"got {self.epochs_per_stage}; it must be at least 1.")

    def __call__(self, progress: Progress, stages: Sequence[str]) -> dict[str, float]:
        """Returns 1.0 for the head and for the last epoch // epochs_per_stage stages, 0.0 below."""
        num_frozen = len(stages) - progress.epoch // self.epochs_per_stage
        return {stage: float(index >= num_frozen) for index, stage in enumerate(stages)} | {HEAD: 1.0}


@dataclass(frozen=True)
class Layerwise:
    """Trains everything, each stage at decay times the rate of the one above it.

    The rate is absolute: base * decay**depth, depth counted from the head (0) down.

    Attributes:
        decay: ratio of neighbouring stages' rates, in (0, 1].
    """

    decay: float

    def __post_init__(self) -> None:
        if not 0 < self.decay <= 1:
            raise ConfigError("freezing.decay", got=self.decay, allowed="above 0, at most 1")

    def __call__(self, progress: Progress, stages: Sequence[str]) -> dict[str, float]:
        """Returns decay**depth for each stage, 1.0 for the head."""
        return {stage: self.decay ** (len(stages) - index) for index, stage in enumerate(stages)} | {HEAD: 1.0}


def _unknown_stage(name: str, stages: Sequence[str]) -> str:
    """Returns the sentence for a stage that isn't there."""
    if set(name) & set("*?["):
        return f"freezing.until: the pattern {name!r} matches no stage. The backbone has: {', '.join(stages)}."
    close = difflib.get_close_matches(name, stages, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"freezing.until: unknown stage {name!r}. The backbone has: {', '.join(stages)}.{hint}"


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
        raise ConfigError(
            "freezing",
            f"{name} must give a factor for every stage and for the head. "
            f"Missing: {', '.join(missing) or 'none'}. Unknown: {', '.join(unknown) or 'none'}.",
        )
    for stage, factor in factors.items():
        if not 0 <= factor < math.inf:
            raise ConfigError("freezing", f"{name} gives {stage} the factor {factor}; allowed: 0 (frozen) and above.")
    if factors[HEAD] == 0:
        raise ConfigError("freezing", f"{name} freezes the head in epoch {progress.epoch}; the head must always train.")
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
