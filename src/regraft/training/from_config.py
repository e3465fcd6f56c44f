"""The module, loss, optimizer, schedule and freezing strategy built from a config."""

import inspect
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from regraft.config.instantiate import Config, factory, target_of
from regraft.core.errors import ConfigError, require
from regraft.core.types import Backbone
from regraft.models.freezing import FreezingStrategy, Stages, phases
from regraft.models.from_config import build_head
from regraft.models.given import require_logits
from regraft.tasks import TargetSummary, task_of
from regraft.training.fit.multi_process import is_sharded
from regraft.training.given import require_scalar, require_usable
from regraft.training.losses.classification import weights_by_index
from regraft.training.optim.parameter_groups import parameter_groups
from regraft.training.optim.schedulers import Interval, intervals

CALLBACK_OPTIONS = ("nan", "loss_every_n_steps")
"""Keys of `callbacks` that aren't nodes."""


def build_module(config: Config, backbone: Backbone, targets: TargetSummary, record: Config) -> Any:
    """Returns the LightningModule; `record` makes each of its checkpoints usable on its own."""
    make = _module_class(config)
    head = build_head(config, backbone.num_features, targets, backbone.feature_widths)
    loss = build_loss(config, targets)
    require_logits(head, backbone.num_features, len(targets.names))
    require_scalar(loss, config["task"]["name"], len(targets.names))
    return make(
        backbone=backbone,
        head=head,
        loss=loss,
        num_classes=len(targets.names),
        task=config["task"]["name"],
        make_optimizer=lambda body, head: optimizer_factory(config)(params=optimizer_groups(config, body, head)),
        make_scheduler=scheduler_factory(config),
        l1=config["penalty"]["l1"],
        l2=config["penalty"]["l2"],
        record=record,
        skips_nan=skips_nan(config),
    )


def _module_class(config: Config) -> Callable[..., Any]:
    if not is_sharded(config["trainer"]):
        from regraft.training.module import TransferModule

        return TransferModule
    from regraft.training.hardware.sharding import ShardedModule

    return partial(ShardedModule, sync_batchnorm=config["trainer"].get("sync_batchnorm", False))


def build_loss(config: Config, targets: TargetSummary) -> nn.Module:
    """Returns the loss for data with these training targets; raises ConfigError if it doesn't fit the task."""
    node, weights, task = config["loss"], config["loss"].get("class_weights"), task_of(config["task"]["name"])
    target = target_of(node, "loss")
    if task.name not in getattr(target, "tasks", (task.name,)):
        allowed = " or ".join(f"loss={name}" for name in task.losses)
        raise ConfigError("loss", f"it doesn't fit task={task.name}", got=node["_target_"], fix=f"Use {allowed}.")
    if isinstance(weights, dict):
        node = node | {"class_weights": weights_by_index(weights, targets.names)}
    given, taken = task.loss_arguments(targets), inspect.signature(target).parameters
    takes_all = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in taken.values())
    return factory(node, "loss")(**{key: value for key, value in given.items() if takes_all or key in taken})


def skips_nan(config: Config) -> bool:
    """Returns whether a batch whose loss is not finite is skipped."""
    choice = config["callbacks"].get("nan", "stop")
    require(choice in ("stop", "skip"), "callbacks.nan", choice, "stop, skip")
    return bool(choice == "skip")


def optimizer_factory(config: Config) -> Callable[..., Any]:
    """Returns what makes the config's optimizer from `params`."""
    require_usable(target_of(config["optimizer"], "optimizer"))
    # The groups determine which parameters decay.
    node = {key: value for key, value in config["optimizer"].items() if key != "decay_norm_and_bias"}
    return factory(node, "optimizer")


def scheduler_factory(config: Config) -> Callable[..., dict[str, Any]]:
    """Returns what makes the config's schedule, as `schedulers` do; of torch's classes, the numbers count intervals."""
    node = config["scheduler"]
    kind = target_of(node, "scheduler")
    if not (isinstance(kind, type) and issubclass(kind, LRScheduler)):
        return factory(node, "scheduler")
    if issubclass(kind, ReduceLROnPlateau):
        raise ConfigError("scheduler._target_", "it watches a metric", got=kind.__name__, fix="Use scheduler=plateau.")
    interval: Interval = node.get("interval", "epoch")
    require(interval in ("step", "epoch"), "scheduler.interval", interval, "step, epoch")
    make = factory({key: value for key, value in node.items() if key != "interval"}, "scheduler", ("interval",))

    def build(optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int) -> dict[str, Any]:
        scheduler = make(optimizer)
        length, end = intervals(interval, total_steps, steps_per_epoch)[0], getattr(scheduler, "total_steps", None)
        if end is not None and end < length < sys.maxsize:
            fix = f"Use scheduler.total_steps={length}, or scheduler=onecycle, which is as long as the run."
            raise ConfigError("scheduler.total_steps", f"the run has {length} {interval}s", got=end, fix=fix)
        return {"scheduler": scheduler, "interval": interval, "frequency": 1}

    return build


def optimizer_groups(config: Config, backbone: Backbone, head: nn.Module) -> list[dict[str, Any]]:
    """Returns the named groups for the config's optimizer."""
    node = config["optimizer"]
    return parameter_groups(
        backbone,
        head,
        weight_decay=node.get("weight_decay", 0.0),
        decay_norm_and_bias=node.get("decay_norm_and_bias", False),
    )


def build_freezing(config: Config, stages: Stages | None) -> FreezingStrategy:
    """Returns the strategy; with the stages, all its phases are checked against them."""
    require_length(config)
    strategy: FreezingStrategy = factory(config["freezing"], "freezing")()
    if stages is not None:
        phases(strategy, stages, config["trainer"]["max_epochs"])
    return strategy


def require_length(config: Config) -> None:
    """Raises ConfigError if the number of epochs isn't valid."""
    max_epochs = config["trainer"]["max_epochs"]
    is_valid = type(max_epochs) is int and (max_epochs >= 1 or max_epochs == -1)
    require(is_valid, "trainer.max_epochs", max_epochs, "1 or more, or -1 for no limit")
