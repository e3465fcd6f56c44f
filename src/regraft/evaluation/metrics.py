"""How good a classifier's probabilities are: figures of a split and of each class.

Pure functions of arrays, computed by scikit-learn; no torch. Where probabilities come from belongs in
`predictions`, what is logged while training in `metrics`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from sklearn.metrics import (
    confusion_matrix,
    log_loss,
    precision_recall_fscore_support,
    roc_auc_score,
    top_k_accuracy_score,
)

from regraft.evaluation.reliability import Bins, reliability, wilson

_TOP = 5
_MAX_NAMES = 10


class ClassScores(NamedTuple):
    """The figures of one class against all others.

    Attributes:
        name: the class's.
        num_images: that are of it.
        num_predicted: that were taken for it.
        precision: in [0, 1]; 0 where nothing was taken for it.
        recall: in [0, 1]; 0 where no image is of it.
        f1: in [0, 1]; 0 where both are.
        auroc: area under the ROC curve, in [0, 1]; None where all images are of the class, or none is.
    """

    name: str
    num_images: int
    num_predicted: int
    precision: float
    recall: float
    f1: float
    auroc: float | None


@dataclass(frozen=True, eq=False)
class Scores:
    """The figures of a split.

    Attributes:
        metrics: see `scores`.
        undefined: by a metric's name, why it isn't there, or which classes have no say in it.
        per_class: by class index.
        confusion: (num_classes, num_classes), int64: images by true class (row) and predicted one (column).
        bins: see `reliability`.
    """

    metrics: dict[str, float]
    undefined: dict[str, str]
    per_class: list[ClassScores]
    confusion: np.ndarray
    bins: Bins


def scores(probabilities: np.ndarray, targets: np.ndarray, class_names: Sequence[str]) -> Scores:
    """Returns the figures of a classifier on some images.

    The metrics are, all in [0, 1] but for the log loss:

    - `acc`, with `acc_low` and `acc_high`, the ends of its 95 % interval (Wilson, 1927); `top5` if there are more than
      5 classes;
    - `balanced_acc`, the mean recall of the classes that have images;
    - `precision`, `recall`, `f1`: macro means, over the classes that have an image or were predicted;
    - `auroc`: area under the ROC curve of each class against the rest, averaged over the classes that have images;
    - `log_loss`, nats; `ece`, see `Bins`.

    Args:
        probabilities: (num_images, num_classes), rows that sum to 1; at least one image and two classes.
        targets: (num_images,), int64, the true classes.
        class_names: by class index.

    Raises:
        ValueError: a probability is no number.
    """
    assert len(targets), "a split has images"
    assert len(class_names) >= 2, "data with fewer than two classes is refused where it is read"
    require_numbers(probabilities)
    classes = np.arange(len(class_names))
    predicted = probabilities.argmax(1)
    per_class = list(_per_class(probabilities, targets, predicted, class_names))
    bins = reliability(probabilities.max(1), predicted == targets)
    low, high = wilson(int((predicted == targets).sum()), len(targets))
    seen = [row for row in per_class if row.num_images or row.num_predicted]
    metrics = {
        "acc": float((predicted == targets).mean()),
        "acc_low": low,
        "acc_high": high,
        "balanced_acc": _mean([row.recall for row in per_class if row.num_images]),
        "precision": _mean([row.precision for row in seen]),
        "recall": _mean([row.recall for row in seen]),
        "f1": _mean([row.f1 for row in seen]),
        # In double precision rows sum to 1 as exactly as scikit-learn asks for.
        "log_loss": float(log_loss(targets, _normalised(probabilities), labels=classes)),
        "ece": bins.ece,
    }
    if len(class_names) > _TOP:
        metrics["top5"] = float(top_k_accuracy_score(targets, probabilities, k=_TOP, labels=classes))
    areas = [row.auroc for row in per_class if row.auroc is not None]
    if areas:
        metrics["auroc"] = _mean(areas)
    confusion = confusion_matrix(targets, predicted, labels=classes)
    return Scores(metrics, _undefined(per_class), per_class, confusion, bins)


def require_numbers(outputs: np.ndarray) -> None:
    """Checks a model's logits or probabilities.

    Args:
        outputs: (num_images, num_classes).

    Raises:
        ValueError: some are no numbers.
    """
    bad = np.flatnonzero(~np.isfinite(outputs).all(1))
    if len(bad):
        raise ValueError(
            f"eval: the model's output is no number for {len(bad):,} of {len(outputs):,} images (the first is number "
            f"{bad[0]}). Its weights or its precision are broken: try trainer.precision=32-true, or another checkpoint."
        )


def _per_class(
    probabilities: np.ndarray, targets: np.ndarray, predicted: np.ndarray, class_names: Sequence[str]
) -> Iterator[ClassScores]:
    num_classes = len(class_names)
    num_predicted = np.bincount(predicted, minlength=num_classes)
    precision, recall, f1, num_images = precision_recall_fscore_support(
        targets, predicted, labels=np.arange(num_classes), zero_division=0
    )
    for index, name in enumerate(class_names):
        is_mixed = 0 < num_images[index] < len(targets)
        area = float(roc_auc_score(targets == index, probabilities[:, index])) if is_mixed else None
        counts = int(num_images[index]), int(num_predicted[index])
        yield ClassScores(name, *counts, float(precision[index]), float(recall[index]), float(f1[index]), area)


def _undefined(per_class: Sequence[ClassScores]) -> dict[str, str]:
    lacking = [row.name for row in per_class if not row.num_images]
    if not lacking:
        return {}
    shown = ", ".join(lacking[:_MAX_NAMES]) + (", ..." if len(lacking) > _MAX_NAMES else "")
    left_out = f"of the other classes: no image is of {shown} ({len(lacking):,} of {len(per_class):,} classes)."
    is_single = len(lacking) == len(per_class) - 1
    area = "undefined: all images are of one class, so there is none to tell it from." if is_single else left_out
    return {"balanced_acc": left_out, "auroc": area}


def _normalised(probabilities: np.ndarray) -> np.ndarray:
    exact = probabilities.astype(np.float64)
    normalised: np.ndarray = exact / exact.sum(1, keepdims=True)
    return normalised


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
