"""Applies a freezing strategy to the module in training: gradients, modes and factors of the parameter groups."""

import sys

import pytorch_lightning as pl
from torch import nn
from torch.optim import Optimizer

from regraft.core.errors import ConfigError
from regraft.core.lightning_internals import rewrap_ddp
from regraft.core.types import BATCH_NORMS, Backbone
from regraft.models.freezing import HEAD, FreezingStrategy, TrainingPoint, factors_at, keeps_statistics


def set_requires_grad(factors: dict[str, float], backbone: Backbone, head: nn.Module) -> bool:
    """Sets `requires_grad` to whether the stage's factor is above 0; returns whether anything changed.

    Parameters that freeze lose their gradient, so that no optimizer step can use it.
    """
    is_changed = False
    for name, module in _named_modules(backbone, head):
        trains = factors[name] > 0
        for parameter in module.parameters():
            is_changed |= parameter.requires_grad != trains
            parameter.requires_grad_(trains)
            if not trains:
                parameter.grad = None
    return is_changed


def apply(
    factors: dict[str, float],
    backbone: Backbone,
    head: nn.Module,
    optimizers: list[Optimizer],
    *,
    keeps_statistics: bool = False,
) -> bool:
    """Applies factors to modules and optimizers; returns whether the set of training parameters changed.

    Frozen stages are put into eval mode, so that BatchNorm statistics and dropout are frozen too. With
    `keeps_statistics`, the statistics of all BatchNorms in the backbone stay frozen. The optimizers' groups are named
    `<stage>/<kind>`, see `optim.parameter_groups`.
    """
    is_changed = set_requires_grad(factors, backbone, head)
    for name, module in _named_modules(backbone, head):
        module.train(factors[name] > 0)
    for module in backbone.modules() if keeps_statistics else ():
        if isinstance(module, BATCH_NORMS):
            module.training = False
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["lr_factor"] = factors[group["name"].rpartition("/")[0]]
    return is_changed


class FreezingCallback(pl.Callback):
    """Applies a freezing strategy at the start of each epoch, and before Lightning wraps the module.

    The module needs the attributes `backbone` (a `Backbone`) and `head`. Everything is a function of the epoch, so no
    state is saved, and no parameter group is added or removed.
    """

    def __init__(self, strategy: FreezingStrategy) -> None:
        self.strategy = strategy

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Sets `requires_grad` before DDP is built, as its reducer handles only parameters that have it then."""
        if stage != "fit":
            return
        backbone, head = _parts(pl_module)
        set_requires_grad(self._factors(trainer, backbone), backbone, head)
        # Lightning warns if modules are in eval mode when training starts; on_train_start, right after, sets it for
        # frozen stages.
        pl_module.train()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Applies the phase of the current epoch."""
        backbone, head = _parts(pl_module)
        factors, keeps = self._factors(trainer, backbone), keeps_statistics(self.strategy)
        for optimizer in trainer.optimizers:
            if any(str(group.get("name")).rpartition("/")[0] not in factors for group in optimizer.param_groups):
                raise _unfit(pl_module, "an optimizer whose groups are named after their stages (`layer1/decay`)")
        if apply(factors, backbone, head, trainer.optimizers, keeps_statistics=keeps):
            rewrap_ddp(trainer)

    on_train_start = on_train_epoch_start  # a run that resumes in the middle of an epoch doesn't start one

    def _factors(self, trainer: pl.Trainer, backbone: Backbone) -> dict[str, float]:
        # fast_dev_run sets max_epochs to 1, but what it tries out is the start of a run that has room for each phase.
        max_epochs = sys.maxsize if trainer.fast_dev_run else trainer.max_epochs  # type: ignore[attr-defined]
        assert max_epochs is not None, "Lightning sets max_epochs before it calls any hook."
        return factors_at(self.strategy, TrainingPoint(trainer.current_epoch, max_epochs), backbone.stage_names)


def _named_modules(backbone: Backbone, head: nn.Module) -> list[tuple[str, nn.Module]]:
    return [*backbone.stages.items(), (HEAD, head)]


def _parts(pl_module: pl.LightningModule) -> tuple[Backbone, nn.Module]:
    backbone, head = getattr(pl_module, "backbone", None), getattr(pl_module, "head", None)
    if not isinstance(backbone, Backbone) or not isinstance(head, nn.Module):
        raise _unfit(pl_module, "a `backbone` (a regraft.Backbone) and a `head` (an nn.Module)")
    return backbone, head


def _unfit(pl_module: pl.LightningModule, needed: str) -> ConfigError:
    return ConfigError(
        None,
        f"FreezingCallback needs a module with {needed}, which {type(pl_module).__name__} lacks; "
        "regraft.TransferModule has it.",
    )
