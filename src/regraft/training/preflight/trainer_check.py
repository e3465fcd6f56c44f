"""Builds a config's trainer with its callbacks and loggers, as far as that is possible, and collects the errors."""

import inspect
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import DeviceStatsMonitor
from pytorch_lightning.loggers import Logger

from regraft.config.collector import ErrorCollector
from regraft.config.given import is_given
from regraft.config.instantiate import factory, target_of
from regraft.config.nested import ABSENT, at
from regraft.core.errors import ConfigError, UnknownNameError
from regraft.models.freezing import FreezingStrategy
from regraft.runs.folder import CHECKPOINTS, Run
from regraft.tasks import task_of
from regraft.training.callbacks.run_callbacks import (
    require_compatible,
    require_watchable,
    run_callbacks,
    step_loss,
    watchers,
)
from regraft.training.from_config import skips_nan
from regraft.training.metrics import metric_names
from regraft.training.trainer import build_trainer

GROUPS: Mapping[str, type] = {"callbacks": pl.Callback, "logger": Logger}
"""The sections of named nodes, with the class of what each node builds."""


def build_trainer_if_possible(collector: ErrorCollector, run: Run, strategy: FreezingStrategy | None) -> Any:
    """Returns the trainer, with those callbacks and loggers that can be built; ours write nothing yet."""
    usable = collector.config
    for check in (skips_nan, step_loss):
        collector.try_build("callbacks", partial(check, usable))
    callbacks = _build_group(collector, "callbacks", {"dirpath": str(run.path / CHECKPOINTS)})
    loggers = _build_group(collector, "logger", {"save_dir": str(run.path)})
    check_watchers(collector, None, has_val=True)
    callbacks = run_callbacks(usable, run, strategy, callbacks)
    given = {"logger": loggers, "default_root_dir": run.path}
    # Lightning adds its own to the list of callbacks, which later attempts with other options must not find.
    return collector.try_build("trainer", lambda: build_trainer(usable, **given, callbacks=list(callbacks)))


def _build_group(collector: ErrorCollector, group: str, given: Mapping[str, Any]) -> list[Any]:
    """Returns the objects of a group's nodes, each called with those of `given` that it takes."""

    def build(section: str) -> Any:
        node = at(collector.config, section)
        if node is ABSENT:  # its wrong target has been removed
            return None
        target, kind = target_of(node, section), GROUPS[group]
        # Of a function, what it returns is checked.
        if isinstance(target, type) and not issubclass(target, kind):
            raise ConfigError(f"{section}._target_", got=node["_target_"], allowed=f"a subclass of {kind.__name__}")
        if isinstance(target, type):
            require_compatible(target, section)
        taken = inspect.signature(target).parameters
        built = factory(node, section)(**{key: value for key, value in given.items() if key in taken})
        if not isinstance(built, kind):
            raise ConfigError(f"{section}._target_", f"it does not return a {kind.__name__}", got=node["_target_"])
        require_compatible(type(built), section)
        known = metric_names(task_of(collector.config["task"]["name"]), None)
        monitor = getattr(built, "monitor", None)
        if is_given(node) and isinstance(monitor, str) and monitor not in known:
            raise UnknownNameError(section, "metric", monitor, known)
        # Which Lightning looks for when the run has begun.
        if isinstance(built, DeviceStatsMonitor) and node.get("cpu_stats") is None and find_spec("psutil") is None:
            raise ConfigError(
                section,
                "it needs psutil, which isn't installed",
                fix=f"pip install psutil, or {section}.cpu_stats=false.",
            )
        return built

    sections = [f"{group}.{name}" for name, node in collector.config[group].items() if isinstance(node, Mapping)]
    built = [collector.try_build(section, partial(build, section)) for section in sections]
    return [each for each in built if each is not None]


def check_watchers(collector: ErrorCollector, num_classes: int | None, *, has_val: bool) -> None:
    """Checks what the scheduler and the callbacks monitor."""
    usable = collector.config
    for section in watchers(usable):
        collector.try_build(section, partial(require_watchable, usable, section, num_classes, has_val=has_val))
