"""Steps of torch's optimizers in less time: few groups, and on the CPU kernels that pass over the weights once."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer

from regraft.core.sharded import is_sharded

_FUSED = (Adam, AdamW, SGD, Adagrad)
_NOT_OPTIONS = ("params", "name", "lr_factor", "initial_lr")
"""What groups have that a step doesn't read."""


def merge_groups(optimizer: Optimizer) -> None:
    """Gives an optimizer of torch's fewer groups for its next step; `scaled_learning_rates` restores them after it.

    torch visits each parameter of each group, and calls its kernels for each group. So groups without gradients are
    left out, those with the same options become one, and kernels are fused unless groups name theirs (`fused`,
    `foreach`). What a step does to a parameter and to its state is the same. Optimizers of other packages may keep
    something in their groups.
    """
    if type(optimizer).__module__.startswith("torch.optim."):
        optimizer.param_groups = _merged(optimizer)


def _merged(optimizer: Optimizer) -> list[dict[str, Any]]:
    merged: dict[Any, list[dict[str, Any]]] = {}
    for group in optimizer.param_groups:
        params = [each for each in group["params"] if each.grad is not None]
        if not params:
            continue
        options = {key: value for key, value in group.items() if key not in _NOT_OPTIONS}
        # SGD's kernels rely without a check on momentum of all parameters or of none, which isn't so where a parameter
        # has its first gradient later than others.
        states = [optimizer.state.get(each, {}) for each in params] if group.get("momentum") else []
        momenta = {state.get("momentum_buffer") is not None for state in states}
        if type(optimizer) in _FUSED and group["fused"] is None and not group["foreach"]:
            options["fused"] = (len(momenta) <= 1 and _can_be_fused(params)) or None
        alike = merged.setdefault((options["lr"], *momenta), [])
        same = next((each for each in alike if each["options"] == options), None)
        if same is None:
            alike.append({"options": options, "params": params})
        else:
            same["params"] += params
    return [each["options"] | {"params": each["params"]} for alike in merged.values() for each in alike]


def _can_be_fused(params: Iterable[Tensor]) -> bool:
    """Whether fused kernels give what others do, of parameters with gradients.

    They rely without a check on gradients that lie in memory as the parameters do. torch has none of SGD and Adagrad
    for parameters that processes divide among them. On other devices than the CPU the optimizer's state would be
    another one.
    """
    return all(
        each.is_cpu
        and not is_sharded(each)
        and each.grad is not None
        and each.grad.layout == torch.strided
        and each.grad.stride() == each.stride()
        for each in params
    )


def lay_out_states(optimizer: Optimizer) -> None:
    """Lays out the state of each parameter as the parameter is: a run may be resumed in another memory format."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
