"""What another domain costs a classifier: its accuracy there beside that at home, over the same classes.

Pure functions of arrays; where predictions come from is not its business.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from regraft.tasks.reliability import wilson


class Accuracy(NamedTuple):
    """A share of images that are classified correctly, with the ends of its 95 % interval (Wilson, 1927)."""

    value: float
    low: float
    high: float
    num_images: int


class ClassShift(NamedTuple):
    """One class in both domains; a recall is None where the domain has no image of it."""

    name: str
    recall: float | None
    recall_there: float | None
    num_images_there: int

    @property
    def drop(self) -> float | None:
        """By how much the recall falls."""
        return None if self.recall is None or self.recall_there is None else self.recall - self.recall_there


@dataclass(frozen=True)
class Shift:
    """A classifier in two domains, over the classes that the other one has.

    Attributes:
        here: at home.
        there: in the other domain.
        drop: the first less the second, in [-1, 1].
        drop_low: the lower end of its 95 % interval (Newcombe, 1998, method 10).
        drop_high: the upper end.
        per_class: by class index.
        lacking: classes that the other domain has no image of.
    """

    here: Accuracy
    there: Accuracy
    drop: float
    drop_low: float
    drop_high: float
    per_class: list[ClassShift]
    lacking: list[str]


def shift(
    predicted: np.ndarray,
    targets: np.ndarray,
    predicted_there: np.ndarray,
    targets_there: np.ndarray,
    class_names: Sequence[str],
) -> Shift:
    """Returns what the other domain costs.

    Args:
        predicted: (num_images,), int64, classes at home.
        targets: (num_images,), int64, the true ones.
        predicted_there: (num_images_there,), int64, classes in the other domain.
        targets_there: (num_images_there,), int64, the true ones; at least one.
        class_names: by class index.

    Raises:
        ValueError: there is no image at home of any class that the other domain has.
    """
    is_shared = np.isin(targets, np.unique(targets_there))
    if not is_shared.any():
        raise ValueError("shift: the folder has none of the classes that the run's own images are of.")
    here = _accuracy(predicted[is_shared] == targets[is_shared])
    there = _accuracy(predicted_there == targets_there)
    drop = here.value - there.value
    per_class = [
        ClassShift(
            name,
            _recall(predicted, targets, index),
            _recall(predicted_there, targets_there, index),
            int((targets_there == index).sum()),
        )
        for index, name in enumerate(class_names)
    ]
    return Shift(
        here=here,
        there=there,
        drop=drop,
        drop_low=drop - math.hypot(here.value - here.low, there.high - there.value),
        drop_high=drop + math.hypot(here.high - here.value, there.value - there.low),
        per_class=per_class,
        lacking=[row.name for row in per_class if not row.num_images_there],
    )


def _accuracy(is_right: np.ndarray) -> Accuracy:
    return Accuracy(float(is_right.mean()), *wilson(int(is_right.sum()), len(is_right)), len(is_right))


def _recall(predicted: np.ndarray, targets: np.ndarray, index: int) -> float | None:
    is_of_it = targets == index
    return float((predicted[is_of_it] == index).mean()) if is_of_it.any() else None
