"""Heads that are trained on the pooled outputs of several stages, which differ in their units and widths."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

CLIP = 5.0
"""Standard deviations; what lies further out, mostly of inputs unlike the training inputs, is clipped to this."""
CONSTANT = 1e-6
"""A standard deviation below this share of the mean is rounding of a constant feature."""


class OnStandardised(nn.Module):
    """A head on features in standard scores, clipped, and divided by the square root of the width of their stage.

    Mean and variance are those of all features so far in training. In the closed form they are known before
    (`Standardised`).

    Args:
        head: on features (batch, num_features).
        widths: how many of the features each stage gives, in their order.

    Attributes:
        count: (), how many rows of features the statistics are of.
        mean: (num_features,).
        variance: (num_features,).
        weight: (num_features,), 1 / square root of the width of the feature's stage.
    """

    count: Tensor
    mean: Tensor
    variance: Tensor
    weight: Tensor

    def __init__(self, head: nn.Module, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.head = head
        weight = torch.cat([torch.full((width,), width**-0.5) for width in widths.values()])
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros_like(weight))
        self.register_buffer("variance", torch.zeros_like(weight))
        self.register_buffer("weight", weight)

    @property
    def classifier(self) -> nn.Module:
        """The last linear layer."""
        layer: nn.Module = self.head.classifier  # type: ignore[assignment]
        return layer

    def forward(self, features: Tensor) -> Tensor:
        """Returns logits (batch, num_classes)."""
        values = features.to(self.mean.dtype)
        if self.training:
            self._add(values.detach())
        deviation = self.variance.sqrt()
        is_constant = deviation <= CONSTANT * self.mean.abs()
        scale = torch.where(is_constant, 0.0, self.weight / torch.where(is_constant, 1.0, deviation))
        limit = CLIP * self.weight
        scaled = ((values - self.mean) * scale).minimum(limit).maximum(-limit)
        return self.head(scaled.to(features.dtype))

    def _add(self, rows: Tensor) -> None:
        """Adds rows to the statistics (Chan, Golub, LeVeque: "Updating formulae and a pairwise algorithm", 1979)."""
        total = self.count + len(rows)
        share = len(rows) / total
        difference = rows.mean(0) - self.mean
        spread = rows.var(0, correction=0) + (1 - share) * difference.square()
        self.mean += share * difference
        self.variance += share * (spread - self.variance)
        self.count.copy_(total)
