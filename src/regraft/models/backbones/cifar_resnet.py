"""The residual networks for 32 px images of He et al., "Deep residual learning for image recognition" (CVPR 2016)."""

import itertools
import re
from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional as F

from regraft.core.errors import ConfigError, require
from regraft.core.image_spec import ImageSpec
from regraft.core.types import Backbone
from regraft.models.weights import load_tensors, read_weights

_DEFAULT_IMAGE_SIZE = 32
_WIDTHS = (16, 32, 64)
_PADDINGS = ("both", "end")
_HEADS = ("linear", "fc", "head", "classifier")


def build(
    *, depth: int, shortcut_padding: str, weights: str | None, image_size: int | None, num_channels: int
) -> Backbone:
    """Returns the CIFAR ResNet of section 4.2: stem, then layer1..layer3 of (depth - 2) / 6 blocks each.

    16, 32 and 64 channels, shortcuts of option A (no parameters), global average pooling to 64 features. With a linear
    head for 10 classes 20, 32, 44 and 56 layers have 0.27, 0.46, 0.66 and 0.85 million parameters, as in table 6.

    Args:
        depth: layers with weights, the head included: 6n + 2.
        shortcut_padding: where the new channels of a shortcut, which are zero, come: `both`, half of them before the
            others and half after, as in published weights; or `end`. The paper doesn't say.
        weights: a file with a state dict of this architecture (`layer1.0.conv1.weight`, ...), as published ones name it
            (`conv1`, `bn1`) too; or null for random.
        image_size: pixels; null for 32.
    """
    if depth < 8 or depth % 6 != 2:
        raise ConfigError("model.depth", got=depth, allowed="6n + 2, such as the paper's 20, 32, 44, 56")
    require(shortcut_padding in _PADDINGS, "model.shortcut_padding", shortcut_padding, _PADDINGS)
    spec = ImageSpec(_DEFAULT_IMAGE_SIZE if image_size is None else image_size, num_channels)
    conv = nn.Conv2d(num_channels, _WIDTHS[0], kernel_size=3, padding=1, bias=False)
    stem = nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(_WIDTHS[0]), relu=nn.ReLU()))
    stages = nn.ModuleDict({"stem": stem})
    for index, (num_in, num_out) in enumerate(itertools.pairwise((16, *_WIDTHS)), start=1):
        blocks = [
            _BasicBlock(num_out if block else num_in, num_out, shortcut_padding) for block in range((depth - 2) // 6)
        ]
        stages[f"layer{index}"] = nn.Sequential(*blocks)
    stages["layer3"].add_module("pool", nn.AdaptiveAvgPool2d(1))
    stages["layer3"].add_module("flatten", nn.Flatten())
    for module in stages.modules():
        if isinstance(module, nn.Conv2d):
            # He et al., "Delving deep into rectifiers" (ICCV 2015), the initialisation of the paper.
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if weights is not None:
        tensors = read_weights(weights, stages.state_dict(), _HEADS, _renamed)
        load_tensors(stages, tensors, weights, f"cifar_resnet depth={depth}")
    return Backbone(dict(stages.items()), _WIDTHS[-1], spec)


def _renamed(name: str) -> str:
    """Returns the name of a published tensor here."""
    return re.sub(r"^(conv|bn)1\.", r"stem.\1.", name)


class _BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, which subsamples and pads channels with zeros if the size changes."""

    def __init__(self, num_in: int, num_out: int, shortcut_padding: str) -> None:
        super().__init__()
        self.stride = 1 if num_in == num_out else 2
        num_before = (num_out - num_in) // 2 if shortcut_padding == "both" else 0
        self.new_channels = (num_before, num_out - num_in - num_before)
        self.conv1 = nn.Conv2d(num_in, num_out, kernel_size=3, stride=self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(num_out)
        self.conv2 = nn.Conv2d(num_out, num_out, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(num_out)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, num_in, height, width) to (batch, num_out, height / stride, width / stride)."""
        residual = F.relu(self.bn1(self.conv1(x)))
        residual = self.bn2(self.conv2(residual))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        shortcut = F.pad(shortcut, (0, 0, 0, 0, *self.new_channels))
        return F.relu(residual + shortcut)
