"""What is said of a training whose loss is no number."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

_NUM_SHOWN = 16


class DivergedError(ValueError):
    """A loss isn't finite.

    Attributes:
        step: optimizer steps before it.
    """

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


def divergence(loss: float, epoch: int, step: int, indices: Sequence[int], metrics: Mapping[str, Any]) -> DivergedError:
    """Returns the error that says what is to be known of a loss that isn't finite.

    Args:
        loss: the loss.
        epoch: from 0.
        step: optimizer steps before it.
        indices: the batch's images, by their place in the training data.
        metrics: what was last logged.
    """
    shown = ", ".join(map(str, indices[:_NUM_SHOWN])) + (", ..." if len(indices) > _NUM_SHOWN else "")
    known = {name: float(value) for name, value in metrics.items()}
    earlier = ", ".join(f"{name} {value:.4g}" for name, value in known.items() if math.isfinite(value))
    message = (
        f"train/loss: got {loss} in epoch {epoch}, step {step}, on the images {shown} (places in the training data); "
        f"training has diverged. Last metrics: {earlier or 'none yet'}. Lower optimizer.lr, add "
        "scheduler.warmup_epochs, clip (trainer.gradient_clip_val=1.0), or leave such batches out with "
        "callbacks.nan=skip."
    )
    return DivergedError(message, step)
