"""torchvision's families of architectures: which parameters form a stage, which modules form the classifier."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from torch import nn

from regraft.core.errors import ConfigError

_Patterns = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Family:
    """One family of architectures.

    Attributes:
        stages: pairs of a pattern for the start of a parameter's name and its stage, of which the first match counts;
            or a function of the model that returns them.
        head: modules between features and logits.
        auxiliary: further classifiers, which are left out by `options` but are in weight files.
        options: keyword arguments of the constructor.
        size_argument: name of the constructor's argument for the image size, if the architecture depends on it.
        has_min_size: whether images smaller than torchvision's `min_size` fail.
        rename: maps tensor names of old files to current ones.
    """

    stages: _Patterns | Callable[[nn.Module], _Patterns]
    head: tuple[str, ...] = ("classifier",)
    auxiliary: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    size_argument: str | None = None
    has_min_size: bool = True
    rename: Callable[[str], str] = str


def family_of(name: str) -> Family:
    """Returns the family of a torchvision model's name."""
    prefix = max((prefix for prefix in _FAMILIES if name.startswith(prefix)), key=len, default=None)
    assert prefix is not None, f"torchvision's {name} belongs to no family in {__file__}"
    return _FAMILIES[prefix]


def stages_of(name: str, model: nn.Module) -> dict[str, list[str]]:
    """Returns stage name to parameter names, from the input up."""
    stages = family_of(name).stages
    patterns = stages(model) if callable(stages) else stages
    named: dict[str, list[str]] = {}
    for parameter, _ in model.named_parameters():
        matches = (re.match(pattern, parameter) for pattern, _ in patterns)
        stage = next((match.expand(to) for match, (_, to) in zip(matches, patterns, strict=True) if match), None)
        assert stage is not None, f"{parameter} of {name} belongs to no stage"
        named.setdefault(stage, []).append(parameter)
    return named


_FLATTENING = ("vgg", "alexnet")


def remove_head(name: str, model: nn.Module, *, pool: bool) -> int:
    """Makes the model return features instead of logits; returns their number.

    Args:
        pool: whether the maps of VGG and AlexNet are pooled, instead of flattened as for their classifiers; all other
            models pool themselves.
    """
    if not pool and not name.startswith(_FLATTENING):
        reason = f"{name} pools its features itself; VGG and AlexNet flatten theirs"
        raise ConfigError("model.pool", reason, got=pool, allowed="true")
    head = family_of(name).head
    layers = (layer for path in head for layer in model.get_submodule(path).modules())
    first = next(layer for layer in layers if isinstance(layer, (nn.Linear, nn.Conv2d)))
    num_features = first.in_features if isinstance(first, nn.Linear) else first.in_channels
    for path in head:
        model.set_submodule(path, nn.Identity())
    if pool and name.startswith(_FLATTENING):
        height, width = cast(tuple[int, int], cast(nn.AdaptiveAvgPool2d, model.avgpool).output_size)
        model.avgpool = nn.AdaptiveAvgPool2d(1)
        num_features //= height * width
    if name.startswith("squeezenet"):
        model.classifier = nn.AdaptiveAvgPool2d(1)
    return num_features


def _counted(stem: str, layer_type: str, start: int) -> Callable[[nn.Module], _Patterns]:
    """Returns patterns that number the children of `features`, from `start`, by the layers of a type seen so far."""

    def patterns(model: nn.Module) -> _Patterns:
        count, found = start, []
        for index, layer in enumerate(cast(nn.Sequential, model.features)):
            count += type(layer).__name__ == layer_type
            found.append((rf"features\.{index}\.", f"{stem}{count}"))
        return found

    return patterns


def _conv_stem_and_head(model: nn.Module) -> _Patterns:
    last = len(cast(nn.Sequential, model.features)) - 1
    return [(r"features\.0\.", "stem"), (rf"features\.{last}\.", "conv_head"), (r"features\.(\d+)\.", r"block\1")]


def _rename_densenet(name: str) -> str:
    """Returns the current name: files from before 2018 have `norm.1`, with a dot that torch no longer allows."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.", r"\1\2.", name)


_FAMILIES = {
    "alexnet": Family(_counted("conv", "Conv2d", 0)),
    "convnext": Family(
        [(r"features\.0\.", "stem"), (r"features\.1\.", "stage1")]
        + [(rf"features\.[{2 * stage - 2}{2 * stage - 1}]\.", f"stage{stage}") for stage in (2, 3, 4)]
        + [(r"classifier\.0\.", "stage4")],
        head=("classifier.2",),
    ),
    "densenet": Family(
        [
            (r"features\.(?:conv|norm)0\.", "stem"),
            (r"features\.(?:denseblock|transition)(\d)\.", r"denseblock\1"),
            (r"features\.norm5\.", "norm5"),
        ],
        rename=_rename_densenet,
    ),
    "efficientnet": Family(_conv_stem_and_head),
    "googlenet": Family(
        [(r"conv[123]\.", "stem"), (r"inception(\w+)\.", r"inception\1")],
        head=("fc", "dropout"),
        auxiliary=("aux1", "aux2"),
        options={"aux_logits": False, "init_weights": True, "transform_input": False},
    ),
    "inception": Family(
        [(r"Conv2d_", "stem"), (r"(Mixed_\w+)\.", r"\1")],
        head=("fc", "dropout"),
        auxiliary=("AuxLogits",),
        options={"aux_logits": False, "init_weights": True, "transform_input": False},
    ),
    "maxvit": Family(
        [(r"stem\.", "stem"), (r"blocks\.(\d)\.", r"block\1"), (r"classifier\.2\.", "block3")],
        head=("classifier.3", "classifier.4", "classifier.5"),
        size_argument="input_size",
    ),
    "mnasnet": Family(
        [(r"layers\.[0-7]\.", "stem")]
        + [(rf"layers\.{index}\.", f"block{index - 7}") for index in range(8, 14)]
        + [(r"layers\.1[45]\.", "conv_head")]
    ),
    "mobilenet": Family(_conv_stem_and_head),
    "regnet": Family([(r"stem\.", "stem"), (r"trunk_output\.(block\d)\.", r"\1")], head=("fc",)),
    "resne": Family([(r"conv1\.|bn1\.", "stem"), (r"(layer\d)\.", r"\1")], head=("fc",)),
    "shufflenet": Family([(r"conv1\.", "stem"), (r"(stage\d|conv5)\.", r"\1")], head=("fc",)),
    "squeezenet": Family(lambda model: [(r"features\.0\.", "stem"), *_counted("fire", "Fire", 1)(model)]),
    "swin": Family(
        [(r"features\.0\.", "patch_embed"), (r"features\.1\.", "layer1")]
        + [(rf"features\.[{2 * layer - 2}{2 * layer - 1}]\.", f"layer{layer}") for layer in (2, 3, 4)]
        + [(r"norm\.", "norm")],
        head=("head",),
        has_min_size=False,
    ),
    "vgg": Family(_counted("block", "MaxPool2d", 1)),
    "vit": Family(
        [
            (r"conv_proj\.|class_token|encoder\.pos_embedding", "patch_embed"),
            (r"encoder\.layers\.encoder_layer_(\d+)\.", r"block\1"),
            (r"encoder\.ln\.", "norm"),
        ],
        head=("heads",),
        size_argument="image_size",
    ),
    "wide_resnet": Family([(r"conv1\.|bn1\.", "stem"), (r"(layer\d)\.", r"\1")], head=("fc",)),
}
