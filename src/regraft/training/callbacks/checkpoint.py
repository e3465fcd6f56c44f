"""The checkpoints that a training keeps: the best one by a metric, and the last one to resume from."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from torch import Tensor

from regraft.core.atomic import remove_leftovers
from regraft.core.errors import ConfigError, require
from regraft.core.lightning_internals import validates_after_batch
from regraft.runs.checkpoint_io import CheckpointFiles, keep_previous, remove_damaged
from regraft.runs.folder import PREVIOUS
from regraft.tasks.metrics import find

log = logging.getLogger(__name__)

_NONE_YET: dict[str, Any] = {
    "score": math.nan,
    "loss": math.nan,
    "epoch": -1,
    "step": -1,
    "highest": -math.inf,
    "figures": {},
}
_FIRST_SECONDS = 5.0
"""Of a training, which aren't worth a write."""


class BestCheckpoint(Checkpoint):
    """Keeps the best epoch by a metric, as `<filename>.ckpt`.

    Of a metric that is better if it is higher, the last epoch is kept that is within `tolerance` standard errors of the
    highest value: on few images the highest one is luck, and a schedule brings the weights to rest at its end. Without
    tolerance, and of other metrics, R² among them, it is the best value, of equal ones that with the lowest `val/loss`.

    Where epochs are too short for a write each, it stays in memory until the last one is written, or training ends.

    Args:
        monitor: a logged metric, such as `val/acc`.
        tolerance: standard errors of a share of the validation images, at least 0.
    """

    def __init__(self, *, dirpath: str | Path, filename: str, monitor: str, mode: str, tolerance: float) -> None:
        require(0 <= tolerance < math.inf, "callbacks.best.tolerance", tolerance, "0 or more standard errors")
        require(mode in ("min", "max"), "callbacks.best.mode", mode, "min (less is better), max (more is better)")
        self._path = _file(dirpath, filename)
        self._monitor = monitor
        self._mode = mode
        self._tolerance = tolerance
        self._best = dict(_NONE_YET)

    @property
    def state_key(self) -> str:
        """Key of the callback's state in a checkpoint."""
        return f"BestCheckpoint({self._monitor})"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forgets the best epoch if its file is not in this folder, as in a run that starts from another run."""
        # One answer for all processes, which write checkpoints together.
        if not trainer.strategy.broadcast(self._path.is_file()):
            self._best = dict(_NONE_YET)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Considers a validation in the middle of an epoch."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking and not trainer.is_last_batch:
            self._consider(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Considers the metrics of the epoch."""
        self._consider(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes a checkpoint that is held in memory."""
        _flush(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Writes a checkpoint that is held in memory; the error that ended training counts, not that of a full disk."""
        try:
            _flush(trainer)
        except OSError as error:
            log.warning("%s can't be written: %s", self._path, error)

    @property
    def kept(self) -> tuple[int, int] | None:
        """The epoch and the number of steps of the weights that are kept; None if there are none."""
        return None if self._best["epoch"] < 0 else (int(self._best["epoch"]), int(self._best["step"]))

    @property
    def figures(self) -> dict[str, float]:
        """The validation figures of the weights that are kept."""
        return dict(self._best["figures"])

    def state_dict(self) -> dict[str, Any]:
        """Returns the best score with its epoch and step."""
        return dict(self._best)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restores the best score with its epoch and step."""
        self._best = dict(state_dict)

    def _consider(self, trainer: pl.Trainer) -> None:
        score: Tensor | None = trainer.callback_metrics.get(self._monitor)
        if score is None or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        value, best = float(score), self._best["score"]
        if not math.isfinite(value):
            return
        loss = float(trainer.callback_metrics.get("val/loss", math.nan))
        highest = max(value, self._best["highest"])
        margin = self._margin(highest, trainer)
        if margin > 0:
            is_better = value >= highest - margin
        else:
            is_better = value < best if self._mode == "min" else value > best
            is_better |= value == best and loss < self._best["loss"]
        if not (is_better or math.isnan(best)):
            return
        logged = trainer.callback_metrics.items()
        figures = {name: float(number) for name, number in logged if name.startswith("val/")}
        place = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        self._best = {"score": value, "loss": loss, "highest": highest, "figures": figures, **place}
        last = next((each for each in trainer.checkpoint_callbacks if isinstance(each, LastCheckpoint)), None)
        is_held = last is None or last.is_early(trainer)
        started = time.monotonic()
        trainer.save_checkpoint(self._path, storage_options=CheckpointFiles.HOLD if is_held else None)
        if last is not None:
            last.count_seconds(time.monotonic() - started)

    def _margin(self, highest: float, trainer: pl.Trainer) -> float:
        """Returns by how much a value may be below the highest one for its epoch to be kept."""
        num_images = getattr(getattr(trainer, "datamodule", None), "sizes", {}).get("val", 0)
        metric = find(self._monitor)
        is_share = metric is None or metric.is_share
        if self._mode == "min" or not num_images or not 0 <= highest <= 1 or not is_share:
            return 0.0
        # With one image more right and one more wrong, so that a share of 1 has an error, too.
        share = (highest * num_images + 1) / (num_images + 2)
        return self._tolerance * math.sqrt(share * (1 - share) / num_images)


class LastCheckpoint(Checkpoint):
    """Saves the state of the run as `<filename>.ckpt`, and keeps the file before it as `previous.ckpt`.

    It is written at the end of epochs, and within them on request. When epochs are shorter than a write, as with a head
    on stored features, some are left out, but never the last one.

    Args:
        every_n_steps: also write after this many optimizer steps, within epochs too; None for the ends of epochs only.
        every_minutes: also write after this many minutes.
        max_share: largest share of the time to spend on writing at the ends of epochs, that of the best checkpoint
            included, in (0, 1]; 1 writes at each. With several processes each one is written.

    Attributes:
        on_saved: called by the first process after each write; None to call nothing.
    """

    def __init__(
        self,
        *,
        dirpath: str | Path,
        filename: str,
        every_n_steps: int | None,
        every_minutes: float | None,
        max_share: float,
    ) -> None:
        require(0 < max_share <= 1, "callbacks.checkpoint.max_share", max_share, "above 0, at most 1 (each time)")
        _check_interval("every_n_steps", every_n_steps, int)
        _check_interval("every_minutes", every_minutes, int | float)
        self._path = _file(dirpath, filename)
        self._every_n_steps = every_n_steps
        self._every_seconds = math.inf if every_minutes is None else 60 * every_minutes
        self._max_share = max_share
        self._next_time = self._other_seconds = 0.0
        self.on_saved: Callable[[], None] | None = None
        self._saved_step = 0
        self._saved_time = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Removes files that a killed process left half written; intervals count from here."""
        if trainer.is_global_zero:
            remove_leftovers(self._path.parent)
            remove_damaged(self._path)
        self._next_time = time.monotonic() + (_FIRST_SECONDS if self._max_share < 1 else 0.0)
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Writes within an epoch, if it is time."""
        if self._is_due(trainer) and can_save_after(trainer, batch_idx):
            self.save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes at the end of an epoch, if it is the last one or if it is time."""
        if _is_last_epoch(trainer) or not self.is_early(trainer) or self._is_due(trainer):
            self.save(trainer)

    def is_early(self, trainer: pl.Trainer) -> bool:
        """Whether a write at the end of an epoch would take more than its share of the time."""
        return trainer.world_size == 1 and time.monotonic() < self._next_time

    def count_seconds(self, seconds: float) -> None:
        """Counts the seconds that another checkpoint took towards the share of the time to spend."""
        self._other_seconds += seconds

    def save(self, trainer: pl.Trainer) -> None:
        """Writes now; every process calls it."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        started = time.monotonic()
        if trainer.is_global_zero:
            keep_previous(self._path, self._path.with_name(PREVIOUS))
        trainer.save_checkpoint(self._path)
        if trainer.is_global_zero and self.on_saved is not None:
            self.on_saved()
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()
        seconds = self._saved_time - started + self._other_seconds
        self._next_time, self._other_seconds = self._saved_time + seconds * (1 / self._max_share - 1), 0.0

    def _is_due(self, trainer: pl.Trainer) -> bool:
        every = self._every_n_steps
        is_due = every is not None and trainer.global_step // every > self._saved_step // every
        seconds = time.monotonic() - self._saved_time
        if self._every_seconds < math.inf:
            # Every process goes by the clock of the first one, or they would wait for each other.
            is_due |= bool(trainer.strategy.broadcast(seconds >= self._every_seconds))
        return is_due


def can_save_after(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether a run can be resumed exactly from a checkpoint written after this training batch.

    Not between the batches of one optimizer step, and not right before a validation, which a resumed run would skip.
    """
    is_stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
    return is_stepped and not validates_after_batch(trainer) and not trainer.is_last_batch


def _flush(trainer: pl.Trainer) -> None:
    files = trainer.strategy.checkpoint_io
    assert isinstance(files, CheckpointFiles), "build_trainer passes it to the trainer"
    files.flush()


def _is_last_epoch(trainer: pl.Trainer) -> bool:
    has_all_epochs = trainer.max_epochs is not None and 0 <= trainer.max_epochs <= trainer.current_epoch + 1
    return trainer.should_stop or has_all_epochs or 0 <= trainer.max_steps <= trainer.global_step


def _file(dirpath: str | Path, filename: str) -> Path:
    if not filename or Path(filename).name != filename:
        raise ConfigError("callbacks", "a checkpoint stays in its folder", got=filename, allowed="a name such as best")
    return Path(dirpath, f"{filename}.ckpt")


def _check_interval(name: str, value: Any, kind: Any) -> None:
    is_valid = value is None or (isinstance(value, kind) and not isinstance(value, bool) and value > 0)
    require(is_valid, f"callbacks.checkpoint.{name}", value, "a number above 0, or null for never")
