"""Many linear heads fitted at once on the same features.

Each head ends as if it had been trained alone: its own mean loss, learning rate, weight decay and batches. They share
the pass over the features and the optimizer's step. Where features, batches and schedules come from is the caller's
business.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import ReduceLROnPlateau

from regraft.training.probe.fit import Best, HeadFit, Heads, HeadSpec

# Each weight's step is the learning rate times a direction that depends on that weight's gradients only.
_ALLOWED = (Adagrad, Adam, AdamW, RMSprop, SGD)
_ALLOWED_NAMES = ", ".join(allowed.__name__ for allowed in _ALLOWED)
_FUSED = (Adam, AdamW, SGD)

_LOGITS_AT_ONCE = 2**23
"""Of all heads together, 32 MB; so that many heads of many classes don't fill memory."""


def fit_heads(
    features: Tensor,
    targets: Tensor,
    val_features: Tensor,
    val_targets: Tensor,
    specs: Sequence[HeadSpec],
    *,
    initial: Callable[[int], tuple[Tensor, Tensor]],
    epoch_batches: Callable[[int, int], Sequence[Tensor]],
    make_optimizer: Callable[[list[dict[str, Any]]], Optimizer],
    make_scheduler: Callable[..., dict[str, Any]],
    loss: nn.Module,
    max_epochs: int,
    decay_bias: bool,
) -> list[HeadFit]:
    """Returns the fitted heads in the order of their specs.

    Args:
        features: (num_samples, num_features), float32.
        targets: (num_samples,), int64.
        val_features: (num_val_samples, num_features), float32.
        val_targets: (num_val_samples,), int64.
        specs: at least one; heads of one seed share their batches, so few seeds are faster.
        initial: gives (num_classes, num_features) weight and (num_classes,) bias of a seed.
        epoch_batches: gives the rows of each batch, in order, of (seed, epoch); as many and as large for every seed.
        make_optimizer: one of torch's from groups that bring their own `lr` and `weight_decay`.
        make_scheduler: see `schedulers`.
        loss: see `losses`; on the device of the features.
        max_epochs: at least 1.
        decay_bias: whether weight decay holds for the bias too.

    Raises:
        ValueError: an optimizer or a schedule that can't serve many heads at once.
    """
    assert specs, "An empty grid is refused where it is asked for."
    assert max_epochs >= 1, "So is a run without an end."
    heads = Heads(specs, initial, features.device)
    optimizer = _checked_optimizer(make_optimizer(heads.optimizer_groups()))
    num_steps = len(epoch_batches(heads.seeds[0], 0))
    schedule = make_scheduler(optimizer, total_steps=max_epochs * num_steps, steps_per_epoch=num_steps)
    _check_schedule(schedule["scheduler"])
    best = Best(heads)
    for epoch in range(max_epochs):
        batches = [epoch_batches(seed, epoch) for seed in heads.seeds]
        train_losses = torch.zeros_like(heads.rates[..., 0])
        for step, rows_by_seed in enumerate(zip(*batches, strict=True)):
            rows = torch.stack(rows_by_seed).to(features.device)
            inputs, labels = features[rows], targets[rows]
            logits = heads.logits_of_batches(inputs)
            is_last_step = step == num_steps - 1
            if is_last_step or epoch == max_epochs - 1:
                losses = _loss_of_each(loss, logits, labels)
                train_losses += losses * rows.shape[1]
            heads.step(optimizer, inputs, _logit_gradients(loss, logits, labels), decay_bias=decay_bias)
            if schedule["interval"] == "step" or is_last_step:
                schedule["scheduler"].step()
        best.update(heads, epoch, losses.isfinite(), _num_correct(heads, val_features, val_targets))
    val_losses = _mean_loss_of_each(loss, best.heads, val_features, val_targets)
    return best.fits(specs, len(val_targets), val_losses, train_losses / sum(map(len, batches[0])))


def _checked_optimizer(optimizer: Optimizer) -> Optimizer:
    if type(optimizer) not in _ALLOWED:
        raise ValueError(
            f"optimizer: got {type(optimizer).__name__}, but heads that are fitted at once need one whose step is the "
            f"learning rate times a direction for each weight alone. Use {_ALLOWED_NAMES}."
        )
    # Without it, torch goes over the parameters once an operation, 10 times as slow for Adam on CPU.
    if isinstance(optimizer, _FUSED):
        for group in optimizer.param_groups:
            group["fused"] = True
    return optimizer


def _check_schedule(scheduler: Any) -> None:
    if isinstance(scheduler, ReduceLROnPlateau):
        raise ValueError(
            "scheduler: got ReduceLROnPlateau, which follows a head's own metric, but heads that are fitted at once "
            "share one schedule. Use scheduler=constant, linear_warmup, step, exponential, cosine or onecycle."
        )


def _logit_gradients(loss: nn.Module, logits: Tensor, targets: Tensor) -> Tensor:
    """Returns the gradient of each head's own mean loss.

    Args:
        loss: see `fit_heads`.
        logits: (num_seeds, batch, num_heads, num_classes).
        targets: (num_seeds, batch).

    Returns:
        The shape of `logits`.
    """
    num_heads = logits.shape[2]
    leaves = [rows.requires_grad_() for rows in logits.flatten(1, 2).unbind()]
    # The mean over all rows of a seed's heads divides each head's part by num_heads too much. A seed for itself, since
    # its batch has a normaliser of its own where classes weigh.
    losses = [
        loss(rows, labels) * num_heads
        for rows, labels in zip(leaves, targets.repeat_interleave(num_heads, dim=1), strict=True)
    ]
    return torch.stack(torch.autograd.grad(losses, leaves)).view_as(logits)


def _loss_of_each(loss: nn.Module, logits: Tensor, targets: Tensor) -> Tensor:
    """Returns each head's mean loss, (num_seeds, num_heads); arguments as in `_logit_gradients`."""
    with torch.no_grad():
        return torch.stack(
            [
                torch.stack([loss(rows, labels) for rows in of_seed.unbind(1)])
                for of_seed, labels in zip(logits, targets, strict=True)
            ]
        )


def _chunks(heads: Heads, features: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields features and targets of as many samples as are evaluated at once."""
    num_rows = max(1, _LOGITS_AT_ONCE // heads.bias.numel())
    yield from zip(features.split(num_rows), targets.split(num_rows), strict=True)


def _num_correct(heads: Heads, features: Tensor, targets: Tensor) -> Tensor:
    """Returns how many samples each head classifies rightly, (num_seeds, num_heads), int64, on CPU."""
    counts = torch.zeros_like(heads.places)
    for rows, labels in _chunks(heads, features, targets):
        counts += (heads.logits(rows).argmax(-1) == labels[:, None, None]).sum(0).cpu()
    return counts


def _mean_loss_of_each(loss: Any, heads: Heads, features: Tensor, targets: Tensor) -> Tensor:
    """Returns each head's mean loss of all samples, summed loss over summed normaliser, (num_seeds, num_heads)."""
    sums = torch.zeros(2, heads.places.numel(), device=features.device)
    with torch.no_grad():
        for rows, labels in _chunks(heads, features, targets):
            of_each = [loss.total(logits, labels) for logits in heads.logits(rows).flatten(1, 2).unbind(1)]
            sums += torch.tensor(of_each, device=features.device).T
    return (sums[0] / sums[1].clamp_min(torch.finfo(torch.float32).tiny)).view(heads.places.shape)
