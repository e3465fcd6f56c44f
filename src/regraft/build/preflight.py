"""What is wrong with a config, all of it, before data is read or weights are fetched.

No rule stands here: each section is made as a run makes it, and what it complains of is gathered.
"""

import inspect
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from hydra.utils import get_object
from torch import nn

from regraft.build import room
from regraft.build.features import require_storable_if_wanted
from regraft.build.mending import Mending
from regraft.build.parts import (
    backbone,
    bare_backbone,
    freezing,
    head,
    loss,
    optimizer,
    optimizer_groups,
    require_length,
    skips_nan,
    unasked_freezing,
    unread_datamodule,
)
from regraft.build.running import require_watchable, trainer, watchers
from regraft.build.signatures import hints_of
from regraft.build.targets import Config, checked_call, factory, require_numbers
from regraft.contracts import Backbone, InputSpec
from regraft.data.augment import Augment
from regraft.freezing.strategies import HEAD, FreezingStrategy
from regraft.freezing.table import StageRow, stage_rows

_MADE_OF = ("model", "head", "augment", "loss", "freezing", "optimizer", "scheduler", "features", "trainer", "data")
_GROUPS_OF_NODES = ("callbacks", "logger")
_STEPS_AN_EPOCH = 1000
"""Of a schedule that is tried out before the number of images is known."""
_ANY_CLASSES = 2
_ANY_FEATURES = 8


@dataclass(frozen=True)
class Checked:
    """A config that has been looked through.

    Attributes:
        faults: what is wrong with it, a sentence each.
        config: the same, put right as far as that is possible.
        reference: see `Mending`.
        backbone: None if it can't be made.
        architecture: what builds it again; None where the backbone has no weights yet, as they are to be downloaded.
        rows: what trains when; None if that can't be told.
        sizes: None if they can't be told.
        is_data_made: whether the data's section is in order.
    """

    faults: list[str]
    config: Config
    reference: Callable[[], Config] | None
    backbone: Backbone | None
    architecture: Config | None
    rows: list[StageRow] | None
    sizes: room.Sizes | None
    is_data_made: bool

    @property
    def made(self) -> tuple[Backbone, Config] | None:
        """The backbone with its weights, and its architecture; None if they are to be made anew."""
        return None if self.backbone is None or self.architecture is None else (self.backbone, self.architecture)


def preflight(
    config: Config,
    folder: Path,
    *,
    continued: tuple[Config, InputSpec] | None = None,
    reference: Callable[[], Config] | None = None,
    blocked: Collection[str] = (),
) -> Checked:
    """Returns what is wrong with a config, as far as that can be told without its data.

    Args:
        config: the resolved config.
        folder: of the run; needn't exist.
        continued: the architecture and the input spec of the run that this one goes on with.
        reference: gives the config of the same choices without any other override.
        blocked: sections that aren't looked at, because what is wrong with them has been said.
    """
    reference = None if reference is None else cache(reference)
    mending = Mending(config, reference, set(blocked))
    if not _replace_shapeless(mending, set(blocked)):
        return Checked(mending.faults, mending.config, reference, None, None, None, None, is_data_made=False)
    mending.know_types("optimizer", {"decay_norm_and_bias": bool})
    now = mending.config
    mending.attempt("features", lambda: factory(now["features"], "features")())
    augment = mending.attempt("augment", lambda: factory(now["augment"], "augment")())
    mending.attempt("optimizer", lambda: require_numbers(now))
    _attempt_nodes(mending)
    mending.attempt("trainer", lambda: require_length(now))
    made_trainer = mending.attempt("trainer", lambda: _bare_trainer(now))
    if made_trainer is None:
        # What there is no trainer for has no length either.
        return Checked(mending.faults, now, reference, None, None, None, None, is_data_made=False)
    made = mending.attempt("model", lambda: _backbone(now, continued))
    body, architecture = (None, None) if made is None else made
    is_data_made = _attempt_data(mending, body)
    strategy = mending.attempt("freezing", lambda: unasked_freezing(now))
    if body is not None and strategy is not None:
        strategy = mending.attempt("freezing", lambda: freezing(now, body.stage_names))
    made_head = mending.attempt("head", lambda: head(now, _num_features(body), _ANY_CLASSES))
    mending.attempt("loss", lambda: loss(now, _class_counts(now)))
    rows, sizes = None, None
    if made_head is not None:
        rows, sizes = _attempt_training(mending, body, made_head, strategy)
    if body is not None and strategy is not None and augment is not None:
        _attempt_storing(mending, body, augment, strategy)
    if rows is not None and sizes is not None and body is not None:
        _attempt_room(mending, folder, body, rows, sizes, made_trainer)
    return Checked(mending.faults, now, reference, body, architecture, rows, sizes, is_data_made)


def watch_faults(mending: Mending, num_classes: int | None, *, has_val: bool) -> None:
    """Looks at what each node of the config watches; see `require_watchable`."""
    for section in watchers(mending.config):
        mending.attempt(
            section,
            lambda section=section: require_watchable(  # type: ignore[misc]
                watchers(mending.config)[section], section, num_classes, has_val=has_val
            ),
        )


def schedule(config: Config, made_optimizer: Any, steps_per_epoch: int, total_steps: float) -> Any:
    """Returns the config's schedule on an optimizer."""
    make = factory(config["scheduler"], "scheduler")
    return make(made_optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch)


def _replace_shapeless(mending: Mending, said: set[str]) -> bool:
    """Says which sections are none, and puts the usual ones in their place; returns whether all are sections now."""
    now = mending.config
    for name in (*_MADE_OF, *_GROUPS_OF_NODES):
        is_sound = _is_node(now.get(name)) if name in _MADE_OF else isinstance(now.get(name), Mapping)
        if not is_sound:
            if name not in said:
                mending.faults.append(
                    f"{name}: it has no `_target_`, so nothing can be made of it; a config of your own names a class "
                    f"or a function there, or begins with the `defaults` of a shipped one. Choose one: {name}=NAME."
                )
            mending.put_back(name)
    for group in [group for group in _GROUPS_OF_NODES if isinstance(now.get(group), Mapping)]:
        for name, node in list(now[group].items()):
            if not (node is None or _is_node(node) or (group, name) == ("callbacks", "nan")):
                mending.faults.append(
                    f"{group}.{name}: got {node!r}; it is a section with a `_target_`, or null to leave it out."
                )
                now[group][name] = None
    mending.fill("penalty", ("l1", "l2"))
    return all(_is_node(now.get(name)) for name in _MADE_OF) and all(
        isinstance(now.get(name), Mapping) for name in (*_GROUPS_OF_NODES, "penalty")
    )


def _is_node(node: Any) -> bool:
    return isinstance(node, Mapping) and isinstance(node.get("_target_"), str)


def _attempt_nodes(mending: Mending) -> None:
    """Makes callbacks and loggers, in a folder that is gone afterwards."""
    now = mending.config
    mending.attempt("callbacks", lambda: skips_nan(now))
    with TemporaryDirectory() as place:
        for group, given in (("callbacks", "dirpath"), ("logger", "save_dir")):
            for name in [name for name, node in now[group].items() if _is_node(node)]:
                section = f"{group}.{name}"
                mending.attempt(section, lambda name=name, group=group, given=given, section=section: _made_with(  # type: ignore[misc]
                    now[group][name], section, {given: place}
                ))  # fmt: skip
    watch_faults(mending, None, has_val=True)


def _made_with(node: Config, section: str, given: Mapping[str, Any]) -> Any:
    taken = inspect.signature(get_object(node["_target_"])).parameters
    return factory(node, section)(**{key: value for key, value in given.items() if key in taken})


def _bare_trainer(config: Config) -> Any:
    return trainer(config, has_val=True, logger=False, enable_checkpointing=False, enable_progress_bar=False)


def _backbone(config: Config, continued: tuple[Config, InputSpec] | None) -> tuple[Backbone, Config | None]:
    """Returns the backbone and its architecture; one without weights, and None, if they are yet to be downloaded."""
    if continued is not None:
        return bare_backbone(*continued), None
    model = config["model"]
    factory(model, "model")  # says of an unknown key before anything else
    source = import_module(get_object(model["_target_"]).__module__)
    # Sources that download say whether they would; others have their weights at hand.
    has_weights = getattr(source, "has_weights", None)
    if has_weights is None or checked_call(has_weights, "model", {key: model[key] for key in ("name", "weights")})():
        return backbone(model, config["trust"])
    return bare_backbone(model | {"weights": None}), None


def _attempt_data(mending: Mending, body: Backbone | None) -> bool:
    """Makes the datamodule, and says whether that was possible."""
    from regraft.data.datamodule import ImageDataModule

    now = mending.config
    mending.know_types("data", hints_of(ImageDataModule))
    spec = InputSpec(1) if body is None else body.input_spec
    return mending.attempt("data", lambda: unread_datamodule(now, spec)) is not None


def _num_features(body: Backbone | None) -> int:
    return _ANY_FEATURES if body is None else body.num_features


def _class_counts(config: Config) -> list[int]:
    """Returns training images of each class, for a loss that is tried out before they are known."""
    weights = config["loss"].get("class_weights")
    return [1] * (len(weights) if isinstance(weights, list) and len(weights) > 1 else _ANY_CLASSES)


def _attempt_training(
    mending: Mending, body: Backbone | None, made_head: nn.Module, strategy: FreezingStrategy | None
) -> tuple[list[StageRow] | None, room.Sizes | None]:
    """Makes optimizer and schedule; returns what trains, and how much that is."""
    now = mending.config
    parts = Backbone({"stage": nn.Linear(1, 1)}, 1, InputSpec(1)) if body is None else body
    made_optimizer = mending.attempt("optimizer", lambda: optimizer(now, parts, made_head))
    if made_optimizer is None:
        return None, None
    total = _any_total_steps(now["trainer"])
    mending.attempt("scheduler", lambda: schedule(now, optimizer(now, parts, made_head), _STEPS_AN_EPOCH, total))
    if body is None or strategy is None:
        return None, None
    groups = optimizer_groups(now, body, made_head)
    rows = stage_rows(groups, body.stage_names, strategy, now["optimizer"]["lr"], now["trainer"]["max_epochs"])
    node = {key: value for key, value in now["optimizer"].items() if key != "decay_norm_and_bias"}
    sizes = room.Sizes(
        sum(row.num_parameters for row in rows),
        sum(row.num_parameters for row in rows if row.lr_by_epoch),
        room.optimizer_states(lambda groups: factory(node, "optimizer")(params=groups)),
    )
    return rows, sizes


def _any_total_steps(node: Config) -> float:
    """Returns the steps of a run whose epochs have `_STEPS_AN_EPOCH`; more than any if trainer.max_steps ends it."""
    if node["max_steps"] != -1:
        return sys.maxsize
    return float("inf") if node["max_epochs"] == -1 else node["max_epochs"] * _STEPS_AN_EPOCH


def _attempt_storing(mending: Mending, body: Backbone, augment: Augment, strategy: FreezingStrategy) -> None:
    mending.attempt("features", lambda: require_storable_if_wanted(mending.config, body, augment, strategy))


def _attempt_room(
    mending: Mending, folder: Path, body: Backbone, rows: list[StageRow], sizes: room.Sizes, made_trainer: Any
) -> None:
    mending.attempt("output_dir", lambda: room.require_disk(folder, sizes))
    spec = body.input_spec
    trained = [row.stage for row in rows if row.lr_by_epoch and row.stage != HEAD]
    # What is below the first stage that trains keeps nothing for the backward pass.
    above = list(body.stage_names)[body.stage_names.index(trained[0]) :] if trained else []
    kept = room.activation_bytes(body, above) if above else 0
    image_bytes = 4 * spec.num_channels * spec.image_size**2 if above else 4 * body.num_features
    device: torch.device = made_trainer.strategy.root_device
    num_processes = made_trainer.num_devices if device.type == "cpu" else 1
    mending.attempt(
        "data",
        lambda: room.require_memory(
            sizes, image_bytes, kept, mending.config["data"]["batch_size"], num_processes, device
        ),
    )
