"""A mix of linear heads, chosen by leave-one-out log loss, that is one linear head in the end."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

from regraft.training.closed_form.scaling import StageScaling, fit_scaling
from regraft.training.closed_form.solvers import Solution, discriminant, ridge
from regraft.training.closed_form.spectrum import Spectrum, TrainingImages

ALPHAS = tuple(10 ** (exponent / 2) for exponent in range(-4, 9))
"""Tried for each set of stages; each stage's features have a mean squared length of 1."""
_SOLVERS = {"ridge": ridge, "discriminant": discriminant}
_MAX_SCORES = 2**24
"""Leave-one-out scores of one head at most, 128 MB; of more, some images' are computed."""


@dataclass(frozen=True)
class Candidate:
    """A head that may be picked.

    Attributes:
        solver: `ridge` or `discriminant`.
        stages: whose features it reads.
        alpha: its regularisation.
        scale: by which scores are multiplied to be logits, above 0.
        logits: (num_scored, num_classes), leave-one-out, float64.
        weight: (num_classes, width), of the scaled features, giving logits.
        bias: (num_classes,).
    """

    solver: str
    stages: tuple[str, ...]
    alpha: float
    scale: float
    logits: Tensor
    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class ClosedFormHead:
    """A linear head on the scaled features of all stages that its picks read.

    Attributes:
        scaling: of the features.
        stages: in the order in which their features are concatenated.
        weight: (num_classes, width), float64.
        bias: (num_classes,), float64.
        picks: the heads that it is the mean of, by how often each was picked.
        loo_logits: (num_scored, num_classes), float64, of the images `scored`.
        scored: (num_scored,), int64, places of these training images.
    """

    scaling: StageScaling
    stages: tuple[str, ...]
    weight: Tensor
    bias: Tensor
    picks: Mapping[Candidate, int]
    loo_logits: Tensor
    scored: Tensor

    def logits(self, features: Mapping[str, Tensor]) -> Tensor:
        """Returns (batch, num_classes), float64, of features (batch, width) by stage."""
        scaled = torch.cat([self.scaling(stage, features[stage]) for stage in self.stages], dim=1)
        return scaled @ self.weight.T + self.bias
