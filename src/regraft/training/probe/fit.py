"""Fits a grid of linear heads at once, with the parameters of all of them in one tensor."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import ReduceLROnPlateau

from regraft.core.errors import ConfigError, require
from regraft.tasks import TASKS, Task


@dataclass(frozen=True)
class HeadSpec:
    """What distinguishes one head from the others; the seed chooses the initial weights and the batches."""

    lr: float
    weight_decay: float
    seed: int

    def __post_init__(self) -> None:
        require(0 < self.lr < math.inf, "optimizer.lr", self.lr, "above 0")
        require(0 <= self.weight_decay < math.inf, "optimizer.weight_decay", self.weight_decay, "at least 0")


@dataclass(frozen=True)
class HeadFit:
    """A fitted head, as it was at its best epoch.

    Attributes:
        weight: (num_classes, num_features).
        bias: (num_classes,).
        best_epoch: the one with the highest headline metric on validation, and of equal ones the lowest loss; -1 if it
            diverged in the first epoch, and weight and bias are the initial ones then.
        val_headline: the headline metric on validation at the best epoch; nan if there is none.
        val_loss: of the best epoch; nan if there is none.
        train_loss: mean over the batches of the last epoch, weighted by their sizes; not of the best epoch.
        is_diverged: whether the loss of an epoch's last batch wasn't finite. Alone, such a head ends in an error; later
            epochs don't count.
    """

    spec: HeadSpec
    weight: Tensor
    bias: Tensor
    best_epoch: int
    val_headline: float
    val_loss: float
    train_loss: float
    is_diverged: bool


class Heads:
    """The parameters of all heads, by seed, each divided by its head's learning rate.

    One optimizer at rate 1 * schedule thereby moves every head at its own rate; the gradients that it gets are those of
    the undivided parameters.

    Attributes:
        seeds: the distinct ones.
        places: by seed and head the index in `specs`; seeds with fewer heads than others repeat their last.
        rates: (num_seeds, num_heads, 1), float32.
        decays: (num_seeds, num_heads, 1), float64: learning rate times weight decay.
        weight: (num_seeds, num_heads, num_classes, num_features), divided.
        bias: (num_seeds, num_heads, num_classes), divided.
    """

    def __init__(
        self, specs: Sequence[HeadSpec], initial: Callable[[int], tuple[Tensor, Tensor]], device: torch.device
    ) -> None:
        self.seeds = list(dict.fromkeys(spec.seed for spec in specs))
        found = [[place for place, spec in enumerate(specs) if spec.seed == seed] for seed in self.seeds]
        most = max(map(len, found))
        self.places = torch.tensor([row + row[-1:] * (most - len(row)) for row in found])
        rates = torch.tensor([spec.lr for spec in specs], dtype=torch.float64)
        decays = rates * torch.tensor([spec.weight_decay for spec in specs], dtype=torch.float64)
        self.rates = rates[self.places].unsqueeze(-1).float().to(device)
        self.decays = decays[self.places].unsqueeze(-1).to(device)
        weights, biases = zip(*(initial(seed) for seed in self.seeds), strict=True)
        self.weight = torch.stack(weights).detach().to(device)[:, None] / self.rates[..., None]
        self.bias = torch.stack(biases).detach().to(device)[:, None] / self.rates
        self.weight.grad, self.bias.grad = torch.zeros_like(self.weight), torch.zeros_like(self.bias)

    def optimizer_groups(self) -> list[dict[str, Any]]:
        """Returns one group whose rate is that of the schedule alone; `step` applies weight decay."""
        return [{"params": [self.weight, self.bias], "name": "head/decay", "lr": 1.0, "weight_decay": 0.0}]

    def logits(self, features: Tensor) -> Tensor:
        """Returns (num_samples, num_seeds, num_heads, num_classes) of features (num_samples, num_features)."""
        flat = torch.addmm(self.bias.flatten(), features, self.weight.flatten(0, 2).T)
        return flat.view(-1, *self.bias.shape).mul_(self.rates)

    def logits_of_batches(self, features: Tensor) -> Tensor:
        """Returns (num_seeds, batch, num_heads, num_classes) of features (num_seeds, batch, num_features)."""
        flat = torch.baddbmm(self.bias.flatten(1)[:, None], features, self.weight.flatten(1, 2).mT)
        return flat.unflatten(2, self.bias.shape[1:]).mul_(self.rates[:, None])

    def step(self, optimizer: Optimizer, features: Tensor, logit_gradients: Tensor, *, decay_bias: bool) -> None:
        """Steps all heads.

        Args:
            features: (num_seeds, batch, num_features).
            logit_gradients: (num_seeds, batch, num_heads, num_classes), of each head's own loss.
            decay_bias: whether weight decay applies to the bias too.
        """
        assert self.weight.grad is not None, "Made in __init__."
        torch.bmm(logit_gradients.flatten(2).mT, features, out=self.weight.grad.flatten(1, 2))
        torch.sum(logit_gradients, dim=1, out=self.bias.grad)
        decayed = [(self.weight, self.decays[..., None]), *([(self.bias, self.decays)] if decay_bias else [])]
        is_decoupled = optimizer.defaults.get("decoupled_weight_decay", False)
        for parameter, decays in decayed:
            if is_decoupled:
                parameter.mul_((1 - optimizer.param_groups[0]["lr"] * decays).float())
            else:
                assert parameter.grad is not None, "Likewise."
                parameter.grad.addcmul_(parameter, decays.float())
        optimizer.step()


class Best:
    """Each head as it was after its best epoch so far; at first the initial one."""

    def __init__(self, heads: Heads) -> None:
        self.heads = copy.deepcopy(heads)
        self._epochs = torch.full_like(heads.places, -1)
        self._figures = torch.full_like(heads.places, -torch.inf, dtype=torch.float64)
        self._losses = torch.full_like(heads.places, torch.inf, dtype=torch.float32)
        self._is_diverged = torch.zeros_like(heads.places, dtype=torch.bool)

    def update(self, heads: Heads, epoch: int, is_finite: Tensor, figures: Tensor, losses: Tensor) -> None:
        """Replaces the heads that are better than ever; all arguments are of the epoch, by seed and head.

        Args:
            figures: the headline metric on validation.
            losses: on validation, which decide where figures are equal.
        """
        self._is_diverged |= ~is_finite.cpu()
        losses = losses.cpu()
        is_better = (figures > self._figures) | ((figures == self._figures) & (losses < self._losses))
        is_better &= ~self._is_diverged
        self._epochs[is_better] = epoch
        self._figures[is_better] = figures[is_better]
        self._losses[is_better] = losses[is_better]
        self.heads.weight[is_better] = heads.weight[is_better]
        self.heads.bias[is_better] = heads.bias[is_better]

    def fits(self, specs: Sequence[HeadSpec], train_losses: Tensor) -> list[HeadFit]:
        """Returns the heads in the order of their specs; losses are by seed and head."""
        places = {place: index for index, place in enumerate(self.heads.places.flatten().tolist())}
        found = []
        for place, spec in enumerate(specs):
            at = divmod(places[place], self.heads.places.shape[1])
            epoch, rate = int(self._epochs[at]), self.heads.rates[at]
            found.append(
                HeadFit(
                    spec=spec,
                    weight=self.heads.weight[at] * rate,
                    bias=self.heads.bias[at] * rate,
                    best_epoch=epoch,
                    val_headline=float(self._figures[at]) if epoch >= 0 else math.nan,
                    val_loss=float(self._losses[at]) if epoch >= 0 else math.nan,
                    train_loss=float(train_losses[at]),
                    is_diverged=bool(self._is_diverged[at]),
                )
            )
        return found


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
    task: Task = TASKS["classification"],
    weights: Tensor | None = None,
) -> list[HeadFit]:
    """Returns the fitted heads in the order of their specs.

    Args:
        features: (num_samples, num_features), float32.
        targets: (num_samples,), int64; or rows of labels, or of standardised numbers, (num_samples, num_classes).
        val_features: (num_val_samples, num_features), float32.
        val_targets: of those.
        specs: at least one; heads of one seed share their batches, so few seeds are faster.
        initial: returns (num_classes, num_features) weight and (num_classes,) bias of a seed.
        epoch_batches: returns the rows of each batch, in order, of (seed, epoch); as many and as large for every seed.
        make_optimizer: one of torch's, from groups that have their own `lr` and `weight_decay`.
        decay_bias: whether weight decay applies to the bias too.
        weights: of the samples, (num_samples,); None for equal ones.

    Raises:
        ConfigError: an optimizer or a schedule can't serve many heads at once.
    """
    assert specs, "An empty grid is refused where it is given."
    assert max_epochs >= 1, "So is a run without an end."
    heads = Heads(specs, initial, features.device)
    optimizer = _checked_optimizer(make_optimizer(heads.optimizer_groups()))
    num_steps = len(epoch_batches(heads.seeds[0], 0))
    schedule = make_scheduler(optimizer, total_steps=max_epochs * num_steps, steps_per_epoch=num_steps)
    if isinstance(schedule["scheduler"], ReduceLROnPlateau):
        raise ConfigError(
            "scheduler",
            "got ReduceLROnPlateau, which follows a head's own metric, but heads that are fitted at once "
            "share one schedule. Use another one, such as scheduler=cosine.",
        )
    best = Best(heads)
    for epoch in range(max_epochs):
        batches = [epoch_batches(seed, epoch) for seed in heads.seeds]
        train_losses = torch.zeros_like(heads.rates[..., 0])
        for step, rows_by_seed in enumerate(zip(*batches, strict=True)):
            rows = torch.stack(rows_by_seed).to(features.device)
            inputs, labels = features[rows], targets[rows]
            shares = None if weights is None else weights[rows]
            logits = heads.logits_of_batches(inputs)
            is_last_step = step == num_steps - 1
            if is_last_step or epoch == max_epochs - 1:
                losses = _loss_of_each(loss, logits, labels, shares)
                train_losses += losses * rows.shape[1]
            heads.step(optimizer, inputs, _logit_gradients(loss, logits, labels, shares), decay_bias=decay_bias)
            if schedule["interval"] == "step" or is_last_step:
                schedule["scheduler"].step()
        val_losses = _mean_loss_of_each(loss, heads, val_features, val_targets)
        # The last step's weights show in the latter only.
        is_finite = losses.isfinite() & val_losses.isfinite()
        best.update(heads, epoch, is_finite, _headlines(task, heads, val_features, val_targets), val_losses)
    return best.fits(specs, train_losses / sum(map(len, batches[0])))


def _checked_optimizer(optimizer: Optimizer) -> Optimizer:
    if type(optimizer) not in _ALLOWED:
        raise ConfigError(
            "optimizer",
            f"got {type(optimizer).__name__}; heads that are fitted at once need one whose step is the learning rate "
            "times a direction for each weight alone",
            fix=f"Use {_ALLOWED_NAMES}.",
        )
    # Without it, torch passes over the parameters once per operation, which is 10 times as slow for Adam on the CPU.
    if isinstance(optimizer, _FUSED):
        for group in optimizer.param_groups:
            group["fused"] = True
    return optimizer


def _logit_gradients(loss: nn.Module, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """Returns the gradient of each head's own mean loss, in the shape of `logits`.

    Args:
        logits: (num_seeds, batch, num_heads, num_classes).
        targets: (num_seeds, batch), or rows.
        weights: (num_seeds, batch), of the samples; None for equal ones.
    """
    num_heads = logits.shape[2]
    leaves = [rows.requires_grad_() for rows in logits.flatten(1, 2).unbind()]
    # The mean over all rows of a seed's heads divides each head's part by num_heads too much. A seed for itself, since
    # its batch has a normaliser of its own where classes weigh.
    repeated = targets.repeat_interleave(num_heads, dim=1)
    more = [()] * len(leaves) if weights is None else [(each,) for each in weights.repeat_interleave(num_heads, dim=1)]
    losses = [
        loss(rows, labels, *shares) * num_heads for rows, labels, shares in zip(leaves, repeated, more, strict=True)
    ]
    return torch.stack(torch.autograd.grad(losses, leaves)).view_as(logits)


def _loss_of_each(loss: nn.Module, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """Returns each head's mean loss, (num_seeds, num_heads); arguments as in `_logit_gradients`."""
    with torch.no_grad():
        more = [()] * len(logits) if weights is None else [(each,) for each in weights]
        by_seed = zip(logits, targets, more, strict=True)
        return torch.stack(
            [torch.stack([loss(rows, labels, *shares) for rows in each.unbind(1)]) for each, labels, shares in by_seed]
        )


def _chunks(heads: Heads, features: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields features and targets of as many samples as are evaluated at once."""
    num_rows = max(1, _LOGITS_AT_ONCE // heads.bias.numel())
    yield from zip(features.split(num_rows), targets.split(num_rows), strict=True)


def _headlines(task: Task, heads: Heads, features: Tensor, targets: Tensor) -> Tensor:
    """Returns the task's headline metric of each head, (num_seeds, num_heads), float64, on the CPU."""
    if task.has_classes:
        counts = torch.zeros_like(heads.places)
        for rows, labels in _chunks(heads, features, targets):
            counts += (heads.logits(rows).argmax(-1) == labels[:, None, None]).sum(0).cpu()
        return counts.double() / len(targets)
    found = []
    for weights, biases in zip(heads.weight * heads.rates[..., None], heads.bias * heads.rates, strict=True):
        # One at a time, as a rank needs the outputs for all samples.
        of_heads = (torch.addmm(bias, features, weight.T) for weight, bias in zip(weights, biases, strict=True))
        found.append([float(task.pseudovalues(outputs, targets).mean()) for outputs in of_heads])
    return torch.tensor(found, dtype=torch.float64)


def _mean_loss_of_each(loss: Any, heads: Heads, features: Tensor, targets: Tensor) -> Tensor:
    """Returns each head's mean loss over all samples, (num_seeds, num_heads)."""
    sums = torch.zeros(2, heads.places.numel(), device=features.device)
    with torch.no_grad():
        for rows, labels in _chunks(heads, features, targets):
            of_each = [loss.total(logits, labels) for logits in heads.logits(rows).flatten(1, 2).unbind(1)]
            sums += torch.tensor(of_each, device=features.device).T
    return (sums[0] / sums[1].clamp_min(torch.finfo(torch.float32).tiny)).view(heads.places.shape)
