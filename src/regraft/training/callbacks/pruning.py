"""Prunes a run that is less promising than a search's other trials."""

from collections.abc import Mapping

import pytorch_lightning as pl
from torch import Tensor

from regraft.core.errors import UnknownNameError
from regraft.data.findings import counted
from regraft.runs.state import Pruned
from regraft.sweeps.trial_file import TrialFile


class PruneUnpromising(pl.Callback):
    """Reports a validation metric to a search after each epoch, and ends the run if the search prunes it."""

    def __init__(self, trial: TrialFile) -> None:
        self._trial = trial
        self._is_validated = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Notes that there is a new value."""
        self._is_validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reports the epoch, if it was validated."""
        if not self._is_validated:
            return
        self._is_validated = False
        value, epoch = self._value(trainer.callback_metrics), trainer.current_epoch
        # All processes continue, or none.
        should_prune = trainer.is_global_zero and self._trial.should_prune(value, epoch)
        should_prune = trainer.strategy.reduce_boolean_decision(should_prune, all=False)
        if should_prune and epoch + 1 != trainer.max_epochs:
            reached = f"{self._trial.metric} {value:.4f} after {counted(epoch + 1, 'epoch')}"
            raise Pruned(f"{reached} was worse than what other trials had")

    def _value(self, logged: Mapping[str, Tensor]) -> float:
        metric = self._trial.metric
        if metric not in logged:
            names = sorted(name for name in logged if name.startswith("val/"))
            raise UnknownNameError("sweep.metrics", "metric", metric, names)
        return float(logged[metric])
