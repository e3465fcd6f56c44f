"""The inputs of an exported program: their names, shapes and what they are for the network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


def _alone(batch: Tensor) -> tuple[Tensor, ...]:
    return (batch,)


@dataclass(frozen=True, eq=False)
class Signature:
    """The inputs of a program.

    Attributes:
        inputs: a module from the program's inputs to the network's.
        names: of the program's inputs.
        axes: the names of the first axes of each, whose lengths may vary.
        example: inputs that the program is traced with.
        sizes: the axes that vary, as `torch.export` takes them.
        arguments: returns the program's inputs for a batch of the network's.
    """

    inputs: nn.Module
    names: tuple[str, ...]
    axes: tuple[str, ...]
    example: tuple[Tensor, ...]
    sizes: tuple[dict[int, Any], ...]
    arguments: Callable[[Tensor], tuple[Tensor, ...]] = _alone
