"""The backbone of a config, with its weights or without."""

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
"""A backbone and its architecture; one without weights, and None, where those are yet to be downloaded."""


class LastBackbone:
    """Makes backbones, but not the same one twice in a row: most jobs of a sweep differ in something else."""

    def __init__(self) -> None:
        self._made: tuple[list[Any], Built] | None = None

    def of(self, model: Config, trust: Sequence[str], make: Callable[[], Built]) -> Built:
        """Returns what `make` gives; without calling it, if that was made last.

        Args:
            model: the config's section.
            trust: see `build_backbone`.
            make: makes it of the two.
        """
        key = [model, trust]
        if self._made is None or self._made[0] != key:
            self._made = None  # or two would be in memory while the next one is made
            self._made = copy.deepcopy(key), make()
        return self._made[1]


def build_backbone(model: Config, trust: Sequence[str]) -> tuple[Backbone, Config]:
    """Returns the backbone and its architecture: the config that builds it again, without weights.

    Args:
        model: the config's section.
        trust: further modules whose classes an earlier run's checkpoint may name.

    Raises:
        ValueError: unknown name, weights that don't match; OSError: no file, no network.
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
    """Returns the head on features of (batch, num_features), giving logits of (batch, num_classes).

    Its weights are drawn from the run's seed alone, whatever the backbone drew before.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(config["seed"], "head"))
        made: nn.Module = factory(config["head"], "head")(num_features=num_features, num_classes=num_classes)
    return made


def head_source(config: Config) -> Checkpoint | None:
    """Returns the checkpoint whose head a run starts with, None if it starts with one of its own."""
    path = config.get("head_from")
    if path is None:
        return None
    return read_checkpoint(find_checkpoint(path, prefer="best", key="head_from"), config["trust"])


def load_head(head: nn.Module, earlier: Checkpoint) -> None:
    """Fills a head with the weights of an earlier run's, whose classes the data has in the same order.

    Raises:
        ValueError: the run had another head.
    """
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
