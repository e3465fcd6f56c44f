"""Fast extraction of features from the frozen stages of a backbone, and the depths at which it can be cut."""

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from regraft.core.fast_linear import use_fast_linear
from regraft.core.pooling import pool
from regraft.core.stage_costs import StageCost
from regraft.core.types import BATCH_NORMS
from regraft.features.batchnorm_folding import fold_batch_norms
from regraft.features.same_padding import unpad_inputs


class FeatureExtractor:
    """A copy of frozen stages, made for speed: BatchNorms folded, weights channels last and in the given precision.

    Convolutions pad their inputs without copying them. Equals the stages in eval mode up to the rounding of float32 or
    bfloat16; with `bitwise`, bit for bit. The stages themselves stay unchanged.

    Args:
        stages: from the input up, float32.
        example: input of the first stage, two samples, with which BatchNorms are folded.
        pool: returns the pooled output of a stage, as `InputSpec.pool` does.
        precision: torch.float32 or torch.bfloat16.
        bitwise: whether to leave out everything that changes rounding.
    """

    def __init__(
        self,
        stages: Mapping[str, nn.Module],
        example: Tensor,
        precision: torch.dtype,
        device: torch.device | str,
        *,
        pool: Callable[[Tensor], Tensor] = pool,
        bitwise: bool = False,
    ) -> None:
        assert precision in (torch.float32, torch.bfloat16), precision
        assert not bitwise or precision == torch.float32, "training is in float32"
        assert not torch.is_inference_mode_enabled(), "there, no pair of a convolution and a BatchNorm is found"
        # One list, so that modules that stages share are copied once.
        copied = copy.deepcopy(nn.ModuleList(stages.values())).eval().requires_grad_(False)
        self._layout = torch.preserve_format if bitwise else torch.channels_last
        if not bitwise:
            # On the CPU: a GPU's TF32 would hide errors of folding.
            fold_batch_norms(list(copied.cpu()), example.cpu())
            unpad_inputs(copied)
            use_fast_linear(copied, with_frozen=True)
        copied.to(device)
        copied.to(memory_format=torch.contiguous_format if bitwise else torch.channels_last)
        if precision == torch.bfloat16:
            copied.bfloat16()  # unlike to(dtype) it keeps complex buffers (rotary embeddings)
        self._stages = list(copied)
        self._precision = precision
        self._device = device
        self._pool = pool

    def __call__(self, inputs: Tensor, num_stages_done: int, return_depths: Collection[int]) -> dict[int, Tensor]:
        """Returns the outputs at some depths, as `with_pooled` does."""
        return self.with_pooled(inputs, num_stages_done, return_depths, ())[0]

    @torch.inference_mode()
    def with_pooled(
        self, inputs: Tensor, num_stages_done: int, return_depths: Collection[int], pooled_depths: Collection[int]
    ) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """Returns the outputs at some depths, and the pooled outputs at others; a depth is a number of stages.

        They are (batch, ...), in `precision`, contiguous, without shared memory, and inference tensors: for autograd,
        `clone()` them outside of inference mode.

        Args:
            inputs: as the backbone takes them; or, with `num_stages_done`, the output at that depth. They stay
                unchanged.
            return_depths: depths above `num_stages_done` at which a single tensor crosses.
            pooled_depths: the same, not above the last of these.
        """
        last = max(return_depths)
        assert num_stages_done < min(return_depths), (num_stages_done, return_depths)
        assert last <= len(self._stages), (last, len(self._stages))
        # A single sample is computed by other kernels, whose last bits differ from those of a batch.
        is_single = len(inputs) == 1
        if is_single:
            inputs = torch.cat([inputs, inputs])
        # Always a copy: a stage may begin with an in-place operation.
        layout = self._layout if inputs.dim() == 4 else torch.preserve_format
        dtype = self._precision if inputs.is_floating_point() else inputs.dtype
        values = inputs.to(self._device, dtype, copy=True, memory_format=layout)
        outputs, pooled = {}, {}
        for depth, stage in enumerate(self._stages[num_stages_done:last], num_stages_done + 1):
            values = stage(values)
            if depth in return_depths:
                outputs[depth] = _unshared(values, is_last=depth == last)
            if depth in pooled_depths:
                pooled[depth] = self._pool(values).clone()  # without positions it is the output itself
        if is_single:
            outputs, pooled = ({depth: each[:1] for depth, each in found.items()} for found in (outputs, pooled))
        return outputs, pooled


def measure(
    stages: Mapping[str, nn.Module], costs: Sequence[StageCost]
) -> tuple[dict[int, tuple[int, ...]], list[int]]:
    """Returns the feature shape of one image at each depth that can be cut, and the FLOPs per image of each stage.

    A backbone can be cut at a depth if a single floating tensor crosses there, with one part per image, and no
    BatchNorm without running statistics is below, which would make features depend on the batch.

    Args:
        stages: from the input up, in any mode.
        costs: of each of them.
    """
    shapes = {}
    for depth, (stage, cost) in enumerate(zip(stages.values(), costs, strict=True), start=1):
        norms = [module for module in stage.modules() if isinstance(module, BATCH_NORMS)]
        if not all(norm.running_mean is not None for norm in norms):
            break
        if cost.shape is not None:
            shapes[depth] = cost.shape
    return shapes, [cost.flops for cost in costs]


def _unshared(values: Any, is_last: bool) -> Tensor:
    """Returns features, contiguous, in memory that no later stage writes to."""
    assert isinstance(values, Tensor), "a single tensor crosses at a returned depth"
    features = values.contiguous()
    return features if is_last or features is not values else features.clone()
