"""What each stage of a backbone gives and costs, found by one forward pass."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def _lstm_flops(inputs: Sequence[int], weight: Sequence[int], recurrent: Sequence[int], *_: Any, **__: Any) -> int:
    """Returns the operations of one direction of a layer, for inputs (length, batch, width)."""
    return 2 * inputs[0] * inputs[1] * (math.prod(weight) + math.prod(recurrent))


_FURTHER_FLOPS = {torch.ops.aten.mkldnn_rnn_layer: _lstm_flops}
"""Of the CPU's own kernels, which torch doesn't count."""


@dataclass(frozen=True)
class StageCost:
    """What a stage gives and costs for one input.

    Attributes:
        shape: of its output, where that is one floating tensor with a part for each input; else None.
        flops: multiplications and additions of convolutions, matrix products, attention and LSTMs, forward.
    """

    shape: tuple[int, ...] | None
    flops: int


def stage_costs(stages: Mapping[str, nn.Module], example: Tensor) -> list[StageCost]:
    """Returns the cost of each stage; weights, statistics, modes and the example stay unchanged.

    Args:
        stages: from the input up, in any mode.
        example: input of the first stage, on its device; at least two samples, so that a leading 1 isn't
            mistaken for a batch.
    """
    assert len(example) > 1, "one sample can't be told from a leading 1"
    found = []
    values: Any = example.clone()
    with evaluating(stages.values()), _plain_attention(), torch.no_grad():
        for stage in stages.values():
            with FlopCounterMode(display=False, custom_mapping=_FURTHER_FLOPS) as counter:
                values = stage(values)
            is_tensor = isinstance(values, Tensor) and values.is_floating_point()
            is_batch = is_tensor and values.shape[:1] == example.shape[:1]
            shape = tuple(values.shape[1:]) if is_batch else None
            found.append(StageCost(shape, counter.get_total_flops() // len(example)))
    return found


@contextmanager
def evaluating(stages: Iterable[nn.Module]) -> Iterator[None]:
    """Sets the training flag of each module to False, and restores it afterwards."""
    modes = {module: module.training for stage in stages for module in stage.modules()}
    try:
        # Not by eval(), which some libraries override to merge weights.
        for module in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Computes attention by matrix products, because FLOPs of the CPU's fused kernels aren't counted."""
    had_fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(had_fast_path)
