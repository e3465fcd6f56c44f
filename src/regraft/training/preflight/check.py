"""Finds all errors of a config before data is read or weights are downloaded.

Each section is built as a run builds it, and the run takes over what was built.
"""

import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import nn

from regraft.config.annotations import hints_of
from regraft.config.collector import ErrorCollector
from regraft.config.instantiate import Config, factory, require_optimizer_numbers
from regraft.config.nested import ABSENT, at
from regraft.core.errors import ConfigError
from regraft.core.image_spec import ImageSpec
from regraft.core.types import Backbone
from regraft.data.datamodule import DataModule
from regraft.data.from_config import build_unread_datamodule, prepare
from regraft.models.freezing import HEAD, FreezingStrategy, phases
from regraft.models.from_config import (
    BackboneAndArchitecture,
    LastBackbone,
    build_backbone,
    build_bare_backbone,
    build_head,
    build_placeholder_backbone,
    head_source,
    offline_choices,
    weights_url,
)
from regraft.models.weights import require_reachable
from regraft.runs.checkpoint import Checkpoint
from regraft.runs.folder import Run
from regraft.tasks import TargetSummary, task_of
from regraft.training.caching.feature_plan import require_storable_if_wanted
from regraft.training.closed_form.policy import is_closed_form, require_suitable_head
from regraft.training.fit.multi_process import is_sharded, num_processes
from regraft.training.from_config import (
    CALLBACK_OPTIONS,
    build_freezing,
    build_loss,
    optimizer_factory,
    optimizer_groups,
    require_length,
    scheduler_factory,
)
from regraft.training.initial_head import require_possible
from regraft.training.optim.schedulers import Interval
from regraft.training.preflight import run_length
from regraft.training.preflight.resources import ModelSize, check_disk, check_memory, states_per_parameter
from regraft.training.preflight.sharding_check import require_shardable
from regraft.training.preflight.trainer_check import GROUPS, build_trainer_if_possible
from regraft.training.stage_table import StageRow, stage_rows
from regraft.training.trainer import OWN_KEYS, lacking_keys

_SECTIONS = ("model", "head", "augment", "loss", "freezing", "optimizer", "scheduler", "features", "trainer", "data")
# What is tried before the data is read, or where the backbone can't be built.
_STEPS_PER_EPOCH = 1000
_NUM_CLASSES = 2
_NUM_FEATURES = 8


@dataclass
class Preflight:
    """A config whose sections have been built; what couldn't be built is None.

    Attributes:
        config: its wrong keys reset to their defaults.
        architecture: the config that builds the backbone again; None if its weights have yet to be downloaded.
        data: the datamodule, its data not read yet.
        head_source: the checkpoint whose head the run starts with.
        trainer: with the run's callbacks and loggers.
        optimizer: on small parameters instead of the run's, to try schedules on.
        reference: returns the config of the same choices without any other override; None for a resumed run.
        is_provisional: whether numbers in the config depend on data that has yet to be downloaded.
        recorded: the config of the run, where that of one of its two fits differs; see `refit`.
        refit: what a run's first fit has chosen, if this is the second one.
        blocked: sections that aren't built, because their errors have been reported.
        checkpoints_activations: whether the backward pass computes stages again, for memory.
    """

    errors: list[ConfigError]
    config: Config
    backbone: Backbone | None = None
    architecture: Config | None = None
    data: Any = None
    head_source: Checkpoint | None = None
    strategy: FreezingStrategy | None = None
    trainer: Any = None
    optimizer: Any = None
    rows: list[StageRow] | None = None
    size: ModelSize | None = None
    reference: Callable[[], Config] | None = None
    is_provisional: bool = False
    recorded: Config | None = None
    refit: dict[str, Any] | None = None
    blocked: Collection[str] = ()
    checkpoints_activations: bool = False


def preflight(
    config: Config,
    run: Run,
    *,
    checkpoint: Checkpoint | None = None,
    reference: Callable[[], Config] | None = None,
    blocked: Collection[str] = (),
    backbones: LastBackbone | None = None,
) -> Preflight:
    """Builds what a run is made of, as far as that is possible without its data, and collects the errors.

    Args:
        run: its folder may not exist yet.
        reference: returns the config of the same choices without any other override.
        blocked: sections that aren't built, because their errors have been reported.
        backbones: shared by the checks of a sweep's jobs, which don't train with the backbone that is built here.
    """
    reference = None if reference is None else cache(partial(_settled_reference, reference))
    collector = ErrorCollector(config, reference, set(blocked))
    found = Preflight(collector.errors, collector.config, reference=reference, blocked=blocked)
    if not _reset_sections(collector, blocked):
        return found
    open_keys = run_length.open_keys(found.config)
    found.config |= run_length.settled(found.config, None)
    # `config` may have wrong keys, which are reset in `usable`.
    usable, build = found.config, collector.try_build
    collector.add_types("optimizer", {"decay_norm_and_bias": bool})
    collector.add_types("trainer", OWN_KEYS)
    collector.add_types("scheduler", {"interval": Interval})
    build("features", lambda: factory(usable["features"], "features")())
    augment = build("augment", lambda: factory(usable["augment"], "augment")())
    build("optimizer", lambda: require_optimizer_numbers(usable))
    build("trainer", lambda: require_length(usable))
    build("optimizer", lambda: require_suitable_head(usable))
    if lacking_keys(usable["trainer"]):
        build_trainer_if_possible(collector, run, None)
        return found
    make = partial(_backbone, usable, checkpoint)
    if backbones is not None and checkpoint is None:
        make = partial(backbones.of, usable, make)
    found.backbone, found.architecture = build("model", make) or (None, None)
    backbone = found.backbone
    if checkpoint is None and isinstance(usable.get("head_from"), str):
        found.head_source = build("head_from", lambda: head_source(usable))
    spec = None if backbone is None else backbone.input_spec
    collector.add_types("data", hints_of(DataModule))
    found.data = build("data", lambda: build_unread_datamodule(usable, spec, checkpoint or found.head_source))
    build("data", lambda: _settle_by_data(found, open_keys))
    strategy = build("freezing", lambda: build_freezing(usable, None))
    if backbone is not None and strategy is not None:  # its types are right
        strategy = build("freezing", lambda: build_freezing(usable, backbone.has_parameters))
    if strategy is not None:
        build("freezing", partial(require_possible, usable, strategy))
    found.strategy = strategy
    found.trainer = build_trainer_if_possible(collector, run, strategy)
    num_features = _NUM_FEATURES if backbone is None else backbone.num_features
    head = build("head", lambda: _head_on_meta(usable, num_features))
    build("loss", lambda: build_loss(usable, _targets(usable)))
    build("trainer", lambda: require_shardable(usable, backbone, head))
    if head is not None:
        _try_optimizer(collector, found, head)
    if backbone is not None and strategy is not None and augment is not None:
        build("features", lambda: require_storable_if_wanted(usable, backbone, augment, strategy))
    _check_resources(collector, found, run)
    return found


def _settled_reference(reference: Callable[[], Config]) -> Config:
    return run_length.settled(reference(), None)


def _settle_by_data(found: Preflight, open_keys: Sequence[tuple[str, str]]) -> None:
    """Sets the keys that the number of training images decides, if that is known; no image is decoded."""
    data = found.data
    if data is None or not open_keys or is_closed_form(found.config):
        return
    found.is_provisional = not data.is_here
    if found.is_provisional:
        return
    try:
        prepare(data)
    except (ValueError, OSError):
        return  # which is reported with the other errors of the data
    for section, key in open_keys:
        found.config[section][key] = run_length.OPEN
    found.config |= run_length.settled(found.config, data.sizes["train"])
    found.data = data.with_batch_size(found.config["data"]["batch_size"])


def _reset_sections(collector: ErrorCollector, reported: Collection[str]) -> bool:
    """Resets what isn't a section to its default; returns whether all are sections then."""
    usable = collector.config

    def is_sound(name: str) -> bool:
        return _is_node(usable.get(name)) if name in _SECTIONS else isinstance(usable.get(name), Mapping)

    for name in filter(lambda name: not is_sound(name), (*_SECTIONS, *GROUPS)):
        if name not in reported:
            reason = (
                "it has no `_target_`, so nothing can be built from it; a config of your own names a class or a "
                "function there, or begins with the `defaults` of a shipped one"
            )
            collector.errors.append(ConfigError(name, reason, fix=f"Choose one: {name}=NAME."))
        collector.reset_to_default(name)
    for group in filter(is_sound, GROUPS):
        for name, node in usable[group].items():
            if not (node is None or _is_node(node) or (group == "callbacks" and name in CALLBACK_OPTIONS)):
                reason = "it is a section with a `_target_`, or null to leave it out"
                collector.errors.append(ConfigError(f"{group}.{name}", reason, got=node))
                usable[group][name] = None
    if not is_sound("penalty"):
        collector.reset_to_default("penalty")
    for key in ("penalty.l1", "penalty.l2"):
        if at(usable, key) is ABSENT:
            collector.reset_to_default(key)
    return all(map(is_sound, (*_SECTIONS, *GROUPS, "penalty")))


def _is_node(node: Any) -> bool:
    return isinstance(node, Mapping) and isinstance(node.get("_target_"), str)


def _backbone(config: Config, checkpoint: Checkpoint | None) -> BackboneAndArchitecture:
    if checkpoint is not None:
        return build_bare_backbone(checkpoint.architecture, checkpoint.input_spec), checkpoint.architecture
    model = config["model"]
    factory(model, "model")  # reports an unknown key before anything else
    url = weights_url(config)
    if url is None:
        return build_backbone(config)
    require_reachable(url, f"the weights of {model.get('name')}", offline_choices(config))
    return build_placeholder_backbone(config), None


def _head_on_meta(config: Config, num_features: int) -> nn.Module:
    """Returns the head, which may be too large to hold, on the meta device unless it reads its weights' values."""
    try:
        with torch.device("meta"):
            return build_head(config, num_features, _targets(config))
    except (NotImplementedError, RuntimeError):
        return build_head(config, num_features, _targets(config))


def _targets(config: Config) -> TargetSummary:
    """Returns targets that the weights of the loss fit."""
    weights = config["loss"].get("class_weights", config["loss"].get("pos_weight"))
    names = [str(name) for name in weights] if isinstance(weights, dict) else []
    least = task_of(config["task"]["name"]).min_names
    num_classes = len(weights) if isinstance(weights, list) and len(weights) >= least else _NUM_CLASSES
    names += [f"class {index}" for index in range(num_classes - len(names))]
    return TargetSummary(tuple(names), (1,) * len(names), len(names))


def _try_optimizer(collector: ErrorCollector, found: Preflight, head: nn.Module) -> None:
    """Builds the optimizer on small parameters, and the schedule on it."""
    usable, backbone = found.config, found.backbone
    groups = optimizer_groups(usable, backbone or Backbone({"stage": nn.Linear(1, 1)}, 1, ImageSpec(1)), head)
    small = [group | {"params": [nn.Parameter(torch.zeros(1024))]} for group in groups]
    found.optimizer = collector.try_build("optimizer", lambda: optimizer_factory(usable)(params=small))
    trainer = usable["trainer"]
    # Of a resumed run, what is wrong can't be reset; it has been reported.
    if found.optimizer is None or not all(isinstance(trainer[key], int) for key in ("max_epochs", "max_steps")):
        return
    collector.try_build("scheduler", lambda: build_schedule(found, _STEPS_PER_EPOCH, _total_steps(usable["trainer"])))
    if backbone is not None and found.strategy is not None:
        rate, max_epochs = usable["optimizer"].get("lr", math.nan), usable["trainer"]["max_epochs"]
        found.rows = stage_rows(groups, backbone.has_parameters, found.strategy, rate, max_epochs)
        found.size = ModelSize(
            sum(row.num_parameters for row in found.rows),
            sum(row.num_parameters for row in found.rows if row.lr_by_epoch),
            states_per_parameter(found.optimizer),
        )


def build_schedule(checked: Preflight, steps_per_epoch: int, total_steps: float) -> Any:
    """Returns the config's schedule on the optimizer that schedules are tried on."""
    make = scheduler_factory(checked.config)
    return make(checked.optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch)


def _total_steps(trainer: Config) -> float:
    """Returns the steps of a run whose epochs have `_STEPS_PER_EPOCH`; any number if trainer.max_steps ends it."""
    if trainer["max_steps"] != -1:
        return sys.maxsize
    return math.inf if trainer["max_epochs"] == -1 else trainer["max_epochs"] * _STEPS_PER_EPOCH


def _check_resources(collector: ErrorCollector, found: Preflight, run: Run) -> None:
    backbone, rows, size, trainer = found.backbone, found.rows, found.size, found.trainer
    if backbone is None or rows is None or size is None or trainer is None:
        return
    collector.try_build("output_dir", lambda: check_disk(run.path, size))
    strategy, device, settings = found.strategy, trainer.strategy.root_device, found.config["trainer"]
    if strategy is None:
        return
    trained = [
        [stage for stage, factor in phase.factors.items() if factor and stage != HEAD]
        for phase in phases(strategy, backbone.has_parameters, settings["max_epochs"])
    ]
    sharing = trainer.num_devices if device.type == "cpu" else 1
    part = size.divided(num_processes(settings)) if is_sharded(settings) else size
    batch_size, precision = found.config["data"]["batch_size"], str(settings["precision"])
    wanted = settings.get("checkpoint_activations", "auto")
    if settings.get("compile") is True and wanted == "auto":
        wanted = False
    check = partial(check_memory, part, backbone, trained, batch_size, sharing, device, precision, wanted)
    found.checkpoints_activations = bool(collector.try_build("data", check))
