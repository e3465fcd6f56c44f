"""The callbacks of a run: Regraft's own and those of the config, and which of the latter are refused."""

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from pytorch_lightning.callbacks import (
    BaseFinetuning,
    BatchSizeFinder,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ProgressBar,
    StochasticWeightAveraging,
)

from regraft.config.instantiate import Config, targets_subclass
from regraft.core.errors import ConfigError, UnknownNameError, require
from regraft.core.lightning_internals import skip_empty_hooks
from regraft.models.freezing import FreezingStrategy
from regraft.runs.folder import Run
from regraft.runs.resuming import without_state
from regraft.sweeps import trial_file
from regraft.tasks import task_of
from regraft.tasks.metrics import higher_is_better
from regraft.training.callbacks.checkpoint import BestCheckpoint, LastCheckpoint
from regraft.training.callbacks.freezing import FreezingCallback
from regraft.training.callbacks.loggers import KeepLoggersOpen, StepLoss
from regraft.training.callbacks.predictions import KeepPredictions
from regraft.training.callbacks.progress import TrainingProgressBar
from regraft.training.callbacks.pruning import PruneUnpromising
from regraft.training.callbacks.resume import EarlyStop, EpochEnd, History, ResetState
from regraft.training.callbacks.signals import StopOnSignal
from regraft.training.metrics import metric_names

_INCOMPATIBLE: dict[type, str] = {
    StochasticWeightAveraging: "its average is made after the last checkpoint, so that other weights would be tested. "
    "callbacks=ema keeps an average that is validated, saved and tested",
    GradientAccumulationScheduler: "it changes how many steps an epoch has, which the schedule is as long as. Use "
    "trainer.accumulate_grad_batches=N",
    BatchSizeFinder: "it changes how many steps an epoch has, which the schedule is as long as. Use data.batch_size=N",
    LearningRateFinder: "the learning rate is that of the config, which the run records. Use a sweep: -m "
    "optimizer.lr=1e-4,1e-3",
    BaseFinetuning: "what trains is chosen with freezing=..., and every parameter is in the optimizer from the start",
}
"""Lightning's callbacks that change what a run has planned or recorded, and what there is instead."""


def run_callbacks(config: Config, run: Run, strategy: FreezingStrategy | None, own: Sequence[Any]) -> list[Any]:
    """Returns all callbacks of a run, in their order; `own` are those of the config.

    A config that can't be trained has no `strategy`.
    """
    callbacks = [EpochEnd(), EarlyStop(), *([] if strategy is None else [FreezingCallback(strategy)]), *own]
    callbacks += step_loss(config)
    trial = trial_file.read(run.path)
    callbacks += [] if trial is None else [PruneUnpromising(trial)]
    callbacks += [KeepLoggersOpen(), KeepPredictions(run.path), History(partial(run.logged_rows, sys.maxsize))]
    if config["ckpt_path"] is not None and (parts := config["resume"]["reset"]):
        callbacks.append(ResetState(partial(without_state, parts=parts)))
    callbacks.append(StopOnSignal(next((each for each in own if isinstance(each, LastCheckpoint)), None)))
    has_bar = config["trainer"].get("enable_progress_bar") and not any(isinstance(each, ProgressBar) for each in own)
    callbacks += [TrainingProgressBar()] if has_bar else []
    skip_empty_hooks(each for each in callbacks if type(each).__module__.startswith("regraft."))
    return callbacks


def step_loss(config: Config) -> list[StepLoss]:
    """Returns the callback that logs the loss of single steps, if the config wants it."""
    every = config["callbacks"].get("loss_every_n_steps")
    return [] if every is None else [StepLoss(every)]


def require_compatible(kind: type, section: str) -> None:
    """Raises ConfigError if a callback changes what a run has planned or recorded."""
    for incompatible, reason in _INCOMPATIBLE.items():
        if issubclass(kind, incompatible):
            raise ConfigError(f"{section}._target_", f"{kind.__name__} can't be used here: {reason}")


def watchers(config: Config) -> dict[str, Config]:
    """Returns the nodes that watch a metric, by section."""
    nodes = {"scheduler": config["scheduler"]}
    nodes |= {f"callbacks.{name}": node for name, node in config["callbacks"].items() if isinstance(node, dict)}
    return {section: node for section, node in nodes.items() if node.get("monitor") is not None}


def require_watchable(config: Config, section: str, num_classes: int | None, *, has_val: bool) -> None:
    """Raises ConfigError if what a node watches isn't logged, or is watched in the wrong direction.

    Args:
        num_classes: of the data; None as long as that isn't known.
        has_val: whether there is a validation split.
    """
    node = watchers(config).get(section)
    if node is None:  # a wrong metric has been removed
        return
    task = task_of(config["task"]["name"])
    monitor, known = node["monitor"], metric_names(task, num_classes)
    if monitor not in known:
        if num_classes is not None and monitor in metric_names(task, None):
            raise ConfigError(
                f"{section}.monitor",
                f"it isn't measured with {num_classes} classes",
                got=monitor,
                allowed=known,
            )
        raise UnknownNameError(f"{section}.monitor", "metric", str(monitor), known)
    unvalidated = None
    if not has_val:
        key = "data.refit=false" if config["data"].get("refit") else "data.val_fraction=0.1"
        unvalidated = "there is no validation split", f"Give one ({key})."
    elif config["trainer"]["limit_val_batches"] == 0:
        unvalidated = "trainer.limit_val_batches=0 leaves nothing to validate on", "Leave that out."
    keeps_checkpoints = targets_subclass(node, section, BestCheckpoint)
    # What keeps checkpoints keeps none then, and the last epoch is tested.
    if monitor.startswith("val/") and unvalidated is not None and not keeps_checkpoints:
        reason, fix = unvalidated
        raise ConfigError(f"{section}.monitor", reason, got=monitor, fix=fix)
    patience = node.get("patience", 0)
    require(not isinstance(patience, int) or patience >= 0, f"{section}.patience", patience, "at least 0")
    mode = node.get("mode", "min")  # what Lightning's callbacks take it for
    right = "max" if higher_is_better(monitor) else "min"
    if mode != right:
        raise ConfigError(f"{section}.mode", got=mode, allowed=f"{right}, for {monitor}")
