"""The only place where config becomes objects.

Below it nobody sees a config: every object gets plain arguments. What the objects do belongs in their own rooms.
"""

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hydra.utils import get_object, instantiate
from torch import nn

from regraft.checkpoints import Checkpoint, InItsFolder, require_known_targets
from regraft.composition import unknown
from regraft.contracts import Backbone, InputSpec
from regraft.freezing import table
from regraft.freezing.callback import FreezingCallback
from regraft.freezing.strategies import FreezingStrategy, phases
from regraft.freezing.table import StageRow
from regraft.optim import parameter_groups
from regraft.runs import CHECKPOINTS, Run

Config = dict[str, Any]

log = logging.getLogger(__name__)


def factory(node: Mapping[str, Any], section: str) -> Callable[..., Any]:
    """Returns what the node's `_target_` makes, called with the node's keys and whatever the caller adds.

    Raises:
        ValueError: there is no such target, or the node has a key or a type that it doesn't take.
    """
    try:
        target = get_object(node["_target_"])
    except ImportError as error:
        raise ValueError(f"{section}._target_: got {node['_target_']!r}; {error}.") from error
    parameters = inspect.signature(target).parameters
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    for key in node:
        if not takes_any and key not in parameters and not key.startswith("_"):
            raise ValueError(f"{section}.{key}: {unknown('key', key, [name for name in parameters if name != 'self'])}")
    return _checked(instantiate(node, _partial_=True, _convert_="all"), section, {})


def _checked(make: Callable[..., Any], section: str, options: Mapping[str, Any]) -> Callable[..., Any]:
    """Returns `make` with the options given, its complaints of a type put in the user's terms."""

    def checked(*arguments: Any, **given: Any) -> Any:
        try:
            return make(*arguments, **options, **given)
        except TypeError as error:
            keys = {**getattr(make, "keywords", {}), **options}
            shown = ", ".join(f"{key}={value!r}" for key, value in keys.items())
            raise ValueError(
                f"{section}: got {shown}; one of these has a type that it can't have ({error})."
            ) from error
        except ModuleNotFoundError as error:
            extra = f" pip install 'regraft[{error.name}]'." if error.name in ("wandb", "mlflow") else ""
            raise ValueError(f"{section}: {str(error).splitlines()[0]}{extra}") from error

    return checked


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


def parts(config: Config, checkpoint: Checkpoint | None) -> Parts:
    """Returns a training's parts; mistakes in the model and its freezing are said before data is read.

    Args:
        config: the resolved config.
        checkpoint: what the run goes on from; its weights take the place of pretrained ones.

    Raises:
        ValueError: parts that don't fit, or data that isn't what the run was started with.
    """
    if checkpoint is None:
        body, architecture = backbone(config["model"], config["trust"])
    else:
        architecture = checkpoint.architecture
        body = bare_backbone(architecture, checkpoint.input_spec)
    for section, key in (("optimizer", "lr"), ("optimizer", "weight_decay"), ("penalty", "l1"), ("penalty", "l2")):
        value = config[section].get(key, 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{section}.{key}: got {value!r}; it must be a number, such as 1e-3.")
    strategy = freezing(config, body.stage_names)
    data = datamodule(config, body.input_spec)
    if checkpoint is not None and data.fingerprint != checkpoint.fingerprint:
        raise ValueError(
            f"data: these aren't the images and labels that {checkpoint.path} was trained on (fingerprint "
            f"{data.fingerprint[:12]}, the run has {checkpoint.fingerprint[:12]}). A run goes on with its own data; "
            f"name where it lies now with data.root=PATH."
        )
    body.input_spec = data.input_spec
    record = {
        "config": config,
        "architecture": architecture,
        "input_spec": data.input_spec.to_dict(),
        "class_names": list(data.class_names),
        "fingerprint": data.fingerprint,
    }
    module = transfer_module(config, body, data, record)
    groups = _groups(config, module.backbone, module.head)
    base_rate = config["optimizer"]["lr"]
    rows = table.stage_rows(groups, body.stage_names, strategy, base_rate, config["trainer"]["max_epochs"])
    waiting = [row.stage for row in rows if row.trains_from_epoch is None and row.num_parameters]
    if checkpoint is None and waiting and "weights" in config["model"] and config["model"]["weights"] is None:
        log.warning("These stages have random weights and never train: %s.", ", ".join(waiting))
    return Parts(module, data, strategy, rows)


def freezing(config: Config, stage_names: tuple[str, ...]) -> FreezingStrategy:
    """Returns the strategy, having asked it about every epoch, so that a misnamed stage is said before data is read."""
    max_epochs = config["trainer"]["max_epochs"]
    if not isinstance(max_epochs, int) or not (max_epochs >= 1 or max_epochs == -1):
        raise ValueError(f"trainer.max_epochs: got {max_epochs!r}; allowed: 1 or more, or -1 for no limit.")
    strategy: FreezingStrategy = factory(config["freezing"], "freezing")()
    phases(strategy, stage_names, max_epochs)
    return strategy


def datamodule(config: Config, input_spec: InputSpec) -> Any:
    """Returns the prepared datamodule: data read, splits made, classes and statistics known."""
    from regraft.data.datamodule import ImageDataModule

    ours = inspect.signature(ImageDataModule).parameters
    node = config["data"]
    lacking = [key for key in ours if key not in (*node, "source", "input_spec", "augment", "seed")]
    if lacking:
        raise ValueError(
            f"data: it lacks {', '.join(lacking)}. A data config starts with `defaults: [_common, _self_]`, "
            f"which brings them."
        )
    source = factory({key: value for key, value in node.items() if key not in ours}, "data")()
    options = {key: value for key, value in node.items() if key in ours}
    make = _checked(ImageDataModule, "data", options)
    module = make(
        source=source, input_spec=input_spec, augment=factory(config["augment"], "augment")(), seed=config["seed"]
    )
    module.prepare_data()
    module.setup("fit")
    return module


def head(config: Config, num_features: int, num_classes: int) -> nn.Module:
    """Returns the head on features of (batch, num_features), giving logits of (batch, num_classes)."""
    made: nn.Module = factory(config["head"], "head")(num_features=num_features, num_classes=num_classes)
    return made


def transfer_module(config: Config, backbone: Backbone, data: Any, record: Config) -> Any:
    """Returns the LightningModule.

    Args:
        config: the resolved config.
        backbone: gives features.
        data: the prepared datamodule.
        record: what makes each of its checkpoints a handle of its own.
    """
    from regraft.module import TransferModule

    return TransferModule(
        backbone=backbone,
        head=head(config, backbone.num_features, data.num_classes),
        loss=factory(config["loss"], "loss")(num_classes=data.num_classes, class_counts=data.class_counts.tolist()),
        num_classes=data.num_classes,
        make_optimizer=partial(_optimizer, config),
        make_scheduler=factory(config["scheduler"], "scheduler"),
        l1=config["penalty"]["l1"],
        l2=config["penalty"]["l2"],
        record=record,
    )


def _optimizer(config: Config, backbone: Backbone, head: nn.Module) -> Any:
    node = {key: value for key, value in config["optimizer"].items() if key != "decay_norm_and_bias"}
    return factory(node, "optimizer")(params=_groups(config, backbone, head))


def _groups(config: Config, backbone: Backbone, head: nn.Module) -> list[dict[str, Any]]:
    node = config["optimizer"]
    return parameter_groups(
        backbone,
        head,
        weight_decay=node.get("weight_decay", 0.0),
        decay_norm_and_bias=node.get("decay_norm_and_bias", False),
    )


def callbacks(config: Config, run: Run, parts: Parts, *, goes_on: bool) -> list[Any]:
    """Returns the freezing callback and those of the config; checkpoints go to the run's folder, a null is left out.

    Args:
        config: the resolved config.
        run: the run's folder.
        parts: what is trained.
        goes_on: whether the run is resumed.

    Raises:
        ValueError: something watches a validation metric, and there is no validation split.
    """
    _require_watchable(config["scheduler"], "scheduler", parts)
    made: list[Any] = [FreezingCallback(parts.strategy)]
    for name, node in config["callbacks"].items():
        if node is None:
            continue
        takes_folder = "dirpath" in inspect.signature(get_object(node["_target_"])).parameters
        if takes_folder and str(node.get("monitor")).startswith("val/") and not parts.data.has_val:
            log.info("There is no validation split, so callbacks.%s keeps nothing; the last epoch is tested.", name)
            continue
        _require_watchable(node, f"callbacks.{name}", parts)
        make = factory(node, f"callbacks.{name}")
        made.append(make(dirpath=run.path / CHECKPOINTS) if takes_folder else make())
    if goes_on and Path(config["ckpt_path"]).parent == run.path / CHECKPOINTS:
        made.append(InItsFolder())
    return made


def _require_watchable(node: Config, section: str, parts: Parts) -> None:
    """Checks that what a section watches is logged, and that it watches it the right way up."""
    monitor = node.get("monitor")
    if monitor is None:
        return
    known = parts.module.metric_names
    if monitor not in known and not monitor.startswith("lr/"):
        raise ValueError(f"{section}.monitor: {unknown('metric', monitor, known)}")
    if monitor.startswith("val/") and not parts.data.has_val:
        raise ValueError(
            f"{section}.monitor: got {monitor!r}, but there is no validation split. Give one (data.val_fraction=0.1)."
        )
    if monitor.endswith("/loss") != (node["mode"] == "min"):
        right = "min" if monitor.endswith("/loss") else "max"
        raise ValueError(f"{section}.mode: got {node['mode']!r} for {monitor}; it must be {right}.")


def loggers(config: Config, run: Run) -> list[Any]:
    """Returns the loggers of the config, each writing into the run's folder."""
    nodes = {name: node for name, node in config["logger"].items() if node is not None}
    return [factory(node, f"logger.{name}")(save_dir=str(run.path)) for name, node in nodes.items()]


def trainer(config: Config, *, has_val: bool, **given: Any) -> Any:
    """Returns Lightning's Trainer; samplers are dealt to devices by the datamodule, not by Lightning.

    Raises:
        ValueError: Lightning refuses the combination, or the machine lacks the accelerator.
    """
    from pytorch_lightning.utilities.exceptions import MisconfigurationException

    node = config["trainer"]
    if node["num_nodes"] != 1:
        raise ValueError(f"trainer.num_nodes: got {node['num_nodes']}; several machines aren't supported yet.")
    make = factory(node | ({} if has_val else {"limit_val_batches": 0}), "trainer")
    try:
        return make(use_distributed_sampler=False, enable_model_summary=False, **given)
    except MisconfigurationException as error:
        raise ValueError(f"trainer: {' '.join(str(error).split())} For the CPU: trainer=cpu.") from error
