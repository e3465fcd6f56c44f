"""What is trained: backbone, head, loss and metrics in one module, the data, and the strategy that says what trains."""

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from hydra.utils import get_object
from torch import nn

from regraft.build.targets import Config, checked_call, factory, require_numbers
from regraft.checkpoints.reading import Checkpoint
from regraft.checkpoints.reading import read as read_checkpoint
from regraft.contracts import Backbone, InputSpec
from regraft.freezing import table
from regraft.freezing.phases import phases
from regraft.freezing.strategies import FreezingStrategy
from regraft.freezing.table import StageRow
from regraft.optim import parameter_groups
from regraft.runs import find_checkpoint
from regraft.seeding import derive_seed
from regraft.trust import require_known_targets

log = logging.getLogger(__name__)

_LATER_KEYS = {"cache": "off"}
"""Of the section `data`, which runs of older versions lack."""


def backbone(model: Config, trust: Sequence[str]) -> tuple[Backbone, Config]:
    """Returns the backbone and its architecture: the config that builds it again, without weights.

    Args:
        model: the config's section.
        trust: further modules whose classes an earlier run's checkpoint may name.

    Raises:
        ValueError: unknown name, weights that don't match; OSError: no file, no network.
    """
    architecture = model
    make = factory(model, "model")
    if "construct" in inspect.signature(get_object(model["_target_"])).parameters:

        def construct(found: Mapping[str, Any]) -> Backbone:
            nonlocal architecture
            architecture = dict(found)
            require_known_targets(architecture, trust, str(model.get("path")))
            return bare_backbone(architecture)

        make = partial(make, construct=construct)
    built: Backbone = make()
    size = {"image_size": built.input_spec.image_size, "num_channels": built.input_spec.num_channels}
    return built, architecture | {"weights": None} | size


def bare_backbone(architecture: Config, input_spec: InputSpec | None = None) -> Backbone:
    """Returns a backbone with random weights, for a checkpoint to fill."""
    built: Backbone = factory(architecture, "model")()
    if input_spec is not None:
        built.input_spec = input_spec
    return built


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
    made: tuple[Backbone, Config] | None = None,
    require_fitting: Callable[[Any, Backbone], None] | None = None,
) -> Parts:
    """Returns a training's parts; mistakes in the model and its freezing are said before data is read.

    Args:
        config: the resolved config.
        checkpoint: what the run goes on from; its weights take the place of pretrained ones.
        made: the backbone and its architecture, if they are there already; see `backbone`.
        require_fitting: refuses data, before any of it is decoded, that doesn't go with the config and the backbone.

    Raises:
        ValueError: parts that don't fit, or data that isn't what the run was started with.
    """
    if checkpoint is None:
        body, architecture = backbone(config["model"], config["trust"]) if made is None else made
    else:
        architecture = checkpoint.architecture
        body = bare_backbone(architecture, checkpoint.input_spec)
    require_numbers(config)
    strategy = freezing(config, body.stage_names)
    head_source = None if checkpoint is not None else _head_source(config)
    data = datamodule(config, body.input_spec, checkpoint or head_source)
    if require_fitting is not None:
        require_fitting(data, body)
    if checkpoint is not None:
        _require_same_data(data, checkpoint)
    body.input_spec = data.input_spec
    record = {
        "config": config,
        "architecture": architecture,
        "input_spec": data.input_spec.to_dict(),
        "eval_view": data.eval_view,
        "class_names": list(data.class_names),
        "class_counts": data.class_counts.tolist(),
        "fingerprint": data.fingerprint,
    }
    module = transfer_module(config, body, record["class_counts"], record)
    if head_source is not None:
        _load_head(module.head, head_source)
    # Made anew when training starts; what is wrong with it is to be said before features are computed.
    optimizer(config, module.backbone, module.head)
    groups = optimizer_groups(config, module.backbone, module.head)
    base_rate = config["optimizer"]["lr"]
    rows = table.stage_rows(groups, body.stage_names, strategy, base_rate, config["trainer"]["max_epochs"])
    waiting = [row.stage for row in rows if row.trains_from_epoch is None and row.num_parameters]
    if checkpoint is None and waiting and "weights" in config["model"] and config["model"]["weights"] is None:
        log.warning("These stages have random weights and never train: %s.", ", ".join(waiting))
    return Parts(module, data, strategy, rows)


def freezing(config: Config, stage_names: tuple[str, ...]) -> FreezingStrategy:
    """Returns the strategy, having asked it about every epoch, so that a misnamed stage is said before data is read."""
    strategy = unasked_freezing(config)
    phases(strategy, stage_names, config["trainer"]["max_epochs"])
    return strategy


def unasked_freezing(config: Config) -> FreezingStrategy:
    """Returns the strategy, which may still not fit the backbone's stages, or the length of the run."""
    require_length(config)
    strategy: FreezingStrategy = factory(config["freezing"], "freezing")()
    return strategy


def require_length(config: Config) -> None:
    """Checks how many epochs the run has."""
    max_epochs = config["trainer"]["max_epochs"]
    if not isinstance(max_epochs, int) or isinstance(max_epochs, bool) or not (max_epochs >= 1 or max_epochs == -1):
        raise ValueError(f"trainer.max_epochs: got {max_epochs!r}; allowed: 1 or more, or -1 for no limit.")


def datamodule(config: Config, input_spec: InputSpec, trained: Checkpoint | None = None) -> Any:
    """Returns the prepared datamodule: data read, splits made, classes known.

    Args:
        config: the resolved config.
        input_spec: what the backbone wants.
        trained: a run's, whose classes the data must have; they are put in its order.

    Raises:
        ValueError: the data can't be read or split as asked, or has other classes.
    """
    module = unread_datamodule(config, input_spec, trained)
    module.prepare_data()
    module.setup("fit")
    return module


def unread_datamodule(config: Config, input_spec: InputSpec, trained: Checkpoint | None = None) -> Any:
    """Returns the datamodule, its data not looked for yet; see `datamodule`."""
    from regraft.data.class_order import InOrderOf
    from regraft.data.datamodule import ImageDataModule

    ours = inspect.signature(ImageDataModule).parameters
    node = _LATER_KEYS | config["data"]
    lacking = [key for key in ours if key not in (*node, "source", "input_spec", "augment", "seed")]
    if lacking:
        raise ValueError(
            f"data: it lacks {', '.join(lacking)}. A data config starts with `defaults: [_common, _self_]`, "
            f"which brings them."
        )
    own = [key for key in node if key in ours]
    source = factory({key: value for key, value in node.items() if key not in ours}, "data", own)()
    if trained is not None:
        source = InOrderOf(source, trained.class_names, str(trained.path))
    options = {key: value for key, value in node.items() if key in ours}
    make = checked_call(ImageDataModule, "data", options)
    return make(
        source=source, input_spec=input_spec, augment=factory(config["augment"], "augment")(), seed=config["seed"]
    )


def head(config: Config, num_features: int, num_classes: int) -> nn.Module:
    """Returns the head on features of (batch, num_features), giving logits of (batch, num_classes).

    Its weights are drawn from the run's seed alone, whatever the backbone drew before.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(config["seed"], "head"))
        made: nn.Module = factory(config["head"], "head")(num_features=num_features, num_classes=num_classes)
    return made


def _require_same_data(data: Any, checkpoint: Checkpoint) -> None:
    if data.fingerprint != checkpoint.fingerprint:
        raise ValueError(
            f"data: these aren't the images and labels that {checkpoint.path} was trained on (fingerprint "
            f"{data.fingerprint[:12]}, the run has {checkpoint.fingerprint[:12]}). A run goes on with its own data; "
            f"name where it lies now with data.root=PATH."
        )


def _head_source(config: Config) -> Checkpoint | None:
    """Returns the checkpoint whose head a run starts with, None if it starts with one of its own."""
    path = config.get("head_from")
    if path is None:
        return None
    return read_checkpoint(find_checkpoint(path, prefer="best", key="head_from"), config["trust"])


def _load_head(head: nn.Module, earlier: Checkpoint) -> None:
    """Fills a head with the weights of an earlier run's, whose classes the data has in the same order.

    Raises:
        ValueError: the run had another head.
    """
    states = earlier.content["state_dict"]
    found = {key.removeprefix("head."): value for key, value in states.items() if key.startswith("head.")}
    wanted = {key: tuple(value.shape) for key, value in head.state_dict().items()}
    shapes = {key: tuple(value.shape) for key, value in found.items()}
    if shapes != wanted:
        raise ValueError(
            f"head_from: the head of {earlier.path} has {shapes}, this run's has {wanted}. Choose the same head=, and "
            f"a model with as many features."
        )
    head.load_state_dict(found)


def loss(config: Config, class_counts: Sequence[int]) -> nn.Module:
    """Returns the loss; `class_counts` are the training images of each class."""
    made: nn.Module = factory(config["loss"], "loss")(num_classes=len(class_counts), class_counts=class_counts)
    return made


def transfer_module(config: Config, backbone: Backbone, class_counts: Sequence[int], record: Config) -> Any:
    """Returns the LightningModule.

    Args:
        config: the resolved config.
        backbone: gives features.
        class_counts: training images of each class; their number is the number of classes.
        record: what makes each of its checkpoints a handle of its own.
    """
    from regraft.module import TransferModule

    num_classes = len(class_counts)
    return TransferModule(
        backbone=backbone,
        head=head(config, backbone.num_features, num_classes),
        loss=loss(config, class_counts),
        num_classes=num_classes,
        make_optimizer=partial(optimizer, config),
        make_scheduler=factory(config["scheduler"], "scheduler"),
        l1=config["penalty"]["l1"],
        l2=config["penalty"]["l2"],
        record=record,
        skips_nan=skips_nan(config),
    )


def skips_nan(config: Config) -> bool:
    """Returns whether a batch whose loss is no number is left out."""
    choice = config["callbacks"].get("nan", "stop")
    if choice not in ("stop", "skip"):
        raise ValueError(f"callbacks.nan: got {choice!r}; allowed: stop, skip.")
    return bool(choice == "skip")


def optimizer(config: Config, backbone: Backbone, head: nn.Module) -> Any:
    """Returns the config's optimizer on named groups."""
    node = {key: value for key, value in config["optimizer"].items() if key != "decay_norm_and_bias"}
    return factory(node, "optimizer")(params=optimizer_groups(config, backbone, head))


def optimizer_groups(config: Config, backbone: Backbone, head: nn.Module) -> list[dict[str, Any]]:
    """Returns the named groups that the config's optimizer works on."""
    node = config["optimizer"]
    return parameter_groups(
        backbone,
        head,
        weight_decay=node.get("weight_decay", 0.0),
        decay_norm_and_bias=node.get("decay_norm_and_bias", False),
    )
