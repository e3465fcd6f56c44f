"""Lower bounds of what a run takes of disk and memory: what they refuse can't work."""

import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from regraft.core.errors import ConfigError
from regraft.core.memory import memory_bytes
from regraft.core.types import Backbone
from regraft.models.dry_run import dry_outputs, saved_bytes

_CHECKPOINTING = "trainer.checkpoint_activations=auto without trainer.compile=true, "
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

    def divided(self, num_parts: int) -> "ModelSize":
        """Returns what each of several processes holds that divide the numbers among them."""
        return ModelSize(-(-self.num_parameters // num_parts), -(-self.num_trained // num_parts), self.num_states)

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


def activation_bytes(backbone: Backbone, phases: Iterable[Collection[str]]) -> int:
    """Returns the bytes of one image that training keeps for the backward pass in the largest of some phases, float32.

    Args:
        phases: the stages that train in each.
    """
    found = [frozenset(trained) for trained in phases]
    largest = {trained for trained in found if not any(trained < other for other in found)}
    return max((saved_bytes(backbone, trained) for trained in largest if trained), default=0)


def checkpointed_bytes(backbone: Backbone, phases: Iterable[Collection[str]]) -> int:
    """Returns a lower bound of what `activation_bytes` does, with activation checkpointing.

    It counts the inputs of stages, and what the average one keeps where it is computed again.
    """
    names = {stage: name for name, stage in backbone.stages.items()}
    outputs = {names[stage]: output.nbytes for stage, output in dry_outputs(backbone, names, num_inputs=1)}
    below = dict(zip(backbone.stage_names[1:], backbone.stage_names, strict=False))
    return max(
        (
            sum(outputs.get(below.get(name, ""), 0) for name in trained)
            + activation_bytes(backbone, [trained]) // len(trained)
            for trained in map(frozenset, phases)
            if trained
        ),
        default=0,
    )


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
    phases: Sequence[Collection[str]],
    batch_size: int,
    num_processes: int,
    device: torch.device,
    precision: str,
    checkpoint_activations: bool | Literal["auto"],
) -> bool:
    """Returns whether to checkpoint activations, which `auto` does where memory would lack otherwise.

    Args:
        phases: the stages that train in each phase of the run.
        precision: the trainer's; half of the bytes are assumed for one of 16 bits, as some values keep 32.

    Raises:
        ConfigError: the memory that some processes share can't hold a training step of each.
    """
    spec, is_half = backbone.input_spec, "16" in precision
    available, own = memory_bytes(device), spec.input_bytes
    if own > available:
        key, size = next(iter(spec.options.items()))
        raise ConfigError(
            f"model.{key}",
            f"one {spec.kind} takes {bytes_text(own)} then, but there are {bytes_text(available)} of memory",
            got=size,
            fix="Use a smaller one.",
        )
    resident = size.resident_bytes // 2 if is_half and precision.endswith("true") else size.resident_bytes

    def bytes_of_each(of_stages: Callable[[Backbone, Sequence[Collection[str]]], int]) -> int:
        # A head alone may read stored features.
        each = own + of_stages(backbone, phases) if any(phases) else 4 * backbone.num_features
        return each // 2 if is_half else each

    def step_bytes(each: int) -> int:
        return num_processes * (resident + batch_size * each)

    each = bytes_of_each(activation_bytes)
    is_enough = step_bytes(each) <= available
    if checkpoint_activations is False or not any(phases) or (is_enough and checkpoint_activations == "auto"):
        is_checkpointed = False
    else:
        is_checkpointed, each = True, bytes_of_each(checkpointed_bytes)
    needed = step_bytes(each)
    if needed <= available:
        return is_checkpointed
    fitting = int((available / num_processes - resident) // each)
    fix = f"Use data.batch_size={fitting} or less" if fitting >= 1 else "Use a smaller model"
    raise ConfigError(
        "data.batch_size",
        f"a step takes at least {bytes_text(needed)} ({bytes_text(each)} of each {spec.kind}, {bytes_text(resident)} "
        f"of parameters, gradients and the optimizer's state), but there are {bytes_text(available)} of memory",
        got=batch_size,
        fix=f"{fix}, {'' if is_checkpointed or not any(phases) else _CHECKPOINTING}or freeze more stages.",
    )


def bytes_text(num_bytes: float) -> str:
    """Returns a number of bytes for people, three digits at least."""
    unit, name = (1e6, "MB") if num_bytes < 999.5e6 else (1e9, "GB")
    return f"{num_bytes / unit:,.{0 if num_bytes >= 99.5 * unit else 1 if num_bytes >= 9.95 * unit else 2}f} {name}"
