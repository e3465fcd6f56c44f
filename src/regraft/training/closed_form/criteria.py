"""What heads in closed form are chosen by: leave-one-out losses of classes, of labels and of numbers."""

import math
from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from regraft.training.closed_form.platt import fit_sigmoids
from regraft.training.closed_form.solvers import Solution
from regraft.training.closed_form.temperature import fit_scale, image_losses, log_loss
from regraft.training.closed_form.training_images import TrainingImages

GUARD = 2.0
"""Standard errors of the paired difference by which a head on more than the last stage has to be better than one on it.

Earlier stages read textures and colours, which change from one domain to another, so they have to earn their place.
"""
_BLIND_SCALE = 10.0
"""Of ridge scores, where no class has two images to fit it on; the median of what was best on 16 data sets."""


def label_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Returns the binary log loss of each image, mean over labels, (num_images,)."""
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)


def value_losses(values: Tensor, targets: Tensor) -> Tensor:
    """Returns the squared error of each image, mean over targets, (num_images,)."""
    return (values - targets).square().mean(1)


LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "classification": image_losses,
    "multilabel": label_losses,
    "regression": value_losses,
}
"""By task, from outputs (num_images, num_outputs) and targets to (num_images,)."""


class Criterion(Protocol):
    """A leave-one-out loss.

    Attributes:
        weight: (num_scored,), of the images by which something is chosen.
        can_choose: whether there are any.
    """

    weight: Tensor
    can_choose: bool

    def fitted(self, solution: Solution, start: float) -> tuple[Solution, float]:
        """Returns a solution and the scale at which its scores are outputs; `start` is a guess of the scale."""

    def scale(self, outputs: Tensor, /) -> float:
        """Returns the scale at which the mean of several heads' outputs is best."""

    def __call__(self, outputs: Tensor, /) -> float:
        """Returns the weighted mean loss of outputs, (num_scored, num_outputs)."""

    def is_better(self, one: Tensor, other: Tensor) -> bool:
        """Returns whether one set of outputs is better than another by more than `GUARD` standard errors."""


class ClassCriterion:
    """The log loss of the images that say something about their class."""

    def __init__(self, images: TrainingImages) -> None:
        self.labels = images.labels[images.scored]
        # Of each class, the number of groups that have it.
        of_classes = (
            images.labels if images.groups is None else torch.stack([images.labels, images.groups]).unique(dim=1)[0]
        )
        counts = torch.bincount(of_classes, minlength=len(images.class_weight))
        is_known = (counts[self.labels] > 1) & images.can_leave_out
        self.weight = torch.where(is_known, images.weight[images.scored], 0.0)
        self.can_choose = bool((self.weight > 0).any())

    def fitted(self, solution: Solution, start: float) -> tuple[Solution, float]:
        """Returns the solution and its best scale."""
        return solution, self.scale(solution.loo_scores, start)

    def scale(self, scores: Tensor, /, start: float = 1.0) -> float:
        """Returns the scale of least log loss."""
        return fit_scale(scores, self.labels, self.weight, start) if self.can_choose else _BLIND_SCALE

    def __call__(self, logits: Tensor, /) -> float:
        """Returns the log loss; NaN if nothing can be chosen."""
        return log_loss(logits, self.labels, self.weight) if self.can_choose else math.nan

    def is_better(self, one: Tensor, other: Tensor) -> bool:
        """Returns whether one set of logits is better than another by more than `GUARD` standard errors."""
        return _is_better(image_losses(one, self.labels), image_losses(other, self.labels), self.weight)


class _DenseCriterion:
    """Base class of the losses of rows of targets."""

    def __init__(self, images: TrainingImages) -> None:
        self.targets = images.targets[images.scored]
        self.can_choose = images.can_leave_out
        self.weight = images.weight[images.scored] * self.can_choose

    def losses(self, outputs: Tensor) -> Tensor:
        """Returns the loss of each image, (num_scored,)."""
        raise NotImplementedError

    def fitted(self, solution: Solution, start: float) -> tuple[Solution, float]:
        """Returns the solution, whose scores are outputs as they are."""
        return solution, 1.0

    def scale(self, outputs: Tensor, /) -> float:
        """Returns 1."""
        return 1.0

    def __call__(self, outputs: Tensor, /) -> float:
        """Returns the weighted mean loss; NaN if nothing can be chosen."""
        return float(self.weight @ self.losses(outputs) / self.weight.sum())

    def is_better(self, one: Tensor, other: Tensor) -> bool:
        """Returns whether one set of outputs is better than another by more than `GUARD` standard errors."""
        return _is_better(self.losses(one), self.losses(other), self.weight)


class LabelCriterion(_DenseCriterion):
    """The binary log loss, mean over labels; each label's scores become logits by a sigmoid of their own."""

    def losses(self, outputs: Tensor) -> Tensor:
        """Returns the loss of each image, (num_scored,)."""
        return label_losses(outputs, self.targets)

    def fitted(self, solution: Solution, start: float) -> tuple[Solution, float]:
        """Returns the solution with its scores brought to logits."""
        weight = self.weight if self.can_choose else torch.ones_like(self.weight)
        return solution.transformed(*fit_sigmoids(solution.loo_scores, self.targets, weight)), 1.0


class ValueCriterion(_DenseCriterion):
    """The squared error, mean over targets."""

    def losses(self, outputs: Tensor) -> Tensor:
        """Returns the loss of each image, (num_scored,)."""
        return value_losses(outputs, self.targets)


CRITERIA: dict[str, type[ClassCriterion] | type[_DenseCriterion]] = {
    "classification": ClassCriterion,
    "multilabel": LabelCriterion,
    "regression": ValueCriterion,
}
"""By task."""


def _is_better(one: Tensor, other: Tensor, weight: Tensor) -> bool:
    gains = other - one
    share = weight / weight.sum()
    gain = share @ gains
    return bool(gain > GUARD * (share.square() @ (gains - gain).square()).sqrt())
