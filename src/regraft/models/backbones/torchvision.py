"""Backbones from torchvision: any of its classification models, without the classifier."""

import math
import urllib.error
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision.models
from torch import Tensor, nn
from torchvision.models import vision_transformer

from regraft.core.errors import ConfigError
from regraft.core.image_spec import ImageSpec
from regraft.core.types import Backbone
from regraft.models.backbones.drop_rates import drop_rates, set_drop_rates
from regraft.models.backbones.stages import split
from regraft.models.backbones.torchvision_families import family_of, remove_head, stages_of
from regraft.models.weights import (
    is_path,
    load_tensors,
    offline_error,
    read_weights,
    unknown_name_error,
    without,
)

# Inside googlenet and inception_v3 torchvision converts from ImageNet's statistics to these (`transform_input`). To
# normalise by them in the first place is the same function, and works for grayscale.
_HALF = (0.5, 0.5, 0.5)


def build(
    *,
    name: str,
    weights: str | None,
    image_size: int | None,
    num_channels: int,
    pool: bool,
    drop_rate: float | None = None,
    drop_path: float | None = None,
) -> Backbone:
    """Returns a torchvision model, split into its usual stages such as stem, layer1..layer4.

    Features are the pooled input of the classifier (`fc`, `classifier`, `head`, `heads`); the LayerNorm in the
    classifiers of ConvNeXt and MaxViT stays in the last stage. Auxiliary classifiers (googlenet, inception_v3) are left
    out.

    Args:
        name: one of `torchvision.models.list_models(module=torchvision.models)`.
        weights: DEFAULT or another weights name of torchvision; a file with a state dict of this architecture; null for
            random.
        image_size: pixels; null for that of the weights. The position embeddings of a ViT are interpolated.
        num_channels: 3, or 1, which sums the first convolution over the channels and averages mean and std.
        pool: whether VGG and AlexNet are pooled to one value a channel (512, 256), or give the flattened maps that
            their own classifiers read (25,088 and 9,216 features).
        drop_rate: dropout outside of the classifier (ViT, Swin, MaxVit, DenseNet); null for torchvision's.
        drop_path: the highest rate of stochastic depth (ConvNeXt, EfficientNet, Swin, MaxVit); null for torchvision's.

    Raises:
        ValueError: unknown name or weights, an image size that the model doesn't accept, tensors that don't fit, or a
            rate for layers that the model doesn't have.
        FileNotFoundError: the file `weights` doesn't exist.
        ConnectionError: the weights can't be downloaded.
    """
    preset = _preset(name, weights)
    size = preset.transforms().crop_size[0] if image_size is None else image_size
    spec = ImageSpec(size, num_channels)
    if weights is None:
        model = _construct(name, size)
        num_features = remove_head(name, model, pool=pool)
    elif is_path(weights):
        model, num_features = _from_tensors(name, size, None, weights, pool=pool)
    else:
        model, num_features = _from_library(name, size, preset, pool=pool)
    set_drop_rates(name, model, drop_rates(drop_rate, drop_path))
    if num_channels == 1:
        _sum_colours(model)
    if weights is not None:
        spec = _input_spec(name, preset, size, num_channels)
    return Backbone(split(model, stages_of(name, model), name), num_features, spec)


def weights_url(*, name: str, weights: str | None) -> str | None:
    """Returns the address that the weights have to be downloaded from; None if they are on this machine."""
    url: str = _preset(name, weights).url
    file = urllib.parse.urlparse(url).path.rpartition("/")[2]
    is_here = weights is None or is_path(weights) or Path(torch.hub.get_dir(), "checkpoints", file).is_file()
    return None if is_here else url


def _preset(name: str, weights: str | None) -> Any:
    """Returns torchvision's entry of the weights; the default entry if `weights` is a file or None."""
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise unknown_name_error("torchvision", name, known)
    presets = torchvision.models.get_model_weights(name)
    if weights is None or is_path(weights):
        return presets.DEFAULT
    if weights not in presets.__members__:  # `DEFAULT` is a member, an alias
        allowed = ["DEFAULT", *(preset.name for preset in presets), "null, or the path of a file"]
        raise ConfigError("model.weights", got=weights, allowed=allowed)
    return presets[weights]


def _from_library(name: str, image_size: int, preset: Any, *, pool: bool) -> tuple[nn.Module, int]:
    """Returns the model with weights downloaded by torchvision, and its number of features."""
    own_size = preset.transforms().crop_size[0]
    try:
        model = _construct(name, own_size, weights=preset)
    except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
        raise offline_error(f"torchvision's {preset}", error) from error
    if family_of(name).size_argument and image_size != own_size:
        return _from_tensors(name, image_size, model.state_dict(), str(preset), pool=pool)
    _check_size(name, image_size)
    return model, remove_head(name, model, pool=pool)


def _from_tensors(
    name: str, image_size: int, tensors: Mapping[str, Tensor] | None, source: str, *, pool: bool
) -> tuple[nn.Module, int]:
    """Returns the model with a state dict, or that of a file, except for the classifier, and its number of features."""
    family = family_of(name)
    model = _construct(name, image_size)
    num_features = remove_head(name, model, pool=pool)
    classifier = family.head + family.auxiliary
    if tensors is None:
        tensors = read_weights(source, model.state_dict(), classifier, family.rename)
    tensors = without(tensors, classifier)
    if isinstance(model, vision_transformer.VisionTransformer) and "encoder.pos_embedding" in tensors:
        tensors = dict(vision_transformer.interpolate_embeddings(image_size, model.patch_size, tensors))
    load_tensors(model, tensors, source, name)
    return model, num_features


def _construct(name: str, image_size: int, weights: Any = None) -> nn.Module:
    family = family_of(name)
    options = dict(family.options)
    if family.size_argument == "image_size":
        options["image_size"] = image_size
    elif family.size_argument == "input_size":
        options["input_size"] = (image_size, image_size)
    else:
        _check_size(name, image_size)
    try:
        return torchvision.models.get_model(name, weights=weights, **options)
    except (AssertionError, ValueError) as error:
        raise ConfigError("model.image_size", f"{name} does not accept {image_size} px ({error}).") from error


def _check_size(name: str, image_size: int) -> None:
    """Raises ValueError if the strides would reduce the image to nothing."""
    smallest = max(torchvision.models.get_model_weights(name).DEFAULT.meta["min_size"])
    if family_of(name).has_min_size and image_size < smallest:
        raise ConfigError("model.image_size", f"{name} needs at least {smallest} px", got=image_size)


def _sum_colours(model: nn.Module) -> None:
    """Makes the first convolution take one channel; a gray image gives the same output as in three equal channels."""
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    first.weight = nn.Parameter(first.weight.detach().sum(dim=1, keepdim=True))
    first.in_channels = 1


def _input_spec(name: str, preset: Any, image_size: int, num_channels: int) -> ImageSpec:
    transforms = preset.transforms()
    mean, std = tuple(transforms.mean), tuple(transforms.std)
    if "transform_input" in family_of(name).options:
        mean, std = _HALF, _HALF
    if num_channels == 1:
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    crop_size, resize_size = transforms.crop_size[0], transforms.resize_size[0]
    crop_fraction = min(1.0, crop_size / resize_size)
    if math.floor(crop_size / crop_fraction) < resize_size:  # by a rounding error
        crop_fraction = math.nextafter(crop_fraction, 0)
    return ImageSpec(image_size, num_channels, mean, std, transforms.interpolation.value, crop_fraction)
