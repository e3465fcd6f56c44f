"""Losses, optimizers, schedules, callbacks and loggers that Python was given as objects; see `config.given`."""

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from regraft.config.given import given_object, named
from regraft.core.errors import ConfigError

_UNUSABLE = {
    "LBFGS": ("it takes a single group of parameters", "Use optimizer=lbfgs, which trains the head with it."),
    "Muon": ("it trains matrices alone, not biases and scales", "Use optimizer=adamw."),
    "SparseAdam": ("it takes sparse gradients alone, and those here are dense", "Use optimizer=adam."),
}
"""Optimizers of torch's that can't train every backbone and head, by name: why, and what to do."""


class _Loss(nn.Module):
    """A mean loss of somebody's, of which `total` gives the sum that adds up over batches."""

    counts_samples = True

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Returns the mean loss, a scalar."""
        if weights is not None:
            fix = "Derive it from one of Regraft's losses, which have `of_samples`, or leave the weights out."
            raise ConfigError("loss", "a loss that was given has no weights of single samples", fix=fix)
        return self.loss(logits, targets)

    def total(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns the summed loss and the number of samples."""
        number = torch.tensor(float(len(targets)), device=targets.device)
        return self(logits, targets, weights) * number, number


def given_loss(*, given: str) -> nn.Module:
    """Returns a copy of a loss that was given: a module or a function of (logits, targets)."""
    loss = given_object("loss", given)
    if isinstance(loss, type) or not callable(loss):
        allowed = "a torch.nn.Module or a function that returns the mean loss of (logits, targets), or a loss's name"
        raise ConfigError("loss", got=named(loss), allowed=allowed)
    loss = copy.deepcopy(loss) if isinstance(loss, nn.Module) else loss
    return loss if isinstance(loss, nn.Module) and hasattr(loss, "total") else _Loss(loss)


def require_scalar(loss: nn.Module, task: str, num_outputs: int) -> None:
    """Raises ConfigError if a loss isn't one number for the outputs and targets of a task."""
    logits, targets = torch.zeros(2, num_outputs), torch.zeros(2, num_outputs)
    if task == "classification":
        targets = torch.tensor([0, num_outputs - 1])
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            found = loss(logits, targets)
    except Exception as error:  # a loss of somebody's may raise anything
        targets_text = f"targets {tuple(targets.shape)}, {str(targets.dtype).removeprefix('torch.')}"
        reason = f"it doesn't take outputs (2, {num_outputs}) and {targets_text} ({' '.join(str(error).split())})"
        raise ConfigError("loss", reason) from error
    if not isinstance(found, Tensor) or found.ndim:
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ConfigError("loss", f"it gives {got}", allowed="a scalar tensor, the mean of the batch")


def require_usable(kind: Any) -> None:
    """Raises ConfigError if a class is an optimizer of torch's that can't train a backbone and a head."""
    name = getattr(kind, "__name__", "")
    if name in _UNUSABLE and kind.__module__.startswith("torch.optim"):
        reason, fix = _UNUSABLE[name]
        raise ConfigError("optimizer", reason, got=f"torch.optim.{name}", fix=fix)


def given_optimizer(params: list[dict[str, Any]], *, given: str) -> Optimizer:
    """Returns what a class or a function that was given makes of the parameters, in groups.

    Its own weight decay holds for the groups that decay.
    """
    make = given_object("optimizer", given)
    if isinstance(make, Optimizer) or not callable(make):
        fix = "An optimizer that exists already has other parameters." if isinstance(make, Optimizer) else None
        allowed = "what makes one of parameters, such as functools.partial(torch.optim.SGD, lr=0.1), or a name"
        raise ConfigError("optimizer", got=named(make), allowed=allowed, fix=fix)
    groups = [
        {key: value for key, value in group.items() if key != "weight_decay" or group["name"].endswith("/no_decay")}
        for group in params
    ]
    require_usable(getattr(make, "func", make))  # of a functools.partial
    made = make(groups)
    if not isinstance(made, Optimizer):
        raise ConfigError("optimizer", f"{named(make)} returns a {type(made).__name__}", allowed="an optimizer")
    require_usable(type(made))
    for group in made.param_groups:
        group.setdefault("weight_decay", 0.0)
    return made


def given_scheduler(optimizer: Optimizer, *, total_steps: int, steps_per_epoch: int, given: str) -> dict[str, Any]:
    """Returns Lightning's config of the schedule that a class or a function that was given makes of an optimizer.

    It is stepped at each step if it takes `total_steps` or `steps_per_epoch`, else at each epoch.
    """
    make = given_object("scheduler", given)
    if isinstance(make, LRScheduler) or not callable(make):
        allowed = "what makes one of an optimizer, such as functools.partial(StepLR, step_size=10), or a name"
        raise ConfigError("scheduler", got=named(make), allowed=allowed)
    lengths = {"total_steps": total_steps, "steps_per_epoch": steps_per_epoch}
    taken = _parameters(make)
    lengths = {
        key: value for key, value in lengths.items() if key in taken and key not in getattr(make, "keywords", {})
    }
    made = make(optimizer, **lengths)
    if isinstance(made, dict) and isinstance(made.get("scheduler"), LRScheduler):
        return {"interval": "epoch", "frequency": 1} | made
    if not isinstance(made, LRScheduler):
        allowed = "a schedule of torch.optim.lr_scheduler, or Lightning's dict of one"
        raise ConfigError("scheduler", f"{named(make)} returns a {type(made).__name__}", allowed=allowed)
    watched = {"monitor": "val/loss"} if isinstance(made, ReduceLROnPlateau) else {}
    return {"scheduler": made, "interval": "step" if lengths else "epoch", "frequency": 1} | watched


def _parameters(make: Callable[..., Any]) -> Sequence[str]:
    try:
        return list(inspect.signature(make).parameters)
    except (TypeError, ValueError):
        return []


def given_callback(*, given: str, section: str) -> pl.Callback:
    """Returns a callback of Lightning's that was given."""
    callback = given_object(section, given)
    if not isinstance(callback, pl.Callback):
        raise ConfigError(section, got=named(callback), allowed="a pytorch_lightning.Callback")
    return callback


def given_logger(*, given: str, section: str) -> Logger:
    """Returns a logger of Lightning's that was given."""
    logger = given_object(section, given)
    if not isinstance(logger, Logger):
        raise ConfigError(section, got=named(logger), allowed="a logger of pytorch_lightning.loggers")
    return logger
