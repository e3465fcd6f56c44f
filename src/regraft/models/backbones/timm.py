"""Backbones from timm: any of its models, without the classifier.

Nothing but `efficientnet_lite` imports this module, because importing timm takes long.
"""

import logging
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
from timm.data import resolve_model_data_config
from timm.models import PretrainedCfg, adapt_input_conv, get_notrace_functions, group_parameters
from torch import Tensor, nn

from regraft.core.errors import ConfigError, require
from regraft.core.image_spec import ImageSpec
from regraft.core.types import Backbone
from regraft.models.backbones.drop_rates import drop_rates, no_layers_for, require_drop_rates
from regraft.models.backbones.hub_folder import (
    HubModel,
    fetched_folder,
    is_hub_folder,
    is_in_folder,
    missing_url,
    read_hub_folder,
    require_same_pooling,
)
from regraft.models.backbones.stages import split
from regraft.models.weights import (
    is_path,
    load_tensors,
    offline_error,
    read_weights,
    require_reachable,
    unknown_name_error,
    without,
)

_LOGGER = logging.getLogger(__name__)

# timm's mark for "belongs to the group before": a trailing norm or convolution, which is a stage of its own here.
_MERGE_WITH_PREVIOUS = 99999
# Of models that have none, or one by which a layer belongs to a stage before it.
_MATCHERS = {
    "Cait": {
        "stem": r"^cls_token|pos_embed|patch_embed",
        "blocks": r"^blocks\.(\d+)",
        "blocks_token_only": r"^blocks_token_only\.(\d+)",
        "norm": r"^norm",
    },
    "MetaFormer": {"stem": r"^stem", "stages": r"^stages\.(\d+)", "head": r"^head"},
}
_NAMES_OF_RATES = {"drop_rate": "drop_rate", "drop_path": "drop_path_rate"}
_CONTAINERS = ("blocks", "stages", "layers", "levels", "cells")
# Not enough for a stage's name without the rest of the path; `head` is the name of Regraft's own head.
_VAGUE = (*_CONTAINERS, "head")


def build(
    *,
    name: str,
    weights: str | None,
    image_size: int | None,
    num_channels: int,
    drop_rate: float | None = None,
    drop_path: float | None = None,
) -> Backbone:
    """Returns a timm model, split into timm's groups such as stem, layer1..4 or patch_embed, block0..11, norm.

    A model without groups, or whose forward can't be split between them, is the one stage `backbone`.

    Args:
        name: timm's, with or without a tag: `resnet18`, `resnet18.a1_in1k`; or `local-dir:FOLDER` or
            `hf-hub:OWNER/NAME` for a model in the hub's layout.
        weights: DEFAULT for the pretrained weights of the tag or the folder; a file or folder with a state dict of this
            architecture; null for random.
        image_size: pixels; null for that of the weights. timm resamples position embeddings.
        num_channels: 3, or 1, which sums the first convolution over the channels and averages mean and std.
        drop_rate: timm's dropout rate, in most models before the head; null for the model's own.
        drop_path: the highest rate of stochastic depth, timm's `drop_path_rate`; null for the model's own.

    Raises:
        ValueError: unknown name, tag or weights, an image size that the model doesn't accept, tensors that don't fit,
            or a rate for layers that the model doesn't have.
        FileNotFoundError: the file `weights` doesn't exist.
        ConnectionError: the weights can't be downloaded.
    """
    hub = _hub_model(name, weights)
    if hub is not None:
        if is_in_folder(name):
            weights = str(fetched_folder(name)) if weights == "DEFAULT" else weights
        else:
            require(hub.architecture == name.partition(".")[0], "model.name", name, f"{hub.architecture}, as {weights}")
        name = hub.architecture
    config = _pretrained_config(name) if hub is None else hub.config
    spec = ImageSpec(config.input_size[-1] if image_size is None else image_size, num_channels)
    rates = drop_rates(drop_rate, drop_path)
    model = _create(name, config, weights, spec, rates, is_of_hub=hub is not None)
    require_drop_rates(name, model, rates)
    if hub is not None:
        require_same_pooling(model, hub)
    if weights is not None:
        spec = input_spec(model, spec.image_size, num_channels)
    stages = split(_traceable(model), stages_of(model), name, get_notrace_functions())
    for module in (module for stage in stages.values() for module in stage.modules()):
        if hasattr(module, "attention_bias_cache"):
            module.register_forward_hook(_forget_biases)
    return Backbone(stages, num_features(model), spec)


def _forget_biases(module: Any, _inputs: Any, _output: Any) -> None:
    """Empties what timm keeps of attention biases in evaluation, which would outlive the weights and the device."""
    module.attention_bias_cache.clear()


def _traceable(model: nn.Module) -> nn.Module:
    """Makes a model call its rotary embedding as a module, of which tracing leaves the inside alone."""
    rope: Any = getattr(model, "rope", None)
    if isinstance(rope, nn.Module) and hasattr(rope, "get_embed"):
        kind: Any = type(rope)
        rope.__class__ = _called_as_module(kind)
    return model


@cache
def _called_as_module(rotary: Any) -> Any:
    """Returns a class of rotary embeddings whose `get_embed` goes through the call of a module."""

    class Rotary(rotary):
        """Calls `get_embed` of its base in `forward`."""

        def forward(self, *arguments: Any, **options: Any) -> Any:
            return super().get_embed(*arguments, **options)

        def get_embed(self, *arguments: Any, **options: Any) -> Any:
            return self(*arguments, **options)

    return Rotary


def num_features(model: nn.Module) -> int:
    """Returns the number of features of a timm model made with `num_classes=0`."""
    return int(getattr(model, "head_hidden_size", None) or model.num_features)  # type: ignore[arg-type]


def input_spec(model: nn.Module, image_size: int, num_channels: int) -> ImageSpec:
    """Returns the input spec of a timm model's pretrained weights, with the given size and number of channels."""
    config = resolve_model_data_config(model)
    mean, std = tuple(config["mean"]), tuple(config["std"])
    if num_channels == 1:
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    view = (config["interpolation"], config["crop_pct"], config["crop_mode"])
    return ImageSpec(image_size, num_channels, mean, std, *view)


def load_state_dict(model: nn.Module, tensors: Mapping[str, Tensor], source: str, target: str) -> None:
    """Loads a state dict of the same timm architecture into a model made with `num_classes=0`.

    The classifier's tensors are dropped; the first convolution is summed over channels if the model takes grayscale.
    """
    config: Any = model.pretrained_cfg
    tensors = without(tensors, _as_tuple(config.get("classifier")))
    own = model.state_dict()
    for name in (f"{module}.weight" for module in _as_tuple(config.get("first_conv"))):
        if name in tensors and name in own and tensors[name].shape[1:2] != own[name].shape[1:2]:
            tensors[name] = adapt_input_conv(own[name].shape[1], tensors[name])
    load_tensors(model, tensors, source, target)


def _pretrained_config(name: str) -> PretrainedCfg:
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise unknown_name_error("timm", architecture, timm.list_models())
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        known = ", ".join(filter(None, tags)) or "none"
        raise ConfigError("model.name", f"{architecture} has no weights tagged {tag!r}. It has: {known}.")
    config = timm.get_pretrained_cfg(name)
    assert config is not None, "every timm model has one"
    return config


def architecture_changes(architecture: Mapping[str, Any], backbone: Backbone) -> dict[str, Any]:
    """Returns the name of a model without the folder that its weights come from, in which it needn't be built again."""
    name = architecture["name"]
    return {"name": read_hub_folder(fetched_folder(name)).architecture} if is_in_folder(name) else {}


def _hub_model(name: str, weights: str | None) -> HubModel | None:
    """Returns what the folder that a model or its weights come from describes; None if there is none."""
    if is_in_folder(name):
        return read_hub_folder(fetched_folder(name))
    return read_hub_folder(Path(weights).expanduser()) if weights is not None and is_hub_folder(weights) else None


def _create(
    name: str,
    config: PretrainedCfg,
    weights: str | None,
    spec: ImageSpec,
    rates: Mapping[str, float],
    *,
    is_of_hub: bool,
) -> nn.Module:
    options: dict[str, Any] = {"num_classes": 0, "in_chans": spec.num_channels}
    options |= {_NAMES_OF_RATES[key]: rate for key, rate in rates.items()}
    if is_of_hub:
        options["pretrained_cfg"] = config
    if spec.image_size != config.input_size[-1] and config.fixed_input_size:
        options["img_size"] = spec.image_size
    if weights is None:
        return _construct(name, options)
    if is_path(weights):
        own_size = {"img_size": config.input_size[-1]} if is_of_hub and config.fixed_input_size else {}
        model = _construct(name, {key: value for key, value in options.items() if key != "img_size"} | own_size)
        classifier = _as_tuple(config.classifier)
        tensors = read_weights(weights, model.state_dict(), classifier)
        load_state_dict(model, tensors, weights, name)
        if "img_size" in options:
            resize: Any = getattr(model, "set_input_size", None)
            if resize is None:
                reason = f"{name} loads weights from a file at its own size only"
                raise ConfigError("model.image_size", reason, got=spec.image_size)
            resize(img_size=spec.image_size)
        return model
    _require_known(weights)
    return _download(name, config, options)


def weights_url(*, name: str, weights: str | None) -> str | None:
    """Returns the host that the weights have to be downloaded from; None if they are on this machine."""
    if weights is None or is_path(weights):
        return None
    _require_known(weights)
    if is_in_folder(name):
        return missing_url(name)
    config = _pretrained_config(name)
    if _cached(name, config) is not None:
        return None
    return huggingface_hub.constants.ENDPOINT if config.hf_hub_id else str(config.url)


def _require_known(weights: str) -> None:
    if weights != "DEFAULT":
        raise ConfigError(
            "model.weights",
            got=weights,
            allowed="DEFAULT (the weights of model.name's tag), null, or the path of a file",
        )


def _construct(name: str, options: Mapping[str, Any]) -> nn.Module:
    try:
        return timm.create_model(name, **options)
    except (TypeError, AssertionError, ValueError) as error:
        rates = {key: options[argument] for key, argument in _NAMES_OF_RATES.items() if argument in options}
        if isinstance(error, TypeError) and rates:  # most models take drop_rate; fewer take drop_path_rate
            raise no_layers_for(name, *list(rates.items())[-1]) from error
        if "img_size" not in options:
            raise
        raise ConfigError("model.image_size", f"{name} does not accept {options['img_size']} px ({error}).") from error


def _download(name: str, config: PretrainedCfg, options: Mapping[str, Any]) -> nn.Module:
    cached = _cached(name, config)
    if cached is not None:
        return _construct(name, {**options, "pretrained": True, "pretrained_cfg_overlay": {"file": cached}})
    what = f"timm's weights for {name}"
    if config.hf_hub_id:
        require_reachable(huggingface_hub.constants.ENDPOINT, what)
    try:
        return _construct(name, {**options, "pretrained": True})
    except OSError as error:
        raise offline_error(what, error) from error


def _cached(name: str, config: PretrainedCfg) -> str | None:
    """Returns the path of the weights in the hub's cache, None if they aren't there."""
    repository, file = config.hf_hub_id, config.hf_hub_filename or "model.safetensors"
    if not (repository or config.url):
        raise ConfigError(
            "model.weights", f"timm has no weights for {name}; use model.weights=null or another model.name."
        )
    cached = huggingface_hub.try_to_load_from_cache(repository, file) if repository else None
    return cached if isinstance(cached, str) else None


def _as_tuple(names: str | tuple[str, ...] | list[str] | None) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names or ())


def stages_of(model: nn.Module) -> dict[str, list[str]]:
    """Returns stage name to parameter names, from the input up, by the model's `group_matcher`."""
    try:
        matcher = _MATCHERS.get(type(model).__name__) or model.group_matcher(coarse=True)  # type: ignore[operator]
    # Some models lack the method, or signal "not implemented" by an assertion (rdnet).
    except (AttributeError, AssertionError, NotImplementedError) as error:
        _LOGGER.warning("%s has no group_matcher (%r); it is one stage, `backbone`.", type(model).__name__, error)
        return {"backbone": [name for name, _ in model.named_parameters()]}
    if isinstance(matcher, Mapping):
        matcher = {key: _separate_tail(spec) for key, spec in matcher.items()}
    groups = group_parameters(model, matcher)
    return dict(zip(_stage_names(list(groups.values())), groups.values(), strict=True))


def _separate_tail(spec: Any) -> Any:
    """Returns an entry of a group_matcher with its trailing modules as groups of their own."""
    if not isinstance(spec, (list, tuple)):
        return spec
    tail = (float(_MERGE_WITH_PREVIOUS - 1),)
    return [(pattern, tail if suffix == (_MERGE_WITH_PREVIOUS,) else suffix) for pattern, suffix in spec]


def _stage_names(groups: list[list[str]]) -> list[str]:
    """Returns a name for each group: stem or patch_embed, then the shortest module path that is unique."""
    first = "patch_embed" if any("patch_embed" in parameter for parameter in groups[0]) else "stem"
    paths = [group[0].split(".")[:-1] or [group[0]] for group in groups]
    depths = [1] * len(groups)
    while True:
        names = [first] + [_label(path[:depth]) for path, depth in zip(paths[1:], depths[1:], strict=True)]
        longer = [
            min(depth + 1, len(path)) if names.count(name) > 1 or name in _VAGUE else depth
            for name, path, depth in zip(names, paths, depths, strict=True)
        ]
        if longer == depths:
            return [name if names.count(name) == 1 else f"{name}_{index}" for index, name in enumerate(names)]
        depths = longer


def _label(path: list[str]) -> str:
    """Returns a stage's name for a module path: `blocks.3` is block3, `encoder.norm` norm, `network.0.1` network0_1."""
    *_, word = [part for part in path if not part.isdigit()]
    last = max(index for index, part in enumerate(path) if part == word)
    numbers = path[last + 1 :]
    if numbers and word in _CONTAINERS:
        word = word.removesuffix("s")
    return word + ("_" if numbers and re.search(r"\d$", word) else "") + "_".join(numbers)
