"""The probability above which each label, or the positive class of two, is predicted; fitted on validation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import precision_recall_curve

from regraft.core.errors import ConfigError, listed
from regraft.evaluation.options import ThresholdMetric
from regraft.runs.calibration import checksum
from regraft.runs.thresholds import Thresholds
from regraft.tasks import Task


def fit(
    task: Task,
    outputs: np.ndarray,
    targets: np.ndarray,
    names: Sequence[str],
    metric: ThresholdMetric,
    checkpoint: Path,
    *,
    split: str,
    temperature: float,
    positive: str | None = None,
) -> Thresholds:
    """Returns the thresholds that are the best for a metric on validation.

    Each lies in the middle between two images' probabilities. A label that no image has, or all have, keeps one half.

    Args:
        outputs: probabilities, (num_images, num_outputs).
        targets: (num_images,) or (num_images, num_outputs).
        split: how the images are held out: `val`, or `leave-one-out` and the like.
        positive: the positive class of two; None for the second one.

    Raises:
        ConfigError: there is nothing to fit them on, or no threshold has the precision.
    """
    detections = task.detections(targets, names, positive)
    if all(is_true.all() or not is_true.any() for is_true in detections.values()):
        what = listed([names[index] for index in detections])
        reason = f"of the {len(targets):,} held-out samples ({split}) either all or none are of {what}"
        raise ConfigError("calibrate", reason)
    fitted = {
        index: _best(is_true, outputs[:, index], metric, names[index], split) for index, is_true in detections.items()
    }
    values = task.thresholds(fitted, len(names))
    before, after = (
        _figures(task.scores(outputs, targets, names, limits, positive).per_class, list(detections), metric)
        for limits in (None, np.array(values))
    )
    return Thresholds(
        values=dict(zip(names, values, strict=True)),
        checkpoint=checkpoint.name,
        sha256=checksum(checkpoint),
        split=split,
        num_images=len(targets),
        temperature=temperature,
        metric=metric.text,
        before=before,
        after=after,
    )


def _best(is_true: np.ndarray, probabilities: np.ndarray, metric: ThresholdMetric, name: str, split: str) -> float:
    if is_true.all() or not is_true.any():
        return 0.5
    precision, recall, limits = (each[: len(probabilities)] for each in _curve(is_true, probabilities))
    if metric.precision is None:
        index = int((2 * precision * recall / np.maximum(precision + recall, 1e-12)).argmax())
    else:
        is_enough = (precision >= metric.precision) & (recall > 0)
        if not is_enough.any():
            reason = f"no threshold of {name} has that precision on the held-out samples ({split})"
            reason += f"; the highest is {precision.max():.4g}"
            raise ConfigError("metric", reason, got=metric.text, fix="Use a lower precision.")
        index = int(np.where(is_enough, recall, -1.0).argmax())
    limit = float(limits[index])
    below = probabilities[probabilities < limit]
    return (limit + float(below.max())) / 2 if len(below) else limit / 2


def _curve(is_true: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns precision, recall and threshold where each distinct probability is the lowest that is predicted."""
    precision, recall, limits = precision_recall_curve(is_true, probabilities.astype(np.float64))
    return precision[:-1], recall[:-1], limits


def _figures(rows: Sequence[object], indices: Sequence[int], metric: ThresholdMetric) -> dict[str, float]:
    names = ("F1",) if metric.precision is None else ("recall", "precision")
    return {name: float(np.mean([getattr(rows[index], name.lower()) for index in indices])) for name in names}
