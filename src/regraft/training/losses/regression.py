"""Losses of numbers: of errors in standard deviations of the training targets, mean over targets."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from regraft.core.errors import require
from regraft.training.losses.classification import Loss


class RegressionLoss(Loss):
    """Base class of losses that are a mean over targets.

    Args:
        scale: standard deviation of each target, (num_targets,), above 0.
    """

    tasks = ("regression",)
    scale: Tensor

    def __init__(self, *, scale: Sequence[float]) -> None:
        super().__init__()
        # Not persistent: they follow from the data, and a checkpoint must not depend on which loss trained it.
        self.register_buffer("scale", torch.tensor(scale), persistent=False)

    def of_samples(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the loss of each sample and what it adds to the divisor, 1."""
        losses = self.of_errors((logits - targets) / self.scale).mean(1)
        return losses, torch.ones(len(losses), dtype=torch.float32, device=losses.device)

    def of_errors(self, errors: Tensor) -> Tensor:
        """Returns the loss of each sample and target, (batch, num_targets), from standardised errors."""
        raise NotImplementedError


class MAE(RegressionLoss):
    """Absolute error."""

    def of_errors(self, errors: Tensor) -> Tensor:
        """Returns the absolute errors."""
        return errors.abs()


class Huber(RegressionLoss):
    """Huber loss, torch's own: squared error up to `delta`, absolute error beyond.

    Args:
        delta: in standard deviations of the target, above 0.
    """

    def __init__(self, *, scale: Sequence[float], delta: float) -> None:
        super().__init__(scale=scale)
        require(0 < delta < math.inf, "loss.delta", delta, "above 0, in standard deviations of the target")
        self.delta = float(delta)

    def of_errors(self, errors: Tensor) -> Tensor:
        """Returns the Huber loss of each error."""
        return functional.huber_loss(errors, torch.zeros_like(errors), reduction="none", delta=self.delta)
