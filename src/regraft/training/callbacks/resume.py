"""What a checkpoint holds, and a resumed run takes from it, besides Lightning's own."""

from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger

from regraft.core.lightning_internals import complete_resumed_epoch, is_epoch_ending, logged_step

_HISTORY = "history"
_SHOULD_STOP = "should_stop"


class EpochEnd(pl.Callback):
    """Has a run of a given number of steps go on after the epoch that its checkpoint ended, as one of epochs does.

    Lightning would end that epoch a second time, and deal the samples of the one after the next. It must come first.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lets the loops know that nothing is left of the epoch."""
        complete_resumed_epoch(trainer)


class EarlyStop(pl.Callback):
    """Remembers that a run was stopped early, which Lightning forgets.

    A run that is resumed with other epochs or callbacks may go on.
    """

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds whether training is to stop."""
        checkpoint[_SHOULD_STOP] = trainer.should_stop

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Stops again, if nothing has changed that it hung on."""
        configs = [hparams.get("config", {}) for hparams in (pl_module.hparams, checkpoint.get("hyper_parameters", {}))]
        now, then = ((config.get("trainer", {}).get("max_epochs"), config.get("callbacks")) for config in configs)
        trainer.should_stop = bool(checkpoint.get(_SHOULD_STOP)) and now == then


class History(pl.Callback):
    """Keeps the rows of metrics.csv in each checkpoint.

    The file is written after the checkpoint: of a run that is killed in between it lacks the last epoch.

    Args:
        written: gives the rows that the file holds by now.
    """

    def __init__(self, written: Callable[[], list[dict[str, Any]]]) -> None:
        self._written = written

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds the rows so far, and at an epoch's end the one that Lightning is about to log."""
        logger = next((logger for logger in trainer.loggers if isinstance(logger, CSVLogger)), None)
        if logger is None or not trainer.is_global_zero:
            return
        rows = [*self._written(), *map(dict, logger.experiment.metrics)]
        if is_epoch_ending(trainer):
            logged = {key: float(value) for key, value in trainer.logged_metrics.items() if not key.startswith("val/")}
            rows.append(logged | {"epoch": trainer.current_epoch, "step": logged_step(trainer)})
        checkpoint[_HISTORY] = rows


def take_up_history(loggers: Sequence[Any], rows: Sequence[dict[str, Any]]) -> None:
    """Hands rows to the CSV logger, which would otherwise start metrics.csv anew."""
    for logger in loggers:
        if isinstance(logger, CSVLogger):
            logger.experiment.metrics.extend(dict(row) for row in rows)


def history_of(content: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Returns the rows that a checkpoint holds, None if it is one of before they were kept."""
    return content.get(_HISTORY)


class StartAfresh(pl.Callback):
    """Leaves out what is asked for when a checkpoint is restored.

    Args:
        without: from a checkpoint's content to what is restored.
        start_schedule_at: is told the step at which a schedule starts afresh.
    """

    def __init__(
        self, without: Callable[[dict[str, Any]], dict[str, Any]], start_schedule_at: Callable[[int], None]
    ) -> None:
        self._without = without
        self._start_schedule_at = start_schedule_at

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Changes the checkpoint before Lightning hands its parts out."""
        checkpoint.update(self._without(checkpoint))
        if not checkpoint["lr_schedulers"]:
            self._start_schedule_at(checkpoint["global_step"])
