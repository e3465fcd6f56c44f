"""Dropout and stochastic depth inside the models of timm and torchvision."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from regraft.core.errors import ConfigError, require

_WORDS = {"drop_rate": "dropout", "drop_path": "stochastic depth"}


def drop_rates(drop_rate: float | None, drop_path: float | None) -> dict[str, float]:
    """Returns those of the two rates that are given, checked."""
    rates = {"drop_rate": drop_rate, "drop_path": drop_path}
    for key, rate in rates.items():
        require(rate is None or 0 <= rate < 1, f"model.{key}", rate, "0 or more, less than 1, or null")
    return {key: rate for key, rate in rates.items() if rate is not None}


def set_drop_rates(name: str, model: nn.Module, rates: Mapping[str, float]) -> None:
    """Sets the rates of a model of torchvision, without its classifier.

    Its stochastic depth keeps its growth from block to block, up to the given rate.

    Raises:
        ConfigError: the model has no such layers.
    """
    for key, rate in rates.items():
        layers = _layers(model, key)
        if not layers:
            raise no_layers_for(name, key, rate)
        highest = max(getattr(layer, attribute) for layer, attribute in layers)
        for layer, attribute in layers:
            share = getattr(layer, attribute) / highest if key == "drop_path" else 1.0
            setattr(layer, attribute, rate * share)


def require_drop_rates(name: str, model: nn.Module, rates: Mapping[str, float]) -> None:
    """Raises ConfigError if a model of timm was made with a rate that none of its layers has."""
    for key, rate in rates.items():
        if not any(getattr(layer, attribute) for layer, attribute in _layers(model, key)) and rate:
            raise no_layers_for(name, key, rate)


def _layers(model: nn.Module, key: str) -> list[tuple[Any, str]]:
    """Returns the layers that a rate is of, each with the name of its attribute."""
    kinds = ("Dropout",) if key == "drop_rate" else ("DropPath", "StochasticDepth")
    named = [(layer, "p" if hasattr(layer, "p") else "drop_prob") for layer in model.modules() if _is(layer, kinds)]
    # Those that call dropout as a function: timm's models, and the layers of DenseNet.
    calling = [(each, key) for each in model.modules() if isinstance(getattr(each, "drop_rate", None), float | int)]
    return named + (calling if key == "drop_rate" else [])


def _is(layer: nn.Module, kinds: tuple[str, ...]) -> bool:
    return type(layer).__name__.startswith(kinds)


def no_layers_for(name: str, key: str, rate: float) -> ConfigError:
    """Returns the error of a rate for layers that a model doesn't have."""
    reason = f"{name} without its classifier has no {_WORDS[key]}"
    fix = "Leave it out; head.dropout is that before the head." if key == "drop_rate" else "Leave it out."
    return ConfigError(f"model.{key}", reason, got=rate, fix=fix)
