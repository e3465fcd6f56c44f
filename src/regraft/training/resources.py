"""Lower bounds of what a run takes of disk and memory: what they refuse can't work."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import ConfigError
from regraft.core.memory import memory_bytes
from regraft.core.types import Backbone
from regraft.models.dry_run import dry_outputs

_CHECKPOINTS = 3
"""Best, last and previous, each with weights and the optimizer's state."""


@dataclass(frozen=True)
class ModelSize:
    """Numbers that a run holds.

    Attributes:
        num_trained: of those, how many ever train.
        num_states: numbers that the optimizer keeps for each parameter that trains.
    """

    num_parameters: int
    num_trained: int
    num_states: float

    @property
    def checkpoint_bytes(self) -> int:
        """Bytes of one checkpoint."""
        return int(4 * (self.num_parameters + self.num_states * self.num_trained))

    @property
    def run_bytes(self) -> int:
        """Bytes of all files with weights in a run's folder."""
        # The last are those that stages begin with, from which `callbacks.stability` measures.
        return _CHECKPOINTS * self.checkpoint_bytes + 4 * (self.num_parameters + self.num_trained)

    @property
    def resident_bytes(self) -> int:
        """Bytes of parameters, gradients and the optimizer's state in memory."""
        return int(4 * (self.num_parameters + (1 + self.num_states) * self.num_trained))


def states_per_parameter(optimizer: Any) -> float:
    """Returns how many numbers an optimizer keeps for each parameter: it takes a step, and they are counted."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(lambda: torch.zeros(()))
    states = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    return sum(value.numel() for value in states) / sum(parameter.numel() for parameter in parameters)


def activation_bytes(backbone: Backbone, trained: Sequence[str]) -> int:
    """Returns the bytes of one image's activations that training these stages keeps for the backward pass, float32.

    The outputs of modules without submodules are counted.
    """
    modules = {module for name in trained for module in backbone.stages[name].modules() if not list(module.children())}
    return 4 * sum(output.numel() for _, output in dry_outputs(backbone, modules, num_images=1))


def check_disk(folder: Path, size: ModelSize) -> None:
    """Raises ConfigError if the disk of a run's folder, which may not exist yet, can't hold its checkpoints."""
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if size.run_bytes > free:
        raise ConfigError(
            "output_dir",
            f"a run's checkpoints take about {bytes_text(size.run_bytes)} ({_CHECKPOINTS} of "
            f"{bytes_text(size.checkpoint_bytes)}, and the weights), but the disk of {place} has {bytes_text(free)} "
            "left; free space there, or name a folder on another one with output_dir=PATH.",
        )


def check_memory(
    size: ModelSize,
    backbone: Backbone,
    trained: Sequence[str],
    batch_size: int,
    num_processes: int,
    device: torch.device,
) -> None:
    """Raises ConfigError if the memory that some processes share can't hold a training step of each.

    Args:
        trained: names of the stages that ever train, from the input up.
    """
    spec, names = backbone.input_spec, list(backbone.stage_names)
    available, image = memory_bytes(device), 4 * spec.num_channels * spec.image_size**2
    if image > available:
        raise ConfigError(
            "model.image_size",
            f"one image takes {bytes_text(image)} then, but there are {bytes_text(available)} of memory",
            got=spec.image_size,
            fix="Use a smaller one; 224 pixels are usual.",
        )
    # Stages below the first one that trains keep nothing for the backward pass; a head alone may read stored features.
    kept = activation_bytes(backbone, names[names.index(trained[0]) :]) if trained else 0
    each = image + kept if trained else 4 * backbone.num_features
    needed = num_processes * (size.resident_bytes + batch_size * each)
    if needed <= available:
        return
    fitting = int((available / num_processes - size.resident_bytes) // each)
    fix = f"Use data.batch_size={fitting} or less" if fitting >= 1 else "Use a smaller model"
    raise ConfigError(
        "data.batch_size",
        f"a step takes about {bytes_text(needed)} ({bytes_text(each)} an image, {bytes_text(size.resident_bytes)} of "
        f"parameters, gradients and the optimizer's state), but there are {bytes_text(available)} of memory",
        got=batch_size,
        fix=f"{fix}, or freeze more stages.",
    )


def bytes_text(num_bytes: float) -> str:
    """Returns a number of bytes for people, three digits at least."""
    unit, name = (1e6, "MB") if num_bytes < 999.5e6 else (1e9, "GB")
    return f"{num_bytes / unit:,.{0 if num_bytes >= 99.5 * unit else 1 if num_bytes >= 9.95 * unit else 2}f} {name}"
