"""Domain shift: a classifier's accuracy in a target domain against that in the source domain, over the same classes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from regraft.core.errors import ConfigError
from regraft.tasks.class_scores import ClassScores, class_scores
from regraft.tasks.reliability import wilson


class Accuracy(NamedTuple):
    """The fraction of images that are classified correctly, with the ends of its 95 % interval (Wilson, 1927)."""

    value: float
    low: float
    high: float
    num_images: int


class ClassShift(NamedTuple):
    """One class in both domains; a recall is None if the domain has no image of the class."""

    name: str
    source_recall: float | None
    target_recall: float | None
    num_target_images: int

    @property
    def drop(self) -> float | None:
        """Source recall minus target recall."""
        if self.source_recall is None or self.target_recall is None:
            return None
        return self.source_recall - self.target_recall


@dataclass(frozen=True)
class DomainShift:
    """A classifier in two domains, over the classes of the target domain.

    Attributes:
        drop: source minus target accuracy, with the ends of its 95 % interval (Newcombe, 1998, method 10).
        per_class: by class index.
        lacking: classes without an image in the target domain.
    """

    source: Accuracy
    target: Accuracy
    drop: float
    drop_low: float
    drop_high: float
    per_class: list[ClassShift]
    lacking: list[str]


def domain_shift(
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
        ValueError: the source domain has no image of any class of the target domain.
    """
    is_shared = np.isin(targets, np.unique(target_targets))
    if not is_shared.any():
        raise ConfigError("shift", "the folder has no class in common with the run's own images")
    source = _accuracy(predicted[is_shared] == targets[is_shared])
    target = _accuracy(target_predicted == target_targets)
    drop = source.value - target.value
    per_class = [
        ClassShift(before.name, _recall(before), _recall(after), after.num_images)
        for before, after in zip(
            class_scores(targets, predicted, class_names),
            class_scores(target_targets, target_predicted, class_names),
            strict=True,
        )
    ]
    return DomainShift(
        source=source,
        target=target,
        drop=drop,
        drop_low=drop - math.hypot(source.value - source.low, target.high - target.value),
        drop_high=drop + math.hypot(source.high - source.value, target.value - target.low),
        per_class=per_class,
        lacking=[row.name for row in per_class if not row.num_target_images],
    )


def _accuracy(is_right: np.ndarray) -> Accuracy:
    return Accuracy(float(is_right.mean()), *wilson(int(is_right.sum()), len(is_right)), len(is_right))


def _recall(scores: ClassScores) -> float | None:
    return scores.recall if scores.num_images else None
