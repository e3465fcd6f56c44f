"""What is trained: backbone, head, loss and metrics in one module, the data, and the strategy that says what trains.

How each of them is made belongs in the files beside this one.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch.nn.modules.batchnorm import _BatchNorm

from regraft.config.instantiate import Config, require_numbers
from regraft.core.types import Backbone
from regraft.data.from_config import build_datamodule, require_same_data
from regraft.models.build_heads import head_source as find_head_source
from regraft.models.build_heads import load_head
from regraft.models.freezing import FreezingStrategy, keeps_statistics
from regraft.models.from_config import build_backbone, build_bare_backbone
from regraft.runs.checkpoint import Checkpoint
from regraft.training import stage_table
from regraft.training.modules import build_module
from regraft.training.optimizers import optimizer_groups
from regraft.training.stage_table import StageRow
from regraft.training.strategies import build_freezing

log = logging.getLogger(__name__)


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
        body, architecture = build_backbone(config["model"], config["trust"]) if made is None else made
    else:
        architecture = checkpoint.architecture
        body = build_bare_backbone(architecture, checkpoint.input_spec)
    require_numbers(config)
    strategy = build_freezing(config, body.stage_names)
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
    has_norms = any(isinstance(module, _BatchNorm) for module in body.modules())
    if is_random and has_norms and keeps_statistics(strategy):
        log.warning(
            "The backbone has random weights, so that the statistics which its BatchNorms keep are those of no data; "
            "use freezing.keeps_statistics=false."
        )
