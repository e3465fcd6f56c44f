"""Backbones, heads and freezing strategies that Python was given as objects; see `config.given`.

A run works on copies, so that an object stays as it was given.
"""

import copy
import itertools
import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from regraft.config.given import given_object, named
from regraft.core.errors import ConfigError
from regraft.core.image_spec import ImageSpec
from regraft.core.input_spec import InputSpec
from regraft.core.types import Backbone
from regraft.models.backbones.stages import split
from regraft.models.freezing import HEAD, FreezingStrategy

log = logging.getLogger(__name__)

_IMAGE_SIZES = (224, 32, 28, 64, 96, 128, 160, 192, 256, 299, 384, 512, 8, 16)
"""Pixels that a network of unknown size is tried on, in this order."""
_CHANNELS = (3, 1)
_CLASSIFIERS = ("fc", "classifier", "head", "heads")
"""What libraries call the part of a network that classifies."""
_NAMES_OF_OUTPUTS = ("pooler_output", "last_hidden_state")
"""In what the models of transformers return."""


class _Features(nn.Module):
    """Features (batch, num_features) from a network's output: maps are averaged, of tokens the first one is taken."""

    def forward(self, output: Any) -> Tensor:
        for name in _NAMES_OF_OUTPUTS:
            found = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
            if isinstance(found, Tensor):
                output = found
                break
        assert isinstance(output, Tensor), f"it gives a {type(output).__name__}, not a tensor"
        if output.ndim == 4:
            output = output.mean((2, 3))
        if output.ndim == 3:
            output = output[:, 0]
        return output.flatten(1)


def given_backbone(
    *, given: str, weights: str | None = None, image_size: int | None = None, num_channels: int | None = None
) -> Backbone:
    """Returns a copy of a module that was given, as a backbone whose stages are its children.

    A `Backbone` is taken as it is. Of other modules, the output may be features (batch, num_features), maps, which are
    averaged, or tokens, of which the first one is taken.

    Args:
        image_size: pixels; None for what the module says of itself (`input_spec`, or `pretrained_cfg` as timm's do),
            else 224, or the first usual size that it takes.
        num_channels: 3 or 1; None for what the module takes.
    """
    module = given_object("model", given)
    if not isinstance(module, nn.Module):
        allowed = "a torch.nn.Module that returns features (batch, num_features), a regraft.Backbone or a model's name"
        raise ConfigError("model", got=named(module), allowed=allowed)
    try:
        module = copy.deepcopy(module)
    except (TypeError, RuntimeError, NotImplementedError) as error:
        raise ConfigError(
            "model", f"{named(module)} can't be copied ({error}), which a run's own copy needs"
        ) from error
    if isinstance(module, Backbone):
        _require_size(module.input_spec, image_size, num_channels)
        return module
    return _as_backbone(module.requires_grad_(True), image_size, num_channels)


def _require_size(spec: InputSpec, image_size: int | None, num_channels: int | None) -> None:
    for key, got in (("image_size", image_size), ("num_channels", num_channels)):
        own = spec.options.get(key)
        if got not in (None, own):
            raise ConfigError(f"model.{key}", "the Backbone that was given has its own", got=got, allowed=str(own))


def _as_backbone(module: nn.Module, image_size: int | None, num_channels: int | None) -> Backbone:
    spec, num_features, needs_pooling = _tried(module, image_size, num_channels)
    name, last = type(module).__name__, None
    stages = split(module, _stages_of(module), name)
    if needs_pooling:
        *_, last = stages
        stages[last] = nn.Sequential(OrderedDict(stage=stages[last], features=_Features()))
    classifier = next(
        (each for each in _CLASSIFIERS if isinstance(_last_layer(getattr(module, each, None)), nn.Linear)), None
    )
    if classifier is not None:
        log.warning(
            "%s.%s gives %d outputs, which are the features here; if it is a classifier, put torch.nn.Identity() in "
            "its place, so that the features are what it reads.",
            *(name, classifier, num_features),
        )
    return Backbone(stages, num_features, spec)


def _last_layer(part: Any) -> nn.Module | None:
    """Returns the last module without children in a part of a network; None if the part isn't a module."""
    return list(part.modules())[-1] if isinstance(part, nn.Module) else None


def _tried(module: nn.Module, image_size: int | None, num_channels: int | None) -> tuple[ImageSpec, int, bool]:
    """Returns the input that a module takes, the number of its features, and whether its output has to be pooled."""
    own = _own_spec(module)
    if own is not None:
        image_size, num_channels = image_size or own.image_size, num_channels or own.num_channels
    sizes, channels = [image_size] if image_size else _IMAGE_SIZES, [num_channels] if num_channels else _CHANNELS
    was_training, first = module.training, None
    like = next((each for each in module.parameters() if each.is_floating_point()), torch.zeros(()))
    module.eval()
    try:
        for size, number in itertools.product(sizes, channels):
            try:
                with torch.no_grad(), torch.random.fork_rng(devices=[]):
                    output = module(like.new_zeros((2, number, size, size)))
                    features = _Features()(output)
            except Exception as error:  # a network of somebody's may raise anything
                first = first or (size, number, error)
                continue
            if len(features) == 2 and features.shape[1]:
                spec = ImageSpec(size, number) if own is None else _resized(own, size, number)
                return spec, features.shape[1], not (isinstance(output, Tensor) and output.ndim == 2)
            first = first or (size, number, ValueError(f"it returns {tuple(features.shape)} for two images"))
    finally:
        module.train(was_training)
    assert first is not None, "at least one size was tried"
    size, number, reason = first
    raise ConfigError(
        "model",
        f"{type(module).__name__} takes no images of any usual size; with (2, {number}, {size}, {size}): "
        f"{' '.join((str(reason) or type(reason).__name__).split())}",
        fix="It has to return features (batch, num_features); its size can be given with model.image_size.",
    ) from reason


def _own_spec(module: nn.Module) -> ImageSpec | None:
    """Returns what a module says of its input, as a Backbone or as timm's models; None if it says nothing."""
    spec = getattr(module, "input_spec", None)
    if isinstance(spec, ImageSpec):
        return spec
    found = getattr(module, "pretrained_cfg", None) or getattr(module, "default_cfg", None)
    if isinstance(found, Mapping) and len(found.get("input_size") or ()) == 3:
        from regraft.models.backbones.timm import input_spec

        size, number = int(found["input_size"][1]), int(found["input_size"][0])
        return input_spec(module, size, number)
    return None


def _resized(spec: ImageSpec, image_size: int, num_channels: int) -> ImageSpec:
    resized = replace(spec, image_size=image_size, num_channels=num_channels)
    return resized if num_channels == spec.num_channels else replace(resized, mean=None, std=None)


def _stages_of(module: nn.Module) -> dict[str, list[str]]:
    """Returns the tensors of each stage: a child of the module, or of the only child that has any tensors."""
    tensors = [name for name, _ in itertools.chain(module.named_parameters(), module.named_buffers())]
    prefix = ""
    while tensors:
        heads = {name.removeprefix(prefix).partition(".")[0] for name in tensors}
        if len(heads) > 1 or not all(name.startswith(f"{prefix}{next(iter(heads))}.") for name in tensors):
            break
        inner = f"{prefix}{heads.pop()}."
        if not any("." in name.removeprefix(inner) for name in tensors):
            break
        prefix = inner
    stages: dict[str, list[str]] = {}
    loose: list[str] = []
    for name in tensors:
        head, is_inner, _ = name.removeprefix(prefix).partition(".")
        (stages.setdefault(_stage_name(head), []) if is_inner else loose).append(name)
    # In the order in which the children are defined; buffers come after all parameters.
    if not stages:
        return {"backbone": tensors}
    first = next(iter(stages))
    stages[first] = [*loose, *stages[first]]
    return stages


def _stage_name(child: str) -> str:
    name = f"stage{child}" if child.isdigit() else child
    return f"{name}_" if name == HEAD or hasattr(nn.ModuleDict(), name) else name


def given_head(num_features: int, num_classes: int, *, given: str) -> nn.Module:
    """Returns a copy of a head that was given; what isn't a module is called with the two numbers and returns one."""
    head = given_object("head", given)
    allowed = (
        "a torch.nn.Module that returns logits (batch, num_classes) of features (batch, num_features), what makes one "
        "of (num_features, num_classes), or a head's name"
    )
    if isinstance(head, nn.Module):
        return copy.deepcopy(head).requires_grad_(True)
    if not callable(head):
        raise ConfigError("head", got=named(head), allowed=allowed)
    made = head(num_features, num_classes)
    if not isinstance(made, nn.Module):
        raise ConfigError("head", f"{named(head)} returns a {type(made).__name__}", allowed=allowed)
    return made


def require_logits(head: nn.Module, num_features: int, num_classes: int) -> None:
    """Raises ConfigError if a head doesn't give logits of all classes."""
    was_training = head.training
    like = next((each for each in head.parameters() if each.is_floating_point()), torch.zeros(()))
    wanted = f"(2, {num_classes}), a logit for each class, for features (2, {num_features})"
    head.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            logits = head(torch.zeros((2, num_features), dtype=like.dtype, device=like.device))
    except RuntimeError as error:
        reason = f"it doesn't take features (2, {num_features}) ({' '.join(str(error).split())})"
        raise ConfigError("head", reason, allowed=f"what gives {wanted}") from error
    finally:
        head.train(was_training)
    got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if got != (2, num_classes):
        raise ConfigError("head", f"it gives {got}", allowed=wanted)


def given_strategy(*, given: str) -> FreezingStrategy:
    """Returns a freezing strategy that was given."""
    strategy = given_object("freezing", given)
    if isinstance(strategy, type) or not callable(strategy):
        allowed = "a regraft.FreezingStrategy, such as regraft.LPFT(), or a strategy's name"
        raise ConfigError("freezing", got=named(strategy), allowed=allowed)
    return strategy
