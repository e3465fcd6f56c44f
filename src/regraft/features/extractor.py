"""The frozen stages of a backbone as fast as they go, and what each of them costs and gives.

Where activations are kept, and when they are used again, doesn't belong here.
"""

import copy
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from regraft.core.types import BATCH_NORMS
from regraft.features.batchnorm_folding import fold_batch_norms


class Prefix:
    """A copy of frozen stages, made for speed: BatchNorms folded, weights channels last and in the given precision.

    Equals the stages in eval mode to float32's rounding, or to bfloat16's; an exact one is run as they are, bit for
    bit. The stages themselves are not touched.
    """

    def __init__(
        self,
        stages: Mapping[str, nn.Module],
        example: Tensor,
        precision: torch.dtype,
        device: torch.device | str,
        *,
        is_exact: bool = False,
    ) -> None:
        """Copies the stages, eval mode's statistics and weights as they are now.

        Args:
            stages: from the input up, float32.
            example: what the first stage takes, float32, a row or two: BatchNorms are folded as it flows.
            precision: torch.float32 or torch.bfloat16.
            device: where to compute.
            is_exact: whether to leave out all that makes it faster.
        """
        assert precision in (torch.float32, torch.bfloat16), precision
        assert not is_exact or precision == torch.float32, "training's own precision is float32"
        # One list, so that what stages share is copied once.
        copied = copy.deepcopy(nn.ModuleList(stages.values())).eval().requires_grad_(False)
        self._layout = torch.preserve_format if is_exact else torch.channels_last
        if not is_exact:
            # On the CPU: a GPU's TF32 would hide whether folding was right.
            fold_batch_norms(list(copied.cpu()), example.cpu())
        copied.to(device)
        if not is_exact:
            copied.to(memory_format=torch.channels_last)
        if precision == torch.bfloat16:
            copied.bfloat16()  # unlike to(dtype) it leaves complex buffers (rotary embeddings) alone
        self._stages = list(copied)
        self._precision = precision
        self._device = device

    @torch.inference_mode()
    def __call__(self, inputs: Tensor, start: int, taps: Collection[int]) -> dict[int, Tensor]:
        """Returns the activation after so many stages, for each depth in `taps`.

        Args:
            inputs: (batch, channels, height, width), images normalised by the input spec, if `start` is 0; else what
                the stage at `start` takes. Left as they are.
            start: how many stages have been computed already.
            taps: depths above `start`, at each of which one tensor crosses.

        Returns:
            Depth to (batch, ...) in `precision`, contiguous, sharing memory with nothing. Inference tensors: store
            them, index them, or `clone()` them outside of inference mode; autograd refuses the tensors themselves.
        """
        last = max(taps)
        assert start < min(taps), (start, taps)
        assert last <= len(self._stages), (last, len(self._stages))
        # One row alone is computed by other kernels, whose last bits differ from those of a batch.
        is_alone = len(inputs) == 1
        if is_alone:
            inputs = torch.cat([inputs, inputs])
        # Always a copy: a stage may begin with an in-place operation.
        layout = self._layout if inputs.dim() == 4 else torch.preserve_format
        values = inputs.to(self._device, self._precision, copy=True, memory_format=layout)
        activations = {}
        for depth, stage in enumerate(self._stages[start:last], start + 1):
            values = stage(values)
            if depth in taps:
                activations[depth] = _own_rows(values, is_last=depth == last)
        return {depth: rows[:1] for depth, rows in activations.items()} if is_alone else activations


def measure(stages: Mapping[str, nn.Module], example: Tensor) -> tuple[dict[int, tuple[int, ...]], list[int]]:
    """Returns one image's shape at each depth that can be cut, and each stage's FLOPs an image, by one forward.

    Depths count from 1. One can be cut if a single floating tensor crosses there, a row an image, and no BatchNorm
    without running statistics lies below: a row would depend on its batch. FLOPs are the multiplications and additions
    of convolutions, matrix products and attention. Weights, statistics, modes and the example stay as they are.

    Args:
        stages: from the input up, in any mode.
        example: what the first stage takes, on its device; two rows or more, so that a leading 1 isn't taken for them.
    """
    assert len(example) > 1, "one row can't be told from a leading 1"
    row_shapes, flops = {}, []
    values: Any = example.clone()
    is_by_row = True
    with _evaluating(stages.values()), _plain_attention(), torch.no_grad():
        for depth, stage in enumerate(stages.values(), start=1):
            with FlopCounterMode(display=False) as counter:
                values = stage(values)
            flops.append(counter.get_total_flops() // len(example))
            is_by_row = is_by_row and not any(map(_mixes_rows, stage.modules()))
            if is_by_row and _is_rows(values, len(example)):
                row_shapes[depth] = tuple(values.shape[1:])
    return row_shapes, flops


def _mixes_rows(module: nn.Module) -> bool:
    return isinstance(module, BATCH_NORMS) and module.running_mean is None


def _is_rows(values: Any, num_rows: int) -> bool:
    return isinstance(values, Tensor) and values.is_floating_point() and values.shape[:1] == (num_rows,)


def _own_rows(values: Any, is_last: bool) -> Tensor:
    """Returns an activation contiguous, in memory that no later stage writes to."""
    assert isinstance(values, Tensor), "one tensor crosses at a tap"
    rows = values.contiguous()
    return rows if is_last or rows is not values else rows.clone()


@contextmanager
def _evaluating(stages: Iterable[nn.Module]) -> Iterator[None]:
    """Sets each module's own flag to evaluation, and puts each back."""
    modes = {module: module.training for stage in stages for module in stage.modules()}
    try:
        # Not by eval(): a library's own may merge weights.
        for module in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Has attention computed by matrix products: of its fused kernels, the CPU's are counted as nothing."""
    had_fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(had_fast_path)
