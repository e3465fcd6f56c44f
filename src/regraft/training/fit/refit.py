"""The second fit of a run in steps with `data.refit`: on all images, for the epochs that validation has chosen.

The first fit holds validation images out, as any run does, and its figures are what the run reports for validation.
"""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

from regraft.config.instantiate import Config
from regraft.core.errors import ConfigError
from regraft.runs.checkpoint import Checkpoint
from regraft.runs.checkpoint_io import CheckpointFiles, write
from regraft.runs.folder import Run
from regraft.training.callbacks.checkpoint import BestCheckpoint
from regraft.training.closed_form.policy import is_closed_form
from regraft.training.fit.multi_process import needs_processes

REFIT = "refit"
"""What the first fit has chosen, in the record of the second one's checkpoints and in a run's results."""
VALIDATION = "hold-out before the refit"


def fits_twice(config: Config) -> bool:
    """Whether a run fits a second time; a closed form needs no validation images to choose epochs."""
    return config["data"].get("refit") is True and not is_closed_form(config)


def refit_of(checkpoint: Checkpoint | None) -> dict[str, Any] | None:
    """Returns what the first fit had chosen if a checkpoint is of the second one."""
    return None if checkpoint is None else checkpoint.content["hyper_parameters"].get(REFIT)


def config_of_fit(config: Config, refit: Mapping[str, Any] | None) -> Config:
    """Returns the config of one of the two fits.

    Args:
        refit: what the first fit has chosen; None for that fit.
    """
    if refit is None:
        return config | {"data": config["data"] | {"refit": False}}
    callbacks = {name: node for name, node in config["callbacks"].items() if not _watches_validation(node)}
    return config | {"callbacks": callbacks}


def refit_errors(config: Config) -> list[ConfigError]:
    """Returns why a run can't be fitted twice."""
    reasons = []
    if needs_processes(config["trainer"]):
        reasons.append("a run that is fitted again on all samples takes one process")
    if _watches_validation(config["scheduler"]):
        reasons.append("scheduler.monitor watches validation, which the second fit, on all samples, doesn't have")
    return [ConfigError("data.refit", reason, got=True, fix="Use data.refit=false.") for reason in reasons]


def require_same_length(config: Config, checkpoint: Checkpoint) -> None:
    """Raises ConfigError if a run that is in its second fit, or has ended it, is to become longer or shorter."""
    if refit_of(checkpoint) is None:
        return
    for key in ("max_epochs", "max_steps"):
        old, new = checkpoint.config["trainer"][key], config["trainer"][key]
        if old != new:
            reason = f"the run has chosen its epochs by validation and is fitted again on all samples; it has {old}"
            raise ConfigError(f"trainer.{key}", reason, got=new, fix="Leave it out, or start a new run.")


def chosen(trainer: Any) -> dict[str, Any]:
    """Returns what the first fit has chosen: the number of epochs, and its validation figures, in plain types."""
    best = next((each for each in trainer.callbacks if isinstance(each, BestCheckpoint)), None)
    if best is None or best.kept is None:
        logged = trainer.callback_metrics.items()
        figures = {name: float(value) for name, value in logged if name.startswith("val/")}
        return {"num_epochs": trainer.current_epoch, "figures": figures, "kept": None}
    epoch, step = best.kept
    return {"num_epochs": epoch + 1, "figures": best.figures, "kept": {"epoch": epoch, "step": step}}


def results_of_refit(refit: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a run's results say of both fits."""
    kept = {} if refit["kept"] is None else {"kept": refit["kept"]}
    figures = {"validation": VALIDATION, "cross_validation": refit["figures"]} if refit["figures"] else {}
    return kept | figures | {REFIT: {"num_epochs": refit["num_epochs"]}}


def keep_as_best(run: Run) -> None:
    """Replaces the best checkpoint, of the first fit, by the last one of the second."""
    write(run.best_ckpt, CheckpointFiles().load_checkpoint(run.last_ckpt))


class StopAfter(pl.Callback):
    """Ends training after a number of epochs, of a schedule that may be longer."""

    def __init__(self, num_epochs: int) -> None:
        self._num_epochs = num_epochs

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ends a resumed run that has had all its epochs."""
        trainer.should_stop |= trainer.current_epoch >= self._num_epochs

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ends training at the last epoch's end."""
        trainer.should_stop |= trainer.current_epoch + 1 >= self._num_epochs


def _watches_validation(node: Any) -> bool:
    return isinstance(node, Mapping) and str(node.get("monitor", "")).startswith("val/")
