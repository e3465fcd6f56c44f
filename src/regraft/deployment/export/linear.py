"""The linear layer that does the same as a head."""

import torch
from torch import Tensor, nn

from regraft.models.heads import Ensemble, Linear
from regraft.tasks.rescaled import Rescaled


def linear_tensors(head: nn.Module) -> dict[str, Tensor] | None:
    """Returns weight and bias of the linear layer that gives the same outputs; None if there is none.

    That of numbers gives them in the units of the targets, and that of an ensemble is the mean of its members' layers.
    """
    if isinstance(head, Ensemble):
        members = [tensors for tensors in map(linear_tensors, head.members) if tensors is not None]
        if len(members) < len(head.members):
            return None
        return {name: torch.stack([each[name].double() for each in members]).mean(0).float() for name in members[0]}
    inner = head.head if isinstance(head, Rescaled) else head
    if not isinstance(inner, Linear):
        return None
    tensors = dict(inner.classifier.state_dict())
    if isinstance(head, Rescaled):
        std = head.target_std.double()
        weight, bias = (tensors[name].double() for name in ("weight", "bias"))
        tensors = {"weight": (weight * std[:, None]).float(), "bias": (bias * std + head.target_mean).float()}
    return tensors
