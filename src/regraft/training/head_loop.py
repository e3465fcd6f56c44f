"""All optimizer steps of an epoch in which only the head trains, one after the other, without anything in between.

What a step computes is the module's business; what Lightning would do around each step is done once, around all of
them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from regraft.core.types import EpochBatch
from regraft.training.optim import scaled_learning_rates

_WORTH_A_THREAD = 2**25
"""Products of a step, batch size times parameters, from which on a second thread pays."""


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
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    return isinstance(module, nn.RReLU) or not type(module).__module__.startswith(("torch.nn.", "regraft."))
