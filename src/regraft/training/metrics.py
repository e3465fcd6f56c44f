"""The metrics that a run logs once per epoch, from the registry, and the mean of its loss over an epoch."""

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from regraft.tasks import Task
from regraft.tasks.metrics import find, logged_names


def metric_names(task: Task, num_outputs: int | None) -> list[str]:
    """Returns what a run with a validation split logs once per epoch; None: whatever the number of outputs is."""
    names = logged_names(task.name, num_outputs)
    return ["train/loss", f"train/{task.train_metric}", *(f"val/{name}" for name in names)]


def train_metric(task: Task, num_outputs: int) -> Metric:
    """Returns the metric that is updated with predicted and true targets in training."""
    entry = find(task.train_metric, task.name)
    assert entry is not None, "each task names one of its own"
    assert entry.trained is not None, "each task names one that training can log"
    made: Metric = entry.trained(num_outputs)
    return made


def logged_metrics(task: Task, num_classes: int) -> MetricCollection:
    """Returns the logged metrics of the registry that are defined for a number of outputs.

    Updated with logits (batch, num_classes) and targets. Prefix by `.clone(prefix="val/")`.
    """
    assert num_classes >= task.min_names, "Data with fewer than two classes is refused where it is read."
    entries = {each.name: each for each in task.metrics(num_classes) if each.logged}
    made = {name: entry.logged(num_classes) for name, entry in entries.items() if entry.logged}
    # Spelt out: torchmetrics finds groups by comparing states after the first batch, and would merge acc with top5
    # for good if they happened to be equal there.
    groups: dict[str, list[str]] = {}
    for name, entry in entries.items():
        groups.setdefault(entry.group or name, []).append(name)
    return MetricCollection(made, compute_groups=list(groups.values()))


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
        """Adds a batch; see `Loss.total`."""
        # A module of half precision makes the sums so, too, and in bfloat16 8192 + 32 is 8192.
        self.total = self.total.float() + total.detach().float()
        self.normaliser = self.normaliser.float() + normaliser.float()

    def compute(self) -> Tensor:
        """Returns the mean, 0 where everything weighs 0."""
        return self.total / self.normaliser.clamp_min(torch.finfo(torch.float32).tiny)
