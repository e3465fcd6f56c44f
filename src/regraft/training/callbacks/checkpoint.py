"""Which checkpoints a training keeps: the best one by a metric, and the last one for going on.

How a file is written belongs in `files`.
"""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from torch import Tensor

from regraft.core.atomic import remove_leftovers
from regraft.core.errors import ConfigError
from regraft.core.lightning_internals import validates_after_batch
from regraft.runs.checkpoint_io import CheckpointFiles, keep_previous, remove_damaged
from regraft.runs.folder import PREVIOUS


class _Share:
    """Bounds the time that writing takes: after each write, and at the start, it is not yet time for the next one.

    Args:
        max_share: of the time that writing may take, in (0, 1].
    """

    def __init__(self, max_share: float) -> None:
        self._max_share = max_share
        self._next = 0.0

    def start(self) -> None:
        """Notes that training starts: less than a second of it isn't worth a write."""
        self._next = time.monotonic() + (1.0 if self._max_share < 1 else 0.0)

    def is_due(self) -> bool:
        return time.monotonic() >= self._next

    def note(self, started: float) -> None:
        """Notes a write that started then and ends now."""
        now = time.monotonic()
        self._next = now + (now - started) * (1 / self._max_share - 1)


class BestCheckpoint(Checkpoint):
    """Keeps the best epoch by a metric, as `<filename>.ckpt`.

    Where epochs are shorter than a write, what is best waits in memory: until a write is due, another checkpoint is
    written, or training ends.

    Args:
        dirpath: where the file goes.
        filename: without its ending.
        monitor: a logged metric, such as `val/acc`.
        mode: `min` if less is better, `max` if more is.
        max_share: of the time that writing may take, in (0, 1]; 1 writes at once.

    Raises:
        ValueError: `mode` or `max_share` is out of range.
    """

    def __init__(self, *, dirpath: str | Path, filename: str, monitor: str, mode: str, max_share: float) -> None:
        _check_share("best", max_share)
        if mode not in ("min", "max"):
            raise ConfigError("callbacks.best.mode", got=mode, allowed="min (less is better), max (more is better)")
        self._path = _file(dirpath, filename)
        self._monitor = monitor
        self._mode = mode
        self._share = _Share(max_share)
        self._best = {"score": math.nan, "epoch": -1, "step": -1}

    @property
    def state_key(self) -> str:
        """Of the callback's state in a checkpoint."""
        return f"BestCheckpoint({self._monitor})"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forgets a best epoch that isn't in this folder, as where a run branches off into one of its own."""
        self._share.start()
        if not self._path.is_file():
            self._best = {"score": math.nan, "epoch": -1, "step": -1}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks at a validation in the middle of an epoch; one at its end is looked at with the epoch."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking and not trainer.is_last_batch:
            self._consider(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks at the epoch's metrics."""
        self._consider(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes what waits."""
        _flush(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Writes what waits."""
        _flush(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Returns which epoch is the best one."""
        return dict(self._best)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes up what was the best one."""
        self._best = dict(state_dict)

    def _consider(self, trainer: pl.Trainer) -> None:
        score: Tensor | None = trainer.callback_metrics.get(self._monitor)
        if score is None or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        value, best = float(score), self._best["score"]
        is_better = value < best if self._mode == "min" else value > best
        if math.isnan(value) or not (is_better or math.isnan(best)):
            return
        self._best = {"score": value, "epoch": trainer.current_epoch, "step": trainer.global_step}
        started = time.monotonic()
        if self._share.is_due():
            trainer.save_checkpoint(self._path)
            self._share.note(started)
        else:
            trainer.save_checkpoint(self._path, storage_options=CheckpointFiles.HOLD)


class LastCheckpoint(Checkpoint):
    """Keeps where the run stands, as `<filename>.ckpt`, and what that held before as `previous.ckpt`.

    At the end of epochs, and between them if asked. Epochs that are over before a write has paid are left out, but not
    the last one: where only a head trains, on stored features, an epoch takes less time than a write.

    Args:
        dirpath: where the files go.
        filename: without its ending.
        every_n_steps: optimizer steps after which it is written, in the middle of epochs too; None for their ends only.
        every_minutes: the same by time.
        max_share: of the time that writing may take at the ends of epochs, in (0, 1]; 1 writes at each. With several
            processes each one is written.
        on_saved: called by the first process after each write; None for nothing.

    Raises:
        ValueError: a value is out of range.
    """

    def __init__(
        self,
        *,
        dirpath: str | Path,
        filename: str,
        every_n_steps: int | None,
        every_minutes: float | None,
        max_share: float,
        on_saved: Callable[[], None] | None = None,
    ) -> None:
        _check_share("checkpoint", max_share)
        _check_interval("every_n_steps", every_n_steps, int)
        _check_interval("every_minutes", every_minutes, int | float)
        self._path = _file(dirpath, filename)
        self._every_n_steps = every_n_steps
        self._every_seconds = math.inf if every_minutes is None else 60 * every_minutes
        self._share = _Share(max_share)
        self._on_saved = on_saved
        self._saved_step = 0
        self._saved_time = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Removes what a killed process has left half written; intervals are counted from here."""
        if trainer.is_global_zero:
            remove_leftovers(self._path.parent)
            remove_damaged(self._path)
        self._share.start()
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Writes in the middle of an epoch, if it is time."""
        if self._is_due(trainer) and can_save_after(trainer, batch_idx):
            self.save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes at the end of an epoch, if it is the last one or if it is time."""
        is_quick = trainer.world_size == 1 and not _is_last_epoch(trainer) and not self._share.is_due()
        if not is_quick or self._is_due(trainer):
            self.save(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        """Writes now; every process calls it."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        started = time.monotonic()
        if trainer.is_global_zero:
            keep_previous(self._path, self._path.with_name(PREVIOUS))
        trainer.save_checkpoint(self._path)
        if trainer.is_global_zero and self._on_saved is not None:
            self._on_saved()
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()
        self._share.note(started)

    def _is_due(self, trainer: pl.Trainer) -> bool:
        every = self._every_n_steps
        is_due = every is not None and trainer.global_step // every > self._saved_step // every
        seconds = time.monotonic() - self._saved_time
        if self._every_seconds < math.inf:
            # Every process goes by the clock of the first one, or they would wait for each other.
            is_due |= bool(trainer.strategy.broadcast(seconds >= self._every_seconds))
        return is_due


def can_save_after(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether a run can go on exactly from a checkpoint that is written when this training batch has ended.

    Not between two batches of one optimizer step, and not where validation comes next, as it does after an epoch's last
    batch: a resumed run would leave it out.
    """
    is_stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
    return is_stepped and not validates_after_batch(trainer) and not trainer.is_last_batch


def _flush(trainer: pl.Trainer) -> None:
    files = trainer.strategy.checkpoint_io
    assert isinstance(files, CheckpointFiles), "build.trainer() gives it to the trainer"
    files.flush()


def _is_last_epoch(trainer: pl.Trainer) -> bool:
    has_all_epochs = trainer.max_epochs is not None and 0 <= trainer.max_epochs <= trainer.current_epoch + 1
    return trainer.should_stop or has_all_epochs or 0 <= trainer.max_steps <= trainer.global_step


def _file(dirpath: str | Path, filename: str) -> Path:
    """Returns a checkpoint's file, which lies in its folder and nowhere else."""
    if not filename or Path(filename).name != filename:
        raise ConfigError("callbacks", f"got filename={filename!r}; allowed: a name without a folder, such as best.")
    return Path(dirpath, f"{filename}.ckpt")


def _check_share(name: str, max_share: float) -> None:
    if not 0 < max_share <= 1:
        raise ConfigError(f"callbacks.{name}.max_share", got=max_share, allowed="above 0, at most 1 (each time)")


def _check_interval(name: str, value: Any, kind: Any) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, kind) or not value > 0):
        raise ConfigError(f"callbacks.checkpoint.{name}", got=value, allowed="a number above 0, or null for never")
