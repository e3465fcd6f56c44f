"""Classification, one class an image: targets, outputs to probabilities, losses, metrics.

Targets are class indices (batch,), int64, or rows that sum to 1, (batch, num_classes), from mixup or CutMix. Outputs
are logits (batch, num_classes).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from regraft.core.errors import ConfigError
from regraft.tasks.base import TASKS, TargetSummary, Task
from regraft.tasks.metrics import Metric, register

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from regraft.tasks.class_scores import Outputs
    from regraft.tasks.scores import Scores

_TOP = 5


class Classification(Task):
    """One class an image."""

    name = "classification"
    headline = train_metric = "acc"
    losses = ("cross_entropy", "focal", "mse")
    has_classes = True
    min_names = 2

    def check_labels(self, labels: "Tensor", names: Sequence[str], split: str) -> None:
        """Raises ConfigError unless labels are class indices, (num_samples,), int64."""
        import torch

        if labels.dtype != torch.int64 or labels.ndim != 1:
            reason = f"the targets of {split} have the shape {tuple(labels.shape)} and type {labels.dtype}"
            raise ConfigError("data", reason, allowed="class indices, (num_images,), int64")

    def counts(self, labels: "Tensor", num_outputs: int) -> "Tensor":
        """Returns the number of samples of each class."""
        return labels.bincount(minlength=num_outputs)

    def strata(self, labels: "Tensor") -> "Tensor":
        """Returns the classes."""
        return labels

    def reordered(self, labels: "Tensor", indices: "Tensor", num_outputs: int) -> "Tensor":
        """Returns the new class indices."""
        return indices[labels]

    def true(self, targets: "Tensor") -> "Tensor":
        """Returns class indices, (batch,); for rows those of the largest share."""
        return targets if targets.ndim == 1 else targets.argmax(1)

    def predicted(self, logits: "Tensor") -> "Tensor":
        """Returns the indices of the most probable classes, (batch,)."""
        return logits.argmax(1)

    def outputs(self, logits: "Tensor", temperature: float = 1.0) -> "Tensor":
        """Returns rows that sum to 1, (batch, num_classes)."""
        return (logits / temperature).softmax(1)

    def scores(
        self,
        outputs: "np.ndarray",
        targets: "np.ndarray",
        names: Sequence[str],
        thresholds: "np.ndarray | None" = None,
        positive: str | None = None,
    ) -> "Scores":
        """Returns the figures of a split; see `class_scores.scores`."""
        from regraft.tasks.class_scores import scores

        return scores(outputs, targets, names, positive, thresholds)

    def decisions(
        self, logits: "Tensor", temperature: float = 1.0, thresholds: "np.ndarray | None" = None
    ) -> "np.ndarray":
        """Returns the predicted classes, (num_images,), int64; see `predicted_classes`."""
        from regraft.tasks.class_scores import predicted_classes

        outputs = logits if thresholds is None else self.outputs(logits, temperature)
        return predicted_classes(outputs.numpy(), thresholds)

    def error(self, decisions: "np.ndarray", targets: "np.ndarray", names: Sequence[str]) -> float:
        """Returns the share of the images that are classified wrongly."""
        return int((decisions != targets).sum()) / len(targets)

    def mean_logits(self, logits: "Tensor") -> "Tensor":
        """Returns the logarithm of the mean probabilities of several models, (batch, num_classes)."""
        return logits.log_softmax(2).logsumexp(0)

    def calibrations(self, num_outputs: int | None = None) -> tuple[str, ...]:
        """Returns a temperature, and a threshold of two classes."""
        return ("temperature", "threshold") if num_outputs in (None, 2) else ("temperature",)

    def detections(self, targets: "np.ndarray", names: Sequence[str], positive: str | None) -> "dict[int, np.ndarray]":
        """Returns which images are of the positive class."""
        from regraft.tasks.class_scores import positive_index

        index = positive_index(names, positive)
        return {index: targets == index}

    def thresholds(self, fitted: Mapping[int, float], num_outputs: int) -> list[float]:
        """Returns the threshold of the positive class, and what is left to 1 as that of the other class."""
        ((positive, threshold),) = fitted.items()
        return [threshold if index == positive else 1 - threshold for index in range(num_outputs)]

    def pseudovalues(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Returns whether each image is classified correctly, (num_images,), bool."""
        return outputs.argmax(1) == targets

    def loss_arguments(self, summary: TargetSummary) -> dict[str, Any]:
        """Returns the number of classes and the training images of each."""
        return {"num_classes": len(summary.names), "class_counts": list(summary.counts)}


TASKS[Classification.name] = Classification()


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


def _average_precision(outputs: "Outputs") -> float | None:
    from sklearn.metrics import average_precision_score

    is_true = outputs.targets == outputs.positive
    return (
        float(average_precision_score(is_true, outputs.probabilities[:, outputs.positive])) if is_true.any() else None
    )


for _metric in (
    Metric("loss", "Loss", higher_is_better=False),
    Metric(
        "acc",
        "Accuracy",
        higher_is_better=True,
        logged=partial(_torchmetric, "MulticlassAccuracy", average="micro"),
        trained=partial(_torchmetric, "MulticlassAccuracy", average="micro"),
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
    Metric(
        "ap",
        "Average precision of the positive class",
        higher_is_better=True,
        max_classes=2,
        evaluated=_average_precision,
        note=lambda outputs: outputs.positive_text,
        needs_probabilities=True,
    ),
    Metric(
        "f1_positive",
        "F1 of the positive class",
        higher_is_better=True,
        max_classes=2,
        evaluated=lambda outputs: outputs.per_class[outputs.positive].f1,
    ),
):
    register(_metric)
