"""The trainer: Lightning's, made as the config says, and what is refused of its options."""

import os
import warnings
from contextlib import nullcontext
from datetime import timedelta
from typing import Any, Literal

import torch
from pytorch_lightning.plugins import DoublePrecision
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from regraft.config.instantiate import Config, factory
from regraft.core.errors import ConfigError, require
from regraft.core.processor import CPP_COMPILERS, cpp_compiler
from regraft.core.startup import keep_freed_memory, stop_looking_for_gpus
from regraft.runs.checkpoint_io import CheckpointFiles
from regraft.training.fit.multi_process import is_sharded, num_processes
from regraft.training.hardware.precision import is_on_cpu, lightning_precision

_NEEDED = (
    *("accelerator", "devices", "num_nodes", "precision", "max_epochs", "max_steps", "accumulate_grad_batches"),
    *("gradient_clip_val", "fast_dev_run", "limit_train_batches", "limit_val_batches", "enable_progress_bar"),
)
# Lightning accepts less than these, and fails in the middle of a run, or ignores them.
_LEAST = {
    "process_timeout": 1,
    "start_timeout": 1,
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "log_every_n_steps": 0,
    "gradient_clip_val": 0,
}
_OURS = {
    "callbacks": "callbacks are chosen with callbacks=... and +callbacks.NAME._target_=...",
    "logger": "loggers are chosen with logger=...",
    "default_root_dir": "a run's folder is made in output_dir",
    "plugins": "checkpoints are written by Regraft's own",
    "use_distributed_sampler": "each process draws its own batches",
    "enable_model_summary": "a table of what trains is printed",
    "enable_checkpointing": "what is kept is chosen with callbacks.checkpoint and callbacks.best",
    "overfit_batches": "which samples there are is chosen with data.fraction and data.shots",
}
OWN_KEYS: dict[str, Any] = {
    "process_timeout": float | None,
    "start_timeout": float,
    "matmul_precision": Literal["highest", "high", "medium"] | None,
    "compile": Literal["auto"] | bool,
    "checkpoint_activations": Literal["auto"] | bool,
    "memory_format": Literal["auto", "channels_last", "contiguous"],
}
"""Types of the keys that aren't Lightning's."""
_NOTHING = nullcontext()
_DOUBLE_PRECISIONS = ("64-true", "64", 64)
_HALF_PRECISIONS = ("16-mixed", "16-true", "16")


def build_trainer(config: Config, **given: Any) -> Any:
    """Returns Lightning's Trainer; ConfigError if it refuses the combination, or the machine lacks the accelerator."""
    node = config["trainer"]
    _require_supported(node)
    given |= {"precision": lightning_precision(node)} | _strategy(node)
    if node.get("profiler") is None:
        given["profiler"] = _NoProfiler()
    node = {key: value for key, value in node.items() if key not in (*OWN_KEYS, *given)}
    make = factory(node, "trainer")
    try:
        with warnings.catch_warnings():
            # Lightning would use another precision; it is refused below.
            warnings.filterwarnings("ignore", message=".*precision='16-mixed'.*AMP with fp16 is not supported on CPU")
            made = make(use_distributed_sampler=False, enable_model_summary=False, **given)
    except (MisconfigurationException, ValueError) as error:
        reason = " ".join(str(error).split())
        if not _can_build(node, "accelerator"):
            is_alone = config["trainer"].get("strategy", "auto") == "auto"
            on_cpu = "trainer=cpu" if is_alone else "trainer.accelerator=cpu trainer.devices=NUMBER"
            fix = f"For the CPU: {on_cpu}."
            raise ConfigError("trainer.accelerator", reason, got=node["accelerator"], fix=fix) from error
        if not _can_build(node, "accelerator", "devices"):
            allowed = "a number of 1 or more, a list such as [0,1], or auto; as many as the machine has"
            raise ConfigError("trainer.devices", got=node["devices"], allowed=allowed) from error
        if isinstance(error, ConfigError):
            raise
        raise ConfigError("trainer", reason) from error
    if made.strategy.root_device.type == "cpu":
        _require_fit_for_cpu(config["trainer"], made.num_devices)
    return made


class _NoProfiler(PassThroughProfiler):
    """Profiles nothing in no time: Lightning's makes a generator for each hook of each callback, 160 times a step."""

    def profile(self, action_name: str) -> Any:
        """Returns a context that does nothing."""
        return _NOTHING


def _strategy(node: Config) -> dict[str, Any]:
    """Returns Lightning's arguments for how processes train together, and for its checkpoints."""
    seconds, is_ddp = node.get("process_timeout"), node.get("strategy") == "ddp"
    is_ddp |= node.get("strategy", "auto") == "auto" and node["num_nodes"] > 1
    timeout = None if seconds is None else timedelta(seconds=seconds)
    if not is_sharded(node):
        strategy = {"strategy": DDPStrategy(timeout=timeout)} if is_ddp and timeout is not None else {}
        return strategy | {"plugins": [CheckpointFiles()]}
    from regraft.training.hardware.sharding import ShardedStrategy

    found = {"strategy": ShardedStrategy(num_processes(node), timeout), "plugins": [CheckpointFiles()]}
    if node["precision"] in _DOUBLE_PRECISIONS:  # which Lightning has for this strategy as a plugin alone
        found |= {"precision": None, "plugins": [CheckpointFiles(), DoublePrecision()]}
    return found


def prepared_device(config: Config) -> Any:
    """Returns the device that a config's trainer computes on, and prepares a command's process for it."""
    device = build_trainer(config, logger=False, enable_checkpointing=False).strategy.root_device
    if config["trainer"].get("matmul_precision") is not None:
        torch.set_float32_matmul_precision(config["trainer"]["matmul_precision"])
    if device.type == "cpu":
        keep_freed_memory()
    if not torch.cuda.is_available():
        stop_looking_for_gpus()
    return device


def _can_build(node: Config, *keys: str) -> bool:
    """Whether a trainer with nothing but these keys can be built."""
    alone = {key: node[key] for key in ("_target_", *keys)}
    try:
        factory(alone, "trainer")(logger=False, enable_checkpointing=False)
    except (MisconfigurationException, ValueError):
        return False
    return True


def lacking_keys(node: Config) -> list[str]:
    """Returns the required keys that a trainer's section lacks."""
    return [key for key in _NEEDED if key not in node]


def _require_supported(node: Config) -> None:
    lacking = lacking_keys(node)
    if lacking:
        raise ConfigError(
            "trainer",
            f"it lacks {', '.join(lacking)}. A trainer config starts with `defaults: [_base, _self_]`, which "
            "brings them.",
        )
    for key in _OURS.keys() & node.keys():
        raise ConfigError(f"trainer.{key}", f"a run sets it itself: {_OURS[key]}. Leave it out.")
    devices = node["devices"]
    names = devices if isinstance(devices, list) else str(devices).split(",")
    is_valid = str(devices) in ("auto", "-1") or (len(names) > 0 and all(str(name).strip().isdigit() for name in names))
    require(is_valid, "trainer.devices", devices, "a number, a list such as [0,1], or auto")
    if isinstance(devices, list) and is_on_cpu(node):
        fix = "Use trainer.devices=1."
        raise ConfigError("trainer.devices", "the CPU has a number of processes, not a list", got=devices, fix=fix)
    for key, least in _LEAST.items():
        value = node.get(key)
        is_valid = value is None or (isinstance(value, int | float) and value >= least)
        require(is_valid, f"trainer.{key}", value, f"{least} or more")
    interval = node.get("val_check_interval")
    require(
        interval is None or not isinstance(interval, int | float) or interval > 0,
        "trainer.val_check_interval",
        interval,
        "a number of batches, a share of an epoch such as 0.5, or null",
    )
    every, max_epochs = node.get("check_val_every_n_epoch"), node["max_epochs"]
    if isinstance(every, int) and isinstance(max_epochs, int) and every > max_epochs >= 1:
        raise ConfigError(
            "trainer.check_val_every_n_epoch",
            f"the run has {max_epochs} epochs, so that none is validated",
            got=every,
            allowed=f"1 to {max_epochs}",
        )
    num_nodes = node["num_nodes"]
    require(isinstance(num_nodes, int) and num_nodes >= 1, "trainer.num_nodes", num_nodes, "1 or more")
    if node.get("compile") is True and cpp_compiler() is None:
        reason = f"torch.compile needs a C++ compiler, but none of {', '.join(CPP_COMPILERS)} is on the PATH"
        fix = "Install one, name it in $CXX, or use trainer.compile=false."
        raise ConfigError("trainer.compile", reason, got=True, fix=fix)
    if node.get("compile") is True and node.get("checkpoint_activations") is True:
        reason = "a compiled stage can't be computed again in the backward pass"
        raise ConfigError("trainer.checkpoint_activations", reason, got=True, fix="Use trainer.compile=false.")
    limit = node["limit_train_batches"]
    require(limit != 0, "trainer.limit_train_batches", limit, "1 or more, a share of the batches, or null for all")


def _require_fit_for_cpu(node: Config, num_devices: int) -> None:
    if str(node["precision"]) in _HALF_PRECISIONS:
        raise ConfigError(
            "trainer.precision",
            "it needs a GPU, and the run is on the CPU",
            got=node["precision"],
            fix="Use trainer.precision=bf16-mixed or 32-true.",
        )
    if node.get("sync_batchnorm"):
        fix = "Leave it out; frozen BatchNorms and other norms need none."
        raise ConfigError(
            "trainer.sync_batchnorm", "torch has it on GPUs alone, and the run is on the CPU", got=True, fix=fix
        )
    num_cores = os.cpu_count() or 1
    if num_devices > num_cores:
        raise ConfigError(
            "trainer.devices",
            f"the run is on the CPU, which has {num_cores} cores, one for each process",
            got=node["devices"],
            fix=f"Use trainer.devices={num_cores} or fewer.",
        )
