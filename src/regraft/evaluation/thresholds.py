"""The probability above which each label is predicted, for the best F1 on validation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import precision_recall_curve

from regraft.runs.calibration import checksum
from regraft.runs.thresholds import Thresholds
from regraft.tasks.label_scores import LabelOutputs


def fit(
    probabilities: np.ndarray,
    targets: np.ndarray,
    names: Sequence[str],
    split: str,
    checkpoint: Path,
    temperature: float,
) -> Thresholds:
    """Returns the threshold of each label that has the highest F1.

    It lies in the middle between two images' probabilities. A label that no image has, or all have, keeps one half.

    Args:
        probabilities: (num_images, num_labels).
        targets: (num_images, num_labels), 0 or 1.
    """
    values = np.array([_best(targets[:, index] > 0.5, probabilities[:, index]) for index in range(len(names))])
    before, after = (LabelOutputs(probabilities, targets, names, limits).macro("f1") for limits in (None, values))
    return Thresholds(
        values=dict(zip(names, values.tolist(), strict=True)),
        checkpoint=checkpoint.name,
        sha256=checksum(checkpoint),
        split=split,
        num_images=len(targets),
        temperature=temperature,
        f1_before=before,
        f1_after=after,
    )


def _best(is_true: np.ndarray, probabilities: np.ndarray) -> float:
    if is_true.all() or not is_true.any():
        return 0.5
    precision, recall, limits = precision_recall_curve(is_true, probabilities.astype(np.float64))
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    limit = float(limits[int(f1[:-1].argmax())])
    below = probabilities[probabilities < limit]
    return (limit + float(below.max())) / 2 if len(below) else limit / 2
