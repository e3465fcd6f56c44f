"""Signals that end a training: Ctrl-C, preemption, a time limit. The run is saved at the next step, then it ends."""

import logging
import os
import signal
import threading
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from regraft.training.callbacks.checkpoint import LastCheckpoint, can_save_after

log = logging.getLogger(__name__)

DEADLINE_SECONDS = 20
"""After this time a run ends with what it has saved; schedulers kill after 30 s."""

# SIGUSR1 announces a time limit and means the same as SIGTERM; see `startup.take_over_process`.
_EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 143}


class StoppedBySignal(BaseException):
    """A signal ended the training; `is_saved` if last.ckpt holds the step at which it ended."""

    def __init__(self, signum: int, *, is_saved: bool) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum
        self.exit_code = _EXIT_CODES[signal.Signals(signum)]
        self.is_saved = is_saved


class StopOnSignal(Checkpoint):
    """Saves, unless `last` is None, and ends a training after a signal; the second Ctrl-C ends it at once.

    A checkpoint callback, because Lightning runs those last: what other callbacks do after a step is then saved too.
    """

    def __init__(self, last: LastCheckpoint | None) -> None:
        self._last = last
        self._signum: int | None = None
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replaces Lightning's signal handlers: its handler for SIGTERM exits with 0."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._handlers = {signum: signal.signal(signum, self._note) for signum in _EXIT_CODES}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Ends training after this step, if a run can be resumed from it."""
        if self._is_signalled(trainer) and can_save_after(trainer, batch_idx):
            self._stop(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ends training after this epoch."""
        if self._is_signalled(trainer):
            self._stop(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restores the signal handlers; a signal since the last step ends the run now."""
        self._restore_handlers()
        if self._signum is not None:
            raise StoppedBySignal(self._signum, is_saved=self._last is not None)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Restores the signal handlers."""
        self._restore_handlers()

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self._signum == signum == signal.SIGINT:
            os._exit(130)
        if self._signum is not None:
            return
        self._signum = signum
        log.warning("%s: the training ends after this step.", signal.Signals(signum).name)
        # A step, or a validation, may take longer than whoever sent the signal waits.
        self._handlers.setdefault(signal.SIGALRM, signal.signal(signal.SIGALRM, self._give_up))
        signal.alarm(DEADLINE_SECONDS)

    def _give_up(self, signum: int, frame: FrameType | None) -> None:
        assert self._signum is not None, "the alarm is set by a signal"
        raise StoppedBySignal(self._signum, is_saved=False)

    def _is_signalled(self, trainer: pl.Trainer) -> bool:
        is_signalled = self._signum is not None
        if trainer.world_size == 1:
            return is_signalled
        # All processes save, or none: a checkpoint is written together.
        return trainer.strategy.reduce_boolean_decision(is_signalled, all=False)

    def _stop(self, trainer: pl.Trainer) -> None:
        signal.alarm(0)
        if self._last is not None:
            self._last.save(trainer)
        signum = self._signum or signal.SIGTERM
        if trainer.world_size > 1 and trainer.strategy.reduce_boolean_decision(signum == signal.SIGUSR1, all=False):
            signum = signal.SIGUSR1  # which may have reached another process only
        raise StoppedBySignal(signum, is_saved=self._last is not None)

    def _restore_handlers(self) -> None:
        if self._handlers:
            signal.alarm(0)
        for signum, handler in self._handlers.items():
            signal.signal(signum, handler)
        self._handlers = {}
