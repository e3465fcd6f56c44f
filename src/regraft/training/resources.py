"""What a run will take of disk and memory, roughly, against what there is.

Predictions are lower bounds: what they refuse can't work, and what they let pass may still be too much.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from regraft.core.errors import ConfigError
from regraft.core.memory import memory_bytes
from regraft.core.types import Backbone, InputSpec

_CHECKPOINTS = 3
"""Best, last and previous, each with weights and the optimizer's state."""


@dataclass(frozen=True)
class ModelSize:
    """What a run holds.

    Attributes:
        num_parameters: of backbone and head.
        num_trained: of those, how many ever train.
        num_states: numbers that the optimizer keeps for each parameter that trains.
    """

    num_parameters: int
    num_trained: int
    num_states: float

    @property
    def checkpoint_bytes(self) -> int:
        """Of one checkpoint."""
        return int(4 * (self.num_parameters + self.num_states * self.num_trained))

    @property
    def run_bytes(self) -> int:
        """Of all files with weights in a run's folder."""
        # The last are those that stages begin with, from which `callbacks.stability` measures.
        return _CHECKPOINTS * self.checkpoint_bytes + 4 * (self.num_parameters + self.num_trained)

    @property
    def resident_bytes(self) -> int:
        """Of parameters, gradients and the optimizer's state in memory."""
        return int(4 * (self.num_parameters + (1 + self.num_states) * self.num_trained))


def small_parameter() -> nn.Parameter:
    """Returns a parameter for an optimizer to be tried on."""
    return nn.Parameter(torch.zeros(1024))


def states_per_parameter(optimizer: Any) -> float:
    """Returns how many numbers an optimizer keeps for each parameter: it takes a step, and they are counted."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(lambda: torch.zeros(()))
    states = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    return sum(value.numel() for value in states) / sum(parameter.numel() for parameter in parameters)


def check_image(spec: InputSpec, device: torch.device) -> int:
    """Returns the bytes of one image, as a backbone is fed it, float32.

    Args:
        spec: what the backbone wants.
        device: that it is to be on.

    Raises:
        ValueError: they are more than there are.
    """
    needed, there = 4 * spec.num_channels * spec.image_size**2, memory_bytes(device)
    if needed > there:
        raise ConfigError(
            "model.image_size",
            f"got {spec.image_size}; one image takes {bytes_text(needed)} then, but there are "
            f"{bytes_text(there)} of memory. Use a smaller one; 224 pixels are usual.",
        )
    return needed


def activation_bytes(backbone: Backbone, trained: Sequence[str]) -> int:
    """Returns the bytes of one image's activations that training keeps for the backward pass, float32.

    Those of the modules that have none inside them; what functions make on top isn't seen. Nothing is computed, unless
    the backbone looks at values.

    Args:
        backbone: left as it was.
        trained: stages that train.
    """
    num_values = 0

    def count(_module: nn.Module, _inputs: Any, output: Any) -> None:
        nonlocal num_values
        num_values += output.numel() if isinstance(output, Tensor) else 0

    modules = {module for name in trained for module in backbone.stages[name].modules()}
    hooks = [module.register_forward_hook(count) for module in modules if not list(module.children())]
    modes = {module: module.training for module in backbone.modules()}
    spec = backbone.input_spec
    image = torch.zeros(1, spec.num_channels, spec.image_size, spec.image_size, device="meta")
    states = {name: tensor.to("meta") for name, tensor in (*backbone.named_parameters(), *backbone.named_buffers())}
    try:
        with torch.no_grad():
            torch.func.functional_call(backbone.eval(), states, (image,))
    except (NotImplementedError, RuntimeError):
        num_values = 0
        with torch.inference_mode():
            backbone(torch.zeros_like(image, device="cpu"))
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    return 4 * num_values


def check_disk(folder: Path, sizes: ModelSize) -> None:
    """Checks that the disk can take a run's checkpoints.

    Args:
        folder: of the run; needn't exist.
        sizes: of the run.

    Raises:
        ValueError: it can't.
    """
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if sizes.run_bytes > free:
        raise ConfigError(
            "output_dir",
            f"a run's checkpoints take about {bytes_text(sizes.run_bytes)} ({_CHECKPOINTS} of "
            f"{bytes_text(sizes.checkpoint_bytes)}, and the weights), but the disk of {place} has {bytes_text(free)} "
            "left; free space there, or name a folder on another one with output_dir=PATH.",
        )


def check_memory(
    sizes: ModelSize, image_bytes: int, kept_bytes: int, batch_size: int, num_processes: int, device: torch.device
) -> None:
    """Checks that memory can hold a training step.

    Args:
        sizes: of the run.
        image_bytes: of one image, as the backbone is fed it.
        kept_bytes: of one image's activations, see `activation_bytes`.
        batch_size: of each process.
        num_processes: that share this memory.
        device: that is trained on.

    Raises:
        ValueError: it can't.
    """
    there = memory_bytes(device)
    each = image_bytes + kept_bytes
    needed = num_processes * (sizes.resident_bytes + batch_size * each)
    if needed <= there:
        return
    fitting = int((there / num_processes - sizes.resident_bytes) // each)
    fix = f"use data.batch_size={fitting} or less" if fitting >= 1 else "use a smaller model"
    raise ConfigError(
        "data.batch_size",
        f"got {batch_size}; a step takes about {bytes_text(needed)} ({bytes_text(each)} an image, "
        f"{bytes_text(sizes.resident_bytes)} of parameters, gradients and the optimizer's state), but there are "
        f"{bytes_text(there)} of memory; {fix}, or freeze more stages.",
    )


def bytes_text(num_bytes: float) -> str:
    """Returns a number of bytes for people, three digits at least."""
    unit, name = (1e6, "MB") if num_bytes < 999.5e6 else (1e9, "GB")
    return f"{num_bytes / unit:,.{0 if num_bytes >= 99.5 * unit else 1 if num_bytes >= 9.95 * unit else 2}f} {name}"
