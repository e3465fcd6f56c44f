"""Classification, one class an image: targets, outputs to probabilities, losses, metrics.

Targets are class indices (batch,), int64, or rows that sum to 1, (batch, num_classes), from mixup or CutMix. Outputs
are logits (batch, num_classes).
"""

from typing import TYPE_CHECKING, Any

from regraft.tasks.metrics import Metric, register

if TYPE_CHECKING:
    from torch import Tensor

    from regraft.tasks.class_scores import Outputs

NAME = "classification"
HEADLINE = "acc"
"""The metric that training logs of the training split, too, and that runs are ranked by."""
LOSSES = ("cross_entropy", "focal", "mse")
"""The choices of `loss=` that fit."""
_TOP = 5


def labels(targets: "Tensor") -> "Tensor":
    """Returns class indices, (batch,); of rows those of the largest share."""
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

    return float(log_loss(outputs.targets, outputs.exact_probabilities, labels=outputs.classes))


def _top5(outputs: "Outputs") -> float:
    from sklearn.metrics import top_k_accuracy_score

    return float(top_k_accuracy_score(outputs.targets, outputs.probabilities, k=_TOP, labels=outputs.classes))


# Two classes count as multi-class: both weigh in the macro means. A class that has neither a target nor a prediction is
# left out of the macro means; one that was never predicted has precision 0, one that never occurred has recall 0.
for _metric in (
    Metric("loss", "Loss", higher_is_better=False),
    Metric(
        "acc",
        "Accuracy",
        higher_is_better=True,
        logged=lambda num_classes: _torchmetric("MulticlassAccuracy", num_classes, average="micro"),
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
    Metric(
        "precision",
        "precision",
        higher_is_better=True,
        logged=lambda num_classes: _torchmetric("MulticlassPrecision", num_classes, average="macro"),
        group="macro",
        evaluated=lambda outputs: outputs.mean_of("precision", outputs.seen),
        is_per_class=True,
    ),
    Metric(
        "recall",
        "recall",
        higher_is_better=True,
        logged=lambda num_classes: _torchmetric("MulticlassRecall", num_classes, average="macro"),
        group="macro",
        evaluated=lambda outputs: outputs.mean_of("recall", outputs.seen),
        is_per_class=True,
    ),
    Metric(
        "f1",
        "F1",
        higher_is_better=True,
        logged=lambda num_classes: _torchmetric("MulticlassF1Score", num_classes, average="macro"),
        group="macro",
        evaluated=lambda outputs: outputs.mean_of("f1", outputs.seen),
        is_per_class=True,
    ),
    Metric("log_loss", "Log loss", higher_is_better=False, evaluated=_log_loss, needs_probabilities=True),
    Metric(
        "ece",
        "Expected calibration error",
        higher_is_better=False,
        evaluated=lambda outputs: outputs.bins.ece,
    ),
    Metric(
        "top5",
        "Top-5 accuracy",
        higher_is_better=True,
        min_classes=_TOP + 1,
        logged=lambda num_classes: _torchmetric("MulticlassAccuracy", num_classes, average="micro", top_k=_TOP),
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
