"""The loss of training samples: their weights and the penalties on the model's weights included."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from regraft.training.losses.classification import penalty


class SampleLoss:
    """The mean loss of training samples, each by its weight, plus penalties on the model's weights.

    Attributes:
        weights: of all training samples, (num_samples,); None for equal ones.
        groups: of all training samples, as numbers (num_samples,) on the CPU; None if there are none.

    Args:
        loss: see `losses`.
        l1: factor of the sum of absolute weights.
        l2: factor of half the sum of squared weights.
    """

    def __init__(self, loss: nn.Module, l1: float, l2: float) -> None:
        self._loss: Any = loss
        self._l1, self._l2 = l1, l2
        self.weights: Tensor | None = None
        self.groups: Tensor | None = None

    def weights_of(self, indices: Tensor) -> Tensor | None:
        """Returns the weights of training samples, (batch,); None for equal ones."""
        if self.weights is None:
            return None
        self.weights = self.weights.to(indices.device)
        return self.weights[indices]

    def groups_of(self, indices: Tensor) -> Tensor | None:
        """Returns the groups of training samples as numbers, (batch,), on the CPU; None if there are none."""
        return None if self.groups is None else self.groups[indices.cpu()]

    def mean(
        self,
        logits: Tensor,
        targets: Tensor,
        indices: Tensor,
        groups: Sequence[Mapping[str, Any]],
        weights: Tensor | None = None,
    ) -> Tensor:
        """Returns the mean loss, a scalar.

        Args:
            groups: the optimizer's parameter groups.
            weights: those of mixed images, (batch,), in place of the samples' own.
        """
        weights = self.weights_of(indices) if weights is None else weights
        loss: Tensor = self._loss(logits, targets) if weights is None else self._loss(logits, targets, weights)
        return loss + self._penalty(groups) if self._l1 or self._l2 else loss

    def mean_in_blocks(
        self, blocks: Iterable[tuple[Tensor, Tensor, Tensor]], groups: Sequence[Mapping[str, Any]]
    ) -> Tensor:
        """Returns the mean loss of many samples, a scalar, from blocks of logits, targets and indices."""
        totals = []
        for logits, targets, indices in blocks:
            weights = self.weights_of(indices)
            totals.append(torch.stack(self._loss.total(logits, targets, *([] if weights is None else [weights]))))
        summed, divisor = torch.stack(totals).sum(0)
        return summed / divisor + self._penalty(groups)

    def is_mean_of_means(self, weights: Tensor | None) -> bool:
        """Whether the mean over equal parts of a batch is the mean of the parts' means, with `weights` as in `mean`."""
        return weights is None and self.weights is None and getattr(self._loss, "counts_samples", False)

    def share_of_mean(
        self,
        logits: Tensor,
        targets: Tensor,
        indices: Tensor,
        groups: Sequence[Mapping[str, Any]],
        weights: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Returns what this process's samples add to the mean over those of all processes, and the penalties.

        Every process calls it, also with no samples.
        """
        weights = self.weights_of(indices) if weights is None else weights
        if len(logits) == 0:
            summed, divisor = logits.sum(), torch.zeros((), device=logits.device)
        else:
            summed, divisor = self._loss.total(logits, targets, *([] if weights is None else [weights]))
        divisor = divisor.detach().clone()
        torch.distributed.all_reduce(divisor)
        return summed / divisor.clamp_min(torch.finfo(divisor.dtype).tiny), self._penalty(groups)

    def _penalty(self, groups: Sequence[Mapping[str, Any]]) -> Tensor:
        return penalty(groups, self._l1, self._l2) if self._l1 or self._l2 else torch.zeros(())
