"""A progress bar with the number of the epoch, counted from 1, and the time that is left of the whole training."""

import time
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar


class TrainingProgressBar(RichProgressBar):
    """Lightning's bar, whose description is such as `Epoch 24/60, 0:03:12 left`."""

    def __init__(self) -> None:
        super().__init__()
        self._began: float | None = None
        self._seconds_of_epoch: float | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forgets the times of an earlier training."""
        super().on_train_start(trainer, pl_module)
        self._began = self._seconds_of_epoch = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Notes how long the epoch before took, its validation included."""
        now = time.monotonic()
        self._seconds_of_epoch = None if self._began is None else now - self._began
        self._began = now
        super().on_train_epoch_start(trainer, pl_module)
        self._describe(trainer, share=0.0)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts down the time."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self._describe(trainer, share=(batch_idx + 1) / max(1, self.total_train_batches))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Shows what the module has logged of the last epoch, after the bar was drawn at its end."""
        super().on_train_end(trainer, pl_module)
        self.on_train_epoch_end(trainer, pl_module)

    def _describe(self, trainer: pl.Trainer, share: float) -> None:
        if self.progress is not None and self.train_progress_bar_id is not None:
            self.progress.update(self.train_progress_bar_id, description=self.description(trainer, share))

    def description(self, trainer: pl.Trainer, share: float) -> str:
        """Returns the bar's description.

        Args:
            share: of the epoch that is done.
        """
        of_all = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs}"
        left = self._seconds_left(trainer, share)
        time_left = "" if left is None else f", {timedelta(seconds=round(left))} left"
        return f"Epoch {trainer.current_epoch + 1}{of_all}{time_left}"

    def _seconds_left(self, trainer: pl.Trainer, share: float) -> float | None:
        """Returns the seconds until the last epoch ends, at the speed of the last whole epoch, else of this one."""
        if self._began is None or trainer.max_epochs in (None, -1):
            return None
        assert trainer.max_epochs is not None, "an unlimited run was left out"
        seconds = self._seconds_of_epoch
        if seconds is None:
            if not share:
                return None
            seconds = (time.monotonic() - self._began) / share
        epochs = trainer.max_epochs - trainer.current_epoch - share
        if trainer.max_steps > 0:
            steps = max(1.0, trainer.num_training_batches / trainer.accumulate_grad_batches)
            epochs = min(epochs, (trainer.max_steps - trainer.global_step) / steps)
        return max(0.0, epochs * seconds)
