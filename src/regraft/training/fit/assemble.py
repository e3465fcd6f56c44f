"""The parts of a training, put together once its config has been checked."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from regraft.config.instantiate import Config
from regraft.core.errors import listed
from regraft.core.types import BATCH_NORMS, Backbone
from regraft.data.from_config import build_unread_datamodule, prepare, require_same_data
from regraft.models.freezing import FreezingStrategy, keeps_statistics
from regraft.models.from_config import build_backbone, load_head
from regraft.runs.checkpoint import Checkpoint
from regraft.runs.folder import LAYOUT_VERSION
from regraft.training.closed_form.policy import is_closed_form
from regraft.training.fit.multi_process import needs_processes
from regraft.training.fit.refit import REFIT
from regraft.training.from_config import build_module, optimizer_groups
from regraft.training.preflight.check import Preflight
from regraft.training.preflight.data_checks import require_suitable_data
from regraft.training.stage_table import StageRow, stage_rows

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """The parts of a training; `rows` is the strategy as a table, a row per stage."""

    module: Any
    data: Any
    strategy: FreezingStrategy
    rows: list[StageRow]
    trainer: Any


def assemble(checked: Preflight, checkpoint: Checkpoint | None) -> Parts:
    """Downloads weights and data where they are missing, reads the data and returns a training's parts.

    Args:
        checkpoint: what the run resumes from; its weights replace pretrained ones.

    Raises:
        ConfigError: the data doesn't fit the config, or isn't what the run was started with.
    """
    config = checked.config
    if checked.architecture is None:
        checked.backbone = checked.data = None  # so that no two backbones are in memory at once
        checked.backbone, checked.architecture = build_backbone(config)
        checked.data = build_unread_datamodule(config, checked.backbone.input_spec, checked.head_source)
    body, data, strategy = checked.backbone, checked.data, checked.strategy
    assert body is not None, "the config has no errors"
    assert strategy is not None, "the config has no errors"
    prepare(data)
    require_suitable_data(checked)
    if checkpoint is not None:
        require_same_data(data, checkpoint)
    body.input_spec = data.input_spec
    body.checkpoints_activations = checked.checkpoints_activations
    if body.checkpoints_activations and config["trainer"].get("checkpoint_activations", "auto") == "auto":
        log.info("Memory would lack, so the backward pass computes activations again (trainer.checkpoint_activations).")
    if not data.has_val:
        nouns = data.input_spec.nouns
        checked.trainer.limit_val_batches = 0
        if checked.refit is not None:
            log.info("Fitting again on all %s, validation included: %d epochs.", nouns, checked.refit["num_epochs"])
        elif is_closed_form(config):
            log.info("No %s are held out for validation: the head is cross-validated on the training %s.", nouns, nouns)
        else:
            log.info("There is no validation split, so no best checkpoint is kept; the last epoch is tested.")
    record = _record(checked.recorded or config, checked.architecture, data)
    if checked.refit is not None:
        record[REFIT] = checked.refit
    module = build_module(config, body, data.target_summary, record)
    module.sample_loss.weights, module.sample_loss.groups = data.sample_weights, data.group_numbers
    if checked.head_source is not None:
        load_head(module.head, checked.head_source)
        _warn_of_seen_validation(checked.head_source, data)
    groups = optimizer_groups(config, module.backbone, module.head)
    rows = stage_rows(
        groups, body.has_parameters, strategy, config["optimizer"].get("lr", math.nan), config["trainer"]["max_epochs"]
    )
    if checkpoint is None:
        _warn_of_random_weights(config, body, strategy, rows)
        _warn_of_own_statistics(config, body, strategy, rows)
    return Parts(module, data, strategy, rows, checked.trainer)


def _record(config: Config, architecture: Config, data: Any) -> Config:
    """Returns the record from which each checkpoint of a run can be used on its own."""
    targets = data.target_summary
    return {
        "config": config,
        "layout": LAYOUT_VERSION,
        "architecture": architecture,
        "input_spec": data.input_spec.to_dict(),
        "class_names": list(data.class_names),
        "class_counts": list(targets.counts),
        "task": {
            "name": data.task.name,
            "unit": data.unit,
            "positive": data.positive,
            "num_samples": targets.num_samples,
            "mean": list(targets.mean),
            "std": list(targets.std),
        },
        "fingerprint": data.fingerprint,
    }


def _warn_of_seen_validation(head_source: Checkpoint, data: Any) -> None:
    """Warns of a head that was fitted on the images that validate it now."""
    is_same_data = head_source.fingerprint == data.fingerprint
    if data.has_val and is_same_data and head_source.config["data"].get("refit"):
        log.warning(
            "The head of head_from has been fitted on all %s, those of validation included, so the val/ figures say "
            "little about others; with data.refit=false in its run it leaves them out.",
            data.input_spec.nouns,
        )


def _warn_of_random_weights(
    config: Config, body: Backbone, strategy: FreezingStrategy, rows: Sequence[StageRow]
) -> None:
    if config["model"].get("weights", "") is not None:
        return
    known = [] if config["model"].get("vectors") is None else ["embeddings"]  # word vectors of a file
    waiting = [row.stage for row in rows if row.trains_from_epoch is None and row.num_parameters]
    if random := [stage for stage in waiting if stage not in known]:
        message = "These stages have random weights and never train: %s. Use freezing=none to train them."
        log.warning(message, ", ".join(random))
    if keeps_statistics(strategy) and any(isinstance(module, BATCH_NORMS) for module in body.modules()):
        log.warning(
            "The backbone has random weights, so that the statistics which its BatchNorms keep are those of no data; "
            "use freezing.keeps_statistics=false."
        )


def _warn_of_own_statistics(
    config: Config, body: Backbone, strategy: FreezingStrategy, rows: Sequence[StageRow]
) -> None:
    """Warns of BatchNorms that train on the samples of one of several processes, of which each has few."""
    trainer = config["trainer"]
    if not needs_processes(trainer) or trainer.get("sync_batchnorm") or keeps_statistics(strategy):
        return
    trained = [row.stage for row in rows if row.lr_by_epoch and row.stage in body.stages]
    norms = [name for name in trained if any(isinstance(each, BATCH_NORMS) for each in body.stages[name].modules())]
    if norms:
        log.warning(
            "The BatchNorms of %s normalise by the %d samples of one process; trainer.sync_batchnorm=true makes them "
            "take those of all processes, on GPUs.",
            *(listed(norms), config["data"]["batch_size"]),
        )
