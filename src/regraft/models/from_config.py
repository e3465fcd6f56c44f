"""Backbone and head built from a config, with their weights or without."""

import copy
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import nn

from regraft.config.instantiate import Config, checked_call, factory, target_of
from regraft.config.trust import require_known_targets
from regraft.core.errors import ConfigError
from regraft.core.input_spec import InputSpec
from regraft.core.seeding import derive_seed
from regraft.core.types import Backbone
from regraft.models.backbones.several import side_by_side
from regraft.models.heads import Ensemble, Linear, NetworkEnsemble, Standardised
from regraft.models.stage_outputs import TappedBackbone, tapped
from regraft.models.stage_standardisation import OnStandardised
from regraft.models.weights import OFFLINE_CHOICES
from regraft.runs.checkpoint import Checkpoint
from regraft.runs.checkpoint import read as read_checkpoint
from regraft.runs.folder import find_checkpoint
from regraft.tasks import TargetSummary, task_of

BackboneAndArchitecture = tuple[Backbone, Config | None]
"""A backbone and its architecture; (a backbone without weights, None) where the weights have to be downloaded first."""


MEMBERS, NORMALISATIONS = "members", "normalisations"
"""In an architecture, those of the networks of an ensemble, and how their images are normalised where that differs."""
_TAPS = "feature_widths"
"""In an architecture, the stages whose pooled outputs are the features, and how many each gives."""


class LastBackbone:
    """Caches the last backbone built: most jobs of a sweep differ in something else."""

    def __init__(self) -> None:
        self._made: tuple[list[Any], BackboneAndArchitecture] | None = None

    def of(self, config: Config, make: Callable[[], BackboneAndArchitecture]) -> BackboneAndArchitecture:
        """Returns the backbone of a config, calling `make` only if the last one was for another."""
        key = [config["model"], _stages_read(config), config["trust"]]
        if self._made is None or self._made[0] != key:
            self._made = None  # so that no two backbones are in memory at once
            self._made = copy.deepcopy(key), make()
        return self._made[1]


def build_backbone(config: Config) -> tuple[Backbone, Config]:
    """Returns the backbone and its architecture: the config that builds it again, without weights."""
    model, trust = config["model"], config["trust"]
    architecture = model
    make = factory(model, "model")
    if "construct" in inspect.signature(target_of(model, "model")).parameters:

        def construct(found: Mapping[str, Any]) -> Backbone:
            nonlocal architecture
            architecture = dict(found)
            require_known_targets(architecture, trust, str(model.get("path")))
            return build_bare_backbone(architecture)

        make = partial(make, construct=construct)
    built = tapped(make(), _stages_read(config))
    # The backbone is built again where the folder that its weights come from needn't be.
    find = getattr(import_module(target_of(model, "model").__module__), "architecture_changes", None)
    if find is not None:
        architecture = architecture | find(architecture, built)
    taps = {_TAPS: built.feature_widths} if isinstance(built, TappedBackbone) else {}
    return built, _untapped(architecture) | {"weights": None} | built.input_spec.options | taps


def backbone(name: str, **options: Any) -> Backbone:
    """Returns a backbone with its weights, for a script of your own.

    Args:
        name: a choice of `regraft list model`, such as `resnet18`, or `timm` and `torchvision` with `name=`.
        options: the keys of its YAML, such as `image_size=96` or `weights=None` for random weights.
    """
    from regraft.config.compose import compose_once, plain
    from regraft.config.quoting import text_of

    words = [f"model={text_of(name)}", *(f"model.{key}={text_of(value)}" for key, value in options.items())]
    config = plain(compose_once("train", [*words, "fitting=steps"], None))
    return build_backbone(config)[0]


def weights_url(config: Config) -> str | None:
    """Returns where the backbone's weights have to be downloaded from; None if they are here, or there are none."""
    model = config["model"]
    # Sources that never download don't define it.
    find = getattr(import_module(target_of(model, "model").__module__), "weights_url", None)
    return None if find is None else checked_call(find, "model", {key: model.get(key) for key in ("name", "weights")})()


def offline_choices(config: Config) -> str:
    """Returns what can be done without a network instead of downloading the backbone's weights."""
    module = import_module(target_of(config["model"], "model").__module__)
    chosen: str = getattr(module, "OFFLINE_CHOICES", OFFLINE_CHOICES)
    return chosen


def build_placeholder_backbone(config: Config) -> Backbone:
    """Returns the backbone of a config with random weights in the place of those that have yet to be downloaded."""
    return tapped(build_bare_backbone(config["model"] | {"weights": None}), _stages_read(config))


def build_bare_backbone(architecture: Config, input_spec: InputSpec | None = None) -> Backbone:
    """Returns a backbone with random weights, for a checkpoint to fill."""
    if MEMBERS in architecture:
        built = side_by_side(
            [build_bare_backbone(each) for each in architecture[MEMBERS]], architecture.get(NORMALISATIONS)
        )
    else:
        built = factory(_untapped(architecture), "model")()
    if _TAPS in architecture:
        built = TappedBackbone(built, architecture[_TAPS])
    if input_spec is not None:
        built.input_spec = input_spec
    return built


def _stages_read(config: Config) -> Any:
    """Returns what the head reads; see `tapped`."""
    return config["head"].get("stages", "last")


def _untapped(architecture: Config) -> Config:
    return {key: value for key, value in architecture.items() if key != _TAPS}


def build_head(
    config: Config, num_features: int, targets: TargetSummary, widths: Mapping[str, int] | None = None
) -> nn.Module:
    """Returns the head; its initial weights depend on the run's seed alone, not on what the backbone drew before.

    Args:
        widths: how many of the features each stage gives; None if they don't matter, as those of a checkpoint follow.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(config["seed"], "head"))
        node = {key: value for key, value in config["head"].items() if key != "stages"}
        own_width = num_features // config["ensemble"] if _is_of_networks(config) else num_features
        make = partial(factory(node, "head"), num_features=own_width, num_classes=len(targets.names))
        heads = [make() for _ in range(config.get("ensemble", 1))]
        if _stages_read(config) != "last" and not isinstance(heads[0], (Linear, Standardised)):
            heads = [OnStandardised(head, widths or {"": own_width}) for head in heads]
    task = task_of(config["task"]["name"])
    finished = [task.finished_head(head, targets) for head in heads]
    if _is_of_networks(config):
        return NetworkEnsemble(finished, task.mean_logits)
    return Ensemble(finished) if "ensemble" in config else finished[0]


def _is_of_networks(config: Config) -> bool:
    """Whether a config is of an ensemble whose members have a backbone each."""
    return bool(config.get("ensemble_of_networks"))


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
