"""All optimizer steps of an epoch in which only the head trains, one after the other, without anything in between.

What a step computes is the module's business; what Lightning would do around each step is done once, around all of
them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from regraft.contracts import EpochBatch
from regraft.optim import scaled_learning_rates


class Sums(NamedTuple):
    """What is logged of some steps.

    Attributes:
        loss: sum over samples of their batch's mean loss, a scalar.
        predictions: (num_samples,), int64.
        targets: (num_samples,), int64.
    """

    loss: Tensor
    predictions: Tensor
    targets: Tensor


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
    losses, predictions = [], []
    for rows, draw_seed in zip(batch["steps"][:num_steps], batch["draw_seeds"], strict=False):
        seed_draws(draw_seed)
        loss, logits = loss_of(batch["features"][rows], batch["targets"][rows])
        for parameter in parameters:
            parameter.grad = None
        loss.backward()
        with _only_training_groups(optimizer), scaled_learning_rates(optimizer):
            optimizer.step()
        after_step()
        losses.append(loss.detach() * len(rows))
        predictions.append(logits.detach().argmax(1))
    taken = torch.cat(batch["steps"][:num_steps]) if num_steps else batch["steps"][0][:0]
    zero = batch["features"].new_zeros(())
    return Sums(
        torch.stack(losses).sum() if losses else zero,
        torch.cat(predictions) if predictions else taken,
        batch["targets"][taken],
    )


@contextmanager
def _only_training_groups(optimizer: Optimizer) -> Iterator[None]:
    """Hides the groups without a gradient inside the block: an optimizer looks at each parameter in turn."""
    groups = optimizer.param_groups
    optimizer.param_groups = [group for group in groups if group["params"][0].grad is not None]
    try:
        yield
    finally:
        optimizer.param_groups = groups
