"""Steps of the head alone, on stored features; where it can be, an epoch is one batch for Lightning.

Such a step takes less time than Lightning's loop.

How steps are taken one after the other belongs in `head_steps`.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

from torch import Tensor
from torch.optim import Optimizer

from regraft.core.types import EpochBatch
from regraft.training.head_loop import Sums, take_steps, threads_for

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
    """Takes the steps of epochs that are one batch, and sees to the threads of others.

    Args:
        loss_of: see `LossOf`.
    """

    def __init__(self, loss_of: LossOf) -> None:
        self._loss_of = loss_of
        self._threads = ExitStack()
        self._batch: EpochBatch | None = None
        self._is_narrow = False

    def narrow(self, batch_size: int, optimizer: Optimizer) -> None:
        """Computes the steps of a small head on one thread, until the epoch has ended; see `head_steps.threads_for`."""
        if not self._is_narrow:
            self._threads.enter_context(threads_for(batch_size, optimizer))
            self._is_narrow = True

    def begin(
        self,
        batch: EpochBatch,
        trainer: Any,
        after_step: Callable[[], None],
        seed_draws: Callable[[int], None],
    ) -> Sums:
        """Takes all steps but the last, and returns what is logged of them; see `head_steps.take_steps`.

        Raises:
            ValueError: gradients are to be accumulated over several steps by now.
        """
        if trainer.accumulate_grad_batches != 1:
            raise ValueError(
                f"callbacks: one has set trainer.accumulate_grad_batches to {trainer.accumulate_grad_batches} during "
                "training, which steps on stored features can't follow; use features.cache=off."
            )
        self._batch = batch
        num_steps = len(batch["steps"]) - 1
        optimizer: Optimizer = trainer.optimizers[0]
        if not batch["is_exact"]:
            self.narrow(len(batch["steps"][0]), optimizer)
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
        """Computes on as many threads as before, and lets go of the features."""
        self._threads.close()
        self._is_narrow = False
        self._batch = None


def _count_steps(trainer: Any, num_steps: int) -> None:
    """Adds the steps taken beside Lightning's loop to what it counts, so that `global_step` is right."""
    loop = trainer.fit_loop.epoch_loop
    progress = loop.automatic_optimization.optim_progress.optimizer.step
    for counts in (progress.total, progress.current):
        counts.ready += num_steps
        counts.completed += num_steps
    # What loggers get as the step.
    loop._batches_that_stepped += num_steps
