"""What is written of a prediction: the most probable classes, or a column for each label or target."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from regraft.deployment.network import TrainedNetwork
from regraft.deployment.predict.results import Prediction

_DIGITS = 7  # a float32 has no more


class Layout(Protocol):
    """Rows of a table, and objects of JSON."""

    @property
    def columns(self) -> dict[str, bool]:
        """The names of the columns, and whether each holds numbers."""

    def row(self, prediction: Prediction) -> list[Any]:
        """Returns the cells of a prediction."""

    def fields(self, prediction: Prediction) -> dict[str, Any]:
        """Returns the fields of a prediction."""


@dataclass(frozen=True)
class TopClasses:
    """The `top_k` most probable classes.

    Attributes:
        name: what the names of inputs are called.
    """

    top_k: int
    name: str = "path"

    @property
    def columns(self) -> dict[str, bool]:
        """Columns path or text, class, probability, class_2, probability_2, ..., error."""
        ends = ["", *(f"_{rank}" for rank in range(2, self.top_k + 1))]
        guesses = {f"{name}{end}": name == "probability" for end in ends for name in ("class", "probability")}
        return {self.name: False, **guesses, "error": False}

    def row(self, prediction: Prediction) -> list[Any]:
        """Returns the cells of a prediction."""
        cells: list[Any] = [cell for guess in prediction.top for cell in (guess.class_name, rounded(guess.probability))]
        return [prediction.text_of_name, *(cells or [None] * (2 * self.top_k)), prediction.error]

    def fields(self, prediction: Prediction) -> dict[str, Any]:
        """Returns the name, the most probable class, all of the top ones and the error."""
        top = [{"class": guess.class_name, "probability": rounded(guess.probability)} for guess in prediction.top]
        best = top[0] if top else {"class": None, "probability": None}
        return {self.name: prediction.text_of_name, **best, "top": top, "error": prediction.error}


@dataclass(frozen=True)
class AllOutputs:
    """The probability of each label with the predicted labels, or the value of each target.

    Attributes:
        names: of the labels or targets; a column that would be called like another one ends in an underscore.
        has_labels: whether they are labels.
        name: what the names of inputs are called.
    """

    names: Sequence[str]
    has_labels: bool
    name: str = "path"

    @property
    def columns(self) -> dict[str, bool]:
        """Columns path or text, labels if there are any, one for each label or target, error."""
        own = {f"{name}_" if name in (self.name, "labels", "error") else name: True for name in self.names}
        return {self.name: False, **({"labels": False} if self.has_labels else {}), **own, "error": False}

    def row(self, prediction: Prediction) -> list[Any]:
        """Returns the cells of a prediction; predicted labels are separated by |."""
        labels = None if prediction.labels is None else "|".join(prediction.labels)
        values: list[Any] = [None] * len(self.names)
        if prediction.outputs is not None:
            values = list(map(rounded, prediction.outputs.values()))
        return [prediction.text_of_name, *([labels] if self.has_labels else []), *values, prediction.error]

    def fields(self, prediction: Prediction) -> dict[str, Any]:
        """Returns the name, the predicted labels if there are any, all outputs by name and the error."""
        outputs = prediction.outputs
        labels = None if prediction.labels is None else list(prediction.labels)
        return {
            self.name: prediction.text_of_name,
            **({"labels": labels} if self.has_labels else {}),
            "outputs": None if outputs is None else {name: rounded(value) for name, value in outputs.items()},
            "error": prediction.error,
        }


def layout_of(model: TrainedNetwork, top_k: int) -> Layout:
    """Returns the layout of a model's predictions; `top_k` is for classes alone."""
    if model.task.has_classes:
        return TopClasses(min(top_k, len(model.class_names)), model.reader.column)
    return AllOutputs(model.class_names, has_labels=model.task.has_confidences, name=model.reader.column)


def rounded(number: float) -> float:
    """Returns a number with the digits that a float32 has."""
    return float(f"{number:.{_DIGITS}g}")
