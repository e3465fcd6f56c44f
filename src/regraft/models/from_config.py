"""Backbone and head built from a config, with their weights or without."""

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from regraft.config.instantiate import Config, factory, target_of
from regraft.config.trust import require_known_targets
from regraft.core.errors import ConfigError
from regraft.core.seeding import derive_seed
from regraft.core.types import Backbone, InputSpec
from regraft.runs.checkpoint import Checkpoint
from regraft.runs.checkpoint import read as read_checkpoint
from regraft.runs.folder import find_checkpoint

Built = tuple[Backbone, Config | None]
"""A backbone and its architecture; (a backbone without weights, None) where the weights have to be downloaded first."""


class LastBackbone:
    """Caches the last backbone built: most jobs of a sweep differ in something else."""

    def __init__(self) -> None:
        self._made: tuple[list[Any], Built] | None = None

    def of(self, model: Config, trust: Sequence[str], make: Callable[[], Built]) -> Built:
        """Returns the backbone for `model` and `trust`, calling `make` only if the last one was for others."""
        key = [model, trust]
        if self._made is None or self._made[0] != key:
            self._made = None  # so that no two backbones are in memory at once
            self._made = copy.deepcopy(key), make()
        return self._made[1]


def build_backbone(model: Config, trust: Sequence[str]) -> tuple[Backbone, Config]:
    """Returns the backbone and its architecture: the config that builds it again, without weights.

    Args:
        model: the section `model` of the config.
        trust: further modules whose classes an earlier run's checkpoint may name.
    """
    architecture = model
    make = factory(model, "model")
    if "construct" in inspect.signature(target_of(model, "model")).parameters:

        def construct(found: Mapping[str, Any]) -> Backbone:
            nonlocal architecture
            architecture = dict(found)
            require_known_targets(architecture, trust, str(model.get("path")))
            return build_bare_backbone(architecture)

        make = partial(make, construct=construct)
    built: Backbone = make()
    size = {"image_size": built.input_spec.image_size, "num_channels": built.input_spec.num_channels}
    return built, architecture | {"weights": None} | size


def build_bare_backbone(architecture: Config, input_spec: InputSpec | None = None) -> Backbone:
    """Returns a backbone with random weights, for a checkpoint to fill."""
    built: Backbone = factory(architecture, "model")()
    if input_spec is not None:
        built.input_spec = input_spec
    return built


def build_head(config: Config, num_features: int, num_classes: int) -> nn.Module:
    """Returns the head; its initial weights depend on the run's seed alone, not on what the backbone drew before."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(config["seed"], "head"))
        return factory(config["head"], "head")(num_features=num_features, num_classes=num_classes)


def head_source(config: Config) -> Checkpoint | None:
    """Returns the checkpoint `head_from`, whose head the run starts with; None if there is none."""
    path = config.get("head_from")
    if path is None:
        return None
    return read_checkpoint(find_checkpoint(path, prefer="best", key="head_from"), config["trust"])


def load_head(head: nn.Module, earlier: Checkpoint) -> None:
    """Loads the head of an earlier run with the same classes in the same order."""
    states = earlier.content["state_dict"]
    found = {key.removeprefix("head."): value for key, value in states.items() if key.startswith("head.")}
    wanted = {key: tuple(value.shape) for key, value in head.state_dict().items()}
    shapes = {key: tuple(value.shape) for key, value in found.items()}
    if shapes != wanted:
        raise ConfigError(
            "head_from",
            f"the head of {earlier.path} has {shapes}, this run's has {wanted}. Choose the same head=, and "
            f"a model with as many features.",
        )
    head.load_state_dict(found)
