"""All optimizer steps of an epoch in which only the head trains, one after the other, without anything in between.

What a step computes is the module's business; what Lightning would do around each step is done once, around all of
them.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from regraft.core.errors import ConfigError
from regraft.core.lightning_internals import add_steps
from regraft.core.types import EpochBatch
from regraft.training.optim import scaled_learning_rates

_WORTH_A_THREAD = 2**25
"""Products of a step, batch size times parameters, from which on a second thread pays."""
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


class Sums(NamedTuple):
    """What is logged of some steps.

    Attributes:
        loss: sum over samples of their batch's mean loss, a scalar.
        predictions: (num_samples,), int64.
        targets: (num_samples,), int64.
        losses: (num_steps,), each step's mean loss.
    """

    loss: Tensor
    predictions: Tensor
    targets: Tensor
    losses: Tensor


def take_steps(
    batch: EpochBatch,
    num_steps: int,
    loss_of: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    optimizer: Optimizer,
    after_step: Callable[[], None],
    seed_draws: Callable[[int], None],
) -> Sums:
    """Takes the epoch's first steps.

    Args:
        batch: the epoch.
        num_steps: how many of its steps to take.
        loss_of: from features (batch, num_features) and targets (batch,) to the mean loss and the logits.
        optimizer: torch's own, over named groups.
        after_step: steps the schedule, if it is one of steps.
        seed_draws: makes a step's randomness a function of its draw seed.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    losses, sizes, predictions = [], [], []
    for rows, draw_seed in zip(batch["steps"][:num_steps], batch["draw_seeds"][:num_steps], strict=True):
        seed_draws(draw_seed)
        loss, logits = loss_of(batch["features"][rows], batch["targets"][rows])
        for parameter in parameters:
            parameter.grad = None
        loss.backward()
        with _quick_groups(optimizer, is_fused=not batch["is_exact"]), scaled_learning_rates(optimizer):
            optimizer.step()
        after_step()
        losses.append(loss.detach())
        sizes.append(len(rows))
        predictions.append(logits.detach().argmax(1))
    taken = torch.cat(batch["steps"][:num_steps]) if num_steps else batch["steps"][0][:0]
    zero = batch["features"].new_zeros(())
    each = torch.stack(losses) if losses else zero.new_zeros(0)
    return Sums(
        each @ zero.new_tensor(sizes) if losses else zero,
        torch.cat(predictions) if predictions else taken,
        batch["targets"][taken],
        each,
    )


@contextmanager
def threads_for(batch_size: int, optimizer: Optimizer) -> Iterator[None]:
    """Computes on one thread inside the block, if the head is small.

    Its operations take microseconds, and where another process is on a core, threads wait for each other at each of
    them: 640 steps took 10 s instead of 0.3 s.

    Args:
        batch_size: of a step.
        optimizer: torch's own, over named groups.
    """
    num_threads = torch.get_num_threads()
    numbers = sum(p.numel() for group in optimizer.param_groups for p in group["params"] if p.requires_grad)
    try:
        if batch_size * numbers < _WORTH_A_THREAD:
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(num_threads)


@contextmanager
def _quick_groups(optimizer: Optimizer, *, is_fused: bool) -> Iterator[None]:
    """Makes a step quick inside the block: groups without a gradient are hidden, and fused kernels may be used.

    An optimizer looks at each parameter of each group in turn, and has several operations for each of the head's.
    """
    groups = optimizer.param_groups
    training = [group for group in groups if any(parameter.grad is not None for parameter in group["params"])]
    # Elsewhere than on the CPU an optimizer's state is laid out in another way for fused kernels.
    fusable = [group for group in training if group.get("fused", True) is None and group["params"][0].is_cpu]
    optimizer.param_groups = training
    for group in fusable if is_fused else []:
        group["fused"] = True
    try:
        yield
    finally:
        optimizer.param_groups = groups
        for group in fusable:
            group["fused"] = None


def may_draw(module: nn.Module) -> bool:
    """Whether a module's own forward may draw random numbers in training; of foreign code nothing is known."""
    if isinstance(module, _DROPOUTS):
        return module.p > 0
    return isinstance(module, nn.RReLU) or not type(module).__module__.startswith(("torch.nn.", "regraft."))


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
            raise ConfigError(
                "callbacks",
                f"one has set trainer.accumulate_grad_batches to {trainer.accumulate_grad_batches} during "
                "training, which steps on stored features can't follow; use features.cache=off.",
            )
        self._batch = batch
        num_steps = len(batch["steps"]) - 1
        optimizer: Optimizer = trainer.optimizers[0]
        if not batch["is_exact"]:
            self.narrow(len(batch["steps"][0]), optimizer)
        taken = take_steps(batch, num_steps, self._loss_of, optimizer, after_step, seed_draws)
        add_steps(trainer, num_steps)
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
