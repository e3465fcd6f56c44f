"""How gently a training treats what it fine-tunes: gradients, steps, and how far weights are from where they began.

Measured once an epoch, at its last step, so that epochs of the head alone stay as fast as they are.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from regraft.core.atomic import write_atomically

INITIAL = "initial.safetensors"

log = logging.getLogger(__name__)


class Stability(pl.Callback):
    """Logs of each stage that trains, at an epoch's last step, L2 norms over all of its parameters.

    - `grad_norm/<stage>`: of the gradient, before it is clipped;
    - `update_ratio/<stage>`: of the step that the optimizer took, over that of the weights;
    - `distance/<stage>`: of the difference from the weights that the run began with, over that of those.

    What would be divided by 0 is left out, and so are the first two of a skipped batch and of L-BFGS, whose step
    evaluates many gradients. The weights that a stage begins with are kept beside the checkpoints when it first trains,
    so that a resumed run measures from the same ones; of a run without that file the distance isn't logged.

    Args:
        dirpath: where checkpoints lie.
    """

    def __init__(self, *, dirpath: str | Path) -> None:
        self._path = Path(dirpath) / INITIAL
        self._names: dict[nn.Parameter, str] = {}
        self._initial: dict[str, Tensor] | None = {}
        self._before: dict[str, list[Tensor]] = {}
        self._measured: dict[str, float] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes up the weights that a resumed run began with."""
        self._names = {parameter: name for name, parameter in pl_module.named_parameters()}
        if trainer.ckpt_path is None:
            self._initial = {}
            return
        try:
            self._initial = load_file(Path(trainer.ckpt_path).parent / INITIAL)
        except (OSError, SafetensorError):
            self._initial = None
            log.info("The weights that the run began with aren't kept, so the distance from them isn't logged.")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keeps the weights of the stages that are about to train for the first time."""
        if self._initial is None:
            return
        training = [p for parameters in training_stages(trainer.optimizers[0]).values() for p in parameters]
        new = [parameter for parameter in training if self._names[parameter] not in self._initial]
        is_kept = trainer.ckpt_path is None or self._path.is_file()
        if not new and is_kept:
            return
        self._initial |= {self._names[p]: p.detach().to("cpu", copy=True).contiguous() for p in new}
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, save(self._initial))

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Measures the gradient of an epoch's last step, and keeps the weights before it."""
        if not trainer.is_last_batch:
            return
        stages = {
            stage: parameters
            for stage, parameters in training_stages(trainer.optimizers[0]).items()
            if any(parameter.grad is not None for parameter in parameters)  # none of a batch that is skipped
        }
        for stage, parameters in stages.items():
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            self._measured[f"grad_norm/{stage}"] = _norm(gradients)
        self._before = {stage: [p.detach().clone() for p in parameters] for stage, parameters in stages.items()}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measures the epoch's last step, and where the weights are after it."""
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
        """Returns what was measured in an epoch that hasn't ended yet."""
        return dict(self._measured)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes up what was measured."""
        self._measured = dict(state_dict)

    def _keep(self, name: str, parameters: Sequence[Tensor], earlier: Sequence[Tensor]) -> None:
        """Keeps how far parameters are from earlier ones, over the norm of those; nothing if that is 0."""
        size = _norm(earlier)
        if size:
            pairs = zip(parameters, earlier, strict=True)
            self._measured[name] = _norm([now.detach().to(then.device) - then for now, then in pairs]) / size


def training_stages(optimizer: Optimizer) -> dict[str, list[nn.Parameter]]:
    """Returns the parameters that train, by stage; groups are named `<stage>/<kind>`, see `optim.parameter_groups`."""
    stages: dict[str, list[nn.Parameter]] = {}
    for group in optimizer.param_groups:
        training = [parameter for parameter in group["params"] if parameter.requires_grad]
        if training:
            stages.setdefault(group["name"].rpartition("/")[0], []).extend(training)
    return stages


def _norm(tensors: Iterable[Tensor]) -> float:
    return float(get_total_norm([tensor.float() for tensor in tensors]))
