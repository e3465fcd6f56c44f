"""When loggers are ended, and the training loss of single steps."""

import math
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger

from regraft.core.errors import require


class KeepLoggersOpen(pl.Callback):
    """Takes the loggers off the trainer before Lightning ends them, which would be before the final test.

    After an error, one of a logger that can't be ended would hide it.
    """

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Takes them off after an error, too."""
        trainer.loggers = []

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Takes them off before Lightning ends them."""
        trainer.loggers = []


class StepLoss(pl.Callback):
    """Logs `train/loss_step`, the loss of every so many steps; not to metrics.csv, which has a row an epoch."""

    def __init__(self, every: Any) -> None:
        require(type(every) is int and every >= 1, "callbacks.loss_every_n_steps", every, "1 or more steps, or null")
        self._every = every
        self._loss: Any = 0.0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Logs the steps of a batch."""
        step = trainer.global_step
        earlier = pl_module.earlier_losses if "steps" in batch else ()
        # Of a part, where gradients are accumulated; a batch that was skipped has none.
        self._loss = self._loss + (outputs["loss"] if outputs else math.nan)
        if (batch_idx + 1) % trainer.accumulate_grad_batches and not trainer.is_last_batch:
            return
        losses = [*earlier, self._loss]
        self._loss = 0.0
        for number, loss in enumerate(losses, step - len(losses) + 1):
            if number % self._every == 0 and math.isfinite(loss):
                for logger in trainer.loggers:
                    if not isinstance(logger, CSVLogger):
                        logger.log_metrics({"train/loss_step": float(loss)}, number - 1)
