"""torch's L-BFGS, for a head whose epoch is one batch."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import require


class LBFGS(torch.optim.LBFGS):
    """torch's L-BFGS for the head alone, whose steps evaluate the same loss many times.

    torch's own takes a single group and no weight decay. Here the groups of stages, which don't train, are left out,
    those of the head are one, and weight_decay / 2 * sum w^2 is added to the loss, so that it converges to regularised
    logistic regression where the head is linear and the loss is cross-entropy.

    Args:
        lr: length of a step; 1 with a line search.
        max_iter: iterations per step.
        history_size: number of pairs from which the curvature is estimated.
        line_search_fn: `strong_wolfe`, or None for steps of length `lr`.
        weight_decay: of the head's weights, not of its biases.
    """

    def __init__(
        self,
        params: Sequence[dict[str, Any]],
        lr: float,
        max_iter: int,
        history_size: int,
        line_search_fn: str | None,
        weight_decay: float,
    ) -> None:
        is_known = line_search_fn in ("strong_wolfe", None)
        require(is_known, "optimizer.line_search_fn", line_search_fn, "strong_wolfe, null")
        require(max_iter >= 1, "optimizer.max_iter", max_iter, "1, 2, 3, ...")
        require(history_size >= 1, "optimizer.history_size", history_size, "1, 2, 3, ...")
        groups = [group for group in params if group["name"].startswith("head/")]
        everything = [parameter for group in groups for parameter in group["params"]]
        super().__init__(everything, lr, max_iter, history_size=history_size, line_search_fn=line_search_fn)
        self._decays = [(p, group["weight_decay"]) for group in groups for p in group["params"]]
        self.param_groups[0] |= {"name": "head/decay", "weight_decay": weight_decay, "lr_factor": 1.0}

    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Takes one step and returns the loss before it, decay included; `closure` sets the gradients of the loss."""

        def decayed() -> Tensor:
            loss = closure()
            with torch.no_grad():
                for parameter, decay in self._decays:
                    if decay:
                        assert parameter.grad is not None, "the closure sets gradients"
                        parameter.grad.add_(parameter, alpha=decay)
                        loss = loss + decay / 2 * parameter.square().sum()
            return loss

        return super().step(decayed)
