"""The registry of metrics: how each is computed, which way is better, what it needs.

What is logged, watched, searched for, ranked and shown loops over it, so a metric is added by one entry. No torch: the
command line reads the names and the directions.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from regraft.core.errors import ConfigError


@dataclass(frozen=True)
class Metric:
    """One entry of the registry.

    Attributes:
        name: as in `val/acc`; tasks may have metrics of the same name.
        title: in tables and charts.
        task: whose metric it is.
        min_classes: the fewest classes, labels or targets that it is defined for.
        max_classes: the most of them.
        logged: returns the torchmetrics object for a number of outputs, which is updated with logits
            (batch, num_outputs) and targets and logged once an epoch; None for what only `regraft eval` computes.
        trained: returns the torchmetrics object that is updated with predicted and true targets in training, and keeps
            no lists.
        group: logged metrics of one group share their state; a group of its own by default.
        evaluated: computes it from a split's outputs (see the task); None for an undefined value.
        interval: computes the ends of its 95 % interval from a split's outputs.
        note: returns why it is undefined, or what it leaves out; an empty text if there is nothing to say.
        is_per_class: whether `evaluated` gives a mean over the classes' own values, which tables show, too.
        is_share: whether a value in [0, 1] is about a share of the images, with the standard error of one.
        needs_probabilities: whether the predicted classes aren't enough.
    """

    name: str
    title: str
    higher_is_better: bool
    task: str = "classification"
    min_classes: int = 1
    max_classes: float = math.inf
    logged: Callable[[int], Any] | None = None
    trained: Callable[[int], Any] | None = None
    group: str = ""
    evaluated: Callable[[Any], float | None] | None = None
    interval: Callable[[Any], tuple[float, float]] | None = None
    note: Callable[[Any], str] | None = None
    is_per_class: bool = False
    is_share: bool = True
    needs_probabilities: bool = False


REGISTRY: dict[tuple[str, str], Metric] = {}
"""By task and name, in the order in which they are logged and shown."""


def register(metric: Metric) -> None:
    """Adds a metric; raises ValueError if its name is taken."""
    key = metric.task, metric.name
    if key in REGISTRY:
        raise ConfigError("metric", f"{metric.name!r} is registered already")
    REGISTRY[key] = metric


def metrics_of(task: str | None, num_classes: int | None = None) -> list[Metric]:
    """Returns the metrics of a task, or of all, that are defined for a number of classes; None: for any number."""
    found = [metric for metric in REGISTRY.values() if task in (None, metric.task)]
    return [each for each in found if num_classes is None or each.min_classes <= num_classes <= each.max_classes]


def logged_names(task: str | None, num_classes: int | None = None) -> list[str]:
    """Returns the names logged for a split once an epoch, the loss first."""
    found = [metric.name for metric in metrics_of(task, num_classes) if metric.logged or metric.name == "loss"]
    return list(dict.fromkeys(found))


def per_class_metrics(task: str, *, with_probabilities: bool) -> list[Metric]:
    """Returns the metrics that each class has a value of; without probabilities, those that classes alone give."""
    found = [metric for metric in metrics_of(task) if metric.is_per_class]
    return [metric for metric in found if with_probabilities or not metric.needs_probabilities]


def find(key: str, task: str | None = None) -> Metric | None:
    """Returns the metric of a name such as `val/acc`, of a task or of the first that has one; None if there is none."""
    name = key.rpartition("/")[2]
    return next((metric for metric in metrics_of(task) if metric.name == name), None)


def higher_is_better(key: str) -> bool:
    """Returns whether a larger value of a metric such as `val/acc` is better, in every task that has it."""
    metric = find(key)
    assert metric is not None, f"{key} isn't registered"
    return metric.higher_is_better


def known(keys: Sequence[str]) -> list[str]:
    """Returns those keys, such as `val/acc`, that belong to a registered metric."""
    return [key for key in keys if find(key) is not None]
