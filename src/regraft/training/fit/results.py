"""The results of a training: final metrics, what was trained, and the weights that were tested."""

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from regraft.core.atomic import write_atomically
from regraft.data.findings import counted
from regraft.runs.folder import Run
from regraft.training.lightning import interruptible

if TYPE_CHECKING:
    from regraft.training.fit.assemble import Parts

log = logging.getLogger(__name__)


def final_metrics(trainer: Any, parts: "Parts", data: Any, run: Run) -> dict[str, float]:
    """Returns the metrics of the best checkpoint: on test, else on validation, else what training last logged."""
    if not (parts.data.has_test or parts.data.has_val):
        return {name: float(value) for name, value in trainer.callback_metrics.items()}
    checkpoint = next((path for path in (run.best_ckpt, run.last_ckpt) if path.is_file()), None)
    measure = trainer.test if parts.data.has_test else trainer.validate
    if checkpoint is not None and not trainer.fast_dev_run:
        # Not by Lightning, which of an average of the weights would load what it is the average of.
        trainer.strategy.load_model_state_dict(trainer.strategy.load_checkpoint(checkpoint, weights_only=True))
    with interruptible(trainer):
        found = measure(parts.module, datamodule=data, verbose=False)
    # Empty if the trainer's limits leave no batch to measure on.
    return dict(found[0]) if found else {}


def earlier_checkpoint(run: Run, step: int) -> str:
    """Returns a sentence on which checkpoint of a run is from before the step at which its training diverged."""
    from regraft.runs.checkpoint_io import CheckpointFiles, DamagedCheckpointError

    for path in (run.last_ckpt, run.previous_ckpt):
        try:
            saved = CheckpointFiles().load_checkpoint(path)["global_step"] if path.is_file() else step
        except DamagedCheckpointError:
            continue
        if saved < step:
            return f"{path} is from before it, of step {saved}."
    return "No checkpoint had been written before it."


def limit_of(trainer: Any, config: dict[str, Any]) -> str | None:
    """Returns what ended a training before its last epoch, if a limit of time or steps did; None if nothing did."""
    from regraft.training.callbacks.resume import is_time_up

    max_epochs, max_steps, node = trainer.max_epochs, trainer.max_steps, config["trainer"]
    if 0 <= max_epochs <= trainer.current_epoch or trainer.fast_dev_run:
        return None
    of_all = "" if max_epochs == -1 else f" of {max_epochs}"
    after = f"after {trainer.current_epoch}{of_all} epochs"
    if is_time_up(trainer):
        limit = f"trainer.max_time={node['max_time']}" if node.get("max_time") else "a Timer among its callbacks"
        return f"{limit}, {after}"
    # Without a number of epochs, the steps are the run's length.
    return (
        f"trainer.max_steps={max_steps}, {after}" if max_epochs >= 0 and 0 <= max_steps <= trainer.global_step else None
    )


def results_of(trainer: Any, parts: "Parts") -> dict[str, Any]:
    """Returns what was trained, for how long; phases planned beyond the last epoch don't count."""
    from regraft.training.callbacks.checkpoint import BestCheckpoint
    from regraft.training.closed_form.optimizer import ClosedForm
    from regraft.training.initial_head import INITIAL_HEAD

    starts = {row.stage: row.trains_from_epoch for row in parts.rows if row.trains_from_epoch is not None}
    trained = [row for row in parts.rows if starts.get(row.stage, trainer.current_epoch) < trainer.current_epoch]
    waiting = [stage for stage, epoch in starts.items() if epoch >= trainer.current_epoch]
    if waiting and not trainer.fast_dev_run:
        log.warning(
            "The run ended after %s, before these stages were to train: %s.",
            counted(trainer.current_epoch, "epoch"),
            ", ".join(waiting),
        )
    optimizer = trainer.optimizers[0]
    fitted: dict[str, Any] = {}
    if isinstance(optimizer, ClosedForm):
        fitted = {
            "closed_form": optimizer.picks,
            "validation": "hold-out" if parts.data.has_val else optimizer.validation,
        }
        fitted["cross_validation"] = parts.module.cross_validation
    best = next((each for each in trainer.callbacks if isinstance(each, BestCheckpoint)), None)
    if best is not None and best.kept is not None:
        fitted["kept"] = dict(zip(("epoch", "step"), best.kept, strict=True))
    if INITIAL_HEAD in parts.module.hparams:
        fitted[INITIAL_HEAD] = parts.module.hparams[INITIAL_HEAD]
    return fitted | {
        "num_trained_parameters": sum(row.num_parameters for row in trained),
        "num_parameters": sum(parameter.numel() for parameter in parts.module.parameters()),
        "num_epochs": trainer.current_epoch,
        "num_steps": trainer.global_step,
        "stages": [row.stage for row in parts.rows],
        "task": {"name": parts.data.task.name, "unit": parts.data.unit},
        "noun": parts.data.input_spec.kind,
        "num_images": dict(parts.data.sizes),
        "class_counts": {
            split: parts.data.task.counts(parts.data.labels(split), parts.data.num_classes).tolist()
            for split in parts.data.sizes
        },
    }


def write_tensors(module: Any, weights: Mapping[str, Any], run: Run) -> None:
    """Writes the tested weights as safetensors, with what is needed to use them as another run's backbone.

    Args:
        weights: the module's state, whole.
    """
    from regraft.core.tensor_bytes import tensor_bytes

    tensors = {name: tensor.contiguous() for name, tensor in weights.items()}
    keys = ("layout", "architecture", "input_spec", "class_names", "task")
    record = {key: module.hparams[key] for key in keys}
    write_atomically(run.tensors, tensor_bytes(tensors, {key: json.dumps(value) for key, value in record.items()}))
