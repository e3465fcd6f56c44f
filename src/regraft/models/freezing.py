"""Freezing strategies: which stages train at a point in training, and at what factor of the base learning rate.

Strategies are pure functions of the point in training and the names of the backbone's stages that have parameters (of
all stages if they name some), from the input up; `FreezingCallback` applies them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar, Protocol

from regraft.core.errors import ConfigError, UnknownNameError, listed, require

HEAD = "head"
Stages = Sequence[str] | Mapping[str, bool]
"""The names of stages from the input up, or whether each has parameters, which all have otherwise."""


@dataclass(frozen=True)
class TrainingPoint:
    """A point in training.

    Attributes:
        epoch: from 0.
        max_epochs: epochs of the whole run; -1 for unlimited, as in Lightning.
    """

    epoch: int
    max_epochs: int


class FreezingStrategy(Protocol):
    """A pure function from a point in training to the learning-rate factor of each stage."""

    def __call__(self, point: TrainingPoint, stages: Sequence[str]) -> dict[str, float]:
        """Returns the factor of the base learning rate for every stage and for "head"; 0.0 is frozen."""


def keeps_statistics(strategy: FreezingStrategy) -> bool:
    """Whether BatchNorm keeps its pretrained statistics even in stages that train; an optional strategy attribute.

    Statistics averaged over few steps are noisy, and evaluation uses them; at small learning rates the pretrained ones
    serve training and evaluation better.
    """
    return bool(getattr(strategy, "keeps_statistics", False))


def starts_from_closed_form(strategy: FreezingStrategy) -> bool:
    """Whether the run starts from a head in closed form, on the backbone as it is; an optional strategy attribute."""
    return bool(getattr(strategy, "starts_from_closed_form", False))


def names_stages(strategy: FreezingStrategy) -> bool:
    """Whether it names stages, so that those without parameters count, too; an optional strategy attribute."""
    return bool(getattr(strategy, "names_stages", False))


def _freeze_first(num_frozen: int, stages: Sequence[str]) -> dict[str, float]:
    return {stage: float(index >= num_frozen) for index, stage in enumerate(stages)} | {HEAD: 1.0}


@dataclass(frozen=True)
class NoFreezing:
    """Trains everything from the first step.

    Attributes:
        keeps_statistics: whether BatchNorm keeps its pretrained statistics meanwhile.
    """

    keeps_statistics: bool = False

    def __call__(self, point: TrainingPoint, stages: Sequence[str]) -> dict[str, float]:
        """Returns 1.0 for all."""
        return dict.fromkeys([*stages, HEAD], 1.0)


@dataclass(frozen=True)
class LinearProbe:
    """Trains the head only."""

    def __call__(self, point: TrainingPoint, stages: Sequence[str]) -> dict[str, float]:
        """Returns 1.0 for the head, 0.0 for every stage."""
        return _freeze_first(len(stages), stages)


@dataclass(frozen=True)
class UpTo:
    """Freezes from the input up to and including one stage, and trains what follows.

    Attributes:
        until: name of a stage, or a shell-style pattern (`layer*`), which freezes up to its last match.
        keeps_statistics: whether BatchNorm keeps its pretrained statistics in the stages that train.
    """

    until: str
    keeps_statistics: bool = False
    names_stages: ClassVar[bool] = True

    def __call__(self, point: TrainingPoint, stages: Sequence[str]) -> dict[str, float]:
        """Returns 0.0 up to `until`, 1.0 above."""
        matches = [index for index, stage in enumerate(stages) if fnmatchcase(stage, self.until)]
        if not matches:
            raise UnknownNameError("freezing.until", "stage", self.until, stages)
        return _freeze_first(matches[-1] + 1, stages)


@dataclass(frozen=True)
class LastStages:
    """Trains the head and the last `num_stages` stages, at least 1, of any backbone.

    Attributes:
        keeps_statistics: as in `UpTo`.
    """

    num_stages: int = 3
    keeps_statistics: bool = False

    def __post_init__(self) -> None:
        fix = "To train the head only use freezing=linear_probe."
        require(self.num_stages >= 1, "freezing.num_stages", self.num_stages, "1 or more", fix)

    def __call__(self, point: TrainingPoint, stages: Sequence[str]) -> dict[str, float]:
        """Returns 1.0 for the last `num_stages` stages and the head, 0.0 below."""
        if self.num_stages > len(stages):
            raise ConfigError(
                "freezing.num_stages",
                f"the backbone has {len(stages)}: {', '.join(stages)}",
                got=self.num_stages,
                fix="To train all of them use freezing=none.",
            )
        return _freeze_first(len(stages) - self.num_stages, stages)


@dataclass(frozen=True)
class LPFT:
    """Trains the head only, then everything (Kumar et al., "Fine-tuning can distort pretrained features", ICLR 2022).

    Attributes:
        probe_epochs: epochs of the head alone; 0 for a head in closed form, so that everything trains from the first
            epoch; None is half of the run, at least 1 if the run has more than one.
        finetune_factor: factor of the base learning rate, for everything, once the backbone trains.
        keeps_statistics: whether BatchNorm keeps its pretrained statistics while it trains.

    Raises:
        ValueError: a value is out of range; on a call, if the run would end before fine-tuning starts, or
            `probe_epochs` is None and the run unlimited.
    """

    probe_epochs: int | None = None
    finetune_factor: float = 0.1
    keeps_statistics: bool = True

    def __post_init__(self) -> None:
        is_valid = self.probe_epochs is None or self.probe_epochs >= 0
        allowed = "1 or more, 0 (a head in closed form), or null (half of the run)"
        require(is_valid, "freezing.probe_epochs", self.probe_epochs, allowed)
        is_valid = 0 < self.finetune_factor < math.inf
        fix = "To train the head only use freezing=linear_probe."
        require(is_valid, "freezing.finetune_factor", self.finetune_factor, "above 0", fix)

    @property
    def starts_from_closed_form(self) -> bool:
        """Whether the head is found in closed form before the first step."""
        return self.probe_epochs == 0

    def __call__(self, point: TrainingPoint, stages: Sequence[str]) -> dict[str, float]:
        """Returns the linear probe's factors, then `finetune_factor` for all."""
        if point.epoch < self._num_probe_epochs(point.max_epochs):
            return _freeze_first(len(stages), stages)
        return dict.fromkeys([*stages, HEAD], self.finetune_factor)

    def _num_probe_epochs(self, max_epochs: int) -> int:
        if self.probe_epochs is None:
            if max_epochs < 0:
                reason = "null means half of trainer.max_epochs, which is unlimited. Set one of them."
                raise ConfigError("freezing.probe_epochs", reason)
            return max_epochs // 2
        if 0 <= max_epochs <= self.probe_epochs:
            raise ConfigError(
                "freezing.probe_epochs",
                f"the run ends after trainer.max_epochs={max_epochs}, so fine-tuning would never start",
                got=self.probe_epochs,
                fix=f"Lower freezing.probe_epochs below {max_epochs}, raise trainer.max_epochs, or use "
                "freezing=linear_probe.",
            )
        return self.probe_epochs


@dataclass(frozen=True)
class Gradual:
    """Trains the head, then unfreezes the next stage below every `epochs_per_stage` epochs.

    Howard and Ruder, "Universal language model fine-tuning for text classification" (ACL 2018).
    """

    epochs_per_stage: int = 1

    def __post_init__(self) -> None:
        require(self.epochs_per_stage >= 1, "freezing.epochs_per_stage", self.epochs_per_stage, "1 or more")

    def __call__(self, point: TrainingPoint, stages: Sequence[str]) -> dict[str, float]:
        """Returns 1.0 for the head and for the last epoch // epochs_per_stage stages, 0.0 below."""
        return _freeze_first(len(stages) - point.epoch // self.epochs_per_stage, stages)


@dataclass(frozen=True)
class Layerwise:
    """Trains each stage at `decay`, in (0, 1], times the rate of the one above it, the head at the base rate."""

    decay: float = 0.5

    def __post_init__(self) -> None:
        require(0 < self.decay <= 1, "freezing.decay", self.decay, "above 0, at most 1")

    def __call__(self, point: TrainingPoint, stages: Sequence[str]) -> dict[str, float]:
        """Returns decay**depth for each stage, where depth counts from the head (0) down."""
        return {stage: self.decay ** (len(stages) - index) for index, stage in enumerate(stages)} | {HEAD: 1.0}


_UNLIMITED_HORIZON = 1000
"""Epochs that `phases` looks at in a run without a limit."""


@dataclass(frozen=True)
class Phase:
    """Epochs with the same factors, from `start_epoch` until the next phase starts."""

    start_epoch: int
    factors: dict[str, float]


def factors_at(strategy: FreezingStrategy, point: TrainingPoint, stages: Stages) -> dict[str, float]:
    """Returns the strategy's factors, checked: there is one for each stage and the head, and the head trains.

    A stage without parameters has that of the stage below it, or 0.0, and is counted only by a strategy that names
    stages.
    """
    every = list(stages)
    trainable = [stage for stage in every if not isinstance(stages, Mapping) or stages[stage]]
    stages = every if names_stages(strategy) else trainable
    factors = strategy(point, stages)
    name = type(strategy).__name__
    if set(factors) != {*stages, HEAD}:
        missing = [stage for stage in [*stages, HEAD] if stage not in factors]
        unknown = [stage for stage in factors if stage not in {*stages, HEAD}]
        raise ConfigError(
            "freezing",
            f"{name} must give a factor for every stage and for the head. "
            f"Missing: {listed(missing)}. Unknown: {listed(unknown)}.",
        )
    for stage, factor in factors.items():
        if not 0 <= factor < math.inf:
            raise ConfigError("freezing", f"{name} gives {stage} the factor {factor}; allowed: 0 (frozen) and above.")
    if factors[HEAD] == 0:
        raise ConfigError("freezing", f"{name} freezes the head in epoch {point.epoch}; the head must always train.")
    found, below = {}, 0.0
    for stage in every:
        found[stage] = below = factors[stage] if stage in trainable else below
    return found | {HEAD: factors[HEAD]}


def phases(strategy: FreezingStrategy, stages: Stages, max_epochs: int) -> list[Phase]:
    """Returns the phases of a run in order from epoch 0; without a limit, those of the first 1000 epochs."""
    found: list[Phase] = []
    for epoch in range(_UNLIMITED_HORIZON if max_epochs < 0 else max(max_epochs, 1)):
        factors = factors_at(strategy, TrainingPoint(epoch, max_epochs), stages)
        if not found or factors != found[-1].factors:
            found.append(Phase(epoch, factors))
    return found
