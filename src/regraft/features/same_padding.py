"""Convolutions with TensorFlow's "same" padding, without the padded copy of their input that timm makes."""

import sys

from torch import Tensor, nn
from torch.nn import functional


def unpad_inputs(network: nn.Module) -> None:
    """Replaces timm's depthwise `Conv2dSame` in a network by what pads in the convolution itself, in place.

    The copy takes a seventh of a forward pass of EfficientNet-Lite0. Other convolutions gain nothing.
    """
    layers = sys.modules.get("timm.layers")
    if layers is None:  # then no network has any
        return
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if not isinstance(child, nn.Conv2d) or type(child) is not layers.Conv2dSame:
                continue
            if child.groups == child.in_channels and child.dilation == (1, 1):
                setattr(parent, name, _SamePadding(child))


class _SamePadding(nn.Module):
    """A convolution with as many zeros before its input as after it, or one fewer.

    torch pads both sides alike. Where one zero fewer belongs before the input, the kernel begins with a zero instead.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns what the convolution does."""
        conv = self.conv
        totals = [
            max((-(-size // stride) - 1) * stride + kernel - size, 0)
            for size, stride, kernel in zip(inputs.shape[2:], conv.stride, conv.kernel_size, strict=True)
        ]
        zeros_above, zeros_left = (total % 2 for total in totals)
        weight = functional.pad(conv.weight, (zeros_left, 0, zeros_above, 0))
        padding = [(total + 1) // 2 for total in totals]
        return functional.conv2d(inputs, weight, conv.bias, conv.stride, padding, groups=conv.groups)
