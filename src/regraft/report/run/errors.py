"""The mistakes in a run's predictions: scores of each class, the confusion matrix and the most confident mistakes."""

from dataclasses import dataclass

import numpy as np

from regraft.runs.predictions import Predictions
from regraft.tasks.class_scores import ClassScores, class_scores, confusion_counts
from regraft.tasks.metrics import Metric, per_class_metrics
from regraft.tasks.reliability import Bins, reliability, wilson

MAX_MATRIX_CLASSES = 100
"""Beyond it the matrix shows the classes with the most mistakes only."""
_MAX_SHOWN_OF_MANY = 60
_MAX_PAIRS = 30
MAX_MISTAKES = 24
LEAST_CONFIDENCE = 0.5
"""Of a mistake that counts as a confident one."""


@dataclass(frozen=True)
class Cell:
    """A cell of the confusion matrix: indices among the shown classes, and the images' share of the true class."""

    row: int
    column: int
    num_images: int
    share: float


@dataclass(frozen=True, eq=False)
class Errors:
    """A split's predictions, by class.

    Attributes:
        interval: the 95 % interval of the accuracy.
        chance: (class index, share) of the most common class among the images.
        shown: class indices in the confusion matrix, in order.
        cells: the cells of the matrix that aren't empty.
        pairs: (true class, predicted class, number of images), the most frequent mistakes first.
        mistakes: indices of the confident mistakes in the predictions, the most confident first; without any, of those
            of which the model was surest.
        is_confident: whether those are confident mistakes.
    """

    num_images: int
    num_right: int
    interval: tuple[float, float]
    chance: tuple[int, float]
    classes: list[ClassScores]
    shown: list[int]
    cells: list[Cell]
    pairs: list[tuple[int, int, int]]
    bins: Bins
    mistakes: list[int]
    is_confident: bool

    @property
    def accuracy(self) -> float:
        """In [0, 1]."""
        return self.num_right / self.num_images

    @property
    def shares(self) -> np.ndarray:
        """The confusion matrix of the shown classes, (num_shown, num_shown), float64: shares of each row's images."""
        matrix = np.zeros((len(self.shown), len(self.shown)))
        for cell in self.cells:
            matrix[cell.row, cell.column] = cell.share
        return matrix


def errors_of(predictions: Predictions, class_names: tuple[str, ...]) -> Errors:
    """Returns the mistakes in at least one prediction."""
    targets, predicted = predictions.targets, predictions.predicted
    num_classes, is_right = len(class_names), targets == predicted
    rows, columns, values = confusion_counts(targets, predicted, num_classes)
    num_images = np.bincount(targets, minlength=num_classes)
    is_wrong = rows != columns
    order = np.argsort(-values[is_wrong], kind="stable")[:_MAX_PAIRS]
    pairs = zip(rows[is_wrong][order], columns[is_wrong][order], values[is_wrong][order], strict=True)
    shown = _shown(rows[is_wrong], columns[is_wrong], values[is_wrong], num_classes)
    positions = {index: position for position, index in enumerate(shown)}
    cells = [
        Cell(positions[row], positions[column], int(value), float(value / num_images[row]))
        for row, column, value in zip(rows.tolist(), columns.tolist(), values.tolist(), strict=True)
        if row in positions and column in positions
    ]
    confident = ~is_right & (predictions.confidences >= LEAST_CONFIDENCE)
    wrong = np.flatnonzero(confident if confident.any() else ~is_right)
    most_common = int(num_images.argmax())
    return Errors(
        num_images=len(targets),
        num_right=int(is_right.sum()),
        interval=wilson(int(is_right.sum()), len(targets)),
        chance=(most_common, float(num_images[most_common] / len(targets))),
        classes=class_scores(targets, predicted, class_names),
        shown=shown,
        cells=cells,
        pairs=[(int(row), int(column), int(value)) for row, column, value in pairs],
        bins=reliability(predictions.confidences, is_right),
        mistakes=wrong[np.argsort(-predictions.confidences[wrong], kind="stable")][:MAX_MISTAKES].tolist(),
        is_confident=bool(confident.any()),
    )


def _shown(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, num_classes: int) -> list[int]:
    """Returns the classes in the matrix: all, or those with the most mistakes, as true or as predicted class."""
    if num_classes <= MAX_MATRIX_CLASSES:
        return list(range(num_classes))
    weights = values.astype(float)
    mistakes = np.bincount(rows, weights, num_classes) + np.bincount(columns, weights, num_classes)
    return np.sort(np.argsort(-mistakes, kind="stable")[:_MAX_SHOWN_OF_MANY]).tolist()


def class_metrics() -> list[Metric]:
    """Returns the metrics that a report shows for each class, which need no probabilities."""
    return per_class_metrics("classification", with_probabilities=False)


def class_values(row: ClassScores) -> list[float | None]:
    """Returns a class's values of `class_metrics`; None for those that its number of images leaves undefined."""
    return [getattr(row, each.name) if row.is_defined(each.name) else None for each in class_metrics()]
