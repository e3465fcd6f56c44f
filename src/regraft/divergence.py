"""What is said of a training whose loss is no number."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

_NUM_SHOWN = 16


def divergence(loss: float, epoch: int, step: int, indices: Sequence[int], metrics: Mapping[str, Any]) -> str:
    """Returns what is to be known of a loss that isn't finite.

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
    return (
        f"train/loss: got {loss} in epoch {epoch}, step {step}, on the images {shown} (places in the training data); "
        f"training has diverged. Last metrics: {earlier or 'none yet'}. Lower optimizer.lr, add "
        "scheduler.warmup_epochs, clip (trainer.gradient_clip_val=1.0), or leave such batches out with "
        "callbacks.nan=skip. last.ckpt is from before it."
    )
