"""What is trained: backbone, head, loss and metrics in one module, the data, and the strategy that says what trains.

How each of them is made belongs in the files beside this one.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from regraft.config.instantiate import Config, factory, require_numbers
from regraft.core.errors import ConfigError
from regraft.core.types import BATCH_NORMS, Backbone
from regraft.data.from_config import build_datamodule, prepare, require_same_data
from regraft.models.freezing import FreezingStrategy, keeps_statistics, phases
from regraft.models.from_config import build_backbone, build_bare_backbone, build_head, load_head
from regraft.models.from_config import head_source as find_head_source
from regraft.runs.checkpoint import Checkpoint
from regraft.runs.folder import LAYOUT
from regraft.training import stage_table
from regraft.training.optim import parameter_groups
from regraft.training.stage_table import StageRow

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Made:
    """What has been built of a config before its data is read.

    Attributes:
        backbone: with its weights, unless the run resumes from a checkpoint.
        architecture: what builds it again.
        data: the datamodule.
        head_source: the checkpoint whose head the run starts with; None if it starts with one of its own.
    """

    backbone: Backbone
    architecture: Config
    data: Any
    head_source: Checkpoint | None


@dataclass(frozen=True)
class Parts:
    """What a training is made of.

    Attributes:
        module: backbone, head, loss and metrics.
        data: the prepared datamodule.
        strategy: what trains when.
        rows: the same as a table, a row a stage.
    """

    module: Any
    data: Any
    strategy: FreezingStrategy
    rows: list[StageRow]


def assemble(
    config: Config,
    checkpoint: Checkpoint | None,
    made: Made | None = None,
    require_fitting: Callable[[Any, Backbone], None] | None = None,
) -> Parts:
    """Returns a training's parts; mistakes in the model and its freezing are said before data is read.

    Args:
        config: the resolved config.
        checkpoint: what the run goes on from; its weights take the place of pretrained ones.
        made: what checking the config has built already.
        require_fitting: refuses data, before any of it is decoded, that doesn't go with the config and the backbone.

    Raises:
        ValueError: parts that don't fit, or data that isn't what the run was started with.
    """
    if made is not None:
        body, architecture = made.backbone, made.architecture
    elif checkpoint is None:
        body, architecture = build_backbone(config["model"], config["trust"])
    else:
        body, architecture = (
            build_bare_backbone(checkpoint.architecture, checkpoint.input_spec),
            checkpoint.architecture,
        )
    require_numbers(config)
    strategy = build_freezing(config, body.stage_names)
    if made is not None:
        head_source, data = made.head_source, made.data
        prepare(data)
    else:
        head_source = None if checkpoint is not None else find_head_source(config)
        data = build_datamodule(config, body.input_spec, checkpoint or head_source)
    if require_fitting is not None:
        require_fitting(data, body)
    if checkpoint is not None:
        require_same_data(data, checkpoint)
    body.input_spec = data.input_spec
    record = _record(config, architecture, data)
    module = build_module(config, body, record["class_counts"], record)
    if head_source is not None:
        load_head(module.head, head_source)
    groups = optimizer_groups(config, module.backbone, module.head)
    base_rate = config["optimizer"]["lr"]
    rows = stage_table.stage_rows(groups, body.stage_names, strategy, base_rate, config["trainer"]["max_epochs"])
    if checkpoint is None:
        _warn_of_random_stages(config, rows)
        _warn_of_empty_statistics(config, body, strategy)
    return Parts(module, data, strategy, rows)


def _record(config: Config, architecture: Config, data: Any) -> Config:
    """Returns what makes each checkpoint of a run a handle of its own."""
    return {
        "config": config,
        "layout": LAYOUT,
        "architecture": architecture,
        "input_spec": data.input_spec.to_dict(),
        "eval_view": data.eval_view,
        "class_names": list(data.class_names),
        "class_counts": data.class_counts.tolist(),
        "fingerprint": data.fingerprint,
    }


def _warn_of_random_stages(config: Config, rows: Sequence[StageRow]) -> None:
    waiting = [row.stage for row in rows if row.trains_from_epoch is None and row.num_parameters]
    if waiting and "weights" in config["model"] and config["model"]["weights"] is None:
        log.warning("These stages have random weights and never train: %s.", ", ".join(waiting))


def _warn_of_empty_statistics(config: Config, body: Backbone, strategy: FreezingStrategy) -> None:
    is_random = "weights" in config["model"] and config["model"]["weights"] is None
    has_norms = any(isinstance(module, BATCH_NORMS) for module in body.modules())
    if is_random and has_norms and keeps_statistics(strategy):
        log.warning(
            "The backbone has random weights, so that the statistics which its BatchNorms keep are those of no data; "
            "use freezing.keeps_statistics=false."
        )


def build_module(config: Config, backbone: Backbone, class_counts: Sequence[int], record: Config) -> Any:
    """Returns the LightningModule.

    Args:
        config: the resolved config.
        backbone: gives features.
        class_counts: training images of each class; their number is the number of classes.
        record: what makes each of its checkpoints a handle of its own.
    """
    from regraft.training.module import TransferModule

    num_classes = len(class_counts)
    return TransferModule(
        backbone=backbone,
        head=build_head(config, backbone.num_features, num_classes),
        loss=build_loss(config, class_counts),
        num_classes=num_classes,
        make_optimizer=partial(build_optimizer, config),
        make_scheduler=factory(config["scheduler"], "scheduler"),
        l1=config["penalty"]["l1"],
        l2=config["penalty"]["l2"],
        record=record,
        skips_nan=skips_nan(config),
    )


def build_loss(config: Config, class_counts: Sequence[int]) -> nn.Module:
    """Returns the loss; `class_counts` are the training images of each class."""
    made: nn.Module = factory(config["loss"], "loss")(num_classes=len(class_counts), class_counts=class_counts)
    return made


def skips_nan(config: Config) -> bool:
    """Returns whether a batch whose loss is not finite is left out."""
    choice = config["callbacks"].get("nan", "stop")
    if choice not in ("stop", "skip"):
        raise ConfigError("callbacks.nan", got=choice, allowed="stop, skip")
    return bool(choice == "skip")


def build_optimizer(config: Config, backbone: Backbone, head: nn.Module) -> Any:
    """Returns the config's optimizer on named groups."""
    return optimizer_factory(config)(params=optimizer_groups(config, backbone, head))


def optimizer_factory(config: Config) -> Callable[..., Any]:
    """Returns what makes the config's optimizer of `params`."""
    # Which parameters decay is said by the groups.
    node = {key: value for key, value in config["optimizer"].items() if key != "decay_norm_and_bias"}
    return factory(node, "optimizer")


def optimizer_groups(config: Config, backbone: Backbone, head: nn.Module) -> list[dict[str, Any]]:
    """Returns the named groups that the config's optimizer works on."""
    node = config["optimizer"]
    return parameter_groups(
        backbone,
        head,
        weight_decay=node.get("weight_decay", 0.0),
        decay_norm_and_bias=node.get("decay_norm_and_bias", False),
    )


def build_freezing(config: Config, stage_names: tuple[str, ...]) -> FreezingStrategy:
    """Returns the strategy, having asked it about every epoch, so that a misnamed stage is said before data is read."""
    strategy = build_strategy(config)
    phases(strategy, stage_names, config["trainer"]["max_epochs"])
    return strategy


def build_strategy(config: Config) -> FreezingStrategy:
    """Returns the strategy, which may still not fit the backbone's stages, or the length of the run."""
    require_length(config)
    strategy: FreezingStrategy = factory(config["freezing"], "freezing")()
    return strategy


def require_length(config: Config) -> None:
    """Checks how many epochs the run has."""
    max_epochs = config["trainer"]["max_epochs"]
    if not isinstance(max_epochs, int) or isinstance(max_epochs, bool) or not (max_epochs >= 1 or max_epochs == -1):
        raise ConfigError("trainer.max_epochs", got=max_epochs, allowed="1 or more, or -1 for no limit")
