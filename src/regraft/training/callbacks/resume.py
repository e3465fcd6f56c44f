"""State that checkpoints hold besides Lightning's own, and that a resumed run restores."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.loggers import CSVLogger

from regraft.core.lightning_internals import complete_resumed_epoch, is_epoch_ending, logged_step
from regraft.runs.folder import Run
from regraft.training.fit.refit import REFIT

_HISTORY = "history"
_SHOULD_STOP = "should_stop"


class EpochEnd(pl.Callback):
    """Completes the epoch of a checkpoint that was written at its end, in runs that are limited by steps.

    Lightning would end that epoch a second time and skip the samples of the next one. Must be the first callback.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Marks the epoch as complete."""
        complete_resumed_epoch(trainer)


class EarlyStop(pl.Callback):
    """Remembers that a run was stopped early, which Lightning does not.

    A run that is resumed with another number of epochs or other callbacks continues. So does one that a limit of time
    ended, with as much time again.
    """

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds whether training is to stop."""
        checkpoint[_SHOULD_STOP] = trainer.should_stop and not is_time_up(trainer)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Stops again, if neither the number of epochs nor the callbacks have changed; clears timers that are up."""
        states = checkpoint["callbacks"]
        for timer, duration in _timers(trainer):
            elapsed = states.get(timer.state_key, {}).get("time_elapsed", {}).get("train", 0)
            if elapsed >= duration:
                states.pop(timer.state_key, None)
        configs = [hparams.get("config", {}) for hparams in (pl_module.hparams, checkpoint.get("hyper_parameters", {}))]
        now, then = ((config.get("trainer", {}).get("max_epochs"), config.get("callbacks")) for config in configs)
        trainer.should_stop = bool(checkpoint.get(_SHOULD_STOP)) and now == then


def is_time_up(trainer: pl.Trainer) -> bool:
    """Whether a limit of time ends a training."""
    return any(remaining <= 0 for _, remaining in _timers(trainer))


def _timers(trainer: pl.Trainer) -> list[tuple[Timer, float]]:
    """Returns the callbacks with a limit of time, that of `trainer.max_time` among them, and the seconds left."""
    timers = [each for each in trainer.callbacks if isinstance(each, Timer)]  # type: ignore[attr-defined]
    return [(timer, left) for timer in timers if (left := timer.time_remaining()) is not None]


class History(pl.Callback):
    """Keeps the rows of metrics.csv in each checkpoint.

    The file is written after the checkpoint, so it lacks the last epoch of a run that is killed in between.

    Args:
        written: returns the rows that the file holds so far.
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
            # The figures of a validation are in the row already.
            earlier = "val/" if trainer.limit_val_batches else ()
            logged = {key: float(value) for key, value in trainer.logged_metrics.items() if not key.startswith(earlier)}
            row = logged | {"epoch": trainer.current_epoch, "step": logged_step(trainer)}
            is_begun = bool(rows) and (rows[-1].get("epoch"), rows[-1].get("step")) == (row["epoch"], row["step"])
            rows.append((rows.pop() | row) if is_begun else row)
        checkpoint[_HISTORY] = rows


def continue_history(loggers: Sequence[Any], run: Run, content: dict[str, Any]) -> None:
    """Passes the rows before a checkpoint to the CSV logger, which would otherwise start metrics.csv from scratch."""
    rows = content.get(_HISTORY)  # None if the run had no CSV logger
    if REFIT in content.get("hyper_parameters", {}):
        rows = run.logged_rows(sys.maxsize)
    for logger in loggers:
        if isinstance(logger, CSVLogger):
            logger.experiment.metrics.extend(
                run.logged_rows(content["global_step"]) if rows is None else map(dict, rows)
            )


class ResetState(pl.Callback):
    """Restores only the part of a checkpoint's content that `without` returns, such as all but the optimizer."""

    def __init__(self, without: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._without = without

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Changes the checkpoint before Lightning restores it."""
        checkpoint.update(self._without(checkpoint))
        if not checkpoint["lr_schedulers"]:
            pl_module.start_schedule_at(checkpoint["global_step"])  # type: ignore[operator]
