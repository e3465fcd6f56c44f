"""Applies a freezing strategy to the module in training: gradients, modes and factors of the parameter groups."""

import sys
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from torch import Tensor, nn
from torch.optim import Optimizer

from regraft.core.errors import ConfigError, listed
from regraft.core.lightning_internals import rewrap_ddp
from regraft.core.types import BATCH_NORMS, Backbone
from regraft.models.freezing import HEAD, FreezingStrategy, TrainingPoint, factors_at, keeps_statistics, phases
from regraft.training.optim.parameter_groups import step_with_factors

Parts = Mapping[str, nn.Module]
"""The stages by their names, and the head as the last one."""


def set_requires_grad(factors: dict[str, float], parts: Parts) -> bool:
    """Sets `requires_grad` to whether the stage's factor is above 0; returns whether anything changed.

    Parameters that freeze lose their gradient, so that no optimizer step can use it.
    """
    is_changed = False
    for name, module in parts.items():
        trains = factors[name] > 0
        for parameter in module.parameters():
            is_changed |= parameter.requires_grad != trains
            parameter.requires_grad_(trains)
            if not trains:
                parameter.grad = None
    return is_changed


def apply(factors: dict[str, float], parts: Parts, optimizers: list[Optimizer], *, keeps_statistics: bool) -> bool:
    """Applies factors to modules and optimizers; returns whether the set of training parameters changed.

    Frozen stages are put into eval mode, so that BatchNorm statistics and dropout are frozen too. With
    `keeps_statistics`, the statistics of all BatchNorms in the backbone stay frozen. Groups with an `lr_factor`, which
    are named `<stage>/<kind>` (see `optim.parameter_groups`), get their stage's.
    """
    is_changed = set_requires_grad(factors, parts)
    for name, module in parts.items():
        module.train(factors[name] > 0)
    backbone = [module for name, part in parts.items() if name != HEAD for module in part.modules()]
    for module in backbone if keeps_statistics else ():
        if isinstance(module, BATCH_NORMS):
            module.training = False
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        if "lr_factor" in group:
            group["lr_factor"] = factors[group["name"].rpartition("/")[0]]
    return is_changed


class FreezingCallback(pl.Callback):
    """Applies a freezing strategy at the start of each epoch, and before Lightning wraps the module.

    It works in any LightningModule with a backbone and a head, whatever its optimizers. Everything is a function of the
    epoch, so no state is saved, and no parameter group is added or removed.

    Args:
        backbone: name of the module's attribute, such as `backbone` or `model.encoder`. The stages are those of a
            `regraft.Backbone`, or else the children of the module, in their order.
        head: name of the attribute whose parameters always train, such as `head` or `model.fc`.
    """

    def __init__(self, strategy: FreezingStrategy, *, backbone: str = "backbone", head: str = "head") -> None:
        self.strategy = strategy
        self._names = backbone, head
        self._factors: dict[str, float] = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Sets `requires_grad` before DDP is built, as its reducer handles only parameters that have it then."""
        if stage != "fit":
            return
        parts = self._parts(pl_module)
        set_requires_grad(self._factors_at(trainer, parts), parts)
        # Lightning warns if modules are in eval mode when training starts; on_train_start, right after, sets it for
        # frozen stages.
        pl_module.train()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Applies the phase of the current epoch."""
        parts = self._parts(pl_module)
        self._factors = self._factors_at(trainer, parts)
        if apply(self._factors, parts, trainer.optimizers, keeps_statistics=keeps_statistics(self.strategy)):
            rewrap_ddp(trainer)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Has optimizers of any groups use the factors, and applies the phase of a run that resumes within an epoch."""
        parts = self._parts(pl_module)
        others = [each for each in trainer.optimizers if not all("lr_factor" in group for group in each.param_groups)]
        stage_of: dict[Tensor, str] = {each: name for name, part in parts.items() for each in part.parameters()}
        for optimizer in others:
            step_with_factors(optimizer, lambda parameter: self._factors.get(stage_of.get(parameter, HEAD), 1.0))
        if others and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._require_all(trainer, parts)
        self.on_train_epoch_start(trainer, pl_module)

    def _require_all(self, trainer: pl.Trainer, parts: Parts) -> None:
        """Raises ConfigError if the optimizers lack parameters that are to train."""
        own = {each for optimizer in trainer.optimizers for group in optimizer.param_groups for each in group["params"]}
        planned = phases(self.strategy, _stages(parts), _max_epochs(trainer))
        trained = {name for phase in planned for name, factor in phase.factors.items() if factor}
        lacking = [name for name in trained if not own.issuperset(parts[name].parameters())]
        if lacking:
            fix = "Give it all parameters of the module, frozen ones too."
            raise ConfigError("freezing", f"the optimizer lacks parameters of {listed(sorted(lacking))}", fix=fix)

    def _factors_at(self, trainer: pl.Trainer, parts: Parts) -> dict[str, float]:
        return factors_at(self.strategy, TrainingPoint(trainer.current_epoch, _max_epochs(trainer)), _stages(parts))

    def _parts(self, pl_module: pl.LightningModule) -> dict[str, nn.Module]:
        backbone, head = (_found(pl_module, name) for name in self._names)
        if not isinstance(backbone, nn.Module) or not isinstance(head, nn.Module):
            names = " and ".join(f"`{name}`" for name in self._names)
            fix = "Name them: FreezingCallback(strategy, backbone='model.encoder', head='model.fc')."
            raise ConfigError(None, f"{type(pl_module).__name__} has no modules {names} to freeze", fix=fix)
        if isinstance(backbone, Backbone):
            return {**dict(backbone.stages.items()), HEAD: head}
        children = {name: child for name, child in backbone.named_children() if child is not head}
        loose = set(backbone.parameters()) - {each for child in children.values() for each in child.parameters()}
        if HEAD in children or loose - set(head.parameters()):
            # Its children aren't all of it, so it is one stage.
            children = {"backbone": backbone}
        return {**children, HEAD: head}


def _stages(parts: Parts) -> dict[str, bool]:
    return {name: next(part.parameters(), None) is not None for name, part in parts.items() if name != HEAD}


def _max_epochs(trainer: Any) -> int:
    # fast_dev_run sets max_epochs to 1, but what it tries out is the start of a run that has room for each phase.
    max_epochs: int | None = sys.maxsize if trainer.fast_dev_run else trainer.max_epochs
    assert max_epochs is not None, "Lightning sets max_epochs before it calls any hook."
    return max_epochs


def _found(module: nn.Module, name: str) -> Any:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return found
