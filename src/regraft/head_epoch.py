"""An epoch that is one batch for Lightning, and holds all steps of the head: a step takes less time than its loop.

How steps are taken one after the other belongs in `head_steps`.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

from torch import Tensor
from torch.optim import Optimizer

from regraft.contracts import EpochBatch
from regraft.head_steps import Sums, take_steps, threads_for

LossOf = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From features (batch, num_features) and targets (batch,) to the mean loss and the logits."""


class LastStep(NamedTuple):
    """What the epoch's last step, which Lightning takes, works on.

    Attributes:
        loss: a scalar, with its graph.
        logits: (batch, num_classes).
        targets: (batch,), int64.
        indices: (batch,), int64, places in the split's source.
    """

    loss: Tensor
    logits: Tensor
    targets: Tensor
    indices: Tensor


class HeadEpoch:
    """Takes the steps of such epochs.

    Args:
        loss_of: see `LossOf`.
    """

    def __init__(self, loss_of: LossOf) -> None:
        self._loss_of = loss_of
        self._threads = ExitStack()
        self._batch: EpochBatch | None = None

    def begin(
        self,
        batch: EpochBatch,
        trainer: Any,
        after_step: Callable[[], None],
        seed_draws: Callable[[int], None],
    ) -> Sums:
        """Takes all steps but the last, and returns what is logged of them; see `head_steps.take_steps`."""
        self._batch = batch
        num_steps = len(batch["steps"]) - 1
        optimizer: Optimizer = trainer.optimizers[0]
        # Until the epoch has ended, its validation included.
        self._threads.enter_context(threads_for(batch, optimizer))
        taken = take_steps(batch, num_steps, self._loss_of, optimizer, after_step, seed_draws)
        _count_steps(trainer, num_steps)
        seed_draws(batch["draw_seeds"][-1])
        return taken

    def last_step(self) -> LastStep:
        """Returns the loss of the epoch's last step, and what it is of."""
        assert self._batch is not None, "begin() comes first"
        rows = self._batch["steps"][-1]
        targets = self._batch["targets"][rows]
        loss, logits = self._loss_of(self._batch["features"][rows], targets)
        return LastStep(loss, logits, targets, self._batch["indices"][rows])

    def end(self) -> None:
        """Computes on as many threads as before."""
        self._threads.close()


def _count_steps(trainer: Any, num_steps: int) -> None:
    """Adds the steps taken beside Lightning's loop to what it counts, so that `global_step` is right."""
    loop = trainer.fit_loop.epoch_loop
    progress = loop.automatic_optimization.optim_progress.optimizer.step
    for counts in (progress.total, progress.current):
        counts.ready += num_steps
        counts.completed += num_steps
    # What loggers get as the step.
    loop._batches_that_stepped += num_steps
