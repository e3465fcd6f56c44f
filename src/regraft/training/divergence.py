"""What ends a training whose loss or weights are no longer finite."""

import math
from collections.abc import Mapping

import pytorch_lightning as pl
from torch import Tensor
from torch.nn.utils import get_total_norm

from regraft.core.errors import listed
from regraft.core.sharded import is_sharded, whole
from regraft.training.closed_form.optimizer import ClosedForm

_NUM_SHOWN = 16
_LOWER = "Lower optimizer.lr, add scheduler.warmup_epochs, or clip (trainer.gradient_clip_val=1.0)"
_SKIP = ", or leave such batches out with callbacks.nan=skip"
_OF_FEATURES = "The head is found in closed form, so look at the weights of the backbone and at loss.class_weights."


class DivergedError(ValueError):
    """A loss or a weight isn't finite; `step` is the number of optimizer steps before that was seen."""

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


def diverged_in_batch(module: pl.LightningModule, loss: Tensor, indices: Tensor, step: int) -> DivergedError:
    """Returns the error of a batch's training loss.

    Args:
        indices: of the batch's samples in the training data.
    """
    shown = ", ".join(map(str, indices[:_NUM_SHOWN].tolist())) + (", ..." if len(indices) > _NUM_SHOWN else "")
    where = f"in epoch {module.current_epoch + 1}, step {step}, on the samples {shown} (indices in the training data)"
    return _diverged(module, step, f"train/loss is {float(loss)} {where}", or_else=_SKIP)


def require_finite_loss(module: pl.LightningModule, name: str, loss: Tensor) -> None:
    """Checks the mean loss of a split."""
    if not loss.isfinite():
        what = f"{name} is {float(loss)} after {module.global_step} steps"
        raise _diverged(module, module.global_step, what)


def require_finite_weights(module: pl.LightningModule, state: Mapping[str, Tensor]) -> None:
    """Checks weights that are about to be kept."""
    # A buffer may be infinite, as a limit that isn't one.
    names = {name for name, _ in module.named_parameters()}
    parameters = [tensor for name, tensor in state.items() if name in names]
    buffers = [tensor for name, tensor in state.items() if name not in names and tensor.is_floating_point()]
    # torch takes no norm of divided tensors together with others. One of squares is found twenty times as fast as the
    # largest number, and says the same but where it is too large, for which each number is looked at below.
    divided = whole(get_total_norm([each for each in parameters if is_sharded(each)]))
    norm = get_total_norm([each for each in parameters if not is_sharded(each)])
    if divided.isfinite() and norm.isfinite() and not get_total_norm(buffers).isnan():
        return
    # Divided ones are collected only where all processes do so, as other tensors may differ between them.
    suspects = {name: each for name, each in state.items() if not (divided.isfinite() and is_sharded(each))}
    wrong = [
        name
        for name, tensor in ((name, whole(each)) for name, each in suspects.items())
        if tensor.is_floating_point() and not (tensor.isfinite() if name in names else ~tensor.isnan()).all()
    ]
    if not wrong:  # the squares are too large for a norm
        return
    what = f"the weights {listed(wrong)} are NaN or infinite after {module.global_step} steps"
    raise _diverged(module, module.global_step, what)


def _diverged(module: pl.LightningModule, step: int, what: str, *, or_else: str = "") -> DivergedError:
    known = {name: float(value) for name, value in module.trainer.callback_metrics.items()}
    earlier = ", ".join(f"{name} {value:.4g}" for name, value in known.items() if math.isfinite(value))
    is_fitted = any(isinstance(optimizer, ClosedForm) for optimizer in module.trainer.optimizers)
    advice = _OF_FEATURES if is_fitted else f"{_LOWER}{or_else}."
    return DivergedError(f"{what}; training has diverged. Last metrics: {earlier or 'none yet'}. {advice}", step)
