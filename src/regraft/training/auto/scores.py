"""How good heads on a candidate's features are, by leaving each image out, and whether two candidates differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from regraft.core.errors import ConfigError
from regraft.training.closed_form.mix import fit_closed_form
from regraft.training.closed_form.temperature import image_losses

NUM_ERRORS = 2.0
"""Standard errors of the paired difference by which one candidate has to be better than another."""


@dataclass(frozen=True)
class Score:
    """What a head, such as the mix in closed form, makes of images that it hasn't seen.

    Attributes:
        losses: (num_scored,), float64, of each image; of those that are left out, each whose class has another one.
        is_right: (num_scored,), bool.
        stages: which the head reads.
    """

    losses: Tensor
    is_right: Tensor
    stages: tuple[str, ...]

    @property
    def loss(self) -> float:
        """The log loss."""
        return float(self.losses.mean())

    @property
    def loss_error(self) -> float:
        """The standard error of `loss`."""
        return _standard_error(self.losses)

    @property
    def accuracy(self) -> float:
        """The share of images that are classified correctly."""
        return float(self.is_right.double().mean())

    @property
    def accuracy_error(self) -> float:
        """The standard error of `accuracy`."""
        return _standard_error(self.is_right.double())

    def is_beaten_by(self, other: "Score") -> bool:
        """Whether another score of the same images has a lower log loss by more than chance."""
        differences = self.losses - other.losses
        return bool(differences.mean() > NUM_ERRORS * _standard_error(differences))


def score(features: Mapping[str, Tensor], labels: Tensor, num_classes: int) -> Score:
    """Returns the leave-one-out score of features.

    Args:
        features: by stage, from the input up, (num_images, width).
        labels: (num_images,), int64.
        num_classes: at least 2.

    Raises:
        ConfigError: features that are NaN or infinite; no class has two images.
    """
    fitted = fit_closed_form(features, labels, num_classes)
    known = fitted.scored[fitted.is_informative]
    if not len(known):
        raise ConfigError(
            "data", "no class has two training images, so nothing can be left out", fix="Add images of a class."
        )
    return score_of(fitted.loo_logits[fitted.is_informative], labels[known], fitted.stages)


def score_of(logits: Tensor, labels: Tensor, stages: Sequence[str]) -> Score:
    """Returns the score of logits (num_images, num_classes) for images with labels (num_images,).

    Args:
        stages: which gave them.
    """
    return Score(image_losses(logits.double(), labels), logits.argmax(1) == labels, tuple(stages))


def _standard_error(values: Tensor) -> float:
    return float(values.std() / len(values) ** 0.5) if len(values) > 1 else torch.inf
