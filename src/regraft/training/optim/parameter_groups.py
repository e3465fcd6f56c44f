"""Named parameter groups, and learning rates that are schedule times factor.

All parameters sit in the optimizer from step 0, in groups named by stage; freezing changes a group's `lr_factor` only.
Optimizers themselves are torch's own, named in conf/optimizer; LBFGS is fitted to named groups here.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from regraft.core.errors import require
from regraft.core.types import BATCH_NORMS, Backbone

_INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


_NORM_LAYERS = (*BATCH_NORMS, *_INSTANCE_NORMS, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


# Biases, scales and tokens of transformers and ConvNeXt, as torchvision and timm name them, that have 2 or more axes.
_UNDECAYED_NAMES = (
    *("absolute_pos_embed", "pos_embed", "pos_embedding", "relative_position_bias_table"),
    *("class_token", "cls_token", "dist_token", "reg_token", "layer_scale"),
)


def parameter_groups(
    backbone: Backbone, head: nn.Module, weight_decay: float, *, decay_norm_and_bias: bool
) -> list[dict[str, Any]]:
    """Returns optimizer groups `<stage>/decay` and `<stage>/no_decay` from the input up, then the head's.

    Without decay are norm layers' parameters, those with at most one axis (biases, scales), and tokens and positions,
    unless `decay_norm_and_bias`. Empty groups are left out. Each group has `params`, `name`, `weight_decay` and
    `lr_factor`, which is 1.0.
    """
    require(weight_decay >= 0, "optimizer.weight_decay", weight_decay, "at least 0")
    assert "head" not in backbone.stages, "'head' names the head, so no stage may be called so."
    groups: list[dict[str, Any]] = []
    for stage, module in [*backbone.stages.items(), ("head", head)]:
        decayed, undecayed = _split(module)
        if decay_norm_and_bias:
            decayed, undecayed = decayed + undecayed, []
        for kind, parameters, decay in (("decay", decayed, weight_decay), ("no_decay", undecayed, 0.0)):
            if parameters:
                name = f"{stage}/{kind}"
                groups.append({"params": parameters, "name": name, "weight_decay": decay, "lr_factor": 1.0})
    grouped = [parameter for group in groups for parameter in group["params"]]
    assert len(grouped) == len(set(grouped)), "A parameter belongs to two stages, or to a stage and the head."
    expected = {*backbone.parameters(), *head.parameters()}
    assert set(grouped) == expected, "Every parameter must belong to a stage or to the head."
    return groups


@contextmanager
def scaled_learning_rates(optimizer: Optimizer) -> Iterator[None]:
    """Multiplies each group's `lr` by its `lr_factor` inside the block, and restores exactly the old groups.

    Around the optimizer's step, so that a scheduler sees only its own schedule: lr of a group at a step is
    schedule(step) * factor, whatever phases lie between, and also for schedules that compute from the last value.
    """
    groups = optimizer.param_groups
    scheduled = [group["lr"] for group in groups]
    for group in groups:
        group["lr"] = group["lr"] * group["lr_factor"]
    try:
        yield
    finally:
        optimizer.param_groups = groups
        for group, lr in zip(groups, scheduled, strict=True):
            group["lr"] = lr


def step_with_factors(optimizer: Optimizer, factor_of: Callable[[Tensor], float]) -> None:
    """Makes each step of an optimizer use its groups' rates times the factors of their parameters.

    Within the step, groups are divided by factor; outside of it they stay as they are, so that schedules and
    checkpoints don't see it.

    Args:
        factor_of: returns the factor of a parameter, when a step is taken.
    """
    undivided: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []

    def divide(*_: Any) -> None:
        if undivided:  # a step ended with an error
            join()
        undivided[:] = [(group, _divided(group, factor_of)) for group in optimizer.param_groups]
        optimizer.param_groups[:] = [part for _, parts in undivided for part in parts]

    def join(*_: Any) -> None:
        for group, parts in undivided:
            # What an optimizer keeps in its groups, such as a number of steps.
            kept = parts[0].items() if parts else ()
            group.update({key: value for key, value in kept if key not in ("params", "lr")})
        optimizer.param_groups[:] = [group for group, _ in undivided]
        undivided.clear()

    optimizer.register_step_pre_hook(divide)
    optimizer.register_step_post_hook(join)


def _divided(group: dict[str, Any], factor_of: Callable[[Tensor], float]) -> list[dict[str, Any]]:
    """Returns a group for each factor above 0 of a group's parameters."""
    by_factor: dict[float, list[Tensor]] = {}
    for parameter in group["params"]:
        if factor := factor_of(parameter):
            by_factor.setdefault(factor, []).append(parameter)
    return [group | {"params": params, "lr": group["lr"] * factor} for factor, params in by_factor.items()]


def effective_learning_rates(optimizer: Optimizer) -> dict[str, float]:
    """Returns each group's current lr * lr_factor, by group name; 0.0 is frozen."""
    return {group["name"]: float(group["lr"]) * group["lr_factor"] for group in optimizer.param_groups}


def _split(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    decayed: list[nn.Parameter] = []
    undecayed: list[nn.Parameter] = []
    seen: set[Tensor] = set()
    for owner in module.modules():
        for name, parameter in owner.named_parameters(recurse=False):
            if parameter in seen:
                continue
            seen.add(parameter)
            is_undecayed = isinstance(owner, _NORM_LAYERS) or parameter.ndim <= 1 or name in _UNDECAYED_NAMES
            (undecayed if is_undecayed else decayed).append(parameter)
    return decayed, undecayed
