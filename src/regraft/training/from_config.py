"""The module, loss, optimizer and freezing strategy built from a config."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import nn

from regraft.config.instantiate import Config, factory
from regraft.core.errors import ConfigError
from regraft.core.types import Backbone
from regraft.models.freezing import FreezingStrategy, phases
from regraft.models.from_config import build_head
from regraft.training.optim import parameter_groups


def build_module(config: Config, backbone: Backbone, class_counts: Sequence[int], record: Config) -> Any:
    """Returns the LightningModule.

    Args:
        config: the resolved config.
        backbone: gives features.
        class_counts: training images of each class; their number is the number of classes.
        record: what makes each of its checkpoints a handle of its own.
    """
    from regraft.training.module import TransferModule

    num_classes = len(class_counts)
    return TransferModule(
        backbone=backbone,
        head=build_head(config, backbone.num_features, num_classes),
        loss=build_loss(config, class_counts),
        num_classes=num_classes,
        make_optimizer=partial(build_optimizer, config),
        make_scheduler=factory(config["scheduler"], "scheduler"),
        l1=config["penalty"]["l1"],
        l2=config["penalty"]["l2"],
        record=record,
        skips_nan=skips_nan(config),
    )


def build_loss(config: Config, class_counts: Sequence[int]) -> nn.Module:
    """Returns the loss; `class_counts` are the training images of each class."""
    made: nn.Module = factory(config["loss"], "loss")(num_classes=len(class_counts), class_counts=class_counts)
    return made


def skips_nan(config: Config) -> bool:
    """Returns whether a batch whose loss is not finite is left out."""
    choice = config["callbacks"].get("nan", "stop")
    if choice not in ("stop", "skip"):
        raise ConfigError("callbacks.nan", got=choice, allowed="stop, skip")
    return bool(choice == "skip")


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


def build_freezing(config: Config, stage_names: tuple[str, ...]) -> FreezingStrategy:
    """Returns the strategy, having asked it about every epoch, so that a misnamed stage is said before data is read."""
    strategy = build_strategy(config)
    phases(strategy, stage_names, config["trainer"]["max_epochs"])
    return strategy


def build_strategy(config: Config) -> FreezingStrategy:
    """Returns the strategy, which may still not fit the backbone's stages, or the length of the run."""
    require_length(config)
    strategy: FreezingStrategy = factory(config["freezing"], "freezing")()
    return strategy


def require_length(config: Config) -> None:
    """Checks how many epochs the run has."""
    max_epochs = config["trainer"]["max_epochs"]
    if not isinstance(max_epochs, int) or isinstance(max_epochs, bool) or not (max_epochs >= 1 or max_epochs == -1):
        raise ConfigError("trainer.max_epochs", got=max_epochs, allowed="1 or more, or -1 for no limit")
