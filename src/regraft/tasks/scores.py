"""The figures of a split, whatever the task: every metric of the registry that is computed from outputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regraft.core.errors import ConfigError
from regraft.tasks.metrics import metrics_of
from regraft.tasks.reliability import Bins


@dataclass(frozen=True, eq=False)
class Scores:
    """The figures of a split.

    Attributes:
        undefined: by a metric's name, why it is missing, or which classes it leaves out.
        per_class: the figures of each class, label or target, named tuples with a `name` and a `num_images`.
        confusion: (num_classes, num_classes), int64: images by true class (row) and predicted class (column); None
            where images don't have one class each.
        bins: the reliability diagram; None of numbers.
    """

    metrics: dict[str, float]
    undefined: dict[str, str]
    per_class: Sequence[Any]
    confusion: np.ndarray | None = None
    bins: Bins | None = None


def computed(task: str, outputs: Any, num_outputs: int) -> tuple[dict[str, float], dict[str, str]]:
    """Returns the metrics of a split's outputs by name, and why some are undefined, or what they leave out.

    A metric with a 95 % interval has its ends beside it, as `acc_low` and `acc_high`.
    """
    metrics: dict[str, float] = {}
    undefined: dict[str, str] = {}
    for metric in metrics_of(task, num_outputs):
        value = None if metric.evaluated is None else metric.evaluated(outputs)
        if value is not None:
            metrics[metric.name] = value
        if value is not None and metric.interval is not None:
            metrics[f"{metric.name}_low"], metrics[f"{metric.name}_high"] = metric.interval(outputs)
        if metric.note is not None and (reason := metric.note(outputs)):
            undefined[metric.name] = reason
    return metrics, undefined


def require_finite(outputs: np.ndarray) -> None:
    """Raises ValueError if logits or probabilities, (num_images, num_classes), aren't all finite."""
    bad = np.flatnonzero(~np.isfinite(outputs).all(1))
    if len(bad):
        raise ConfigError(
            "eval",
            f"the model's output is not a number for {len(bad):,} of {len(outputs):,} samples (the first is number "
            f"{bad[0]}): its weights or its precision are broken",
            fix="Try trainer.precision=32-true, or another checkpoint.",
        )


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Returns part / whole, float64; 0 where there is nothing to divide by."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
