"""A head whose outputs are numbers in the units of the targets."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Rescaled(nn.Module):
    """A head for numbers: its outputs are standardised, and brought to the units of the targets here.

    Attributes:
        head: gives standardised numbers, (batch, num_targets).
        target_mean: (num_targets,), of the training targets.
        target_std: (num_targets,), of the training targets.
    """

    target_mean: Tensor
    target_std: Tensor

    def __init__(self, head: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.head = head
        self.register_buffer("target_mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("target_std", torch.tensor(std, dtype=torch.float32))

    @property
    def classifier(self) -> nn.Module:
        """The last linear layer."""
        layer: nn.Module = self.head.classifier  # type: ignore[assignment]
        return layer

    def forward(self, features: Tensor) -> Tensor:
        """Returns numbers in the units of the targets, (batch, num_targets)."""
        return self.in_units(self.head(features))

    def in_units(self, standardised: Tensor) -> Tensor:
        """Returns standardised numbers, (batch, num_targets), in the units of the targets."""
        return torch.addcmul(self.target_mean.to(standardised), standardised, self.target_std.to(standardised))

    def standardised(self, targets: Tensor) -> Tensor:
        """Returns targets, (batch, num_targets), without their units."""
        return (targets - self.target_mean.to(targets)) / self.target_std.to(targets)
