"""The backbone of a config, with its weights or without."""

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from regraft.config.instantiate import Config, factory, target_of
from regraft.config.trust import require_known_targets
from regraft.core.types import Backbone, InputSpec

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
