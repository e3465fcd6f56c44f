"""A torchmetrics object that keeps all outputs of a split and computes its figure at the end."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class Gathered(Metric):
    """A metric of the registry that isn't a sum over images, such as a mean average precision.

    Args:
        outputs_of: from logits and targets, NumPy arrays, to what the registry's `evaluated` takes.
        figure: the registry's `evaluated`; None becomes NaN.
    """

    full_state_update = False
    is_differentiable = False
    logits: list[Tensor]
    targets: list[Tensor]

    def __init__(self, outputs_of: Callable[[Any, Any], Any], figure: Callable[[Any], float | None]) -> None:
        super().__init__()
        self._outputs_of, self._figure = outputs_of, figure
        for name in ("logits", "targets"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Keeps a batch: logits (batch, num_outputs) and targets of the same shape."""
        self.logits.append(logits.detach().float())
        self.targets.append(targets.detach())

    def compute(self) -> Tensor:
        """Returns the figure of all batches."""
        logits, targets = (dim_zero_cat(getattr(self, name)).cpu() for name in ("logits", "targets"))
        if not logits.isfinite().all():  # which ends the run where the loss is checked
            return torch.tensor(torch.nan)
        value = self._figure(self._outputs_of(logits.numpy(), targets.numpy()))
        return torch.tensor(torch.nan if value is None else value)
