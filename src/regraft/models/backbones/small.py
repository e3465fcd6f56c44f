"""Small networks without pretrained weights: to pretrain on a source domain, and as baselines."""

import itertools
from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from regraft.core.errors import ConfigError, require
from regraft.core.image_spec import ImageSpec
from regraft.core.types import Backbone
from regraft.models.weights import load_tensors, read_weights

_DEFAULT_IMAGE_SIZE = 32
_HEADS = ("head", "classifier", "fc", "linear")


def simple_cnn(
    *, widths: Sequence[int], batch_norm: bool, weights: str | None, image_size: int | None, num_channels: int
) -> Backbone:
    """Returns a LeNet-like network of stages conv1, conv2, ..., each convolution, ReLU and 2 x 2 max pooling.

    After LeCun et al., "Gradient-based learning applied to document recognition" (1998), with 3 x 3 convolutions, ReLU
    and global average pooling at the end.

    Args:
        widths: output channels of each stage; the last is the number of features.
        batch_norm: whether BatchNorm follows each convolution.
        weights: a file with a state dict of this architecture (`conv1.conv.weight`, ...), or null for random.
        image_size: pixels, at least 2 ** stages; null for 32.
    """
    _check_positive("model.widths", widths)
    spec = ImageSpec(_DEFAULT_IMAGE_SIZE if image_size is None else image_size, num_channels)
    if spec.image_size < 2 ** len(widths):
        raise ConfigError(
            "model.image_size",
            f"{len(widths)} poolings need at least {2 ** len(widths)} pixels",
            got=spec.image_size,
            fix="Use larger images or fewer model.widths.",
        )
    stages = nn.ModuleDict()
    for index, (num_in, num_out) in enumerate(itertools.pairwise([num_channels, *widths]), start=1):
        stages[f"conv{index}"] = _conv_stage(num_in, num_out, batch_norm, is_last=index == len(widths))
    return _finish("simple_cnn", stages, widths[-1], spec, weights)


def mlp(
    *, hidden_sizes: Sequence[int], dropout: float, weights: str | None, image_size: int | None, num_channels: int
) -> Backbone:
    """Returns a perceptron on flattened pixels of stages layer1, layer2, ..., each linear, ReLU and dropout.

    Args:
        hidden_sizes: units of each layer; the last is the number of features.
        dropout: probability, in [0, 1).
        weights: a file with a state dict of this architecture (`layer1.linear.weight`, ...), or null for random.
        image_size: pixels, part of the architecture; null for 32.
    """
    _check_positive("model.hidden_sizes", hidden_sizes)
    require(0 <= dropout < 1, "model.dropout", dropout, "at least 0, below 1")
    spec = ImageSpec(_DEFAULT_IMAGE_SIZE if image_size is None else image_size, num_channels)
    num_pixels = num_channels * spec.image_size**2
    stages = nn.ModuleDict()
    for index, (num_in, num_out) in enumerate(itertools.pairwise([num_pixels, *hidden_sizes]), start=1):
        layers: dict[str, nn.Module] = {"flatten": nn.Flatten()} if index == 1 else {}
        layers |= {"linear": nn.Linear(num_in, num_out), "relu": nn.ReLU(), "dropout": nn.Dropout(dropout)}
        stages[f"layer{index}"] = nn.Sequential(OrderedDict(layers))
    return _finish("mlp", stages, hidden_sizes[-1], spec, weights)


def _conv_stage(num_in: int, num_out: int, batch_norm: bool, is_last: bool) -> nn.Sequential:
    layers: dict[str, nn.Module] = {
        "conv": nn.Conv2d(num_in, num_out, kernel_size=3, padding=1, bias=not batch_norm),
        **({"bn": nn.BatchNorm2d(num_out)} if batch_norm else {}),
        "relu": nn.ReLU(),
        "pool": nn.MaxPool2d(2),
        **({"global_pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()} if is_last else {}),
    }
    return nn.Sequential(OrderedDict(layers))


def _finish(name: str, stages: nn.ModuleDict, num_features: int, spec: ImageSpec, weights: str | None) -> Backbone:
    if weights is not None:
        load_tensors(stages, read_weights(weights, stages.state_dict(), _HEADS), weights, name)
    return Backbone(dict(stages.items()), num_features, spec)


def _check_positive(key: str, sizes: Sequence[int]) -> None:
    are_valid = bool(sizes) and min(sizes) >= 1
    require(are_valid, key, list(sizes), "one size or more, each at least 1, such as [32,64,128]")
