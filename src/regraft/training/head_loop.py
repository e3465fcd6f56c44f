"""The optimizer steps of an epoch in which only the head trains, in one loop within a single Lightning batch.

What Lightning does around each batch takes longer than a linear head's step, so it is done once an epoch.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from regraft.core.errors import ConfigError
from regraft.core.lightning_internals import add_steps
from regraft.core.types import EpochBatch
from regraft.training.losses.sample_loss import SampleLoss
from regraft.training.optim.fused import merge_groups
from regraft.training.optim.parameter_groups import scaled_learning_rates

_WORTH_A_THREAD = 2**25
"""Products of a step, batch size times parameters, above which a second thread pays."""
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


LossOf = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""From features (batch, num_features), targets and indices (batch,) to the mean loss and the logits."""
_BLOCK = 16_384
"""Samples whose loss without a gradient is computed at once."""


class StepLog(NamedTuple):
    """What is logged about the steps taken.

    Attributes:
        loss: sum over samples of their batch's mean loss, a scalar.
        predictions: of each sample, see `Task.predicted`.
        targets: of each sample, see `Task.true`.
        losses: (num_steps,), each step's mean loss.
    """

    loss: Tensor
    predictions: Tensor
    targets: Tensor
    losses: Tensor


def train_steps(
    batch: EpochBatch,
    num_steps: int,
    loss_of: LossOf,
    predict: Callable[[Tensor], Tensor],
    optimizer: Optimizer,
    after_step: Callable[[], None],
    seed_draws: Callable[[int], None],
) -> StepLog:
    """Takes the epoch's first steps.

    Args:
        predict: from logits to predicted targets.
        optimizer: over named groups; not wrapped by Lightning.
        after_step: called after each step, for schedules that count steps.
        seed_draws: seeds the random draws of a step with its draw seed.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    losses, sizes, predictions = [], [], []
    for rows, draw_seed in zip(batch["steps"][:num_steps], batch["draw_seeds"][:num_steps], strict=True):
        seed_draws(draw_seed)
        loss, logits = loss_of(batch["features"][rows], batch["targets"][rows], batch["indices"][rows])
        for parameter in parameters:
            parameter.grad = None
        loss.backward()
        with scaled_learning_rates(optimizer):
            merge_groups(optimizer)
            optimizer.step()
        after_step()
        losses.append(loss.detach())
        sizes.append(len(rows))
        predictions.append(predict(logits.detach()))
    taken = torch.cat(batch["steps"][:num_steps]) if num_steps else batch["steps"][0][:0]
    zero = batch["features"].new_zeros(())
    each = torch.stack(losses) if losses else zero.new_zeros(0)
    return StepLog(
        each @ zero.new_tensor(sizes) if losses else zero,
        torch.cat(predictions) if predictions else taken,
        batch["targets"][taken],
        each,
    )


def uses_rng(module: nn.Module) -> bool:
    """Whether a module's own forward may draw random numbers in training; True for modules of other packages."""
    if isinstance(module, _DROPOUTS):
        return module.p > 0
    return isinstance(module, nn.RReLU) or not type(module).__module__.startswith(("torch.nn.", "regraft."))


class HeadLoop:
    """Takes the steps of epochs that are a single batch, and limits the threads of other head-only epochs.

    Args:
        predict: from logits to predicted targets.
    """

    def __init__(self, head: nn.Module, sample_loss: SampleLoss, predict: Callable[[Tensor], Tensor]) -> None:
        self._head, self._sample_loss, self._predict = head, sample_loss, predict
        self._optimizer: Optimizer | None = None
        self._num_threads: int | None = None
        self._batch: EpochBatch | None = None

    def use_single_thread(self, batch_size: int, optimizer: Optimizer) -> None:
        """Uses one thread for a small head until the epoch ends.

        Its operations take microseconds, and while another process uses a core, threads wait for each other at each of
        them: 640 steps took 10 s instead of 0.3 s.
        """
        if self._num_threads is None:
            self._num_threads = torch.get_num_threads()
            numbers = sum(p.numel() for group in optimizer.param_groups for p in group["params"] if p.requires_grad)
            if batch_size * numbers < _WORTH_A_THREAD:
                torch.set_num_threads(1)

    def begin(
        self, batch: EpochBatch, trainer: Any, after_step: Callable[[], None], seed_draws: Callable[[int], None]
    ) -> StepLog:
        """Takes all steps but the last; see `train_steps`."""
        if trainer.accumulate_grad_batches != 1:
            raise ConfigError(
                "callbacks",
                f"one of them set trainer.accumulate_grad_batches to {trainer.accumulate_grad_batches} during "
                "training, which training on stored features does not support; use features.cache=off.",
            )
        self._batch = batch
        num_steps = len(batch["steps"]) - 1
        self._optimizer = optimizer = trainer.optimizers[0]
        if not batch["bitwise"]:
            self.use_single_thread(len(batch["steps"][0]), optimizer)
        taken = train_steps(batch, num_steps, self._loss_of, self._predict, optimizer, after_step, seed_draws)
        add_steps(trainer, num_steps)
        seed_draws(batch["draw_seeds"][-1])
        return taken

    def full_batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Returns all features (num_rows, num_features), targets and indices (num_rows,) of the epoch."""
        assert self._batch is not None, "begin() comes first"
        return self._batch["features"], self._batch["targets"], self._batch["indices"]

    def last_step(self, *, has_gradient: bool = True) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns loss, predictions, targets and indices, (batch,), of the step that Lightning takes.

        Args:
            has_gradient: whether the gradient of the loss reaches the weights; without it, less memory is needed.
        """
        assert self._batch is not None, "begin() comes first"
        batch, rows = self._batch, self._batch["steps"][-1]
        targets, indices = batch["targets"][rows], batch["indices"][rows]
        if not has_gradient and len(rows) > _BLOCK:
            return *self._in_blocks(batch, rows), targets, indices
        loss, logits = self._loss_of(batch["features"][rows], targets, indices)
        return loss, self._predict(logits.detach()), targets, indices

    def _groups(self) -> list[dict[str, Any]]:
        assert self._optimizer is not None, "begin() comes first"
        return self._optimizer.param_groups

    def _loss_of(self, features: Tensor, targets: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        logits: Tensor = self._head(features)
        return self._sample_loss.mean(logits, targets, indices, self._groups()), logits

    @torch.no_grad()
    def _in_blocks(self, batch: EpochBatch, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the mean loss of rows, with a gradient of nothing, which Lightning asks for; and the predictions."""
        # Predictions of blocks that are kept one by one would lie between the freed room of blocks.
        predictions = torch.empty(0)

        def logits_of_blocks() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
            nonlocal predictions
            start = 0
            for part in rows.split(_BLOCK):
                logits = self._head(batch["features"][part])
                found = self._predict(logits)
                if not start:
                    predictions = found.new_empty(len(rows), *found.shape[1:])
                predictions[start : start + len(found)] = found
                start += len(found)
                yield logits, batch["targets"][part], batch["indices"][part]

        loss = self._sample_loss.mean_in_blocks(logits_of_blocks(), self._groups())
        return loss.requires_grad_(), predictions

    def end(self) -> None:
        """Restores the number of threads and releases the features."""
        if self._num_threads is not None:
            torch.set_num_threads(self._num_threads)
        self._num_threads = self._batch = self._optimizer = None
