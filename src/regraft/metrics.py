"""The metrics of a classification run; the loss is the module's own."""

from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)


def classification_metrics(num_classes: int) -> MetricCollection:
    """Returns `acc`, macro `precision`, `recall` and `f1`, and `top5` if there are more than 5 classes.

    Updated with logits (batch, num_classes) and targets (batch,), int64. Two classes count as multi-class: both weigh
    in the macro means. A class that has neither a target nor a prediction is left out of the macro means; one that was
    never predicted has precision 0, one that never occurred has recall 0. Prefix by `.clone(prefix="val/")`.
    """
    assert num_classes >= 2, "Data with fewer than two classes is refused where it is read."

    metrics: dict[str, Metric | MetricCollection] = {
        "acc": MulticlassAccuracy(num_classes, average="micro", validate_args=False),
        "precision": MulticlassPrecision(num_classes, average="macro", validate_args=False),
        "recall": MulticlassRecall(num_classes, average="macro", validate_args=False),
        "f1": MulticlassF1Score(num_classes, average="macro", validate_args=False),
    }
    # Spelt out: torchmetrics finds groups by comparing states after the first batch, and would merge acc with top5
    # for good if they happened to be equal there.
    groups = [["acc"], ["precision", "recall", "f1"]]
    if num_classes > 5:
        metrics["top5"] = MulticlassAccuracy(num_classes, average="micro", top_k=5, validate_args=False)
        groups.append(["top5"])
    return MetricCollection(metrics, compute_groups=groups)
