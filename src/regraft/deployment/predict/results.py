"""The prediction of an input, and a summary of many."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from regraft.core.table import Table


class ClassProbability(NamedTuple):
    """A class and its probability."""

    class_name: str
    probability: float


@dataclass(frozen=True, eq=False)
class Prediction:
    """The prediction of an input, or the error that prevented it.

    Attributes:
        name: an image's path as given or found, None for one in memory; or the text.
        top: the most probable classes, in descending order; of two with a fitted threshold the predicted one first;
            empty if there is an error.
        probabilities: (num_classes,), float32, by class index; None if there is an error.
        outputs: the probability of each label, or the value of each target, by name; None where inputs have one class
            each, or if there is an error.
        labels: those whose probability is above their threshold, the most probable one first; None where there are no
            labels, or if there is an error.
    """

    name: str | None
    top: tuple[ClassProbability, ...] = ()
    probabilities: np.ndarray | None = None
    error: str | None = None
    outputs: dict[str, float] | None = None
    labels: tuple[str, ...] | None = None

    @property
    def class_name(self) -> str | None:
        """The predicted class, the most probable one unless a threshold was fitted; None if there is an error."""
        return self.top[0].class_name if self.top else None

    @property
    def probability(self) -> float | None:
        """The probability of `class_name`; None if there is an error."""
        return self.top[0].probability if self.top else None

    @property
    def text_of_name(self) -> str:
        r"""The name as written into files, with bytes that aren't UTF-8 as \xNN; empty for an image in memory."""
        return (self.name or "").encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class Predicted(list[Prediction]):
    """Predictions of several inputs, in their order.

    Args:
        column: what the names of inputs are called in `table`.
    """

    def __init__(self, predictions: Iterable[Prediction] = (), column: str = "name") -> None:
        super().__init__(predictions)
        self._column = column

    def table(self) -> Table:
        """Returns a row for each input: its name, the most probable class and its probability, or the error.

        Of several labels or numbers there is a column for each, and one of the predicted labels; that of a label which
        is called like another column ends in an underscore.
        """
        names: dict[str, list[Any]] = {self._column: [each.name for each in self]}
        outputs = next((each.outputs for each in self if each.outputs is not None), None)
        if outputs is None:
            columns = ("class_name", "probability", "error")
            return Table(names | {column: [getattr(each, column) for each in self] for column in columns})
        found = names
        if any(each.labels is not None for each in self):
            found["labels"] = [each.labels for each in self]
        for name in outputs:
            column = f"{name}_" if name in (self._column, "labels", "error") else name
            found[column] = [(each.outputs or {}).get(name) for each in self]
        return Table(found | {"error": [each.error for each in self]})

    def to_frame(self) -> Any:
        """Returns `table()` as a `pandas.DataFrame`; ModuleNotFoundError if pandas isn't installed."""
        return self.table().to_frame()

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def to_predictions(
    names: Sequence[str | None],
    probabilities: np.ndarray,
    class_names: Sequence[str],
    top_k: int,
    thresholds: np.ndarray | None = None,
) -> list[Prediction]:
    """Returns predictions of classes; those of a diverged model become errors.

    Args:
        probabilities: (num_images, num_classes).
        thresholds: (2,), above which each of two classes is predicted; None for the most probable class.
    """
    finite = np.isfinite(probabilities).all(1)
    margins = probabilities if thresholds is None else probabilities - thresholds
    order = (-margins).argsort(1, kind="stable")[:, :top_k]
    return [
        Prediction(name, tuple(ClassProbability(class_names[index], float(row[index])) for index in best), row)
        if is_finite
        else Prediction(name, error="the model's probabilities are NaN or infinite")
        for name, row, best, is_finite in zip(names, probabilities, order.tolist(), finite, strict=True)
    ]


def to_outputs(
    names: Sequence[str | None], outputs: np.ndarray, output_names: Sequence[str], limits: np.ndarray | None
) -> list[Prediction]:
    """Returns predictions of labels or numbers; those of a diverged model become errors.

    Args:
        outputs: (num_images, num_outputs).
        limits: (num_outputs,), probabilities above which labels are predicted; None for numbers.
    """
    found = []
    for name, row in zip(names, outputs, strict=True):
        if not np.isfinite(row).all():
            found.append(Prediction(name, error="the model's outputs are NaN or infinite"))
            continue
        labels = None
        if limits is not None:
            order = (-row).argsort(kind="stable").tolist()
            labels = tuple(output_names[index] for index in order if row[index] > limits[index])
        by_name = dict(zip(output_names, row.tolist(), strict=True))
        found.append(Prediction(name, probabilities=row, outputs=by_name, labels=labels))
    return found


NUM_FIRST = 20
NUM_BAD = 5


@dataclass
class PredictionSummary:
    """Counts predictions, in constant memory.

    Attributes:
        num_bad: number of predictions with an error.
        counts: number of images of each predicted class.
        confidences: sum of their probabilities, by class.
        first: the first predictions without an error.
        bad: the first predictions with an error.
    """

    num: int = 0
    num_bad: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    confidences: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    first: list[Prediction] = field(default_factory=list)
    bad: list[Prediction] = field(default_factory=list)

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Adds predictions to the counts."""
        for prediction in predictions:
            self.num += 1
            self.num_bad += prediction.error is not None
            kept, limit = (self.first, NUM_FIRST) if prediction.error is None else (self.bad, NUM_BAD)
            if len(kept) < limit:
                kept.append(prediction)
            counted = {guess.class_name: guess.probability for guess in prediction.top[:1]}
            if prediction.labels is not None and prediction.outputs is not None:
                counted = {label: prediction.outputs[label] for label in prediction.labels}
            for name, probability in counted.items():
                self.counts[name] += 1
                self.confidences[name] += probability
