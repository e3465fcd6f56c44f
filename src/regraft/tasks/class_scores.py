"""How good a classifier's probabilities are: the figures of a split and of each class, and which classes are confused.

Pure functions of arrays; no torch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from regraft.core.errors import listed
from regraft.tasks.reliability import Bins, reliability, wilson
from regraft.tasks.scores import Scores, computed, require_finite, share


class ClassScores(NamedTuple):
    """The figures of one class against all others.

    Attributes:
        precision: in [0, 1]; 0 where nothing was predicted to be of the class.
        recall: in [0, 1]; 0 where no image is of the class.
        f1: in [0, 1]; 0 where both are.
        auroc: area under the ROC curve; None where all images or none are of the class, or probabilities aren't known.
    """

    name: str
    num_images: int
    num_predicted: int
    precision: float
    recall: float
    f1: float
    auroc: float | None

    def is_defined(self, metric: str) -> bool:
        """Whether a metric is defined; without images or predictions its 0 is not a score."""
        counts = {"precision": self.num_predicted, "recall": self.num_images}
        return counts.get(metric, self.num_images + self.num_predicted) > 0


@dataclass(frozen=True, eq=False)
class Outputs:
    """A classifier's outputs for a split: what the metrics are computed from, each part once.

    Attributes:
        probabilities: (num_images, num_classes), rows that sum to 1.
        targets: (num_images,), int64, the true classes.
        positive: index of the positive class of two.
        thresholds: (2,), probabilities above which each of two classes is predicted, of sum 1; None for one half.
    """

    probabilities: np.ndarray
    targets: np.ndarray
    class_names: Sequence[str]
    positive: int = 1
    thresholds: np.ndarray | None = None

    @cached_property
    def predicted(self) -> np.ndarray:
        """(num_images,), int64, the most probable classes, or those above their thresholds."""
        return predicted_classes(self.probabilities, self.thresholds)

    @cached_property
    def is_right(self) -> np.ndarray:
        """(num_images,), bool."""
        return self.predicted == self.targets

    @cached_property
    def exact_probabilities(self) -> np.ndarray:
        """Rows that sum to 1 as exactly as scikit-learn requires, which takes double precision."""
        exact = self.probabilities.astype(np.float64)
        return exact / exact.sum(1, keepdims=True)

    @cached_property
    def bins(self) -> Bins:
        """The reliability diagram."""
        return reliability(self.probabilities[np.arange(len(self.targets)), self.predicted], self.is_right)

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """The ends of the accuracy's 95 % interval."""
        return wilson(int(self.is_right.sum()), len(self.targets))

    @cached_property
    def per_class(self) -> list[ClassScores]:
        """By class index."""
        from sklearn.metrics import roc_auc_score  # which takes half a second, and the report reads figures alone

        def area(index: int) -> float:
            return float(roc_auc_score(self.targets == index, self.probabilities[:, index]))

        return class_scores(self.targets, self.predicted, self.class_names, area)

    @property
    def with_images(self) -> list[ClassScores]:
        """The classes that have an image."""
        return [row for row in self.per_class if row.num_images]

    @property
    def seen(self) -> list[ClassScores]:
        """The classes that have an image or were predicted."""
        return [row for row in self.per_class if row.num_images or row.num_predicted]

    @property
    def with_area(self) -> list[ClassScores]:
        """The classes that have an area under the ROC curve."""
        return [row for row in self.per_class if row.auroc is not None]

    @staticmethod
    def mean_of(name: str, rows: Sequence[ClassScores]) -> float:
        """Returns the mean of a figure over some classes."""
        return float(np.mean([getattr(row, name) for row in rows]))

    @property
    def without_images_text(self) -> str:
        """Which classes have no image; empty if all have."""
        lacking = [row.name for row in self.per_class if not row.num_images]
        if not lacking:
            return ""
        return f"of the other classes; {len(lacking):,} of {len(self.per_class):,} have no sample: {listed(lacking)}."

    @property
    def positive_text(self) -> str:
        """Which of two classes is the positive one."""
        return f"of {self.class_names[self.positive]}; data.positive=CLASS makes another one the positive class."

    @property
    def area_text(self) -> str:
        """Why the areas under the ROC curves are undefined, or which classes have none."""
        if len(self.with_images) == 1:
            return "undefined: all samples are of one class, so there is none to tell it from."
        return self.without_images_text


def predicted_classes(probabilities: np.ndarray, thresholds: np.ndarray | None) -> np.ndarray:
    """Returns the most probable classes, (num_images,), int64, or of two those above their thresholds."""
    margins = probabilities if thresholds is None else probabilities - thresholds
    found: np.ndarray = margins.argmax(1)
    return found


def positive_index(class_names: Sequence[str], positive: str | None) -> int:
    """Returns the index of the positive class of two, by default of the second one."""
    return 1 if positive is None else list(class_names).index(positive)


def scores(
    probabilities: np.ndarray,
    targets: np.ndarray,
    class_names: Sequence[str],
    positive: str | None = None,
    thresholds: np.ndarray | None = None,
) -> Scores:
    """Returns the figures of a classifier on some images: every metric of the registry that is computed from outputs.

    A metric with a 95 % interval has its ends beside it, as `acc_low` and `acc_high`. The arguments are those of
    `Outputs`, of at least one image and two classes; a probability that isn't finite is a ValueError.
    """
    assert len(targets), "a split has samples"
    assert len(class_names) >= 2, "data with fewer than two classes is refused where it is read"
    require_finite(probabilities)
    outputs = Outputs(probabilities, targets, class_names, positive_index(class_names, positive), thresholds)
    metrics, undefined = computed("classification", outputs, len(class_names))
    confusion = np.zeros((len(class_names), len(class_names)), np.int64)
    rows, columns, counts = confusion_counts(targets, outputs.predicted, len(class_names))
    confusion[rows, columns] = counts
    return Scores(metrics, undefined, outputs.per_class, confusion, outputs.bins)


def confusion_counts(
    targets: np.ndarray, predicted: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns which classes were predicted to be which, and of how many images, from the class indices of all images.

    They are the rows, columns and values of the confusion matrix that aren't 0, in row order: for 10,000 classes the
    whole matrix would be 800 MB.
    """
    cells, counts = np.unique(targets * num_classes + predicted, return_counts=True)
    return cells // num_classes, cells % num_classes, counts


def class_scores(
    targets: np.ndarray, predicted: np.ndarray, class_names: Sequence[str], area: Callable[[int], float] | None = None
) -> list[ClassScores]:
    """Returns the figures of each class; `area` returns that under its ROC curve, if probabilities are known."""
    num_classes = len(class_names)
    num_images = np.bincount(targets, minlength=num_classes)
    num_predicted = np.bincount(predicted, minlength=num_classes)
    num_right = np.bincount(targets[targets == predicted], minlength=num_classes)
    precision, recall = share(num_right, num_predicted), share(num_right, num_images)
    f1 = share(2 * num_right, num_images + num_predicted)
    has_area = (num_images > 0) & (num_images < len(targets))
    return [
        ClassScores(
            name=name,
            num_images=int(num_images[index]),
            num_predicted=int(num_predicted[index]),
            precision=float(precision[index]),
            recall=float(recall[index]),
            f1=float(f1[index]),
            auroc=area(index) if area is not None and has_area[index] else None,
        )
        for index, name in enumerate(class_names)
    ]
