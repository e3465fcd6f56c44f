"""What a checkpoint holds, and a resumed run takes from it, besides Lightning's own."""

from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger

_HISTORY = "history"


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
        progress = trainer.fit_loop.epoch_progress.current
        if progress.processed > progress.completed:  # type: ignore[attr-defined]
            step = trainer.fit_loop.epoch_loop._batches_that_stepped - 1
            logged = {key: float(value) for key, value in trainer.logged_metrics.items() if not key.startswith("val/")}
            rows.append(logged | {"epoch": trainer.current_epoch, "step": step})
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
    """

    def __init__(self, without: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._without = without

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Changes the checkpoint before Lightning hands its parts out."""
        checkpoint.update(self._without(checkpoint))
