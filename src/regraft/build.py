"""The only place where config becomes objects.

Below it nobody sees a config: every object gets plain arguments. What the objects do belongs in their own rooms.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from hydra.utils import get_object, instantiate
from torch import nn

from regraft.composition import unknown
from regraft.contracts import Backbone, InputSpec
from regraft.freezing import table
from regraft.freezing.strategies import FreezingStrategy, phases
from regraft.freezing.table import StageRow
from regraft.optim import parameter_groups
from regraft.runs import CHECKPOINTS, Run

Config = dict[str, Any]


def factory(node: Mapping[str, Any], section: str) -> Callable[..., Any]:
    """Returns what the node's `_target_` makes, called with the node's keys and whatever the caller adds.

    Raises:
        ValueError: the node has a key that the target doesn't take.
    """
    target = get_object(node["_target_"])
    parameters = inspect.signature(target).parameters
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    for key in node:
        if not takes_any and key not in parameters and not key.startswith("_"):
            raise ValueError(f"{section}.{key}: {unknown('key', key, [name for name in parameters if name != 'self'])}")
    made: Callable[..., Any] = instantiate(node, _partial_=True, _convert_="all")
    return made


def backbone(model: Config) -> tuple[Backbone, Config]:
    """Returns the backbone and its architecture: the config that builds it again, without weights.

    Raises:
        ValueError: unknown name, weights that don't match; OSError: no file, no network.
    """
    architecture = model
    make = factory(model, "model")
    if "construct" in inspect.signature(get_object(model["_target_"])).parameters:

        def construct(found: Mapping[str, Any]) -> Backbone:
            nonlocal architecture
            architecture = dict(found)
            return bare_backbone(architecture)

        make = partial(make, construct=construct)
    built: Backbone = make()
    spec = built.input_spec
    return built, architecture | {
        "weights": None,
        "image_size": spec.image_size,
        "num_channels": spec.num_channels,
    }


def bare_backbone(architecture: Config, input_spec: InputSpec | None = None) -> Backbone:
    """Returns a backbone with random weights, for a checkpoint to fill."""
    built: Backbone = factory(architecture, "model")()
    if input_spec is not None:
        built.input_spec = input_spec
    return built


def freezing(config: Config, stage_names: tuple[str, ...]) -> FreezingStrategy:
    """Returns the strategy, having asked it about every epoch, so that a misnamed stage is said before data is read."""
    strategy: FreezingStrategy = factory(config["freezing"], "freezing")()
    phases(strategy, stage_names, config["trainer"]["max_epochs"])
    return strategy


def datamodule(config: Config, input_spec: InputSpec) -> Any:
    """Returns the prepared datamodule: data read, splits made, classes and statistics known."""
    from regraft.data.datamodule import ImageDataModule

    ours = inspect.signature(ImageDataModule).parameters
    node = config["data"]
    source = factory({key: value for key, value in node.items() if key not in ours}, "data")()
    augment = factory(config["augment"], "augment")()
    options = {key: value for key, value in node.items() if key in ours}
    module = ImageDataModule(source=source, input_spec=input_spec, augment=augment, seed=config["seed"], **options)
    module.prepare_data()
    module.setup("fit")
    return module


def head(config: Config, num_features: int, num_classes: int) -> nn.Module:
    """Returns the head on features of (batch, num_features), giving logits of (batch, num_classes)."""
    made: nn.Module = factory(config["head"], "head")(num_features=num_features, num_classes=num_classes)
    return made


def transfer_module(config: Config, backbone: Backbone, architecture: Config, data: Any) -> Any:
    """Returns the LightningModule, with a record that makes each of its checkpoints a handle of its own."""
    from regraft.module import TransferModule

    optimizer_node = {key: value for key, value in config["optimizer"].items() if key != "decay_norm_and_bias"}
    make_optimizer = factory(optimizer_node, "optimizer")
    make_scheduler = factory(config["scheduler"], "scheduler")

    _require_watchable(config["scheduler"].get("monitor"), "scheduler", data.has_val)
    return TransferModule(
        backbone=backbone,
        head=head(config, backbone.num_features, data.num_classes),
        loss=factory(config["loss"], "loss")(num_classes=data.num_classes, class_counts=data.class_counts.tolist()),
        num_classes=data.num_classes,
        make_optimizer=lambda backbone, head: make_optimizer(params=_groups(config, backbone, head)),
        make_scheduler=lambda optimizer, total_steps, steps_per_epoch: make_scheduler(
            optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch
        ),
        l1=config["penalty"]["l1"],
        l2=config["penalty"]["l2"],
        record={
            "config": config,
            "architecture": architecture,
            "input_spec": data.input_spec.to_dict(),
            "class_names": list(data.class_names),
            "fingerprint": data.fingerprint,
        },
    )


def _groups(config: Config, backbone: Backbone, head: nn.Module) -> list[dict[str, Any]]:
    node = config["optimizer"]
    return parameter_groups(
        backbone, head, weight_decay=node["weight_decay"], decay_norm_and_bias=node["decay_norm_and_bias"]
    )


def stage_rows(config: Config, module: Any, strategy: FreezingStrategy) -> list[StageRow]:
    """Returns what trains from when and how fast, a row a stage."""
    groups = _groups(config, module.backbone, module.head)
    stages = module.backbone.stage_names
    return table.stage_rows(groups, stages, strategy, config["optimizer"]["lr"], config["trainer"]["max_epochs"])


def callbacks(config: Config, run: Run, *, has_val: bool) -> list[Any]:
    """Returns the callbacks of the config; checkpoints go to the run's folder, a null one is left out.

    Raises:
        ValueError: a callback watches a validation metric, and there is no validation split.
    """
    made = []
    for name, node in config["callbacks"].items():
        if node is None:
            continue
        _require_watchable(node.get("monitor"), f"callbacks.{name}", has_val)
        make = factory(node, f"callbacks.{name}")
        takes_folder = "dirpath" in inspect.signature(get_object(node["_target_"])).parameters
        made.append(make(dirpath=run.path / CHECKPOINTS) if takes_folder else make())
    return made


def _require_watchable(monitor: str | None, section: str, has_val: bool) -> None:
    if monitor is not None and monitor.startswith("val/") and not has_val:
        raise ValueError(
            f"{section}.monitor: got {monitor!r}, but there is no validation split. "
            f"Give one (data.val_fraction=0.1), or watch what training logs ({section}.monitor=train/loss)."
        )


def loggers(config: Config, run: Run) -> list[Any]:
    """Returns the loggers of the config, each writing into the run's folder."""
    nodes = {name: node for name, node in config["logger"].items() if node is not None}
    return [factory(node, f"logger.{name}")(save_dir=str(run.path)) for name, node in nodes.items()]


def trainer(config: Config, *, has_val: bool, **given: Any) -> Any:
    """Returns Lightning's Trainer; samplers are dealt to devices by the datamodule, not by Lightning."""
    make = factory(config["trainer"] | ({} if has_val else {"limit_val_batches": 0}), "trainer")
    return make(use_distributed_sampler=False, enable_model_summary=False, **given)
