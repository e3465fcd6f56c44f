"""The sections of a config that take more than a call to be tried out; what is wrong with them is gathered."""

import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from regraft.config.collector import ErrorCollector
from regraft.config.instantiate import Config, factory, target_of
from regraft.core.errors import ConfigError
from regraft.core.types import Backbone, InputSpec
from regraft.models.freezing import HEAD, FreezingStrategy
from regraft.models.from_config import build_head
from regraft.training import resources
from regraft.training.from_config import optimizer_factory, optimizer_groups, skips_nan
from regraft.training.stage_table import StageRow, stage_rows
from regraft.training.trainer import require_watchable, watchers, why_unvalidated

_MADE_OF = ("model", "head", "augment", "loss", "freezing", "optimizer", "scheduler", "features", "trainer", "data")
_GROUPS_OF_NODES = ("callbacks", "logger")
_STEPS_AN_EPOCH = 1000
"""Of a schedule that is tried out before the number of images is known."""
ANY_CLASSES = 2
"""Of a head and a loss that are tried out before the data is read."""


def check_watchers(collector: ErrorCollector, num_classes: int | None, *, has_val: bool) -> None:
    """Looks at what each node of the config watches; see `require_watchable`."""
    now = collector.config
    for section in watchers(now):
        collector.try_build(
            section,
            lambda section=section: require_watchable(  # type: ignore[misc]
                watchers(now)[section], section, num_classes, why_unvalidated(now, has_val=has_val)
            ),
        )


def build_scheduler(config: Config, made_optimizer: Any, steps_per_epoch: int, total_steps: float) -> Any:
    """Returns the config's schedule on an optimizer."""
    make = factory(config["scheduler"], "scheduler")
    return make(made_optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch)


def replace_shapeless(collector: ErrorCollector, said: set[str]) -> bool:
    """Says which sections are none, and puts the usual ones in their place; returns whether all are sections now."""
    now = collector.config
    for name in (*_MADE_OF, *_GROUPS_OF_NODES):
        is_sound = _is_node(now.get(name)) if name in _MADE_OF else isinstance(now.get(name), Mapping)
        if not is_sound:
            if name not in said:
                reason = (
                    "it has no `_target_`, so nothing can be made of it; a config of your own names a class or a "
                    "function there, or begins with the `defaults` of a shipped one"
                )
                collector.errors.append(ConfigError(name, reason, fix=f"Choose one: {name}=NAME."))
            collector.reset_to_default(name)
    for group in [group for group in _GROUPS_OF_NODES if isinstance(now.get(group), Mapping)]:
        for name, node in list(now[group].items()):
            if not (node is None or _is_node(node) or (group, name) == ("callbacks", "nan")):
                reason = "it is a section with a `_target_`, or null to leave it out"
                collector.errors.append(ConfigError(f"{group}.{name}", reason, got=node))
                now[group][name] = None
    collector.add_missing("penalty", ("l1", "l2"))
    return all(_is_node(now.get(name)) for name in _MADE_OF) and all(
        isinstance(now.get(name), Mapping) for name in (*_GROUPS_OF_NODES, "penalty")
    )


def _is_node(node: Any) -> bool:
    return isinstance(node, Mapping) and isinstance(node.get("_target_"), str)


def build_nodes(collector: ErrorCollector) -> None:
    """Makes callbacks and loggers, in a folder that is gone afterwards."""
    now = collector.config
    collector.try_build("callbacks", lambda: skips_nan(now))
    with TemporaryDirectory() as place:
        for group, given in (("callbacks", "dirpath"), ("logger", "save_dir")):
            for name in [name for name, node in now[group].items() if _is_node(node)]:
                section = f"{group}.{name}"
                collector.try_build(section, lambda name=name, group=group, given=given, section=section: _made_with(  # type: ignore[misc]
                    now[group][name], section, {given: place}
                ))  # fmt: skip
    check_watchers(collector, None, has_val=True)


def _made_with(node: Config, section: str, given: Mapping[str, Any]) -> Any:
    taken = inspect.signature(target_of(node, section)).parameters
    return factory(node, section)(**{key: value for key, value in given.items() if key in taken})


def weightless_head(config: Config, num_features: int, num_classes: int) -> nn.Module:
    """Returns the head without memory for its weights, so that one that is too large can be told of.

    One that looks at values as it is made gets them.
    """
    try:
        with torch.device("meta"):
            return build_head(config, num_features, num_classes)
    except (NotImplementedError, RuntimeError):
        return build_head(config, num_features, num_classes)


def class_counts_to_try(config: Config) -> list[int]:
    """Returns training images of each class, for a loss that is tried out before they are known."""
    weights = config["loss"].get("class_weights")
    return [1] * (len(weights) if isinstance(weights, list) and len(weights) > 1 else ANY_CLASSES)


def build_trial_optimizer(collector: ErrorCollector, body: Backbone | None, made_head: nn.Module) -> Any:
    """Returns the config's optimizer, see `trial_optimizer`, having tried the schedule on it; None if it can't be."""
    now = collector.config
    parts = Backbone({"stage": nn.Linear(1, 1)}, 1, InputSpec(1)) if body is None else body
    trial = collector.try_build("optimizer", lambda: trial_optimizer(now, parts, made_head))
    if trial is not None:
        total = _any_total_steps(now["trainer"])
        collector.try_build("scheduler", lambda: build_scheduler(now, trial, _STEPS_AN_EPOCH, total))
    return trial


def trial_optimizer(config: Config, body: Backbone, made_head: nn.Module) -> Any:
    """Returns the config's optimizer on groups such as a run's, of one small parameter each, which may change."""
    groups = optimizer_groups(config, body, made_head)
    return optimizer_factory(config)(params=[group | {"params": [resources.small_parameter()]} for group in groups])


def rows_and_size(
    config: Config, body: Backbone, made_head: nn.Module, strategy: FreezingStrategy, trial: Any
) -> tuple[list[StageRow], resources.ModelSize]:
    """Returns what trains, and how much that is."""
    groups = optimizer_groups(config, body, made_head)
    rows = stage_rows(groups, body.stage_names, strategy, config["optimizer"]["lr"], config["trainer"]["max_epochs"])
    return rows, resources.ModelSize(
        sum(row.num_parameters for row in rows),
        sum(row.num_parameters for row in rows if row.lr_by_epoch),
        resources.states_per_parameter(trial),
    )


def _any_total_steps(node: Config) -> float:
    """Returns the steps of a run whose epochs have `_STEPS_AN_EPOCH`; more than any if trainer.max_steps ends it."""
    if node["max_steps"] != -1:
        return sys.maxsize
    return float("inf") if node["max_epochs"] == -1 else node["max_epochs"] * _STEPS_AN_EPOCH


def check_resources(
    collector: ErrorCollector,
    folder: Path,
    body: Backbone,
    rows: list[StageRow],
    sizes: resources.ModelSize,
    made_trainer: Any,
) -> None:
    """Looks at the room that a run needs on the disk of its folder, and in the memory of what it is trained on."""
    collector.try_build("output_dir", lambda: resources.check_disk(folder, sizes))
    spec = body.input_spec
    device: torch.device = made_trainer.strategy.root_device
    if collector.try_build("model", lambda: resources.check_image(spec, device)) is None:
        return
    trained = [row.stage for row in rows if row.lr_by_epoch and row.stage != HEAD]
    # What is below the first stage that trains keeps nothing for the backward pass.
    above = list(body.stage_names)[body.stage_names.index(trained[0]) :] if trained else []
    kept = resources.activation_bytes(body, above) if above else 0
    image_bytes = 4 * spec.num_channels * spec.image_size**2 if above else 4 * body.num_features
    num_processes = made_trainer.num_devices if device.type == "cpu" else 1
    collector.try_build(
        "data",
        lambda: resources.check_memory(
            sizes, image_bytes, kept, collector.config["data"]["batch_size"], num_processes, device
        ),
    )
