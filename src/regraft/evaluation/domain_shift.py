"""Domain shift: a model's headline metric in a target domain against that in the source domain, over what both have."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from regraft.core.errors import ConfigError
from regraft.tasks import Task
from regraft.tasks.class_scores import ClassScores, class_scores
from regraft.tasks.reliability import wilson


class Figure(NamedTuple):
    """The headline metric in a domain, with the ends of its 95 % interval."""

    value: float
    low: float
    high: float
    num_images: int


class ClassShift(NamedTuple):
    """One class, label or target in both domains; a figure is None where it is undefined in the domain."""

    name: str
    source: float | None
    target: float | None
    num_target_images: int

    @property
    def drop(self) -> float | None:
        """Source figure minus target figure."""
        if self.source is None or self.target is None:
            return None
        return self.source - self.target


@dataclass(frozen=True)
class DomainShift:
    """A model in two domains, over the classes of the target domain, or the labels or targets that both have.

    Attributes:
        metric: of `source` and `target`: the task's headline metric.
        of_classes: the figure of each class, label or target: `recall`, `ap` or `r2`.
        drop: source minus target, with the ends of its 95 % interval (Newcombe, 1998, method 10).
        per_class: by index of the class, label or target.
        lacking: classes and labels without an image in the target domain, and targets that are constant.
    """

    metric: str
    of_classes: str
    source: Figure
    target: Figure
    drop: float
    drop_low: float
    drop_high: float
    per_class: list[ClassShift]
    lacking: list[str]


def shift_of_classes(
    predicted: np.ndarray,
    targets: np.ndarray,
    target_predicted: np.ndarray,
    target_targets: np.ndarray,
    class_names: Sequence[str],
) -> DomainShift:
    """Returns accuracies and recalls in both domains.

    Args:
        predicted: predicted classes in the source domain, (num_images,), int64.
        targets: true classes in the source domain, (num_images,), int64.
        target_predicted: predicted classes in the target domain, (num_target_images,), int64.
        target_targets: true classes in the target domain, (num_target_images,), int64; at least one.

    Raises:
        ConfigError: the source domain has no image of any class of the target domain.
    """
    is_shared = np.isin(targets, np.unique(target_targets))
    if not is_shared.any():
        raise ConfigError("shift", "it has no class in common with the run's own data")
    source = _accuracy(predicted[is_shared] == targets[is_shared])
    target = _accuracy(target_predicted == target_targets)
    per_class = [
        ClassShift(before.name, _recall(before), _recall(after), after.num_images)
        for before, after in zip(
            class_scores(targets, predicted, class_names),
            class_scores(target_targets, target_predicted, class_names),
            strict=True,
        )
    ]
    lacking = [row.name for row in per_class if not row.num_target_images]
    return _compared("acc", "recall", source, target, per_class, lacking)


def shift_of_outputs(
    task: Task,
    outputs: np.ndarray,
    targets: np.ndarray,
    target_outputs: np.ndarray,
    target_targets: np.ndarray,
    names: Sequence[str],
) -> DomainShift:
    """Returns the headline metric of labels or numbers in both domains, and the figure of each label or target.

    Args:
        outputs: probabilities or values in the source domain, (num_images, num_outputs), as `targets`.
        target_outputs: those in the target domain, (num_target_images, num_outputs), as `target_targets`.

    Raises:
        ConfigError: no label or target has a figure in both domains.
    """
    metric, each = task.headline, {"map": "ap"}.get(task.headline, task.headline)
    pairs = ((outputs, targets), (target_outputs, target_targets))
    found = [task.scores(*pair, names).per_class for pair in pairs]
    rows = [
        ClassShift(before.name, getattr(before, each), getattr(after, each), after.num_images)
        for before, after in zip(*found, strict=True)
    ]
    kept = [index for index, row in enumerate(rows) if row.drop is not None]
    if not kept:
        raise ConfigError("shift", f"it has no {task.noun} in common with the run's own data")
    kept_names = [names[index] for index in kept]

    def figure(values: np.ndarray, true: np.ndarray) -> Figure:
        metrics: dict[str, Any] = task.scores(values[:, kept], true[:, kept], kept_names).metrics
        return Figure(metrics[metric], metrics[f"{metric}_low"], metrics[f"{metric}_high"], len(true))

    source, target = (figure(*pair) for pair in pairs)
    return _compared(metric, each, source, target, rows, [row.name for row in rows if row.target is None])


def _compared(
    metric: str, of_classes: str, source: Figure, target: Figure, per_class: list[ClassShift], lacking: list[str]
) -> DomainShift:
    drop = source.value - target.value
    return DomainShift(
        metric=metric,
        of_classes=of_classes,
        source=source,
        target=target,
        drop=drop,
        drop_low=drop - math.hypot(source.value - source.low, target.high - target.value),
        drop_high=drop + math.hypot(source.high - source.value, target.value - target.low),
        per_class=per_class,
        lacking=lacking,
    )


def _accuracy(is_right: np.ndarray) -> Figure:
    return Figure(float(is_right.mean()), *wilson(int(is_right.sum()), len(is_right)), len(is_right))


def _recall(scores: ClassScores) -> float | None:
    return scores.recall if scores.num_images else None
