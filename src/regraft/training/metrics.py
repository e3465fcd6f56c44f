"""The metrics of a classification run, and the mean of its loss over an epoch."""

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)

_MIN_CLASSES_OF_TOP5 = 6


def metric_names(num_classes: int) -> list[str]:
    """Returns what a run with a validation split logs once an epoch, and can be watched."""
    names = ["acc", "precision", "recall", "f1", *(["top5"] if num_classes >= _MIN_CLASSES_OF_TOP5 else [])]
    return ["train/loss", "train/acc", "val/loss", *(f"val/{name}" for name in names)]


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
    if num_classes >= _MIN_CLASSES_OF_TOP5:
        metrics["top5"] = MulticlassAccuracy(num_classes, average="micro", top_k=5, validate_args=False)
        groups.append(["top5"])
    return MetricCollection(metrics, compute_groups=groups)


class MeanLoss(Metric):
    """The mean loss of all samples since the last reset, whatever the batches: summed loss over summed normaliser.

    With class weights this isn't the mean of the batches' means. torchmetrics' MeanMetric would do, but with its check
    for NaN switched off (a loss may well be NaN, and should then be seen) it drops the weights.
    """

    full_state_update = False
    total: Tensor
    normaliser: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("normaliser", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, total: Tensor, normaliser: Tensor) -> None:
        """Adds a batch; see `losses`."""
        self.total += total.detach().float()
        self.normaliser += normaliser

    def compute(self) -> Tensor:
        """Returns the mean, 0 where everything weighs 0."""
        return self.total / self.normaliser.clamp_min(torch.finfo(torch.float32).tiny)
