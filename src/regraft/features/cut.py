"""Where a backbone is cut in each phase of a run, and whether storing the features below pays. Pure arithmetic.

Costs are floating-point operations, not measured seconds, so that all jobs of a sweep get the same plan.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MIN_GAIN = 1.3
"""Least speed-up of an epoch for which features are stored."""

_BACKWARD = 2
"""Cost of a backward pass in forward passes."""

_NEAR_BEST = 0.9
"""Least share of the best cut's gain for a cut with fewer bytes to be preferred."""


@dataclass(frozen=True)
class Costs:
    """Costs of the stages of a backbone.

    Attributes:
        flops: operations for one image in each stage, forward.
        feature_shapes: of one image, by depth (number of stages below), for each depth where a single tensor crosses.
    """

    flops: Sequence[int]
    feature_shapes: Mapping[int, tuple[int, ...]]

    def up_to(self, depth: int) -> int:
        """Returns the operations of one image in the first `depth` stages, forward."""
        return sum(self.flops[:depth])

    def gain(self, depth: int, frozen_depth: int) -> float:
        """Returns the speed-up of a training step that starts at `depth` instead of the pixels."""
        trained = (1 + _BACKWARD) * sum(self.flops[frozen_depth:])
        left = sum(self.flops[depth:frozen_depth]) + trained
        return math.inf if left == 0 else (self.up_to(frozen_depth) + trained) / left


@dataclass(frozen=True)
class CutPhase:
    """Consecutive epochs with the same cut.

    Attributes:
        num_epochs: math.inf in a run without a limit.
        frozen_depth: number of stages, from the input up, that have been frozen since the run began.
        depth: number of stages whose output is stored, 0 for none.
    """

    start_epoch: int
    num_epochs: float
    frozen_depth: int
    depth: int


def cut_phases(
    phases: Sequence[tuple[int, Mapping[str, float]]],
    stages: Sequence[str],
    max_epochs: int,
    start_epoch: int,
    costs: Costs,
) -> list[CutPhase]:
    """Returns the cut phases of a run from `start_epoch` on.

    Args:
        phases: first epoch and learning-rate factors of each freezing phase of the whole run.
        max_epochs: -1 for unlimited.
    """
    found: list[CutPhase] = []
    frozen = len(stages)
    ends = [first_epoch for first_epoch, _ in phases[1:]] + [math.inf if max_epochs < 0 else max_epochs]
    for (first_epoch, factors), end in zip(phases, ends, strict=True):
        # A stage that has trained differs from what it was at the start, even if it is frozen again later.
        frozen = min(frozen, frozen_depth(factors, stages))
        start = max(first_epoch, start_epoch)
        if end > start:
            found.append(CutPhase(start, end - start, frozen, choose_cut(frozen, costs)))
    return found


def frozen_depth(factors: Mapping[str, float], stages: Sequence[str]) -> int:
    """Returns the number of frozen stages, from the input up."""
    return next((index for index, stage in enumerate(stages) if factors[stage] > 0), len(stages))


def choose_cut(frozen_depth: int, costs: Costs) -> int:
    """Returns the depth with the smallest features among those with nearly the best gain; 0 if none gains MIN_GAIN."""
    gains = {depth: costs.gain(depth, frozen_depth) for depth in costs.feature_shapes if depth <= frozen_depth}
    best = max(gains.values(), default=0.0)
    # If the best is infinite (nothing is left to compute), no other is near it.
    good = [depth for depth, gain in gains.items() if gain >= MIN_GAIN and gain >= _NEAR_BEST * best]
    return min(good, key=lambda depth: (math.prod(costs.feature_shapes[depth]), -depth), default=0)


def last_part(costs: Costs, most: float, trainable: Sequence[bool]) -> int:
    """Returns the least depth at which a cut leaves at most a share of the operations above it; 0 if none does.

    Args:
        trainable: whether each stage has parameters; above a cut at least one has.
    """
    least = (1 - most) * sum(costs.flops)
    found = [depth for depth in costs.feature_shapes if least <= costs.up_to(depth) and any(trainable[depth:])]
    return min(found, default=0)


def saved_flops(plan: Sequence[CutPhase], costs: Costs, *, num_images: int, num_missing: int) -> float:
    """Returns the operations that storing saves in a run; negative if it costs more than it saves.

    Args:
        num_images: training and validation images per epoch.
        num_missing: images, counted once per view, that have to be computed at the deepest cut.
    """
    saved = sum(phase.num_epochs * num_images * costs.up_to(phase.depth) for phase in plan if phase.depth)
    return saved - num_missing * costs.up_to(max((phase.depth for phase in plan), default=0))
