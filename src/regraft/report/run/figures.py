"""The part of a run's report on several labels or numbers: their figures, and predicted against true values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from regraft.report.axes import Axis, numeric_axis
from regraft.runs.outputs import Outputs
from regraft.tasks import TASKS, Task
from regraft.tasks.metrics import find, per_class_metrics
from regraft.tasks.scores import Scores

_MAX_POINTS = 1000
_MAX_PLOTS = 6
_MAX_ROWS = 500
_SPLITS = {"test": "test", "val": "validation"}


@dataclass(frozen=True)
class Plot:
    """Predicted against true values of a target, and what is left: points of (true, predicted, residual), in [0, 1].

    Attributes:
        diagonal: where a perfect prediction lies at both ends of the true values.
    """

    name: str
    points: Sequence[tuple[float, float, float]]
    true: Axis
    predicted: Axis
    residual: Axis
    diagonal: tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Figures:
    """What a report says of a run's outputs."""

    found: Outputs
    names: Sequence[str]
    unit: str

    @property
    def task(self) -> Task:
        """The run's task."""
        return TASKS[self.found.task]

    @cached_property
    def scores(self) -> Scores:
        """The figures of the split."""
        return self.task.scores(self.found.outputs, self.found.targets, self.names)

    def sentence(self, nouns: str) -> str:
        """Returns the result in a sentence; `nouns` are what inputs are called."""
        split, num = _SPLITS.get(self.found.split, self.found.split), len(self.found.indices)
        noun = self.task.noun if len(self.names) == 1 else self.task.nouns
        values = [self._value(name) for name in (self.task.headline, self.task.train_metric)]
        told = ", ".join(filter(None, values))
        return f"On {num:,} {split} {nouns}, of {len(self.names):,} {noun}: {told}."

    def _value(self, name: str) -> str:
        metric, metrics = find(name, self.task.name), self.scores.metrics
        if metric is None or name not in metrics:
            return ""
        unit = f" {self.unit}" if self.unit and name in ("mae", "rmse") and len(self.names) == 1 else ""
        low, high = (metrics.get(f"{name}_{end}") for end in ("low", "high"))
        interval = "" if low is None else f" (95 % interval {figure_text(low)} to {figure_text(high)})"
        title = metric.title[0].lower() + metric.title[1:] if metric.title[1:2].islower() else metric.title
        return f"{title} {figure_text(metrics[name])}{unit}{interval}"

    def headings(self, nouns: str) -> list[str]:
        """Returns those of the table of labels or targets; `nouns` are what inputs are called."""
        titles = [each.title for each in per_class_metrics(self.task.name, with_probabilities=True)]
        return [self.task.noun, nouns, *titles]

    @property
    def rows(self) -> list[tuple[str, int, list[float | None]]]:
        """Name, number of images and figures of each label or target."""
        metrics = per_class_metrics(self.task.name, with_probabilities=True)
        return [
            (row.name, row.num_images, [getattr(row, each.name) for each in metrics])
            for row in self.scores.per_class[:_MAX_ROWS]
        ]

    @property
    def plots(self) -> list[Plot]:
        """Of the first targets; none of labels."""
        if self.task.has_confidences:
            return []
        step = -(-len(self.found.indices) // _MAX_POINTS)
        pairs = self.found.targets[::step].astype(float), self.found.outputs[::step].astype(float)
        return [
            _plot(name, pairs[0][:, index], pairs[1][:, index], self.unit)
            for index, name in enumerate(self.names[:_MAX_PLOTS])
        ]


def figure_text(value: float | None) -> str:
    """Returns a figure with four decimals, or with four digits where those say too little or much; a dash for None."""
    if value is None:
        return "-"
    is_share = not value or 0.001 <= abs(value) <= 1
    return f"{value:.4f}" if is_share else f"{value:#.4g}".removesuffix(".")


def figures_of(found: Outputs | None, names: Sequence[str], results: Mapping[str, Any]) -> Figures | None:
    """Returns the figures of a run's outputs; None if there are none, or they don't fit its names."""
    if found is None or found.outputs.shape[1] != len(names):
        return None
    task = results.get("task")
    return Figures(found, names, str(task.get("unit", "")) if isinstance(task, Mapping) else "")


def _plot(name: str, true: np.ndarray, value: np.ndarray, unit: str) -> Plot:
    ending = f", {unit}" if unit else ""
    residual = value - true
    x = numeric_axis(f"true {name}{ending}", true.tolist(), is_linear=True)
    y = numeric_axis(f"predicted {name}{ending}", [*value.tolist(), *true.tolist()], is_linear=True)
    z = numeric_axis(f"predicted minus true{ending}", [*residual.tolist(), 0.0], is_linear=True)
    points = [
        (x.position(a), y.position(b), z.position(c))
        for a, b, c in zip(true.tolist(), value.tolist(), residual.tolist(), strict=True)
    ]
    low, high = float(true.min()), float(true.max())
    ends = x.position(low), y.position(low), x.position(high), y.position(high)
    return Plot(name, points, x, y, z, ends)
