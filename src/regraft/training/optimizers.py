"""The optimizer of a config, on named groups."""

from collections.abc import Callable
from typing import Any

from torch import nn

from regraft.config.instantiate import Config, factory
from regraft.core.types import Backbone
from regraft.training.optim import parameter_groups


def build_optimizer(config: Config, backbone: Backbone, head: nn.Module) -> Any:
    """Returns the config's optimizer on named groups."""
    return optimizer_factory(config)(params=optimizer_groups(config, backbone, head))


def optimizer_factory(config: Config) -> Callable[..., Any]:
    """Returns what makes the config's optimizer of `params`."""
    # Which parameters decay is said by the groups.
    node = {key: value for key, value in config["optimizer"].items() if key != "decay_norm_and_bias"}
    return factory(node, "optimizer")


def optimizer_groups(config: Config, backbone: Backbone, head: nn.Module) -> list[dict[str, Any]]:
    """Returns the named groups that the config's optimizer works on."""
    node = config["optimizer"]
    return parameter_groups(
        backbone,
        head,
        weight_decay=node.get("weight_decay", 0.0),
        decay_norm_and_bias=node.get("decay_norm_and_bias", False),
    )
