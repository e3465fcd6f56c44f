"""torch's fused kernels for optimizers on the CPU: a step passes over the weights once, not once per operation."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer

from regraft.core.sharded import is_sharded

_FUSED = (Adam, AdamW, SGD, Adagrad)


@contextmanager
def fused_kernels(optimizer: Optimizer) -> Iterator[Callable[[], None]]:
    """Yields a function to call once gradients are there; a step inside the block then uses fused kernels.

    Groups that name their kernels (`fused`, `foreach`) keep them. The optimizer's state is the same with and without
    them; on other devices it isn't, so nothing is changed there.
    """
    changed: list[dict[str, Any]] = []

    def fuse() -> None:
        for group in optimizer.param_groups if type(optimizer) in _FUSED else ():
            if group["fused"] is None and not group["foreach"] and _can_be_fused(optimizer, group["params"]):
                group["fused"] = True
                changed.append(group)

    try:
        yield fuse
    finally:
        for group in changed:
            group["fused"] = None


def _can_be_fused(optimizer: Optimizer, parameters: Iterable[Tensor]) -> bool:
    """Whether the kernels give what others do.

    They rely without a check on gradients that lie in memory as the parameters do; and SGD's on momentum of all
    parameters or of none, which isn't so where a parameter has its first gradient later than others. torch has none of
    SGD and Adagrad for parameters that processes divide among them.
    """
    trained = [(each, each.grad) for each in parameters if each.grad is not None]
    has_momentum = {optimizer.state.get(each, {}).get("momentum_buffer") is not None for each, _ in trained}
    return len(has_momentum) <= 1 and all(
        each.is_cpu and not is_sharded(each) and gradient.layout == torch.strided and gradient.stride() == each.stride()
        for each, gradient in trained
    )


def lay_out_states(optimizer: Optimizer) -> None:
    """Lays out the state of each parameter as the parameter is: a run may be resumed in another memory format."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
