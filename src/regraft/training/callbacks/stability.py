"""Gradient norms, relative update sizes and distances from the initial weights, by stage.

They are measured once an epoch, at its last step, so that epochs of the head alone stay fast.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from regraft.core.atomic import write_atomically
from regraft.core.sharded import part_of, whole

INITIAL = "initial.safetensors"

log = logging.getLogger(__name__)


class Stability(pl.Callback):
    """Logs L2 norms over all parameters of each trained stage, at the last step of an epoch.

    - `grad_norm/<stage>`: the gradient, before clipping;
    - `update_ratio/<stage>`: the optimizer's update, divided by the weights;
    - `distance/<stage>`: the difference from the initial weights, divided by those.

    A ratio with 0 as its denominator is left out, and so are the first two for a skipped batch and for L-BFGS, whose
    step evaluates many gradients. The initial weights of a stage are saved beside the checkpoints when it first trains,
    so that a resumed run measures from the same ones; without that file the distance isn't logged.
    """

    def __init__(self, *, dirpath: str | Path) -> None:
        self._path = Path(dirpath) / INITIAL
        self._is_kept = True
        self._names: dict[nn.Parameter, str] = {}
        self._initial: dict[str, Tensor] | None = {}
        self._before: dict[str, list[Tensor]] = {}
        self._measured: dict[str, float] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Loads the initial weights of a resumed run."""
        self._names = {parameter: name for name, parameter in pl_module.named_parameters()}
        if trainer.ckpt_path is None:
            self._initial, self._is_kept = {}, True
            return
        file = Path(trainer.ckpt_path).parent / INITIAL
        self._is_kept = file == self._path
        initial: dict[str, Tensor] = {}
        with suppress(OSError, SafetensorError):
            initial = load_file(file)
        # One answer for all processes, which collect sharded weights together.
        if not trainer.strategy.reduce_boolean_decision(bool(initial)):
            self._initial = None
            log.info("The initial weights of the run are not available, so the distance from them isn't logged.")
            return
        own = dict(pl_module.named_parameters())
        self._initial = {name: part_of(each, own.get(name)).cpu() for name, each in initial.items()}

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves the weights of stages that train for the first time."""
        if self._initial is None:
            return
        training = [p for parameters in training_stages(trainer.optimizers[0]).values() for p in parameters]
        new = [parameter for parameter in training if self._names[parameter] not in self._initial]
        if not new and self._is_kept:
            return
        self._is_kept = True
        self._initial |= {self._names[p]: p.detach().to("cpu", copy=True).contiguous() for p in new}
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        collected: dict[str, Tensor] = {}
        for name, each in self._initial.items():
            tensor = whole(each)  # by all processes, of which the first one keeps them
            collected |= {name: tensor.cpu()} if trainer.is_global_zero else {}
        if trainer.is_global_zero:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, save(collected))

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Measures the gradient of an epoch's last step, and copies the weights before it."""
        if not trainer.is_last_batch:
            return
        stages = {
            stage: parameters
            for stage, parameters in training_stages(trainer.optimizers[0]).items()
            if any(parameter.grad is not None for parameter in parameters)  # a skipped batch has none
        }
        for stage, parameters in stages.items():
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            self._measured[f"grad_norm/{stage}"] = _norm(gradients)
        self._before = {stage: [p.detach().clone() for p in parameters] for stage, parameters in stages.items()}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measures the last update of an epoch, and the distance after it."""
        if not trainer.is_last_batch:
            return
        before, self._before = self._before, {}
        for stage, parameters in training_stages(trainer.optimizers[0]).items():
            if stage in before:
                self._keep(f"update_ratio/{stage}", parameters, before[stage])
            if self._initial is not None:
                self._keep(f"distance/{stage}", parameters, [self._initial[self._names[p]] for p in parameters])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs what was measured."""
        measured, self._measured = self._measured, {}
        pl_module.log_dict(measured, sync_dist=True)

    def state_dict(self) -> dict[str, Any]:
        """Returns what has been measured in the current epoch."""
        return dict(self._measured)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restores what has been measured in the current epoch."""
        self._measured = dict(state_dict)

    def _keep(self, name: str, parameters: Sequence[Tensor], earlier: Sequence[Tensor]) -> None:
        """Records the relative distance of parameters from earlier ones, unless those are 0."""
        pairs = [(now.detach(), then.to(now.device)) for now, then in zip(parameters, earlier, strict=True)]
        size = _norm(then for _, then in pairs)
        if size:
            self._measured[name] = _norm(now - then for now, then in pairs) / size


def training_stages(optimizer: Optimizer) -> dict[str, list[nn.Parameter]]:
    """Returns the parameters that train, by stage; see `optim.parameter_groups`."""
    stages: dict[str, list[nn.Parameter]] = {}
    for group in optimizer.param_groups:
        training = [parameter for parameter in group["params"] if parameter.requires_grad]
        if training:
            stages.setdefault(group["name"].rpartition("/")[0], []).extend(training)
    return stages


def _norm(tensors: Iterable[Tensor]) -> float:
    return float(whole(get_total_norm([tensor.float() for tensor in tensors])))
