"""Classification, one class an image: targets, outputs to probabilities, losses, metrics.

Targets are class indices (batch,), int64, or rows that sum to 1, (batch, num_classes), from mixup or CutMix. Outputs
are logits (batch, num_classes).
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from regraft.tasks.metrics import Metric, register

if TYPE_CHECKING:
    from torch import Tensor

    from regraft.tasks.class_scores import Outputs

NAME = "classification"
HEADLINE = "acc"
"""The metric that runs are ranked by; training also logs it for the training split."""
LOSSES = ("cross_entropy", "focal", "mse")
"""The choices of `loss=` that fit the task."""
_TOP = 5


def labels(targets: "Tensor") -> "Tensor":
    """Returns class indices, (batch,); for rows those of the largest share."""
    return targets if targets.ndim == 1 else targets.argmax(1)


def predicted_classes(logits: "Tensor") -> "Tensor":
    """Returns the indices of the most probable classes, (batch,)."""
    return logits.argmax(1)


def probabilities(logits: "Tensor") -> "Tensor":
    """Returns rows that sum to 1, (batch, num_classes)."""
    return logits.softmax(1)


def _torchmetric(name: str, num_classes: int, **options: Any) -> Any:
    import torchmetrics.classification

    return getattr(torchmetrics.classification, name)(num_classes, validate_args=False, **options)


def _log_loss(outputs: "Outputs") -> float:
    from sklearn.metrics import log_loss

    return float(log_loss(outputs.targets, outputs.exact_probabilities, labels=range(len(outputs.class_names))))


def _top5(outputs: "Outputs") -> float:
    from sklearn.metrics import top_k_accuracy_score

    labels = range(len(outputs.class_names))
    return float(top_k_accuracy_score(outputs.targets, outputs.probabilities, k=_TOP, labels=labels))


def _macro(name: str, title: str, torchmetric: str) -> Metric:
    """Returns a mean over the classes that have a target or a prediction.

    A class that was never predicted has precision 0, one that never occurred recall 0. Two classes count as
    multi-class: both weigh in the mean.
    """
    return Metric(
        name,
        title,
        higher_is_better=True,
        logged=partial(_torchmetric, torchmetric, average="macro"),
        group="macro",
        evaluated=lambda outputs: outputs.mean_of(name, outputs.seen),
        is_per_class=True,
    )


for _metric in (
    Metric("loss", "Loss", higher_is_better=False),
    Metric(
        "acc",
        "Accuracy",
        higher_is_better=True,
        logged=partial(_torchmetric, "MulticlassAccuracy", average="micro"),
        evaluated=lambda outputs: float(outputs.is_right.mean()),
        interval=lambda outputs: outputs.accuracy_interval,
    ),
    Metric(
        "balanced_acc",
        "Balanced accuracy",
        higher_is_better=True,
        evaluated=lambda outputs: outputs.mean_of("recall", outputs.with_images),
        note=lambda outputs: outputs.without_images_text,
    ),
    _macro("precision", "precision", "MulticlassPrecision"),
    _macro("recall", "recall", "MulticlassRecall"),
    _macro("f1", "F1", "MulticlassF1Score"),
    Metric("log_loss", "Log loss", higher_is_better=False, evaluated=_log_loss, needs_probabilities=True),
    Metric("ece", "Expected calibration error", higher_is_better=False, evaluated=lambda outputs: outputs.bins.ece),
    Metric(
        "top5",
        "Top-5 accuracy",
        higher_is_better=True,
        min_classes=_TOP + 1,
        logged=partial(_torchmetric, "MulticlassAccuracy", average="micro", top_k=_TOP),
        evaluated=_top5,
        needs_probabilities=True,
    ),
    Metric(
        "auroc",
        "AUROC",
        higher_is_better=True,
        evaluated=lambda outputs: outputs.mean_of("auroc", outputs.with_area) if outputs.with_area else None,
        note=lambda outputs: outputs.area_text,
        is_per_class=True,
        needs_probabilities=True,
    ),
):
    register(_metric)
