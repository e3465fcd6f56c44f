"""What runs a training: callbacks, loggers and the trainer."""

import inspect
import logging
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from hydra.utils import get_object

from regraft.build.parts import Parts
from regraft.build.targets import Config, factory
from regraft.checkpoints.files import CheckpointFiles
from regraft.checkpoints.keeping import LastCheckpoint
from regraft.checkpoints.restoring import EarlyStop, EpochEnd, History, StartAfresh
from regraft.composition import unknown
from regraft.freezing.callback import FreezingCallback
from regraft.interrupts import StopOnSignal
from regraft.predictions.callback import KeepPredictions
from regraft.resuming import without_state
from regraft.runs import CHECKPOINTS, Run

log = logging.getLogger(__name__)


def callbacks(config: Config, run: Run, parts: Parts, on_saved: Callable[[], None]) -> list[Any]:
    """Returns the freezing callback and those of the config; checkpoints go to the run's folder, a null is left out.

    Args:
        config: the resolved config.
        run: the run's folder.
        parts: what is trained.
        on_saved: called after each write of the last checkpoint.

    Raises:
        ValueError: something watches a validation metric, and there is no validation split.
    """
    _require_watchable(config["scheduler"], "scheduler", parts)
    made: list[Any] = [EpochEnd(), EarlyStop(), FreezingCallback(parts.strategy)]
    nodes = {name: node for name, node in config["callbacks"].items() if node is not None and name != "nan"}
    for name, node in nodes.items():
        parameters = inspect.signature(get_object(node["_target_"])).parameters
        takes_folder = "dirpath" in parameters
        if takes_folder and str(node.get("monitor")).startswith("val/") and not parts.data.has_val:
            log.info("There is no validation split, so callbacks.%s keeps nothing; the last epoch is tested.", name)
            continue
        _require_watchable(node, f"callbacks.{name}", parts)
        make = factory(node, f"callbacks.{name}")
        given = {"dirpath": str(run.path / CHECKPOINTS), "on_saved": on_saved}
        made.append(make(**{key: value for key, value in given.items() if key in parameters}))
    made.append(KeepPredictions(run.path))
    made.append(History(partial(run.history, sys.maxsize)))
    parts_to_reset = config.get("resume", {}).get("reset", [])
    if parts_to_reset and config["ckpt_path"] is not None:
        made.append(StartAfresh(partial(without_state, parts=parts_to_reset), parts.module.start_schedule_at))
    made.append(StopOnSignal(next((callback for callback in made if isinstance(callback, LastCheckpoint)), None)))
    return made


def _require_watchable(node: Config, section: str, parts: Parts) -> None:
    """Checks that what a section watches is logged, and that it watches it the right way up."""
    monitor = node.get("monitor")
    if monitor is None:
        return
    known = parts.module.metric_names
    if monitor not in known:
        raise ValueError(f"{section}.monitor: {unknown('metric', monitor, known)}")
    if monitor.startswith("val/") and not parts.data.has_val:
        raise ValueError(
            f"{section}.monitor: got {monitor!r}, but there is no validation split. Give one (data.val_fraction=0.1)."
        )
    mode = node.get("mode", "min")  # what Lightning's callbacks take it for
    right = "min" if monitor.endswith("/loss") else "max"
    if mode != right:
        raise ValueError(f"{section}.mode: got {mode!r} for {monitor}; it must be {right}.")


def loggers(config: Config, run: Run) -> list[Any]:
    """Returns the loggers of the config, each writing into the run's folder."""
    nodes = {name: node for name, node in config["logger"].items() if node is not None}
    return [factory(node, f"logger.{name}")(save_dir=str(run.path)) for name, node in nodes.items()]


def trainer(config: Config, *, has_val: bool, **given: Any) -> Any:
    """Returns Lightning's Trainer; samplers are dealt to devices by the datamodule, not by Lightning.

    Raises:
        ValueError: Lightning refuses the combination, or the machine lacks the accelerator.
    """
    from pytorch_lightning.utilities.exceptions import MisconfigurationException

    node = config["trainer"]
    if node["num_nodes"] != 1:
        raise ValueError(f"trainer.num_nodes: got {node['num_nodes']}; several machines aren't supported yet.")
    if node["limit_train_batches"] == 0:
        raise ValueError(
            "trainer.limit_train_batches: got 0; allowed: 1 or more, a share of the batches, or null for all."
        )
    make = factory(node | ({} if has_val else {"limit_val_batches": 0}), "trainer")
    try:
        return make(use_distributed_sampler=False, enable_model_summary=False, plugins=[CheckpointFiles()], **given)
    except (MisconfigurationException, ValueError) as error:
        raise ValueError(f"trainer: {' '.join(str(error).split())} For the CPU: trainer=cpu.") from error
