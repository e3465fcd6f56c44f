"""Gradients of depthwise convolutions by the kernels that are fast on a CPU."""

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_FAST_WIDTH = 3
"""oneDNN has a kernel of its own for the weight gradient of a depthwise convolution up to this width of its window.

Beyond that, and where a map is lower than the window, a general one takes 3 to 20 times as long.
"""


def use_fast_gradients(network: nn.Module) -> None:
    """Lets the depthwise convolutions of a network have their gradients computed faster where it trains on the CPU.

    A wide window's weight gradient is computed for up to three of its columns at a time, and the input's gradient of a
    strided convolution in bfloat16 as float32, as oneDNN has no kernel for it and takes up to a hundred times as long.
    Outputs stay bit for bit as they are; gradients change by rounding.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and _is_supported(module):
            vars(module)["forward"] = partial(_forward, module)


def _is_supported(conv: nn.Conv2d) -> bool:
    layers = sys.modules.get("timm.layers")
    pads_same = layers is not None and type(conv) is layers.Conv2dSame
    is_plain = type(conv) is nn.Conv2d and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    is_depthwise = conv.groups == conv.in_channels == conv.out_channels > 1
    is_slow = conv.kernel_size[1] > _FAST_WIDTH or conv.stride != (1, 1)
    return (is_plain or pads_same) and is_depthwise and is_slow and conv.dilation == (1, 1)


def _forward(conv: nn.Conv2d, inputs: Tensor) -> Tensor:
    is_trained = torch.is_grad_enabled() and conv.weight.requires_grad
    if not is_trained or inputs.ndim != 4 or inputs.device.type != "cpu" or torch.compiler.is_compiling():
        return type(conv).forward(conv, inputs)
    weight, bias = conv.weight, conv.bias
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        inputs, weight, bias = inputs.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    if type(conv) is not nn.Conv2d:
        from timm.layers import pad_same

        inputs = pad_same(inputs, list(conv.kernel_size), list(conv.stride))
    output: Tensor = _Depthwise.apply(inputs, weight, bias, conv.stride, conv.padding)
    return output


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], padding: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.stride, ctx.padding = stride, padding
        return functional.conv2d(inputs, weight, bias, stride, padding, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        of_inputs = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            as_float = weight.dtype == torch.bfloat16 and ctx.stride != (1, 1)
            given = [each.float() if as_float else each for each in (gradient, inputs, weight)]
            of_inputs = _gradients(given, ctx.stride, ctx.padding, of_weight=False).to(inputs.dtype)
        if ctx.needs_input_grad[1]:
            of_weight = _weight_gradient(gradient, inputs, weight, ctx.stride, ctx.padding)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum((0, 2, 3))
        return of_inputs, of_weight, of_bias, None, None


def _weight_gradient(
    gradient: Tensor, inputs: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """Returns the gradient of the weight, (channels, 1, height, width)."""
    height, width = weight.shape[2:]
    is_low = inputs.shape[2] < height
    if width <= _FAST_WIDTH and not is_low:
        return _gradients((gradient, inputs, weight), stride, padding, of_weight=True)
    rows, columns = (
        (before, (out - 1) * step + window - size - before)
        for before, out, step, window, size in zip(
            *(padding, gradient.shape[2:], stride, (height, width), inputs.shape[2:]), strict=True
        )
    )
    remaining = (0 if is_low else padding[0], 0)
    padded = functional.pad(inputs, (*columns, *(rows if is_low else (0, 0))))
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    parts = []
    for first in range(0, width, _FAST_WIDTH):
        part = weight[..., first : first + _FAST_WIDTH].contiguous()
        span = (gradient.shape[3] - 1) * stride[1] + part.shape[3]
        read = padded[..., first : first + span].contiguous(memory_format=torch.channels_last)
        parts.append(_gradients((gradient, read, part), stride, remaining, of_weight=True))
    return torch.cat(parts, dim=3)


def _gradients(
    given: Sequence[Tensor], stride: tuple[int, int], padding: tuple[int, int], *, of_weight: bool
) -> Tensor:
    """Returns the gradient of the weight, or else of the inputs.

    Args:
        given: the output's gradient, the inputs and the weight.
    """
    channels = len(given[2])
    found = torch.ops.aten.convolution_backward(
        *(*given, None, stride, padding, (1, 1), False, (0, 0), channels, [not of_weight, of_weight, False])
    )
    result: Tensor = found[of_weight]
    return result
