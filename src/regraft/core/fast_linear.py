"""Linear layers computed by oneDNN, on processors on which torch's own matrix products are slow."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import has_torch_function

from regraft.core.processor import is_amd_with_avx512
from regraft.core.torch_internals import has_onednn_linear, is_transformed, onednn_linear

_FEWEST_WEIGHTS = 2**14
"""Of smaller layers the products take as long as calling oneDNN does, some 20 microseconds."""


def use_fast_linear(network: nn.Module, *, with_frozen: bool) -> None:
    """Lets the linear layers of a network compute in float32 by oneDNN on AMD's processors with AVX-512.

    There MKL, which torch uses, takes AVX2, at half the speed. Outputs and gradients change by rounding. Other types,
    devices and processors, autocast and `torch.compile` aren't affected.

    Args:
        with_frozen: whether layers whose weight doesn't train do so too; otherwise these keep their bits.
    """
    if not (is_amd_with_avx512() and torch.backends.mkl.is_available() and has_onednn_linear()):
        return
    for module in network.modules():
        if type(module) is nn.Linear and module.weight.numel() >= _FEWEST_WEIGHTS:
            vars(module)["forward"] = partial(_forward, module, with_frozen)


def _forward(linear: nn.Linear, with_frozen: bool, inputs: Tensor) -> Tensor:
    weight = linear.weight
    if (with_frozen or weight.requires_grad) and _is_eager() and _is_supported(inputs, weight):
        output: Tensor = _Linear.apply(inputs, weight, linear.bias)
        return output
    return type(linear).forward(linear, inputs)


def _is_eager() -> bool:
    is_observed = torch.compiler.is_compiling() or torch.jit.is_tracing() or is_transformed()
    return not (is_observed or torch.is_autocast_enabled("cpu"))


def _is_supported(inputs: Tensor, weight: Tensor) -> bool:
    # Of a single row, or none, torch's own products are as fast.
    has_rows = inputs.ndim > 1 and inputs.numel() > inputs.shape[-1] == weight.shape[1]
    is_float = inputs.dtype == weight.dtype == torch.float32
    is_on_cpu = inputs.device.type == weight.device.type == "cpu"
    return has_rows and is_float and is_on_cpu and not has_torch_function((inputs, weight))


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return onednn_linear(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        rows = gradient.flatten(0, -2)
        of_inputs = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_inputs = _Linear.apply(gradient, weight.t(), None)
        if ctx.needs_input_grad[1]:
            of_weight = _Linear.apply(rows.t(), inputs.flatten(0, -2).t(), None)
        if ctx.needs_input_grad[2]:
            of_bias = rows.sum(0)
        return of_inputs, of_weight, of_bias
