"""Check in about a minute that this machine trains as it should: `regraft doctor`, `regraft doctor gpu`."""

import functools
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.cli.command import Command
from regraft.core.errors import ConfigError, UnknownNameError
from regraft.core.startup import quick_imports
from regraft.core.text import say
from regraft.runs.folder import Run

if TYPE_CHECKING:
    import torch

_DEVICES = ("cpu", "gpu")
_CHECKS = ("device", "precision", "store", "ddp", "fsdp", "compile", "throughput")
_TRAINING = (
    *("data=digits", "data.fraction=0.2", "model=efficientnet_lite0", "model.image_size=64", "fitting=steps"),
    *("trainer.max_epochs=2", "trainer.enable_progress_bar=false", "report=off", "logger=csv", "features.cache=on"),
)

_BATCH_SIZE = 64
"""Of all devices together."""


def run(arguments: Sequence[str]) -> None:
    """Checks the CPU or the GPU; raises ConfigError if a check fails."""
    words, values = COMMAND.split(arguments)
    if len(words) > 1:
        raise ConfigError("doctor", got=" ".join(words), allowed=COMMAND.usage)
    kind = words[0] if words else "cpu"
    if kind not in _DEVICES:
        raise UnknownNameError(None, "word", kind, _DEVICES)
    chosen = values["checks"].split(",") if "checks" in values else list(_CHECKS)
    for name in chosen:
        if name not in _CHECKS:
            raise UnknownNameError("checks", "check", name, _CHECKS)
    with quick_imports():
        from regraft.training.hardware.self_test import checked, checks_of, require_gpu
        from regraft.training.lightning import quiet_lightning

    if kind == "gpu":
        require_gpu()
    quiet_lightning()
    failed = []
    with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
        device = _device(kind)
        checks = {**checks_of(device), **_runs(kind, device, Path(folder))}
        for name in chosen:
            result = checked(name, checks[name])
            say(f"{result.status:<8} {name:<11} {result.text} ({result.seconds:.1f} s)")
            failed += [name] if result.status == "failed" else []
    if failed:
        fix = f"`regraft doctor {kind} checks={','.join(failed)}` repeats them."
        raise ConfigError(
            f"doctor {kind}", f"{len(failed)} of {len(chosen)} checks failed: {', '.join(failed)}", fix=fix
        )
    say(f"Nothing is wrong. Next: regraft train trainer={kind}")


def _device(kind: str) -> "torch.device":
    """Returns the device that a training computes on."""
    from regraft.config import compose
    from regraft.training.trainer import prepared_device

    composed = compose.compose_once("train", [f"trainer={kind}"], None)
    with compose.as_current(composed):
        found: torch.device = prepared_device(compose.plain(composed))
    return found


def _runs(kind: str, device: "torch.device", folder: Path) -> Mapping[str, Callable[[], str]]:
    """Returns the checks that train, with their runs and their store in a folder."""
    from regraft.cli.commands.train import train_once
    from regraft.training.hardware.self_test import SkippedError, num_devices

    def words(name: str, *more: str) -> list[str]:
        return [
            *_TRAINING,
            f"output_dir={folder}",
            f"hydra.run.dir={folder / name}",
            f"features.dir={folder / 'store'}",
            *more,
        ]

    def store() -> str:
        runs = [train_once(words(name, f"trainer={kind}"), None, is_printed=False) for name in ("first", "second")]
        (first, second), accuracies = (run.results["features"] for run in runs), [accuracy(run) for run in runs]
        if second["num_computed"] or accuracies[0] != accuracies[1]:
            num, was, now = second["num_computed"], *accuracies
            raise ValueError(f"{num} features were computed again, and test/acc is {now} after {was}")
        return f"features of {first['num_computed']} images were stored and read again"

    @functools.cache
    def alone() -> Run:
        return train_once(words("alone", f"trainer={kind}", f"data.batch_size={_BATCH_SIZE}"), None, is_printed=False)

    def together(trainer: str) -> str:
        number = num_devices(device)
        if number < 2:
            raise SkippedError(f"there is one {device.type} device")
        devices = f"trainer.accelerator={kind}", f"trainer.devices={number}"
        overrides = words(trainer, f"trainer={trainer}", *devices, f"data.batch_size={max(1, _BATCH_SIZE // number)}")
        # A process of its own, because what its processes print can't be held back here.
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "regraft", "train", *overrides], capture_output=True, text=True, check=False
        )
        if ended.returncode:
            raise ValueError((ended.stderr.strip() or ended.stdout.strip()).splitlines()[-1])
        found = accuracy(Run(folder / trainer)), accuracy(alone())
        return f"{number} processes train together; test/acc {found[0]:.3f}, one alone {found[1]:.3f}"

    def accuracy(run: Run) -> float:
        return float(run.results["metrics"]["test/acc"])

    return {"store": store, "ddp": lambda: together("ddp"), "fsdp": lambda: together("fsdp")}


COMMAND = Command(
    name="doctor",
    run=run,
    usage="regraft doctor [cpu | gpu] [checks=NAME,NAME]",
    details="""The checks are device, precision, store, ddp and fsdp (all devices together, each with all weights or a
part of them), compile and throughput; each says what it found. It ends with 1 if one of them fails, or if there is
no GPU for `regraft doctor gpu`.""",
    keys=("checks",),
    words=lambda: _DEVICES,
)
