"""Where to cut in each phase of a run, and whether storing what lies below the cut pays. Pure arithmetic.

Costs are counted in floating-point operations, not in measured seconds: so every job of a sweep comes to the same plan.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MIN_GAIN = 1.3
"""Least factor by which a cut must speed an epoch up to be worth its bytes."""

_BACKWARD = 2
"""Cost of a stage's backward pass, in forward passes."""

_NEAR_BEST = 0.9
"""Share of the best cut's gain that a smaller cut must keep to be taken instead."""


@dataclass(frozen=True)
class Costs:
    """What the stages of a backbone cost.

    Attributes:
        flops: of one image in each stage, forward.
        row_shapes: of each depth whose activation is a single tensor: its shape for one image. Depth d lies after d
            stages.
    """

    flops: Sequence[int]
    row_shapes: Mapping[int, tuple[int, ...]]

    def prefix(self, depth: int) -> int:
        """Returns the operations of one image in the first `depth` stages, forward."""
        return sum(self.flops[:depth])

    def gain(self, depth: int, frozen_depth: int) -> float:
        """Returns how much faster a training step becomes when it starts at `depth`, not at the pixels."""
        trained = (1 + _BACKWARD) * sum(self.flops[frozen_depth:])
        left = sum(self.flops[depth:frozen_depth]) + trained
        return math.inf if left == 0 else (self.prefix(frozen_depth) + trained) / left


@dataclass(frozen=True)
class Stretch:
    """Epochs in which the same cut is used.

    Attributes:
        start_epoch: the first.
        num_epochs: how many; math.inf when the run has no limit.
        frozen_depth: stages, from the input up, that have been frozen since the run began.
        depth: where it is cut: how many stages are stored, 0 for none.
    """

    start_epoch: int
    num_epochs: float
    frozen_depth: int
    depth: int


def stretches(
    phases: Sequence[tuple[int, Mapping[str, float]]],
    stages: Sequence[str],
    max_epochs: int,
    start_epoch: int,
    costs: Costs,
) -> list[Stretch]:
    """Returns the rest of a run as stretches, in order.

    Args:
        phases: of the whole run: each one's first epoch, and its factor of the learning rate for each stage.
        stages: the backbone's stages from the input up.
        max_epochs: epochs of the run; -1 is unlimited.
        start_epoch: where the run starts or goes on.
        costs: of the stages.
    """
    found: list[Stretch] = []
    frozen = len(stages)
    ends = [first_epoch for first_epoch, _ in phases[1:]] + [math.inf if max_epochs < 0 else max_epochs]
    for (first_epoch, factors), end in zip(phases, ends, strict=True):
        # A stage that has trained once is no longer what it was at the start, even if it is frozen later.
        frozen = min(frozen, frozen_depth(factors, stages))
        start = max(first_epoch, start_epoch)
        if end > start:
            found.append(Stretch(start, end - start, frozen, choose_cut(frozen, costs)))
    return found


def frozen_depth(factors: Mapping[str, float], stages: Sequence[str]) -> int:
    """Returns how many stages, from the input up, are frozen."""
    return next((index for index, stage in enumerate(stages) if factors[stage] > 0), len(stages))


def choose_cut(frozen_depth: int, costs: Costs) -> int:
    """Returns the depth to store at: of those that gain nearly as much as the best one, the one with the fewest bytes.

    0 if there is none that gains MIN_GAIN.
    """
    gains = {depth: costs.gain(depth, frozen_depth) for depth in costs.row_shapes if depth <= frozen_depth}
    best = max(gains.values(), default=0.0)
    # With an infinite best (nothing is left to compute) only that one is near it.
    good = [depth for depth, gain in gains.items() if gain >= MIN_GAIN and gain >= _NEAR_BEST * best]
    return min(good, key=lambda depth: (math.prod(costs.row_shapes[depth]), -depth), default=0)


def saved_flops(plan: Sequence[Stretch], costs: Costs, *, num_images: int, num_missing: int) -> float:
    """Returns the operations that storing saves over a run; negative if it costs more than it saves.

    Args:
        plan: the run's stretches.
        costs: of the stages.
        num_images: that an epoch looks at, in training and validation.
        num_missing: images and views that the store lacks, to be computed at the deepest cut.
    """
    saved = sum(stretch.num_epochs * num_images * costs.prefix(stretch.depth) for stretch in plan if stretch.depth)
    return saved - num_missing * costs.prefix(max((stretch.depth for stretch in plan), default=0))
